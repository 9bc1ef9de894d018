"""A bounded queue that is fair between clients: each has its own line, and the lines take turns."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class QueueFull(Exception):
    """No room, for anyone or for this client; the text is a sentence for the client."""


class FairQueue(Generic[Item]):
    """Whoever has waited longest for a turn comes next, however many jobs others have queued.

    Thread-safe. `limit` items wait in all, `client_limit` of one client.
    """

    def __init__(self, limit: int, client_limit: int) -> None:
        self._limit, self._client_limit = limit, client_limit
        self._lines: OrderedDict[str, deque[Item]] = OrderedDict()
        self._condition = threading.Condition()
        self._closed = False

    def put(self, client: str, item: Item) -> None:
        """Raises QueueFull."""
        with self._condition:
            if self._size() >= self._limit:
                raise QueueFull(
                    f"The server's queue is full ({self._limit} jobs wait); try again in a moment."
                )
            line = self._lines.get(client, ())
            if len(line) >= self._client_limit:
                raise QueueFull(
                    f"{self._client_limit} of your jobs wait already; wait for one or cancel one."
                )
            self._lines.setdefault(client, deque()).append(item)
            self._condition.notify()

    def get(self) -> Item | None:
        """The next item, as soon as there is one; None once the queue is closed."""
        with self._condition:
            self._condition.wait_for(lambda: self._closed or self._lines)
            if self._closed:
                return None
            client, line = next(iter(self._lines.items()))
            item = line.popleft()
            # Its client goes to the end of the round.
            del self._lines[client]
            if line:
                self._lines[client] = line
            return item

    def remove(self, item: Item) -> bool:
        """Takes a waiting item out; False where it no longer waits."""
        with self._condition:
            for client, line in self._lines.items():
                if item in line:
                    line.remove(item)
                    if not line:
                        del self._lines[client]
                    return True
            return False

    def order(self) -> list[Item]:
        """What comes next, and after it, if nobody adds anything."""
        with self._condition:
            lines = [list(line) for line in self._lines.values()]
        longest = max(map(len, lines), default=0)
        return [line[turn] for turn in range(longest) for line in lines if turn < len(line)]

    def close(self) -> None:
        """Nobody gets anything any more."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def __len__(self) -> int:
        with self._condition:
            return self._size()

    def _size(self) -> int:
        return sum(map(len, self._lines.values()))
