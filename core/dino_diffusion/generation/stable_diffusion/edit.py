"""Inpainting of a radiograph's file with a Stable Diffusion checkpoint: in place, the rest bit-identical."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from dino_diffusion.crop import Window, box_around
from dino_diffusion.device import inference
from dino_diffusion.generation.blend import added, check_untouched
from dino_diffusion.generation.masks import EditMask, feathered, pixel_size_mm
from dino_diffusion.generation.painting import CHECK, Inpainted
from dino_diffusion.generation.recipe import hash_of_pixels
from dino_diffusion.generation.stable_diffusion.backbone import StableDiffusion
from dino_diffusion.generation.stable_diffusion.paint import Callback, PaintSettings, inpaint
from dino_diffusion.generation.weighted import Weighted
from dino_diffusion.radiograph import Radiograph
from dino_diffusion.view import HEADROOM

OPERATION = "sd-inpaint"
FEATHER_MM = 10.0


def inpaint_radiograph(
    backbone: StableDiffusion,
    radiograph: Radiograph,
    mask: EditMask,
    concepts: Sequence[Weighted],
    settings: PaintSettings | None = None,
    strength: float = 1.0,
    feather_mm: float = FEATHER_MM,
    number: int = 0,
    callback: Callback | None = None,
) -> Inpainted:
    """Candidate `number` of the seed, written with `save_inpainted` as a bundle's.

    The part around the mask is painted at the checkpoint's size; what changed there, against what its
    autoencoder makes of the untouched part, is added to the source inside the mask. Raises as `paint.inpaint`
    does, and ChangedOutside should a pixel outside the mask differ, which would be a fault of this program.
    """
    settings = settings or PaintSettings()
    window = Window.of(
        radiograph.pixels, box_around(mask.inside, backbone.size), settings.size or backbone.size
    )
    view = window.grey_to_model(radiograph.pixels)
    covered = window.map_to_model(mask.levels / 255)[0, 0].numpy() > 0
    picture = view[0].expand(3, -1, -1)
    made = inpaint(backbone, picture.numpy(), covered, concepts, settings, strength, number, callback)
    with inference(backbone.device):
        restored = backbone.decode(backbone.encode(picture[None].to(backbone.device))).float().cpu()[0]
    change = (torch.from_numpy(made.pixels) - restored).mean(0) * torch.from_numpy(covered)
    change *= (window.scale.high - window.scale.low) / (1 - 2 * HEADROOM)  # in the source's own grey
    weight = feathered(mask.inside, feather_mm, pixel_size_mm(radiograph))
    pixels, region = radiograph.pixels.copy(), window.region
    on_source = window.to_source(change[None, None])[0, 0]
    pixels[region] = added(pixels[region], on_source, weight[region])
    stored = radiograph.to_stored(pixels, weight > 0)
    recipe = replace(
        made.recipe,
        operation=OPERATION,
        parameters=made.recipe.parameters | {"strength": strength, "feather_mm": feather_mm},
        inputs=made.recipe.inputs | {"image": radiograph.source.sha256, "mask": mask.sha256},
        result=hash_of_pixels(stored),
        checks={CHECK: check_untouched(radiograph, stored, mask.inside)},
    )
    return Inpainted(stored, mask.inside, recipe, radiograph)
