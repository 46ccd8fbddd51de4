from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from calib_store.model.records import InputRef
from calib_store.store import Store
from imaging.frames.facts import FrameFacts

Run = Callable[..., Result]
Add = Callable[..., dict[str, Any]]


def ids(result: Result) -> list[str]:
    return [product["id"] for product in json.loads(result.stdout)]


def test_list_by_kind_status_night_and_expression(nirflow: Run, added: Add) -> None:
    long = added("S20131120S0115", DATE_OBS="2013-11-20", UTSTART="04:48:00")
    short = added("S20131125S0001", EXPTIME=2.0, DATE_OBS="2013-11-25", UTSTART="04:48:00")
    nirflow("cal", "reject", short["id"], "--reason", "x")
    assert set(ids(nirflow("cal", "list", "--json"))) == {long["id"], short["id"]}
    assert ids(nirflow("cal", "list", "--json", "--limit", "1")) == [short["id"]]
    assert "the 1 newest; --limit shows more" in nirflow("cal", "list", "--limit", "1").stderr
    assert nirflow("cal", "list", "--limit", "2").stderr == ""
    for options, found in (
        (("--kind", "dark", "--status", "rejected"), short),
        (("--night", "2013-11-20"), long),
        (("--night", "2013-11-25"), short),
        (("--where", "exposure_time == 120 and kind == 'dark'"), long),
        (("--where", "exptime < 3 and status == 'rejected' and made > '2026-01-01'"), short),
        (("--where", "not (read_pairs != 8) and level == none and taken < '2013-11-24'"), long),
    ):
        assert ids(nirflow("cal", "list", "--json", *options)) == [found["id"]], options
    for options in (("--kind", "flat"), ("--night", "2013-11-21"), ("--where", "level > 3")):
        assert nirflow("cal", "list", *options).exit_code == 3, options


