"""Textual-inversion embeddings of others: AUTOMATIC1111's `.pt`, its and diffusers' safetensors.

A `.pt` is a pickle, which may hold a program: it is read by torch's restricted unpickler (`weights_only`),
which builds tensors and plain containers and refuses everything else.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from dino_diffusion.errors import ConceptError
from dino_diffusion.files.atomic import atomic_path
from dino_diffusion.generation.concept import KIND, Concept

MAX_BYTES = 20_000_000
"""Seventy-five vectors of SDXL's width in float32 have less than one; checkpoints of models have hundreds."""

UNKNOWN = ""
"""`Concept.model` of an embedding whose file does not say which text encoder it was learnt for."""


def load_embedding(path: str | Path) -> Concept:
    """An embedding as a concept, whose `model` is unknown unless this package wrote the file.

    Understood are `.pt` with `string_to_param` (AUTOMATIC1111), `learned_embeds.safetensors` (diffusers: one
    tensor, named by its token), safetensors with `emb_params` (AUTOMATIC1111) and this package's concepts.
    Raises ConceptError, one sentence a defect; nothing in a file is run.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
    except OSError as error:
        raise ConceptError(f"{path}: cannot be read ({error.strerror}); check the name.") from error
    if size > MAX_BYTES:
        raise ConceptError(
            f"{path}: has {size / 1e6:.0f} MB, an embedding has less than {MAX_BYTES / 1e6:.0f}; this may be "
            "a whole model, name the embedding."
        )
    if path.suffix == ".safetensors":
        return _from_safetensors(path)
    return _from_pickle(path)


def save_learned_embeds(concept: Concept, path: str | Path) -> Path:
    """Writes the concept as diffusers' `learned_embeds.safetensors`, its token `<name>`."""
    path = Path(path)
    with atomic_path(path) as temporary:
        temporary.write_bytes(save({f"<{concept.name}>": concept.vectors.contiguous()}))
    return path


def _from_safetensors(path: Path) -> Concept:
    try:
        with safe_open(path, framework="pt") as file:
            ours = (file.metadata() or {}).get("kind") == KIND
        if ours:
            return Concept.load(path)
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ConceptError(f"{path}: is no safetensors file, or a torn one; copy it again.") from error
    if {"clip_l", "clip_g"} & set(tensors):
        raise ConceptError(f"{path}: is an embedding for Stable Diffusion XL; take one for version 1 or 2.")
    if len(tensors) != 1:
        raise ConceptError(
            f"{path}: holds {len(tensors)} tensors, an embedding has one; name a learned_embeds.safetensors."
        )
    token, vectors = next(iter(tensors.items()))
    return _concept(path, path.stem if token == "emb_params" else token, vectors)


def _from_pickle(path: Path) -> Concept:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ConceptError(
            f"{path}: holds something that is no tensor, perhaps a program, so it was not opened; take it as "
            "safetensors, or from its author."
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise ConceptError(f"{path}: is no embedding, or a torn one; copy it again.") from error
    if not isinstance(content, Mapping):
        raise ConceptError(f"{path}: holds no table of tensors; name a textual-inversion embedding.")
    parameters = content.get("string_to_param")
    if parameters is None and len(content) == 1:
        # diffusers' learned_embeds.bin, the pickled twin of the safetensors file.
        token, vectors = next(iter(content.items()))
        return _concept(path, token, vectors)
    if not isinstance(parameters, Mapping) or len(parameters) != 1:
        raise ConceptError(
            f"{path}: has no 'string_to_param' with one tensor; name a textual-inversion embedding."
        )
    name = content.get("name")
    return _concept(path, name if isinstance(name, str) else path.stem, next(iter(parameters.values())))


def _concept(path: Path, name: Any, vectors: Any) -> Concept:
    if not isinstance(vectors, torch.Tensor) or not vectors.is_floating_point() or vectors.ndim not in (1, 2):
        raise ConceptError(
            f"{path}: its vectors are no table of numbers (K, width); name a textual-inversion embedding."
        )
    clean = re.sub(r"[^A-Za-z0-9 ._-]+", "-", str(name).strip("<> ")).strip(" ._-")[:64]
    return Concept(
        clean or "embedding",
        vectors.detach().float().reshape(-1, vectors.shape[-1]).clone(),
        UNKNOWN,
        source="foreign embedding",
    )
