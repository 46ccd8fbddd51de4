"""The kinds of product: the one table of their names, inputs, calibrations and header cards.

Every other list of kinds derives from this one. It is cheap to import, because the help of the command line
uses it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from types import MappingProxyType
from typing import Any, Final, Literal, get_args

from imaging.listed import filled

#: Kinds of product, each after those that it needs.
ProductKind = Literal["dark", "bpm", "flat", "distortion", "image", "mosaic"]
#: Kinds that are applied to frames.
CalibrationKind = Literal["dark", "bpm", "flat", "distortion"]
#: What a rule of the store is about: calibrations of a kind, or stacks of standard fields.
RuleKind = Literal[CalibrationKind, "standard"]
#: Targets: what a reduction can be limited to, and what the groups of a night become; a stack is named after
#: its frames.
Target = Literal["dark", "bpm", "flat", "distortion", "science"]
#: Kinds of raw frames from which calibrations are made, and from which any product is made.
CalibrationFrame = Literal["dark", "flat"]
CombinedFrame = Literal[CalibrationFrame, "object"]
#: Kinds of files: those of raw frames, spectra of lamps, and masks.
FrameKind = Literal[CombinedFrame, "arc", "bpm"]
#: Comparisons with a certified product (`imaging.calibrations.compare`).
ComparisonName = Literal["difference", "ratio", "mask"]
#: Limits on the pixels (`imaging.calibrations.sanity`).
LimitsName = Literal["dark", "response", "mask", "displacement", "stack"]

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
        Target of a reduction that makes it; None if it is made from products, by a command of its own.
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
        It belongs to one filter.
    is_optional
        A calibration without which nothing is missing: it is applied where the store has one, and made on request only.
    needs, needs_thermal
        Calibrations that it needs, and additional ones in thermal bands.
    uses
        Optional calibrations that are applied if one serves.
    step
        Name of the step that makes it, in ``--set`` and among the parameters of a product.
    step_label
        What this step makes, in the list of parameters.
    parameters, metrics
        Module and class of the parameters of this step, and of its quality figures.
    same
        Facts that a product and the frames that it serves share, or that frames share to be stacked; an
        instrument's table may have others.
    windows
        How far apart in time frames and products may be, days, by the names of
        `imaging.instruments.instrument.Window`; an instrument's table may have others.
    configuration
        Its configuration as observers name it, a template of `imaging.listed.filled`; for a kind that is not applied
        to frames, of itself.
    frame_configuration
        The same of a frame that needs it, in messages.
    comparison
        How it is compared with a certified one; None if it is not compared.
    limits
        Limits that its pixels must meet to be usable.
    content
        Function that reads what a file contains besides pixels, and refuses one in which it is invalid.
    published
        The observatory publishes products of this kind.
    applied_card
        Keyword with the name of the applied calibration of this kind.
    primitives
        DRAGONS primitives that apply it.
    is_stack
        It is what science frames are reduced to: the frames of one field, registered and combined.
    made_of
        Kinds of the products that are combined, if it is not made from raw frames.
    """

    name: ProductKind
    target: Target | None
    label: str
    plural: str
    card: str
    other_cards: tuple[str, ...] = ()
    obstype: str
    unit: str | None
    frames: tuple[CombinedFrame, ...]
    is_of_a_band: bool = False
    is_optional: bool = False
    needs: tuple[CalibrationKind, ...] = ()
    needs_thermal: tuple[CalibrationKind, ...] = ()
    uses: tuple[CalibrationKind, ...] = ()
    step: str
    step_label: str
    parameters: str
    metrics: str
    same: tuple[str, ...]
    windows: Mapping[str, float] = field(hash=False)
    configuration: str = ""
    frame_configuration: str = ""
    comparison: ComparisonName | None = None
    limits: LimitsName
    content: str = ""
    published: bool = False
    applied_card: str = ""
    primitives: tuple[str, ...] = ()
    is_stack: bool = False
    made_of: tuple[ProductKind, ...] = ()

    @property
    def is_calibration(self) -> bool:
        """Whether it is applied to frames."""
        return self.name in CALIBRATION_KINDS

    @property
    def is_mask(self) -> bool:
        """Whether its pixels are flags."""
        return self.unit is None

    @property
    def frame_kind(self) -> FrameKind:
        """The kind that its file has as a frame."""
        return "bpm" if self.is_mask else self.frames[0] if self.frames else KINDS[self.made_of[0]].frame_kind

    @property
    def is_resampled(self) -> bool:
        """Whether its pixels are on a grid of their own, not on the detector's."""
        return self.is_stack or bool(self.made_of)

    @property
    def suffix(self) -> str:
        """Suffix that its file name adds to that of its first frame."""
        return f"_{self.name}"

    @property
    def key_card(self) -> str:
        """Keyword with the recipe key of the applied calibration of this kind."""
        return f"{self.name[:5].upper()}KEY"

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

    def configured(self, facts: Mapping[str, Any]) -> str:
        """Return the configuration of a product with these facts, as observers name it."""
        return filled(self.configuration, facts)

    def wanted_by(self, facts: Mapping[str, Any]) -> str:
        """Return the same of a frame with these facts that needs it."""
        return filled(self.frame_configuration, facts)


