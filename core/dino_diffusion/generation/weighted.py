"""Concepts with weights, and how a recipe names them."""

from __future__ import annotations

import hashlib

from dino_diffusion.generation.concept import Concept
from dino_diffusion.generation.recipe import hash_of_pixels

Weighted = tuple[Concept, float]
"""A concept and its weight; a negative one leads away from it."""


def name_of_concept(name: str) -> str:
    """What a recipe calls a concept among its inputs."""
    return f"concept-{name}"


def hash_of_concept(concept: Concept) -> str:
    """SHA-256 of what of a concept decides about the picture."""
    own = hash_of_pixels(concept.vectors.numpy())
    if concept.opposite is None:
        return own
    told_from = f"{own} against {hash_of_pixels(concept.opposite.numpy())}"
    if concept.direction is not None:
        told_from += f" toward {hash_of_pixels(concept.direction.numpy())}"
    return hashlib.sha256(told_from.encode()).hexdigest()
