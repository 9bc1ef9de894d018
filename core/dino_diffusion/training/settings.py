"""One TOML file a run, read into typed settings; unknown names are refused, not ignored."""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from dino_diffusion.errors import ConfigurationError

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class DataSettings:
    """`path`: folder, .csv or .tar shards; `splits` and `sources` filter a list; `limit` thins it out.

    `holdout` names the splits whose images measure validation loss. `most_of_a_source` caps one
    source's share of an epoch, `most_prepared` how many of its images get latents at all.
    """

    path: str = ""
    splits: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    holdout: tuple[str, ...] = ()
    limit: int | None = None
    most_of_a_source: int | None = None
    most_prepared: int | None = None


@dataclass(frozen=True)
class RunSettings:
    """How long, how fast, how often. `minutes` ends a run early and still decays the learning rate to 0."""

    folder: str = "runs/run"
    seed: int = 0
    steps: int = 1000
    minutes: float | None = None
    batch: int = 16
    lr: float = 4e-4
    warmup: int = 100
    weight_decay: float = 0.01
    gradient_clip: float = 1.0
    ema: float = 0.999
    checkpoint_every: int = 500
    validate_every: int = 500
    picture_every: int = 1000
    workers: int = 1


@dataclass(frozen=True)
class AutoencoderSettings:
    """`residual_encoder` false keeps the encoder linear and trains the decoder alone: latents stay valid."""

    latent_channels: int = 8
    block_out_channels: tuple[int, ...] = (48, 96, 128)
    layers_per_block: int = 1
    residual_encoder: bool = True
    crop: int = 128
    linear_images: int = 400
    kl: float = 1e-6
    perceptual: float = 0.0
    run: RunSettings = field(default_factory=RunSettings)
    data: DataSettings = field(default_factory=DataSettings)


@dataclass(frozen=True)
class EncoderSettings:
    """`backbone`: folder or hub name. `run.steps` 0 keeps its blocks as they are and only fits whitening."""

    backbone: str = ""
    layers: int | None = 8
    image_size: int = 168
    cls_width: int = 192
    patch_width: int = 64
    whitening_images: int = 1000
    layer_decay: float = 0.8
    koleo: float = 0.1
    local_crops: int = 4
    local_scale: tuple[float, float] = (0.25, 0.5)
    head_width: int = 1024
    run: RunSettings = field(default_factory=RunSettings)
    data: DataSettings = field(default_factory=DataSettings)


@dataclass(frozen=True)
class DenoiserSettings:
    """`sizes` and `size_shares`: picture sides in pixels, in the order trained, with their share of steps.

    `views`: cached pictures an image (the first is the whole image). `batch_factors` scales the batch at
    each size. `alignment` weighs the representation-alignment loss during `alignment_share` of the steps.
    """

    encoder: str = ""
    autoencoder: str = ""
    block_out_channels: tuple[int, ...] = (64, 128, 160)
    layers_per_block: int = 1
    token_width: int = 192
    token_grid: int = 4
    sizes: tuple[int, ...] = (128, 256)
    size_shares: tuple[float, ...] = (0.7, 0.3)
    batch_factors: tuple[float, ...] = (1.0, 0.5)
    views: int = 2
    time_shift: float = 1.5
    alignment: float = 0.5
    alignment_share: float = 0.6
    alignment_layer: str = "up_blocks.1"
    drop_all: float = 0.1
    drop_tokens: float = 0.3
    run: RunSettings = field(default_factory=RunSettings)
    data: DataSettings = field(default_factory=DataSettings)


def recipe_path(name: str) -> Path:
    """A TOML file by path, or one of the shipped recipes by its name, such as `cpu/denoiser`."""
    path = Path(name)
    if path.is_file():
        return path
    shipped = Path(str(resources.files("dino_diffusion") / "training" / "recipes"))
    candidate = shipped / path.with_suffix(".toml")
    if not candidate.is_file():
        known = ", ".join(sorted(str(p.relative_to(shipped).with_suffix("")) for p in shipped.rglob("*.toml")))
        raise ConfigurationError(f"{name}: no such recipe; give a .toml file or one of: {known}.")
    return candidate


def load_settings(kind: type[Settings], path: Path, overrides: dict[str, Any] | None = None) -> Settings:
    """Settings of `kind` from a TOML file. `overrides` maps dotted names (`run.steps`) to values."""
    try:
        table = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"{path}: not a readable TOML file ({error}); compare a shipped recipe.") from error
    for name, value in (overrides or {}).items():
        *sections, last = name.split(".")
        place = table
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    return _build(kind, table, str(path))


def _build(kind: type[Settings], table: dict[str, Any], where: str) -> Settings:
    known = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(set(table) - set(known)):
        raise ConfigurationError(f"{where}: unknown setting {unknown[0]!r}; known are {', '.join(sorted(known))}.")
    values = {}
    for name, value in table.items():
        default = known[name].default_factory() if callable(known[name].default_factory) else known[name].default
        if dataclasses.is_dataclass(default):
            values[name] = _build(type(default), value, f"{where} [{name}]")
        else:
            values[name] = _fit(value, default, f"{where}: {name}")
    return kind(**values)


def _fit(value: Any, default: Any, where: str) -> Any:
    """Lists become tuples, whole numbers become floats where a float is meant; other mixtures are refused."""
    if isinstance(default, tuple):
        if not isinstance(value, list | tuple):
            raise ConfigurationError(f"{where} must be a list, not {value!r}.")
        return tuple(value)
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if default is not None and type(value) is not type(default):
        raise ConfigurationError(f"{where} must be {type(default).__name__}, not {value!r}.")
    return value
