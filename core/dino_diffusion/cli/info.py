"""`dino-diffusion info`: what is installed and what is in a bundle."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dino_diffusion import __version__
from dino_diffusion.cli import options
from dino_diffusion.cli.console import Output
from dino_diffusion.cli.loading import load_bundle

if TYPE_CHECKING:
    from dino_diffusion.models import ModelBundle

PACKAGES = ("torch", "diffusers", "transformers", "monai", "SimpleITK", "pydicom", "highdicom", "numpy")
CARD_LINES = 12


def info(
    bundle: options.Bundle = None,
    json: options.Json = False,
    device: options.Device = None,
    quiet: options.Quiet = False,
) -> None:
    """Show a bundle's parts, sizes and card, the device, and the versions that count."""
    console = Output(quiet, json)
    with console.document() as document:
        loaded = load_bundle(bundle, device, console)
        from dino_diffusion.device import device_name

        document |= {
            "version": __version__,
            "python": platform.python_version(),
            "packages": {name: _version(name) for name in PACKAGES},
            "device": str(loaded.device),
            "device_name": device_name(loaded.device),
            "bundle": _contents(loaded),
        }
        report = document
    console.say(*describe(report))


def describe(report: dict[str, Any]) -> list[str]:
    """Lines for a person."""
    bundle = report["bundle"]
    lines = [
        f"dino-diffusion {report['version']}, Python {report['python']}",
        ", ".join(f"{name} {number or '-'}" for name, number in report["packages"].items()),
        f"device: {report['device']} ({report['device_name']})",
        "",
        f"bundle {bundle['id']}: {bundle['folder']}",
        f"pictures of {bundle['size']} x {bundle['size']} pixels, {_megabytes(bundle['bytes'])} on disk",
    ]
    for name, part in bundle["parts"].items():
        size = f"{part['parameters'] / 1e6:8.2f} M values  {_megabytes(part['bytes']):>8}"
        lines.append(f"  {name:<12} {part['class']:<12} {size}")
    card = bundle["card"].strip().splitlines() if bundle["card"] else ["(The bundle has no model card.)"]
    lines += ["", *card[:CARD_LINES]]
    if len(card) > CARD_LINES:
        lines.append(f"... (the whole card: {Path(bundle['folder']) / 'README.md'})")
    return lines


def _contents(bundle: ModelBundle) -> dict[str, Any]:
    folder = bundle.folder or Path()
    parts = {
        name: {
            "class": type(part).__name__,
            "parameters": sum(value.numel() for value in part.state_dict().values()),
            "bytes": _size_on_disk(folder / name),
        }
        for name, part in bundle.parts().items()
    }
    return {
        "id": bundle.id,
        "folder": str(folder),
        "size": bundle.size,
        "bytes": _size_on_disk(folder),
        "parts": parts,
        "card": bundle.card(),
    }


def _size_on_disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
