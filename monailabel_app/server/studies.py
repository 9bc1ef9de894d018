"""Where the radiographs come from."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import dino_diffusion
from dino_diffusion.errors import ConfigurationError
from dino_diffusion.files.formats import SUFFIXES

SAMPLES = Path(dino_diffusion.__file__).parent / "samples"


def is_address(studies: str) -> bool:
    """Whether `studies` is a DICOMweb service rather than a folder."""
    return studies.startswith(("http://", "https://"))


def find_studies(studies: str, state: Path) -> str:
    """What MONAI Label takes: an address or a whole path; copies of the samples where nothing is given.

    Raises ConfigurationError for a folder that is missing or cannot be written to.
    """
    if not studies:
        return str(sample_studies(state / "samples"))
    if is_address(studies):
        return studies.rstrip("/")
    folder = Path(studies).expanduser().resolve()
    if not folder.is_dir():
        raise ConfigurationError(f"{studies}: there is no such folder; name one that holds radiographs.")
    if not os.access(folder, os.W_OK):
        raise ConfigurationError(f"{studies}: labels are kept beside the images; make the folder writable.")
    return str(folder)


def sample_studies(folder: Path) -> Path:
    """The package's synthetic radiographs where labels may be written."""
    folder.mkdir(parents=True, exist_ok=True)
    endings = tuple(ending for known in SUFFIXES.values() for ending in known)
    for path in SAMPLES.iterdir():
        if path.name.endswith(endings) and not (folder / path.name).exists():
            shutil.copyfile(path, folder / path.name)
    return folder
