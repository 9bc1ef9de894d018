"""One call a part: `train_part("denoiser", "cpu/denoiser")` is what `dino-diffusion train` does.

Paths inside a recipe are relative to the current directory.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import Accelerator

from dino_diffusion.errors import ConfigurationError
from dino_diffusion.models.autoencoder import Autoencoder
from dino_diffusion.models.bundle import locate_bundle
from dino_diffusion.models.denoiser import Denoiser
from dino_diffusion.models.encoder import DinoEncoder
from dino_diffusion.models.readout import LungReadout
from dino_diffusion.models.storage import load_part
from dino_diffusion.training.autoencoder import AutoencoderPart
from dino_diffusion.training.checkpoint import describe, record
from dino_diffusion.training.denoiser import DenoiserPart
from dino_diffusion.training.distillation import DistillationPart
from dino_diffusion.training.encoder import fit_whitening, fresh_encoder, save_encoder, whitening_views
from dino_diffusion.training.loop import make_accelerator, train
from dino_diffusion.training.provenance import note_start
from dino_diffusion.training.settings import (
    AutoencoderSettings,
    DenoiserSettings,
    EncoderSettings,
    ReadoutSettings,
    load_settings,
    recipe_path,
)

log = logging.getLogger(__name__)

Model = TypeVar("Model", DinoEncoder, Autoencoder, Denoiser, LungReadout)

DEFAULT = "default"
"""`init` by this name is the bundle that travels with the package."""


def train_part(
    part: str,
    config: str,
    init: str | Path | None = None,
    overrides: dict[str, Any] | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Trains `part` by the TOML file or shipped recipe `config` and returns the last figures.

    An interrupted run goes on from its folder's checkpoint. `init` names the bundle whose weights to start
    from (a folder, a hub name, or `default`), with a fresh optimiser and warm-up. `overrides` maps dotted
    settings (`run.minutes`) to values.
    The trained part lies in `run.folder`/weights, also named in the result. Works in every process of
    `accelerate launch`. Raises ConfigurationError in one sentence for whatever is missing or does not fit.
    """
    if part not in TRAINERS:
        raise ConfigurationError(f"There is no part {part!r} to train; use one of {', '.join(TRAINERS)}.")
    kind, trainer = TRAINERS[part]
    settings: Any = load_settings(kind, recipe_path(config), overrides)
    bundle = None if init is None else locate_bundle(None if str(init) == DEFAULT else init)
    accelerator = make_accelerator()
    torch.manual_seed(settings.run.seed)
    # A head is new even with --init, which only lends it the other parts.
    if bundle is not None and part != "readout" and accelerator.is_main_process:
        note_start(Path(settings.run.folder), bundle, part)
    figures = trainer(settings, bundle, accelerator, quiet)
    return {**figures, "weights": str(Path(settings.run.folder) / "weights")}


def _train_encoder(
    settings: EncoderSettings, bundle: Path | None, accelerator: Accelerator, quiet: bool
) -> dict[str, Any]:
    if bundle is None:
        if not settings.backbone:
            raise ConfigurationError(
                "No backbone is named; set backbone to a folder or hub name, or give --init."
            )
        encoder = fresh_encoder(settings)
    else:
        encoder = load_part(DinoEncoder, bundle / "encoder")
        widths = (encoder.image_size, encoder.cls_width, encoder.patch_width)
        if widths != (settings.image_size, settings.cls_width, settings.patch_width):
            log.warning("the bundle's encoder keeps its image size %d and token widths %d and %d", *widths)
    if settings.run.steps:
        part = DistillationPart(settings, encoder)
        figures = train(part, settings.run, settings, quiet, accelerator)
        return figures | part.comparison
    folder = Path(settings.run.folder)
    if accelerator.is_main_process:
        describe(folder, settings, accelerator.device)
        fit_whitening(encoder, whitening_views(settings), accelerator.device)
        save_encoder(encoder, folder / "weights")
    accelerator.wait_for_everyone()
    return {"steps": 0}


def _train_autoencoder(
    settings: AutoencoderSettings, bundle: Path | None, accelerator: Accelerator, quiet: bool
) -> dict[str, Any]:
    initial = (
        None
        if bundle is None
        else fitted_autoencoder(settings, load_part(Autoencoder, bundle / "autoencoder"))
    )
    if initial is not None and settings.residual_encoder:
        log.warning("the latents will change: a denoiser of this bundle must be trained anew on them")
    return train(AutoencoderPart(settings, initial), settings.run, settings, quiet, accelerator)