@pytest.mark.usefixtures("own_store")
@pytest.mark.parametrize(
    ("options", "reported"),
    [
        (("--night", "yesterday"), "--night 'yesterday' is not a night"),
        (("--where", "levle > 3"), "unknown name 'levle'"),
        (("--where", "level > 'x'"), "level"),
        (("--where", "__import__('os')"), "column"),
        (("--status", "good"), "good"),
    ],
)
def test_invalid_queries_are_usage_errors(nirflow: Run, options: tuple[str, ...], reported: str) -> None:
    result = nirflow("cal", "list", *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert reported in result.stderr


def test_names_of_expressions(nirflow: Run) -> None:
    reported = {one["name"] for one in json.loads(nirflow("cal", "list", "--names", "--json").stdout)}
    assert reported >= {
        "level", "noise", "n_bad", "rms", "seeing", "background_rms", "status", "doubtful", "exposure_time",
        "pedestal", "pedestal_uncertainty", "registration",
    }  # fmt: skip
    assert "level" in nirflow("cal", "list", "--names").stdout


@pytest.fixture
def image(store: Store, add: Any, facts: Callable[..., FrameFacts], record: Any) -> dict[str, Any]:
    """Return an image made with a dark, three raw frames and one that is not in the store."""
    from calib_store.model.records import Foreign

    raws = [record(f"S2013112{n}S0001.fits") for n in range(3)]
    store.frames.ingest(raws)
    dark = add("dark", inputs=[InputRef("dark", raw.sha256) for raw in raws[:2]])
    image = add(
        "image",
        inputs=[
            InputRef("science", raws[2].sha256), InputRef("dark", dark.id),
            InputRef("bpm", Foreign("M.fits", "md5:ab")),
        ],
    )  # fmt: skip
    return {"dark": dark, "image": image, "raws": raws}


@pytest.mark.usefixtures("own_store")
def test_show_a_product(nirflow: Run, image: dict[str, Any]) -> None:
    dark = image["dark"]
    nirflow("cal", "certify", dark.id, "--author", "Ana", "--reason", "fine")
    shown = nirflow("cal", "show", dark.id, "--no-preview").stdout
    for text in (
        str(dark.id), dark.sha256, "certified", "fine", "Ana", "120 s, 8 reads", "S20131120S0001.fits",
        str(image["image"].id)[:8], "2 raw frames in all generations", "Chosen for 0 frames", "there,",
    ):  # fmt: skip
        assert text in shown, text
    reported = json.loads(nirflow("cal", "show", dark.id, "--json", "--no-preview").stdout)
    assert [p["id"] for p in reported["used_by"]] == [str(image["image"].id)]
    assert [change["status"] for change in reported["history"]] == ["candidate", "certified"]
    assert reported["file"]["condition"] == "there"
    assert reported["preview"] is None


def test_show_makes_a_preview_once(nirflow: Run, added: Add) -> None:
    dark = added()
    picture = Path(json.loads(nirflow("cal", "show", dark["id"], "--json").stdout)["preview"])
    assert picture.read_bytes().startswith(b"\x89PNG")
    stamp = picture.stat().st_mtime_ns
    assert str(picture) in nirflow("cal", "show", dark["id"]).stdout
    assert picture.stat().st_mtime_ns == stamp


@pytest.mark.usefixtures("own_store")
def test_show_reports_a_missing_file(nirflow: Run, store: Store, image: dict[str, Any]) -> None:
    store.file_of(image["dark"]).unlink()
    reported = json.loads(nirflow("cal", "show", image["dark"].id, "--json").stdout)
    assert (reported["file"]["condition"], reported["preview"]) == ("missing", None)


@pytest.mark.usefixtures("own_store")
def test_show_a_frame(
    nirflow: Run, store: Store, image: dict[str, Any], facts: Callable[..., FrameFacts]
) -> None:
    from calib_store.model.records import Decision, Override

    raw = image["raws"][2]
    match = store.match(facts(), "dark")
    store.record_decisions([Decision(raw.sha256, match, image["dark"])])
    store.record_decisions([Decision(raw.sha256, match, None, Override("Bo", "--allow-missing dark"))])
    nirflow("cal", "reject", raw.path.name, "--reason", "satellite")
    shown = nirflow("cal", "show", "S20131122S0001").stdout
    for text in (
        raw.sha256,
        "satellite",
        str(raw.path),
        image["image"].name,
        "taken: ",
        "Bo: --allow-missing dark",
    ):
        assert text in shown, text
    reported = json.loads(nirflow("cal", "show", "S20131122S0001", "--json").stdout)
    assert len(reported["decisions"]) == 2


@pytest.mark.usefixtures("own_store")
def test_lineage_is_a_tree(nirflow: Run, image: dict[str, Any]) -> None:
    made, dark = image["image"], image["dark"]
    assert nirflow("cal", "lineage", made.id).stdout.splitlines() == [
        f"{made.name}  image {str(made.id)[:8]}",
        "├─ science: S20131122S0001.fits",
        f"├─ dark: {dark.name}  {str(dark.id)[:8]}",
        "│  └─ dark: 2 raw frames, S20131120S0001.fits to S20131121S0001.fits",
        "└─ bpm: M.fits, not in this store (md5:ab)",
    ]
    full = nirflow("cal", "lineage", made.id, "--full").stdout
    assert "│  ├─ dark: S20131120S0001.fits" in full
    assert len(json.loads(nirflow("cal", "lineage", made.id, "--json").stdout)["lineage"]) == 5


@pytest.mark.usefixtures("own_store")
def test_affected(nirflow: Run, image: dict[str, Any], add: Any, facts: Callable[..., FrameFacts]) -> None:
    result = nirflow("cal", "affected", "S20131120S0001")
    lines = result.stdout.splitlines()
    assert [line.split()[1] for line in lines[1:3]] == ["dark", "image"]
    assert "nirflow reduce --affected-by S20131120S0001" in lines[-1]
    mosaic = add("mosaic", facts=facts(target="M 42"), inputs=[InputRef("stack", image["image"].id)])
    again = nirflow("cal", "affected", "S20131120S0001").stdout.splitlines()[-1]
    assert again.endswith("nirflow reduce --affected-by S20131120S0001, then nirflow stack --target 'M 42'")
    assert nirflow("cal", "affected", image["image"].id).stdout.endswith("nirflow stack --target 'M 42'\n")
    nothing = nirflow("cal", "affected", mosaic.id)
    assert (nothing.exit_code, nothing.stdout) == (3, "")
    unknown = nirflow("cal", "affected", "S1")
    assert unknown.exit_code == 1
    assert "no product and no raw frame" in unknown.stderr
