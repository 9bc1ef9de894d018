"""The token: made once, read by its owner alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dino_diffusion.errors import ConfigurationError
from monailabel_app.server.token import is_token, read_or_make_token


def test_it_is_made_once_and_kept_for_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "state" / "token"
    token = read_or_make_token(path)
    assert len(token) >= 40 and read_or_make_token(path) == token
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_or_make_token(tmp_path / "other") != token


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX file modes")
def test_a_token_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    read_or_make_token(path)
    path.chmod(0o640)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        read_or_make_token(path)


@pytest.mark.parametrize("content", ["", "short", "two words that are long enough", "\x00" * 30])
def test_a_file_that_holds_no_token_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "token"
    path.touch(0o600)
    path.write_text(content)
    with pytest.raises(ConfigurationError, match="delete it"):
        read_or_make_token(path)


@pytest.mark.parametrize("given", ["", "a", "secre", "secret ", "SECRET", "sécret"])
def test_only_the_token_is_the_token(given: str) -> None:
    assert is_token("secret", "secret") and not is_token(given, "secret")