def _train_denoiser(
    settings: DenoiserSettings, bundle: Path | None, accelerator: Accelerator, quiet: bool
) -> dict[str, Any]:
    encoder = load_part(DinoEncoder, _folder(settings.encoder, "encoder", bundle))
    autoencoder = load_part(Autoencoder, _folder(settings.autoencoder, "autoencoder", bundle))
    initial = load_part(Denoiser, bundle / "denoiser") if bundle else None
    if initial is not None:
        _check_fit(initial, encoder, autoencoder, settings)
    part = DenoiserPart(
        settings,
        encoder,
        autoencoder,
        accelerator.device,
        initial,
        accelerator.process_index,
        accelerator.num_processes,
        accelerator.wait_for_everyone,
        quiet,
    )
    return train(part, settings.run, settings, quiet, accelerator)


def _train_readout(
    settings: ReadoutSettings, bundle: Path | None, accelerator: Accelerator, quiet: bool
) -> dict[str, Any]:
    """In one process: its cost is features, not steps. `--init` lends the three parts, the head is new."""
    # Its clustering needs scipy, which a bare GPU machine lacks; the other parts train without.
    from dino_diffusion.training.readout import fit_readout

    folder, steps = Path(settings.run.folder), settings.run.steps
    if accelerator.is_main_process:
        began = time.monotonic()
        encoder = load_part(DinoEncoder, _folder(settings.encoder, "encoder", bundle))
        autoencoder = load_part(Autoencoder, _folder(settings.autoencoder, "autoencoder", bundle))
        denoiser = load_part(Denoiser, _folder(settings.denoiser, "denoiser", bundle))
        describe(folder, settings, accelerator.device)
        readout = fit_readout(settings, encoder, autoencoder, denoiser, accelerator.device, quiet)
        readout.save_pretrained(folder / "weights")
        record(folder, steps, time.monotonic() - began, {})
    accelerator.wait_for_everyone()
    return {"steps": steps}


def _folder(named: str, part: str, bundle: Path | None) -> Path:
    """The part's folder: as the recipe names it, else the bundle's."""
    if named:
        return Path(named)
    if bundle is None:
        raise ConfigurationError(f"No {part} is named; set {part} to its folder of weights, or give --init.")
    return bundle / part


def _check_fit(
    denoiser: Denoiser, encoder: DinoEncoder, autoencoder: Autoencoder, settings: DenoiserSettings
) -> None:
    """Raises ConfigurationError unless the three speak of the same tokens and latents."""
    config = denoiser.config
    wanted = (config.latent_channels, config.cls_width, config.patch_width)
    found = (autoencoder.config.latent_channels, encoder.cls_width, encoder.patch_width)
    if wanted != found:
        raise ConfigurationError(
            f"The bundle's denoiser wants latent channels, CLS and patch widths {wanted}, autoencoder and "
            f"encoder have {found}; use the parts it was trained with."
        )
    if config.token_grid != settings.token_grid:
        raise ConfigurationError(
            f"token_grid is {settings.token_grid}, the bundle's denoiser has {config.token_grid}; use that."
        )
    if tuple(config.block_out_channels) != settings.block_out_channels:
        log.warning("the bundle's denoiser keeps its widths %s", tuple(config.block_out_channels))


def fitted_autoencoder(settings: AutoencoderSettings, source: Autoencoder) -> Autoencoder:
    """An autoencoder of the recipe's shape with every weight of `source` that fits; says what did not."""
    if settings.latent_channels != source.config.latent_channels:
        raise ConfigurationError(
            f"latent_channels is {settings.latent_channels}, the bundle's autoencoder has "
            f"{source.config.latent_channels}; set it to that or train without --init."
        )
    module = Autoencoder(
        settings.latent_channels,
        settings.block_out_channels,
        settings.layers_per_block,
        settings.residual_encoder,
    )
    state, given = module.state_dict(), source.state_dict()
    fits = {
        name: value for name, value in given.items() if name in state and value.shape == state[name].shape
    }
    # Half a decoder is worse than a new one, which starts as nothing on top of the linear path.
    incomplete = {name.partition(".")[0] for name in state.keys() - fits.keys()}
    module.load_state_dict(
        {name: value for name, value in fits.items() if name.partition(".")[0] not in incomplete},
        strict=False,
    )
    if incomplete:
        log.warning(
            "these start fresh, as the bundle has none of their shape: %s", ", ".join(sorted(incomplete))
        )
    if dropped := {name.partition(".")[0] for name in given.keys() - state.keys()} - incomplete:
        log.warning("the recipe has no place for the bundle's %s", ", ".join(sorted(dropped)))
    return module


TRAINERS: dict[str, tuple[type, Any]] = {
    "encoder": (EncoderSettings, _train_encoder),
    "autoencoder": (AutoencoderSettings, _train_autoencoder),
    "denoiser": (DenoiserSettings, _train_denoiser),
    "readout": (ReadoutSettings, _train_readout),
}
