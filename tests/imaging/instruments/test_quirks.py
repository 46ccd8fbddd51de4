"""The functions that tables name for what they cannot express: found, identified, of no effect on other frames."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imaging.errors import FrameError, NirflowError
from imaging.instruments import catalogue
from imaging.instruments.instrument import Instrument
from imaging.instruments.reading import facts_in

MYCAM = Path(__file__).parent / "mycam.toml"
CARDS = {
    "INSTRUME": "ODDCAM", "IMAGETYP": "OBJECT", "DATE": "2024-05-01", "UT": "03:00:00", "ITIME": 10.0, "NCOADD": 4,
    "CAMERA": "wide", "FILTER": "J", "OBJECT": "M 1", "BIAS": -0.6,
}  # fmt: skip
QUIRKS = """
def same(keys, facts):
    return facts

def partly(keys, facts):
    return {"coadds": 1}

def nothing(keys, facts):
    facts["coadds"] = 3

def fails(keys, facts):
    return facts["no such fact"]

text = "no function"
"""


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Instrument]]:
    """Use a table with a function of a user's module for its quirks."""
    module = tmp_path / "odd_quirks.py"
    module.write_text(QUIRKS)
    monkeypatch.syspath_prepend(str(tmp_path))

    def use(function: str) -> Instrument:
        path = tmp_path / "odd.toml"
        text = (
            MYCAM.read_text()
            .replace('name = "MYCAM"', 'name = "ODDCAM"')
            .replace('aliases = ["MyCam-2"]', "")
        )
        path.write_text(text.replace("[facts]", f'quirks = "odd_quirks:{function}"\n[facts]', 1))
        catalogue.own_tables_from(lambda: [path])
        return catalogue.named("ODDCAM")

    yield use
    catalogue.own_tables_from(tuple)
    catalogue._function.cache_clear()
    sys.modules.pop("odd_quirks", None)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("partly", "m1.fits: the quirks returned the facts without airmass, "),
        ("nothing", "m1.fits: the quirks returned NoneType, expected all facts"),
        ("fails", "m1.fits: the quirks failed with KeyError: 'no such fact'"),
    ],
)
def test_quirks_that_fail_concern_their_frame(
    odd: Callable[[str], Instrument], function: str, message: str
) -> None:
    table = odd(function)
    with pytest.raises(FrameError, match=re.escape(message)) as caught:
        facts_in(table, CARDS, None, "m1.fits")
    assert f"odd_quirks:{function}" in caught.value.remedy


def test_quirks_are_a_function(odd: Callable[[str], Instrument]) -> None:
    with pytest.raises(NirflowError, match="'odd_quirks:text', which is not a function"):
        catalogue.quirks_of(odd("text"))


def test_the_source_of_quirks_is_part_of_the_identity(
    odd: Callable[[str], Instrument], tmp_path: Path
) -> None:
    odd("same")
    first = catalogue.identity("ODDCAM")
    assert first == catalogue.identity("ODDCAM")
    with (tmp_path / "odd_quirks.py").open("a") as file:
        file.write("# changed\n")
    assert catalogue.identity("ODDCAM") != first
