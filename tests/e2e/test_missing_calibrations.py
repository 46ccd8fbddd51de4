"""Nights that lack a calibration: refused by name with a remedy, or made without them where allowed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from astropy.io import fits
from night_lab import Lab, Run, link

from imaging.products.product_file import read_table
from imaging.simulator.truth import NightTruth

#: Names of the first files of the sets.
BPM_TEXTS = (
    "no bad pixel mask serves",
    "The store has no bad pixel mask at all",
    "--use bpm=",
    "--allow-missing bpm",
)


def _without(night: NightTruth, folder: Path, *roles: str) -> Path:
    return link([night.folder.parent / f.file for f in night.frames if f.role not in roles], folder)


@pytest.fixture(scope="module")
def lab(new_lab: Callable[..., Lab]) -> Lab:
    """Return a store without flats and masks; the tests here add none."""
    return new_lab()


@pytest.mark.parametrize(
    ("role", "name", "expected"),
    [
        ("lamp_off", "bad pixel mask", ("no lamp-offs to go with the lamp-ons", "Add them", "--use bpm=")),
        (
            "short_dark", "bad pixel mask",
            ("no short darks (of 3 s or less)", "Add short darks", "--use bpm=", "groups.longest_short_dark"),
        ),
        (
            "lamp_on", "S20131126S1111.fits, S20131126S1112.fits, S20131126S1113.fits",
            ("lamp-off flats in Y of 20 s with 1 read pair, without lamp-ons of the same", "Add the night"),
        ),
    ],
)  # fmt: skip
def test_a_set_is_missing(
    lab: Lab, night: NightTruth, tmp_path: Path, role: str, name: str, expected: tuple[str, ...]
) -> None:
    run = lab.reduce(_without(night, tmp_path / "night", role), out=f"no-{role}")
    reported = [f"{one.reason} {one.remedy}" for one in run.report.left_out if one.name == name]
    assert len(reported) == 1, run.report.left_out
    assert [term for term in expected if term not in reported[0]] == []
    # Short darks that no mask uses become a master dark.
    assert run.kinds() == (["dark"] if role == "short_dark" else ["dark", "dark"])
    refused = run.failure("WISE")
    assert [term for term in BPM_TEXTS if term not in refused] == []
    if role != "lamp_on":
        flat = run.failure("flat Y")
        assert [term for term in BPM_TEXTS if term not in flat] == []
    assert len(run.report.failures) == (1 if role == "lamp_on" else 2)


def test_science_alone_is_refused_by_name_and_made_without_where_allowed(
    lab: Lab, night: NightTruth, tmp_path: Path
) -> None:
    folder = _without(night, tmp_path / "night", "dark", "short_dark", "lamp_on", "lamp_off")
    alone = _without(night, tmp_path / "other", "short_dark", "lamp_on", "lamp_off")
    refused = lab.reduce(alone, out="refused", choice={"allow_missing": ["bpm"]})
    message = refused.failure("WISE")
    assert "no flat serves" in message
    assert "filter Y_G0811" in message
    assert "--use flat=NAME_OR_PATH" in message
    assert "--allow-missing flat" in message

    made = lab.reduce(folder, out="made", choice={"allow_missing": ["bpm", "flat"]})
    assert made.report.failures == ()
    stack = made.product("image")
    # The dark is in the store from the previous run.
    assert stack.calibrations == ("S20131120S0115_dark.fits",)
    assert stack.warnings[:2] == (
        "made without a bpm, as the user allowed",
        "made without a flat, as the user allowed",
    )
    assert stack.output is not None
    header = fits.getheader(stack.output)
    assert header["NFWARN1"] == stack.warnings[0]
    assert header["NFWARN2"] == stack.warnings[1]
    assert header["DARKIM"] == "S20131120S0115_dark.fits"
    assert "FLATIM" not in header

    again = lab.reduce(folder, out="made", choice={"allow_missing": ["bpm", "flat"]})
    assert again.product("image").reused
    assert again.product("image").warnings == stack.warnings


def test_without_any_calibration(
    lab: Lab, new_lab: Callable[..., Lab], night: NightTruth, tmp_path: Path
) -> None:
    folder = _without(night, tmp_path / "night", "dark", "short_dark", "lamp_on", "lamp_off")
    empty = new_lab()
    bare = empty.reduce(folder)
    assert bare.kinds() == []
    (failure,) = bare.report.failures
    assert "no dark serves" in failure.message
    assert "The store has no dark at all" in failure.message
    made: Run = empty.reduce(folder, choice={"allow_missing": ["dark", "bpm", "flat"]})
    assert made.report.failures == ()
    assert made.product("image").calibrations == ()
    assert [w for w in made.product("image").warnings if w.startswith("made without a ")] == [
        "made without a dark, as the user allowed",
        "made without a bpm, as the user allowed",
        "made without a flat, as the user allowed",
    ]


def test_a_named_calibration_is_used_and_reported(
    lab: Lab, reduced: Run, night: NightTruth, tmp_path: Path
) -> None:
    folder = _without(night, tmp_path / "night", "dark", "short_dark", "lamp_on", "lamp_off")
    files = {kind: reduced.product(kind).output for kind in ("dark", "bpm", "flat")}
    run = lab.reduce(folder, out="named", choice={"use": {kind: str(path) for kind, path in files.items()}})
    assert run.report.failures == ()
    stack = run.product("image")
    assert set(stack.calibrations) == {path.name for path in files.values() if path is not None}
    assert [w for w in stack.warnings if "named by the user" in w] == [
        f"the {kind} was named by the user" for kind in ("dark", "bpm", "flat")
    ]
    assert not [w for w in stack.warnings if "used as named" in w or "pedestal" in w]
    wrong = lab.reduce(folder, out="wrong", choice={"use": {"dark": str(files["flat"])}})
    message = wrong.failure("WISE")
    assert "is a flat, not a dark" in message
    nothing = lab.reduce(folder, out="wrong", choice={"use": {"dark": "no_such_dark"}})
    assert "The store has no product 'no_such_dark'" in nothing.failure("WISE")
    part = tmp_path / "S20131120S0115_part_dark.fits"
    with fits.open(files["dark"]) as complete:
        for plane in ("SCI", "VAR", "DQ"):
            complete[plane].data = complete[plane].data[:32, :40]
        complete.writeto(part, checksum=True)
    cut = lab.reduce(folder, out="wrong", choice={"use": {"dark": str(part)}})
    assert f"{part.name} has 32 x 40 pixels" in cut.failure("WISE")


def test_a_named_dark_of_another_exposure_time_is_recorded_in_the_product(
    lab: Lab, reduced: Run, night: NightTruth, tmp_path: Path
) -> None:
    folder = _without(night, tmp_path / "night", "dark", "short_dark", "lamp_on", "lamp_off")
    files = {kind: reduced.product(kind).output for kind in ("bpm", "flat")}
    other = tmp_path / "S20131120S0999_dark.fits"
    with fits.open(reduced.product("dark").output) as hdus:
        primary = hdus[0].header
        primary["EXPTIME"] = 8.0
        for hdu in hdus:  # like a dark that was not made by nirflow, from unknown frames
            hdu.header.remove("PEDESTAL", ignore_missing=True)
        for card in (
            "NFKEY",
            "PROCSOFT",
            "PROCSVER",
            *(card for card in primary if card.startswith("IMCMB")),
        ):
            primary.remove(card, ignore_missing=True)
        foreign = fits.HDUList([hdu for hdu in hdus if hdu.name not in ("LINEAGE", "PROVENANCE", "HISTORY")])
        foreign.writeto(other)
    use = {kind: str(path) for kind, path in files.items()} | {"dark": str(other)}
    run = lab.reduce(folder, out="disagrees", choice={"use": use})
    assert run.report.failures == ()
    stack = run.product("image")
    messages = f"used as named: dark {other.name}: exposure 8 s, frame 120 s"
    assert messages in stack.warnings
    assert "the dark does not record its pedestal: VAR is too large" in stack.warnings
    assert stack.output is not None
    assert messages in fits.getheader(stack.output)["NFWARN*"].values()
    history = read_table(stack.output, "HISTORY")
    assert history is not None
    reported = {str(row["primitive"]): json.loads(row["args"]) for row in history}
    assert reported["detrend"]["override"] == ["dark", "bpm", "flat"]
    assert reported["calibrations"]["disagreements"] == [messages.removeprefix("used as named: ")]


def test_lamp_ons_without_lamp_offs_make_a_flat_with_a_warning(
    new_lab: Callable[..., Lab], reduced: Run, night: NightTruth, tmp_path: Path
) -> None:
    lab, mask = new_lab(), reduced.product("bpm").output
    folder = _without(night, tmp_path / "night", "lamp_off", "science", "dark")
    run = lab.reduce(folder, choice={"use": {"bpm": str(mask)}})
    flat = run.product("flat")
    assert any("no lamp-off" in warning for warning in flat.warnings), flat.warnings
    assert flat.output is not None
    header = fits.getheader(flat.output)
    assert tuple(header["NFWARN*"].values()) == flat.warnings
