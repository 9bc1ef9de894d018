"""Every figure of a card, on a tiny random bundle: complete, mergeable, none mixed with another bundle's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dino_diffusion.cli.app import app
from dino_diffusion.evaluation import EvaluationError
from dino_diffusion.evaluation.release import SECTIONS, Measurement, measure_bundle, missing_sections
from dino_diffusion.models import ModelBundle

Measure = Callable[..., Measurement]


@pytest.fixture
def measurement(bundle: ModelBundle, pictures: Path, runs: Path) -> Measure:
    def make(**options: object) -> Measurement:
        given = {"samples": 12, "latents": runs / "denoiser" / "latents"} | options
        return Measurement(bundle, pictures, **given)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="module")
def figures(bundle: ModelBundle, pictures: Path, runs: Path) -> dict:
    """All sections, with the state after each."""
    saved: list[list[str]] = []
    found = measure_bundle(
        Measurement(bundle, pictures, samples=12, latents=runs / "denoiser" / "latents"),
        save=lambda figures: saved.append([name for name in SECTIONS if name in figures]),
    )
    done = [name for name in SECTIONS if name != "matched"]  # the list of training images is not here
    assert list(dict.fromkeys(map(tuple, saved))) == [tuple(done[: k + 1]) for k in range(len(done))]
    return found


def test_all_sections_and_no_nan(figures: dict, bundle: ModelBundle) -> None:
    assert set(SECTIONS) - set(figures) == figures["skipped"].keys() == {"matched"}
    assert figures["bundle"] == bundle.id and figures["data"] == "list.csv"
    assert figures["seconds"].keys() == SECTIONS.keys() - {"matched"}
    json.dumps(figures, allow_nan=False)


def test_full_resolution_files_are_apart(figures: dict) -> None:
    found = figures["autoencoder"]
    assert (found["native_512"]["n"], found["smaller"]["n"]) == (3, 33)
    assert found["smaller"]["psnr"]["mean"] > 10


def test_lungs_of_the_split_without_names_of_images(figures: dict) -> None:
    found = figures["segmentation"]["dev"]
    assert found["n"] == 4 and 0 <= found["share_below_0.7"] <= 1
    assert "picture-" not in json.dumps(figures)


def test_generation_in_every_net_beside_its_floor(figures: dict) -> None:
    for values in figures["generation"]["nets"]:
        assert (values["n_real"], values["n_synthetic"], values["n_equal"]) == (24, 12, 12)
        assert values["fid"] >= 0 and values["fid_floor"] > 0
    assert figures["generation"]["nets"][0]["net"] == "encoder-cls"


def test_likeness_compares_with_other_patients(figures: dict) -> None:
    found = figures["likeness"]
    assert found["n"] == 32
    assert all(0 <= values["nearest"] <= 1 and -1 <= values["own"] <= 1 for values in found["nets"])


def test_memorisation_against_the_cached_tokens(figures: dict) -> None:
    found = figures["memorisation"]
    assert (found["n_samples"], found["n_held_out"], found["n_training"]) == (12, 24, 20)


@pytest.fixture
def with_list(measurement: Measure, runs: Path, pictures: Path, tmp_path: Path) -> Measurement:
    """Whose list of training images is at hand."""
    shutil.copytree(runs / "denoiser" / "latents", tmp_path / "latents")
    settings = {"data": {"path": str(pictures)}}
    (tmp_path / "run.json").write_text(json.dumps({"settings": settings}))
    return measurement(latents=tmp_path / "latents", work=tmp_path / "work")


def test_sources_of_the_nearest_where_the_list_is_at_hand(with_list: Measurement, figures: dict) -> None:
    found = with_list.memorisation()
    sources = found.pop("by_source")
    assert {name: source["training"] for name, source in sources.items()} == {"drawn": 10, "painted": 10}
    assert sum(source["share_samples"] for source in sources.values()) == pytest.approx(1)
    assert found == figures["memorisation"], "pictures kept in a folder are others, or the list is not needed"


def test_conditions_of_training_images_draw_other_pictures(with_list: Measurement, figures: dict) -> None:
    found = with_list.matched()["nets"]
    assert [values["net"] for values in found] == [values["net"] for values in figures["generation"]["nets"]]
    assert found[0]["n_synthetic"] == 12 and found[0]["kid"] != figures["generation"]["nets"][0]["kid"]
    assert len(list((with_list.work or Path()).glob("drawn-*"))) == 1


def test_a_section_is_added_to_those_of_the_same_bundle_alone(measurement: Measure) -> None:
    before = {"bundle": measurement().bundle.id, "generation": {"kept": 1}}
    found = measure_bundle(measurement(limit=2), ["autoencoder"], before)
    assert found["generation"] == {"kept": 1} and found["autoencoder"]["smaller"]["n"] == 2
    found = measure_bundle(measurement(limit=2), ["autoencoder"], before | {"bundle": "another"})
    assert "generation" not in found


def test_the_test_split_stands_beside_the_dev_split(measurement: Measure) -> None:
    before = {"bundle": measurement().bundle.id, "segmentation": {"test": {"n": 9}}}
    found = measure_bundle(measurement(limit=1), ["segmentation"], before)
    assert found["segmentation"]["test"] == {"n": 9} and found["segmentation"]["dev"]["n"] == 1


def test_what_the_data_do_not_allow_is_skipped_or_refused(measurement: Measure) -> None:
    found = measure_bundle(measurement(split="none"), ["segmentation"])
    assert "no image of split 'none'" in found["skipped"]["segmentation"]
    with pytest.raises(EvaluationError, match="name the run's latents"):
        measure_bundle(measurement(latents=None), ["memorisation"], strict=True)
    with pytest.raises(EvaluationError, match="no figure 'beauty'"):
        measure_bundle(measurement(), ["beauty"])


def test_what_is_missing() -> None:
    figures = {"bundle": "a", "autoencoder": {}, "segmentation": {"dev": {}}, "skipped": {"likeness": ""}}
    assert missing_sections(figures, "b", "dev") == list(SECTIONS)
    assert missing_sections(figures, "a", "dev") == ["generation", "matched", "memorisation"]
    assert missing_sections(figures, "a", "test") == ["segmentation", "generation", "matched", "memorisation"]


def test_command_measures_in_parts(pictures: Path, bundle: ModelBundle, tmp_path: Path) -> None:
    bundle.save_pretrained(tmp_path / "bundle")
    common = ["evaluate", "bundle", "--data", str(pictures), "--bundle", str(tmp_path / "bundle")]
    common += ["--limit", "2", "-o", str(tmp_path / "figures.json")]
    for name in ("autoencoder", "segmentation"):
        done = CliRunner().invoke(app, [*common, "--only", name, "--json"])
        assert done.exit_code == 0, done.output
    written = json.loads((tmp_path / "figures.json").read_text())
    assert json.loads(done.stdout) == written
    assert {"autoencoder", "segmentation"} <= written.keys()
    done = CliRunner().invoke(app, [*common, "--only", "autoencoder", "--missing", "--split", "dev"])
    assert done.exit_code == 0 and "Dice" in done.stdout
    assert json.loads((tmp_path / "figures.json").read_text()) == written
