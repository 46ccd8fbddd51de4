"""The plan compared with the reports of runs: later runs take precedence, and nothing reported is lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from flows.page.model import Group, NightProduct
from flows.page.outcomes import left_out_of, outcomes, planned, results_of
from flows.run.plan import plan_night
from flows.run.report import Failure, Kept, NightReport, Replaced
from imaging.frames.facts import FrameFacts
from tasks.support.parameters import ReductionParameters
from tasks.support.references import LeftOut, ProductRef, RawFrame

GROUP = Group("science", "FIELD Y 2013-11-21", ("A", "B"), ("a", "b"), first=("a", "b"))


def product(ref: ProductRef, *sources: str) -> NightProduct:
    return NightProduct(
        UUID(ref.id),
        ref.kind,
        ref.name,
        ref.label,
        ref.recipe_key,
        ref.sha256,
        ref.inputs,
        sources,
        reused=ref.reused,
    )


@pytest.fixture
def became(ref: Callable[..., ProductRef]) -> Callable[..., tuple[Group, ...]]:
    """Return the outcome of a single group after some reports, whose products come from the frames a and
    b.
    """

    def make(*reports: NightReport, groups: tuple[Group, ...] = (GROUP,)) -> tuple[Group, ...]:
        held = results_of(reports)
        products = {UUID(one.id): product(one, "a", "b") for _, one in held.products}
        return outcomes(groups, held, products, {"a", "b"})

    return make


def test_a_group_is_built_or_reused_according_to_the_last_run(
    became: Callable[..., Any], ref: Callable[..., ProductRef], report: Callable[..., NightReport]
) -> None:
    (built,) = became(report(ref()))
    assert (built.state, built.product.name) == ("built", "S20131121S0075_image.fits")
    (again,) = became(report(ref()), report(ref(reused=True)))
    assert again.state == "reused"


def test_a_group_without_a_run_is_not_reduced(
    became: Callable[..., Any], report: Callable[..., NightReport]
) -> None:
    assert [group.state for group in became(report())] == ["not reduced"]


def test_a_failure_has_its_reason_and_the_awaited_calibration(
    became: Callable[..., Any], report: Callable[..., NightReport], failure: Callable[..., Failure]
) -> None:
    (failed,) = became(report(failures=(failure(),)))
    assert (failed.state, failed.why, failed.waits_for) == ("failed", "no stars to align by.", "")
    (waiting,) = became(report(failures=(failure(message="no flat serves", waits_for="flat"),)))
    assert (waiting.state, waiting.why, waiting.waits_for) == ("waiting", "no flat serves", "flat")


def test_a_later_product_resolves_a_failure(
    became: Callable[..., Any], ref: Callable[..., ProductRef], report: Callable[..., NightReport],
    failure: Callable[..., Failure],
) -> None:  # fmt: skip
    (group,) = became(report(failures=(failure(waits_for="flat"),)), report(ref()))
    assert (group.state, group.why) == ("built", "")


def test_a_later_failure_is_shown_with_the_earlier_product(
    became: Callable[..., Any], ref: Callable[..., ProductRef], report: Callable[..., NightReport],
    failure: Callable[..., Failure],
) -> None:  # fmt: skip
    (group,) = became(report(ref()), report(failures=(failure(),)))
    assert group.state == "failed"
    assert group.product is not None


def test_results_outside_the_planned_groups_are_shown_too(
    became: Callable[..., Any], ref: Callable[..., ProductRef], report: Callable[..., NightReport],
    failure: Callable[..., Failure],
) -> None:  # fmt: skip
    reported = became(report(ref(), failures=(failure(step="flat", label="flat Y 2013-11-20"),)), groups=())
    assert [(g.kind, g.label, g.state) for g in reported] == [
        ("science", "FIELD Y 2013-11-21", "built"), ("flat", "flat Y 2013-11-20", "failed"),
    ]  # fmt: skip


def test_a_failure_of_an_intermediate_step_belongs_to_science(
    became: Callable[..., Any], report: Callable[..., NightReport], failure: Callable[..., Failure]
) -> None:
    (group,) = became(report(failures=(failure(step="align"),)))
    assert group.state == "failed"


def test_a_group_of_other_nights_without_results_is_not_shown(
    became: Callable[..., Any], report: Callable[..., NightReport]
) -> None:
    elsewhere = replace(GROUP, kind="dark", members=("x", "y"), first=("x", "y"))
    assert became(report(), groups=(elsewhere,)) == ()


def test_a_later_product_replaces_an_earlier_one(
    ref: Callable[..., ProductRef], report: Callable[..., NightReport]
) -> None:
    old, new = ref(), ref(id=str(UUID(int=2)), recipe_key="c" * 64)
    held = results_of([report(old), None, report(new)])
    assert held.products == ((2, new),)
    assert held.earlier == (old,)
    assert results_of([report(new), report(old), report(new)]).earlier == (old,)


def test_frames_used_by_a_later_run_are_not_listed_as_left_out(
    ref: Callable[..., ProductRef], report: Callable[..., NightReport], lost: Callable[..., LeftOut]
) -> None:
    used, few, bad = lost("S20131121S0076.fits"), lost("S20131121S0075.fits, S20131121S0076.fits"), lost()
    first, second = (
        report(left_out=(used, few, bad, lost("bad pixel mask"))),
        report(ref(left_out=(lost("S1.fits"),))),
    )
    reported = left_out_of([first, second], results_of([first, second]))
    assert [one.name for one in reported] == ["S20131121S0099.fits", "bad pixel mask", "S1.fits"]
    mask = report(ref(kind="bpm", id=str(UUID(int=3))))
    assert [one.name for one in left_out_of([first, mask], results_of([first, mask]))] == [
        "S20131121S0099.fits"
    ]


def test_a_product_that_was_kept_is_shown_until_a_later_run_replaces_it(
    report: Callable[..., NightReport],
) -> None:
    kept = Kept(old="d.fits (12345678)", reason="1 of its 4 frames are missing: a", remedy="Bring it back.")
    first = report(kept=(kept,))
    (one,) = left_out_of([first, None], results_of([first, None]))
    assert (one.name, one.reason) == (kept.old, f"not replaced: {kept.reason}")
    second = report(replaced=(Replaced(old=kept.old, new="d.fits (87654321)"),))
    assert left_out_of([first, second], results_of([first, second])) == ()


def test_the_groups_of_a_plan(facts: Callable[..., FrameFacts]) -> None:
    """A K flat needs a dark as well, a mask nothing, and science is named after its objects."""

    def raw(number: int, **changes: Any) -> RawFrame:
        name = f"sha{number}"
        return RawFrame(path=Path(name), source=Path(name), sha256=name, facts=facts(name=name, **changes))

    lamp = {"filter": "Ks", "filter_id": "Ks_G0804", "exposure_time": 8.0, "target": "GCALflat"}
    dark = {"kind": "dark", "filter": "Dark", "filter_id": "DK_G0807", "exposure_time": 8.0}
    frames = [raw(0), raw(1, poffset=10.0)]
    frames += [raw(2 + i, kind="flat", lamp="off", **lamp) for i in range(3)]
    frames += [raw(5 + i, **dark) for i in range(3)]
    plan = plan_night(frames, ReductionParameters())
    names = {frame.sha256: frame.name.upper() for frame in frames}
    groups = {group.kind: group for group in planned(plan, names, {"sha0", "sha2", "sha3", "sha4"})}
    assert groups["science"].frames == ("SHA0", "SHA1")
    assert (groups["science"].elsewhere, groups["science"].first) == (1, ("sha0", "sha1"))
    assert groups["science"].needs == ("dark", "bpm", "flat")
    assert (groups["flat"].needs, groups["flat"].middle) == (("dark", "bpm"), "sha3")
    assert (groups["dark"].needs, groups["dark"].elsewhere) == ((), 3)


def test_notes_name_frames_by_their_names(facts: Callable[..., FrameFacts]) -> None:
    frames = []
    for number in range(4):
        sha256 = f"{number:064x}"
        place = {"ra": 63.5, "dec": -47.8, "poffset": 10.0 * number, "observation_id": f"GS-{number // 2}"}
        seen = facts(name=sha256, started=facts().started + timedelta(minutes=number), **place)
        frames.append(RawFrame(path=Path(sha256), source=Path(sha256), sha256=sha256, facts=seen))
    names = {frame.sha256: f"S{number}.fits" for number, frame in enumerate(frames)}
    plan = plan_night(frames, ReductionParameters())
    notes = [note for group in planned(plan, names, set(names)) for note in group.notes]
    assert [note.split()[0] for note in notes] == ["S2", "S0"]
