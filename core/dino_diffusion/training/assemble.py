"""Trained parts become a bundle: the prior is fitted, the training images are indexed, and what was done is
noted beside the weights."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from dino_diffusion.errors import BundleError, ConfigurationError, DinoDiffusionError
from dino_diffusion.evaluation.install import FIGURES, read_figures
from dino_diffusion.models.autoencoder import Autoencoder
from dino_diffusion.models.bundle import ModelBundle, check_replaceable
from dino_diffusion.models.denoiser import Denoiser
from dino_diffusion.models.encoder import DinoEncoder, EncoderOutput
from dino_diffusion.models.prior import TokenPrior
from dino_diffusion.models.readout import LungReadout
from dino_diffusion.models.storage import load_part
from dino_diffusion.models.training_index import TrainingIndex
from dino_diffusion.segmentation.features import Encoded, denoiser_features
from dino_diffusion.training.latents import load_cache
from dino_diffusion.training.provenance import (
    PROVENANCE,
    corpus_of,
    provenance_of,
    settings_of,
    without_paths,
)
from dino_diffusion.training.settings import DenoiserSettings

COMPONENTS = 192
"""Principal components of the token prior. Of 6,528 numbers they explain 57 % of the variance. Drawing the
rest, too, number by number, brings samples no nearer to real ones (docs/training.md, Prior)."""

EIGHT_BITS = ("denoiser",)
"""Parts stored at eight bits: nothing measured tells them from half precision (`benchmarks/storage.py`), and
a bundle of 60 MB holds a denoiser twice as large for it."""


def assemble(
    folders: dict[str, Path], latents: Path, target: Path, components: int = COMPONENTS
) -> ModelBundle:
    """Writes the bundle of the parts in `folders` (encoder, autoencoder, denoiser, readout) to `target`.

    A folder is a run's or its `weights`. `latents`: the denoiser's cache, whose whole views the prior is
    fitted on and the index of training images is made of. Weights are stored in half precision, those of
    `EIGHT_BITS` at eight bits; an earlier bundle at `target` is replaced as a whole.
    Raises ConfigurationError and BundleError for parts that are missing or do not fit.
    """
    check_replaceable(target)
    weights = {name: weights_folder(folder) for name, folder in folders.items()}
    denoiser = load_part(Denoiser, weights["denoiser"])
    settings = settings_of(weights["denoiser"])
    tokens, items = whole_views(latents)
    prior = fit_prior(tokens, denoiser.config.token_grid, components)
    training_index, index_notes = index_training_images(prior, tokens, items, settings.get("data", {}))
    bundle = ModelBundle(
        load_part(DinoEncoder, weights["encoder"]),
        load_part(Autoencoder, weights["autoencoder"]),
        denoiser,
        prior,
        load_part(LungReadout, weights["readout"]),
        size=max(settings.get("sizes", DenoiserSettings.sizes)),
        time_shift=settings.get("time_shift", DenoiserSettings.time_shift),
        training_index=training_index,
    )
    _check_readout(bundle)
    notes = {
        "parts": {n: provenance_of(f) for n, f in weights.items()},
        "prior": {"components": bundle.prior.config.components},
        "training_index": index_notes,
    }
    return _write(bundle, notes, target)


def replace_decoder(base: Path, run: Path, target: Path) -> ModelBundle:
    """Writes the bundle `base` with the decoder of the autoencoder in `run` to `target`.

    Its latents stay, and so does everything that was learnt on them: denoiser, prior, head, concepts. Lungs
    are labelled without the decoder, so their figures are taken along. Raises BundleError where the run's
    autoencoder has other latents.
    """
    check_replaceable(target)
    bundle, weights = ModelBundle.from_pretrained(base), weights_folder(run)
    made = replace(bundle, autoencoder=load_part(Autoencoder, weights))
    if made.id_of("autoencoder", decoding=False) != bundle.id_of("autoencoder", decoding=False):
        raise BundleError(
            f"{run}: its latents are not those of {base}, so the denoiser there does not fit; train the "
            f"decoder with residual_encoder = false and --init {base}."
        )
    noted = base / PROVENANCE
    notes = json.loads(noted.read_text()) if noted.is_file() else {"parts": {}}
    notes["parts"]["autoencoder"] = provenance_of(weights)
    lungs = {name: value for name, value in read_figures(base).items() if name == "segmentation"}
    return _write(made, notes, target, lungs)


def _write(
    bundle: ModelBundle, notes: dict[str, Any], target: Path, figures: dict[str, Any] | None = None
) -> ModelBundle:
    """The bundle, its provenance and figures, as a whole or not at all; read again."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as temporary:
        draft = Path(temporary) / target.name
        bundle.save_pretrained(draft, eight_bits=EIGHT_BITS)
        forget_folders(draft)
        identity = {"bundle": ModelBundle.from_pretrained(draft).id}  # as stored: eight bits round
        (draft / PROVENANCE).write_text(json.dumps(notes | identity, indent=1) + "\n")
        if figures:
            (draft / FIGURES).write_text(json.dumps(figures | identity, indent=1) + "\n")
        if target.exists():
            target.rename(Path(temporary) / "before")
        shutil.move(draft, target)
    return ModelBundle.from_pretrained(target)


