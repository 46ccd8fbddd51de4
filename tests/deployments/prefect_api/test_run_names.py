"""The last night, and the names of runs."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from deployments.deployed.requests import MosaicRequest, NightlyRequest, SequenceRequest
from deployments.prefect_api.run_names import last_night, queued_name, run_name
from imaging.instruments import catalogue

NIGHT = date(2013, 11, 21)
SANTIAGO = ZoneInfo("America/Santiago")
MORNING = datetime(2013, 11, 21, 12, tzinfo=UTC)
SEQUENCE = "2013-11-21.science.Y.0a0a0a0a"


@pytest.mark.parametrize(
    ("moment", "night"),
    [
        # Nine in the morning in Chile, in summer and in winter.
        (datetime(2013, 11, 21, 9, tzinfo=SANTIAGO), date(2013, 11, 21)),
        (datetime(2014, 6, 21, 9, tzinfo=SANTIAGO), date(2014, 6, 21)),
        # The days on which the clocks change.
        (datetime(2014, 4, 27, 9, tzinfo=SANTIAGO), date(2014, 4, 27)),
        (datetime(2014, 9, 7, 9, tzinfo=SANTIAGO), date(2014, 9, 7)),
        # Late in the evening the night that has begun is not the last one; towards the morning it is.
        (datetime(2013, 11, 20, 22, 59, tzinfo=SANTIAGO), date(2013, 11, 20)),
        (datetime(2013, 11, 20, 23, 0, tzinfo=SANTIAGO), date(2013, 11, 21)),
        # The day after a night, before and after its end in the afternoon.
        (datetime(2013, 11, 21, 13, 59, tzinfo=UTC), NIGHT),
        (datetime(2013, 11, 21, 17, 1, tzinfo=UTC), NIGHT),
        (datetime(2013, 11, 22, 1, 59, tzinfo=UTC), NIGHT),
        (datetime(2013, 11, 22, 2, 0, tzinfo=UTC), date(2013, 11, 22)),
        # The same moment in another time zone is the same night.
        (datetime(2013, 11, 21, 12, tzinfo=UTC).astimezone(ZoneInfo("Pacific/Honolulu")), NIGHT),
    ],
)
def test_the_last_night(moment: datetime, night: date) -> None:
    assert last_night(moment, SANTIAGO) == night


@pytest.mark.parametrize("zone", ["Pacific/Honolulu", "Australia/Sydney", "Europe/Madrid", "UTC"])
def test_in_the_morning_of_any_observatory_the_last_night_has_the_date_of_that_morning(zone: str) -> None:
    for month in range(1, 13):
        morning = datetime(2014, month, 9, 9, tzinfo=ZoneInfo(zone))
        assert last_night(morning, ZoneInfo(zone)) == morning.date()


def test_when_the_run_of_the_morning_starts_the_night_has_ended_or_ends_soon() -> None:
    """Throughout the year, its last night is the one whose frames were taken in the hours before."""
    for day in range(366):
        morning = datetime(2014, 1, 1, 9, tzinfo=SANTIAGO) + timedelta(days=day)
        dawn = morning - timedelta(hours=3)
        assert last_night(morning, SANTIAGO) == catalogue.site_of("F2").night_of(dawn), morning


@pytest.mark.parametrize(
    ("deployment", "request_", "name"),
    [
        ("arrival", SequenceRequest(sequence=SEQUENCE, label="science Y WISE J0413 2013-11-21"),
         "science Y WISE J0413 2013-11-21"),
        ("backlog", {"sequence": f"nirflow.sequence.{SEQUENCE}", "label": ""}, "science Y 2013-11-21"),
        ("nightly", None, "night 2013-11-21"),
        ("nightly", NightlyRequest(first=date(2013, 11, 20)), "night 2013-11-20"),
        ("calibrations", {"first": "2013-11-20", "last": "2013-11-21"}, "calibrations 2013-11-20 to 2013-11-21"),
        ("reprocess", {"affected_by": "a_dark"}, "reprocess a_dark"),
        ("reprocess", {"rules_version": "3"}, "reprocess by rules after 3"),
        ("decide", {"decision": "certify", "product": "a_dark"}, "certify a_dark"),
        ("mosaic", {"target": "M 42"}, "mosaic M 42"),
        ("mosaic", MosaicRequest(observation="GS-2013B-Q-15-40"), "mosaic GS-2013B-Q-15-40"),
        ("housekeeping", None, "housekeeping"),
        ("someone's own", {"first": "2013-11-20"}, None),
    ],
)  # fmt: skip
def test_a_run_is_named_after_what_it_does(deployment: str, request_: Any, name: str | None) -> None:
    assert run_name(deployment, request_, MORNING, SANTIAGO) == name


def test_a_run_that_has_not_begun_has_what_it_waits_for_in_its_name() -> None:
    request = {"request": {"sequence": SEQUENCE, "label": "science Y A\nB 2013-11-21"}}
    assert queued_name("arrival", request, MORNING, SANTIAGO, MORNING) == (
        r"science Y A\nB 2013-11-21, waits for its turn"
    )
    assert (
        queued_name("nightly", {}, MORNING, SANTIAGO, MORNING - timedelta(hours=1))
        == "night 2013-11-21, scheduled"
    )
    assert queued_name("someone's own", {}, MORNING, SANTIAGO) is None
