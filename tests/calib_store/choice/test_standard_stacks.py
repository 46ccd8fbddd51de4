"""Stacks of standard fields: which one serves a frame, and why the others do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from calib_store.choice.choose import Question, match
from calib_store.choice.standard_stacks import why_not
from calib_store.model.records import Product, Tier
from calib_store.model.values import STANDARD
from calib_store.rules.rules import stored_rules
from calib_store.rules.rules_toml import shipped_rules
from calib_store.store import Store
from imaging.frames.facts import FrameFacts

Facts = Callable[..., FrameFacts]
MEASURED = {
    "zero_point": 31.5, "zero_point_error": 0.012, "zero_point_stars": 14, "zero_point_source": "2MASS",
    "magnitude_system": "Vega",
}  # fmt: skip


@pytest.fixture
def standard(add: Callable[..., Product], facts: Facts) -> Callable[..., Product]:
    """Add the stack of a standard field some hours from the frame."""

    def make(hours: float = 1.0, metrics: dict[str, Any] | None = None, **given: Any) -> Product:
        of = {"kind": "object", "observation_class": "partnerCal", "exposure_time": 5.0} | given
        return add("image", hours=hours, facts=facts(**of), metrics=MEASURED | (metrics or {}))

    return make


def test_the_nearest_standard_is_taken_and_the_others_show_the_night(
    store: Store, standard: Callable[..., Product], facts: Facts
) -> None:
    far, near = standard(-5), standard(2)
    found = store.match(facts(), STANDARD)
    assert found.product == near
    assert [one.product for one in found.candidates] == [near, far]
    assert found.candidates[0].reason == "taken: 2.0 hours after; 31.500 +- 0.012 mag from 14 stars"
    assert found.candidates[1].reason.endswith("a nearer one was taken, this one shows the night's scatter")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"hours": 25.0}, "1.0 days after the frame, at most 1"),
        ({"filter_id": "J_G0802"}, "filter J_G0802, frame Y_G0811"),
        ({"lyot": "other"}, "Lyot stop other, frame"),
        ({"observation_class": "science"}, "not a standard field (class science)"),
        (
            {"metrics": {"zero_point_stars": None, "zero_point_source": "nominal"}},
            "its zero point is nominal",
        ),
        ({"metrics": {"magnitude_system": "AB"}}, "magnitudes in AB, the frame's in Vega"),
    ],
)
def test_what_does_not_serve_has_a_reason(
    store: Store, standard: Callable[..., Product], facts: Facts, given: dict[str, Any], reason: str
) -> None:
    standard(**given)
    assert store.match(facts(), STANDARD).candidates == ()
    (one,) = store.explain(facts(), STANDARD).candidates
    assert reason in one.reason
    assert not one.serves


def test_rejected_standards_do_not_serve_but_did_earlier(
    store: Store, standard: Callable[..., Product], facts: Facts
) -> None:
    one = standard()
    before = store.history(one)[-1].changed_at
    store.set_status(one, "rejected", author="Ana", reason="clouds")
    assert store.match(facts(), STANDARD).product is None
    assert store.explain(facts(), STANDARD).candidates[0].reason == "status rejected"
    then = store.match(facts(), STANDARD, as_of=before).product
    assert then is not None
    assert then.id == one.id


def test_magnitudes_of_the_run_decide(store: Store, standard: Callable[..., Product], facts: Facts) -> None:
    one = standard(metrics={"magnitude_system": "AB"})
    question = Question(facts(), STANDARD, parameters={"photometry": {"system": "AB"}})
    assert match(store.database, question, lambda _: None).product == one


def test_exposures_and_read_modes_may_differ(
    store: Store, standard: Callable[..., Product], facts: Facts
) -> None:
    one = standard(read_pairs=1, coadds=3)
    assert store.match(facts(), STANDARD).product == one


def test_rules_without_one_for_standards_use_none(standard: Callable[..., Product], facts: Facts) -> None:
    reason = why_not(standard(), None, facts(), "Vega")
    assert reason == "the store's rules have none for standard fields"


def test_stored_rules_keep_those_for_standards() -> None:
    rules = shipped_rules()
    assert stored_rules(rules.model_dump(mode="json")) == rules
    assert {rule.kind for rule in rules.rules} >= {STANDARD}
    assert all(rule.window_days == 1 for rule in rules.rules if rule.kind == STANDARD)


def test_a_standard_made_with_something_rejected_does_not_serve(
    standard: Callable[..., Product], facts: Facts
) -> None:
    rule = next(rule for rule in shipped_rules().rules if rule.kind == STANDARD and not rule.instrument)
    one = standard()
    assert why_not(one, rule, facts(), "Vega") is None
    tainted = one.model_copy(update={"tier": Tier.TAINTED})
    assert why_not(tainted, rule, facts(), "Vega") == "made with something rejected"
