"""Names from clients: none leads out of where it belongs."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

import pytest
from fastapi import HTTPException
from hypothesis import given
from hypothesis import strategies as st

from monailabel_app.server.names import (
    check_params,
    check_tag,
    names_a_file,
    new_name,
    parse_object,
    suffix_of,
)


@pytest.mark.parametrize("name", ["chest1", "Müller (2).v1", "1.2.840.113619", "a_b-c", "x" * 200])
def test_ordinary_names_pass(name: str) -> None:
    assert new_name(name, "an image") == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "a/b", "a\\b", "/etc/passwd", ".hidden", "a\0", "a\n", "a..b", "x" * 201, "a "],
)
def test_other_names_do_not(name: str) -> None:
    with pytest.raises(HTTPException) as error:
        new_name(name, "an image")
    assert error.value.status_code == 400


@given(st.text(max_size=40))
def test_no_name_leaves_its_folder(name: str) -> None:
    try:
        passed = new_name(name, "an image")
    except HTTPException:
        return
    assert len(PurePosixPath(passed).parts) == 1 and passed not in (".", "..")
    assert not any(sign in passed for sign in "/\\\0\n:")


@pytest.mark.parametrize("tag", ["../../outside", "a/b", "", ".", "a.b", "x" * 65, "-a"])
def test_tags_are_plain(tag: str) -> None:
    assert check_tag("final") == "final"
    with pytest.raises(HTTPException):
        check_tag(tag)


@pytest.mark.parametrize(
    "params",
    [
        {"image": "chest1"},
        {"model": "other"},
        {"session": {}},
        {"concept": "/etc/passwd"},
        {"deep": [{"er": "../x"}]},
        {"deep": {"~/x": 1}},
        {"where": "C:\\x"},
        {"where": "http://example.org"},
        {"where": "file:x"},
        {"where": "a/../../b"},
        {"where": "a\0"},
        {"result_extension": "/../x"},
        {"result_extension": 5},
        {"device": "cpu; rm"},
        {"label_tag": "../x"},
        {"mask": "a/b"},
    ],
)
def test_params_name_no_file(params: dict[str, Any]) -> None:
    with pytest.raises(HTTPException) as error:
        check_params(params)
    assert error.value.status_code == 400


def test_params_nested_without_end_are_refused() -> None:
    nested: dict[str, Any] = {}
    for _ in range(50):
        nested = {"a": nested}
    with pytest.raises(HTTPException, match="nested"):
        check_params(nested)


@pytest.mark.parametrize(
    "params",
    [
        {"concept": "nih/effusion:0.7+pneumonia", "strength": 0.5, "keep_labels": ["heart"], "point": [3, 4]},
        {"result_extension": ".nrrd", "result_dtype": "uint8", "device": "cuda:1", "client_id": "x"},
        {"comment": "better than before.. really", "seed": 1, "zones": True, "nothing": None},
    ],
)
def test_ordinary_params_pass(params: dict[str, Any]) -> None:
    assert check_params(params) == params


@given(st.text(max_size=20))
def test_whatever_leads_upwards_is_seen(text: str) -> None:
    assert names_a_file(f"../{text}") and names_a_file(f"/{text}")


@pytest.mark.parametrize(
    ("filename", "suffix"),
    [
        ("a.nii.gz", ".nii.gz"),
        ("a.b.png", ".png"),
        ("label.seg.nrrd", ".seg.nrrd"),
        ("/tmp/x.y/scan.DCM", ".DCM"),
        ("..\\..\\x.png", ".png"),
        ("noending", ".d"),
        ("a./../b", ".d"),
        (None, ".d"),
        ("a.waytoolongending", ".d"),
    ],
)
def test_of_an_uploaded_name_only_the_ending_stays(filename: str | None, suffix: str) -> None:
    assert suffix_of(filename, ".d") == suffix


@pytest.mark.parametrize("text", ["{", "[]", "1", '"a"', "null", "NaN", '{"a": NaN}', "{" * 5000])
def test_what_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(HTTPException) as error:
        parse_object(text, "params")
    assert error.value.status_code == 400
