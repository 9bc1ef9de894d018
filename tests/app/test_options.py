"""Settings: what clients see of them, and what they may send."""

from __future__ import annotations

from enum import Enum
from typing import Any

import pytest

from monailabel_app.lib.configs import options
from monailabel_app.lib.configs.options import Option
from monailabel_app.lib.errors import RequestError

COLOURS = ("blue", "red")


class Word(str, Enum):  # noqa: UP042 (as MONAI Label's own)
    red = "red"


@pytest.mark.parametrize(
    ("option", "given", "value"),
    [
        (options.flag("o"), None, False),
        (options.flag("o"), "true", True),
        (options.flag("o"), True, True),
        (options.flag("o", True), "off", False),
        (options.number("o", 0.5, 0, 1), "", 0.5),
        (options.number("o", 0.5, 0, 1), " 0.25 ", 0.25),
        (options.number("o", 0.5, 0, 1), 1, 1.0),
        (options.number("o", None, 0, 1), "", None),
        (options.number("o", None, 0, 1), "0.5", 0.5),
        (options.whole("o", 3, 1, 8), "4", 4),
        (options.whole("o", 3, 1, 8), 4.0, 4),
        (options.choice("o", COLOURS), "red", "red"),
        (options.choice("o", COLOURS), Word.red, "red"),
        (options.choice("o", COLOURS), ["blue", "red"], "blue"),
        (options.names("o", "names"), "a, b,,", ("a", "b")),
        (options.names("o", "names"), ["a", 3], ("a", "3")),
        (options.pixel("o"), "3, 4", (3, 4)),
        (options.pixel("o"), [3, 4], (3, 4)),
        (options.pixel("o"), None, None),
        (options.tag("o"), "final", "final"),
    ],
)
def test_settings_come_as_text_numbers_and_lists(option: Option, given: Any, value: Any) -> None:
    assert option.read({"o": given}) == value


@pytest.mark.parametrize(
    ("option", "given"),
    [
        (options.flag("o"), "perhaps"),
        (options.number("o", 0.5, 0, 1), "nan"),
        (options.number("o", 0.5, 0, 1), 1.01),
        (options.number("o", 0.5, 0, 1), True),
        (options.number("o", 0.5, 0, 1), [1]),
        (options.whole("o", 3, 1, 8), 2.5),
        (options.whole("o", 3, 1, 8), 1e400),
        (options.choice("o", COLOURS), "green"),
        (options.names("o", "names"), [["a"]]),
        (options.names("o", "names"), 3),
        (options.pixel("o"), "3"),
        (options.pixel("o"), {"x": 1}),
        (options.tag("o"), "../outside"),
        (options.text("o", "a text"), "two\nlines"),
        (options.text("o", "a text"), ["x" * 100]),
    ],
)
def test_what_is_impossible_is_refused_in_one_sentence(option: Option, given: Any) -> None:
    with pytest.raises(RequestError, match=r"^o=.* is not possible: give .*\.$"):
        option.read({"o": given})


def test_a_long_value_is_not_repeated() -> None:
    with pytest.raises(RequestError) as raised:
        options.choice("o", COLOURS).read({"o": "x" * 10_000})
    assert len(str(raised.value)) < 200


def test_the_stock_client_sees_check_boxes_combo_boxes_and_text() -> None:
    shown = options.display(
        (options.flag("zones"), options.choice("texture", COLOURS), options.number("strength", 1.0, 0, 1))
    )
    assert shown == {"zones": False, "texture": ["blue", "red"], "strength": 1.0}
    assert options.display([options.number("guidance", None, 0, 20)]) == {"guidance": ""}
