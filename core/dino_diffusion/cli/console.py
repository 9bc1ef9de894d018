"""What a command says, and where: results on stdout; progress and errors on stderr."""

from __future__ import annotations

import io
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)

from dino_diffusion.errors import DinoDiffusionError

Advance = Callable[[int], None]


def sentence(error: BaseException) -> str:
    """An error's message on one line: libraries' own messages, quoted in ours, may have several."""
    return " ".join(str(error).split())


def complain(text: str) -> None:
    """One line on stderr."""
    print(text, file=sys.stderr, flush=True)


class Output:
    """`quiet` leaves errors only; `as_json` leaves errors, progress and one document."""

    def __init__(self, quiet: bool, as_json: bool = False) -> None:
        self.quiet, self.as_json = quiet, as_json

    def say(self, *lines: str) -> None:
        """Result lines for a person, on stdout."""
        if not self.quiet and not self.as_json:
            print(*lines, sep="\n", flush=True)

    @contextmanager
    def progress(self, what: str, total: int | None = None) -> Iterator[Advance]:
        """A bar (a spinner where `total` is unknown); gives the function that advances it."""
        columns = [SpinnerColumn(), TextColumn("{task.description}")]
        if total is not None:
            columns += [BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()]
        console = Console(stderr=True)
        # In a log file a bar is noise: there, one line says what is being done.
        if not console.is_terminal and not self.quiet:
            complain(f"{what} ...")
        shown = console.is_terminal and not self.quiet
        with Progress(*columns, console=console, transient=True, disable=not shown) as bars:
            task = bars.add_task(what, total=total)
            yield lambda count: bars.update(task, advance=count)

    @contextmanager
    def document(self) -> Iterator[dict[str, Any]]:
        """The dictionary to fill; with `as_json` it is all that reaches stdout, whatever libraries print.

        A user's error becomes the document `{"error": ...}` and is passed on.
        """
        content: dict[str, Any] = {}
        if not self.as_json:
            yield content
            return
        try:
            with _stdout_to_stderr():
                yield content
        except DinoDiffusionError as error:
            content = {"error": sentence(error)}
            raise
        finally:
            if content:
                print(json.dumps(content, indent=1, allow_nan=False), flush=True)


@contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Python's stdout and, where it is a file descriptor, that of the C libraries too."""
    sys.stdout.flush()
    try:
        own, other = sys.stdout.fileno(), sys.stderr.fileno()
    except io.UnsupportedOperation:
        with redirect_stdout(sys.stderr):
            yield
        return
    kept = os.dup(own)
    os.dup2(other, own)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, own)
        os.close(kept)


def quiet_environment() -> None:
    """Call before anything imports torch: no warnings of libraries, no spinning threads.

    What matters to the user among the warnings, this package says itself.
    """
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    warnings.simplefilter("ignore")
    # On a busy machine idle threads that spin make a forward pass several times slower, erratically.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def hush_libraries() -> None:
    """Call before models are loaded: also no bars and load reports."""
    quiet_environment()
    from transformers.utils import logging

    logging.disable_progress_bar()
