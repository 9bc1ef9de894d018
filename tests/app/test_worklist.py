"""The worklist and the strategies: who gets which image, what is skipped, what was reviewed."""

from __future__ import annotations

import sqlite3
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dino_diffusion.errors import Cancelled
from monailabel_app.lib.activelearning.coverage import distances
from monailabel_app.lib.errors import NotFound, RequestError
from monailabel_app.lib.worklist import LEASE_SECONDS
from monailabel_app.main import DinoDiffusionApp
from tests.app.conftest import IMAGES, Heard, MakeApp, ellipse, listening, submit, write_picture

STRATEGIES = ("uncertainty", "coverage", "random", "first")


def entry(app: DinoDiffusionApp, image: str) -> dict[str, Any]:
    return next(entry for entry in app.worklist_entries() if entry["image"] == image)


def following(app: DinoDiffusionApp, strategy: str = "first", client: str = "") -> str | None:
    return app.next_sample({"strategy": strategy, "client_id": client}).get("id")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_two_clients_get_the_same_image(app: DinoDiffusionApp, strategy: str) -> None:
    def ask(number: int) -> str | None:
        return following(app, strategy, f"client {number}")

    with ThreadPoolExecutor(8) as pool:
        given = list(pool.map(ask, range(len(IMAGES) + 3)))
    assert Counter(image for image in given if image) == Counter(IMAGES)
    assert given.count(None) == 3


def test_a_client_gets_another_image_meanwhile_and_its_own_again_at_the_end(app: DinoDiffusionApp) -> None:
    mine = [following(app, client="me") for _ in range(len(IMAGES))]
    assert sorted(image for image in mine if image) == sorted(IMAGES)
    assert following(app, client="me") == mine[0]
    assert following(app, client="you") is None
    app.worklist.release("film2")
    assert following(app, client="you") == "film2"


@pytest.mark.parametrize("name", ["", "127.0.0.1", "fe80::1", "user-xyz"])
def test_a_name_that_several_clients_share_gets_no_image_twice(app: DinoDiffusionApp, name: str) -> None:
    given = [following(app, client=name) for _ in range(len(IMAGES) + 2)]
    assert given == [*IMAGES, None, None]


def test_a_lease_expires(app: DinoDiffusionApp) -> None:
    assert following(app, client="me") == "film0"
    assert entry(app, "film0")["leased_by"] == "me"
    now = app.worklist.clock()
    app.worklist.clock = lambda: now + LEASE_SECONDS + 1
    assert entry(app, "film0")["leased_by"] is None
    assert following(app, client="you") == "film0"


def test_a_lease_survives_a_restart(app: DinoDiffusionApp, make_app: MakeApp) -> None:
    assert following(app, client="me") == "film0"
    assert following(make_app(), client="you") == "film1"


def test_a_submitted_label_ends_the_lease_and_the_work(app: DinoDiffusionApp, tmp_path: Path) -> None:
    following(app, client="me")
    submit(app, "film0", ellipse(), tmp_path)
    found = entry(app, "film0")
    assert found["status"] == "labelled" and found["labels"] == ["final"] and found["leased_by"] is None
    rest = {following(app, client=f"c{number}") for number in range(4)}
    assert "film0" not in rest


def test_a_label_of_another_tag_changes_nothing(app: DinoDiffusionApp, tmp_path: Path) -> None:
    following(app, client="me")
    submit(app, "film1", ellipse(), tmp_path)
    app.datastore().save_label("film0", str(tmp_path / "submitted.png"), "edit", {})
    app.on_save_label("film0", "film0")
    assert entry(app, "film0")["leased_by"] == "me" and entry(app, "film0")["status"] == "new"


def test_skipped_images_are_passed_over_with_their_reason(
    app: DinoDiffusionApp, make_app: MakeApp, tmp_path: Path
) -> None:
    following(app, client="me")
    app.worklist.skip("film0", "lateral\nview", "me")
    again = make_app()
    found = entry(again, "film0")
    assert (found["status"], found["reason"], found["leased_by"]) == ("skipped", "lateral view", None)
    assert "film0" not in {following(again, client=f"c{number}") for number in range(5)}
    app.worklist.skip("film0", "")
    assert entry(app, "film0")["status"] == "new"
    app.worklist.skip("film0", "blurred")
    submit(app, "film0", ellipse(), tmp_path)
    assert entry(app, "film0")["status"] == "labelled", "a label that came all the same counts"


