"""Finding a concept by name, and what a list of images means."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dino_diffusion.errors import ConceptError, ConfigurationError, RadiographError
from dino_diffusion.files.image_list import list_images
from dino_diffusion.generation import library
from dino_diffusion.generation.concept import Concept
from dino_diffusion.generation.library import find_concept, find_weighted, shipped


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two sets that both have a `normal`."""
    for name in ("nih/normal", "nih/effusion", "tb/normal", "tb/tuberculosis"):
        concept = Concept(name.replace("/", " "), torch.zeros(1, 8), "0" * 16)
        concept.save(tmp_path / "concepts" / f"{name}.safetensors")
    monkeypatch.setattr(library, "shipped_folder", lambda: tmp_path / "concepts")
    return tmp_path


def test_shipped_concepts_have_their_sets_name(folder: Path) -> None:
    assert list(shipped()) == ["nih/effusion", "nih/normal", "tb/normal", "tb/tuberculosis"]


@pytest.mark.parametrize(
    ("text", "name", "weight"),
    [
        ("nih/effusion", "nih effusion", 1.0),
        ("effusion", "nih effusion", 1.0),
        ("normal", "nih normal", 1.0),
        ("healthy", "nih normal", 1.0),
        ("tb/normal:0.5", "tb normal", 0.5),
        ("effusion:-1", "nih effusion", -1.0),
    ],
)
def test_names_and_weights(folder: Path, text: str, name: str, weight: float) -> None:
    concept, found = find_weighted(text)
    assert (concept.name, found) == (name, weight)


def test_a_file_may_have_any_name(folder: Path) -> None:
    path = folder / "a:2.safetensors"
    Concept("mine", torch.zeros(1, 8), "0" * 16).save(path)
    assert find_weighted(str(path))[0].name == "mine"
    assert find_weighted(f"{path}:0.3")[1] == 0.3


@pytest.mark.parametrize("text", ["unknown", "unknown:1", "effusion:nan", "effusion:much", "", ":2"])
def test_an_unknown_name_lists_the_known_ones(folder: Path, text: str) -> None:
    with pytest.raises(ConceptError, match=r"nih/effusion.*healthy"):
        find_weighted(text)


def test_every_concept_that_travels_is_told_from_the_others_of_its_set_as_they_are_now() -> None:
    known = {name: Concept.load(path) for name, path in shipped().items()}
    for name, concept in known.items():
        own_set, _, own = name.partition("/")
        normal = known[f"{own_set}/normal"].vectors
        opposite = concept.opposite
        assert opposite is not None, name
        if own != "normal":
            assert torch.equal(opposite, normal), name
        else:
            others = [c.vectors for n, c in known.items() if n.startswith(own_set + "/") and n != name]
            rows = {tuple(row) for row in torch.cat(others).tolist()}
            assert {tuple(row) for row in opposite.tolist()} == rows


def test_a_missing_file_is_named(folder: Path) -> None:
    with pytest.raises(ConceptError, match=r"gone\.safetensors"):
        find_concept(folder / "gone.safetensors")


# --- lists of images -------------------------------------------------------------------------------


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.png").write_bytes(b"")
    rows = ["image,finding,licence,source", "a.png,Effusion|Mass,CC0,NIH", "b.png,normal,CC0,NIH"]
    (tmp_path / "list.csv").write_text("\n".join([*rows, "c.png,Mass,own,"]) + "\n")
    return tmp_path / "list.csv"


@pytest.mark.parametrize(
    ("where", "names"),
    [
        ({}, ["a.png", "b.png", "c.png"]),
        ({"finding": "Mass"}, ["a.png", "c.png"]),
        ({"finding": "Effusion|Mass"}, ["a.png"]),
        ({"finding": "Mass", "licence": "own"}, ["c.png"]),
    ],
)
def test_rows_are_chosen_by_their_columns(listed: Path, where: dict[str, str], names: list[str]) -> None:
    assert [path.name for path in list_images([listed], where).files] == names


def test_a_list_says_licence_and_source(listed: Path) -> None:
    found = list_images([listed])
    assert (found.licences, found.sources) == (("CC0", "own"), ("NIH",))


def test_folders_files_and_lists_mix_and_each_file_counts_once(listed: Path) -> None:
    folder = listed.parent
    assert len(list_images([listed, folder, folder / "a.png"]).files) == 3


def test_bad_lists_are_told(listed: Path) -> None:
    with pytest.raises(ConfigurationError, match="no row with finding = Hernia"):
        list_images([listed], {"finding": "Hernia"})
    with pytest.raises(ConfigurationError, match="no column 'sex'; it has image"):
        list_images([listed], {"sex": "F"})
    other = listed.with_name("other.csv")
    other.write_text("file\na.png\n")
    with pytest.raises(ConfigurationError, match="no column 'image'"):
        list_images([other])
    other.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="UTF-8"):
        list_images([other])
    with pytest.raises(RadiographError):
        list_images([])
