"""The picture at the top of README.md, made by the default bundle: python scripts/make_pictures.py

The first six seeds, none left out, each beside its labelled lungs. No patient is in it.
"""

from __future__ import annotations

from pathlib import Path

from dino_diffusion.generation.variants import generate
from dino_diffusion.models import ModelBundle
from dino_diffusion.pictures import contact_sheet, overlay, save_png
from dino_diffusion.radiograph import Radiograph
from dino_diffusion.segmentation import segment_lungs

COUNT = 6
TARGET = Path(__file__).parents[1] / "docs" / "overview.png"


def main() -> None:
    bundle = ModelBundle.from_pretrained()
    made = [item.pixels for item in generate(bundle, COUNT)]
    labelled = []
    for pixels in made:
        labels = segment_lungs(bundle, Radiograph.from_array(pixels)).labelmap.labels
        labelled.append(overlay(pixels, labels, longest_side=None, legend=False))
    captions = [f"generated, seed 0, image {number}" for number in range(1, COUNT + 1)]
    sheet = contact_sheet(made + labelled, captions + ["its lungs, labelled"] * COUNT, columns=COUNT)
    print(save_png(sheet, TARGET))


if __name__ == "__main__":
    main()
