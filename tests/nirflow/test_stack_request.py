"""The request to ``nirflow stack``: one field, nights, bands and parameters, refused with a remedy."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest
from command_line import run_nirflow

from nirflow.exits import UsageError
from nirflow.request import build_request
from nirflow.stack_request import StackRequest, build_stack_request

OUT = Path("out")


def request(**changes: Any) -> StackRequest:
    return build_stack_request(**{"target": "FIELD", "observation": None, "out": OUT} | changes)


def test_a_request_has_what_was_written() -> None:
    made = request(
        when="2013-11-21..20131223",
        bands=("y", "H", "Y"),
        settings=("mosaic.orientation=north", "resample.interpolant=linear"),
    )
    assert (made.first, made.last) == (date(2013, 11, 21), date(2013, 12, 23))
    assert made.bands == ("Y", "H")
    assert made.parameters.mosaic.orientation == "north"
    assert made.parameters.resample.interpolant == "linear"
    assert request(when="2013-11-21:2013-11-22").last == date(2013, 11, 22)
    assert request(target=None, observation="GS-1").observation == "GS-1"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": None}, "Name one field"),
        ({"observation": "GS-1"}, "Name one field"),
        ({"target": "  "}, "Name one field"),
        ({"when": "tomorrow"}, "--nights 'tomorrow' is not a night"),
        ({"when": "2013-11-22..2013-11-21"}, "ends before it begins"),
        ({"bands": ("Q",)}, "Unknown band 'Q'"),
        ({"settings": ("mosaic.orientation=up",)}, "orientation"),
        ({"settings": ("mosaic.nothing=1",)}, "nothing"),
        ({"settings": ("stack.reject=none",)}, "no such step makes a mosaic"),
        ({"as_of": "soon"}, "--as-of 'soon' is not a time"),
    ],
)
def test_what_is_wrong_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        request(**changes)
    assert refused.value.remedy


def test_a_reduction_refuses_the_parameters_of_a_mosaic() -> None:
    with pytest.raises(UsageError, match="has no effect on a reduction") as refused:
        build_request([Path("night")], out=OUT, settings=["mosaic.level=none"])
    assert "nirflow stack" in refused.value.remedy


def test_the_command_shows_its_usage_errors() -> None:
    done = run_nirflow("stack")
    assert done.exit_code == 2
    assert "Name one field" in done.output
