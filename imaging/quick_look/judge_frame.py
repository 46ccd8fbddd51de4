"""The verdict about a frame: its figures against what the program requested, and against the earlier frames of its
group.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from imaging.figures import as_text
from imaging.frames.facts import FrameFacts
from imaging.frames.sequences import Sequence as Exposures
from imaging.quick_look.against_group import compare, reference_of
from imaging.quick_look.frame_figures import FrameFigures, FrameValues, Judged
from imaging.quick_look.measure_frame import Measurement
from imaging.usual import Usual, usual

#: Earlier frames of its group that a frame is compared with at least.
FEWEST: Final = 3
#: Stars of a guided exposure are less elliptic than this. Seeing alone leaves 0.1; a median of few, faint stars has
#: more.
MOST_ELLIPTIC: Final = 0.25
#: Errors of an offset up to this are those of the telescope, arcsec.
OFFSET: Final = 1.5
#: Differences from the group that never matter: arcsec, ellipticity, fraction of the array, fraction of the level.
_LEAST_SEEING, _LEAST_ELLIPTICITY, _LEAST_SATURATED, _LEAST_LEVEL = 0.1, 0.1, 0.001, 0.1


def judge_frame(
    measurement: Measurement,
    earlier: Sequence[FrameFigures],
    *,
    sha256: str,
    calibrations: Sequence[str] = (),
    uncalibrated: str = "",
) -> FrameFigures:
    """Judge a frame.

    Parameters
    ----------
    measurement
        Its figures and stars.
    earlier
        The frames of its group that were judged before it.
    sha256
        Its identity.
    calibrations, uncalibrated
        Names of the calibrations applied; which are missing, and why.
    """
    facts = measurement.facts
    group = [one for one in earlier if not one.problem]
    values, reasons, is_reference = _compared(measurement, group)
    sequence = Exposures.of(facts)
    judged = {
        "seeing": _seeing(facts, values, reasons, group),
        "ellipticity": _ellipticity(facts, values, reasons, group),
        "sky": _level(facts, values, reasons, group),
        "transparency": _transparency(facts, values, reasons, group),
        "saturated": _saturated(values, group),
        "guiding": _guiding(facts, reasons),
        "pointing": _pointing(values, reasons, is_reference),
    }
    return FrameFigures(
        name=facts.name, sha256=sha256, instrument=facts.instrument, kind=facts.kind, filter=facts.filter,
        group=sequence.name if sequence is not None else "", label=sequence.label if sequence is not None else "",
        night=facts.night, started=facts.started, exposure=facts.exposure, airmass=facts.airmass,
        calibrations=tuple(calibrations), uncalibrated=uncalibrated, values=values, judged=judged,
        reference=reference_of(measurement) if is_reference else None,
    )  # fmt: skip


def _compared(
    measurement: Measurement, group: Sequence[FrameFigures]
) -> tuple[FrameValues, dict[str, str], bool]:
    """Return the figures with those against the group's reference, why others are missing, and whether this frame
    becomes the reference.
    """
    values, reasons = measurement.values, dict(measurement.reasons)
    if "pointing_error" in reasons:
        return values, reasons, False
    reference = next((one.reference for one in group if one.reference is not None), None)
    if reference is None:
        if reference_of(measurement) is None:
            reasons |= dict.fromkeys(("transparency", "pointing_error"), "too few stars")
            return values, reasons, False
        return values.model_copy(update={"flux_ratio": 1.0, "transparency": 1.0}), reasons, True
    found = compare(measurement, reference)
    if isinstance(found, str):
        return values, reasons | dict.fromkeys(("transparency", "pointing_error"), found), False
    ratios = [one.values.flux_ratio for one in group if one.values.flux_ratio is not None]
    update = {
        "flux_ratio": found.flux_ratio, "transparency": found.flux_ratio / max([found.flux_ratio, *ratios]),
        "offset": found.offset, "pointing_error": found.error,
    }  # fmt: skip
    return values.model_copy(update=update), reasons, False


def _seeing(
    facts: FrameFacts, values: FrameValues, reasons: dict[str, str], group: Sequence[FrameFigures]
) -> Judged:
    at = values.seeing_at_zenith
    if at is None:
        return _unknown("seeing", reasons)
    limit = facts.table.conditions.widest(facts.requested_quality, facts.filter)
    if limit is not None:
        text = f"at the zenith {at:.2f} arcsec, requested {limit:.2f} ({facts.requested_quality})"
        if at > limit:
            return Judged(verdict="worse than requested", against=text)
        found = usual(_of(group, "seeing_at_zenith"), _LEAST_SEEING, fewest=FEWEST)
        if found is not None and at > found.high:
            return Judged(verdict="unlike its group", against=_range(at, found, 2))
        return Judged(verdict="good", against=text)
    why = f"no limit for {facts.requested_quality!r} in {facts.filter}" if facts.requested_quality else ""
    return _against_group(
        at, _of(group, "seeing_at_zenith"), _LEAST_SEEING, only_high=True, digits=2,
        else_because=why or "no image quality was requested",
    )  # fmt: skip


def _ellipticity(
    facts: FrameFacts, values: FrameValues, reasons: dict[str, str], group: Sequence[FrameFigures]
) -> Judged:
    value = values.ellipticity
    if value is None:
        return _unknown("ellipticity" if "ellipticity" in reasons else "seeing", reasons)
    if value > MOST_ELLIPTIC:
        return Judged(
            verdict="worse than requested",
            against=f"{value:.2f}, guided stars have at most {MOST_ELLIPTIC}",
        )
    found = usual(_of(group, "ellipticity"), _LEAST_ELLIPTICITY, fewest=FEWEST)
    if found is not None and value > found.high:
        return Judged(verdict="unlike its group", against=_range(value, found, 2))
    return Judged(verdict="good", against=f"guided stars have at most {MOST_ELLIPTIC}")


def _level(
    facts: FrameFacts, values: FrameValues, reasons: dict[str, str], group: Sequence[FrameFigures]
) -> Judged:
    """Judge the sky, or the level of a frame that shows none: no condition limits it, only the group."""
    name = "level" if "sky" in reasons else "sky"
    value = getattr(values, name)
    if value is None:
        return _unknown("sky", reasons)
    earlier = _of(group, name)
    least = _LEAST_LEVEL * abs(sum(earlier) / len(earlier)) if earlier else 0.0
    return _against_group(value, earlier, least, else_because="no limit is requested")


def _transparency(
    facts: FrameFacts, values: FrameValues, reasons: dict[str, str], group: Sequence[FrameFigures]
) -> Judged:
    value = values.transparency
    if value is None or value <= 0:
        return _unknown("transparency", reasons)
    lost = 2.5 * math.log10(1 / value)
    text = f"{lost:.2f} mag below the clearest frame of its group"
    most = facts.table.conditions.most_clouds(facts.requested_clouds)
    if most is None:
        earlier = [one.values.flux_ratio for one in group if one.values.flux_ratio is not None]
        if values.flux_ratio is None or len(earlier) < FEWEST:
            return Judged(verdict="not judged", against=f"{text}; no cloud cover was requested")
        return _against_group(values.flux_ratio, earlier, 0.1, only_low=True, else_because=text)
    text = f"{text}, requested at most {most:g} mag of clouds ({facts.requested_clouds})"
    return Judged(verdict="good" if lost <= most else "worse than requested", against=text)


def _saturated(values: FrameValues, group: Sequence[FrameFigures]) -> Judged:
    if values.saturated is None:
        return Judged(verdict="not measurable", against="no pixel was read")
    return _against_group(
        values.saturated, _of(group, "saturated"), _LEAST_SATURATED, only_high=True, factor=100.0, unit=" %",
        else_because="no limit is requested",
    )  # fmt: skip


def _guiding(facts: FrameFacts, reasons: dict[str, str]) -> Judged:
    if "guiding" in reasons:
        return _unknown("guiding", reasons)
    if facts.guided:
        return Judged(verdict="good", against="a probe was guiding, by the header")
    return Judged(verdict="worse than requested", against="no probe was guiding, by the header")


def _pointing(values: FrameValues, reasons: dict[str, str], is_reference: bool) -> Judged:
    if is_reference:
        return Judged(
            verdict="not judged", against="the first frame of its group: others are compared with it"
        )
    error = values.pointing_error
    if error is None:
        return _unknown("pointing_error", reasons)
    text = f"{error:.2f} arcsec from the offset in the header, at most {OFFSET} arcsec"
    return Judged(verdict="good" if error <= OFFSET else "worse than requested", against=text)


def _against_group(
    value: float,
    earlier: Sequence[float],
    least: float,
    *,
    else_because: str,
    only_high: bool = False,
    only_low: bool = False,
    digits: int = 3,
    factor: float = 1.0,
    unit: str = "",
) -> Judged:
    found = usual(earlier, least, fewest=FEWEST)
    if found is None:
        frames = f"fewer than {FEWEST} earlier frames in its group"
        return Judged(verdict="not judged", against=f"{else_because}; {frames}")
    odd = (value > found.high and not only_low) or (value < found.low and not only_high)
    verdict = "unlike its group" if odd else "good"
    return Judged.model_validate({"verdict": verdict, "against": _range(value, found, digits, factor, unit)})


def _range(value: float, found: Usual, digits: int, factor: float = 1.0, unit: str = "") -> str:
    one, low, high = (as_text(float(factor * part), digits) for part in (value, found.low, found.high))
    return f"{one}{unit}, its group {low} to {high}{unit}"


def _of(group: Sequence[FrameFigures], name: str) -> list[float]:
    """Return a figure of the frames that have it."""
    return [value for one in group if (value := getattr(one.values, name)) is not None]


def _unknown(name: str, reasons: dict[str, str]) -> Judged:
    return Judged(
        verdict="not measurable", against=reasons.get(name) or reasons.get("seeing") or "too few stars"
    )