def test_reviews_hold_until_the_next_label(
    app: DinoDiffusionApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(app, "film0", ellipse(), tmp_path)
    app.worklist.review("film0", "approved", "clean outline", "chief")
    found = entry(app, "film0")
    assert (found["status"], found["review"], found["comment"]) == ("reviewed", "approved", "clean outline")
    app.worklist.review("film0", "flagged", "apex is missing")
    assert entry(app, "film0")["status"] == "labelled"
    assert following(app, client="me") == "film0", "a flagged label needs work again"
    submit(app, "film0", ellipse(), tmp_path)
    found = entry(app, "film0")
    assert (found["status"], found["review"], found["comment"]) == ("labelled", None, None)


def test_what_makes_no_sense_is_refused(app: DinoDiffusionApp) -> None:
    with pytest.raises(NotFound, match="no image 'nobody'"):
        app.worklist.skip("nobody", "gone")
    with pytest.raises(RequestError, match="has no submitted label"):
        app.worklist.review("film0", "approved")
    with pytest.raises(RequestError, match="is no review"):
        app.worklist.review("film0", "great")
    with pytest.raises(RequestError, match="at most 1000 characters"):
        app.worklist.skip("film0", "x" * 1001)
    with pytest.raises(NotFound, match="no strategy 'best'; choose one of uncertainty"):
        app.next_sample({"strategy": "best"})


def test_the_most_uncertain_image_comes_first_and_scores_are_kept(
    app: DinoDiffusionApp, make_app: MakeApp
) -> None:
    app.scoring({"method": "uncertainty"})
    known = app.scores.uncertainties()
    assert set(known) == set(IMAGES)
    expected = sorted(known, key=lambda image: (-known[image], image))
    again = make_app()
    with listening(Heard()) as heard:
        assert [following(again, "uncertainty", f"c{k}") for k in range(4)] == expected
    assert not heard.reports, "no model was asked"
    assert [found["uncertainty"] for found in again.worklist_entries()] == [known[i] for i in sorted(known)]


def test_pre_labelling_scores_for_nothing(app: DinoDiffusionApp) -> None:
    result = app.infer({"model": "lungs", "image": "film3"})
    score = app.scores.known()["film3"]
    assert score.uncertainty == result["params"]["uncertainty"]
    assert score.embedding is not None and np.linalg.norm(score.embedding) == pytest.approx(1, abs=1e-5)


def test_scoring_can_be_stopped_and_goes_on_where_it_was(app: DinoDiffusionApp, studies: Path) -> None:
    for number in range(3):
        write_picture(studies / f"never seen {number}.png", 70 + number)
    app.datastore().refresh()
    with listening(Heard(stop_at=len(IMAGES) + 7)), pytest.raises(Cancelled):
        app.scoring({"method": "uncertainty"})
    done, all_ = len(app.scores.uncertainties()), len(IMAGES) + 3
    assert len(IMAGES) < done < all_
    assert app.scoring({"method": "uncertainty"}) == {"images": all_, "new": all_ - done}


def test_an_unreadable_image_comes_last_and_is_not_tried_again(app: DinoDiffusionApp, studies: Path) -> None:
    (studies / "aaa.png").write_bytes(b"no picture")
    app.datastore().refresh()
    order = [following(app, "uncertainty", f"c{k}") for k in range(5)]
    assert order[-1] == "aaa" and entry(app, "aaa")["uncertainty"] is None


def test_coverage_takes_the_image_least_like_those_labelled(
    app: DinoDiffusionApp, tmp_path: Path, studies: Path
) -> None:
    """A copy of a labelled image is of no use."""
    write_picture(studies / "copy.png", 0)
    app.datastore().refresh()
    submit(app, "film0", ellipse(), tmp_path)
    order = [following(app, "coverage", f"c{k}") for k in range(4)]
    assert order[-1] == "copy"


def test_core_set_distances() -> None:
    own = np.array([[1, 0], [0, 1], [0.8, 0.6]], np.float32)
    assert distances(own, [own[0]]) == pytest.approx([0, 1, 0.2])
    assert int(np.argmax(distances(own, []))) == 2, "the most typical one before the first label"


def test_the_database_is_on_disk_when_a_call_returns(app: DinoDiffusionApp) -> None:
    app.worklist.skip("film1", "blurred", "me")
    with sqlite3.connect(f"file:{app.database.path}?mode=ro", uri=True) as other:
        assert other.execute("SELECT skipped FROM marks").fetchall() == [("blurred",)]
        assert other.execute("PRAGMA integrity_check").fetchone() == ("ok",)
