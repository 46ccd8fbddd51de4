"""The master of a complete set replaces those of its parts, as long as all of it may be used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from calib_store.curation.certify import certify, reinstate, reject, supersede
from calib_store.curation.supersets import made_of_more
from calib_store.model.records import Foreign, FrameRecord, InputRef, Product, recipe_key
from calib_store.store import Store

Add = Callable[..., Product]
WHO: dict[str, Any] = {"author": "Ana", "reason": "a test"}
LOW = {"dark": {"low": 3.0}}
#: Inputs of each kind.
ROLES = {"dark": ("dark",), "bpm": ("lamp_on", "lamp_off", "short_dark"), "flat": ("lamp_on", "lamp_off")}


@pytest.fixture
def frames(store: Store, record: Callable[..., FrameRecord]) -> list[FrameRecord]:
    known = [record(f"S{n}.fits") for n in range(9)]
    store.frames.ingest(known)
    return known


def inputs(kind: str, frames: Sequence[FrameRecord], count: int) -> list[InputRef]:
    """The first frames of each role."""
    each = len(frames) // len(ROLES[kind])
    return [
        InputRef(role, frame.sha256)
        for n, role in enumerate(ROLES[kind])
        for frame in frames[n * each : n * each + count]
    ]


@pytest.fixture
def make(add: Add) -> Callable[..., Product]:
    def one(kind: str, of: Sequence[InputRef], parameters: Any = LOW, **changes: Any) -> Product:
        key = recipe_key(kind, [f"{ref.role}:{ref.source}" for ref in of], parameters, "1")
        return add(kind, inputs=of, parameters=parameters, recipe_key=key, **changes)

    return one


@pytest.mark.parametrize("kind", ROLES)
def test_a_part_of_a_set_finds_the_complete_one(
    kind: str, store: Store, frames: list[FrameRecord], make: Callable[..., Product]
) -> None:
    each = len(frames) // len(ROLES[kind])
    part, whole = inputs(kind, frames, each - 1), inputs(kind, frames, each)
    assert made_of_more(store, kind, part, LOW, "1") is None
    product = make(kind, whole)
    assert made_of_more(store, kind, part, LOW, "1") == product
    assert made_of_more(store, kind, whole, LOW, "1") is None
    assert made_of_more(store, kind, part, {"dark": {"low": 4.0}}, "1") is None
    assert made_of_more(store, kind, part, LOW, "2") is None
    others = [kind_ for kind_ in ROLES if kind_ != kind]
    assert all(made_of_more(store, one, part, LOW, "1") is None for one in others)
    swapped = [InputRef("other", ref.source) for ref in part]
    assert made_of_more(store, kind, swapped, LOW, "1") is None


def test_frames_left_out_as_unlike_the_others_belong_to_its_set(
    store: Store, frames: list[FrameRecord], make: Callable[..., Product]
) -> None:
    of = inputs("dark", frames, 9)
    left_out = {"given_as": {frames[1].sha256: "dark"}}
    product = make("dark", [ref for ref in of if ref.source != frames[1].sha256], metrics=left_out)
    assert made_of_more(store, "dark", of[:3], LOW, "1") == product
    assert made_of_more(store, "dark", of, LOW, "1") is None


def test_its_frames_must_agree(store: Store, frames: list[FrameRecord], make: Callable[..., Product]) -> None:
    """A user who gives some of the frames of a set that disagrees may be choosing the good ones."""
    part = inputs("dark", frames, 3)
    product = make(
        "dark",
        inputs("dark", frames, 9),
        gate={"passed": False, "reasons": ["five by five"], "reference": None},
    )
    assert product.disputed
    assert made_of_more(store, "dark", part, LOW, "1") is None


def test_it_must_count(store: Store, frames: list[FrameRecord], make: Callable[..., Product]) -> None:
    part = inputs("dark", frames, 3)
    product = make("dark", inputs("dark", frames, 9))
    for act in (reject, supersede):
        act(store, product, **WHO)  # type: ignore[operator]
        assert made_of_more(store, "dark", part, LOW, "1") is None
        reinstate(store, store.get(product.id), **WHO)
        assert made_of_more(store, "dark", part, LOW, "1") is not None


def test_each_of_its_frames_must_be_usable(
    store: Store, frames: list[FrameRecord], make: Callable[..., Product]
) -> None:
    part = inputs("dark", frames, 3)
    make("dark", inputs("dark", frames, 9))
    frame = store.frames.get("S8.fits")
    assert frame is not None
    reject(store, frame, **WHO)
    assert made_of_more(store, "dark", part, LOW, "1") is None
    reinstate(store, store.frames.with_sha256s([frame.sha256])[frame.sha256], **WHO)
    assert made_of_more(store, "dark", part, LOW, "1") is not None
    assert made_of_more(store, "dark", part, LOW, "1", left_out={"f" * 64}) is not None
    assert made_of_more(store, "dark", part, LOW, "1", left_out={"f" * 64, frame.sha256}) is None


def test_no_calibration_of_it_may_be_made_from_a_frame_left_out(
    store: Store, frames: list[FrameRecord], make: Callable[..., Product]
) -> None:
    mask = make("bpm", [InputRef("lamp_on", frames[8].sha256)])
    by_mask = InputRef("bpm", mask.id)
    product = make("flat", [*inputs("flat", frames[:8], 4), by_mask])
    part = [*inputs("flat", frames[:8], 3), by_mask]
    assert made_of_more(store, "flat", part, LOW, "1") == product
    assert made_of_more(store, "flat", part, LOW, "1", left_out={frames[8].sha256}) is None


def test_its_calibration_may_be_another_one_that_counts(
    store: Store, frames: list[FrameRecord], make: Callable[..., Product]
) -> None:
    mask, other = make("bpm", inputs("bpm", frames, 3)), make("bpm", inputs("bpm", frames, 2))
    variant = make("bpm", inputs("bpm", frames, 2), {"bpm": {"low": 0.5}})
    whole = [*inputs("flat", frames, 4), InputRef("bpm", mask.id)]
    part = inputs("flat", frames, 3)
    flat = make("flat", whole)

    def found(*masks: Product) -> Product | None:
        return made_of_more(store, "flat", [*part, *(InputRef("bpm", one.id) for one in masks)], LOW, "1")

    assert found(mask) == found(other) == flat
    assert found(variant) is found() is None
    supersede(store, mask, **WHO)
    assert found(mask) == flat
    assert found(other) is None
    reinstate(store, store.get(mask.id), **WHO)
    assert found(other) == flat
    reject(store, store.get(mask.id), **WHO)
    assert found(mask) is found(other) is None


def test_a_provisional_one_is_not_taken(
    store: Store, frames: list[FrameRecord], make: Callable[..., Product]
) -> None:
    product = make("dark", inputs("dark", frames, 9), provisional="made as of 2013-11-21")
    assert made_of_more(store, "dark", inputs("dark", frames, 3), LOW, "1") is None
    store.confirm(product)
    assert made_of_more(store, "dark", inputs("dark", frames, 3), LOW, "1") is not None


def test_the_largest_is_taken_then_the_certified_one(
    store: Store, frames: list[FrameRecord], make: Callable[..., Product]
) -> None:
    part = inputs("dark", frames, 3)
    one, two = (
        make("dark", inputs("dark", frames, 5)),
        make("dark", inputs("dark", frames[:3] + frames[6:8], 5)),
    )
    assert made_of_more(store, "dark", part, LOW, "1") == one
    certified = certify(store, two, **WHO)
    assert made_of_more(store, "dark", part, LOW, "1") == certified
    largest = make("dark", inputs("dark", frames, 9))
    assert made_of_more(store, "dark", part, LOW, "1") == largest


def test_a_frame_left_out_because_of_a_figure_belongs_to_the_set(
    store: Store, frames: list[FrameRecord], make: Callable[..., Product]
) -> None:
    """The complete master is used for the set with that frame, and for the others without it."""
    product = make("dark", inputs("dark", frames[:8], 8), metrics={"given_as": {frames[8].sha256: "dark"}})
    with_it = inputs("dark", [frames[8], *frames[:3]], 4)
    assert made_of_more(store, "dark", with_it, LOW, "1") == product
    assert made_of_more(store, "dark", inputs("dark", frames[:8], 8), LOW, "1") == product
    assert made_of_more(store, "dark", inputs("dark", frames, 9), LOW, "1") is None
    assert made_of_more(store, "dark", inputs("dark", frames[8:], 1), LOW, "1") is None


def test_unknown_inputs_match_no_product(
    store: Store, frames: list[FrameRecord], make: Callable[..., Product]
) -> None:
    part = inputs("dark", frames, 3)
    make("dark", [*inputs("dark", frames, 5), InputRef("dark", Foreign("S99.fits", ""))])
    assert made_of_more(store, "dark", part, LOW, "1") is None
    assert made_of_more(store, "dark", [], LOW, "1") is None
