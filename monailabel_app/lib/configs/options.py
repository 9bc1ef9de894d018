"""Settings of a task: what `/info` shows of them, and reading them from a request.

The stock client builds its controls from what is shown: a list becomes a combo box, a bool a check box,
anything else a text field; it sends back what stands there, numbers as text too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from monailabel_app.lib.errors import RequestError

TRUE, FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
TAG = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True)
class Option:
    """`parse` makes a value of what was given, raising TypeError or ValueError; `wanted`: what it takes.

    `shown`: the value that `/info` shows; a function where it may change.
    """

    name: str
    default: Any
    parse: Callable[[Any], Any]
    wanted: str
    shown: Any = None

    def display(self) -> Any:
        """For `/info`."""
        if callable(self.shown):
            return self.shown()
        return self.default if self.shown is None else self.shown

    def read(self, request: Mapping[str, Any]) -> Any:
        """The value in a request, the default where there is none. Raises RequestError."""
        given = request.get(self.name)
        if given is None or (isinstance(given, str) and not given.strip()):
            return self.default
        try:
            return self.parse(given.strip() if isinstance(given, str) else given)
        except (TypeError, ValueError, OverflowError) as error:
            said = repr(given)
            said = said if len(said) <= 60 else f"{said[:60]}..."
            raise RequestError(f"{self.name}={said} is not possible: give {self.wanted}.") from error


def read(options: Iterable[Option], request: Mapping[str, Any]) -> dict[str, Any]:
    """All of them by name. Raises RequestError for the first that is impossible."""
    return {option.name: option.read(request) for option in options}


def display(options: Iterable[Option]) -> dict[str, Any]:
    """For `/info`."""
    return {option.name: option.display() for option in options}


def flag(name: str, default: bool = False) -> Option:
    """Yes or no."""

    def parse(given: Any) -> bool:
        text = str(given).casefold()
        if text not in (*TRUE, *FALSE):
            raise ValueError(text)
        return text in TRUE

    return Option(name, default, parse, "true or false")


def number(name: str, default: float | None, low: float, high: float) -> Option:
    """A number within closed bounds. `default` None: what is usual, shown as an empty text."""

    def parse(given: Any) -> float:
        value = math.nan if isinstance(given, bool) else float(given)
        if not low <= value <= high:
            raise ValueError(given)
        return value

    return Option(name, default, parse, f"a number from {low:g} to {high:g}", "" if default is None else None)


def whole(name: str, default: int, low: int, high: int) -> Option:
    """A whole number within closed bounds."""

    def parse(given: Any) -> int:
        value = math.nan if isinstance(given, bool) else float(given)
        if not (value.is_integer() and low <= value <= high):
            raise ValueError(given)
        return int(value)

    return Option(name, default, parse, f"a whole number from {low} to {high}")


def choice(name: str, choices: Sequence[str]) -> Option:
    """One of a few words, the first by default. The whole list, as `/info` shows it, counts as that."""

    def parse(given: Any) -> str:
        if isinstance(given, (list, tuple)) and list(given) == list(choices):
            return choices[0]
        word = given.value if isinstance(given, Enum) else given
        if word not in choices:
            raise ValueError(given)
        return str(word)

    return Option(name, choices[0], parse, f"one of {', '.join(choices)}", list(choices))


def suggested(name: str, suggestions: Callable[[], list[str]], default: str, wanted: str) -> Option:
    """A text with suggestions; the whole list, as `/info` shows it, counts as the default."""

    def parse(given: Any) -> str:
        if isinstance(given, (list, tuple)) and list(given) == suggestions():
            return default
        if not isinstance(given, str):
            raise TypeError(given)
        return given

    return Option(name, default, parse, wanted, suggestions)


def text(name: str, wanted: str, most: int = 200) -> Option:
    """Any text of one line."""

    def parse(given: Any) -> str:
        if not isinstance(given, str) or len(given) > most or not given.isprintable():
            raise ValueError(given)
        return given

    return Option(name, "", parse, wanted)


def tag(name: str) -> Option:
    """The tag of a label in the datastore."""

    def parse(given: Any) -> str:
        word = given.value if isinstance(given, Enum) else given
        if not isinstance(word, str) or not TAG.fullmatch(word):
            raise ValueError(given)
        return word

    return Option(name, "", parse, "a label's tag of letters, digits, '-' and '_'")


def names(name: str, wanted: str, most: int = 32) -> Option:
    """Names or numbers: a list, or a text with commas between them."""

    def parse(given: Any) -> tuple[str, ...]:
        parts = given.split(",") if isinstance(given, str) else list(given)
        if len(parts) > most or not all(type(part) in (str, int) for part in parts):
            raise ValueError(given)
        return tuple(stripped for part in parts if (stripped := str(part).strip()))

    return Option(name, (), parse, wanted, "")


def pixel(name: str) -> Option:
    """Column x and row y of the file's own pixels, counted from 0: `[x, y]` or a text `x, y`."""

    def parse(given: Any) -> tuple[int, int]:
        x, y = given.split(",") if isinstance(given, str) else given
        return int(x), int(y)

    return Option(name, None, parse, "[x, y], column and row of a pixel", "")
