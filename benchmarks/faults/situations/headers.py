"""Situations of headers: cards that no library would write, and cards that disagree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from astropy.io import fits

from benchmarks.faults import edit
from benchmarks.faults.edit import RawFits
from benchmarks.faults.laboratory import DARK, LAMP_ON, SCIENCE
from benchmarks.faults.outcome import Outcome
from benchmarks.faults.situation import Check, Situation
from imaging.pixels.dq import DQ

#: Rows and columns of the area of BLANK pixels.
_BLANK_AREA = (slice(200, 220), slice(230, 250))
_BLANK = -(2**31)


def _card(name: str, change: Callable[[RawFits], None]) -> Callable[[Path], None]:
    return lambda night: edit.cards(night, name, change)


def _used(name: str, kind: str = "image") -> Callable[[Outcome], Sequence[Check]]:
    def judge(outcome: Outcome) -> Sequence[Check]:
        return (outcome.clean(), outcome.right_figures(), outcome.is_used(name, kind))

    return judge


def _used_and_noted(name: str, *terms: str) -> Callable[[Outcome], Sequence[Check]]:
    def judge(outcome: Outcome) -> Sequence[Check]:
        return (*_used(name)(outcome), outcome.named(name, *terms))

    return judge


def _repaired_or_refused(outcome: Outcome) -> Sequence[Check]:
    first = SCIENCE[0]
    others = Check(outcome.used(*SCIENCE[1:]), f"the other 8 frames are stacked: {outcome.failure}")
    return (outcome.clean(), others, outcome.right_figures(), outcome.named(first, "CRVAL1", grave=True))


def _nothing_lost(outcome: Outcome) -> Sequence[Check]:
    return (
        outcome.clean(),
        outcome.count("dark", 10),
        outcome.count("image", 9),
        outcome.right_figures(),
        outcome.same_pixels("dark", "flat"),
    )


def _pv_cards(night: Path) -> None:
    for name in (DARK, LAMP_ON):
        edit.cards(night, name, lambda raw: raw.set(1, "PV1_1", "0,15"))


def _apostrophe(night: Path) -> None:
    for name in SCIENCE:
        edit.cards(night, name, lambda raw: raw.set(0, "OBJECT", "'Barnard's star'"))


def _optional(value: str) -> Callable[[Outcome], Sequence[Check]]:
    name = SCIENCE[8] if value == "nan" else SCIENCE[0]
    return _used_and_noted(name, "AIRMASS")


def _latin(raw: RawFits) -> None:
    raw.set(0, "OBSERVER", b"'Pe\xf1a     '")


def _padded(raw: RawFits) -> None:
    raw.padding = b"\0"


def _behind(raw: RawFits) -> None:
    raw.behind = bytes(2880)


def _as_delivered(raw: RawFits) -> None:
    _padded(raw)
    _behind(raw)


def _other_camera(night: Path) -> None:
    pixels = np.arange(256 * 256, dtype=np.int16).reshape(256, 256)
    cards = {"INSTRUME": "NIRC2", "ITIME": 0.5, "COADDS": 10, "DATE-OBS": "2006-04-01", "FILTER": "Kp"}
    fits.PrimaryHDU(pixels, fits.Header(list(cards.items()))).writeto(night / "n0001.fits")
    edit.cards(night, "n0001.fits", _as_delivered)


def _foreign(outcome: Outcome) -> Sequence[Check]:
    reason = outcome.named("n0001", "NIRC2|no table", "INSTRUME|instrument", grave=True)
    return (outcome.clean(), outcome.right_figures(), reason)


def _twice(raw: RawFits) -> None:
    raw.add(0, b"FILTER2 = 'J_G0802 '")


def _singular(raw: RawFits) -> None:
    for keyword in (
        "CTYPE1",
        "CTYPE2",
        "CRPIX1",
        "CRPIX2",
        "CRVAL1",
        "CRVAL2",
        "CD1_1",
        "CD1_2",
        "CD2_1",
        "CD2_2",
    ):
        raw.add(0, raw.hdus[1].cards[raw.at(1, keyword)])
    raw.set(1, "CD1_1", "-3.25E-55")
    for keyword in ("CD1_2", "CD2_1", "CD2_2"):
        raw.set(1, keyword, "0.0")


def _blank(night: Path) -> None:
    def change(pixels: np.ndarray[tuple[int, int], np.dtype[np.int32]]) -> None:
        pixels.reshape(pixels.shape[-2:])[_BLANK_AREA] = _BLANK

    for name in SCIENCE:
        edit.pixels(night, name, change)
        edit.cards(night, name, lambda raw: raw.set(1, "BLANK", str(_BLANK)))


def _blank_flagged(outcome: Outcome) -> Sequence[Check]:
    if not outcome.products("image"):
        return (outcome.clean(), Check(False, f"no image: {outcome.failure}"))
    sci, dq = outcome.plane("image", "SCI"), outcome.plane("image", "DQ")
    usable = (dq & (DQ.NO_DATA | DQ.BAD_PIXEL)) == 0
    worst = float(np.abs(np.where(usable, sci, 0)).max())
    lost = int((dq & DQ.NO_DATA != 0).sum())
    return (
        outcome.clean(),
        outcome.right_figures(),
        Check(worst < 1e7, f"largest usable pixel {worst:.3g} e-, {lost} pixels with DQ 16"),
    )


def _stale_sum(raw: RawFits) -> None:
    raw.set(1, "DATASUM", "'1234567890'")


def _checksum_refused(outcome: Outcome) -> Sequence[Check]:
    return (
        outcome.clean(),
        outcome.is_out(SCIENCE[3]),
        outcome.named(SCIENCE[3], "DATASUM|checksum", grave=True),
    )


def _one_card(
    name: str, frame: str, given: str, change: Callable[[RawFits], None], group: str = "cards"
) -> Situation:
    return Situation(
        name, "headers", given, "the frame is used, as the card is not needed",
        disturb=_card(frame, change), judge=_used(frame), group=group,
    )  # fmt: skip


SITUATIONS: tuple[Situation, ...] = (
    _one_card("nul-in-a-card", SCIENCE[0], "a NUL byte in a card that no step needs",
              lambda raw: raw.set(0, "SOMETHIN", b"'a\0b'")),
    _one_card("tab-in-a-card", SCIENCE[1], "a tab in a card that no step needs",
              lambda raw: raw.set(0, "SOMETHIN", b"'a\tb'")),
    _one_card("comma-in-a-card", SCIENCE[2], "a decimal comma in a card that no step needs",
              lambda raw: raw.set(0, "SOMETHIN", "1,5")),
    _one_card("hierarch-with-comma", SCIENCE[3], "HIERARCH x = 1,5",
              lambda raw: raw.add(0, b"HIERARCH x = 1,5")),
    _one_card("latin-1-value", SCIENCE[4], "a byte above 127 in OBSERVER", _latin),
    _one_card("latin-1-comment", SCIENCE[5], "a byte above 127 in a comment",
              lambda raw: raw.add(0, b"COMMENT temperature 12 \xb0C")),
    _one_card("nul-padding", SCIENCE[6], "NUL bytes fill the header's last block", _padded),
    _one_card("block-behind", SCIENCE[7], "one more block behind the pixels", _behind),
    Situation("airmass-nan", "headers", "AIRMASS = nan", "the optional fact is absent, with a note",
              disturb=_card(SCIENCE[8], lambda raw: raw.set(0, "AIRMASS", "nan")), judge=_optional("nan"),
              group="cards"),
    Situation("airmass-comma", "headers", "AIRMASS = 1,05", "the optional fact is absent or read, with a note",
              disturb=_card(SCIENCE[0], lambda raw: raw.set(0, "AIRMASS", "1,05")), judge=_optional("1,05"),
              group="more cards"),
    Situation("keyword-twice", "headers", "FILTER2 a second time with another value",
              "the first one counts, with a note", disturb=_card(SCIENCE[1], _twice),
              judge=_used_and_noted(SCIENCE[1], "FILTER2"), group="more cards"),
    Situation("singular-wcs", "headers", "a singular CD matrix in the image's header, a good one in the primary",
              "the good one is used", disturb=_card(SCIENCE[2], _singular), judge=_used(SCIENCE[2]),
              group="more cards"),
    Situation("stale-datasum", "headers", "a DATASUM that disagrees with the pixels", "a warning names the frame",
              disturb=_card(SCIENCE[3], _stale_sum), judge=_used_and_noted(SCIENCE[3], "DATASUM|checksum"),
              group="more cards"),
    Situation("unneeded-card-in-calibrations", "headers", "PV1_1 = 0,15 in a dark and in a lamp flat",
              "nothing is lost", disturb=_pv_cards, judge=_nothing_lost, group="more cards"),
    Situation("datasum-refused", "headers", "a DATASUM that disagrees, with check.checksum=refuse",
              "that frame alone is refused", disturb=_card(SCIENCE[3], _stale_sum), judge=_checksum_refused,
              options=("--set", "check.checksum=refuse")),
    Situation("crval-comma", "headers", "CRVAL1 = 63,4890 in the image's header of one of nine frames",
              "that frame alone is refused, or repaired from elsewhere; it is named",
              disturb=_card(SCIENCE[0], lambda raw: raw.set(1, "CRVAL1", "63,4890")),
              judge=_repaired_or_refused),
    Situation("apostrophe", "headers", "OBJECT = 'Barnard's star'", "all frames are used",
              disturb=_apostrophe, judge=_nothing_lost),
    Situation("other-camera", "headers", "a frame of a camera without a table, NUL behind END, a block behind",
              "read, and refused for its instrument only", disturb=_other_camera, judge=_foreign),
    Situation("blank", "headers", "BLANK in integer frames, 20 x 20 pixels at that value",
              "the pixels are marked as having no data", disturb=_blank, judge=_blank_flagged),
)  # fmt: skip
