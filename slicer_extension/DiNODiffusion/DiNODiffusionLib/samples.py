"""The project's synthetic radiographs in Slicer's Sample Data module. They show no patient."""

from __future__ import annotations

import hashlib
from pathlib import Path

SAMPLES = ("synthetic-1.png", "synthetic-2.png", "synthetic-3.png")


def register(module: Path) -> None:
    """Adds the sample radiographs that lie on this machine; nothing is fetched."""
    try:
        import SampleData
    except ImportError:
        return
    # Installed, they lie beside the module; in a checkout, where the project keeps them.
    folders = (module / "Resources" / "Samples", module.parent.parent / "core" / "dino_diffusion" / "samples")
    for number, name in enumerate(SAMPLES, start=1):
        file = next((folder / name for folder in folders if (folder / name).exists()), None)
        if file is None:
            continue
        SampleData.SampleDataLogic.registerCustomSampleDataSource(
            category="DiNO-Diffusion",
            sampleName=f"SyntheticChest{number}",
            thumbnailFileName=str(file),
            uris=file.as_uri(),
            fileNames=name,
            nodeNames=f"Synthetic chest {number}",
            checksums="SHA256:" + hashlib.sha256(file.read_bytes()).hexdigest(),
            loadFileProperties={"singleFile": True},
        )
