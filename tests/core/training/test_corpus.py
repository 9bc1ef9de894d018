import csv
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dino_diffusion.errors import ConfigurationError
from dino_diffusion.training.corpus import load_corpus
from dino_diffusion.training.pack import main as pack_main

from .conftest import draw_picture

ROWS = [
    ("1", "a", "train", "p1", "CC0"),
    ("2", "a", "holdout", "p2", "CC0"),
    ("3", "b", "train", "", "by request"),
    ("4", "b", "holdout", "", ""),
]


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    path = tmp_path / "list.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "source", "split", "patient_id", "licence", "image"])
        for row in ROWS:
            draw_picture(tmp_path / "files" / f"{row[0]}.png", 80, 60, int(row[0]))
            writer.writerow([*row, f"files/{row[0]}.png"])
    return path


@pytest.fixture
def packed(listed: Path, tmp_path: Path) -> Path:
    assert pack_main(["--data", str(listed), "--size", "40", "--out", str(tmp_path / "shards")]) == 0
    return tmp_path / "shards"


def described(items: list) -> list[tuple[str, ...]]:
    return [(item.key, item.source, item.split, item.patient, item.licence) for item in items]


def test_list_and_its_shards_say_the_same(listed: Path, packed: Path) -> None:
    assert described(load_corpus(listed)) == described(load_corpus(packed)) == ROWS


@pytest.mark.parametrize("kind", ["listed", "packed"])
def test_splits_and_sources_filter(kind: str, request: pytest.FixtureRequest) -> None:
    data = request.getfixturevalue(kind)
    assert [item.key for item in load_corpus(data, splits=["holdout"])] == ["2", "4"]
    assert [item.key for item in load_corpus(data, splits=["train"], sources=["b"])] == ["3"]


def test_packing_shrinks_and_never_enlarges(listed: Path, packed: Path, tmp_path: Path) -> None:
    original, small = load_corpus(listed)[0].read(), load_corpus(packed)[0].read()
    assert small.shape == (53, 40)
    resized = Image.fromarray(original).resize((40, 53), Image.Resampling.LANCZOS)
    corr = np.corrcoef(np.asarray(resized).ravel(), small.ravel())[0, 1]
    assert corr > 0.98
    assert pack_main(["--data", str(listed), "--size", "500", "--out", str(tmp_path / "as-is")]) == 0
    assert load_corpus(tmp_path / "as-is")[0].read().shape == original.shape


def test_packing_cuts_shards_by_weight_and_refuses_a_used_folder(
    listed: Path, tmp_path: Path, capsys
) -> None:
    arguments = ["--data", str(listed), "--out", str(tmp_path / "many"), "--shard-mb", "0.004"]
    assert pack_main(arguments) == 0
    assert len(list((tmp_path / "many").glob("*.tar"))) > 1
    assert described(load_corpus(tmp_path / "many")) == ROWS
    assert pack_main(arguments) == 1
    assert "shards already" in capsys.readouterr().err


def test_packed_webp_is_passed_on_untouched(tmp_path: Path) -> None:
    source = draw_picture(tmp_path / "in" / "x.webp")
    assert pack_main(["--data", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 0
    assert load_corpus(tmp_path / "out")[0].data() == source.read_bytes()


def test_folder_names_split_and_source(tmp_path: Path) -> None:
    draw_picture(tmp_path / "train" / "clinic" / "x.png")
    draw_picture(tmp_path / "holdout" / "clinic" / "y.png")
    assert described(load_corpus(tmp_path, splits=["train"])) == [
        ("train/clinic/x.png", "clinic", "train", "", "")
    ]


def test_sixteen_bits_are_read_whole(tmp_path: Path) -> None:
    pixels = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(pixels).save(tmp_path / "deep.png")
    np.testing.assert_allclose(load_corpus(tmp_path)[0].read(), pixels / 65535, atol=1e-6)


def test_limit_thins_out(pictures: Path) -> None:
    keys = [item.key for item in load_corpus(pictures, limit=3)]
    assert len(keys) == 3 and keys == sorted(keys)


def test_what_is_wrong_is_said(tmp_path: Path, listed: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    (tmp_path / "bad.tar").write_bytes(b"no tar at all" * 100)
    for data, words in {
        "": "data.path",
        str(tmp_path / "nowhere"): "no training data",
        str(tmp_path / "empty"): "no picture there",
        str(tmp_path / "bad.csv"): "no column 'image'",
        str(tmp_path / "bad.tar"): "not a readable shard",
    }.items():
        with pytest.raises(ConfigurationError, match=words):
            load_corpus(data)
    with pytest.raises(ConfigurationError, match=r"'nonsense'.*'holdout', 'train'"):
        load_corpus(listed, splits=["nonsense"])


def test_a_broken_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"text")
    with pytest.raises(ConfigurationError, match=r"broken\.png"):
        load_corpus(tmp_path)[0].read()


def test_foreign_shards_without_json_are_read(tmp_path: Path) -> None:
    picture = draw_picture(tmp_path / "x.png").read_bytes()
    with tarfile.open(tmp_path / "foreign.tar", "w") as shard:
        for name, data in {
            "k1.png": picture,
            "k2.png": picture,
            "k2.json": json.dumps({"source": "s"}).encode(),
        }.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            shard.addfile(member, io.BytesIO(data))
    assert described(load_corpus(tmp_path / "foreign.tar")) == [
        ("k1", "", "", "", ""),
        ("k2", "s", "", "", ""),
    ]
