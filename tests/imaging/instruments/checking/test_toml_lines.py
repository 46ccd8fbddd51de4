"""The lines of keys in TOML texts."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.instruments.checking.toml_lines import line_of

INSTRUMENTS = Path(__file__).parents[4] / "imaging" / "instruments"
TEXT = """\
# A comment with [brackets] = 1
name = "a # b"   # not a key = 2
aliases = [
    "x",  # first
    'y]',
]
'quoted key' = 1
a.b.c = { d = [1, { e = "f}" }], "g h" = 2 }

[facts]   # a table
one = { keywords = ["A", "B"], range = [0, 1] }
"two" = { keywords = ["C"] }

[facts.three]
text = \"\"\"
fake = 1
[not.a.table]
\"\"\"
after = '''
also = 'no'
'''

[[modes]]
gain = 1.0
[modes.when]
camera = ["f6"]

[[modes]]
gain = 0.0
[[modes.parts]]
x = 1
[[modes.parts]]
x = 2
"""


@pytest.mark.parametrize(
    ("place", "line"),
    [
        (("name",), 2),
        (("aliases",), 3),
        (("aliases", 1), 5),
        (("quoted key",), 7),
        (("a", "b", "c", "d", 1, "e"), 8),
        (("a", "b", "c", "g h"), 8),
        (("facts",), 10),
        (("facts", "one", "range", 1), 11),
        (("facts", "two", "keywords"), 12),
        (("facts", "three"), 14),
        (("facts", "three", "after"), 19),
        (("modes",), 23),
        (("modes", 0, "when", "camera"), 26),
        (("modes", 1, "gain"), 29),
        (("modes", 1, "parts", 1, "x"), 33),
        (("facts", "one", "missing"), 11),
        (("facts", "missing"), 10),
        (("modes", 1, "read_noise"), 28),
        (("missing",), None),
        (("fake",), None),
        (("also",), None),
        ((), None),
    ],
)
def test_the_line_of_a_key(place: tuple[str | int, ...], line: int | None) -> None:
    tomllib.loads(TEXT)
    assert line_of(TEXT, place) == line


def places(value: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield every key and index of parsed TOML."""
    entries = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, inner in entries:
        yield (*place, key)
        yield from places(inner, (*place, key))


@pytest.mark.parametrize("path", sorted(INSTRUMENTS.glob("*.toml")), ids=lambda path: path.name)
def test_every_key_of_the_tables_is_found(path: Path) -> None:
    text = path.read_text()
    rows = text.splitlines()
    for place in places(tomllib.loads(text)):
        line = line_of(text, place)
        assert line is not None
        if isinstance(place[-1], str):
            assert place[-1] in rows[line - 1]


@given(st.text(max_size=60) | st.text("[]{}=a.,'\"#\n ", max_size=40))
def test_any_text_is_survived(text: str) -> None:
    line = line_of(text, ("a", 0, "b"))
    assert line is None or 1 <= line <= text.count("\n") + 1
