"""A step that fails: the frame is left out by name, and the next run makes up for the failure."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from night_lab import Lab, Run
from waiting import PATIENCE

from imaging.errors import FrameError, NirflowError
from imaging.simulator.truth import NightTruth

#: The frames that a step fails for, each by another error, and the reasons that the user sees.
BROKEN = {
    "S20131121S0077.fits": (
        FrameError("S20131121S0077.fits", "it went wrong", remedy="Do this."),
        "it went wrong Do this.",
    ),
    "S20131121S0078.fits": (
        OSError(28, "No space left on device"),
        "No space left on device Free space there, or name a folder on another disk (--out, NIRFLOW_DATA_DIR, "
        "TMPDIR).",
    ),
    "S20131121S0079.fits": (ValueError("a defect"), "ValueError: a defect"),
}


def test_failed_frames_are_left_out_and_used_the_next_time(
    lab: Lab, reduced: Run, night: NightTruth, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tasks.detrend

    real = tasks.detrend.detrend

    def failing(raw: Any, **rest: Any) -> Any:
        if raw.name in BROKEN:
            raise BROKEN[raw.name][0]
        return real(raw, **rest)

    with monkeypatch.context() as patch:
        patch.setattr(tasks.detrend, "detrend", failing)
        poor = lab.reduce(night.folder.parent)
    assert {name: poor.reason(name) for name in BROKEN} == {name: text for name, (_, text) in BROKEN.items()}
    assert set(poor.product("image").inputs) == set(reduced.product("image").inputs) - set(BROKEN)
    assert len(poor.product("image").inputs) == 2
    assert poor.kinds() == ["bpm", "dark", "flat", "image"]
    # A full disk passes: a run of the service is started again when there is room for the stack.
    assert poor.report.space is not None
    assert poor.report.space.needed > 2 * 10 * night.parameters.size**2

    complete = lab.reduce(night.folder.parent)
    assert complete.report.failures == ()
    assert complete.report.space is None
    assert not complete.product("image").reused
    assert set(complete.product("image").inputs) == set(reduced.product("image").inputs)
    assert complete.built == Counter(image=1, align=1, detect=5, masks=1, sky=1, detrend=len(BROKEN))


def test_a_calibration_that_fails_stops_only_what_needs_it(
    lab: Lab, night: NightTruth, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tasks.flat

    def no_light(*_: Any, **__: Any) -> Any:
        raise FrameError("S20131129S0320.fits", "the lamp gives no light", remedy="Take the flats again.")

    with monkeypatch.context() as patch:
        patch.setattr(tasks.flat, "make_flat", no_light)
        run = lab.reduce(night.folder.parent)
    assert run.kinds() == ["bpm", "dark"]
    assert "the lamp gives no light. Take the flats again." in run.failure("flat Y")
    assert "no flat serves" in run.failure("WISE")
    assert len(run.report.failures) == 2
    again = lab.reduce(night.folder.parent)
    assert again.report.failures == ()
    assert {p.kind for p in again.report.products if p.reused} == {"bpm", "dark"}


def test_a_damaged_product_of_the_store_is_made_again(lab: Lab, night: NightTruth) -> None:
    first = lab.reduce(night.folder.parent, only=("dark",))
    dark = first.product("dark")
    path = lab.object_of(dark)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    again = lab.reduce(night.folder.parent, out="again", only=("dark",))
    assert again.built == Counter(dark=1)
    output = again.product("dark").output
    assert output is not None
    assert output.read_bytes() != bytes(content)


def test_damaged_scratch_is_made_again(known_lab: Lab, reduced: Run, night: NightTruth) -> None:
    for n, folder in enumerate(sorted((known_lab.data / "scratch").iterdir())):
        if n % 2:
            (folder / "planes.json").write_text("{")
        for plane in folder.iterdir():
            if plane.name != "planes.json":
                plane.write_bytes(bytes(plane.stat().st_size))
    again = known_lab.reduce(night.folder.parent, out="again", steps={"stack": {"low": 3.9}})
    assert again.report.failures == ()
    assert again.built["detrend"] == 5
    assert again.product("image").left_out == ()
    assert again.product("image").metrics["registration"] == reduced.product("image").metrics["registration"]


def test_a_data_folder_that_cannot_be_written(lab: Lab, night: NightTruth) -> None:
    (lab.folder / "data").write_text("a file")
    with pytest.raises(NirflowError, match=r"data folder .*/data cannot be written.*NIRFLOW_DATA_DIR"):
        lab.reduce(night.folder.parent, only=("dark",))
    assert (lab.folder / "data").read_text() == "a file"


def test_each_flow_alone(reduced_lab: Lab, reduced: Run, night: NightTruth) -> None:
    from flows.bpm import reduce_bpm
    from flows.dark import reduce_darks
    from flows.flat import reduce_flats
    from flows.science import reduce_science

    for flow, kinds in (
        (reduce_darks, ["dark"]),
        (reduce_bpm, ["bpm"]),
        (reduce_flats, ["bpm", "flat"]),
        (reduce_science, ["bpm", "dark", "flat", "image"]),
    ):
        run = reduced_lab.reduce(night.folder.parent, flow=flow)
        assert run.kinds() == kinds, flow.name
        assert run.built == Counter()
        assert {p.id for p in run.report.products} <= {p.id for p in reduced.report.products}


def test_a_database_that_is_down_on_the_command_line(lab: Lab, night: NightTruth, tmp_path: Path) -> None:
    lab.url = "postgresql://someone:secret@127.0.0.1:9/nirflow"
    process = lab.start(night.folder.parent, "--out", tmp_path / "out")
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert out == ""
    assert "does not answer" in err
    assert "NIRFLOW_DATABASE_URL" in err
    assert "secret" not in err
    assert "Traceback" not in err
    assert not list((tmp_path / "out").glob("*.fits"))
