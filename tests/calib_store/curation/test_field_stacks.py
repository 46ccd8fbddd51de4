"""Which stacks of a field count: by target, observation, night and band, each raw frame once, also as of a moment."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from calib_store.curation.certify import reject
from calib_store.curation.field_stacks import FieldStacks, field_stacks
from calib_store.model.records import FrameRecord, InputRef, Product, recipe_key
from calib_store.store import Store
from imaging.errors import StoreError
from imaging.frames.facts import FrameFacts

NIGHT = date(2013, 11, 21)


@pytest.fixture
def stack(
    store: Store,
    add: Callable[..., Product],
    record: Callable[..., FrameRecord],
    facts: Callable[..., FrameFacts],
) -> Callable[..., Product]:
    """Add a stack of some raw frames, some days after the first night."""

    def make(*frames: str, days: int = 0, parameters: Any = None, **changes: Any) -> Product:
        raws = [record(f"{name}.fits") for name in frames]
        store.frames.ingest(raws)
        shas, how = [raw.sha256 for raw in raws], {"low": 3.0} if parameters is None else parameters
        started = facts().started + timedelta(days=days)
        return add(
            "image",
            facts=facts(started=started, observation_id="GS-1", **changes),
            inputs=[InputRef("science", sha) for sha in shas],
            parameters=how,
            recipe_key=recipe_key("image", shas, how, "1"),
        )

    return make


def names(found: FieldStacks) -> list[str]:
    return [one.name for one in found.chosen]


def test_stacks_of_a_target_in_order_of_time(store: Store, stack: Callable[..., Product]) -> None:
    late, early = stack("b", days=3), stack("a")
    stack("c", days=9, target="ELSEWHERE")
    assert names(field_stacks(store, target="field")) == [early.name, late.name]
    assert names(field_stacks(store, observation="gs-1", nights=(None, NIGHT))) == [early.name]
    assert names(field_stacks(store, target="FIELD", nights=(NIGHT + timedelta(days=1), None))) == [late.name]


def test_bands_are_selected(store: Store, stack: Callable[..., Product]) -> None:
    stack("a")
    other = stack("b", filter="H", filter_id="H_G0803")
    assert names(field_stacks(store, target="FIELD", bands=("H",))) == [other.name]
    with pytest.raises(StoreError, match="has no stack in J; it has stacks in H, Y"):
        field_stacks(store, target="FIELD", bands=("Y", "J"))


def test_a_raw_frame_counts_once(store: Store, stack: Callable[..., Product]) -> None:
    part = stack("a", "b", parameters={"low": 2.0})
    more = stack("a", "b", "c", parameters={"low": 4.0})
    apart = stack("d")
    found = field_stacks(store, target="FIELD")
    assert {*names(found)} == {more.name, apart.name}
    (passed,) = found.passed_over
    assert (passed.product.id, passed.expected) == (part.id, True)
    assert passed.reason == f"it shares 2 raw frames with {more.name_and_id}, which comes first"


def test_what_was_rejected_does_not_count_except_as_of_before(
    store: Store, stack: Callable[..., Product]
) -> None:
    good, bad = stack("a"), stack("b", days=1)
    before = datetime.now(UTC)
    reject(store, bad, author="Ana", reason="clouds")
    found = field_stacks(store, target="FIELD")
    assert names(found) == [good.name]
    assert [one.reason for one in found.passed_over] == ["it is rejected"]
    assert names(field_stacks(store, target="FIELD", as_of=before)) == [good.name, bad.name]
    with pytest.raises(StoreError, match="The store has no stack of the target 'FIELD'"):
        field_stacks(store, target="FIELD", as_of=before - timedelta(days=1))


def test_a_damaged_stack_is_passed_over(store: Store, stack: Callable[..., Product]) -> None:
    good, lost = stack("a"), stack("b", days=1)
    path = store.objects.path(lost.sha256)
    path.chmod(0o600)
    path.write_bytes(b"gone")
    found = field_stacks(store, target="FIELD")
    assert names(found) == [good.name]
    assert [(one.reason, one.expected) for one in found.passed_over] == [
        ("its file is missing or damaged", False)
    ]


def test_messages_list_what_there_is(store: Store, stack: Callable[..., Product]) -> None:
    stack("a")
    with pytest.raises(StoreError, match="no stack of the target 'M 31'; it has stacks of FIELD"):
        field_stacks(store, target="M 31")
    with pytest.raises(StoreError, match="no stack of the observation 'X'; it has stacks of GS-1"):
        field_stacks(store, observation="X")
    with pytest.raises(StoreError, match="has no stack of the night 2014-01-01; it has stacks of 2013-11-21"):
        field_stacks(store, target="FIELD", nights=(date(2014, 1, 1), date(2014, 1, 1)))
