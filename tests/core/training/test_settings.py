from pathlib import Path
from typing import Any

import pytest

from dino_diffusion.errors import ConfigurationError
from dino_diffusion.training.settings import (
    AutoencoderSettings,
    DenoiserSettings,
    EncoderSettings,
    ReadoutSettings,
    load_settings,
    recipe_path,
)

KINDS: dict[str, Any] = {
    "encoder": EncoderSettings,
    "autoencoder": AutoencoderSettings,
    "denoiser": DenoiserSettings,
    "readout": ReadoutSettings,
}


@pytest.mark.parametrize("scale", ["smoke", "cpu", "gpu"])
@pytest.mark.parametrize("part", KINDS)
def test_shipped_recipes_load(scale: str, part: str) -> None:
    settings = load_settings(KINDS[part], recipe_path(f"{scale}/{part}"))
    assert settings.run.folder and settings.data.path


def test_gpu_recipes_fit_into_22_minutes() -> None:
    parts = ("encoder", "autoencoder", "denoiser")
    minutes = [load_settings(KINDS[part], recipe_path(f"gpu/{part}")).run.minutes for part in parts]
    assert sum(minutes) <= 22


def test_overrides_win_and_numbers_fit(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text("sizes = [64, 128]\n[run]\nsteps = 5\nlr = 1\n")
    settings = load_settings(DenoiserSettings, path, {"run.steps": 7, "run.minutes": 2, "data.limit": 3})
    assert (settings.run.steps, settings.run.minutes, settings.run.lr) == (7, 2.0, 1.0)
    assert settings.sizes == (64, 128) and settings.data.limit == 3


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("run.stepps", 5, "unknown setting 'stepps'"),
        ("run.steps", "five", "whole number"),
        ("run.steps", 1.5, "whole number"),
        ("run.steps", True, "whole number"),
        ("run.minutes", "long", "a number"),
        ("run.batch", 0, "batch must be 1"),
        ("run", 5, "section"),
        ("views.more", 1, "no section|not a section"),
        ("data.splits", "train", "a list"),
        ("data.splits", [1], "text"),
        ("sizes", [64, 128, 256], "same length"),
        ("sizes", [60, 128], "multiples of 8"),
    ],
)
def test_nonsense_is_refused_in_a_sentence(name: str, value: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as refused:
        load_settings(DenoiserSettings, recipe_path("smoke/denoiser"), {name: value})
    assert "\n" not in str(refused.value)


def test_autoencoder_and_encoder_settings_are_checked() -> None:
    with pytest.raises(ConfigurationError, match="three multiples of 16"):
        load_settings(AutoencoderSettings, recipe_path("smoke/autoencoder"), {"block_out_channels": [16, 16]})
    with pytest.raises(ConfigurationError, match="list of 2"):
        load_settings(EncoderSettings, recipe_path("smoke/encoder"), {"local_scale": [0.25]})


def test_missing_and_unreadable_recipes(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="smoke/denoiser"):
        recipe_path("smoke/nothing")
    (tmp_path / "bad.toml").write_text("a = = 1")
    with pytest.raises(ConfigurationError, match="TOML"):
        load_settings(DenoiserSettings, tmp_path / "bad.toml")
