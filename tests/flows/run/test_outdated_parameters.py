"""Products that an earlier version made, with parameters that this one does not have, are made again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from calib_store.model.records import Product
from calib_store.store import Store
from calib_store.tables.variants import default_parameters, differences
from flows.recipes.night_plan import NightPlan
from flows.run.in_progress import Night
from flows.run.redo import Redo
from flows.run.remake_plan import RemakePlan, plan_remakes
from flows.run.run import _notes
from tasks.support.parameters import ReductionParameters
from tasks.support.references import RawFrame

DIM = {
    "peer_level": 20.0, "peer_fraction": 0.05, "peer_shape": 12.0, "peer_noise": 0.3, "peer_sigma": 7.0,
    "peer_least": 3, "peer_pair": 10.0, "peers": True,
}  # fmt: skip
LIT = DIM | {"peer_light": 0.25, "peer_pattern": 0.03}


def planned(store: Store, product: Product) -> RemakePlan:
    inputs = store.inputs_of(product)
    known = store.frames.with_sha256s([str(ref.source) for ref in inputs])
    (frame,) = known.values()
    assert frame.facts is not None
    there = RawFrame(path=Path(frame.name), source=Path(frame.name), sha256=frame.sha256, facts=frame.facts)
    redo = Redo(frame, (product,), {product.id: inputs}, known)
    return plan_remakes(redo, [there], known, ReductionParameters())


def test_a_product_of_an_earlier_version_is_made_again_with_the_present_limits(
    store: Store, add: Callable[..., Product]
) -> None:
    plan = planned(store, add(parameters={"dark": {"high": 4.0} | DIM}))
    assert plan.kept == []
    (remake,) = plan.remakes
    assert remake.parameters.dark == type(remake.parameters.dark)(high=4.0)
    (note,) = remake.notes
    assert "dark.peer_level=20.0" in note
    assert "dark.peer_sigma=7.0" in note
    assert "peer_least" not in note
    night = SimpleNamespace(survey=SimpleNamespace(notes=()), plan=NightPlan(), remakes=plan.remakes)
    (shown,) = _notes(cast(Night, night))
    assert (shown.name, shown.text) == (remake.old.name_and_id, note)


def test_parameters_of_this_version_are_repeated(store: Store, add: Callable[..., Product]) -> None:
    own = ReductionParameters.model_validate({"dark": {"peer_sigma": 7.0, "peer_pair": 10.0}})
    (remake,) = planned(store, add(parameters={"dark": own.dark.model_dump(mode="json")})).remakes
    assert (remake.parameters.dark, remake.notes) == (own.dark, ())


def test_a_parameter_that_no_version_had_keeps_the_product(store: Store, add: Callable[..., Product]) -> None:
    plan = planned(store, add(parameters={"dark": {"peer_lvel": 20.0}}))
    assert plan.remakes == []
    assert "come from another version of nirflow" in plan.kept[0].reason


@pytest.mark.parametrize(("step", "old"), [("dark", DIM), ("bpm", LIT), ("flat", LIT)])
def test_parameters_with_another_meaning_do_not_make_another_variant(step: str, old: dict[str, Any]) -> None:
    run = default_parameters()
    assert differences({step: old}, run) == ()
    (other,) = differences({step: old | {"peers": False}}, run)
    assert other == f"{step}.peers is false, true in this run"
    (other,) = differences({step: {"peer_pair": 10.0}}, run)
    assert "peer_pair" in other
