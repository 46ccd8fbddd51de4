"""The kinds of product: the one table of what each is called, is made of, is made with, and how its files are marked.

Every other list of kinds derives from this one. Light to import: the command line shows its help from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, get_args

#: Kinds of product, each after those that it is made with.
ProductKind = Literal["dark", "bpm", "flat", "image"]
#: Those that are applied to frames.
CalibrationKind = Literal["dark", "bpm", "flat"]
#: What a reduction can be limited to, and what the groups of a night become: the stack is called by its frames.
Target = Literal["dark", "bpm", "flat", "science"]
#: Raw frames that calibrations are made of, and all that products are made of.
CalibrationFrame = Literal["dark", "flat"]
CombinedFrame = Literal[CalibrationFrame, "object"]
#: Comparisons with a certified product (`imaging.calibrations.compare`).
ComparisonName = Literal["difference", "ratio", "mask"]
#: Limits of what the pixels may be (`imaging.calibrations.sanity`).
LimitsName = Literal["dark", "response", "mask", "stack"]

PRODUCT_KINDS: Final[tuple[ProductKind, ...]] = get_args(ProductKind)
CALIBRATION_KINDS: Final[tuple[CalibrationKind, ...]] = get_args(CalibrationKind)
TARGETS: Final[tuple[Target, ...]] = get_args(Target)
CALIBRATION_FRAMES: Final[tuple[CalibrationFrame, ...]] = get_args(CalibrationFrame)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of product.

    Attributes
    ----------
    name
        As the store, the command line and the names of files have it.
    target
        What a reduction that makes it is limited to.
    label, plural
        What it is called in messages.
    card
        Keyword of the time stamp that marks a processed file, after Gemini.
    other_cards
        Keywords by which other software marks the same.
    obstype
        OBSTYPE of such a file.
    unit
        BUNIT of its pixels; empty for a ratio, None for a mask, which has flags.
    frames
        Kinds of the raw frames that it is a combination of.
    is_of_a_band
        It belongs to one filter. Which facts it shares with its frames is for the instrument to say
        (`imaging.instruments.instrument.Instrument.same`).
    needs, needs_thermal
        Calibrations that it is made with, and those that it takes besides in the bands in which the telescope glows.
    parameters
        Module and class of the parameters of the step that makes it.
    comparison
        How it is compared with a certified one; None where it is not.
    limits
        What its pixels have to keep to be usable.
    published
        The observatory publishes some.
    applied_card
        Keyword by which a product names the calibration of this kind that was applied.
    primitives
        Primitives of DRAGONS that apply it.
    """

    name: ProductKind
    target: Target
    label: str
    plural: str
    card: str
    other_cards: tuple[str, ...] = ()
    obstype: str
    unit: str | None
    frames: tuple[CombinedFrame, ...]
    is_of_a_band: bool = False
    needs: tuple[CalibrationKind, ...] = ()
    needs_thermal: tuple[CalibrationKind, ...] = ()
    parameters: str
    comparison: ComparisonName | None = None
    limits: LimitsName
    published: bool = False
    applied_card: str = ""
    primitives: tuple[str, ...] = ()

    @property
    def is_calibration(self) -> bool:
        """Whether it is applied to frames."""
        return self.name in CALIBRATION_KINDS

    @property
    def suffix(self) -> str:
        """What the name of its file adds to that of its first frame."""
        return f"_{self.name}"

    @property
    def marks(self) -> tuple[str, ...]:
        """Keywords any of which marks a processed file as one of these."""
        return (self.card, *self.other_cards)

    def made_with(self, *, thermal: bool = True) -> tuple[CalibrationKind, ...]:
        """Return the calibrations that it is made with, in the order of the table.

        Parameters
        ----------
        thermal
            In the bands in which the telescope glows; there it may need more.
        """
        needed = {*self.needs, *(self.needs_thermal if thermal else ())}
        return tuple(kind for kind in CALIBRATION_KINDS if kind in needed)


_TABLE: Final = (
    Kind(
        name="dark", target="dark", label="dark", plural="darks",
        card="PROCDARK", obstype="DARK", unit="electron",
        frames=("dark",),
        parameters="imaging.calibrations.dark.DarkParameters", comparison="difference", limits="dark",
        applied_card="DARKIM", primitives=("darkCorrect",),
    ),
    Kind(
        name="bpm", target="bpm", label="bad pixel mask", plural="bad pixel masks",
        card="BPMASK", other_cards=("PROCBPM",), obstype="BPM", unit=None,
        frames=("flat", "dark"),
        parameters="imaging.calibrations.bpm.BpmParameters", comparison="mask", limits="mask", published=True,
        applied_card="BPMIM", primitives=("addDQ",),
    ),
    Kind(
        name="flat", target="flat", label="flat", plural="flats",
        card="PROCFLAT", obstype="FLAT", unit="",
        frames=("flat",), is_of_a_band=True, needs=("bpm",), needs_thermal=("dark",),
        parameters="imaging.calibrations.flat.FlatParameters", comparison="ratio", limits="response",
        applied_card="FLATIM", primitives=("flatCorrect",),
    ),
    Kind(
        name="image", target="science", label="stack", plural="stacks",
        card="PROCSCI", obstype="OBJECT", unit="electron",
        frames=("object",), is_of_a_band=True, needs=("dark", "bpm", "flat"),
        parameters="imaging.stack.stack.StackParameters", limits="stack",
    ),
)  # fmt: skip
#: The kinds by name, each after those that it is made with.
KINDS: Final[Mapping[str, Kind]] = MappingProxyType({kind.name: kind for kind in _TABLE})
CALIBRATIONS: Final[tuple[Kind, ...]] = tuple(kind for kind in _TABLE if kind.is_calibration)


def kind_of_target(target: Target) -> Kind:
    """Return the kind of product that a reduction limited to ``target`` makes."""
    return next(kind for kind in _TABLE if kind.target == target)


def target_of(kind: str) -> Target:
    """Return what a product of a kind is called as a target; of any other step that of the stack, whose step it is."""
    return KINDS[kind if kind in KINDS else "image"].target


def target_label(target: str) -> str:
    """Return what a target or a kind of product is called in messages; what is neither keeps its name."""
    return KINDS[target].label if target in KINDS else target


def in_a_sentence(names: Iterable[str], conjunction: str = "or") -> str:
    """Return names as a sentence has them: ``dark, bpm or flat``."""
    *others, last = names
    return f"{', '.join(others)} {conjunction} {last}" if others else last
