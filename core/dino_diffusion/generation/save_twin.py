"""A healthy twin as files: the image with its mask and recipe, the difference, and the candidate regions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dino_diffusion.files.atomic import all_or_none
from dino_diffusion.files.write_labelmap import ENDINGS, SAME, write_labelmap
from dino_diffusion.generation.save_inpainted import planned, save_inpainted
from dino_diffusion.generation.twin import Twin
from dino_diffusion.pictures import contact_sheet, difference_map, overlay, save_png
from dino_diffusion.radiograph import Radiograph


@dataclass(frozen=True)
class TwinFiles:
    """Where the parts of a twin go. `regions` lies on the radiograph's own grid and belongs to it."""

    image: Path
    mask: Path
    recipe: Path
    difference: Path
    regions: Path
    sheet: Path

    @classmethod
    def of(cls, radiograph: Radiograph, folder: Path, stem: str) -> TwinFiles:
        """`<stem>_twin...` in `folder`."""
        image, mask, recipe = planned(radiograph, folder / f"{stem}_twin")
        regions = folder / f"{stem}_twin_regions{ENDINGS[SAME.get(radiograph.source.format, 'png')]}"
        pictures = (folder / f"{stem}_twin_{name}.png" for name in ("difference", "sheet"))
        return cls(image, mask, recipe, next(pictures), regions, next(pictures))


def save_twin(twin: Twin, files: TwinFiles, burn_in: bool = False) -> list[Path]:
    """Writes all of them or none; `regions` only where there are some. Returns what was written.

    Raises as `save_inpainted` does.
    """
    shown, labelmap = twin.candidates[0], twin.labelmap
    source = shown.radiograph.pixels
    difference = difference_map(source - twin.difference, source)
    marked = overlay(source, labelmap.labels, names=labelmap.names)
    sheet = contact_sheet(
        [source, shown.pixels, difference, marked],
        ["source", "healthy twin, synthetic", "difference: red is denser", "candidate regions"],
        4,
        512,
        "Healthy twin by dino-diffusion: candidates to look at, no diagnosis",
    )
    with all_or_none() as written:
        written += save_inpainted(shown, files.image, burn_in)
        written.append(save_png(difference, files.difference))
        if twin.regions:
            kind = SAME.get(shown.radiograph.source.format, "png")
            written.append(write_labelmap(labelmap, files.regions, kind))
        written.append(save_png(sheet, files.sheet))
    return written
