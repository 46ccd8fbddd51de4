"""The kinds of product: the one table of their names, inputs, calibrations and header cards.

Every other list of kinds derives from this one. It is cheap to import, because the help of the command line
uses it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, get_args

#: Kinds of product, each after those that it needs.
ProductKind = Literal["dark", "bpm", "flat", "image"]
#: Kinds that are applied to frames.
CalibrationKind = Literal["dark", "bpm", "flat"]
#: Targets: what a reduction can be limited to, and what the groups of a night become; a stack is named after
#: its frames.
Target = Literal["dark", "bpm", "flat", "science"]
#: Kinds of raw frames from which calibrations are made, and from which any product is made.
CalibrationFrame = Literal["dark", "flat"]
CombinedFrame = Literal[CalibrationFrame, "object"]
#: Comparisons with a certified product (`imaging.calibrations.compare`).
ComparisonName = Literal["difference", "ratio", "mask"]
#: Limits on the pixels (`imaging.calibrations.sanity`).
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
        Name in the store, on the command line and in file names.
    target
        Target of a reduction that makes it.
    label, plural
        Its label in messages.
    card
        Keyword of the time stamp that marks a processed file, after Gemini.
    other_cards
        Keywords that other software uses for the same purpose.
    obstype
        OBSTYPE of such a file.
    unit
        BUNIT of its pixels; empty for a ratio, None for a mask, which has flags.
    frames
        Kinds of the raw frames that are combined.
    is_of_a_band
        It belongs to one filter. The instrument defines the facts that it shares with its frames
        (`imaging.instruments.instrument.Instrument.same`).
    needs, needs_thermal
        Calibrations that it needs, and additional ones in thermal bands.
    parameters
        Module and class of the parameters of the step that makes it.
    comparison
        How it is compared with a certified one; None if it is not compared.
    limits
        Limits that its pixels must meet to be usable.
    published
        The observatory publishes products of this kind.
    applied_card
        Keyword with the name of the applied calibration of this kind.
    primitives
        DRAGONS primitives that apply it.
    is_stack
        It is what science frames are reduced to: the frames of one field, registered and combined.
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
    is_stack: bool = False

    @property
    def is_calibration(self) -> bool:
        """Whether it is applied to frames."""
        return self.name in CALIBRATION_KINDS

    @property
    def suffix(self) -> str:
        """Suffix that its file name adds to that of its first frame."""
        return f"_{self.name}"

    @property
    def marks(self) -> tuple[str, ...]:
        """Keywords, any of which marks a processed file as this kind."""
        return (self.card, *self.other_cards)

    def made_with(self, *, thermal: bool = True) -> tuple[CalibrationKind, ...]:
        """Return the calibrations that it needs, in the order of the table.

        Parameters
        ----------
        thermal
            For thermal bands, in which it may need more.
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
        parameters="imaging.stack.stack.StackParameters", limits="stack", is_stack=True,
    ),
)  # fmt: skip
#: The kinds by name, each after those that it needs.
KINDS: Final[Mapping[str, Kind]] = MappingProxyType({kind.name: kind for kind in _TABLE})
CALIBRATIONS: Final[tuple[Kind, ...]] = tuple(kind for kind in _TABLE if kind.is_calibration)
#: The kind that science frames are reduced to.
STACK: Final[Kind] = next(kind for kind in _TABLE if kind.is_stack)


def kind_of_target(target: Target) -> Kind:
    """Return the kind of product that a reduction limited to ``target`` makes."""
    return next(kind for kind in _TABLE if kind.target == target)


def target_of(kind: str) -> Target:
    """Return the target of a kind of product; for any other step, that of the stack, to which it belongs."""
    return KINDS.get(kind, STACK).target


def target_label(target: str) -> str:
    """Return the label of a target or kind of product in messages; any other name is returned unchanged."""
    return KINDS[target].label if target in KINDS else target


def in_a_sentence(names: Iterable[str], conjunction: str = "or") -> str:
    """Return names joined as in a sentence: ``dark, bpm or flat``."""
    *others, last = names
    return f"{', '.join(others)} {conjunction} {last}" if others else last
