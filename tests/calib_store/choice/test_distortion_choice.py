"""Distortions serve frames by the store's rules like other calibrations, and are missing without harm."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from calib_store.choice.serving import kinds_for
from calib_store.curation.certify import certify, reject
from calib_store.model.records import Product
from calib_store.store import Store
from imaging.frames.facts import FrameFacts

Facts = Callable[..., FrameFacts]


def test_the_nearest_day_serves_and_of_that_the_most_accurate(
    store: Store, add: Callable[..., Product], facts: Facts
) -> None:
    frame = facts(kind="object")
    assert kinds_for(frame)[-1] == "distortion"
    assert store.match(frame, "distortion").product is None
    far = add("distortion", hours=-60, facts=frame, metrics={"noise": 0.01})
    poor, good = (
        add("distortion", hours=h, facts=frame, metrics={"noise": n}) for h, n in ((-30, 0.2), (-40, 0.1))
    )
    found = store.match(frame, "distortion")
    assert [one.product for one in found.candidates] == [good, poor, far]
    reject(store, good, author="observer", reason="trailed frames")
    assert store.match(frame, "distortion").product == poor
    certify(store, far, author="observer", reason="checked")
    chosen = store.match(frame, "distortion").product
    assert chosen is not None
    assert (chosen.id, chosen.status) == (far.id, "certified")


@pytest.mark.parametrize(
    ("changes", "hours", "reason"),
    [
        ({"inport": 1}, 1, "inport 1, frame 3"), ({"filter_id": "J_G0802"}, 1, "filter J_G0802, frame Y_G0811"),
        ({"lyot": "GEMS_G5835"}, 1, "Lyot stop GEMS_G5835"), ({"section": "[1:64,1:64]"}, 1, "[1:64,1:64]"),
        ({}, 24 * 366, "366.0 days after the frame, at most 365"),
    ],
)  # fmt: skip
def test_what_must_be_the_same(
    store: Store,
    add: Callable[..., Product],
    facts: Facts,
    changes: dict[str, object],
    hours: float,
    reason: str,
) -> None:
    frame = facts(kind="object")
    product = add("distortion", hours=hours, facts=facts(kind="object", **changes))
    found = store.explain(frame, "distortion")
    assert found.product is None
    assert reason in found.candidates[0].reason
    assert store.failures_of(product, [frame])