def forget_folders(bundle: Path) -> None:
    """diffusers and transformers note in a config where they read a model: a path of this machine."""
    for path in bundle.rglob("config.json"):
        config = json.loads(path.read_text())
        if config.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def weights_folder(folder: Path) -> Path:
    """A run's `weights`, or the folder itself."""
    return folder / "weights" if (folder / "weights").is_dir() else folder


def whole_view_tokens(latents: Path) -> EncoderOutput:
    """Tokens of the cache's uncropped views, in float32. Raises ConfigurationError if there are none."""
    return whole_views(latents)[0]


def whole_views(latents: Path) -> tuple[EncoderOutput, torch.Tensor]:
    """Tokens of the cache's uncropped views, in float32, and the number of each one's corpus item `(N,)`."""
    names: set[str] = set()
    for path in sorted(latents.glob("views-*.safetensors")):
        with safe_open(path, "pt") as shard:
            names |= set(shard.keys())
    sizes = sorted(int(name.removeprefix("frames_")) for name in names if name.startswith("frames_"))
    if not sizes:
        raise ConfigurationError(f"{latents}: no prepared views there; name the denoiser run's latents.")
    cache = load_cache(latents, tuple(sizes[:1]))
    boxes = cache.frames[sizes[0]][:, :4]
    whole = (boxes == torch.tensor([0.0, 0.0, 1.0, 1.0])).all(dim=1)
    return EncoderOutput(cache.cls[whole].float(), cache.patches[whole].float()), cache.items[whole]


def index_training_images(
    prior: TokenPrior, tokens: EncoderOutput, items: torch.Tensor, data: dict[str, Any]
) -> tuple[TrainingIndex | None, dict[str, Any]]:
    """The index of the images that `tokens` come from, in the prior's coordinates, and what to note of it.

    `items`: their places in the corpus that the run's `data` settings name. None, and the reason as a note,
    where the corpus is not here or does not tell patients apart.
    """
    try:
        corpus = corpus_of(data)
        patients = [corpus[item].patient for item in items.tolist()]
        index = TrainingIndex.of(prior.coordinates(tokens).numpy(), patients)
    except (ConfigurationError, OSError, IndexError) as error:
        return None, {"missing": without_paths(str(error))}
    known = [patient for patient in patients if patient]
    return index, {
        "images": len(index.codes),
        "dimensions": index.codes.shape[1],
        "reference_images": len(known),
        "reference_patients": len(set(known)),
    }


def fit_prior(tokens: EncoderOutput, grid: int, components: int = COMPONENTS) -> TokenPrior:
    """A prior for a denoiser with `grid` (0: CLS alone, where the patches' grid does not matter).

    Fewer components than asked for where there are few radiographs.
    """
    count = len(tokens.cls)
    if count < 4:
        raise ConfigurationError(f"{count} whole views are too few for the token prior; prepare more.")
    kept = min(components, count // 2)
    prior = TokenPrior(tokens.cls.shape[1], tokens.patches.shape[1], grid or 1, kept)
    prior.fit(tokens)
    return prior


def _check_readout(bundle: ModelBundle) -> None:
    """Raises BundleError unless the head fits the denoiser's features."""
    readout = bundle.readout.config
    try:
        with torch.inference_mode():
            encoded = Encoded.of(
                torch.zeros(1, 1, bundle.size, bundle.size), bundle.encoder, bundle.autoencoder
            )
            features = denoiser_features(
                bundle.denoiser, encoded, tuple(readout.layers), readout.times[0], torch.Generator()
            )
        width = features.shape[1]
    except (DinoDiffusionError, KeyError, ValueError) as error:
        raise BundleError(
            f"The denoiser has none of the layers that the readout reads ({error}); train the readout on it."
        ) from error
    if width != readout.width:
        raise BundleError(
            f"The readout wants {readout.width} features, the denoiser gives {width}; "
            "train the readout on this denoiser."
        )
