"""What was drawn is kept and shared; how it is kept changes no pixel."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from filelock import FileLock

from dino_diffusion.evaluation import drawn as module
from dino_diffusion.evaluation.drawn import BLOCK, Drawing, drawn
from dino_diffusion.models import ModelBundle
from tests.tiny import SIZE, tiny_bundle

DRAWING = Drawing(seed=3, steps=2)


@pytest.fixture(scope="module")
def bundle() -> ModelBundle:
    return tiny_bundle()


def test_kept_pictures_are_those_of_a_draw_in_one_go(bundle: ModelBundle, tmp_path: Path) -> None:
    pictures = drawn(bundle, BLOCK + 3, DRAWING)
    assert pictures.shape == (BLOCK + 3, 1, SIZE, SIZE)
    assert torch.equal(drawn(bundle, BLOCK + 3, DRAWING, tmp_path), pictures)


def test_a_stopped_draw_goes_on(bundle: ModelBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = drawn(bundle, 2 * BLOCK, DRAWING)
    drawn(bundle, BLOCK, DRAWING, tmp_path)
    first = []
    honest = module.generate
    monkeypatch.setattr(
        module, "generate", lambda *a, **given: first.append(given["first"]) or honest(*a, **given)
    )
    heard: list[int] = []
    assert torch.equal(drawn(bundle, 2 * BLOCK, DRAWING, tmp_path, heard.append), whole)
    assert first == [BLOCK], "a block that was there was made again"
    assert sum(heard) == 2 * BLOCK


def test_other_settings_and_bundles_lie_apart(bundle: ModelBundle, tmp_path: Path) -> None:
    folders = {DRAWING.folder(tmp_path, bundle), Drawing(seed=4, steps=2).folder(tmp_path, bundle)}
    assert len(folders | {DRAWING.folder(tmp_path, tiny_bundle(seed=1))}) == 3


def test_a_block_in_work_elsewhere_is_left_for_the_end(
    bundle: ModelBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = DRAWING.folder(tmp_path, bundle)
    folder.mkdir(parents=True)
    lock = FileLock(folder / "00000.lock")
    order, honest = [], module.generate

    def generate(*given: object, **settings: object) -> object:
        order.append(settings["first"])
        lock.release(force=True)
        return honest(*given, **settings)

    monkeypatch.setattr(module, "generate", generate)
    lock.acquire()
    drawn(bundle, 2 * BLOCK, DRAWING, tmp_path)
    assert order == [BLOCK, 0]
