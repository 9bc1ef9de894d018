"""Parts in run folders become one bundle, whose notes hold no machine's paths."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dino_diffusion.errors import BundleError, ConfigurationError
from dino_diffusion.evaluation.install import FIGURES, read_figures
from dino_diffusion.models import EncoderOutput, ModelBundle
from dino_diffusion.models.readout import LungReadout
from dino_diffusion.training.assemble import (
    assemble,
    fit_prior,
    replace_decoder,
    replace_readout,
    whole_view_tokens,
)
from dino_diffusion.training.provenance import PROVENANCE, note_start, provenance_of, without_paths
from tests.core.release.conftest import latent_shard

PARTS = ("encoder", "autoencoder", "denoiser", "readout")


def parts_of(runs: Path) -> dict[str, Path]:
    return {name: runs / name for name in PARTS}


@pytest.fixture(scope="module")
def assembled(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("assembled") / "bundle"
    assemble(parts_of(runs), runs / "denoiser" / "latents", target)
    return target


def test_the_bundle_has_the_parts_and_the_runs_time_shift(assembled: Path, bundle: ModelBundle) -> None:
    made = ModelBundle.from_pretrained(assembled)
    assert (made.size, made.time_shift) == (64, 1.25)
    for name in PARTS:
        ours, theirs = made.parts()[name].state_dict(), bundle.parts()[name].state_dict()
        for key, value in theirs.items():
            torch.testing.assert_close(ours[key], value, atol=2e-3, rtol=2e-3)


def test_the_prior_knows_whole_views_alone(runs: Path) -> None:
    tokens = whole_view_tokens(runs / "denoiser" / "latents")
    assert len(tokens.cls) == 20 and tokens.cls.mean() == pytest.approx(1, abs=0.2)
    prior = fit_prior(tokens, 4)
    assert prior.config.components == 10
    drawn = prior.sample(200, torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn.cls.mean(0), tokens.cls.mean(0), atol=0.5, rtol=0)


def test_the_training_images_are_indexed(runs: Path, tmp_path: Path) -> None:
    """150 whole views of 75 patients, in the cache's order and not the list's; crops do not count."""
    views = latent_shard(whole=150, crops=10)
    views["items"] = views["items"].flip(0)
    save_file(views, tmp_path / "views-00000.safetensors")
    rows = [f"picture-{number}.png,train,p{number // 2}" for number in range(160)]
    (tmp_path / "list.csv").write_text("\n".join(["image,split,patient_id", *rows]))
    run = shutil.copytree(runs / "denoiser", tmp_path / "denoiser")
    settings = json.loads((run / "run.json").read_text())
    settings["settings"]["data"] = {"path": str(tmp_path / "list.csv"), "splits": ["train"]}
    (run / "run.json").write_text(json.dumps(settings))
    bundle = assemble(parts_of(runs) | {"denoiser": run}, tmp_path, tmp_path / "bundle")
    assert bundle.training_index is not None
    seen = EncoderOutput(views["cls"][:150].float(), views["patches"][:150].float())
    distances, _, images = bundle.training_index.nearest(bundle.prior.coordinates(seen).numpy())
    assert images.tolist() == list(range(150)) and distances.max() < 1e-2
    notes = json.loads((tmp_path / "bundle" / PROVENANCE).read_text())["training_index"]
    assert notes == {"images": 150, "dimensions": 75, "reference_images": 150, "reference_patients": 75}


def test_a_new_decoder_leaves_the_rest_as_it_is(assembled: Path, runs: Path, tmp_path: Path) -> None:
    before = ModelBundle.from_pretrained(assembled)
    base, run = tmp_path / "base", shutil.copytree(runs / "autoencoder", tmp_path / "longer")
    shutil.copytree(assembled, base)
    (base / FIGURES).write_text(
        json.dumps({"bundle": before.id, "segmentation": {"dev": 1}, "generation": 2})
    )
    longer = ModelBundle.from_pretrained(assembled).autoencoder
    with torch.no_grad():
        longer.decoder.conv_out.weight.add_(0.1)
    longer.save_pretrained(run / "weights")
    made = replace_decoder(base, run, tmp_path / "bundle")
    assert made.id != before.id and made.observing_id == before.observing_id
    assert torch.equal(made.prior.factors, before.prior.factors) and made.time_shift == before.time_shift
    notes = json.loads((tmp_path / "bundle" / PROVENANCE).read_text())
    old = json.loads((assembled / PROVENANCE).read_text())
    assert read_figures(tmp_path / "bundle") == {"bundle": made.id, "segmentation": {"dev": 1}}
    assert notes["bundle"] == made.id and notes["parts"]["denoiser"] == old["parts"]["denoiser"]
    with torch.no_grad():
        longer.analysis.weight.add_(0.1)
    longer.save_pretrained(run / "weights")
    with pytest.raises(BundleError, match="its latents are not those"):
        replace_decoder(assembled, run, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_new_head_leaves_what_is_generated_as_it_is(assembled: Path, runs: Path, tmp_path: Path) -> None:
    before = ModelBundle.from_pretrained(assembled)
    base, run = tmp_path / "base", shutil.copytree(runs / "readout", tmp_path / "again")
    shutil.copytree(assembled, base)
    (base / FIGURES).write_text(
        json.dumps({"bundle": before.id, "segmentation": {"dev": 1}, "generation": 2})
    )
    head = ModelBundle.from_pretrained(assembled).readout
    with torch.no_grad():
        head.head[-1].bias.add_(0.1)
    head.save_pretrained(run / "weights")
    made = replace_readout(base, run, tmp_path / "bundle")
    assert made.id != before.id and made.observing_id != before.observing_id
    assert made.id_of("denoiser") == before.id_of("denoiser")
    assert read_figures(tmp_path / "bundle") == {"bundle": made.id, "generation": 2}
    head.register_to_config(width=8)
    head.mean, head.components = torch.zeros(8), torch.eye(8, head.config.kept)
    head.save_pretrained(run / "weights")
    with pytest.raises(BundleError):
        replace_readout(assembled, run, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_why_there_is_no_index_is_noted(assembled: Path) -> None:
    assert ModelBundle.from_pretrained(assembled).training_index is None
    notes = json.loads((assembled / PROVENANCE).read_text())["training_index"]
    assert list(notes) == ["missing"]


def test_provenance_says_how_long_on_what_and_no_path(assembled: Path, runs: Path) -> None:
    for path in assembled.rglob("*.json"):
        assert str(runs.parent) not in path.read_text(), path
    text = (assembled / PROVENANCE).read_text()
    assert "list.csv" in text and '"/' not in text
    notes = json.loads(text)
    part = notes["parts"]["denoiser"]
    assert (part["seed"], part["steps"], part["seconds"], part["git"]) == (7, 20, 1800.0, "abc1234")
    assert part["data"] == {
        "drawn": {"images": 2, "licences": ["CC0"]},
        "painted": {"images": 2, "licences": ["CC0"]},
    }
    assert notes["bundle"] == ModelBundle.from_pretrained(assembled).id


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("/home/someone/data/list.csv", "list.csv"),
        ("../data/list.csv", "list.csv"),
        ("C:\\data\\list.csv", "list.csv"),
        ("runs/cpu-encoder/weights", "cpu-encoder/weights"),
        ("up_blocks.0", "up_blocks.0"),
        (["a/b", 1], ["b", 1]),
    ],
)
def test_paths_are_cut_to_their_last_name(given: object, kept: object) -> None:
    assert without_paths({"x": given}) == {"x": kept}


def test_an_earlier_bundle_is_replaced_and_anything_else_is_left(runs: Path, tmp_path: Path) -> None:
    target, latents = tmp_path / "bundle", runs / "denoiser" / "latents"
    assemble(parts_of(runs), latents, target)
    (target / "old.txt").write_text("old")
    assemble(parts_of(runs), latents, target)
    assert not (target / "old.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("mine")
    with pytest.raises(BundleError, match="no bundle"):
        assemble(parts_of(runs), latents, precious)
    assert (precious / "thesis.txt").read_text() == "mine"


def test_what_does_not_fit_is_said(runs: Path, tmp_path: Path) -> None:
    parts, latents = parts_of(runs), runs / "denoiser" / "latents"
    with pytest.raises(BundleError, match="not there"):
        assemble(parts | {"readout": tmp_path / "none"}, latents, tmp_path / "bundle")
    with pytest.raises(ConfigurationError, match="no prepared views"):
        assemble(parts, tmp_path, tmp_path / "bundle")
    LungReadout(width=12, hidden=8).save_pretrained(tmp_path / "other")
    with pytest.raises(BundleError, match="wants 12 features"):
        assemble(parts | {"readout": tmp_path / "other"}, latents, tmp_path / "bundle")
    LungReadout(width=12, hidden=8, layers=("nowhere.0",)).save_pretrained(tmp_path / "stranger")
    with pytest.raises(BundleError, match="layers"):
        assemble(parts | {"readout": tmp_path / "stranger"}, latents, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_a_run_that_goes_on_from_a_bundle_keeps_what_that_says_of_its_part(assembled, tmp_path) -> None:
    before = provenance_of(assembled / "denoiser")
    assert before["steps"] == json.loads((assembled / PROVENANCE).read_text())["parts"]["denoiser"]["steps"]
    note_start(tmp_path / "run", assembled, "denoiser")
    after = provenance_of(tmp_path / "run" / "weights")
    assert after["continues"] == before
