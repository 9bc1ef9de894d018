"""A concept: what a kind of picture has in common, as a few vectors that a frozen denoiser understands.

Textual inversion (Gal et al., ICLR 2023, arXiv 2208.01618; for medical images de Wilde et al. 2023, arXiv
2303.13430) carried over to a denoiser that is conditioned on an image's tokens: the vectors stand where the
CLS token stands. Only the vectors are learnt, so a concept is a file of some kilobytes, and it means
something to the very denoiser it was learnt for alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from dino_diffusion.codes import Code
from dino_diffusion.errors import ConceptError
from dino_diffusion.files.atomic import atomic_path
from dino_diffusion.models.bundle import ModelBundle

MOST_VECTORS = 64
MAX_BYTES = 1_000_000
ENDING = ".safetensors"
KIND, FORMAT = "dino-diffusion concept", 2
TENSORS = ("vectors", "opposite", "typical", "opposite_typical")
"""Of these the file holds the first, and the others where they are there."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}")


@dataclass(frozen=True, eq=False)
class Concept:
    """`vectors` (K, token width) float32, K from 1 to 64, in the space of `Condition.tokens`.

    `opposite` (M, token width) float32: what the concept is told from, such as healthy films for a disease,
    and `against` its name; None: nothing. `typical` (W,) float32: the mean of the images' own tokens
    (`TokenPrior.flat`), and `opposite_typical` that of what the concept is told from. See
    `composition.concept_velocity` for what they do.
    `model`: `model_id` of the bundle they were learnt for. `data_sha256`: over the images they were learnt
    from, `images` how many; `steps` 0 is the class mean, without training. `source`: where the images come
    from; `code`: the finding in a standard vocabulary. Raises ConceptError for what is none.
    """

    name: str
    vectors: torch.Tensor
    model: str
    data_sha256: str = ""
    images: int = 0
    steps: int = 0
    licence: str = ""
    source: str = ""
    description: str = ""
    code: Code | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    opposite: torch.Tensor | None = None
    against: str = ""
    typical: torch.Tensor | None = None
    opposite_typical: torch.Tensor | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not NAME.fullmatch(self.name):
            raise ConceptError(
                f"A concept cannot be called {str(self.name)[:80]!r}; use up to 64 letters, digits, spaces, "
                "dots, '-' and '_', a letter or a digit first."
            )
        vectors = self.vectors
        if vectors.ndim != 2 or not 1 <= len(vectors) <= MOST_VECTORS or not vectors.shape[1]:
            raise ConceptError(
                f"Concept '{self.name}' has vectors of shape {tuple(vectors.shape)}; give 1 to "
                f"{MOST_VECTORS} vectors as (K, width)."
            )
        for values in (vectors, *(() if self.opposite is None else (self.opposite,))):
            if values.dtype != torch.float32 or not bool(values.isfinite().all()):
                raise ConceptError(
                    f"Concept '{self.name}' holds values that are no finite float32 numbers; learn it again."
                )
            if values.ndim != 2 or not len(values) or values.shape[1] != vectors.shape[1]:
                raise ConceptError(
                    f"Concept '{self.name}' has an opposite of shape {tuple(values.shape)}; give one or more "
                    f"vectors as (M, {vectors.shape[1]})."
                )

        means = [mean for mean in (self.typical, self.opposite_typical) if mean is not None]
        if any(m.dtype != torch.float32 or m.ndim != 1 or not bool(m.isfinite().all()) for m in means) or (
            len({len(mean) for mean in means}) > 1
        ):
            raise ConceptError(f"Concept '{self.name}' holds mean tokens that are none; learn it again.")

    @property
    def direction(self) -> torch.Tensor | None:
        """`(W,)`: how tokens of its films differ from those of its opposite, None where that is unknown."""
        if self.typical is None or self.opposite_typical is None:
            return None
        return self.typical - self.opposite_typical

    def check(self, bundle: ModelBundle) -> None:
        """Raises ConceptError unless the concept was learnt for this very bundle's models."""
        if self.model != (model := model_id(bundle)):
            raise ConceptError(
                f"Concept '{self.name}' was learnt for model {self.model}, this bundle's is {model}; learn "
                "it again with `dino-diffusion invert`, or name the bundle it was made with."
            )
        if self.vectors.shape[1] != bundle.denoiser.config.token_width:
            raise ConceptError(
                f"Concept '{self.name}' has vectors of width {self.vectors.shape[1]}, this bundle takes "
                f"{bundle.denoiser.config.token_width}; learn it again with `dino-diffusion invert`."
            )
        if self.direction is not None and self.direction.shape != bundle.prior.mean.shape:
            raise ConceptError(
                f"Concept '{self.name}' has mean tokens of another shape than this bundle's; learn it again "
                "with `dino-diffusion invert`."
            )

    def opposed_to(self, others: Sequence[Concept]) -> Concept:
        """This concept, told from `others`: all their vectors together are its opposite.

        Raises ConceptError where there is none, or one of another model.
        """
        if not others or any(other.model != self.model for other in others):
            raise ConceptError(
                f"Concept '{self.name}' needs an opposite that was learnt for the same model, {self.model}; "
                "name one, or learn it first."
            )
        names = ", ".join(other.name for other in others)
        typical = [other.typical for other in others if other.typical is not None]
        return replace(
            self,
            opposite=torch.cat([other.vectors for other in others]),
            opposite_typical=torch.stack(typical).mean(0) if len(typical) == len(others) else None,
            against=names,
        )

    def about(self) -> dict[str, Any]:
        """Everything but the vectors, ready for JSON."""
        fields = {name: value for name, value in vars(self).items() if name not in TENSORS}
        return fields | {"code": asdict(self.code) if self.code else None}

    def save(self, path: str | Path) -> Path:
        """Writes a safetensors file below 1 MB, whole or not at all. Raises RadiographError, ConceptError."""
        path = Path(path)
        metadata = {"kind": KIND, "format": str(FORMAT), "concept": json.dumps(self.about(), sort_keys=True)}
        with atomic_path(path) as temporary:
            kept = {name: value for name in TENSORS if (value := getattr(self, name)) is not None}
            tensors = {name: value.detach().cpu().contiguous() for name, value in kept.items()}
            temporary.write_bytes(save(tensors, metadata))
            if temporary.stat().st_size >= MAX_BYTES:
                raise ConceptError(
                    f"{path}: the concept would be larger than 1 MB; learn fewer vectors, or shorten its "
                    "description."
                )
        return path

    @classmethod
    def load(cls, path: str | Path) -> Concept:
        """Reads what `save` wrote; nothing in the file is run. Raises ConceptError, one sentence a defect."""
        path = Path(path)
        try:
            size = path.stat().st_size
            if size >= MAX_BYTES:
                raise ConceptError(
                    f"{path}: has {size / 1e6:.1f} MB, a concept has less than 1; name the file that "
                    "`dino-diffusion invert` wrote."
                )
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                names = set(file.keys())
                if metadata.get("kind") != KIND or "vectors" not in names or not names <= set(TENSORS):
                    raise ConceptError(
                        f"{path}: is no concept of dino-diffusion; name a file that "
                        "`dino-diffusion invert` wrote."
                    )
                tensors = {name: file.get_tensor(name) for name in names}
        except (OSError, SafetensorError) as error:
            raise ConceptError(
                f"{path}: cannot be read as a concept ({_reason(error)}); name the .safetensors file that "
                "`dino-diffusion invert` wrote."
            ) from error
        return _from_metadata(path, metadata, tensors)


def _from_metadata(path: Path, metadata: dict[str, str], tensors: dict[str, Any]) -> Concept:
    if metadata.get("format") != str(FORMAT):
        raise ConceptError(
            f"{path}: a concept of format {metadata.get('format')}, this program reads {FORMAT}; update the "
            "program, or learn the concept again."
        )
    try:
        about = json.loads(metadata["concept"])
        code = Code(**about.pop("code")) if about.get("code") else about.pop("code", None)
        for name, kind in (("model", str), ("images", int), ("steps", int), ("settings", dict)):
            if not isinstance(about.get(name), kind):
                raise TypeError(f"no {name}")
        return Concept(code=code, **tensors, **about)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConceptError(
            f"{path}: the concept's description is damaged ({_reason(error)}); copy the file again."
        ) from error


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or " ".join(str(error).split())[:120] or type(error).__name__


def model_id(bundle: ModelBundle) -> str:
    """Sixteen hex digits: what a concept depends on. Prior, decoder and the lungs' read-out do not matter."""
    return bundle.id_of("encoder", "autoencoder", "denoiser", decoding=False)
