"""One TOML file a run, read into typed settings; unknown names are refused, not ignored."""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from dino_diffusion.errors import ConfigurationError

Settings = TypeVar("Settings")

NAMES = {int: "a whole number", float: "a number", str: "a text in quotes", bool: "true or false"}


@dataclass(frozen=True)
class DataSettings:
    """`path`: folder, .csv or .tar shards; `splits` and `sources` filter them; `limit` thins them out.

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
    """How long, how fast, how often. `minutes` ends a run early and still decays the learning rate to 0.

    `compile` lets torch fuse the network's operations: a minute at the start, for faster steps on a GPU.
    """

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
    compile: bool = False

    def __post_init__(self) -> None:
        for name in ("batch", "checkpoint_every", "validate_every", "picture_every"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name} must be 1 or more, not {getattr(self, name)}.")
        if self.lr <= 0 or not 0 <= self.ema < 1:
            raise ConfigurationError(f"lr must be above 0 and ema in [0, 1), not {self.lr} and {self.ema}.")


@dataclass(frozen=True)
class AutoencoderSettings:
    """`residual_encoder` false keeps the encoder linear and trains the decoder alone: latents stay valid.
    `latent_noise`: standard deviations by which half of the latents are spoilt for the decoder.
    `perceptual`, `adversarial`: weights of these losses, 0 goes without; the latter is a share of how far all
    others move the decoder."""

    latent_channels: int = 8
    block_out_channels: tuple[int, ...] = (48, 96, 128)
    layers_per_block: int = 1
    residual_encoder: bool = True
    crop: int = 128
    latent_noise: float = 0.0
    linear_images: int = 400
    kl: float = 1e-6
    perceptual: float = 0.0
    adversarial: float = 0.0
    run: RunSettings = field(default_factory=RunSettings)
    data: DataSettings = field(default_factory=DataSettings)

    def __post_init__(self) -> None:
        if len(self.block_out_channels) != 3 or any(width % 16 for width in self.block_out_channels):
            raise ConfigurationError("block_out_channels must be three multiples of 16: the factor is 8.")
        if self.crop < 8 or self.crop % 8:
            raise ConfigurationError(f"crop must be a multiple of 8, not {self.crop}.")


@dataclass(frozen=True)
class EncoderSettings:
    """`backbone`: folder or hub name. `run.steps` 0 keeps its blocks as they are and only fits whitening.

    Above 0 it is trained by self-distillation: `head_width` prototypes, `local_crops` crops whose share of
    the picture is in `local_scale` beside two larger ones, `koleo` and `layer_decay` as in DINOv2, and the
    teacher's `momentum` at the start (1 at the end).
    """

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
    momentum: float = 0.994
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

    def __post_init__(self) -> None:
        if not self.sizes or not len(self.sizes) == len(self.size_shares) == len(self.batch_factors):
            raise ConfigurationError("sizes, size_shares and batch_factors must be lists of the same length.")
        if any(size < 8 or size % 8 for size in self.sizes) or sum(self.size_shares) <= 0:
            raise ConfigurationError("sizes must be multiples of 8, and size_shares must not all be 0.")


@dataclass(frozen=True)
class ReadoutSettings:
    """`encoder`, `autoencoder`, `denoiser`: part folders. `images` training radiographs, `copies` altered
    copies of each; `clusters` are the k of the clusterings, on `components` principal components of the
    features at flow time `close_time`. `times` are those that the head reads. `lung_area` is the
    share of a frontal picture that lungs take on average."""

    encoder: str = ""
    autoencoder: str = ""
    denoiser: str = ""
    size: int = 256
    images: int = 600
    copies: int = 2
    layers: tuple[str, ...] = ("up_blocks.0", "up_blocks.1", "up_blocks.2")
    times: tuple[float, ...] = (0.05, 0.15)
    hidden: int = 48
    clusters: tuple[int, ...] = (24, 32, 48, 64, 96)
    close_time: float = 0.1
    components: int = 64
    lung_area: float = 0.27
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
        known = ", ".join(
            sorted(str(p.relative_to(shipped).with_suffix("")) for p in shipped.rglob("*.toml"))
        )
        raise ConfigurationError(f"{name}: no such recipe; give a .toml file or one of: {known}.")
    return candidate


def load_settings(kind: type[Settings], path: Path, overrides: dict[str, Any] | None = None) -> Settings:
    """Settings of `kind` from a TOML file. `overrides` maps dotted names (`run.steps`) to values."""
    try:
        table = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(
            f"{path}: not a readable TOML file ({error}); compare a shipped recipe."
        ) from error
    for name, value in (overrides or {}).items():
        *sections, last = name.split(".")
        place = table
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise ConfigurationError(
                    f"{name}: {section!r} is a setting, not a section; see the recipe {path}."
                )
        place[last] = value
    return _build(kind, table, str(path))


def _build(kind: type[Settings], table: Any, where: str) -> Settings:
    if not isinstance(table, dict):
        raise ConfigurationError(f"{where} must be a section of settings, not {table!r}.")
    kinds = get_type_hints(kind)
    if unknown := sorted(set(table) - set(kinds)):
        raise ConfigurationError(
            f"{where}: unknown setting {unknown[0]!r}; known are {', '.join(sorted(kinds))}."
        )
    values = {}
    for name, value in table.items():
        if dataclasses.is_dataclass(kinds[name]):
            values[name] = _build(kinds[name], value, f"{where} [{name}]")
        else:
            values[name] = _fit(value, kinds[name], f"{where}: {name}")
    try:
        return kind(**values)
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: {error}") from error


def _fit(value: Any, kind: Any, where: str) -> Any:
    """Lists become tuples, whole numbers become floats where a float is meant; other mixtures are refused."""
    if isinstance(kind, UnionType):
        if value is None:
            return None
        return _fit(value, next(k for k in get_args(kind) if k is not NoneType), where)
    if get_origin(kind) is tuple:
        entries = get_args(kind)
        if not isinstance(value, list | tuple):
            raise ConfigurationError(f"{where} must be a list, not {value!r}.")
        if entries[-1] is not Ellipsis and len(value) != len(entries):
            raise ConfigurationError(f"{where} must be a list of {len(entries)}, not {value!r}.")
        return tuple(_fit(entry, entries[0], where) for entry in value)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ConfigurationError(f"{where} must be {NAMES[kind]}, not {value!r}.")
    return value
