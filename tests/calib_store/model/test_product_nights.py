"""The nights of products, which depend on the site of their instrument."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from calib_store.model.product_nights import night_of, nights_of, site_of
from imaging.instruments import catalogue
from imaging.instruments.site import Site

#: When nights change in Chile.
EDGE = datetime(2013, 11, 21, 17, tzinfo=UTC)
ENDED, BEGUN = date(2013, 11, 21), date(2013, 11, 22)
FACTS: dict[str, Any] = {"instrument": "F2", "exposure_time": 60.0, "coadds": 2}


@pytest.mark.parametrize(
    ("begins", "ends", "nights", "middle"),
    [
        (-120, -100, (ENDED, ENDED), ENDED),
        (0, 20, (BEGUN, BEGUN), BEGUN),
        (-60, 60, (ENDED, ENDED), ENDED),  # a single exposure over the change
        (-1, 119, (ENDED, ENDED), ENDED),
        (-600, 119, (ENDED, ENDED), ENDED),  # the last one starts a second before
        (-600, 120, (ENDED, BEGUN), ENDED),
        (-1, 1000, (ENDED, BEGUN), BEGUN),
    ],
)
def test_an_exposure_belongs_to_the_night_in_which_it_starts(
    begins: int, ends: int, nights: tuple[date, date], middle: date
) -> None:
    span = EDGE + timedelta(seconds=begins), EDGE + timedelta(seconds=ends)
    assert nights_of(FACTS, span) == nights
    assert night_of(FACTS, span) == middle


@pytest.mark.parametrize("facts", [{}, {"instrument": ""}, {"instrument": "UNKNOWN"}])
def test_without_a_table_nights_change_at_14_ut(facts: dict[str, Any]) -> None:
    assert site_of(facts) == Site()
    change = EDGE.replace(hour=14)
    tick = timedelta(seconds=1)
    assert nights_of(facts, (change - tick, change)) == (ENDED, BEGUN)


def test_the_site_is_that_of_the_instruments_table() -> None:
    assert site_of(FACTS) == catalogue.named("F2").site
    assert site_of(FACTS).begins(BEGUN) == EDGE
