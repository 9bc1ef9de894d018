"""The smoke recipes from pictures to a bundle-shaped folder, and continuing from it."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from dino_diffusion.crop import cut, whole
from dino_diffusion.errors import BundleError, ConfigurationError
from dino_diffusion.models import Autoencoder, Denoiser, DinoEncoder
from dino_diffusion.models.readout import LungReadout
from dino_diffusion.training.autoencoder import AutoencoderPart
from dino_diffusion.training.corpus import load_corpus
from dino_diffusion.training.run import load_part, train_part
from dino_diffusion.training.settings import AutoencoderSettings, load_settings, recipe_path
from dino_diffusion.training.views import square


def test_every_part_is_trained_and_saved(trained: dict[str, Any]) -> None:
    figures, bundle = trained["figures"], trained["bundle"]
    assert (figures["encoder"]["steps"], figures["autoencoder"]["steps"], figures["denoiser"]["steps"]) == (
        4,
        6,
        6,
    )
    assert figures["denoiser"]["flow_held_out"] > 0 and figures["autoencoder"]["psnr"] > 15
    encoder, autoencoder = (
        load_part(DinoEncoder, bundle / "encoder"),
        load_part(Autoencoder, bundle / "autoencoder"),
    )
    denoiser = load_part(Denoiser, bundle / "denoiser")
    picture = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        latents = autoencoder.encode(picture)
        condition = denoiser.condition(encoder(picture), torch.zeros(1, 6))
        assert denoiser(latents, torch.tensor([0.5]), condition).shape == latents.shape
    for part in ("encoder", "autoencoder", "denoiser"):
        assert list((trained["folder"] / part / "pictures").glob("*.png"))


def test_the_readout_is_trained_on_the_other_parts_and_logged(trained: dict[str, Any]) -> None:
    readout = LungReadout.from_pretrained(trained["bundle"] / "readout")
    assert tuple(readout.config.layers) == ("up_blocks.0", "up_blocks.1")
    assert readout(torch.zeros(1, readout.config.width, 8, 8)).shape == (1, 3, 8, 8)
    last = json.loads((trained["folder"] / "readout" / "log.jsonl").read_text().splitlines()[-1])
    assert last["step"] == trained["figures"]["readout"]["steps"] == 4 and last["seconds"] > 0
    about = json.loads((trained["folder"] / "readout" / "run.json").read_text())
    assert about["settings"]["run"]["seed"] == 1


def test_latents_are_standardised_on_the_training_pictures(trained: dict[str, Any]) -> None:
    autoencoder = load_part(Autoencoder, trained["bundle"] / "autoencoder")
    squares = [square(item.read()) for item in load_corpus(trained["pictures"])]
    with torch.no_grad():
        latents = autoencoder.encode(torch.cat([cut(s, whole(s.shape[-1]), 256) for s in squares]))
    torch.testing.assert_close(latents.mean((0, 2, 3)), torch.zeros(4), atol=0.05, rtol=0)
    torch.testing.assert_close(latents.std((0, 2, 3)), torch.ones(4), atol=0.05, rtol=0)


def test_the_encoder_is_kept_by_comparison(trained: dict[str, Any]) -> None:
    figures = json.loads((trained["folder"] / "encoder" / "comparison.json").read_text())
    better = figures["retrieval_distilled"] > figures["retrieval_original"]
    assert figures["kept"] == ("distilled" if better else "original")


def test_an_encoder_without_steps_is_only_whitened(
    trained: dict[str, Any], backbone: Path, tmp_path: Path
) -> None:
    overrides = {"run.steps": 0, "run.folder": str(tmp_path), "backbone": str(backbone)}
    train_part(
        "encoder", "smoke/encoder", overrides=overrides | {"data.path": str(trained["pictures"])}, quiet=True
    )
    encoder = load_part(DinoEncoder, tmp_path / "weights")
    original = DinoEncoder.from_backbone(backbone, 2, 28, 16, 8)
    for name, value in original.backbone.state_dict().items():
        assert torch.equal(encoder.backbone.state_dict()[name], value)
    assert not torch.equal(encoder.cls_whitening.scale, torch.ones(16))


@pytest.mark.parametrize("part", ["encoder", "autoencoder", "denoiser"])
def test_init_continues_from_a_bundle(trained: dict[str, Any], tmp_path: Path, part: str) -> None:
    """With a learning rate next to nothing what comes out is what went in, so it did start there."""
    overrides = {
        "run.folder": str(tmp_path),
        "run.lr": 1e-12,
        "run.steps": 2,
        "data.path": str(trained["pictures"]),
        "run.seed": 5,
    }
    if part == "denoiser":
        overrides |= {"encoder": "", "autoencoder": ""}  # the bundle's own
    figures = train_part(part, f"smoke/{part}", trained["bundle"], overrides, quiet=True)
    assert figures["steps"] == 2 and figures["weights"] == str(tmp_path / "weights")
    kind: Any = {"encoder": DinoEncoder, "autoencoder": Autoencoder, "denoiser": Denoiser}[part]
    before, after = (
        load_part(kind, folder).state_dict() for folder in (trained["bundle"] / part, tmp_path / "weights")
    )
    for name, value in before.items():
        if "whitening" not in name:
            torch.testing.assert_close(after[name], value, rtol=1e-4, atol=1e-5)


def test_a_residual_encoder_is_added_to_a_bundle_without_one(
    trained: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    linear = load_settings(
        AutoencoderSettings,
        recipe_path("smoke/autoencoder"),
        {"residual_encoder": False, "data.path": str(trained["pictures"])},
    )
    source = AutoencoderPart(linear).module.autoencoder
    source.save_pretrained(tmp_path / "bundle" / "autoencoder")
    (tmp_path / "bundle" / "model_index.json").write_text("{}")
    overrides = {"run.folder": str(tmp_path / "run"), "run.lr": 1e-12, "data.path": str(trained["pictures"])}
    with caplog.at_level(logging.WARNING):
        train_part("autoencoder", "smoke/autoencoder", tmp_path / "bundle", overrides, quiet=True)
    assert any("start fresh" in r.message and "encoder" in r.message for r in caplog.records)
    assert any("denoiser of this bundle must be trained anew" in r.message for r in caplog.records)
    after = load_part(Autoencoder, tmp_path / "run" / "weights")
    torch.testing.assert_close(after.analysis.weight, source.analysis.weight)


@pytest.mark.parametrize(
    ("part", "overrides", "words"),
    [
        ("nose", {}, "no part 'nose'"),
        ("encoder", {"backbone": ""}, "No backbone is named"),
        ("denoiser", {"encoder": ""}, "No encoder is named"),
        ("readout", {"denoiser": "", "encoder": ""}, "No encoder is named"),
        ("readout", {}, "this part is not there"),
        ("denoiser", {"encoder": "nowhere"}, "nowhere: this part is not there"),
        ("autoencoder", {"data.path": "nowhere"}, "nowhere: no training data"),
    ],
)
def test_what_is_missing_is_said_in_a_sentence(
    part: str, overrides: dict[str, Any], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = f"smoke/{part}" if part != "nose" else "smoke/encoder"
    with pytest.raises((BundleError, ConfigurationError), match=words) as refused:
        train_part(part, recipe, overrides=overrides, quiet=True)
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.rglob("checkpoint*"))


def test_bundles_that_do_not_fit_are_refused(trained: dict[str, Any], tmp_path: Path) -> None:
    common = {"run.folder": str(tmp_path / "run"), "data.path": str(trained["pictures"])}
    with pytest.raises(BundleError, match="neither a folder here nor a hub name"):
        train_part("denoiser", "smoke/denoiser", tmp_path / "none", common, quiet=True)
    with pytest.raises(ConfigurationError, match="latent_channels is 8"):
        train_part(
            "autoencoder", "smoke/autoencoder", trained["bundle"], common | {"latent_channels": 8}, quiet=True
        )
    more = {"encoder": "", "autoencoder": "", "token_grid": 3}
    with pytest.raises(ConfigurationError, match="token_grid is 3"):
        train_part("denoiser", "smoke/denoiser", trained["bundle"], common | more, quiet=True)
    (tmp_path / "broken" / "autoencoder").mkdir(parents=True)
    (tmp_path / "broken" / "model_index.json").write_text("{}")
    (tmp_path / "broken" / "autoencoder" / "config.json").write_text("{}")
    with pytest.raises(BundleError, match="no safetensors weights"):
        train_part("autoencoder", "smoke/autoencoder", tmp_path / "broken", common, quiet=True)


def test_pictures_too_small_for_a_size_are_said(trained: dict[str, Any], tmp_path: Path) -> None:
    overrides = {
        "run.folder": str(tmp_path),
        "data.path": str(trained["pictures"]),
        "encoder": "",
        "autoencoder": "",
        "sizes": [64, 256],
    }
    with pytest.raises(ConfigurationError, match="has the pixels for size 256"):
        train_part("denoiser", "smoke/denoiser", trained["bundle"], overrides, quiet=True)
