"""Which images make a starter concept: one source, both views, contrasts alike in every class."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dino_diffusion.errors import ConfigurationError
from dino_diffusion.generation.concept import Concept
from dino_diffusion.generation.starters import (
    STARTERS,
    Row,
    choose,
    contrasts,
    opposed,
    read_rows,
)


def listed(count: int = 600, seed: int = 0) -> tuple[list[Row], dict[str, float]]:
    """Normal films have less contrast, AP films too; a third has a second finding."""
    rng = np.random.default_rng(seed)
    rows, contrast = [], {}
    for number in range(count):
        normal, ap = rng.random() < 0.5, rng.random() < 0.4
        finding = "normal" if normal else "Mass|Effusion" if rng.random() < 0.33 else "Effusion"
        image = f"{number}.png"
        rows.append(
            {
                "image": image,
                "source": "nih14",
                "split": "train",
                "patient_id": str(int(rng.integers(count // 2))),
                "view": "AP" if ap else "PA",
                "finding": finding,
            }
        )
        contrast[image] = float(np.clip(0.35 + 0.1 * normal + 0.1 * ap + 0.1 * rng.standard_normal(), 0, 1))
    return rows, contrast


def test_findings_are_told_from_normal_films_and_these_from_all_findings_of_their_set() -> None:
    names = ("nih/normal", "nih/effusion", "nih/pneumonia", "tb/normal", "tb/tuberculosis", "own/mass")
    vectors = {name: torch.full((2, 4), float(k)) for k, name in enumerate(names)}
    given = {name: Concept(name.partition("/")[2], vectors[name], "0" * 16) for name in names}
    made = opposed(given)
    assert [made[name].against for name in names] == [
        "effusion, pneumonia", "normal", "normal", "tuberculosis", "normal", ""
    ]  # fmt: skip
    assert torch.equal(made["tb/tuberculosis"].opposite, vectors["tb/normal"])
    assert torch.equal(
        made["nih/normal"].opposite, torch.cat([vectors["nih/effusion"], vectors["nih/pneumonia"]])
    )
    assert made["own/mass"] is given["own/mass"]


def test_classes_are_alike_in_all_but_the_finding() -> None:
    rows, contrast = listed()
    normal, effusion = (choose(rows, finding, contrast, 80) for finding in ("normal", "Effusion"))
    for chosen in (normal, effusion):
        assert Counter(row["view"] for row in chosen) == {"AP": 40, "PA": 40}
        assert len({row["image"] for row in chosen}) == 80
    for view in ("AP", "PA"):
        means = [
            np.mean([contrast[row["image"]] for row in chosen if row["view"] == view])
            for chosen in (normal, effusion)
        ]
        assert abs(means[0] - means[1]) < 0.02
    every = [np.mean([contrast[r["image"]] for r in rows if f in r["finding"]]) for f in ("normal", "Eff")]
    assert every[0] - every[1] > 0.08, "the classes differ as they come"


def test_few_other_findings_and_many_patients_are_preferred() -> None:
    rows, contrast = listed()
    chosen = choose(rows, "Effusion", contrast, 60)
    sick = [row for row in rows if "Effusion" in row["finding"]]
    assert np.mean(["|" in row["finding"] for row in chosen]) < np.mean(["|" in r["finding"] for r in sick])
    assert len({row["patient_id"] for row in chosen}) >= 55


def test_the_choice_repeats_whatever_the_order() -> None:
    rows, contrast = listed()
    assert choose(rows, "Effusion", contrast, 20) == choose(rows[::-1], "Effusion", contrast, 20)


def test_where_a_view_has_few_the_other_fills_up_and_some_are_left_out() -> None:
    rows, contrast = listed()
    few = [row for row in rows if row["view"] == "PA"] + [row for row in rows if row["view"] == "AP"][:10]
    views = Counter(row["view"] for row in choose(few, "normal", contrast, 60))
    assert views["AP"] <= 8
    assert views.total() == 60
    assert len(choose(rows[:20], "Effusion", contrast, 60)) < 20
    assert choose(rows, "Hernia", contrast) == []


def test_contrast_compares_dark_and_bright_of_the_middle(tmp_path: Path) -> None:
    rows = [{"image": f"{name}.png"} for name in ("flat", "deep")]
    for row, lung in zip(rows, (150, 40), strict=True):
        picture = np.full((100, 100), 220, np.uint8)
        picture[:3] = 0
        picture[10:80, 20:45] = picture[10:80, 55:80] = lung
        Image.fromarray(picture).save(tmp_path / row["image"])
    found = contrasts(tmp_path, rows)
    assert 0 < found["deep.png"] < found["flat.png"] < 1


def test_starters_have_names_of_their_own() -> None:
    names = [starter.full_name for starter in STARTERS]
    assert len(set(names)) == len(names) == 9
    assert {"nih/normal", "nih/effusion", "tb/tuberculosis"} <= set(names)


def test_a_list_without_the_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("image,finding\na.png,normal\n")
    with pytest.raises(ConfigurationError, match="lacks the columns patient_id, source, split, view"):
        read_rows(path)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_rows(tmp_path / "missing.csv")
