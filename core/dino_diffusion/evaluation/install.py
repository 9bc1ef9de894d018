"""A bundle takes the default one's place only with figures that are no worse."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from dino_diffusion.errors import BundleError
from dino_diffusion.models.bundle import CARD, INDEX, ModelBundle

FIGURES = "figures.json"
DICE_TOLERANCE = 0.002
"""Loss of mean Dice on the dev split that still counts as no worse: less than the masks' own roughness."""

OWN_NET = "encoder-cls"
"""Differs from bundle to bundle, so distances seen through it cannot be compared between them."""

MOST_BYTES, MOST_FILE = 60_000_000, 15_000_000


def install_bundle(bundle: Path, target: Path, force: bool = False) -> list[str]:
    """Copies the folder `bundle` over `target`, as a whole; returns what speaks against it.

    Raises BundleError if something is objected to and it is not forced, and always for a folder that is no
    bundle or is too large for the package.
    """
    objections = list(incomplete(bundle))
    if (target / INDEX).exists() and not objections:
        objections += worse(read_figures(bundle), read_figures(target))
    files = [path for path in bundle.rglob("*") if path.is_file()]
    large = [path.name for path in files if path.stat().st_size > MOST_FILE]
    if large or sum(path.stat().st_size for path in files) > MOST_BYTES:
        raise BundleError(
            f"{bundle}: too large for the package (60 MB in all, 15 MB a file); make its parts smaller."
        )
    if objections and not force:
        raise BundleError(
            f"{bundle}: not installed, because {'; '.join(objections)}; train or measure it, or force it."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as temporary:
        draft = Path(temporary) / target.name
        shutil.copytree(bundle, draft)
        if target.exists():
            target.rename(Path(temporary) / "before")
        draft.rename(target)
    return objections


def incomplete(bundle: Path) -> list[str]:
    """Why a bundle cannot be judged. Raises BundleError if it is none."""
    identity = ModelBundle.from_pretrained(bundle).id
    figures = read_figures(bundle)
    found = []
    if not (bundle / CARD).exists():
        found.append("it has no model card")
    if not figures:
        return [*found, "it has no figures"]
    if figures.get("bundle") != identity:
        found.append("its figures are those of another bundle")
    if dev_dice(figures) is None:
        found.append("its Dice on the dev split was not measured")
    if not kids(figures):
        found.append("its KID on held-out images was not measured")
    return found


def worse(new: dict[str, Any], old: dict[str, Any]) -> list[str]:
    """In what `new` figures are worse than `old` ones: dev Dice, KID through every net that both have."""
    found = []
    ours, theirs = dev_dice(new), dev_dice(old)
    if theirs is not None and (ours is None or ours < theirs - DICE_TOLERANCE):
        found.append(f"its dev Dice is {_number(ours)}, the installed one's {theirs:.4f}")
    mine = kids(new)
    for net, values in kids(old).items():
        if net == OWN_NET:
            continue
        if net not in mine:
            found.append(f"its KID through {net} was not measured")
        elif mine[net]["kid"] > values["kid_ci"][1]:
            found.append(
                f"its KID through {net} is {mine[net]['kid']:.4f}, above the installed one's interval "
                f"({values['kid_ci'][0]:.4f} to {values['kid_ci'][1]:.4f})"
            )
    return found


def dev_dice(figures: dict[str, Any]) -> float | None:
    """Mean Dice of the lungs on the dev split."""
    found = (figures.get("segmentation") or {}).get("dev")
    return None if found is None else float(found["dice"]["mean"])


def kids(figures: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Distances of generation by net."""
    return {values["net"]: values for values in (figures.get("generation") or {}).get("nets", [])}


def read_figures(bundle: Path) -> dict[str, Any]:
    """The bundle's figures, empty if it has none. Raises BundleError if they are damaged."""
    path = bundle / FIGURES
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise BundleError(f"{path}: the figures are damaged; measure the bundle again.") from error


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4f}"
