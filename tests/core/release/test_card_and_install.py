"""The card says what was measured, shows no path, and a worse bundle does not replace a better one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dino_diffusion.cli.app import app
from dino_diffusion.errors import BundleError
from dino_diffusion.evaluation.card import write_card
from dino_diffusion.evaluation.install import FIGURES, install_bundle, worse
from dino_diffusion.models import ModelBundle

NET = {
    "net": "efficientnet-lite0",
    "n_real": 400,
    "n_synthetic": 200,
    "n_equal": 200,
    "fid": 90.0,
    "fid_floor": 10.0,
    "fid_over_floor": 9.0,
    "kid": 0.05,
    "kid_ci": [0.04, 0.06],
    "precision": 0.5,
    "recall": 0.2,
    "precision_real": 0.8,
    "recall_real": 0.8,
}


def figures_of(identity: str, dice: float = 0.9, kid: float = 0.05) -> dict:
    spread = {"mean": 35.0, "sd": 1.0, "p5": 33.0}
    lungs = {"n": 566, "dice": {"right": dice, "left": dice, "mean": dice, "p5": 0.8}, "hd95": 5.0}
    return {
        "bundle": identity,
        "data": "metadata.csv",
        "autoencoder": {"size": 256, "native_512": {"n": 9, "psnr": spread, "ssim": spread}, "smaller": None},
        "segmentation": {"dev": lungs | {"hd95_mm": None, "share_below_0.7": 0.04, "unreadable": 0}},
        "generation": {"nets": [NET | {"kid": kid, "kid_ci": [kid - 0.01, kid + 0.01]}], "missing_nets": []},
        "likeness": {"n": 32, "nets": [{"net": "encoder-cls", "own": 0.8, "others": 0.1, "nearest": 0.9}]},
        "skipped": {"memorisation": "no latents"},
    }


PROVENANCE = {
    "bundle": "abc",
    "prior": {"components": 48},
    "parts": {
        "denoiser": {
            "seed": 1,
            "steps": 20,
            "seconds": 5400.0,
            "git": "1a2b3c4",
            "data": {
                "nih14": {"images": 10, "licences": ["attribution"]},
                "tbx11k": {"images": 3, "licences": []},
            },
        },
        "encoder": {"seed": None, "steps": None, "seconds": None, "git": None, "data": None},
    },
}


def test_the_card_says_what_was_measured_and_what_is_wrong() -> None:
    text = write_card(figures_of("abc"), PROVENANCE, ("Clavicles are doubled.",))
    assert text.startswith("---\nlicense: other\n")
    for words in (
        "not a medical device",
        "**0.900**",
        "566 images",
        "35.0 dB",
        "n = 200",
        "1.5 hours in all",
    ):
        assert words in text, words
    for words in ("Clavicles are doubled.", "9.0 times", "4.0% of the dev", "Not measured: memorisation"):
        assert words in text.split("## Known faults")[1].split("## Training")[0], words
    assert "NIH ChestX-ray14 (Wang et al., CVPR 2017) | 10 | attribution" in text
    assert "make install-bundle" in text and "samples.png" in text
    assert "| encoder | - | - | - | - |" in text


def test_a_card_of_few_figures_is_written_too() -> None:
    text = write_card({"bundle": "abc"}, {})
    assert "was not at hand" in text and "## Known faults" in text


@pytest.mark.parametrize(
    ("dice", "kid", "words"),
    [(0.9, 0.05, []), (0.95, 0.02, []), (0.899, 0.055, []), (0.85, 0.05, ["Dice"]), (0.9, 0.08, ["KID"])],
)
def test_worse_is_less_dice_or_a_kid_above_the_interval(dice: float, kid: float, words: list[str]) -> None:
    found = worse(figures_of("new", dice, kid), figures_of("old"))
    assert len(found) == len(words) and all(word in text for word, text in zip(words, found, strict=True))


@pytest.fixture
def measured(bundle: ModelBundle, tmp_path: Path) -> Path:
    """A bundle's folder with its figures and its card."""
    folder = tmp_path / "measured"
    bundle.save_pretrained(folder, card="# Card\n")
    (folder / FIGURES).write_text(json.dumps(figures_of(bundle.id)))
    return folder


def test_a_bundle_without_figures_of_its_own_is_refused(measured: Path, tmp_path: Path) -> None:
    target = tmp_path / "default"
    (measured / FIGURES).write_text(json.dumps(figures_of("another")))
    with pytest.raises(BundleError, match="figures are those of another bundle"):
        install_bundle(measured, target)
    (measured / FIGURES).unlink()
    with pytest.raises(BundleError, match="has no figures"):
        install_bundle(measured, target)
    (measured / FIGURES).write_text("{")
    with pytest.raises(BundleError, match="damaged"):
        install_bundle(measured, target)
    assert not target.exists()


def test_a_worse_bundle_is_refused_unless_forced(measured: Path, bundle: ModelBundle, tmp_path: Path) -> None:
    target, better = tmp_path / "default", tmp_path / "better"
    shutil.copytree(measured, better)
    (better / FIGURES).write_text(json.dumps(figures_of(bundle.id, dice=0.95)))
    assert install_bundle(better, target) == []
    before = (target / FIGURES).read_text()
    done = CliRunner().invoke(app, ["install-bundle", str(measured), "--into", str(target)])
    assert done.exit_code == 1 and "its dev Dice is 0.9000, the installed one's 0.9500" in done.stderr
    assert (target / FIGURES).read_text() == before
    done = CliRunner().invoke(app, ["install-bundle", str(measured), "--into", str(target), "--force"])
    assert done.exit_code == 0 and "Installed although its dev Dice" in done.stderr
    assert ModelBundle.from_pretrained(target).id == bundle.id
    assert sorted(path.name for path in tmp_path.iterdir()) == ["better", "default", "measured"]


def test_the_command_writes_card_figures_and_samples(bundle: ModelBundle, tmp_path: Path) -> None:
    folder, figures = tmp_path / "bundle", tmp_path / "figures.json"
    bundle.save_pretrained(folder)
    figures.write_text(json.dumps(figures_of("another")))
    command = ["card", "--bundle", str(folder), "--figures", str(figures), "--fault", "Too grey."]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 1 and "these are figures of bundle another" in done.stderr
    figures.write_text(json.dumps(figures_of(bundle.id)))
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    text = (folder / "README.md").read_text()
    assert "Too grey." in text and str(tmp_path) not in text
    assert (folder / "samples.png").is_file() and json.loads((folder / FIGURES).read_text())[
        "bundle"
    ] == bundle.id
    assert install_bundle(folder, tmp_path / "default") == []
