"""The content of a page comes from the store: runs, products, frames, choices, and what was left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from calib_store.curation.certify import certify, reject
from calib_store.model.records import Decision, FrameRecord, InputRef, Match, Override, Product, Run
from calib_store.store import Store
from flows.page.collect import collect_night, run_address
from flows.run.report import Failure, Replaced
from imaging.errors import NirflowError
from imaging.frames.facts import FrameFacts
from tasks.support.references import LeftOut, ProductRef


def test_an_unknown_night(store: Store, night: date) -> None:
    with pytest.raises(NirflowError, match="2013-11-21") as error:
        collect_night(store, night)
    assert "nirflow reduce" in error.value.remedy


def test_frames_without_a_run(store: Store, raws: Sequence[FrameRecord], night: date) -> None:
    page = collect_night(store, night)
    (group,) = page.groups
    assert (group.kind, group.state, len(group.frames)) == ("science", "not reduced", 3)
    assert [one.kind for one in group.chosen] == ["dark", "bpm", "flat"]
    assert {one.now for one in group.chosen} == {"none serves"}
    assert (page.bands, page.programs) == (("Y",), ("GS-2013B-Q-15",))
    assert (page.products, page.runs, page.left_out) == ((), (), ())


def test_a_run_and_its_product(
    store: Store,
    stack: Callable[..., Product],
    ref: Callable[..., ProductRef],
    record_run: Callable[..., Run],
    night: date,
) -> None:
    made = stack()
    record_run(ref(made, warnings=("its glow may be in them",)))
    page = collect_night(store, night)
    (group,), (product,) = page.groups, page.products
    assert (group.state, group.product) == ("built", product)
    assert (product.id, product.status, product.number("seeing")) == (made.id, "candidate", 4.2)
    assert product.warnings == ("its glow may be in them",)
    figures = {figure.label: (figure.value, figure.unit) for figure in product.figures}
    assert figures["seeing"] == ("4.2", "px")
    assert figures["seeing on the sky"] == ("0.75", "arcsec")
    assert figures["sky"] == ("2500", "e⁻")
    (run,) = page.runs
    assert (run.made, run.failed, run.url) == (1, 0, "../../runs/flow-run/1")
    assert (run.frames, run.stacks) == (2, 1)
    assert page.steps == (("stack", 4.0), ("sky", 2.0))


def test_a_product_from_a_run_of_another_night_also_belongs_to_the_night(
    store: Store, stack: Callable[..., Product], night: date
) -> None:
    made = stack(warnings=["the dark does not record its pedestal"])
    (product,) = collect_night(store, night).products
    assert (product.id, product.output) == (made.id, None)
    assert product.warnings == ("the dark does not record its pedestal",)


def test_a_later_run_takes_precedence_and_both_are_listed(
    store: Store, stack: Callable[..., Product], ref: Callable[..., ProductRef], record_run: Callable[..., Run],
    failure: Callable[..., Failure], night: date,
) -> None:  # fmt: skip
    label = collect_label(store, night, stack)
    first, second = stack(), stack(1)
    record_run(failures=(failure(label=label),))
    record_run(ref(first, label=label))
    record_run(ref(second, label=label))
    page = collect_night(store, night)
    assert [group.state for group in page.groups] == ["built"]
    assert [product.id for product in page.products] == [second.id]
    assert [product.id for product in page.earlier] == [first.id]
    assert [(run.made, run.failed) for run in page.runs] == [(0, 1), (1, 0), (1, 0)]


def collect_label(store: Store, night: date, stack: Callable[..., Product]) -> str:
    stack()
    (group,) = collect_night(store, night).groups
    return group.label


def test_a_waiting_group_lists_the_candidates(
    store: Store, raws: Sequence[FrameRecord], add: Callable[..., Product], record_run: Callable[..., Run],
    failure: Callable[..., Failure], facts: Callable[..., FrameFacts], night: date,
) -> None:  # fmt: skip
    add("dark", facts=facts(kind="dark", exposure_time=60.0))
    group = next(g for g in collect_night(store, night).groups if g.label.startswith("WISE"))
    record_run(failures=(failure(label=group.label, message="no dark serves", waits_for="dark"),))
    group = next(g for g in collect_night(store, night).groups if g.label.startswith("WISE"))
    assert (group.state, group.waits_for) == ("waiting", "dark")
    (run,) = collect_night(store, night).runs
    assert (run.failed, run.waiting) == (0, 1)
    dark = group.chosen[0]
    assert (dark.name, dark.now) == (None, "none serves")
    assert [(one.name, one.reason) for one in dark.others] == [("S0_dark.fits", "exposure 60 s, frame 120 s")]


def test_choices_are_those_that_the_store_recorded(
    store: Store, raws: Sequence[FrameRecord], add: Callable[..., Product], night: date,
    facts: Callable[..., FrameFacts],
) -> None:  # fmt: skip
    section = _middle(raws).facts.section
    dark_facts = facts(kind="dark", filter="Dark", filter_id="DK_G0807", section=section)
    near, far = add("dark", facts=dark_facts, hours=-2.0), add("dark", facts=dark_facts, hours=-50.0)
    match = store.match(_middle(raws).facts, "dark")
    assert match.product == near
    store.record_decisions([Decision(raw.sha256, match, near) for raw in raws])
    named = Match("", "flat", None, (), "rules-1")
    term = Override("ana", "--use flat=mine.fits")
    store.record_decisions([Decision(raw.sha256, named, far, term) for raw in raws])
    certify(store, near, author="ana", reason="good")
    group = next(g for g in collect_night(store, night).groups if g.label.startswith("WISE"))
    dark, bpm, flat = group.chosen
    assert (dark.name, dark.status) == (near.name, "certified")
    assert dark.days == pytest.approx(-0.08, abs=0.01)
    assert dark.why.endswith("hours before")
    assert [one.name for one in dark.others] == [far.name]
    assert bpm.name is None
    assert flat.why == "ana: --use flat=mine.fits"


def _middle(raws: Sequence[FrameRecord]) -> Any:
    return sorted(raws, key=lambda raw: raw.facts.started)[1]  # type: ignore[union-attr]


def test_what_was_left_out_and_why(
    store: Store, raws: Sequence[FrameRecord], frame_record: Callable[..., FrameRecord], record_run: Callable[..., Run],
    lost: Callable[..., LeftOut], night: date,
) -> None:  # fmt: skip
    bad = store.frames.get(raws[0].path.name)
    assert bad is not None
    reject(store, bad, author="ana", reason="a satellite")
    store.frames.ingest([frame_record(raws[1].path, quarantine="all pixels have the value 0")])
    store.frames.ingest([frame_record(raws[2].path, facts={"observation_class": "acq"})])
    record_run(left_out=(lost(), lost(raws[1].path.name)))
    page = collect_night(store, night)
    reported = {one.name: (one.reason.partition(" on ")[0], one.expected) for one in page.left_out}
    assert reported == {
        "S20131121S0099.fits": ("truncated", False),
        raws[0].path.name: ("rejected by ana", False),
        raws[1].path.name: ("truncated", False),
        raws[2].path.name: ("an acquisition frame (OBSCLASS = 'acq')", True),
    }
    assert page.groups == ()
    assert [bool(frame.problem) for frame in page.frames] == [True, True, False]
    assert [frame.remedy for frame in page.frames] == [
        f'If it is good after all: nirflow cal reinstate {bad.name} --reason "..."',
        "Fetch or correct its file: a file that changes is examined again.",
        "",
    ]


def test_two_frames_of_one_name_are_two_frames(
    store: Store, stack: Callable[..., Product], record: Callable[..., FrameRecord], raws: Sequence[FrameRecord],
    facts: Callable[..., FrameFacts], ref: Callable[..., ProductRef], record_run: Callable[..., Run], night: date,
) -> None:  # fmt: skip
    """A product belongs to the frames that it was made from, not to others with their names."""
    record_run(ref(stack()))
    name = raws[0].path.name
    store.frames.ingest([record(name, facts=facts(name=name, filter="J", filter_id="J_G0802"))])
    groups = {group.label.split()[-2]: group.state for group in collect_night(store, night).groups}
    assert groups == {"Y": "built", "J": "not reduced"}


def test_a_users_decision_about_a_product(
    store: Store,
    stack: Callable[..., Product],
    ref: Callable[..., ProductRef],
    record_run: Callable[..., Run],
    night: date,
) -> None:
    made = stack()
    record_run(ref(made))
    reject(store, made, author="ana", reason="trailed")
    (product,) = collect_night(store, night).products
    assert product.status == "rejected"
    assert product.status_reason.startswith("ana on ")
    assert product.status_reason.endswith(": trailed")


def test_a_report_in_another_format_is_listed_and_does_no_harm(
    store: Store, raws: Sequence[FrameRecord], record_run: Callable[..., Run], night: date
) -> None:
    record_run(content={"products": "all of them"})
    (run,) = collect_night(store, night).runs
    assert not run.readable


def test_a_run_whose_frames_and_products_are_not_in_the_store(
    store: Store, record_run: Callable[..., Run], ref: Callable[..., ProductRef], night: date
) -> None:
    record_run(ref(), nights=(night, night + timedelta(days=1)))
    page = collect_night(store, night + timedelta(days=1))
    (group,), (product,) = page.groups, page.products
    assert (group.label, group.state) == ("FIELD Y 2013-11-21", "built")
    assert (product.id, product.status) == (UUID(int=1), "gone")


def test_calibrations_come_with_their_names(
    store: Store, add: Callable[..., Product], raws: Sequence[FrameRecord], night: date
) -> None:
    dark = add("dark")
    add("image", inputs=[InputRef("science", raws[0].sha256), InputRef("dark", dark.id)])
    image = next(p for p in collect_night(store, night).products if p.kind == "image")
    assert image.calibrations == (dark.name,)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("http://127.0.0.1:4210/flow-runs/flow-run/0a-1", "../../runs/flow-run/0a-1"),
        ("https://host/nirflow/v2/runs/flow-run/1", "../../runs/flow-run/1"),
        ("javascript:alert(1)", ""), ("https://host/runs/flow-run/1\"><img>", ""), ("data:text/html,x", ""), ("", ""),
    ],
)  # fmt: skip
def test_the_address_of_a_run_holds_on_any_machine_and_port(text: str, address: str) -> None:
    assert run_address(text) == address


def test_an_unreadable_file_is_listed_as_left_out(
    store: Store, record: Callable[..., FrameRecord], tmp_path: Path, night: date
) -> None:
    """Two empty files have the same bytes; a file that has become complete is not one of them."""
    empty = record("S20131121S0098.fits", facts=None, quarantine="the file is empty (0 bytes)")
    store.frames.ingest([empty, replace(empty, path=tmp_path / "S20131121S0099.fits")])
    later = record("S20131121S0100.fits", facts=None, quarantine="truncated")
    store.frames.ingest([later])
    page = collect_night(store, night)
    assert page.frames == ()
    assert [(one.name, one.reason) for one in page.left_out] == [
        ("S20131121S0098.fits", "the file is empty (0 bytes)"),
        ("S20131121S0099.fits", "the file is empty (0 bytes)"),
        ("S20131121S0100.fits", "truncated"),
    ]
    store.frames.ingest([record("S20131121S0100.fits", "whole")])
    assert len(collect_night(store, night).left_out) == 2


def test_a_reinstated_product_is_not_listed_as_superseded(
    store: Store, raws: Sequence[FrameRecord], record_run: Callable[..., Run], night: date
) -> None:
    record_run(replaced=(Replaced(old="a (1)", new="b (2)"), Replaced(old="c (3)", new="d (4)")))
    assert collect_night(store, night).replaced == (("a (1)", "b (2)"), ("c (3)", "d (4)"))
    record_run(replaced=(Replaced(old="b (2)", new="a (1)"),))
    assert collect_night(store, night).replaced == (("c (3)", "d (4)"), ("b (2)", "a (1)"))
