"""A segment embedding: what a user's examples say about a structure, as a small file beside a frozen bundle.

It holds light heads over the bundle's descriptors (`descriptors.py`), one for each time it was taught, and
no part of any image. Kin to SLiMe (Khani et al., ICLR 2024): one embedding a part from one image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from dino_diffusion.codes import Code, Segment
from dino_diffusion.errors import EmbeddingError
from dino_diffusion.models import ModelBundle
from dino_diffusion.segmentation.close_up import CloseUp
from dino_diffusion.segmentation.descriptors import Descriptors
from dino_diffusion.segmentation.heads import SegmentHead
from dino_diffusion.segmentation.least_area import believe
from dino_diffusion.segmentation.outline_cues import CUES, Cue

MOST_LESSONS = 8
"""Heads in one embedding: each costs a little time for every image."""

MOST_LABELS = 32
LONGEST_NAME = 64


@dataclass(frozen=True)
class LearntSegment:
    """One label of the examples' masks.

    `parts`: how many separate regions it had at most; `filled`: it never had a hole.
    """

    segment: Segment
    parts: int
    filled: bool

    @classmethod
    def from_json(cls, about: Mapping[str, Any]) -> LearntSegment:
        """Raises KeyError, TypeError or ValueError for what is none."""
        given = dict(about["segment"])
        value, colour, parts = given["value"], tuple(given["colour"]), about["parts"]
        if not (type(value) is int and 1 <= value <= 255) or not (type(parts) is int and 1 <= parts <= 255):
            raise ValueError("label values and parts go from 1 to 255")
        if len(colour) != 3 or any(type(level) is not int or not 0 <= level <= 255 for level in colour):
            raise ValueError("a colour is three numbers from 0 to 255")
        kind = _code(given["kind"])
        laterality = _code(given["laterality"]) if given["laterality"] is not None else None
        texts = [given["name"], given["mark"], *asdict(kind).values(), *asdict(laterality or kind).values()]
        if any(not isinstance(text, str) or not 0 < len(text) <= LONGEST_NAME for text in texts):
            raise ValueError(f"names have 1 to {LONGEST_NAME} characters")
        segment = Segment(value, given["name"], given["mark"], kind, laterality, colour)
        return cls(segment, parts, bool(about["filled"]))


def _code(given: Mapping[str, str]) -> Code:
    return Code(given["value"], given["meaning"], given["scheme"])


@dataclass(frozen=True)
class Lesson:
    """Weights of one head, and the sha256 of each image it was learnt from."""

    weights: Mapping[str, torch.Tensor]
    images: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class SegmentEmbedding:
    """Learnt segments, joint: at each pixel at most one of them.

    `model` is `observing_id` of the bundle it was learnt for; `close_up` where its heads look, None for the
    whole picture. Raises EmbeddingError for what is none.
    """

    name: str
    segments: tuple[LearntSegment, ...]
    lessons: tuple[Lesson, ...]
    model: str
    close_up: CloseUp | None = None

    def __post_init__(self) -> None:
        if not 0 < len(self.name) <= LONGEST_NAME or not self.name.isprintable():
            raise EmbeddingError(
                f"A segment cannot be called {self.name[:80]!r}; use 1 to {LONGEST_NAME} printable letters."
            )
        if not 1 <= len(self.values) <= MOST_LABELS or len(set(self.values)) != len(self.values):
            raise EmbeddingError(
                f"'{self.name}' has {len(self.values)} labels; teach 1 to {MOST_LABELS} different ones."
            )
        if not 1 <= len(self.lessons) <= MOST_LESSONS:
            raise EmbeddingError(
                f"'{self.name}' would be taught {len(self.lessons)} times, at most {MOST_LESSONS} are "
                "possible; learn it anew from all examples at once."
            )
        for lesson in self.lessons:
            self._check(lesson)

    def _check(self, lesson: Lesson) -> None:
        """The very tensors of a head, with finite numbers."""
        squeeze = lesson.weights.get("coarse.1.weight")
        if squeeze is None or squeeze.ndim != 4:
            raise EmbeddingError(f"'{self.name}' lacks its weights; copy the file again.")
        with torch.device("meta"):
            wanted = SegmentHead(squeeze.shape[1], len(self.segments)).state_dict()
        if {name: value.shape for name, value in lesson.weights.items()} != {
            name: value.shape for name, value in wanted.items()
        }:
            raise EmbeddingError(
                f"'{self.name}' has weights of other shapes than a head; copy the file again."
            )
        kinds = torch.float16, torch.float32
        if not all(w.dtype in kinds and bool(w.isfinite().all()) for w in lesson.weights.values()):
            raise EmbeddingError(f"'{self.name}' holds values that are no finite numbers; learn it again.")

    @property
    def values(self) -> tuple[int, ...]:
        """The label values, in the order of the heads' answers after the background."""
        return tuple(learnt.segment.value for learnt in self.segments)

    @property
    def examples(self) -> int:
        """How many images it was learnt from."""
        return sum(len(lesson.images) for lesson in self.lessons)

    @cached_property
    def heads(self) -> tuple[tuple[float, SegmentHead], ...]:
        """Each lesson's head on the CPU, with its share of the examples."""
        return tuple((len(lesson.images) / self.examples, self._head(lesson)) for lesson in self.lessons)

    def _head(self, lesson: Lesson) -> SegmentHead:
        head = SegmentHead(lesson.weights["coarse.1.weight"].shape[1], len(self.segments))
        head.load_state_dict({name: value.float() for name, value in lesson.weights.items()})
        return head.eval().requires_grad_(False)

    def probabilities(self, seen: Descriptors) -> torch.Tensor:
        """Background and each label `(B, labels + 1, S / FINE, S / FINE)`, averaged over the examples.

        Of a label that is seen but weakly, as much is believed as the smallest of its examples was large.
        """
        device = seen.coarse.device
        votes = [share * head.to(device)(seen, self.examples) for share, head in self.heads]
        least = torch.stack([head.least for _, head in self.heads]).amin(0)
        return believe(torch.stack(votes).sum(0), seen.area[:, None] * least)

    @property
    def cues(self) -> list[Cue]:
        """What draws each label's outline in a picture."""
        recovered = torch.stack([share * head.recovered.cpu() for share, head in self.heads]).sum(0)
        return [CUES[int(best)] for best in recovered.argmax(1)]

    def check(self, bundle: ModelBundle) -> None:
        """Raises EmbeddingError unless it was learnt for this very bundle's models."""
        if self.model != (model := bundle.observing_id):
            raise EmbeddingError(
                f"'{self.name}' was learnt for model {self.model}, this bundle's is {model}; learn it again "
                "with `dino-diffusion learn`, or name the bundle it was made with."
            )

    def about(self) -> dict[str, Any]:
        """Everything but the weights, ready for JSON."""
        return {
            "name": self.name,
            "model": self.model,
            "segments": [asdict(learnt) for learnt in self.segments],
            "images": [list(lesson.images) for lesson in self.lessons],
            "examples": self.examples,
            "close_up": asdict(self.close_up) if self.close_up else None,
        }

    def save(self, path: str | Path) -> Path:
        """Writes a safetensors file below 1 MB, whole or not at all."""
        from dino_diffusion.segmentation.embedding_file import save_embedding

        return save_embedding(self, Path(path))

    @classmethod
    def load(cls, path: str | Path) -> SegmentEmbedding:
        """Reads what `save` wrote; nothing in the file is run. Raises EmbeddingError for anything else."""
        from dino_diffusion.segmentation.embedding_file import load_embedding

        return load_embedding(Path(path))


def check_together(embeddings: tuple[SegmentEmbedding, ...]) -> None:
    """Raises EmbeddingError where two embeddings give the same label value."""
    owner: dict[int, str] = {}
    for embedding in embeddings:
        for value in embedding.values:
            if value in owner:
                raise EmbeddingError(
                    f"'{owner[value]}' and '{embedding.name}' both give the label {value}; apply them one by "
                    "one, or learn one of them again from a mask with another value."
                )
            owner[value] = embedding.name
