"""What each kind of condition token is worth to a trained denoiser: held-out loss with some of them missing.

    python benchmarks/tokens.py METADATA.csv [--images N] [--bundle PATH|HUB] [--write FILE]

Training lets tokens go missing, alone and together, so the denoiser knows each of these cases; nothing is
trained here. All cases see the same held-out radiographs, flow times and noise.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from documents import write_between

from dino_diffusion.cli.console import hush_libraries
from dino_diffusion.errors import DinoDiffusionError

if TYPE_CHECKING:
    import torch

    from dino_diffusion.models import ModelBundle

SCRIPT = "benchmarks/tokens.py"
CASES = {
    "CLS and patches": (True, True),
    "CLS alone": (True, False),
    "patches alone": (False, True),
    "none": (False, False),
}
BATCH = 8


def main() -> None:
    """Measures and prints the table."""
    options = parse()
    hush_libraries()
    from dino_diffusion.evaluation import EvaluationError, evenly
    from dino_diffusion.models import ModelBundle
    from dino_diffusion.training.corpus import load_corpus

    try:
        bundle = ModelBundle.from_pretrained(options.bundle)
        if not bundle.denoiser.config.token_grid:
            raise EvaluationError(
                "This bundle's denoiser has no patch tokens: there is nothing to leave out."
            )
        items = load_corpus(options.data, ["holdout"])
        files = [items[i].path for i in evenly(len(items), options.images)]
        text = table(bundle, losses(bundle, files))
    except DinoDiffusionError as error:
        sys.exit(str(error))
    print(text)
    if options.write:
        write_between(options.write, SCRIPT, text)


def parse() -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path, metavar="METADATA.csv", help="images with split holdout")
    parser.add_argument("--images", type=int, default=64, metavar="N", help="evenly picked")
    parser.add_argument("--bundle", metavar="PATH|HUB", help="default: the one that travels with the package")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table into this document")
    return parser.parse_args()


def losses(bundle: ModelBundle, files: list[Path]) -> dict[str, torch.Tensor]:
    """Flow loss of each case, `(images, times)`."""
    import torch
    from tqdm import tqdm

    from dino_diffusion.models import Frame
    from dino_diffusion.radiograph import Radiograph
    from dino_diffusion.training.denoiser import VALIDATION_TIMES

    denoiser = bundle.denoiser
    found: dict[str, list[torch.Tensor]] = {name: [] for name in CASES}
    generator = torch.Generator().manual_seed(0)
    for start in tqdm(range(0, len(files), BATCH), "loss of held-out radiographs"):
        part = files[start : start + BATCH]
        pixels = torch.cat([Radiograph.read(file).model_view(bundle.size).pixels for file in part])
        with torch.inference_mode():
            clean, tokens = bundle.autoencoder.encode(pixels), bundle.encoder(pixels)
            frames = clean.new_tensor([Frame(size=bundle.size).numbers()]).expand(len(clean), -1)
            draws = [torch.randn(clean.shape, generator=generator) for _ in VALIDATION_TIMES]
            for name, (cls, patches) in CASES.items():
                present = torch.full((len(clean), denoiser.tokens), patches)
                present[:, 0] = cls
                condition = denoiser.condition(tokens, frames, present)
                each = []
                for t, eps in zip(VALIDATION_TIMES, draws, strict=True):
                    noisy = torch.lerp(clean, eps, t)
                    velocity = denoiser(noisy, torch.full((len(clean),), t), condition)
                    each.append((velocity - (eps - clean)).square().mean((1, 2, 3)))
                found[name].append(torch.stack(each, 1))
    return {name: torch.cat(parts) for name, parts in found.items()}


def table(bundle: ModelBundle, found: dict[str, torch.Tensor]) -> str:
    """Markdown, each case beside the first."""
    from dino_diffusion.training.denoiser import VALIDATION_TIMES

    first = next(iter(found.values()))
    times = [f"at t {t:g}" for t in VALIDATION_TIMES]
    lines = [
        f"Bundle `{bundle.id}`, {len(first)} held-out radiographs at {bundle.size} px, noise shared.",
        "",
        "| tokens | held-out flow loss | above the first row (95 % interval) | " + " | ".join(times) + " |",
        "|---" * (3 + len(times)) + "|",
    ]
    for name, values in found.items():
        more = (values - first).mean(1)
        spread = 1.96 * float(more.std()) / len(more) ** 0.5
        middle = float(more.mean())
        interval = "" if values is first else f"{middle:.3f} ({middle - spread:.3f} to {middle + spread:.3f})"
        cells = [
            name,
            f"{float(values.mean()):.3f}",
            interval,
            *(f"{v:.3f}" for v in values.mean(0).tolist()),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
