"""A frame measured and judged alone: figures against the truth, against what was requested, against its group."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from arriving_frames import DARK_LEVEL, FWHM, SCALE, SHAPE, SKY, electrons, write_dark, write_frame

from imaging.errors import FrameError
from imaging.frames.facts import FrameFacts
from imaging.io.raw_file import open_raw
from imaging.quick_look.frame_figures import FrameFigures
from imaging.quick_look.judge_frame import judge_frame
from imaging.quick_look.measure_frame import Calibrations, Measurement, measure_frame
from imaging.quick_look.night_record import NightRecord, read_record, read_rows, write_record
from imaging.quick_look.shown import COLUMNS, row_of


class Level:
    """A dark of one level, or a flat of one response."""

    def __init__(self, facts: FrameFacts, value: float) -> None:
        self.facts, self._value, self.header = facts, value, {"PEDESTAL": 0.0}

    def rows(self, extname: str, rows: slice | None = None) -> Any:
        shape = np.empty(SHAPE)[rows or slice(None)].shape
        if extname == "DQ":
            return np.zeros(shape, np.uint16)
        return np.full(shape, self._value if extname == "SCI" else 1e-6, np.float32)


def measured(path: Path, *, calibrated: bool = False) -> Measurement:
    with open_raw(path, shape=None) as raw:
        given = Calibrations()
        if calibrated:
            given = Calibrations(
                dark=Level(raw.facts, DARK_LEVEL), flat=Level(raw.facts, 1.0), names=("dark", "flat")
            )
        return measure_frame(raw, given, threads=1)


def judged(path: Path, earlier: list[FrameFigures], **options: Any) -> FrameFigures:
    return judge_frame(measured(path, **options), earlier, sha256=path.name.ljust(64, "0"))


def verdicts(one: FrameFigures) -> dict[str, str]:
    return {name: judgement.verdict for name, judgement in one.judged.items()}


def test_figures_agree_with_the_truth(tmp_path: Path) -> None:
    found = measured(write_frame(tmp_path / "S20131121S0001.fits", electrons()), calibrated=True).values
    assert found.seeing == pytest.approx(FWHM, rel=0.1)
    assert found.seeing_at_zenith == pytest.approx(found.seeing * 1.2**-0.6)
    assert found.sky == pytest.approx(SKY, rel=0.02)
    assert found.sky_brightness == pytest.approx(26.73 - 2.5 * np.log10(SKY / SCALE**2), abs=0.02)
    assert found.ellipticity is not None
    assert found.ellipticity < 0.1
    assert found.saturated == 0
    assert found.stars >= 30


def test_without_calibrations_the_sky_has_the_dark_signal_and_no_magnitude(tmp_path: Path) -> None:
    found = measured(write_frame(tmp_path / "S20131121S0001.fits", electrons()))
    assert found.values.sky == pytest.approx(SKY + DARK_LEVEL / 120, rel=0.02)
    assert found.values.sky_brightness is None
    assert found.reasons["sky_brightness"] == "no dark was subtracted"
    assert found.values.seeing == pytest.approx(FWHM, rel=0.1)


def test_a_group_is_judged_frame_by_frame(tmp_path: Path) -> None:
    """Four calm dithered frames; then worse seeing than requested, clouds, a trailed frame, a wrong offset."""
    group: list[FrameFigures] = []
    calm = [(0.0, 0.0), (2.0, 0.0), (0.0, 2.0), (2.0, 2.0)]  # offsets P and Q, arcsec
    for number, (p, q) in enumerate(calm, 1):
        # P moves a star along -y and Q along -x (the table of FLAMINGOS-2).
        frame = electrons(seed=number, shift=(-q / SCALE, -p / SCALE))
        path = write_frame(tmp_path / f"S20131121S{number:04d}.fits", frame, POFFSET=p, QOFFSET=q)
        group.append(judged(path, group, calibrated=True))
    first, last = group[0], group[-1]
    assert first.reference is not None
    assert last.reference is None
    assert verdicts(first)["pointing"] == "not judged"
    assert set(verdicts(last).values()) == {"good"}, last.judged
    assert last.verdict == "good"
    assert last.values.transparency == pytest.approx(1.0, abs=0.02)
    assert last.values.pointing_error == pytest.approx(0.0, abs=0.05)
    assert "requested 0.95 (85-percentile)" in last.judged["seeing"].against

    def after(number: int, name: str, **truth: Any) -> FrameFigures:
        cards = {"POFFSET": 5.0} if name == "pointing" else {}
        path = write_frame(
            tmp_path / f"S20131121S{number:04d}.fits", electrons(seed=number, **truth), **cards
        )
        return judged(path, group, calibrated=True)

    wide = after(11, "seeing", fwhm=1.2)
    assert verdicts(wide)["seeing"] == "worse than requested"
    assert verdicts(after(12, "seeing", fwhm=0.95))["seeing"] == "unlike its group"
    cloudy = after(13, "transparency", transparency=0.7)
    assert cloudy.values.transparency == pytest.approx(0.7, abs=0.03)
    assert verdicts(cloudy)["transparency"] == "worse than requested"
    assert "0.08 mag of clouds" in cloudy.judged["transparency"].against
    trailed = after(14, "ellipticity", trailed=8.0)
    assert verdicts(trailed)["ellipticity"] == "worse than requested"
    elsewhere = after(15, "pointing")
    assert elsewhere.values.pointing_error == pytest.approx(5.0, abs=0.1)
    assert verdicts(elsewhere)["pointing"] == "worse than requested"
    assert verdicts(after(16, "sky", sky=80.0))["sky"] == "unlike its group"
    assert any("sky unlike its group" in remark for remark in after(17, "sky", sky=80.0).remarks)
    record = NightRecord(night=first.night, frames=tuple(group))
    write_record(tmp_path, record)
    assert read_record(tmp_path / str(first.night), first.night) == record
    rows = read_rows(tmp_path / "2013-11-21")
    assert rows is not None
    assert [row[0].text for row in rows.rows] == [f"S20131121S{k:04d}" for k in (4, 3, 2, 1)]
    assert all(len(row_of(one)) == len(COLUMNS) for one in group)


def test_a_field_without_stars_has_no_seeing(tmp_path: Path) -> None:
    one = judged(write_frame(tmp_path / "S20131121S0001.fits", electrons(stars=0)), [])
    assert one.values.seeing is None
    assert {verdicts(one)[name] for name in ("seeing", "ellipticity", "transparency", "pointing")} == {
        "not measurable"
    }
    assert "stars" in one.judged["seeing"].against
    assert one.values.sky is not None


def test_a_dark_has_a_level_only(tmp_path: Path) -> None:
    one = judged(write_dark(tmp_path / "S20131121S0001.fits"), [])
    assert one.values.level == pytest.approx(DARK_LEVEL, rel=0.02)
    assert one.judged["seeing"].against == "a dark shows no sky"
    assert row_of(one)[COLUMNS.index("sky e-/s")].text == f"{one.values.level:.0f} e-"
    assert verdicts(one)["sky"] == "not judged"


def test_a_frame_without_a_guide_probe_is_marked(tmp_path: Path) -> None:
    path = write_frame(tmp_path / "S20131121S0001.fits", electrons(), OIWFS_ST="parked", PWFS2_ST="parked")
    assert verdicts(judged(path, []))["guiding"] == "worse than requested"


def test_a_frame_without_a_usable_pixel_is_refused(tmp_path: Path) -> None:
    path = write_frame(tmp_path / "S20131121S0001.fits", np.full(SHAPE, 3e5))
    with pytest.raises(FrameError, match="no usable pixel"):
        measured(path)


def test_a_record_that_cannot_be_read_is_begun_again(tmp_path: Path) -> None:
    one = judged(write_dark(tmp_path / "S20131121S0001.fits"), [])
    written = write_record(tmp_path, NightRecord(night=one.night, frames=(one,)))
    written.write_text("{")
    assert read_record(tmp_path / str(one.night), one.night).frames == ()
