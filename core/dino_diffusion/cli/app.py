"""Entry point: the commands, and how errors and Ctrl-C end."""

from __future__ import annotations

import io
import sys
from importlib.metadata import entry_points
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from dino_diffusion import __version__
from dino_diffusion.cli import (
    concepts,
    evaluate,
    generate,
    info,
    inpaint,
    invert,
    learn,
    neighbours,
    regions,
    release,
    replay,
    samples,
    segment,
    stable_diffusion,
    strip,
    synthesize,
    train,
    twin,
)
from dino_diffusion.cli.console import complain, quiet_environment, sentence
from dino_diffusion.errors import DinoDiffusionError

FAILED, INTERRUPTED = 1, 130
"""Exit codes; a usage error is 2, as everywhere."""

ADDED_COMMANDS = "dino_diffusion.commands"
"""The entry-point group in which another package adds a command under the entry's name."""


class OneSentenceGroup(TyperGroup):
    """Ends a user's error and Ctrl-C with one sentence and an exit code instead of a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except DinoDiffusionError as error:
            complain(sentence(error))
            raise typer.Exit(FAILED) from error
        except RuntimeError as error:
            # torch's own class; importing torch here would slow down --help.
            if type(error).__name__ != "OutOfMemoryError":
                raise
            complain(
                "The GPU has too little free memory for this; close what else uses it, or add --device cpu."
            )
            raise typer.Exit(FAILED) from error
        except KeyboardInterrupt as error:
            complain("Stopped; every file written so far is whole, the one in work was not written.")
            raise typer.Exit(INTERRUPTED) from error


app = typer.Typer(
    cls=OneSentenceGroup,
    help="Label the lungs of chest radiographs and generate synthetic ones. "
    "Research software, not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(segment.segment)
app.command()(learn.learn)
app.command()(regions.regions)
app.command()(generate.generate)
app.command()(inpaint.inpaint)
app.command()(twin.twin)
app.command()(invert.invert)
app.command()(concepts.concepts)
app.command()(strip.strip)
app.add_typer(stable_diffusion.app, name="sd")
app.command()(replay.replay)
app.command()(neighbours.neighbours)
app.command()(synthesize.synthesize)
evaluate.app.command("bundle")(release.evaluate_bundle)
app.add_typer(evaluate.app, name="evaluate")
app.command()(train.train)
app.command()(info.info)
app.command()(samples.samples)
app.command()(release.assemble)
app.command()(release.replace_decoder)
app.command()(release.replace_readout)
app.command()(release.card)
app.command()(release.install_bundle)

for _entry in sorted(entry_points(group=ADDED_COMMANDS), key=lambda entry: entry.name):
    app.command(_entry.name)(_entry.load())


def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit()


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """The options that stand before a command's name."""


def main() -> None:
    """`dino-diffusion`."""
    quiet_environment()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that lacks a letter of a file's name must not end a batch.
        sys.stdout.reconfigure(errors="backslashreplace")
    app(prog_name="dino-diffusion")
