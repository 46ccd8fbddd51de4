"""Which of the examined files are used together: one file of each frame, exposure and name.

Pure functions of examinations (`imaging.io.examine`): `inspect` shows what `reduce` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Final

from imaging.errors import FrameError
from imaging.frames.alike import Nominal
from imaging.frames.doubles import doubles, exposures
from imaging.frames.facts import FrameFacts
from imaging.frames.find_files import CheckParameters
from imaging.frames.pixel_state import PixelState
from imaging.frames.simultaneous import simultaneous
from imaging.io.compressed import compression, digest
from imaging.io.examine import Examination

#: Facts of frames whose quadrants are compared, next to those that only their instrument has; the fewest of them; and
#: the part of the level that a step may vary by.
_CONFIGURATION: Final = (
    "kind",
    "lamp",
    "filter_id",
    "exposure_time",
    "coadds",
    "read_pairs",
    "detector",
    "section",
)
_FEWEST: Final = 4
_LEVEL_SHARE: Final = 0.02


def sort_out(
    examined: Sequence[Examination],
    rejected: Mapping[str, str] | None = None,
    check: CheckParameters | None = None,
) -> list[Examination]:
    """Mark each usable frame that another file replaces, and each rejected frame, as excluded.

    Parameters
    ----------
    examined
        Examinations whose identities distinguish frames (`with_identities` if no bytes were read).
    rejected
        For the sha256 of a frame that a user rejected: who rejected it, when and why.
    check
        Limits; default: those of `CheckParameters`.

    Returns
    -------
    list of Examination
        In the same order. The usable ones have different frames, exposures, pixels and names.
    """
    rejected = rejected or {}
    frames: dict[str, Examination] = {}
    for one in examined:
        if one.usable and one.identity not in rejected:
            frames.setdefault(one.identity, one)
    first = {id(one) for one in frames.values()}
    replaced = _exposures_used_elsewhere(examined, frames)
    used = {key: one for key, one in frames.items() if key not in replaced}
    odd = _repeated_pixels(used) | _odd_quadrants(used, check or CheckParameters())
    used = {key: one for key, one in used.items() if key not in odd}
    stand_ins = _stand_ins(examined, used, rejected)
    named: dict[str, Examination] = {}
    for one in used.values():
        named.setdefault(_frame_name(one), one)
    found = []
    for one in examined:
        key = one.identity
        if not one.usable:
            found.append(one)
        elif key in rejected:
            found.append(one.excluded(stand_ins.get(key, rejected[key])))
        elif id(one) not in first:
            found.append(one.excluded(f"the same frame as {frames[key].name}, which is used"))
        elif key in replaced:
            found.append(one.excluded(*replaced[key]))
        elif key in odd:
            reason, remedy = odd[key]
            found.append(replace(one, verdict="odd_pixels", reason=reason, remedy=remedy, plain=None))
        elif (twin := named[_frame_name(one)]) is not one:
            # Products, reports and headers distinguish frames by their names.
            reason = f"{one.path} is a different frame with the same name as {twin.path}, which is used"
            remedy = "Rename one of the files to use both."
            found.append(replace(one, verdict="duplicate_name", reason=reason, remedy=remedy, plain=None))
        else:
            found.append(one)
    together = simultaneous(
        {i: one.facts for i, one in enumerate(found) if one.usable and one.facts is not None}
    )
    return [
        replace(one, notes=(*one.notes, together[i])) if i in together else one for i, one in enumerate(found)
    ]


def with_identities(examined: Sequence[Examination]) -> list[Examination]:
    """Add the identities of the files of one exposure that were examined by their headers alone.

    A file and its compressed copy are one frame if their headers agree, which does not need a complete read;
    for other files the checksum decides. Files of different exposures need no identity.
    """
    found = {str(one.path): one for one in examined}
    facts = {
        path: one.facts
        for path, one in found.items()
        if one.facts is not None and one.verdict in ("usable", "excluded") and one.sha256 is None
    }
    for group in exposures(facts):
        for path in group:
            copies = [other for other in facts if other in group and facts[other] == facts[path]]
            if len({compression(Path(other)) for other in copies}) == len(copies) == len(group):
                found[path] = replace(found[path], same_as=Path(copies[0]))
                continue
            try:
                found[path] = replace(found[path], sha256=digest(Path(path)))
            except FrameError as error:
                found[path] = replace(
                    found[path], verdict="faulty", reason=error.reason, remedy=error.remedy, unchecked=()
                )  # fmt: skip
    return [found[str(one.path)] for one in examined]


def _frame_name(one: Examination) -> str:
    return one.facts.name if one.facts is not None else one.name


def _exposures_used_elsewhere(
    examined: Sequence[Examination], frames: Mapping[str, Examination]
) -> dict[str, tuple[str, str]]:
    """Return reason and remedy, by identity, of the frames for which another file of the exposure is used.

    A newer header may exclude a frame (the observer judged it a failure): then the exposure is not used at
    all.
    """
    out = {one.identity: one for one in examined if one.verdict == "excluded" and one.facts is not None}
    everything = {key: one.facts for key, one in (*out.items(), *frames.items()) if one.facts is not None}
    found = {}
    for key, double in doubles(everything).items():
        if key not in frames:
            continue
        fate = "which is used"
        if double.used in out and double.used not in frames:
            fate = f"which takes precedence and is excluded: {out[double.used].reason}"
        other, reject = double.name, double.name
        if _frame_name(frames[key]) == double.name:
            reject = double.used[:12]
            other = f"the other file of this name ({reject})"
        remedy = f"To use this one, reject the other: nirflow cal reject {reject}"
        found[key] = f"the same exposure as {other}, {fate}: {double.why}", remedy
    return found


def _repeated_pixels(used: Mapping[str, Examination]) -> dict[str, tuple[str, str]]:
    """Return reason and remedy, by identity, of frames with the pixels of another exposure; the earliest is used.

    No two exposures have the same noise: one of the files has the wrong pixels or header.
    """
    first: dict[str, Examination] = {}
    found = {}
    for key, one in sorted(used.items(), key=lambda item: _begun(item[1])):
        if one.facts is None or one.facts.pixels is None:
            continue
        other = first.setdefault(one.facts.pixels.checksum, one)
        if other is not one:
            found[key] = (
                f"its pixels are those of {_frame_name(other)}, which is another exposure and is used",
                "Fetch both files again; to use this one, leave the other out.",
            )
    return found


def _odd_quadrants(used: Mapping[str, Examination], check: CheckParameters) -> dict[str, tuple[str, str]]:
    """Return reason and remedy, by identity, of frames with a quadrant offset unlike those of their configuration.

    Every detector has steps between its quadrants. A quadrant, or half, with an offset of its own changes two of the
    four steps of a frame.
    """
    nominal = Nominal(one.facts for one in used.values() if one.facts is not None)
    alike: dict[tuple[object, ...], dict[str, PixelState]] = {}
    for key, one in used.items():
        if one.facts is not None and one.facts.pixels is not None and one.facts.pixels.steps:
            facts = (*_CONFIGURATION, *one.facts.table.own_facts)
            same = one.facts.instrument, one.facts.night, *nominal.of(one.facts, facts)
            alike.setdefault(same, {})[key] = one.facts.pixels
    found = {}
    for states in alike.values():
        if len(states) < _FEWEST:
            continue
        every = zip(*(state.steps for state in states.values()), strict=True)
        usual = [median([step for step in steps if step is not None] or [0.0]) for steps in every]
        for key, state in states.items():
            limit = max(check.quadrant_step * state.noise, _LEVEL_SHARE * abs(state.level))
            off = [step - its for step, its in zip(state.steps, usual, strict=True) if step is not None]
            if sum(abs(step) > limit for step in off) >= 2:
                found[key] = (
                    f"a quadrant has an offset of its own: a step of {max(off, key=abs):+.0f} ADU at its border, "
                    f"compared with the other {len(states) - 1} frames (limit {limit:.0f} ADU)",
                    "Inspect the frame; to use it, raise check.quadrant_step.",
                )
    return found


def _begun(one: Examination) -> tuple[str, str]:
    return ("", "") if one.facts is None else (one.facts.started.isoformat(), one.facts.name)


def _stand_ins(
    examined: Sequence[Examination], used: Mapping[str, Examination], rejected: Mapping[str, str]
) -> dict[str, str]:
    """Return the reasons, by identity, of rejected frames whose exposure is used from another file."""
    facts: dict[str, FrameFacts] = {
        one.identity: one.facts
        for one in examined
        if one.usable and one.facts is not None and (one.identity in used or one.identity in rejected)
    }
    found = {}
    for group in exposures(facts):
        other = next((_frame_name(used[key]) for key in group if key in used), None)
        for key in group:
            if other is not None and key in rejected:
                found[key] = f"{rejected[key]}; the same exposure is used from {other}"
    return found
