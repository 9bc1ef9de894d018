"""The datastore keeps what it acknowledged: through crashes, threads and foreign hands."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest
from monailabel.datastore.local import LocalDatastore
from monailabel.interfaces.exception import ImageNotFoundException, LabelNotFoundException

from monailabel_app.server import datastore as module
from monailabel_app.server.datastore import INDEX, DurableDatastore, place
from tests.server.conftest import IMAGES, make_label, make_studies


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    return make_studies(tmp_path / "studies")


def test_it_finds_the_images_and_reopens_with_its_labels(studies: Path, tmp_path: Path) -> None:
    store = DurableDatastore(studies)
    assert sorted(store.list_images()) == list(IMAGES)
    label = make_label(tmp_path / "label.png")
    assert store.save_label("chest1", str(label), "final", {"by": "anna"}) == "chest1"
    again = DurableDatastore(studies)
    assert Path(again.get_label_uri("chest1", "final")).read_bytes() == label.read_bytes()
    assert again.get_label_info("chest1", "final")["by"] == "anna"
    assert again.get_labeled_images() == ["chest1"]


def test_an_index_cut_off_in_the_middle_stops_monai_label_and_not_us(studies: Path, tmp_path: Path) -> None:
    store = DurableDatastore(studies)
    store.save_label("chest1", str(make_label(tmp_path / "label.png")), "final", {})
    index = studies / INDEX
    index.write_bytes(index.read_bytes()[:100])
    with pytest.raises(ValueError):
        LocalDatastore(str(studies), extensions=["*.png"])
    again = DurableDatastore(studies)
    assert sorted(again.list_images()) == list(IMAGES) and again.get_labeled_images() == ["chest1"]
    assert list(studies.glob(f"{INDEX}.broken-*"))


@pytest.mark.parametrize("broken", ["flush", "replace"])
def test_a_write_that_fails_changes_nothing(
    studies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    store = DurableDatastore(studies)
    first = make_label(tmp_path / "first.png", value=1)
    store.save_label("chest1", str(first), "final", {})
    before = (studies / INDEX).read_bytes()

    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module, "_flush" if broken == "flush" else "_into_place", no_space)
        with pytest.raises(OSError):
            store.save_label("chest1", str(make_label(tmp_path / "second.png", value=2)), "final", {})
    assert Path(store.get_label_uri("chest1", "final")).read_bytes() == first.read_bytes()
    assert (studies / INDEX).read_bytes() == before
    assert not [path for path in (studies / "labels" / "final").iterdir() if path.name != "chest1.png"]


def test_a_label_is_flushed_to_disk_before_it_is_acknowledged(
    studies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, events = DurableDatastore(studies), list[str]()
    flush, move = module._flush, module._into_place
    monkeypatch.setattr(module, "_flush", lambda file: (events.append("flush"), flush(file)))
    monkeypatch.setattr(module, "_into_place", lambda a, b: (events.append(b.name), move(a, b)))
    store.save_label("chest1", str(make_label(tmp_path / "label.png")), "final", {})
    assert events == ["flush", "chest1.png", "flush", INDEX]


def test_another_format_replaces_the_label_and_keeps_the_old_one(studies: Path, tmp_path: Path) -> None:
    store = DurableDatastore(studies)
    png = make_label(tmp_path / "label.png")
    store.save_label("chest1", str(png), "final", {})
    nrrd = tmp_path / "label.seg.nrrd"
    nrrd.write_bytes(b"any")
    store.save_label("chest1", str(nrrd), "final", {})
    assert store.get_label_uri("chest1", "final").endswith("final/chest1.nrrd")
    assert [path.name for path in (studies / "labels" / "final").iterdir()] == ["chest1.nrrd"]
    (kept,) = store.label_versions("chest1", "final")
    assert kept.suffix == ".png" and kept.read_bytes() == png.read_bytes()


def test_what_was_being_copied_when_the_server_was_killed_is_no_version(
    studies: Path, tmp_path: Path
) -> None:
    store = DurableDatastore(studies)
    label = make_label(tmp_path / "label.png")
    for _ in range(2):
        store.save_label("chest1", str(label), "final", {})
    (kept,) = store.label_versions("chest1", "final")
    kept.with_name(".0123456789abcdef").write_bytes(b"")
    assert store.label_versions("chest1", "final") == [kept]
    assert store.label_versions("chest2", "final") == []


def test_removed_labels_and_images_leave_their_labels_among_the_versions(
    studies: Path, tmp_path: Path
) -> None:
    store = DurableDatastore(studies)
    label = make_label(tmp_path / "label.png")
    store.save_label("chest1", str(label), "final", {})
    store.remove_image("chest1")
    assert sorted(store.list_images()) == ["chest2", "chest3"] and not (studies / "chest1.png").exists()
    assert store.label_versions("chest1", "final")[0].read_bytes() == label.read_bytes()
    with pytest.raises(ImageNotFoundException):
        store.remove_image("chest1")
    with pytest.raises(LabelNotFoundException):
        store.remove_label("chest2", "final")
    with pytest.raises(ImageNotFoundException):
        store.save_label("chest1", str(label), "final", {})


def test_only_the_end_of_a_name_is_its_suffix(tmp_path: Path) -> None:
    studies = make_studies(tmp_path / "studies", ("a.png.copy", "b.v1.2"))
    store = DurableDatastore(studies)
    assert sorted(store.list_images()) == ["a.png.copy", "b.v1.2"]
    assert store.get_image_uri("a.png.copy") == str(studies / "a.png.copy.png")


def test_many_threads_lose_no_label_and_never_miss_an_image(studies: Path, tmp_path: Path) -> None:
    """Upstream empties its list while it looks through the folder: an image is not found, a label lost."""
    store = DurableDatastore(studies)
    label = make_label(tmp_path / "label.png")
    faults: list[BaseException] = []
    done = threading.Event()

    def save(tag: str) -> None:
        try:
            for number in range(4):
                store.save_label(IMAGES[number % 3], str(label), tag, {})
        except BaseException as error:
            faults.append(error)

    def look() -> None:
        while not done.is_set():
            store.refresh()
            if sorted(store.list_images()) != list(IMAGES):
                faults.append(AssertionError(store.list_images()))
            store.status()

    looking = [threading.Thread(target=look) for _ in range(2)]
    saving = [threading.Thread(target=save, args=(f"tag{number}",)) for number in range(6)]
    for thread in (*looking, *saving):
        thread.start()
    for thread in saving:
        thread.join()
    done.set()
    for thread in looking:
        thread.join()
    assert faults == []
    stored = json.loads((studies / INDEX).read_text())["objects"]
    assert all(set(stored[image]["labels"]) == {f"tag{number}" for number in range(6)} for image in IMAGES)


def test_images_put_into_the_folder_by_hand_are_found(studies: Path, tmp_path: Path) -> None:
    store = DurableDatastore(studies)
    place(make_label(tmp_path / "new.png"), studies / "new.png")
    (studies / "other.png").write_bytes((studies / "new.png").read_bytes())
    end = time.monotonic() + 20
    while "other" not in store.list_images() and time.monotonic() < end:
        time.sleep(0.05)
    assert {"new", "other"} <= set(store.list_images())
