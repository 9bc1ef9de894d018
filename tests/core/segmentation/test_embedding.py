"""Segment embeddings as files: what comes back, what is refused, and in which words."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from dino_diffusion.codes import segment_of, structure_of
from dino_diffusion.errors import EmbeddingError
from dino_diffusion.segmentation.close_up import CloseUp
from dino_diffusion.segmentation.descriptors import FINE_WIDTH, KNOWN, Descriptors
from dino_diffusion.segmentation.embedding import (
    MOST_LESSONS,
    LearntSegment,
    Lesson,
    SegmentEmbedding,
    check_together,
)
from dino_diffusion.segmentation.embedding_file import FORMAT, KIND, MAX_BYTES
from dino_diffusion.segmentation.heads import SegmentHead
from dino_diffusion.segmentation.known_regions import REGIONS
from tests.tiny import tiny_bundle

WIDTH = 20


def lesson(labels: int = 2, images: tuple[str, ...] = ("a" * 64,), seed: int = 0) -> Lesson:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = SegmentHead(WIDTH, labels)
        head.belongs.copy_(torch.eye(labels + 1, REGIONS))
        head.trust.fill_(0.3)
        head.least.fill_(0.05)
        weights = head.half().state_dict()
    return Lesson(weights, images)


def some_descriptors() -> Descriptors:
    known = torch.randn(1, KNOWN, 8, 8).softmax(1)
    return Descriptors(torch.randn(1, WIDTH, 4, 4), torch.randn(1, FINE_WIDTH, 8, 8), known, torch.ones(1))


def embedding(**changes: Any) -> SegmentEmbedding:
    segments = tuple(LearntSegment(segment_of(value), 1, True) for value in (16, 17))
    return replace(SegmentEmbedding("clavicles", segments, (lesson(),), "0" * 16), **changes)


def rewritten(path: Path, tensors: dict[str, Any] | None = None, **changes: Any) -> Path:
    """The file with other metadata or tensors; its description's keys can be changed by name."""
    with safe_open(path, framework="pt") as file:
        metadata = dict(file.metadata())
        kept = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    about = json.loads(metadata["embedding"])
    for name, value in changes.items():
        (metadata if name in metadata else about)[name] = value
    metadata["embedding"] = changes.get("embedding", json.dumps(about))
    save_file(kept | (tensors or {}), path, metadata)
    return path


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    lessons = (lesson(), lesson(images=("b" * 64, "c" * 64), seed=1))
    first = embedding(lessons=lessons, close_up=CloseUp(0.1, -0.9, 0.8))
    path = first.save(tmp_path / "clavicles.safetensors")
    assert path.stat().st_size < MAX_BYTES
    second = SegmentEmbedding.load(path)
    assert second.about() == first.about() and second.close_up == first.close_up
    assert second.examples == 3 and second.values == (16, 17)
    seen = some_descriptors()
    assert torch.equal(first.probabilities(seen), second.probabilities(seen))


def test_lessons_vote_by_their_examples() -> None:
    lessons = (lesson(seed=1), lesson(images=("b" * 64, "c" * 64, "d" * 64), seed=2))
    seen = some_descriptors()
    taught = embedding(lessons=lessons)
    both, (one, other) = taught.probabilities(seen), (head(seen, 4) for _, head in taught.heads)
    assert torch.allclose(both, 0.25 * one + 0.75 * other, atol=1e-6)
    assert torch.allclose(both.sum(1), torch.ones(1, 8, 8), atol=1e-5)


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    path = tmp_path / "trap.safetensors"
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(EmbeddingError, match="cannot be read"):
        SegmentEmbedding.load(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cannot be read"),
        (b"\xff" * 100, "cannot be read"),
        (b"\x00" * (MAX_BYTES + 1), "less than 1"),
    ],
)
def test_foreign_bytes_get_a_sentence(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(EmbeddingError, match=words):
        SegmentEmbedding.load(path)
    with pytest.raises(EmbeddingError, match="No such file"):
        SegmentEmbedding.load(tmp_path / "missing.safetensors")


def test_another_kind_of_safetensors_file_is_refused(tmp_path: Path) -> None:
    save_file({"vectors": torch.zeros(2, 3)}, tmp_path / "c.safetensors", {"kind": "dino-diffusion concept"})
    with pytest.raises(EmbeddingError, match="is no segment embedding"):
        SegmentEmbedding.load(tmp_path / "c.safetensors")


@pytest.mark.parametrize(
    "changes",
    [
        {"embedding": "{"},
        {"embedding": "[1]"},
        {"embedding": '{"name": "x"}'},
        {"name": 7},
        {"name": ""},
        {"name": "x" * 100},
        {"model": "../../x"},
        {"images": []},
        {"images": [["nothing"]]},
        {"images": [["a" * 64]] * (MOST_LESSONS + 1)},
        {"images": [["a" * 64], ["b" * 64]]},
        {"segments": []},
        {"segments": [{"segment": {"value": 0}}]},
        {"close_up": 3},
        {"close_up": {"across": 0.0, "down": 0.0}},
        {"close_up": {"across": 0.0, "down": float("nan"), "side": 1.0}},
        {"close_up": {"across": 0.0, "down": 0.0, "side": -1.0}},
        {"close_up": {"across": "0", "down": 0.0, "side": 1.0}},
        {"format": str(FORMAT + 1)},
    ],
)
def test_a_damaged_description_gets_a_sentence(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = rewritten(embedding().save(tmp_path / "x.safetensors"), **changes)
    with pytest.raises(EmbeddingError, match=r"x\.safetensors: "):
        SegmentEmbedding.load(path)


@pytest.mark.parametrize(
    "tensors",
    [
        {"0.vote.bias": torch.zeros(9)},
        {"0.vote.bias": torch.full((3,), float("nan"))},
        {"0.vote.bias": torch.zeros(3, dtype=torch.int64)},
        {"0.coarse.1.weight": torch.zeros(1)},
        {"0.more": torch.zeros(1)},
        {"1.vote.bias": torch.zeros(3)},
    ],
)
def test_other_tensors_than_a_heads_are_refused(tmp_path: Path, tensors: dict[str, Any]) -> None:
    path = rewritten(embedding().save(tmp_path / "x.safetensors"), tensors)
    with pytest.raises(EmbeddingError, match=r"x\.safetensors: "):
        SegmentEmbedding.load(path)


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = embedding().save(tmp_path / "x.safetensors")
    before = path.read_bytes()

    def broken(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", broken)
    with pytest.raises(Exception, match="No space left"):
        embedding(name="other").save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["x.safetensors"] and path.read_bytes() == before


def test_another_bundle_is_refused() -> None:
    with pytest.raises(EmbeddingError, match="learn it again"):
        embedding().check(tiny_bundle())


def test_two_of_one_label_value_are_refused() -> None:
    with pytest.raises(EmbeddingError, match="both give the label 16"):
        check_together((embedding(), embedding(name="heart")))


def test_codes_follow_from_names() -> None:
    code, side = structure_of("Left clavicle")
    assert (code.value, side.value if side else None) == ("51299004", "7771000")
    assert (
        structure_of("ribs")[0].meaning == "Rib" and structure_of("tube")[0].meaning == "Anatomical Structure"
    )
    assert KIND.startswith("dino-diffusion")
