"""Files a second of `segment --batch`, and how busy the models' device is meanwhile.

    python benchmarks/batch.py INPUT... [--batch N ...] [--bundle PATH|HUB] [--device NAME] [--json]

Each batch size labels all inputs, after one round of the first ones that starts processes and kernels. The
models' share is the part of the time in which this process waits for them; on an NVIDIA GPU its own mean
utilisation (`nvidia-smi`) stands beside it. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dino_diffusion.cli.segment_desk import File, Found
    from dino_diffusion.models import ModelBundle
    from dino_diffusion.view import ModelView

GPU_BATCHES, CPU_BATCHES = (1, 16, 32, 64, 128), (1, 8)

SAMPLING = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--loop-ms=100"]


def main() -> None:
    """One row a batch size."""
    options = parse()
    from dino_diffusion.cli.console import hush_libraries

    hush_libraries()
    from dino_diffusion.cli.segment_desk import named
    from dino_diffusion.device import choose_device
    from dino_diffusion.files.inputs import list_inputs
    from dino_diffusion.models import ModelBundle

    bundle = ModelBundle.from_pretrained(options.bundle, choose_device(options.device))
    files = named(list_inputs(options.inputs))
    batches = options.batch or (GPU_BATCHES if bundle.device.type == "cuda" else CPU_BATCHES)
    report = {"bundle": bundle.id, "device": str(bundle.device), "files": len(files)}
    rows = [measured(bundle, files, batch) for batch in batches]
    print(json.dumps(report | {"rows": rows}, indent=1) if options.json else "\n".join(table(report, rows)))


def parse() -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "inputs", nargs="+", type=Path, metavar="INPUT", help="radiographs, or folders of some"
    )
    parser.add_argument("--batch", nargs="+", type=int, metavar="N", help="files at once, one row each")
    parser.add_argument("--bundle", metavar="PATH|HUB", help="default: the one that travels with the package")
    parser.add_argument("--device", metavar="NAME", help="default: the first GPU, else the CPU")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser.parse_args()


def measured(bundle: ModelBundle, files: list[File], batch: int) -> dict[str, Any]:
    """All files, `batch` at once."""
    from dino_diffusion.cli.segment_desk import Desk
    from dino_diffusion.cli.segment_job import started

    waited = 0.0
    with (
        tempfile.TemporaryDirectory() as folder,
        started(bundle, Desk(bundle.size, Path(folder)), batch, len(files)) as job,
    ):

        def find(some: list[File], views: list[ModelView]) -> list[Found]:
            nonlocal waited
            start = time.perf_counter()
            found = job.find(some, views)
            waited += time.perf_counter() - start
            return found

        for _ in job.labelled(files[: 2 * batch]):
            pass
        with utilisation() as samples:
            start = time.perf_counter()
            failed = sum(
                isinstance(outcome, Exception) for _, outcome in replace(job, find=find).labelled(files)
            )
            seconds = time.perf_counter() - start
    return {
        "batch": batch,
        "seconds": seconds,
        "files_per_second": len(files) / seconds,
        "models_share": waited / seconds,
        "gpu_utilisation": fmean(samples) if samples else None,
        "failed": failed,
    }


@contextmanager
def utilisation() -> Iterator[list[float]]:
    """Percent, one sample every 100 ms, filled in at the end; none where there is no `nvidia-smi`."""
    samples: list[float] = []
    try:
        sampler = subprocess.Popen(SAMPLING, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    except FileNotFoundError:
        yield samples
        return
    try:
        yield samples
    finally:
        sampler.terminate()
        samples += [float(line) for line in sampler.communicate()[0].split() if line.strip().isdigit()]


def table(report: dict[str, Any], rows: list[dict[str, Any]]) -> list[str]:
    """Lines for a person."""
    lines = [f"bundle {report['bundle']} on {report['device']}, {report['files']} files", ""]
    lines.append(f"{'at once':>8}{'files/s':>10}{'models':>10}{'GPU':>8}{'failed':>8}")
    for row in rows:
        gpu = "-" if row["gpu_utilisation"] is None else f"{row['gpu_utilisation']:.0f} %"
        lines.append(
            f"{row['batch']:>8}{row['files_per_second']:>10.1f}{row['models_share']:>10.0%}{gpu:>8}"
            f"{row['failed']:>8}"
        )
    return lines


if __name__ == "__main__":
    main()