def _days(**windows: float) -> Mapping[str, float]:
    return MappingProxyType(windows)


_TABLE: Final = (
    Kind(
        name="dark", target="dark", label="dark", plural="darks",
        card="PROCDARK", obstype="DARK", unit="electron",
        frames=("dark",),
        step="dark", step_label="master dark", parameters="imaging.calibrations.dark.DarkParameters",
        metrics="imaging.calibrations.dark.DarkMetrics",
        same=("detector", "binning", "exposure_time", "read_pairs", "coadds", "section"),
        windows=_days(gap=5, group=30, near=10, wait=90, serve=90),
        configuration="{exposure_time:g} s {read_pairs:n read} {coadds:n coadd}",
        frame_configuration="exposure {exposure_time:g} s, {read_pairs:n read pair}, {coadds:n coadd}",
        comparison="difference", limits="dark",
        applied_card="DARKIM", primitives=("darkCorrect",),
    ),
    Kind(
        name="bpm", target="bpm", label="bad pixel mask", plural="bad pixel masks",
        card="BPMASK", other_cards=("PROCBPM",), obstype="BPM", unit=None,
        frames=("flat", "dark"),
        step="bpm", step_label="bad pixel mask", parameters="imaging.calibrations.bpm.BpmParameters",
        metrics="imaging.calibrations.bpm.BpmMetrics",
        same=("detector", "binning", "section"), windows=_days(pair=90, wait=90, serve=90),
        configuration="{detector}", frame_configuration="detector {detector}",
        comparison="mask", limits="mask", published=True,
        applied_card="BPMIM", primitives=("addDQ",),
    ),
    Kind(
        name="flat", target="flat", label="flat", plural="flats",
        card="PROCFLAT", obstype="FLAT", unit="",
        frames=("flat",), is_of_a_band=True, needs=("bpm",), needs_thermal=("dark",),
        step="flat", step_label="master flat", parameters="imaging.calibrations.flat.FlatParameters",
        metrics="imaging.calibrations.flat.FlatMetrics",
        same=("detector", "filter_id", "focal_mask", "disperser", "section"),
        windows=_days(gap=5, group=30, pair=90, near=10, wait=90, serve=90),
        configuration="{filter_id}", frame_configuration="filter {filter_id}",
        comparison="ratio", limits="response",
        applied_card="FLATIM", primitives=("flatCorrect",),
    ),
    Kind(
        name="distortion", target="distortion", label="distortion", plural="distortions",
        card="PROCDIST", obstype="OBJECT", unit="pixel",
        frames=("object",), is_of_a_band=True, is_optional=True, needs=("dark", "bpm", "flat"),
        step="distortion", step_label="distortion of the camera, from dithered frames",
        parameters="imaging.registration.distortion.distortion_parameters.DistortionParameters",
        metrics="imaging.registration.distortion.distortion_parameters.DistortionMetrics",
        same=("detector", "filter_id", "focal_mask", "disperser", "inport", "section", "binning"),
        windows=_days(serve=365),
        configuration="{filter_id}", frame_configuration="filter {filter_id}",
        limits="displacement", content="imaging.registration.distortion.distortion_file.read_distortion",
        applied_card="DISTIM",
    ),
    Kind(
        name="image", target="science", label="stack", plural="stacks",
        card="PROCSCI", obstype="OBJECT", unit="electron",
        frames=("object",), is_of_a_band=True, needs=("dark", "bpm", "flat"), uses=("distortion",),
        step="stack", step_label="frames into one image", parameters="imaging.stack.stack.StackParameters",
        metrics="imaging.stack.stack.StackMetrics",
        same=(
            "filter_id", "focal_mask", "exposure_time", "coadds", "read_pairs", "detector", "section", "binning",
        ),
        windows=_days(gap=5, serve=1), configuration="{filter}",
        limits="stack", is_stack=True,
    ),
    Kind(
        name="mosaic", target=None, label="mosaic", plural="mosaics",
        card="PROCMOSA", obstype="OBJECT", unit="electron",
        frames=(), made_of=("image",), is_of_a_band=True,
        step="mosaic", step_label="stacks of several nights or fields into one image",
        parameters="imaging.mosaic.parameters.MosaicParameters", metrics="imaging.mosaic.mosaic.MosaicMetrics",
        same=("filter_id",), windows=_days(), configuration="{filter}",
        limits="stack",
    ),
)  # fmt: skip
#: The kinds by name, each after those that it needs.
KINDS: Final[Mapping[str, Kind]] = MappingProxyType({kind.name: kind for kind in _TABLE})
CALIBRATIONS: Final[tuple[Kind, ...]] = tuple(kind for kind in _TABLE if kind.is_calibration)
#: The calibrations without which something is missing.
REQUIRED_KINDS: Final[tuple[CalibrationKind, ...]] = tuple(
    name for name in CALIBRATION_KINDS if not KINDS[name].is_optional
)
#: The kind that science frames are reduced to.
STACK: Final[Kind] = next(kind for kind in _TABLE if kind.is_stack)
#: Kinds of the raw frames that are exposed through a filter.
FRAMES_OF_A_BAND: Final = frozenset(frame for kind in _TABLE if kind.is_of_a_band for frame in kind.frames)
#: The kinds that a reduction of raw frames makes, and the kind that is made from stacks.
REDUCED: Final[tuple[Kind, ...]] = tuple(kind for kind in _TABLE if kind.target is not None)
MOSAIC: Final[Kind] = next(kind for kind in _TABLE if STACK.name in kind.made_of)


