"""`dino-diffusion concepts`: which concepts there are, and what is in a file of one."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from dino_diffusion.cli import options
from dino_diffusion.cli.console import Output
from dino_diffusion.cli.loading import load_bundle


def concepts(
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="CONCEPT", help="Names or files.", show_default="all shipped ones"),
    ] = None,
    json: options.Json = False,
    bundle: options.Bundle = None,
    quiet: options.Quiet = False,
) -> None:
    """List the concepts that travel with the package, or describe some; says whether they fit the bundle."""
    console = Output(quiet, json)
    with console.document() as document:
        loaded = load_bundle(bundle, "cpu", console)
        from dino_diffusion.generation.concept import model_id
        from dino_diffusion.generation.library import ALIASES, find_concept, shipped

        model = model_id(loaded)
        aliases = {full: alias for alias, full in ALIASES.items()}
        found = []
        for name in files or shipped():
            concept = find_concept(name)
            about = concept.about() | {"vectors": len(concept.vectors), "fits": concept.model == model}
            found.append({"called": name, "alias": aliases.get(name), **about})
        document |= {"model": model, "concepts": found}
    console.say(*(line for entry in document["concepts"] for line in describe(entry)))
    if not document["concepts"]:
        console.say("No concept travels with this package; learn one with dino-diffusion invert.")


def describe(entry: dict[str, Any]) -> list[str]:
    """Lines for a person."""
    also = f" (also '{entry['alias']}')" if entry["alias"] else ""
    learnt = f"{entry['steps']} steps" if entry["steps"] else "class mean, no training"
    images = f"{entry['images']} images" + (f" of {entry['source']}" if entry["source"] else "")
    lines = [
        f"{entry['called']}{also}: {entry['vectors']} vectors, {images}, {learnt}"
        + (f", against {entry['against']}" if entry["against"] else "")
        + ("" if entry["fits"] else "; not for this bundle")
    ]
    lines += [f"    {entry[name]}" for name in ("description", "licence") if entry[name]]
    return lines
