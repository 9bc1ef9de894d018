"""The concepts that travel with the package, learnt for the default bundle: about 20 minutes on two cores.

    python scripts/make_concepts.py ../shared/data/cxr/metadata.csv [--only nih/effusion] [--work DIR]

They belong to the bundle they were learnt for: run this again whenever the default bundle is replaced. At the
end each concept of the folder is given its opposite, findings normal films and these all findings.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from pathlib import Path

from dino_diffusion.cli.console import hush_libraries
from dino_diffusion.generation.concept import ENDING, Concept, model_id
from dino_diffusion.generation.invert import DEFAULT_STEPS, DEFAULT_VECTORS, invert
from dino_diffusion.generation.library import shipped_folder
from dino_diffusion.generation.starters import STARTERS, choose, contrasts, opposed, read_rows
from dino_diffusion.models import ModelBundle


def main() -> None:
    """Learns what is asked for and says from how many images."""
    options = parse()
    hush_libraries()
    bundle = ModelBundle.from_pretrained(options.bundle)
    rows = [row for row in read_rows(options.data) if row["split"] == "train"]
    contrast: dict[str, float] = {}
    for starter in STARTERS:
        if options.only and starter.full_name not in options.only:
            continue
        began = time.perf_counter()
        own = [row for row in rows if row["source"] == starter.source]
        if own and own[0]["image"] not in contrast:
            contrast |= contrasts(options.data.parent, own)
        chosen = choose(own, starter.finding, contrast)
        concept = invert(
            bundle,
            [options.data.parent / row["image"] for row in chosen],
            starter.name,
            options.vectors,
            options.steps,
            folder=options.work and options.work / starter.full_name,
            licence="; ".join(sorted({row["licence"] for row in chosen})),
            source=starter.source,
            description=starter.description,
            code=starter.code,
        )
        path = concept.save(options.output / f"{starter.full_name}{ENDING}")
        views = ", ".join(f"{count} {view}" for view, count in Counter(r["view"] for r in chosen).items())
        patients, figures = len({row["patient_id"] for row in chosen}), concept.settings["figures"]
        print(
            f"{starter.full_name}: {len(chosen)} images of {patients} patients ({views}), "
            f"{time.perf_counter() - began:.0f} s, {path.stat().st_size / 1000:.1f} kB; flow loss of these "
            f"images {figures['flow']:.4f}, class mean {figures['flow_class_mean']:.4f}",
            flush=True,
        )
    oppose(options.output, model_id(bundle))


def oppose(folder: Path, model: str) -> None:
    """Gives the folder's concepts that were learnt for `model` their opposites."""
    paths = {starter.full_name: folder / f"{starter.full_name}{ENDING}" for starter in STARTERS}
    found = {name: Concept.load(path) for name, path in paths.items() if path.is_file()}
    told_apart = opposed({name: concept for name, concept in found.items() if concept.model == model})
    for name, concept in told_apart.items():
        concept.save(paths[name])
        print(f"{name}: against {concept.against or 'nothing'}", flush=True)


def parse() -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path, help="metadata.csv of the development data")
    parser.add_argument("--bundle", metavar="PATH|HUB", help="default: the one that travels with the package")
    parser.add_argument("--only", action="append", choices=[starter.full_name for starter in STARTERS])
    parser.add_argument("--vectors", type=int, default=DEFAULT_VECTORS, metavar="K")
    parser.add_argument("--steps", type=int, default=DEFAULT_STEPS, metavar="N")
    parser.add_argument(
        "--work", type=Path, metavar="DIR", help="keep latents and checkpoints: goes on there"
    )
    parser.add_argument("-o", "--output", type=Path, default=shipped_folder(), metavar="DIR")
    return parser.parse_args()


if __name__ == "__main__":
    main()
