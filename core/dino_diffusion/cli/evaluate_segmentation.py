"""`dino-diffusion evaluate segmentation` and `evaluate robustness`: labels against masks."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dino_diffusion.cli import options
from dino_diffusion.cli.console import Output, complain
from dino_diffusion.cli.loading import load_bundle
from dino_diffusion.cli.segment import check_folder, load_embeddings

if TYPE_CHECKING:
    import numpy as np

    from dino_diffusion.segmentation.lungs import LungSegmentation

Images = Annotated[Path, typer.Option(metavar="DIR", help="Radiographs.")]
Masks = Annotated[
    Path, typer.Option(metavar="DIR", help="Masks of the same names: 1 right lung, 2 left lung.")
]
Limit = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Measure on N pairs, evenly picked.", show_default="all"),
]
ResultFolder = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="DIR", help="Also write tables and pages of the worst cases there."
    ),
]


def segmentation(
    images: Images,
    masks: Masks,
    limit: Limit = None,
    embedding: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Measure what `learn` learnt instead of the lungs, each label; again for more structures.",
        ),
    ] = None,
    output: ResultFolder = None,
    json: options.Json = False,
    bundle: options.Bundle = None,
    device: options.Device = None,
    quiet: options.Quiet = False,
) -> None:
    """Dice and 95 % Hausdorff distance of the lungs, or of learnt structures, against masks.

    Images and masks are paired by file name; every figure has a 95 % bootstrap confidence
    interval over images. With -o also per_image.csv and worst_cases.png.
    """
    console = Output(quiet, json)
    with console.document() as document:
        count = _count_pairs(images, masks, limit, output)
        learnt = load_embeddings(embedding or [])
        loaded = load_bundle(bundle, device, console)
        for each in learnt:
            each.check(loaded)

        from dino_diffusion.evaluation.lungs import label_file, label_file_with, spacing_of
        from dino_diffusion.evaluation.overlap import LUNGS, structures_of
        from dino_diffusion.evaluation.segmentation import Prediction, evaluate_segmentation

        def segment(path: Path) -> Prediction:
            return label_file_with(loaded, learnt, path) if learnt else label_file(loaded, path)

        names = {learnt.segment.value: learnt.segment.name for each in learnt for learnt in each.segments}
        structures = structures_of(names) if learnt else LUNGS
        with console.progress("Labelling and measuring", count) as advance:
            report = evaluate_segmentation(
                images, masks, segment, lambda done, total: advance(1), spacing_of, structures, limit
            )
        if learnt:
            document["names"] = {str(value): name for value, name in names.items()}
        document |= {"bundle": loaded.id, "device": str(loaded.device), **report.to_dict()}
        if output is not None:
            from dino_diffusion.evaluation.cases import worst_cases

            with console.progress("Drawing the worst cases"):
                page = worst_cases(report, segment, names=document.get("names"))
            document["files"] = _write(output / "per_image.csv", document["per_image"], page)
        figures = document
    console.say(*describe_segmentation(figures))
    end_with_failures(_named(entry) for entry in figures["failed"])


def robustness(
    images: Images,
    masks: Masks,
    limit: Limit = None,
    output: ResultFolder = None,
    json: options.Json = False,
    bundle: options.Bundle = None,
    device: options.Device = None,
    quiet: options.Quiet = False,
) -> None:
    """Dice that odd input costs: files turned, inverted, bordered, lettered, squashed, resized, mirrored.

    Each is compared with the same file as it is. A file is labelled about twenty times; --limit saves time.
    With -o also trials.csv and worst_cases.png.
    """
    console = Output(quiet, json)
    with console.document() as document:
        count = _count_pairs(images, masks, limit, output)
        loaded = load_bundle(bundle, device, console)

        from dino_diffusion.evaluation.robustness import evaluate_robustness, worst_of_each
        from dino_diffusion.radiograph import Radiograph
        from dino_diffusion.segmentation.lungs import segment_lungs

        def segment(radiograph: Radiograph) -> LungSegmentation:
            return segment_lungs(loaded, radiograph)

        with console.progress("Altering, labelling and measuring", count) as advance:
            report = evaluate_robustness(
                images, masks, segment, limit=limit, progress=lambda done, total: advance(1)
            )
        document |= {"bundle": loaded.id, "device": str(loaded.device), **report.to_dict()}
        if output is not None:
            with console.progress("Drawing the worst cases"):
                page = worst_of_each(report, segment)
            document["files"] = _write(output / "trials.csv", report.rows(), page)
        figures = document
    console.say(*describe_robustness(figures))
    end_with_failures(_named(entry) for entry in figures["failed"])


def describe_segmentation(figures: dict[str, Any]) -> list[str]:
    """Lines for a person."""
    dice, found, ranking = figures["dice"], figures["ci95"], figures["uncertainty"]
    lines = [f"{figures['n']} images, bundle {figures['bundle']}; in brackets the 95 % confidence interval"]
    named = figures.get("names", {})
    for name in ("mean", *(name for name in dice if name not in ("mean", "p5")), "p5"):
        lines.append(f"Dice {named.get(name, name):<8} {dice[name]:.4f}{_range(found['dice'][name], 4)}")
    lines.append(f"HD95          {figures['hd95']:.2f} % of the diagonal{_range(found['hd95'], 2)}")
    if figures["hd95_mm"] is not None:
        lines.append(f"              {figures['hd95_mm']:.1f} mm{_range(found['hd95_mm'], 1)}")
    lines += [_presence(named.get(name, name), one) for name, one in figures["presence"].items()]
    below = f"{ranking['n_below']} of {ranking['n']} images have a Dice below {ranking['threshold']}"
    if ranking["auroc"] is None:
        lines.append(
            f"{below}; how well the uncertainty finds such images cannot be said: {ranking['reason']}"
        )
    else:
        auroc = f"{ranking['auroc']:.2f}{_range(ranking['auroc_ci'], 2)}"
        lines.append(f"{below}; the uncertainty finds them with AUROC {auroc}")
    lines.append(
        f"{figures['share_with_warnings']:.1%} of the images came with a warning, "
        f"{figures['share_negative']:.1%} read as a negative, "
        f"{figures['share_mirrored']:.1%} flagged as mirrored, "
        f"{figures['share_foreign']:.1%} as no frontal chest radiograph"
    )
    return [*lines, *figures.get("files", [])]


def _presence(name: str, found: dict[str, Any]) -> str:
    """Of a structure that some images do not show."""
    there = f"shown on {found['showing']} of {found['showing'] + found['without']} images"
    if found["showing"]:
        there += f" (Dice {found['dice']:.4f}, missed on {found['missed']})"
    return f"{name}: {there}; found on {found['falsely_found']} of {found['without']} without it"


def describe_robustness(figures: dict[str, Any]) -> list[str]:
    """Lines for a person."""
    plain = figures["unaltered"]
    tolerated = figures["tolerated"]
    lines = [
        f"{figures['n']} images, bundle {figures['bundle']}; in brackets the 95 % confidence interval",
        f"{'alteration':<27}{'Dice':>7}  {'cost':<27}"
        + "".join(f"{check:>9}" for check in ("warnings", "negative", "mirrored", "foreign")),
        f"{'unaltered':<27}{plain['dice']:>7.4f}  {'':<27}{_shares(plain)}",
    ]
    for found in figures["alterations"]:
        cost = f"{found['cost']:.4f}{_range(found['cost_ci95'], 4)}"
        mark = f"  above {tolerated}" if found["cost"] > tolerated else ""
        lines.append(f"{found['name']:<27}{found['dice']:>7.4f}  {cost:<27}{_shares(found)}{mark}")
    return [*lines, *figures.get("files", [])]


def _shares(found: dict[str, float]) -> str:
    """Of the files with any warning, read as a negative, flagged as mirrored, as no chest radiograph."""
    names = ("share_with_warnings", "share_negative", "share_mirrored", "share_foreign")
    return "".join(f"{found[name]:>9.1%}" for name in names)


def end_with_failures(sentences: Iterable[str]) -> None:
    """Lists the files that count in no figure; with one or more, the exit code says so too."""
    listed = list(sentences)
    for text in listed:
        complain(text)
    if listed:
        raise typer.Exit(1)


def _named(failed: dict[str, str]) -> str:
    """Two labelmaps that do not fit know no file's name."""
    name, error = failed["stem"], failed["error"]
    return error if name in error else f"{name}: {error}"


def _count_pairs(images: Path, masks: Path, limit: int | None, output: Path | None) -> int:
    """How many pairs there are to do; what would fail after the work fails before it."""
    from dino_diffusion.evaluation.labelfiles import pair_by_stem

    if output is not None:
        check_folder(output)
    return len(pair_by_stem(images, masks).limited(limit).matched)


def _write(table: Path, rows: list[dict[str, Any]], page: np.ndarray) -> list[str]:
    """The table and, beside it, the page; their paths."""
    from dino_diffusion.evaluation.cases import write_table
    from dino_diffusion.pictures import save_png

    return [str(write_table(rows, table)), str(save_png(page, table.with_name("worst_cases.png")))]


def _range(interval: tuple[float, float] | None, digits: int) -> str:
    return "" if interval is None else f" ({interval[0]:.{digits}f} to {interval[1]:.{digits}f})"
