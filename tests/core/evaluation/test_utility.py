"""Utility: AUCs and intervals are right, arms do what they say, leaks are refused, the report is drawn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import mannwhitneyu
from torch import nn

from dino_diffusion.errors import ConfigurationError
from dino_diffusion.evaluation import EvaluationError
from dino_diffusion.evaluation.classifier import Batch, FineTuned, fit, predict, seen
from dino_diffusion.evaluation.utility import ARMS, CLASSICAL, REAL, Study, UtilitySettings
from dino_diffusion.evaluation.utility_images import (
    BalancedBatches,
    ImageSet,
    check_patients,
    classes_of,
    mixed_batches,
)
from dino_diffusion.evaluation.utility_intervals import patient_weights, summarise, weighted_auc
from dino_diffusion.evaluation.utility_report import csv_rows, figure, table
from dino_diffusion.files.labelled_list import LabelledImage
from dino_diffusion.generation.synthesis import Synthesis, SynthesisSettings
from dino_diffusion.generation.synthesize import make
from dino_diffusion.pictures import save_png
from tests.tiny import smooth_picture, tiny_bundle

SIDE = 16
FAST = UtilitySettings(seeds=2, steps=12, batch=8)


class Tiny(nn.Module):
    """A head that knows nothing yet, on brightnesses of sixteen fields."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(16, 1)
        nn.init.zeros_(self.head.weight)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        fields = nn.functional.adaptive_avg_pool2d(pictures, 4).flatten(1)
        return self.head(30 * (fields - 0.3))[:, 0]


def images(count: int, seed: int, signal: float = 0.5) -> ImageSet:
    """Noise; the class is brighter in a corner."""
    generator = torch.Generator().manual_seed(seed)
    pixels = 0.5 * torch.rand(count, 1, SIDE, SIDE, generator=generator)
    labels = np.arange(count) % 2 == 0
    pixels[labels, :, :6, :6] += signal
    return ImageSet(pixels.clamp(0, 1), labels, tuple(f"p{seed}-{n // 2}" for n in range(count)))


def study(kept: Path | None = None, **changed: object) -> Study:
    sets = {"real": images(8, 1), "synthetic": {"": images(12, 2)}, "test": images(40, 3)}
    return Study(**(sets | {"settings": FAST, "network": Tiny, "kept": kept} | changed))  # type: ignore[arg-type]


def test_weighted_auc_is_mann_whitney_s() -> None:
    rng = np.random.default_rng(0)
    labels = rng.random(60) < 0.4
    scores = np.round(rng.standard_normal(60) + labels, 1)
    weights = rng.integers(0, 3, (5, 60))
    for row, found in zip(weights, weighted_auc(scores, labels, weights), strict=True):
        inside, outside = (np.repeat(scores[side], row[side]) for side in (labels, ~labels))
        expected = mannwhitneyu(inside, outside).statistic / (len(inside) * len(outside))
        assert found == pytest.approx(expected)
    assert np.isnan(weighted_auc(scores, labels, labels[None].astype(int))).all()


def test_patients_are_drawn_with_all_their_images() -> None:
    weights = patient_weights(["a", "b", "a", "", ""], 200, np.random.default_rng(0))
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, 3] != weights[:, 4]).any()
    assert (weights[:, [0, 1, 3, 4]].sum(1) == 4).all()


def test_intervals_hold_the_mean_and_differences_are_paired() -> None:
    rng = np.random.default_rng(1)
    labels = np.arange(120) % 2 == 0
    good = labels * 1.0 + rng.standard_normal((3, 120))
    scores = {REAL: good, "the same": good.copy(), "better": good + 1.5 * labels}
    same, better = summarise(scores, labels, [""] * 120, (REAL,))[1:]
    assert same["gain"] == {REAL: 0.0} and same["gain_ci"] == {REAL: (0.0, 0.0)}
    assert better["gain_ci"][REAL][0] > 0
    assert better["auc_ci"][0] < better["auc"] < better["auc_ci"][1]
    fewer = summarise({REAL: good[:, :30]}, labels[:30], [""] * 30)[0]
    wide, narrow = (np.subtract(*arm["auc_ci"]) for arm in (fewer, same))
    assert wide < narrow < 0


def test_every_arm_learns_what_is_there_with_equal_compute() -> None:
    steps: list[int] = []

    class Counting(Tiny):
        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            if self.training:
                steps.append(len(pictures))
            return super().forward(pictures)

    found = study(network=Counting, settings=UtilitySettings(2, 60, 8))
    scores = found.run()
    assert list(scores) == [arm.name for arm in sorted(ARMS, key=lambda arm: arm.synthetic)]
    assert steps == [8] * (60 * 2 * len(ARMS))
    arms = found.report(scores)["arms"]
    assert all(arm["auc"] > 0.8 for arm in arms)
    assert {len(arm["aucs"]) for arm in arms} == {2}


def test_synthetic_alone_never_sees_a_real_image() -> None:
    """Real images whose labels are the wrong way round cannot spoil it, and spoil the others."""
    honest = images(40, 1)
    wrong = ImageSet(honest.pixels, ~honest.labels, honest.patients)
    found = study(real=wrong, settings=UtilitySettings(1, 60, 8))
    aucs = {arm["name"]: arm["auc"] for arm in found.report(found.run())["arms"]}
    assert aucs["synthetic alone"] > 0.8
    assert aucs[REAL] < 0.2


def test_batches_are_balanced_and_show_every_image_alike() -> None:
    few = images(8, 1)
    uneven = ImageSet(few.pixels[:5], np.array([True, False, False, False, False]), few.patients[:5])
    drawn = [BalancedBatches(uneven, 0).batch(step, 4) for step in range(8)]
    assert all(labels.sum() == 2 for _, labels in drawn)
    seen = torch.cat([pictures[~torch.from_numpy(labels)] for pictures, labels in drawn])
    counts = [(seen == picture).all(dim=(1, 2, 3)).sum().item() for picture in uneven.pixels[1:]]
    assert counts == [4, 4, 4, 4]


