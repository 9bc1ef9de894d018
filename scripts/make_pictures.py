"""The pictures in docs/, made by the default bundle: python scripts/make_pictures.py [overview ...]

Fixed seeds, none left out, always the first shipped sample: no patient is in them, and nothing is picked.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dino_diffusion.codes import LEFT_LUNG
from dino_diffusion.evaluation.conditioning import PARTS, draw_framed
from dino_diffusion.generation.inpaint import inpaint
from dino_diffusion.generation.library import find_concept
from dino_diffusion.generation.strip import StripPath, strip
from dino_diffusion.generation.twin import healthy_twin
from dino_diffusion.generation.variants import Variation, generate
from dino_diffusion.models import ModelBundle
from dino_diffusion.pictures import borders, contact_sheet, difference_map, overlay, save_png
from dino_diffusion.radiograph import Radiograph
from dino_diffusion.segmentation import segment_lungs
from dino_diffusion.segmentation.regions import regions
from dino_diffusion.segmentation.zones import zoned

ROOT = Path(__file__).parents[1]
DOCS, SAMPLES = ROOT / "docs", ROOT / "core" / "dino_diffusion" / "samples"
COLUMNS = 6
Page = Callable[[ModelBundle], np.ndarray]


def overview(bundle: ModelBundle) -> np.ndarray:
    """The first draws of seed 0, and their labelled lungs below."""
    made = [item.pixels for item in generate(bundle, COLUMNS)]
    labelled = []
    for pixels in made:
        labels = segment_lungs(bundle, Radiograph.from_array(pixels)).labelmap.labels
        labelled.append(overlay(pixels, labels, longest_side=None, legend=False))
    captions = [f"generated, seed 0, image {number}" for number in range(1, COLUMNS + 1)]
    return contact_sheet(made + labelled, captions + ["its lungs, labelled"] * COLUMNS, columns=COLUMNS)


def generation(bundle: ModelBundle) -> np.ndarray:
    """Variants of one sample by strength, and blends of two."""
    first, second = (sample(number) for number in (1, 2))
    shown = [(first.pixels, "the sample")]
    for strength in (0.3, 0.5, 0.7, 0.85, 1.0):
        made = generate(bundle, 1, Variation(first, strength=strength))[0]
        shown.append((made.pixels, f"strength {strength:g}"))
    shown.append((first.pixels, "the sample"))
    for mix in (0.25, 0.5, 0.75, 1.0):
        made = generate(bundle, 1, Variation(first, (second,), (mix,)))[0]
        shown.append((made.pixels, f"mix {mix:g}"))
    return sheet([*shown, (second.pixels, "another sample")])


def painting(bundle: ModelBundle) -> np.ndarray:
    """One mask painted with several concepts, what changed below, and the healthy twin."""
    radiograph = sample(1)
    mask = lower_left(zoned(segment_lungs(bundle, radiograph).labelmap).labels)
    shown = [(borders(radiograph.pixels, mask.astype(np.uint8)), "the sample, the mask")]
    for name in ("pneumonia", "consolidation", "effusion", "atelectasis"):
        concepts = [(find_concept(name), 1.0)]
        made = inpaint(bundle, radiograph, mask, concepts=concepts)[0]
        shown.append((made.pixels, name))
    twin = healthy_twin(bundle, radiograph, find_concept("healthy")).candidates[0]
    shown.append((twin.pixels, "healthy twin"))
    changes = [(difference_map(radiograph.pixels, pixels, 512), "what changed") for pixels, _ in shown[1:]]
    return sheet([*shown, (radiograph.pixels, "the sample"), *changes])


def strips(bundle: ModelBundle) -> np.ndarray:
    """From healthy to two findings, one fixed noise each."""
    radiograph, shown = sample(1), []
    for name in ("effusion", "cardiomegaly"):
        path = StripPath.of(bundle, radiograph, find_concept("healthy"), find_concept(name))
        made = strip(path)
        for frame, share in zip(made.frames, made.shares, strict=True):
            shown.append((frame.pixels, f"{share:.0%} {name}"))
    return sheet(shown, columns=len(shown) // 2)


def segmentation(bundle: ModelBundle) -> np.ndarray:
    """Lungs, zones and regions of the samples."""
    shown = []
    for number in (1, 2):
        radiograph = sample(number)
        labelmap = segment_lungs(bundle, radiograph).labelmap
        found = regions(bundle, radiograph)
        for labels, caption in ((labelmap.labels, "lungs"), (zoned(labelmap).labels, "zones")):
            shown.append((overlay(radiograph.pixels, labels, legend=False), caption))
        for granularity in (0.1, 0.3, 0.5, 0.8):
            drawn = borders(radiograph.pixels, found.labels(granularity))
            shown.append((drawn, f"regions, granularity {granularity:g}"))
    return sheet(shown)


def conditioning(bundle: ModelBundle) -> np.ndarray:
    """One draw and one noise in several frames: parts by their crop box, the whole by its source's size."""
    made, shown = draw_framed(bundle), []
    for name in PARTS:
        shown.append((made.cut_out[name], f"{name}, cut out"))
        for title, kind in (
            ("tokens of the whole", made.whole_tokens),
            ("its own tokens", made.own_tokens),
            ("no tokens", made.no_tokens),
        ):
            shown.append((kind[name], f"{name}, {title}"))
    shown += [(picture, f"the whole, source of {side} px") for side, picture in made.sides.items()]
    plain = [(picture[0, 0].cpu().numpy(), caption) for picture, caption in shown]
    smallest, *_, largest = (pixels for pixels, _ in plain[-len(made.sides) :])
    changed = (difference_map(smallest, largest, 512), "what that changed")
    return sheet([*plain, changed], columns=4)


def sample(number: int) -> Radiograph:
    """A synthetic radiograph that travels with the package."""
    return Radiograph.read(SAMPLES / f"synthetic-{number}.png")


def lower_left(zones: np.ndarray) -> np.ndarray:
    """The left lung's lower zone, or what is there of that lung."""
    lower = zones == 8
    return lower if lower.any() else zones == LEFT_LUNG


def sheet(shown: list[tuple[np.ndarray, str]], columns: int = COLUMNS) -> np.ndarray:
    """Pictures with their captions."""
    pictures, captions = zip(*shown, strict=True)
    return contact_sheet(pictures, captions, columns=columns)


PAGES: dict[str, Page] = {
    "overview": overview,
    "segmentation": segmentation,
    "generation": generation,
    "painting": painting,
    "strips": strips,
    "conditioning": conditioning,
}


def main() -> None:
    """Makes the pages that are named, or all."""
    wanted = sys.argv[1:] or list(PAGES)
    if unknown := [name for name in wanted if name not in PAGES]:
        sys.exit(f"There is no page {unknown[0]}: name some of {', '.join(PAGES)}.")
    bundle = ModelBundle.from_pretrained()
    for name in wanted:
        print(save_png(PAGES[name](bundle), DOCS / f"{name}.png"))


if __name__ == "__main__":
    main()
