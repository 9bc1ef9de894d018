"""Progress, preview, Cancel and what is said at the end, for one task at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable

import qt

from ..net.errors import Cancelled, ServerError
from ..net.tasks import Progress, Steps, Task
from .panel import pixmap

PREVIEW_HEIGHT = 160


class Busy:
    """A row of widgets. While a task runs, `running` is true and nothing else can be started here."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._task: Task | None = None
        self.widget = qt.QWidget()
        self.bar = qt.QProgressBar()
        self.bar.setObjectName("progressBar")
        self.cancel_button = qt.QPushButton("Cancel")
        self.cancel_button.setObjectName("cancelButton")
        self.cancel_button.clicked.connect(self.cancel)
        self.status = qt.QLabel("")
        self.status.setObjectName("statusLabel")
        self.status.setWordWrap(True)
        self.preview = qt.QLabel("")
        layout = qt.QGridLayout(self.widget)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.status, 0, 0, 1, 2)
        layout.addWidget(self.bar, 1, 0)
        layout.addWidget(self.cancel_button, 1, 1)
        layout.addWidget(self.preview, 2, 0, 1, 2)
        self._show_running(False)

    @property
    def running(self) -> bool:
        return self._task is not None

    def start(self, start: Callable[..., Task], steps: Steps, title: str, on_done: Callable) -> bool:
        """Starts steps with `Logic.start`; says whether it could. `on_done` may give a closing sentence."""
        if self.running:
            steps.close()
            self.say("Something is still under way: wait for it or cancel it.")
            return False

        def done(value: object) -> None:
            self._finish("")
            try:
                self.say(str(on_done(value) or ""))
            except Exception as error:
                self.failed(error)
            self._on_change()

        def failed(error: Exception) -> None:
            self._finish("")
            self.failed(error)
            self._on_change()

        self.say(title)
        try:
            task = start(steps, done, failed, self._progress)
        except ServerError as error:
            self.failed(error)
            return False
        self._task = task
        self._show_running(True)
        self._on_change()
        return True

    def run(self, task: Task, pump_start: Callable[[Task], Task], title: str, on_done: Callable) -> bool:
        """Starts a task that was made without callbacks, as a connection's."""

        def start(steps: Steps, done: Callable, failed: Callable, progress: Callable) -> Task:
            task.report_to(done, failed, progress)
            return pump_start(task)

        return self.start(start, _no_steps(), title, on_done)

    def cancel(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()

    def say(self, sentence: str) -> None:
        self.status.setText(sentence)

    def failed(self, error: Exception) -> None:
        """One sentence for whatever went wrong; what is no sentence of ours is a fault, and says so."""
        if isinstance(error, Cancelled):
            self.say("Cancelled; nothing was changed.")
        elif isinstance(error, (ServerError, ValueError)) or type(error).__name__ == "SceneChanged":
            self.say(str(error))
        else:
            logging.getLogger("DiNODiffusion").error("unexpected failure", exc_info=error)
            self.say(f"This failed unexpectedly ({type(error).__name__}: {error}); nothing was changed.")

    def _progress(self, progress: Progress) -> None:
        if progress.message:
            self.say(progress.message)
        self.bar.setRange(0, 0 if progress.done is None else 100)
        if progress.done is not None:
            self.bar.setValue(round(100 * progress.done))
        if progress.preview:
            picture = pixmap(progress.preview)
            if not picture.isNull():
                self.preview.setPixmap(picture.scaledToHeight(PREVIEW_HEIGHT, qt.Qt.SmoothTransformation))
                self.preview.show()

    def _finish(self, sentence: str) -> None:
        self._task = None
        self.say(sentence)
        self._show_running(False)

    def _show_running(self, running: bool) -> None:
        self.bar.setRange(0, 0)
        for widget in (self.bar, self.cancel_button):
            widget.setVisible(running)
        if not running:
            self.preview.clear()
            self.preview.hide()


def _no_steps() -> Steps:
    return
    yield