def test_classical_augmentation_changes_pictures_and_no_label() -> None:
    def drawn(classical: bool) -> list[Batch]:
        return list(mixed_batches([(BalancedBatches(images(8, 1), 0), 8)], 3, classical, 0))

    for (plain, labels), (altered, same) in zip(drawn(False), drawn(True), strict=True):
        assert torch.equal(labels, same)
        assert not torch.equal(plain, altered)
        # Never inverted: what is bright stays bright.
        assert altered.mean() < 0.7


def test_a_stopped_study_goes_on_and_other_data_is_measured_anew(tmp_path: Path) -> None:
    seen: list[tuple[str, int]] = []

    def stop(row: str, seed: int) -> None:
        seen.append((row, seed))
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study(tmp_path).run(stop)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(kept) == 3
    scores = study(tmp_path).run()
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())
    fresh = study().run()
    assert all(np.allclose(scores[name], fresh[name]) for name in fresh)
    before = len(list(tmp_path.iterdir()))
    study(tmp_path, synthetic={"": images(12, 9)}).run()
    assert len(list(tmp_path.iterdir())) == before + 2 * sum(arm.synthetic for arm in ARMS)


def test_several_synthetic_sets_share_the_real_arms() -> None:
    found = study(synthetic={"means": images(8, 4), "concepts": images(8, 5)})
    names = [name for name, _, _ in found.trials()]
    assert names.count(REAL) == 1
    assert {"synthetic alone (means)", "synthetic alone (concepts)"} <= set(names)
    report = found.report(found.run())
    json.dumps(report)
    assert report["images"]["synthetic means"] == {"positive": 4, "negative": 4}
    lines, rows = table(report["arms"]), csv_rows(report["arms"])
    assert len(lines) == 2 + len(names) == 2 + len(rows)
    assert {"auc", "auc_low", "gain_over_classical_high"} <= rows[0].keys()
    drawn = figure([("20", report["arms"]), ("50", report["arms"])], "waves")
    assert drawn.dtype == np.uint8 and drawn.std() > 5


def listed(*entries: tuple[str, str, str]) -> list[LabelledImage]:
    return [LabelledImage(Path(name), label, patient) for name, label, patient in entries]


def test_leaks_and_other_labels_are_refused() -> None:
    real = listed(("a", "ill", "p1"), ("b", "well", ""))
    with pytest.raises(ConfigurationError, match="p1"):
        check_patients(real, listed(("c", "ill", "p1")))
    check_patients(real, listed(("c", "ill", "p2"), ("d", "well", "")))
    assert classes_of({"real": real, "test": real}) == ("ill", "well")
    for others in (real[:1], [*real, *listed(("c", "old", ""))], listed(("c", "x", ""), ("d", "y", ""))):
        with pytest.raises(ConfigurationError, match="same two"):
            classes_of({"real": real, "test": others})
    one = images(4, 1)
    with pytest.raises(EvaluationError, match="one class"):
        study(test=ImageSet(one.pixels, np.ones(4, bool), one.patients))


def test_a_test_image_is_neither_trained_on_nor_the_start_of_a_synthetic_one(
    tmp_path: Path,
) -> None:
    bundle, rows = tiny_bundle(), []
    for number, label in enumerate(("ill", "well") * 2):
        path = tmp_path / f"{number}.png"
        save_png(smooth_picture(number), path)
        rows.append(LabelledImage(path, label))
    synthesis = Synthesis.of(rows[:2], 2, tmp_path / "made", SynthesisSettings("like", steps=2))
    made = [LabelledImage(synthesis.folder / p.file, p.label.text) for p in make(bundle, synthesis)]
    first, second, synthetic = (ImageSet.read(part, "ill", SIDE) for part in (rows[:2], rows[2:], made))
    assert first.pixels.shape == (2, 1, SIDE, SIDE) and first.labels.tolist() == [True, False]
    study(real=first, test=second, synthetic={"": synthetic})
    with pytest.raises(ConfigurationError, match="among the real"):
        study(real=first, test=first)
    with pytest.raises(ConfigurationError, match="2 test images are among the synthetic"):
        study(real=second, test=first, synthetic={"": synthetic})


def test_impossible_settings_are_refused() -> None:
    for wrong in ((0, 10, 8), (1, 1, 8), (1, 10, 6)):
        with pytest.raises(EvaluationError):
            UtilitySettings(*wrong)


def test_the_real_network_trains_its_upper_part_alone() -> None:
    pytest.importorskip("efficientnet_lite_pytorch", reason="needs the extra 'evaluation'")
    torch.manual_seed(0)
    network = FineTuned()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = images(4, 1)
    pictures = nn.functional.interpolate(found.pixels, (32, 32))
    fit(network, [(pictures, torch.from_numpy(found.labels).float())] * 2, 2)
    changed = {n for n, v in network.state_dict().items() if not torch.equal(before[n], v)}
    assert {"head.1.weight", "trunk._conv_head.weight"} <= changed
    assert not [name for name in changed if "running" in name or "_conv_stem" in name or "_blocks.0." in name]
    assert predict(network, pictures).shape == (4,)
    maps = seen(network, pictures)
    assert maps.shape[2:] == (4, 4)
    np.testing.assert_allclose(predict(network, maps), predict(network, pictures), atol=1e-5)


def test_classical_is_one_of_the_arms() -> None:
    assert {REAL, CLASSICAL} <= {arm.name for arm in ARMS}
