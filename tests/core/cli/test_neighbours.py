"""`dino-diffusion neighbours`: the most similar first, never the picture itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.core.cli.conftest import save_picture

Command = Callable


def test_the_same_picture_under_another_name_comes_first(
    command: Command, radiographs: Path, bundle_folder: Path
) -> None:
    """Seed 1 is that of b.png."""
    save_picture(radiographs / "twin.png", 1)
    arguments = ("neighbours", radiographs / "b.png", radiographs, "-n", 2, "--bundle", bundle_folder)
    document = json.loads(command(*arguments, "--json").stdout)
    assert document["compared"] == 3
    assert document["neighbours"][0]["name"] == "twin"
    assert document["neighbours"][0]["similarity"] > document["neighbours"][1]["similarity"]
    assert document["nearest_training_image"] is None
    assert command(*arguments).stdout.splitlines()[0].endswith("twin")


def test_what_cannot_be_compared_is_one_sentence(command: Command, radiographs: Path, tmp_path: Path) -> None:
    for arguments in ((tmp_path / "missing.png", radiographs), (radiographs / "a.png", tmp_path / "none")):
        done = command("neighbours", *arguments)
        assert done.exit_code == 1 and "Traceback" not in done.output
