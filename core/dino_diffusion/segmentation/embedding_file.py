"""Segment embeddings as safetensors files: numbers and a JSON description, nothing that could run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from dino_diffusion.errors import EmbeddingError
from dino_diffusion.files.atomic import atomic_path
from dino_diffusion.segmentation.close_up import CloseUp
from dino_diffusion.segmentation.embedding import MOST_LESSONS, LearntSegment, Lesson, SegmentEmbedding

MAX_BYTES = 1_000_000
KIND, FORMAT = "dino-diffusion segment embedding", 7
HASH, MODEL = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{16}")
MOST_IMAGES = 1000
REMEDY = "name a file that `dino-diffusion learn` wrote."


def save_embedding(embedding: SegmentEmbedding, path: Path) -> Path:
    """Half precision, below 1 MB. Raises RadiographError where the place cannot be written to."""
    tensors = {
        f"{number}.{name}": value.detach().cpu().half().contiguous()
        for number, lesson in enumerate(embedding.lessons)
        for name, value in lesson.weights.items()
    }
    metadata = {
        "kind": KIND,
        "format": str(FORMAT),
        "embedding": json.dumps(embedding.about(), sort_keys=True),
    }
    content = save(tensors, metadata)
    if len(content) >= MAX_BYTES:
        raise EmbeddingError(f"{path}: would be larger than 1 MB; learn from fewer examples at a time.")
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return path


def load_embedding(path: Path) -> SegmentEmbedding:
    """Raises EmbeddingError for a file that is missing, too large, foreign or damaged."""
    try:
        size = path.stat().st_size
        if size >= MAX_BYTES:
            raise EmbeddingError(
                f"{path}: has {size / 1e6:.1f} MB, a segment embedding less than 1; {REMEDY}"
            )
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("kind") != KIND:
                raise EmbeddingError(f"{path}: is no segment embedding; {REMEDY}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no dict
    except (OSError, SafetensorError) as error:
        raise EmbeddingError(
            f"{path}: cannot be read as a segment embedding ({_reason(error)}); {REMEDY}"
        ) from error
    if metadata.get("format") != str(FORMAT):
        raise EmbeddingError(
            f"{path}: a segment embedding of format {metadata.get('format')}, this program reads {FORMAT}; "
            "update the program, or learn it again."
        )
    try:
        about = json.loads(metadata["embedding"])
        return SegmentEmbedding(
            about["name"],
            tuple(LearntSegment.from_json(segment) for segment in about["segments"]),
            _lessons(about["images"], tensors),
            _model(about["model"]),
            CloseUp(**about["close_up"]) if about["close_up"] is not None else None,
        )
    except EmbeddingError as error:
        raise EmbeddingError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise EmbeddingError(
            f"{path}: the embedding's description is damaged ({_reason(error)}); copy the file again."
        ) from error


def _lessons(images: Any, tensors: dict[str, torch.Tensor]) -> tuple[Lesson, ...]:
    if not isinstance(images, list) or not 1 <= len(images) <= MOST_LESSONS:
        raise ValueError(f"it was taught 1 to {MOST_LESSONS} times")
    lessons = []
    for number, hashes in enumerate(images):
        if not isinstance(hashes, list) or not 1 <= len(hashes) <= MOST_IMAGES:
            raise ValueError("a lesson names its images")
        if not all(isinstance(text, str) and HASH.fullmatch(text) for text in hashes):
            raise ValueError("images are named by their sha256")
        prefix = f"{number}."
        own = {name[len(prefix) :]: tensors.pop(name) for name in list(tensors) if name.startswith(prefix)}
        lessons.append(Lesson(own, tuple(hashes)))
    if tensors:
        raise ValueError("it holds more tensors than it says")
    return tuple(lessons)


def _model(model: Any) -> str:
    if not isinstance(model, str) or not MODEL.fullmatch(model):
        raise ValueError("no model")
    return model


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or " ".join(str(error).split())[:120] or type(error).__name__
