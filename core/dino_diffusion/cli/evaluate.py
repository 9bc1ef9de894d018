"""`dino-diffusion evaluate`: how good labels and synthetic radiographs are."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dino_diffusion.cli import options
from dino_diffusion.cli.console import Output, complain, sentence
from dino_diffusion.cli.generate import SHEET_ENDING
from dino_diffusion.cli.loading import load_bundle
from dino_diffusion.errors import RadiographError
from dino_diffusion.evaluation import evenly

if TYPE_CHECKING:
    import numpy as np

    from dino_diffusion.evaluation.features import FeatureExtractor
    from dino_diffusion.evaluation.segmentation import SegmentationReport
    from dino_diffusion.models import ModelBundle

BATCH = 16

app = typer.Typer(
    help="Measure labels against masks, or synthetic radiographs against real ones.", no_args_is_help=True
)


@app.command("segmentation")
def segmentation(
    images: Annotated[Path, typer.Option(metavar="DIR", help="Radiographs.")],
    masks: Annotated[
        Path, typer.Option(metavar="DIR", help="Masks of the same names: 1 right lung, 2 left lung.")
    ],
    limit: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Measure on N pairs, evenly picked.", show_default="all"),
    ] = None,
    json: options.Json = False,
    bundle: options.Bundle = None,
    device: options.Device = None,
    quiet: options.Quiet = False,
) -> None:
    """Dice and 95 % Hausdorff distance of the lungs against masks, paired by file name."""
    console = Output(quiet, json)
    with console.document() as document:
        from dino_diffusion.evaluation.labelfiles import pair_by_stem

        pairs = [image for image, _ in pair_by_stem(images, masks).matched]
        loaded = load_bundle(bundle, device, console)
        report = _measure_segmentation(loaded, images, masks, pairs, limit, console)
        document |= {"bundle": loaded.id, "device": str(loaded.device), **report.to_dict()}
        scores = document
    dice, mm = scores["dice"], scores["hd95_mm"]
    console.say(
        f"{scores['n']} images, bundle {scores['bundle']}",
        "Dice     " + "   ".join(f"{name} {dice[name]:.4f}" for name in ("mean", "right", "left", "p5")),
        f"HD95     {scores['hd95']:.2f} % of the diagonal" + (f"   {mm:.1f} mm" if mm is not None else ""),
    )
    _end_with_failures(
        # Two labelmaps that do not fit know no file's name.
        error if stem in error else f"{stem}: {error}"
        for stem, error in (entry.values() for entry in scores["failed"])
    )


def _measure_segmentation(
    bundle: ModelBundle, images: Path, masks: Path, pairs: list[Path], limit: int | None, console: Output
) -> SegmentationReport:
    from dino_diffusion.evaluation.lungs import label_file, spacing_of
    from dino_diffusion.evaluation.segmentation import evaluate_segmentation

    with ExitStack() as stack:
        if limited := limit is not None and limit < len(pairs):
            # evaluate_segmentation takes folders; a folder of links is the smaller one.
            chosen = [pairs[i] for i in evenly(len(pairs), limit)]
            images = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            for path in chosen:
                (images / path.name).symlink_to(path.resolve())
        advance = stack.enter_context(
            console.progress("Labelling and measuring", limit if limited else len(pairs))
        )
        report = evaluate_segmentation(
            images,
            masks,
            lambda path: label_file(bundle, path),
            lambda done, total: advance(1),
            spacing_of,
        )
    return dataclasses.replace(report, masks_alone=[]) if limited else report


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
    _end_with_failures(failed)


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


def _end_with_failures(sentences: Iterable[str]) -> None:
    """Lists the files that count in no figure; with one or more, the exit code says so too."""
    listed = list(sentences)
    for text in listed:
        complain(text)
    if listed:
        raise typer.Exit(1)
