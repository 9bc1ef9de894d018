"""From trained parts to a shipped bundle: `assemble`, `replace-decoder`, `replace-readout`,
`evaluate bundle`, `card`, `install-bundle`."""

from __future__ import annotations

import json as json_text
from pathlib import Path
from typing import Annotated, Any

import typer

from dino_diffusion.cli import options
from dino_diffusion.cli.console import Output, complain, hush_libraries
from dino_diffusion.cli.evaluate import describe
from dino_diffusion.cli.generate import sample
from dino_diffusion.cli.loading import load_bundle
from dino_diffusion.errors import ConfigurationError


def _folder(name: str, what: str) -> typer.models.OptionInfo:
    return typer.Option(f"--{name}", metavar="DIR", help=what)


def assemble(
    encoder: Annotated[Path, _folder("encoder", "The encoder's run, or its folder of weights.")],
    autoencoder: Annotated[Path, _folder("autoencoder", "The autoencoder's.")],
    denoiser: Annotated[Path, _folder("denoiser", "The denoiser's.")],
    readout: Annotated[Path, _folder("readout", "The readout's.")],
    latents: Annotated[Path, _folder("latents", "The denoiser run's latents, for the prior.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="BUNDLE", help="The bundle's folder.")],
    components: Annotated[
        int | None,
        typer.Option(min=1, metavar="K", help="Principal components of the token prior.", show_default="192"),
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Put trained parts together as a model bundle, with a token prior and a note of where they come from."""
    console = Output(quiet)
    with console.progress("Assembling the bundle"):
        hush_libraries()
        from dino_diffusion.training.assemble import COMPONENTS
        from dino_diffusion.training.assemble import assemble as put_together

        folders = {
            "encoder": encoder,
            "autoencoder": autoencoder,
            "denoiser": denoiser,
            "readout": readout,
        }
        bundle = put_together(folders, latents, output, components or COMPONENTS)
    console.say(f"bundle {bundle.id}: {output}")


def replace_decoder(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="An autoencoder's run, or its folder of weights.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="BUNDLE", help="The new bundle's folder.")
    ],
    bundle: options.Bundle = None,
    quiet: options.Quiet = False,
) -> None:
    """Give a bundle the decoder of another autoencoder; latents, and all that rests on them, stay."""
    console = Output(quiet)
    with console.progress("Replacing the decoder"):
        hush_libraries()
        from dino_diffusion.models.bundle import locate_bundle
        from dino_diffusion.training.assemble import replace_decoder as put_in

        made = put_in(locate_bundle(bundle), run, output)
    console.say(f"bundle {made.id}: {output}")


def replace_readout(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A readout's run, or its folder of weights.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="BUNDLE", help="The new bundle's folder.")
    ],
    bundle: options.Bundle = None,
    quiet: options.Quiet = False,
) -> None:
    """Give a bundle another head that reads lungs; everything that is generated stays."""
    console = Output(quiet)
    with console.progress("Replacing the head"):
        hush_libraries()
        from dino_diffusion.models.bundle import locate_bundle
        from dino_diffusion.training.assemble import replace_readout as put_in

        made = put_in(locate_bundle(bundle), run, output)
    console.say(f"bundle {made.id}: {output}")


def evaluate_bundle(
    data: Annotated[Path, typer.Option(metavar="CSV", help="List of radiographs with splits and masks.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="figures.json to write or add to.")
    ],
    only: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Some of autoencoder,segmentation,generation,matched,likeness,memorisation.",
            show_default="all",
        ),
    ] = None,
    missing: Annotated[
        bool, typer.Option("--missing", help="Measure only what FILE does not hold of this bundle.")
    ] = False,
    split: Annotated[
        str, typer.Option(metavar="NAME", help="Split of the masks: dev to choose by, test once a release.")
    ] = "dev",
    holdout: Annotated[
        str, typer.Option(metavar="NAME", help="Split that no part was trained on.")
    ] = "holdout",
    limit: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="At most N images for autoencoder and lungs.", show_default="all"
        ),
    ] = None,
    samples: Annotated[
        int, typer.Option(min=10, metavar="N", help="Synthetic images; twice as many real ones.")
    ] = 200,
    latents: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="The denoiser run's latents: its training tokens.", show_default="none"
        ),
    ] = None,
    work: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Keep the synthetic images there as they are made: the same command goes on with them, and "
            "started twice it shares the work.",
            show_default="none",
        ),
    ] = None,
    seed: options.Seed = 0,
    json: options.Json = False,
    bundle: options.Bundle = None,
    device: options.Device = None,
    quiet: options.Quiet = False,
) -> None:
    """Every figure of a bundle's card: round trips, lungs, generation, likeness, memorisation.

    FILE is written after each figure, so a long measurement can be done in parts.
    """
    console = Output(quiet, json)
    with console.document() as document:
        loaded = load_bundle(bundle, device, console)
        from dino_diffusion.evaluation.release import SECTIONS, Measurement, measure_bundle, missing_sections

        before = read_json(output) if output.exists() else {}
        chosen = list(SECTIONS) if only is None else [name.strip() for name in only.split(",")]
        if missing:
            lacking = missing_sections(before, loaded.id, split)
            chosen = [name for name in chosen if name in lacking]
        measurement = Measurement(
            loaded, data, split, holdout, limit, samples, latents, seed, console.progress, work
        )
        document |= measure_bundle(
            measurement,
            chosen,
            before,
            lambda figures: write_json(figures, output),
            strict=only is not None,
        )
        figures = dict(document)
    console.say(*summary(figures), str(output))


def summary(figures: dict[str, Any]) -> list[str]:
    """Lines for a person."""
    lines = [f"bundle {figures['bundle']}"]
    for name, group in (figures.get("autoencoder") or {}).items():
        if isinstance(group, dict):
            lines.append(f"autoencoder, {name}: PSNR {group['psnr']['mean']:.2f} dB, n = {group['n']}")
    for split, found in figures.get("segmentation", {}).items():
        lines.append(f"lungs, {split}: Dice {found['dice']['mean']:.4f}, p5 {found['dice']['p5']:.4f}")
    for values in figures.get("generation", {}).get("nets", []):
        lines += describe(values)
    for values in figures.get("likeness", {}).get("nets", []):
        lines.append(f"likeness, {values['net']}: {values['own']:.3f}, nearest {values['nearest']:.2f}")
    if found := figures.get("memorisation"):
        lines.append(f"suspected copies: {found['share']:.3f} (expected {found['expected_share']:.3f})")
        if (nearer := found.get("nearer_than_any")) is not None:
            lines.append(f"nearer to a training image than any held-out one: {nearer}")
    return lines + [f"skipped {name}: {why}" for name, why in figures.get("skipped", {}).items()]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file's document. Raises ConfigurationError if it is none."""
    try:
        return dict(json_text.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigurationError(
            f"{path}: is no JSON document of ours; name another file or delete it."
        ) from error


def write_json(document: dict[str, Any], path: Path) -> None:
    """The whole document or nothing."""
    from dino_diffusion.files.atomic import atomic_path

    with atomic_path(path) as temporary:
        temporary.write_text(json_text.dumps(document, indent=1, allow_nan=False) + "\n")


def card(
    figures: Annotated[Path, typer.Option(metavar="FILE", help="figures.json of `evaluate bundle`.")],
    bundle: Annotated[
        Path, typer.Option(metavar="DIR", help="The bundle's folder, in which the card appears.")
    ],
    fault: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="A known fault to add; again for more.", show_default="none"),
    ] = None,
    device: options.Device = None,
    quiet: options.Quiet = False,
) -> None:
    """Write a bundle's model card, its figures and a page of its first samples into its folder."""
    console = Output(quiet)
    measured = read_json(figures)
    loaded = load_bundle(str(bundle), device, console)
    if measured.get("bundle") != loaded.id:
        raise ConfigurationError(
            f"{figures}: these are figures of bundle {measured.get('bundle')}, {bundle} is {loaded.id}; "
            "measure it with evaluate bundle."
        )
    from dino_diffusion.evaluation.card import SAMPLES_PICTURE, SHOWN, write_card
    from dino_diffusion.evaluation.install import FIGURES
    from dino_diffusion.files.atomic import atomic_path
    from dino_diffusion.models.bundle import CARD
    from dino_diffusion.pictures import contact_sheet, save_png
    from dino_diffusion.training.provenance import PROVENANCE

    notes = bundle / PROVENANCE
    text = write_card(measured, read_json(notes) if notes.exists() else {}, tuple(fault or ()))
    made = sample(loaded, console, SHOWN)
    captions = [f"seed 0, {k}" for k in range(SHOWN)]
    sheet = contact_sheet([item.pixels for item in made], captions, tile=144, title="Synthetic, none picked")
    save_png(sheet, bundle / SAMPLES_PICTURE)
    write_json(measured, bundle / FIGURES)
    with atomic_path(bundle / CARD) as temporary:
        temporary.write_text(text)
    console.say(str(bundle / CARD))


def install_bundle(
    bundle: Annotated[
        Path, typer.Argument(metavar="BUNDLE", help="A bundle's folder, with figures and card.")
    ],
    force: Annotated[bool, typer.Option("--force", help="Install it even if its figures are worse.")] = False,
    into: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where to.", show_default="the package's default bundle"),
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Make a bundle the default one, unless its dev Dice or its KID is worse than the installed one's."""
    console = Output(quiet)
    with console.progress("Comparing the bundles"):
        hush_libraries()
        from dino_diffusion.evaluation.install import install_bundle as install
        from dino_diffusion.models.bundle import default_bundle

        target = into or default_bundle()
        objections = install(bundle, target, force)
    for objection in objections:
        complain(f"Installed although {objection}.")
    console.say(f"installed: {target}")
