from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, text
from typer.testing import Result

from calib_store.store import Store
from calib_store.tables.schema import inputs
from calib_store.tables.status_log import log_status
from imaging.instruments import catalogue

Run = Callable[..., Result]
Add = Callable[..., dict[str, Any]]


def status(nirflow: Run, product: dict[str, Any]) -> str:
    return str(
        json.loads(nirflow("cal", "show", product["id"], "--json", "--no-preview").stdout)["product"][
            "status"
        ]
    )


def test_certify_with_a_time_and_without(nirflow: Run, added: Add) -> None:
    dark = added()
    result = nirflow("cal", "certify", dark["id"], "--from", "2013-11-01", "--to", "2013-12-01T12:00")
    assert result.exit_code == 0
    assert result.stdout == (
        f"{dark['name']} ({dark['id'][:8]}) is certified, valid 2013-11-01 00:00:00 to 2013-12-01 12:00:00 UT.\n"
    )
    reported = json.loads(
        nirflow("cal", "certify", dark["id"], "--from", "always", "--to", "always", "--json").stdout
    )
    assert reported["validity"] == [None, None]
    assert nirflow("cal", "certify", dark["id"], "--from", "soon").exit_code == 2


def test_certify_for_nights_as_they_roll_over(nirflow: Run, added: Add) -> None:
    """23:30 UT is the evening in Chile: it belongs to the night that has the date of the next day."""
    dark = added()
    one = nirflow("cal", "certify", dark["id"], "--night", "2013-11-21")
    assert "valid 2013-11-20 17:00:00 to 2013-11-21 17:00:00 UT." in one.stdout
    assert one.stderr == ""
    reported = json.loads(
        nirflow("cal", "certify", dark["id"], "--nights", "20131121..20131128", "--json").stdout
    )
    begins, ends = map(datetime.fromisoformat, reported["validity"])
    evening = datetime(2013, 11, 20, 23, 30, tzinfo=UTC)
    assert begins <= evening < ends
    site = catalogue.site_of("F2")
    assert (site.night_of(begins), site.night_of(ends - timedelta(seconds=1))) == (
        date(2013, 11, 21),
        date(2013, 11, 28),
    )
    assert (begins, ends) == site.validity_of(date(2013, 11, 21), date(2013, 11, 28))


def test_the_nights_of_a_validity_contain_the_products_own_calibrations_of_the_day(
    nirflow: Run, added: Add
) -> None:
    """Darks of 15:00 UT, noon in Chile, are of the night that has just ended."""
    dark = added(UTSTART="15:00:00.0", DATE_OBS="2013-11-21")
    for night, found in (("2013-11-21", True), ("2013-11-22", False)):
        listed = nirflow("cal", "list", "--night", night, "--json")
        assert (dark["id"] in listed.stdout) is found
        reported = json.loads(nirflow("cal", "certify", dark["id"], "--night", night, "--json").stdout)
        begins, ends = map(datetime.fromisoformat, reported["validity"])
        assert (begins <= datetime.fromisoformat(dark["middle"]) < ends) is found


def test_a_date_means_a_moment_and_a_hint_names_the_option_for_nights(nirflow: Run, added: Add) -> None:
    dark = added()
    result = nirflow("cal", "certify", dark["id"], "--from", "2013-11-21", "--to", "2013-11-28")
    assert "valid 2013-11-21 00:00:00 to 2013-11-28 00:00:00 UT." in result.stdout
    assert "--from 2013-11-21 is 00:00 UT of that day" in result.stderr
    assert "nights of F2 begin at 17:00 UT" in result.stderr
    assert "--nights 2013-11-21..2013-11-28" in result.stderr
    one_side = nirflow("cal", "certify", dark["id"], "--from", "2013-11-21", "--to", "always")
    assert "--nights 2013-11-21..NIGHT" in one_side.stderr
    exact = nirflow("cal", "certify", dark["id"], "--from", "2013-11-21T03:00", "--to", "always")
    assert "valid 2013-11-21 03:00:00 UT to always." in exact.stdout
    assert exact.stderr == ""


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--nights", "0001-01-01"), "is not a night"),
        (("--nights", "2013-11-31"), "is not a night"),
        (("--nights", "2013-11-21T03:00"), "is not a night"),
        (("--nights", "2013-11-21.."), "is not a night"),
        (("--nights", "2013-11-28..2013-11-21"), "ends before it begins"),
        (("--nights", "2013-11-21", "--to", "always"), "Use either --nights, or --from and --to"),
        (("--to", "tomorrow"), "is not a time"),
    ],
)
def test_nights_and_times_that_are_refused(
    nirflow: Run, added: Add, options: tuple[str, ...], problem: str
) -> None:
    dark = added()
    result = nirflow("cal", "certify", dark["id"], *options)
    assert result.exit_code == 2
    assert problem in result.stderr
    assert status(nirflow, dark) == "candidate"


