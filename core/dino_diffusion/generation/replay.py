"""Synthetic images made again from their recipes: a table with one row an operation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dino_diffusion import __version__
from dino_diffusion.errors import ConfigurationError
from dino_diffusion.generation import composition, inpaint, painting, save, save_inpainted, strip, variants
from dino_diffusion.generation.recipe import Recipe
from dino_diffusion.models import ModelBundle


@dataclass(frozen=True)
class Operation:
    """`again(recipe, bundle, inputs)` makes a result, which has its new `recipe`; `inputs` are radiographs or
    their files by the recipe's names, to be checked with `Recipe.check_inputs`. `write(result, path)` writes
    it, beside `path` where it has several files, in the format of the path's ending where it has one."""

    again: Callable[[Recipe, ModelBundle, Mapping[str, Any]], Any]
    write: Callable[[Any, Path], list[Path]]


OPERATIONS: dict[str, Operation] = {
    variants.OPERATION: Operation(variants.again, save.save_synthetic),
    painting.OPERATION: Operation(inpaint.again, save_inpainted.save_inpainted),
    composition.OPERATION: Operation(composition.again, save.save_synthetic),
    strip.OPERATION: Operation(strip.again, save.save_synthetic),
}


def replay(recipe: Recipe, bundle: ModelBundle, inputs: Mapping[str, Any] | None = None) -> Any:
    """The result that `recipe` describes: on the device that made it, the same pixels (`is_same`).

    `inputs`: radiographs, or their files, by the names that the recipe gives them (`like`). Raises
    ConfigurationError for an operation or a version unknown here, another bundle, other inputs than those of
    the recipe, and a recipe that is incomplete.
    """
    operation = operation_of(recipe)
    if recipe.version != __version__:
        raise ConfigurationError(
            f"The recipe is of version {recipe.version}, this is {__version__}, whose pixels may differ; "
            f"install dino-diffusion {recipe.version} to replay it."
        )
    if recipe.bundle != bundle.id:
        raise ConfigurationError(
            f"The recipe is of bundle {recipe.bundle}, this one is {bundle.id}; load the recipe's bundle."
        )
    return operation.again(recipe, bundle, inputs or {})


def operation_of(recipe: Recipe) -> Operation:
    """The table's row. Raises ConfigurationError for an operation that is not in it."""
    if recipe.operation not in OPERATIONS:
        raise ConfigurationError(
            f"The recipe is of '{recipe.operation}', which cannot be replayed here; replay one of "
            f"{', '.join(sorted(OPERATIONS))}."
        )
    return OPERATIONS[recipe.operation]


def is_same(result: Any, recipe: Recipe) -> bool | None:
    """Whether a result has the very pixels that its recipe speaks of; None where that does not say."""
    return result.recipe.result == recipe.result if recipe.result else None
