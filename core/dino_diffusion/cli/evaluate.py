"""`dino-diffusion evaluate`: how good labels and synthetic radiographs are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dino_diffusion.cli import options
from dino_diffusion.cli.console import Output, complain, sentence
from dino_diffusion.cli.evaluate_segmentation import end_with_failures, robustness, segmentation
from dino_diffusion.cli.generate import SHEET_ENDING
from dino_diffusion.cli.loading import load_bundle
from dino_diffusion.cli.utility import utility
from dino_diffusion.errors import RadiographError

if TYPE_CHECKING:
    import numpy as np

    from dino_diffusion.evaluation.features import FeatureExtractor
    from dino_diffusion.models import ModelBundle

BATCH = 16

app = typer.Typer(
    help="Measure labels against masks, or synthetic radiographs against real ones.", no_args_is_help=True
)
app.command()(segmentation)
app.command()(robustness)
app.command()(utility)


@app.command("generation")
def generation(
    real: Annotated[Path, typer.Option(metavar="DIR", help="Real radiographs that no part was trained on.")],
    synthetic: Annotated[Path, typer.Option(metavar="DIR", help="Synthetic radiographs.")],
    json: options.Json = False,
    bundle: options.Bundle = None,
    device: options.Device = None,
    quiet: options.Quiet = False,
) -> None:
    """FID, KID, precision and recall between two folders, beside what real images reach against real ones."""
    console = Output(quiet, json)
    with console.document() as document:
        from dino_diffusion.evaluation.distribution import evaluate_generation
        from dino_diffusion.evaluation.release import feature_nets
        from dino_diffusion.files.inputs import list_inputs

        files = {
            "real": list_inputs([real]),
            # A contact sheet is a picture of pictures.
            "synthetic": [p for p in list_inputs([synthetic]) if not p.name.endswith(SHEET_ENDING)],
        }
        loaded = load_bundle(bundle, device, console)
        nets, missing = feature_nets(loaded)
        failed: list[str] = []
        with console.progress("Looking at the images", sum(map(len, files.values()))) as advance:
            features = {
                side: _features(loaded, nets, paths, failed, advance) for side, paths in files.items()
            }
        with console.progress("Measuring"):
            measured = [
                evaluate_generation(features["real"][k], features["synthetic"][k], net.name)
                for k, net in enumerate(nets)
            ]
        document |= {"bundle": loaded.id, "nets": measured, "missing_nets": missing, "failed": failed}
    for values in measured:
        console.say(*describe(values))
    for net in missing:
        complain(net)
    end_with_failures(failed)


def describe(values: dict[str, Any]) -> list[str]:
    """Lines for a person."""
    low, high = values["kid_ci"]
    over = values["fid_over_floor"]
    floor = f"real {values['fid_floor']:.3f}" + (f", ratio {over:.1f}" if over is not None else "")
    return [
        f"{values['net']}: {values['n_synthetic']} synthetic against {values['n_real']} real images",
        f"  FID        {values['fid']:.3f} at n = {values['n_equal']} ({floor})",
        f"  KID        {values['kid']:.5f} (95 % CI {low:.5f} to {high:.5f})",
        f"  precision  {values['precision']:.3f} (real {values['precision_real']:.3f})",
        f"  recall     {values['recall']:.3f} (real {values['recall_real']:.3f})",
    ]


def _features(
    bundle: ModelBundle, nets: list[FeatureExtractor], paths: list[Path], failed: list[str], advance: Any
) -> list[np.ndarray]:
    """One `(N, D)` array a net; each file is read once, an unreadable one is listed and left out."""
    import numpy as np
    import torch

    from dino_diffusion.evaluation.features import extract
    from dino_diffusion.radiograph import Radiograph

    parts: list[list[np.ndarray]] = [[] for _ in nets]
    for start in range(0, len(paths), BATCH):
        chunk = paths[start : start + BATCH]
        views = []
        for path in chunk:
            try:
                views.append(Radiograph.read(path).model_view(bundle.size).pixels)
            except RadiographError as error:
                failed.append(sentence(error))
        if views:
            batch = torch.cat(views)
            for net, part in zip(nets, parts, strict=True):
                part.append(extract(net, [batch]))
        advance(len(chunk))
    if not parts[0]:
        raise RadiographError(f"None of {len(paths)} files could be read; the first: {failed[0]}")
    return [np.concatenate(part) for part in parts]
