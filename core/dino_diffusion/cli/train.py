"""`dino-diffusion train`: one part of a bundle, from one TOML file."""

from __future__ import annotations

import os
import tomllib
from typing import Annotated, Any

import typer

from dino_diffusion.cli import options
from dino_diffusion.cli.console import Output, hush_libraries
from dino_diffusion.errors import ConfigurationError


def train(
    part: Annotated[options.Part, typer.Argument(help="Which part of the bundle.")],
    config: Annotated[str, typer.Argument(help="A TOML file, or a shipped recipe such as smoke/denoiser.")],
    init: Annotated[
        str | None,
        typer.Option(
            "--init",
            "--bundle",
            metavar="BUNDLE",
            help="Bundle to continue from: a folder, a hub name, or default.",
            show_default="none",
        ),
    ] = None,
    set: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Override a setting, such as run.steps=500."),
    ] = None,
    device: options.Device = None,
    quiet: options.Quiet = False,
) -> None:
    """Train encoder, autoencoder, denoiser or readout; an interrupted run resumes where it was."""
    overrides = dict(parse_override(text) for text in set or [])
    hush_libraries()
    choose_training_device(device)
    from dino_diffusion.training.run import train_part

    figures = train_part(part.value, config, init, overrides, quiet)
    if os.environ.get("RANK", "0") == "0":
        Output(quiet).say(f"trained weights: {figures['weights']}")


def parse_override(text: str) -> tuple[str, Any]:
    """`name=value`, the value as TOML writes it; a bare word is a string. Raises ConfigurationError."""
    name, equals, value = text.partition("=")
    if not name.strip() or not equals:
        raise ConfigurationError(f"--set {text}: is no setting; write name=value, such as run.steps=500.")
    try:
        return name.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name.strip(), value.strip()


def choose_training_device(device: str | None) -> None:
    """Accelerate places the run by itself, on every GPU it is launched for; this narrows its choice."""
    if device is None:
        return
    from dino_diffusion.device import choose_device

    chosen = choose_device(device)
    if chosen.type == "cpu":
        os.environ["ACCELERATE_USE_CPU"] = "true"
    elif chosen.index is not None:
        import torch

        torch.cuda.set_device(chosen)