def class_named(path: str) -> Any:
    """Return the class or function that a row of the table names by its module and name."""
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


def is_mask(kind: str) -> bool:
    """Return whether a kind of product, known or not, is known to be a mask."""
    return kind in KINDS and KINDS[kind].is_mask


def kind_of_target(target: Target) -> Kind:
    """Return the kind of product that a reduction limited to ``target`` makes."""
    return next(kind for kind in _TABLE if kind.target == target)


def target_of(kind: str) -> Target:
    """Return the target of a kind of product; for any other step, and for what is made from stacks, that of these."""
    target = KINDS.get(kind, STACK).target or STACK.target
    assert target is not None
    return target


def target_label(target: str) -> str:
    """Return the label of a target or kind of product in messages; any other name is returned unchanged."""
    return KINDS[target].label if target in KINDS else target


def with_article(kind: str) -> str:
    """Return a kind of product with its article: ``a dark``, ``an image``."""
    return f"{'an' if kind[:1] in set('aeiou') else 'a'} {kind}"


def such_a(kind: str) -> str:
    """Return ``such a dark`` for a calibration, of which there are others, and ``an image`` for the rest."""
    return f"such {with_article(kind)}" if kind in CALIBRATION_KINDS else with_article(kind)


def in_a_sentence(names: Iterable[str], conjunction: str = "or") -> str:
    """Return names joined as in a sentence: ``dark, bpm or flat``."""
    *others, last = names
    return f"{', '.join(others)} {conjunction} {last}" if others else last
