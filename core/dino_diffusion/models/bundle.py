"""The model bundle: encoder, autoencoder, denoiser and what was fitted to them, in one folder.

Hugging Face conventions: a sub-folder a part with its config and safetensors, `model_index.json`, and a
model card (`README.md`). Read from a folder or by hub name through the same door; the default bundle
travels inside the package.
"""

from __future__ import annotations

import copy
import hashlib
import json
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dino_diffusion.errors import BundleError
from dino_diffusion.models.autoencoder import DECODING, FACTOR, Autoencoder
from dino_diffusion.models.denoiser import Denoiser
from dino_diffusion.models.encoder import DinoEncoder
from dino_diffusion.models.prior import TokenPrior
from dino_diffusion.models.readout import LungReadout
from dino_diffusion.models.storage import MAX_SHARD, load_part, save_int8
from dino_diffusion.models.training_index import TrainingIndex

INDEX, CARD = "model_index.json", "README.md"
PARTS = {
    "encoder": DinoEncoder,
    "autoencoder": Autoencoder,
    "denoiser": Denoiser,
    "prior": TokenPrior,
    "readout": LungReadout,
}


def default_bundle() -> Path:
    """Folder of the bundle that travels with the package."""
    return Path(str(resources.files("dino_diffusion") / "bundles" / "default"))


@dataclass
class ModelBundle:
    """All parts on one device, ready for inference. `size`: side of the model's picture in pixels.

    `time_shift`: shift of the time grid that the denoiser was trained for. `training_index`: what it was
    trained on, where the bundle says so; not part of `id`.
    """

    encoder: DinoEncoder
    autoencoder: Autoencoder
    denoiser: Denoiser
    prior: TokenPrior
    readout: LungReadout
    size: int = 256
    time_shift: float = 1.5
    folder: Path | None = None
    training_index: TrainingIndex | None = None

    def __post_init__(self) -> None:
        latent = self.autoencoder.config.latent_channels, self.denoiser.config.latent_channels
        widths = (self.encoder.cls_width, self.encoder.patch_width)
        wanted = (self.denoiser.config.cls_width, self.denoiser.config.patch_width)
        if latent[0] != latent[1] or widths != wanted:
            raise BundleError(
                f"The bundle's parts do not fit: autoencoder and denoiser have {latent[0]} and {latent[1]} "
                f"latent channels, encoder and denoiser tokens of width {widths} and {wanted}; "
                "use parts that were trained together."
            )
        for part in self.parts().values():
            part.eval().requires_grad_(False)

    def parts(self) -> dict[str, nn.Module]:
        """The parts by name."""
        return {name: getattr(self, name) for name in PARTS}

    @property
    def device(self) -> torch.device:
        """Where the parts are."""
        return next(self.denoiser.parameters()).device

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of one picture's latent."""
        side = self.size // FACTOR
        return self.denoiser.config.latent_channels, side, side

    @cached_property
    def id(self) -> str:
        """Sixteen hex digits that name these very weights: recipes refer to them."""
        return self.id_of(*PARTS)

    @cached_property
    def observing_id(self) -> str:
        """The same for what observes a radiograph: segments are learnt against these parts."""
        return self.id_of("encoder", "autoencoder", "denoiser", "readout", decoding=False)

    def id_of(self, *names: str, decoding: bool = True) -> str:
        """The same for some of the parts: what was learnt against them outlives a change of the others.

        Without `decoding` that of the autoencoder's decoder, too, on which no latent depends.
        """
        digest = hashlib.sha256()
        for part in (self.parts()[name] for name in names):
            for name, value in sorted(part.state_dict().items()):
                if not decoding and part is self.autoencoder and name.startswith(DECODING):
                    continue
                digest.update(name.encode())
                # Half precision, so that a bundle keeps its name when it is stored as such.
                digest.update(
                    value.detach()
                    .cpu()
                    .to(torch.float16 if value.is_floating_point() else value.dtype)
                    .contiguous()
                    .numpy()
                    .tobytes()
                )
        return digest.hexdigest()[:16]

    def to(self, device: torch.device | str) -> ModelBundle:
        """Moves every part; returns the bundle."""
        for part in self.parts().values():
            part.to(device)
        return self

    @classmethod
    def from_pretrained(
        cls, path_or_hub: str | Path | None = None, device: torch.device | str = "cpu"
    ) -> ModelBundle:
        """Bundle from a folder, a hub name, or (None) the default one. Raises BundleError."""
        folder = locate_bundle(path_or_hub)
        try:
            index = json.loads((folder / INDEX).read_text())
            settings = {name: index[name] for name in ("size", "time_shift")}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BundleError(
                f"{folder / INDEX}: is damaged or none of ours; copy the bundle again."
            ) from error
        parts: dict[str, Any] = {}
        for name, kind in PARTS.items():
            parts[name] = load_part(kind, folder / name)
        bundle = cls(**parts, **settings, folder=folder, training_index=TrainingIndex.load(folder))
        return bundle.to(device)

    def save_pretrained(
        self,
        folder: str | Path,
        card: str | None = None,
        dtype: torch.dtype = torch.float16,
        eight_bits: Collection[str] = (),
    ) -> None:
        """Writes the bundle, weights stored as `dtype` (float32, float16 or int8, see `storage`).

        The parts named in `eight_bits` are stored as int8 whatever the others are.

        An existing bundle is replaced as a whole. Raises BundleError for a folder that holds something else.
        """
        folder = Path(folder)
        check_replaceable(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
            draft = Path(temporary) / folder.name
            for name, part in self.parts().items():
                if dtype == torch.int8 or name in eight_bits:
                    save_int8(part, draft / name)
                else:
                    stored: Any = copy.deepcopy(part).to(dtype)
                    stored.save_pretrained(draft / name, max_shard_size=MAX_SHARD)
            index = {
                "_class_name": "ModelBundle",
                **{name: ["dino_diffusion", kind.__name__] for name, kind in PARTS.items()},
                "size": self.size,
                "time_shift": self.time_shift,
            }
            (draft / INDEX).write_text(json.dumps(index, indent=1) + "\n")
            if self.training_index is not None:
                self.training_index.save(draft)
            if card is not None:
                (draft / CARD).write_text(card)
            if folder.exists():
                folder.rename(Path(temporary) / "before")
            draft.rename(folder)

    def card(self) -> str:
        """Text of the model card, empty if the bundle has none."""
        path = self.folder / CARD if self.folder else None
        return path.read_text() if path and path.exists() else ""


def check_replaceable(folder: Path) -> None:
    """Raises BundleError unless `folder` is missing, empty or a bundle: the rest is not ours to delete."""
    if folder.exists() and not (folder / INDEX).exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BundleError(f"{folder}: holds something that is no bundle; name another folder.")


def locate_bundle(path_or_hub: str | Path | None) -> Path:
    """Folder of a bundle: the default one (None), a folder, or downloaded by hub name. Raises BundleError."""
    if path_or_hub is None:
        folder = default_bundle()
        if not (folder / INDEX).exists():
            raise BundleError(
                f"The package was installed without its default bundle ({folder}); install it again."
            )
        return folder
    folder = Path(path_or_hub)
    if folder.is_dir():
        if not (folder / INDEX).exists():
            raise BundleError(
                f"{folder}: no {INDEX} there, so it is no model bundle; name the folder that has it."
            )
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(snapshot_download(str(path_or_hub), allow_patterns=["*.json", "*.safetensors", "*.md"]))
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        raise BundleError(
            f"Bundle '{path_or_hub}' is neither a folder here nor a hub name that can be reached "
            f"({type(error).__name__}); check the path or the network."
        ) from error
