"""A bundle on disk: what is saved comes back, and what is broken is said in one sentence."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from dino_diffusion.errors import BundleError
from dino_diffusion.models import Autoencoder, DinoEncoder, ModelBundle
from dino_diffusion.models.bundle import INDEX, MAX_SHARD, PARTS
from tests.tiny import CARD, LATENT_CHANNELS, TOKEN_GRID, saved_tiny_bundle, tiny_backbone, tiny_bundle


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Never changed: tests that break a bundle break a copy."""
    return saved_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    return shutil.copytree(saved, tmp_path / "copy")


def test_weights_come_back_as_stored_in_half_precision(saved: Path) -> None:
    before, after = tiny_bundle(), ModelBundle.from_pretrained(saved)
    for name, part in before.parts().items():
        stored = after.parts()[name].state_dict()
        assert stored.keys() == part.state_dict().keys()
        for key, value in part.state_dict().items():
            expected = value.half().float() if value.is_floating_point() else value
            assert torch.equal(stored[key], expected), f"{name}.{key}"
            assert stored[key].dtype == expected.dtype


def test_the_id_names_the_weights_not_the_folder(saved: Path, copy: Path) -> None:
    name = ModelBundle.from_pretrained(saved).id
    assert name == ModelBundle.from_pretrained(copy).id == tiny_bundle().id
    assert name != tiny_bundle(seed=1).id
    assert len(name) == 16


def test_saving_leaves_the_bundle_in_memory_as_it_was(tmp_path: Path) -> None:
    bundle = tiny_bundle()
    before = {key: value.clone() for key, value in bundle.denoiser.state_dict().items()}
    bundle.save_pretrained(tmp_path / "bundle")
    assert all(torch.equal(before[key], value) for key, value in bundle.denoiser.state_dict().items())


def test_settings_and_card_come_back(saved: Path) -> None:
    bundle = ModelBundle.from_pretrained(saved)
    assert (bundle.size, bundle.latent_shape) == (64, (LATENT_CHANNELS, 8, 8))
    assert bundle.denoiser.config.token_grid == TOKEN_GRID
    assert bundle.card() == CARD


def test_a_loaded_bundle_is_ready_for_inference(saved: Path) -> None:
    bundle = ModelBundle.from_pretrained(saved)
    for part in bundle.parts().values():
        assert not part.training
        assert not any(weight.requires_grad for weight in part.parameters())


def test_only_safetensors_in_files_of_bounded_size(saved: Path) -> None:
    files = [path for path in saved.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".safetensors", ".md"}
    assert all(path.stat().st_size < 15_000_000 for path in files)
    assert MAX_SHARD == "14MB"


def test_a_saved_bundle_replaces_the_one_before_as_a_whole(copy: Path) -> None:
    (copy / "leftover.json").write_text("{}")
    tiny_bundle(seed=1).save_pretrained(copy)
    assert not (copy / "leftover.json").exists()
    assert ModelBundle.from_pretrained(copy).id == tiny_bundle(seed=1).id
    assert [path.name for path in copy.parent.iterdir()] == [copy.name]


@pytest.mark.parametrize("before", ["file", "folder of files"])
def test_saving_never_deletes_what_is_no_bundle(tmp_path: Path, before: str) -> None:
    target = tmp_path / "target"
    precious = target if before == "file" else target / "notes.txt"
    precious.parent.mkdir(exist_ok=True)
    precious.write_text("mine")
    with pytest.raises(BundleError, match="name another folder"):
        tiny_bundle().save_pretrained(target)
    assert precious.read_text() == "mine"


class Payload:
    """Unpickled, it would leave a file behind."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("part", PARTS)
def test_a_pickle_is_never_loaded(copy: Path, tmp_path: Path, part: str) -> None:
    for weights in (copy / part).glob("*.safetensors"):
        weights.unlink()
    for name in ("pytorch_model.bin", "diffusion_pytorch_model.bin"):
        (copy / part / name).write_bytes(pickle.dumps(Payload(tmp_path / "trace")))
    with pytest.raises(BundleError, match="no safetensors weights"):
        ModelBundle.from_pretrained(copy)
    assert not (tmp_path / "trace").exists()


def test_a_pickled_backbone_is_refused_too(tmp_path: Path) -> None:
    backbone = tiny_backbone()
    backbone.config.save_pretrained(tmp_path)
    torch.save(backbone.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(BundleError, match="cannot be loaded"):
        DinoEncoder.from_backbone(tmp_path)


@pytest.mark.parametrize("part", PARTS)
def test_a_truncated_part_is_named(copy: Path, part: str) -> None:
    weights = next((copy / part).glob("*model*.safetensors"))
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    with pytest.raises(BundleError, match=rf"{part}: this part cannot be read .*copy"):
        ModelBundle.from_pretrained(copy)


@pytest.mark.parametrize("part", PARTS)
def test_a_missing_part_is_named(copy: Path, part: str) -> None:
    shutil.rmtree(copy / part)
    with pytest.raises(BundleError, match=f"{part}: this part is not there"):
        ModelBundle.from_pretrained(copy)


def test_a_part_without_its_config_is_named(copy: Path) -> None:
    (copy / "denoiser" / "config.json").unlink()
    with pytest.raises(BundleError, match="denoiser"):
        ModelBundle.from_pretrained(copy)


@pytest.mark.parametrize("content", ["", "{", "[]", json.dumps({"size": 64})])
def test_a_broken_index_is_said_in_a_sentence(copy: Path, content: str) -> None:
    (copy / INDEX).write_text(content)
    with pytest.raises(BundleError, match=INDEX):
        ModelBundle.from_pretrained(copy)


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no model bundle"):
        ModelBundle.from_pretrained(tmp_path)


def test_a_name_that_is_neither_folder_nor_hub_name_is_refused() -> None:
    with pytest.raises(BundleError, match="neither a folder here nor a hub name"):
        ModelBundle.from_pretrained("/no/such/place/of/bundles")


def test_parts_that_do_not_fit_are_refused() -> None:
    good = tiny_bundle()
    with pytest.raises(BundleError, match="do not fit"):
        parts = good.parts() | {"autoencoder": Autoencoder(LATENT_CHANNELS + 1, (16,), norm_num_groups=8)}
        ModelBundle(**parts, size=good.size)