def test_an_overlap_is_refused_with_an_explanation_and_divided_on_request(nirflow: Run, added: Add) -> None:
    one, two = added("S20131120S0115"), added("S20131220S0115", DATE_OBS="2013-12-20")
    assert nirflow("cal", "certify", one["id"]).exit_code == 0
    refused = nirflow("cal", "certify", two["id"])
    assert refused.exit_code == 1
    assert f"{one['name']} ({one['id'][:8]}) for 2013-08-23" in refused.stderr
    assert status(nirflow, two) == "candidate"
    shared = nirflow("cal", "certify", two["id"], "--take-over")
    assert shared.exit_code == 0
    assert [line.split(" (")[0] for line in shared.stdout.splitlines()] == [two["name"], one["name"]]
    assert (status(nirflow, one), status(nirflow, two)) == ("certified", "certified")


def test_reject_names_what_was_made_with_it(nirflow: Run, added: Add) -> None:
    dark = added()
    assert nirflow("cal", "reject", dark["id"]).exit_code == 2  # without a reason
    result = nirflow("cal", "reject", dark["id"], "--reason", "light leak", "--author", "Bo")
    assert result.stdout == f"{dark['name']} ({dark['id'][:8]}) is rejected.\n"
    refused = nirflow("cal", "certify", dark["id"])
    assert "was rejected by Bo" in refused.stderr
    again = nirflow("cal", "reinstate", dark["id"], "--reason", "a mistake")
    assert again.stdout.endswith("is candidate again.\n")
    assert status(nirflow, dark) == "candidate"


def test_superseded_products_become_valid_again_by_a_reinstatement(nirflow: Run, added: Add) -> None:
    cause, made = added("S20131120S0115"), added("S20131121S0115", DATE_OBS="2013-11-21")
    with Store.open() as store:
        product = store.get(made["id"])
        row = {"product_id": product.id, "ordinal": 0, "role": "dark", "input_product_id": cause["id"]}
        store.database.run(lambda connection: connection.execute(insert(inputs), [row]))
        nirflow("cal", "reject", cause["id"], "--reason", "light leak")
        store.database.run(
            lambda connection: log_status(
                connection, product.id, "superseded", None, author="nirflow", reason="made again without it",
                because=cause["id"], automatic=True,
            )
        )  # fmt: skip
        store.database.run(
            lambda connection: connection.execute(
                text("UPDATE products SET status = 'superseded' WHERE id = :id"), {"id": product.id}
            )
        )
    shown = nirflow("cal", "reinstate", cause["id"], "--reason", "a mistake").stdout.splitlines()
    assert shown[1] == f"{made['name']} ({made['id'][:8]}) was superseded because of it and is valid again."
    assert status(nirflow, made) == "candidate"


def test_supersede(nirflow: Run, added: Add) -> None:
    one, two = added("S20131120S0115"), added("S20131121S0115", DATE_OBS="2013-11-21")
    nirflow("cal", "certify", one["id"])
    result = nirflow("cal", "supersede", one["id"], "--by", two["id"], "--reason", "less noise")
    assert [line.split(" is ")[1][:10] for line in result.stdout.splitlines()] == ["superseded", "certified,"]
    assert (status(nirflow, one), status(nirflow, two)) == ("superseded", "certified")


def test_a_period_without_a_certified_product_is_reported(nirflow: Run, added: Add) -> None:
    one = added()
    nirflow("cal", "certify", one["id"])
    result = nirflow("cal", "supersede", one["id"], "--reason", "old")
    assert "No dark of its configuration is certified any longer for 2013-08-23" in result.stdout


def test_a_shared_name_refers_to_the_valid_product(nirflow: Run, added: Add, tmp_path: Path) -> None:
    """A file made again has the name of the one that it replaces."""
    old = added("S20131120S0115", 1.0)
    for path in tmp_path.glob("S20131120S0115*"):
        path.unlink()
    new = added("S20131120S0115", 2.0)
    assert old["name"] == new["name"]
    several = nirflow("cal", "show", new["name"])
    assert several.exit_code == 1
    assert f"{old['id']} ({old['name']}, candidate, made " in several.stderr
    nirflow("cal", "supersede", old["id"])
    for name in (new["name"], new["name"].removesuffix(".fits")):
        for command in ("show", "lineage"):
            reported = json.loads(nirflow("cal", command, name, "--json").stdout)
            assert reported["product"]["id"] == new["id"]
    refused = nirflow("cal", "reinstate", new["name"], "--reason", "x")
    assert "is already a candidate" in refused.stderr
    assert "nirflow cal list --where" in refused.stderr


def test_compare(nirflow: Run, added: Add) -> None:
    one, two = added("S20131120S0115", 100.0, 2.0), added("S20131120S0200", 180.0, 2.0)
    nothing = nirflow("cal", "compare", one["id"])
    assert nothing.exit_code == 1
    assert "No other dark of the configuration" in nothing.stderr
    result = nirflow("cal", "compare", one["id"], "--with", two["id"])
    assert result.exit_code == 4
    assert "Too different: the level is -80" in result.stdout
    assert "median difference" in result.stdout
    loose = nirflow("cal", "compare", one["id"], "--with", two["id"], "--set", "gate.dark_level=100")
    assert loose.exit_code == 0
    assert "It is within the limits." in loose.stdout
    reported = json.loads(nirflow("cal", "compare", one["id"], "--with", two["id"], "--json").stdout)
    assert (reported["passed"], reported["reference"]["id"]) == (False, two["id"])
    assert nirflow("cal", "compare", one["id"], "--set", "gate.sigmaa=3").exit_code == 2
