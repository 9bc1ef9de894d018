"""A timer that drives tasks from the application's own event loop."""

from __future__ import annotations

import time

import qt

from .tasks import Task

TICK_MS = 10
BUSY_SECONDS = 0.012
"""The longest one tick keeps the window waiting while an answer streams in."""


class Pump:
    """Advances its tasks at every tick; the timer runs only while there are any."""

    def __init__(self) -> None:
        self._tasks: list[Task] = []
        self._inside = False
        self._timer = qt.QTimer()
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(self.tick)

    @property
    def tasks(self) -> list[Task]:
        return list(self._tasks)

    def start(self, task: Task) -> Task:
        self._tasks.append(task)
        self._timer.start()
        return task

    def tick(self) -> None:
        if self._inside:
            # A callback opened a dialog, whose own event loop ticks too.
            return
        self._inside = True
        try:
            self._advance(time.monotonic() + BUSY_SECONDS)
        finally:
            self._inside = False
            self._tasks = [task for task in self._tasks if not task.finished]
            if not self._tasks:
                self._timer.stop()

    def _advance(self, until: float) -> None:
        while True:
            moved = any([task.step() for task in self._tasks])
            if time.monotonic() >= until:
                return
            if not moved:
                if not any(task.flowing for task in self._tasks):
                    return
                # More bytes are due any moment; sleeping yields the interpreter lock, too.
                time.sleep(0.001)

    def cancel_all(self) -> None:
        for task in self.tasks:
            task.cancel()

    def stop(self) -> None:
        """Drops everything at once, as when the application closes."""
        self.cancel_all()
        self._timer.stop()
        self._tasks = []
