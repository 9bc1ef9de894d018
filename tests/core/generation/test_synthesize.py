"""A synthetic data set: what it holds, that it goes on, grows and is shared out, what is refused."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dino_diffusion.errors import Cancelled, ConfigurationError
from dino_diffusion.files.labelled_list import read_labelled
from dino_diffusion.generation.processes import Launched, jobs, wait_for_pictures, work
from dino_diffusion.generation.recipe import Recipe
from dino_diffusion.generation.replay import is_same, replay
from dino_diffusion.generation.synthesis import Synthesis, SynthesisSettings
from dino_diffusion.generation.synthesize import make, synthesize
from dino_diffusion.models import ModelBundle
from dino_diffusion.radiograph import Radiograph
from tests.tiny import saved_tiny_bundle, smooth_picture, tiny_bundle

Plan = Callable[..., Synthesis]


@pytest.fixture(scope="module")
def bundle() -> ModelBundle:
    return tiny_bundle()


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """Eight pictures of two classes and their list."""
    (tmp_path / "real").mkdir()
    rows = ["image,label,patient"]
    for seed in range(8):
        picture = (smooth_picture(seed, 70, 60).clip(0, 1) * 255).astype(np.uint8)
        Image.fromarray(picture).save(tmp_path / "real" / f"{seed}.png")
        rows.append(f"real/{seed}.png,{'well' if seed % 2 else 'A/B ill'},p{seed}")
    path = tmp_path / "pool.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture
def plan(pool: Path, tmp_path: Path) -> Plan:
    def planned(
        count: int = 5, folder: str = "made", method: str = "class-mean", **settings: object
    ) -> Synthesis:
        chosen = SynthesisSettings(method, **({"steps": 2, "inversion_steps": 2} | settings))  # type: ignore[arg-type]
        return Synthesis.of(read_labelled(pool), count, tmp_path / folder, chosen)

    return planned


def rows(manifest: Path) -> list[dict[str, str]]:
    with manifest.open(newline="") as file:
        return list(csv.DictReader(file))


def contents(synthesis: Synthesis) -> dict[str, bytes]:
    return {p.file: (synthesis.folder / p.file).read_bytes() for p in synthesis.planned()}


@pytest.mark.parametrize("method", ["class-mean", "concept", "like"])
def test_each_method_makes_a_set_with_recipes(bundle: ModelBundle, plan: Plan, method: str) -> None:
    synthesis = plan(method=method)
    listed = rows(synthesize(bundle, synthesis))
    assert [row["label"] for row in listed] == ["A/B ill", "well"] * 2 + ["A/B ill"]
    assert {row["method"] for row in listed} == {method}
    # The tiny bundle carries no index of training images.
    assert {row["nearest_percentile"] for row in listed} == {""}
    assert len({(synthesis.folder / row["image"]).read_bytes() for row in listed}) == 5
    for row in listed:
        image = synthesis.folder / row["image"]
        assert Radiograph.read(image).source.synthetic is not None
        assert Recipe.read(image) == Recipe.read(synthesis.folder / row["recipe"])
    extra = {"concepts"} if method == "concept" else set()
    names = {row[column] for row in listed for column in ("image", "recipe")}
    assert {path.name for path in synthesis.folder.iterdir()} == names | extra | {
        "manifest.csv",
        "synthesis.json",
    }


def test_a_picture_replays_from_its_class(bundle: ModelBundle, plan: Plan, tmp_path: Path) -> None:
    synthesis = plan(2)
    synthesize(bundle, synthesis)
    of_class = tmp_path / "class.csv"
    of_class.write_text("image\n" + "".join(f"real/{seed}.png\n" for seed in range(0, 8, 2)))
    recipe = Recipe.read(synthesis.folder / synthesis.planned()[0].recipe)
    assert is_same(replay(recipe, bundle, {"class": of_class}), recipe)


def test_it_uses_the_pool_of_the_label_alone(bundle: ModelBundle, plan: Plan, pool: Path) -> None:
    synthesis = plan(6, method="like")
    synthesize(bundle, synthesis)
    sources = {
        image.label: {
            Radiograph.read(other.path).source.sha256
            for other in read_labelled(pool)
            if other.label == image.label
        }
        for image in read_labelled(pool)
    }
    for picture in synthesis.planned():
        recipe = Recipe.read(synthesis.folder / picture.recipe)
        assert set(recipe.inputs.values()) <= sources[picture.label.text]


def test_a_stopped_set_goes_on_and_whole_files_stay(bundle: ModelBundle, plan: Plan) -> None:
    whole, stopped = plan(), plan(folder="stopped")
    synthesize(bundle, whole)
    looked = iter([False] * 6 + [True] * 100)
    with pytest.raises(Cancelled):
        list(make(bundle, stopped, stop=lambda: next(looked)))
    there = [picture for picture in stopped.planned() if picture.made(stopped.folder)]
    assert 0 < len(there) < 5
    assert len(list(stopped.folder.iterdir())) == 2 * len(there)
    kept = (stopped.folder / there[0].file).stat().st_mtime_ns
    synthesize(bundle, stopped)
    assert (stopped.folder / there[0].file).stat().st_mtime_ns == kept
    assert contents(stopped) == contents(whole)


def test_a_damaged_picture_is_made_again(bundle: ModelBundle, plan: Plan) -> None:
    synthesis = plan(2)
    synthesize(bundle, synthesis)
    before = contents(synthesis)
    first, second = synthesis.planned()
    (synthesis.folder / first.file).write_bytes(before[first.file][:-200])
    (synthesis.folder / second.recipe).unlink()
    synthesize(bundle, synthesis)
    assert contents(synthesis) == before


def test_a_set_grows_without_changing(bundle: ModelBundle, plan: Plan) -> None:
    synthesize(bundle, plan(3))
    before = contents(plan(3))
    synthesize(bundle, plan(6))
    assert contents(plan(6)).items() >= before.items()


def test_shares_together_are_the_whole(bundle: ModelBundle, plan: Plan) -> None:
    whole, shared = plan(), plan(folder="shared")
    synthesize(bundle, whole)
    made = [[picture.file for picture in make(bundle, shared, share, 3)] for share in range(3)]
    assert all(made)
    assert len([name for names in made for name in names]) == 5
    seen: list[str] = []
    wait_for_pictures(shared, set(made[0]), lambda picture: seen.append(picture.file))
    assert sorted(seen) == sorted(made[1] + made[2])
    assert contents(shared) == contents(whole)


def test_a_launcher_tells_which_share(monkeypatch: pytest.MonkeyPatch, plan: Plan) -> None:
    assert Launched.here() == Launched(0, 1, 0)
    for name, value in {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    found = jobs(plan(), None, "cpu", 2, Launched.here())
    assert [(job.share, job.shares) for job in found] == [(6, 8), (7, 8)]


@pytest.mark.slow
def test_workers_make_the_same_pictures(bundle: ModelBundle, plan: Plan, tmp_path: Path) -> None:
    folder = str(saved_tiny_bundle(tmp_path / "bundle"))
    loaded = ModelBundle.from_pretrained(folder)
    whole, shared = plan(), plan(folder="shared")
    synthesize(loaded, whole)
    made = [picture.file for picture in work(jobs(shared, folder, "cpu", 2, Launched()))]
    assert sorted(made) == sorted(picture.file for picture in shared.planned())
    for name in made:
        pair = [Radiograph.read(which.folder / name).stored.astype(int) for which in (whole, shared)]
        assert np.abs(pair[0] - pair[1]).max() <= 1


@pytest.mark.slow
def test_a_worker_that_fails_is_one_sentence(plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="no-such-bundle"):
        list(work(jobs(plan(), str(tmp_path / "no-such-bundle"), "cpu", 2, Launched())))


def test_a_folder_of_another_set_is_refused(bundle: ModelBundle, plan: Plan, pool: Path) -> None:
    synthesize(bundle, plan(2))
    with pytest.raises(ConfigurationError, match="another pool"):
        synthesize(bundle, plan(2, seed=1))
    with pytest.raises(ConfigurationError, match="another pool"):
        synthesize(tiny_bundle(1), plan(2))
    pool.write_text("\n".join(pool.read_text().splitlines()[:-1]))
    with pytest.raises(ConfigurationError, match="at least 4"):
        plan(2)
    with pytest.raises(ConfigurationError, match="another pool"):
        synthesize(bundle, plan(2, method="like"))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "empty"),
        ("image,label\n", "empty"),
        ("file,label\nreal/0.png,a\n", "no column 'image'"),
        ("image,finding\nreal/0.png,a\n", "no column 'label'"),
        ("image,label\nreal/0.png,\n", "row 2 lacks"),
        ("image,label\nreal/0.png,a\nreal/none.png,a\n", "row 3 names real/none.png"),
        ("image,label\nreal/0.png,a\nreal/../real/0.png,b\n", "once more"),
        ("image,label\nreal/0.png\n", "row 2 lacks"),
    ],
)
def test_a_bad_list_is_one_sentence(pool: Path, text: str, sentence: str) -> None:
    pool.write_text(text)
    with pytest.raises(ConfigurationError, match=sentence) as raised:
        read_labelled(pool)
    assert str(pool) in str(raised.value)


def test_impossible_settings_are_refused(plan: Plan) -> None:
    for wrong in ({"method": "magic"}, {"strength": 0.5}, {"method": "concept", "jitter": 0.1}, {"count": 1}):
        with pytest.raises(ConfigurationError):
            plan(**wrong)
