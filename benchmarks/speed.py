"""How long segmenting and generating take, as a multiple of one denoiser pass, and how much memory.

    python benchmarks/speed.py [IMAGE] [--bundle PATH|HUB] [--device NAME] [--repeats N] [--json]

Seconds depend on the machine and on what else it does; the multiple of a denoiser pass, measured in the same
run, hardly does. Without IMAGE, one of the shipped samples is used. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

from timing import denoiser_pass, median_seconds

GENERATED = 4
"""Pictures of one `generate` call, as in the demo."""

LIMITS_GB = {"segment": 2.0, "generate": 3.0}
"""What the project promises for the command line on a CPU."""


def main() -> None:
    """Memory comes first: a child's peak counts at least what this process held when it started the child."""
    options = parse()
    image = options.image or sample_image()
    memory = {task: peak_gb(task, image, options) for task in LIMITS_GB}
    report = {"image": image.name, **measure(image, options), "peak_gb": memory}
    if options.json:
        print(json.dumps(report, indent=1))
    else:
        print(*table(report), sep="\n")


def parse() -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "image", nargs="?", type=Path, help="radiograph to segment (default: a shipped sample)"
    )
    parser.add_argument("--bundle", metavar="PATH|HUB", help="default: the one that travels with the package")
    parser.add_argument("--device", metavar="NAME", help="default: the first GPU, else the CPU")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="median of N warm calls")
    parser.add_argument("--steps", type=int, default=None, metavar="K", help="sampling steps of generate")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser.parse_args()


def sample_image() -> Path:
    """The first shipped sample."""
    folder = Path(str(resources.files("dino_diffusion"))) / "samples"
    found = sorted(path for path in folder.glob("*") if path.suffix in (".png", ".dcm"))
    if not found:
        sys.exit(f"{folder}: no sample radiograph there; name an image.")
    return found[0]


def peak_gb(task: str, image: Path, options: argparse.Namespace) -> float:
    """Peak resident memory of the command line doing `task`, in a process of its own, GB."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = [task, "-o", folder, "--quiet"]
        arguments += [str(image)] if task == "segment" else ["-n", str(GENERATED)]
        arguments += ["--steps", str(options.steps)] if options.steps and task == "generate" else []
        for name in ("bundle", "device"):
            arguments += [f"--{name}", getattr(options, name)] if getattr(options, name) else []
        child = [sys.executable, "-c", CHILD, *arguments]
        done = subprocess.run(child, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{task} failed: {done.stderr.strip()}")
    return int(done.stdout.split()[-1]) / (1e9 if sys.platform == "darwin" else 1024**2)


CHILD = """
import resource
from dino_diffusion.cli import main
try:
    main()
except SystemExit as end:
    if end.code:
        raise
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def measure(image: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Warm times, seconds an image, and what they are in denoiser passes."""
    from dino_diffusion.cli.console import hush_libraries

    hush_libraries()
    import torch

    from dino_diffusion.device import choose_device
    from dino_diffusion.generation import variants
    from dino_diffusion.models import ModelBundle
    from dino_diffusion.radiograph import Radiograph
    from dino_diffusion.segmentation.lungs import segment_lungs

    device = choose_device(options.device)
    bundle = ModelBundle.from_pretrained(options.bundle, device)
    steps = options.steps or variants.DEFAULT_STEPS
    radiograph = Radiograph.read(image)

    tasks: dict[str, tuple[Callable[[], object], int]] = {
        "denoiser pass": (denoiser_pass(bundle), 1),
        "read": (lambda: Radiograph.read(image), 1),
        "segment": (lambda: segment_lungs(bundle, radiograph), 1),
        "generate, one": (lambda: variants.generate(bundle, 1, steps=steps), 1),
        f"generate, {GENERATED} at once": (
            lambda: variants.generate(bundle, GENERATED, steps=steps),
            GENERATED,
        ),
    }
    seconds = {name: median_seconds(work, options.repeats) / count for name, (work, count) in tasks.items()}
    unit = seconds["denoiser pass"]
    return {
        "bundle": bundle.id,
        "device": str(device),
        "threads": torch.get_num_threads(),
        "steps": steps,
        "repeats": options.repeats,
        "shape": list(radiograph.shape),
        "seconds_per_image": seconds,
        "denoiser_passes": {name: value / unit for name, value in seconds.items()},
    }


def table(report: dict[str, Any]) -> list[str]:
    """Lines for a person."""
    height, width = report["shape"]
    lines = [
        f"bundle {report['bundle']} on {report['device']}, {report['threads']} threads",
        f"{report['image']} ({width} x {height}), {report['steps']} steps, median of {report['repeats']}",
        "",
        f"{'per image':<22}{'seconds':>10}{'denoiser passes':>18}",
    ]
    for name, seconds in report["seconds_per_image"].items():
        lines.append(f"{name:<22}{seconds:>10.4f}{report['denoiser_passes'][name]:>18.1f}")
    lines += ["", f"{'peak memory':<22}{'GB':>10}{'limit on a CPU':>18}"]
    for task, peak in report["peak_gb"].items():
        name = f"generate -n {GENERATED}" if task == "generate" else task
        lines.append(f"{name:<22}{peak:>10.2f}{LIMITS_GB[task]:>18.1f}")
    return lines


if __name__ == "__main__":
    main()
