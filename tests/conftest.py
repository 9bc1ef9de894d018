"""What every test shares: no network, few threads, the development data where it is there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Before anything imports torch or the hub: tests fetch nothing, and idle threads do not spin.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the development radiographs, which lies beside the checkout and never in it."""
    folder = REPOSITORY.parent / "shared" / "data" / "cxr"
    if not (folder / "metadata.csv").is_file():
        pytest.skip("needs the development radiographs, ../shared/data/cxr is not there")
    return folder
