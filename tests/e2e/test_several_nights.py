"""Eight nights of one pointing: each has its own stack, also when made again; and windows that do not cut
groups.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from night_lab import Lab, link
from observatory import CALIBRATIONS, NIGHT, Observatory, observing

from calib_store.curation.certify import reinstate, reject
from calib_store.model.records import Product
from deployments.deployed.nightly import calibrations, nightly
from deployments.deployed.reprocess import reprocess
from deployments.deployed.requests import (
    CalibrationsRequest,
    ChosenCalibrations,
    NightlyRequest,
    ReprocessRequest,
)
from flows.run.report import NightReport
from imaging.simulator.parameters import NightParameters
from imaging.simulator.simulate import simulate_night
from imaging.simulator.truth import NightTruth

pytestmark = pytest.mark.long

SIZE, SEED, FRAMES, NIGHTS = 256, 7, 3, 8
COMMON: dict[str, Any] = {"size": SIZE, "detector_seed": SEED, "field_seed": SEED, "n_science": FRAMES}
NONE = {"n_short_darks": 0, "n_lamp_on": 0, "n_lamp_off": 0}
LAST = NIGHT + timedelta(days=NIGHTS - 1)


@pytest.fixture(scope="module")
def season(tmp_path_factory: pytest.TempPathFactory) -> list[NightTruth]:
    """Eight nights of one field, the first with calibrations, and another set of darks days later."""

    def night(days: int, **changes: Any) -> NightTruth:
        parameters = NightParameters.model_validate(COMMON | {"seed": SEED + days, "days": days} | changes)
        return simulate_night(tmp_path_factory.mktemp(f"night{days}"), parameters)

    first = night(0, n_darks=10, n_short_darks=3, n_lamp_on=3, n_lamp_off=3)
    others = [night(days, n_darks=0, **NONE) for days in range(1, NIGHTS)]
    return [first, *others, night(9, n_science=0, n_darks=4, **NONE), night(10, n_darks=0, **NONE)]


def show(text: str) -> None:
    """Print a line when run with -s."""
    sys.stdout.write(f"{text}\n")


def files(night: NightTruth, *roles: str) -> list[Path]:
    return [night.folder.parent / frame.file for frame in night.frames if not roles or frame.role in roles]


@pytest.fixture(scope="module")
def eight(new_lab: Callable[..., Lab], season: list[NightTruth]) -> Iterator[Observatory]:
    """Yield the eight nights, reduced in one run, with darks that arrived later."""
    with observing(new_lab(SIZE), season[0]) as one:
        for night in season[:NIGHTS]:
            link(files(night), one.raw)
        one.note()
        report: NightReport = one.run(nightly, NightlyRequest(first=NIGHT, last=LAST))
        assert report.failures == ()
        link(files(season[NIGHTS]), one.raw)
        one.note()
        report = one.run(calibrations, CalibrationsRequest(first=LAST + timedelta(days=1), only=("dark",)))
        assert report.failures == ()
        yield one


def stacks(observatory: Observatory, status: str) -> dict[date, Product]:
    """Return the stacks of a status, by their night."""
    found = [one for one in observatory.products("image") if one.status == status]
    by_night = {one.span[0].date(): one for one in found}
    assert len(by_night) == len(found)
    return by_night


def frames_of(observatory: Observatory, product: Product) -> list[str]:
    refs = observatory.store.inputs_of(product)
    known = observatory.store.frames.with_sha256s(r.source for r in refs if isinstance(r.source, str))
    return sorted(frame.name for frame in known.values())


def dark_of(observatory: Observatory, image: Product) -> Product:
    (dark,) = [ref.source for ref in observatory.store.inputs_of(image) if ref.role == "dark"]
    return observatory.store.get(str(dark))


def shown(observatory: Observatory, title: str) -> None:
    """Write all stacks, with their nights, status, frames and dark."""
    show(f"\n{title}")
    for one in sorted(observatory.products("image"), key=lambda p: (p.span[0], p.made_at)):
        names, n = frames_of(observatory, one), one.metrics["ncombine"]
        dark = dark_of(observatory, one).name
        show(f"  {one.span[0]:%Y-%m-%d} to {one.span[1]:%Y-%m-%d} {one.status:10} {n} of {len(names)} {dark}")


def test_each_night_has_its_own_stack(eight: Observatory, season: list[NightTruth]) -> None:
    shown(eight, "nightly over eight nights")
    of_nights = stacks(eight, "candidate")
    assert sorted(of_nights) == [NIGHT + timedelta(days=n) for n in range(NIGHTS)]
    for day, night in enumerate(season[:NIGHTS]):
        image = of_nights[NIGHT + timedelta(days=day)]
        assert frames_of(eight, image) == sorted(path.name for path in files(night, "science"))
        assert len(frames_of(eight, dark_of(eight, image))) == 10


def test_one_night_at_a_time_gives_the_same_stacks(eight: Observatory) -> None:
    before = stacks(eight, "candidate")
    night = NIGHT + timedelta(days=3)
    report: NightReport = eight.run(
        nightly, NightlyRequest(first=night, calibrations=ChosenCalibrations(days=3))
    )
    (image,) = [ref for ref in report.products if ref.kind == "image"]
    assert image.reused
    assert image.uuid == before[night].id
    assert stacks(eight, "candidate") == before


def test_a_rejected_dark_has_each_stack_made_again(eight: Observatory) -> None:
    before = stacks(eight, "candidate")
    dark = dark_of(eight, before[NIGHT])
    reject(eight.store, dark, author="Ana", reason="light leak")
    report: NightReport = eight.run(reprocess, ReprocessRequest(affected_by=dark.name))
    shown(eight, "rejected the dark; reprocess")
    assert (report.failures, report.kept, report.lacking) == ((), (), ())
    assert len(report.replaced) == NIGHTS
    assert stacks(eight, "superseded").keys() == before.keys()
    for night, image in stacks(eight, "candidate").items():
        assert frames_of(eight, image) == frames_of(eight, before[night])
        assert image.span == before[night].span
        assert image.metrics["ncombine"] == FRAMES
        assert len(frames_of(eight, dark_of(eight, image))) == 4
        assert eight.store.history(before[night])[-1].by == image.id


def test_after_a_reinstatement_each_old_stack_is_valid_again(eight: Observatory) -> None:
    old = stacks(eight, "superseded")
    dark = dark_of(eight, old[NIGHT])
    reinstate(eight.store, dark, author="Ana", reason="no leak")
    report: NightReport = eight.run(
        nightly, NightlyRequest(first=NIGHT, last=LAST, calibrations=ChosenCalibrations(days=0))
    )
    shown(eight, "reinstated the dark; nightly over eight nights")
    assert report.failures == ()
    assert {night: image.id for night, image in stacks(eight, "candidate").items()} == {
        night: image.id for night, image in old.items()
    }


def test_nights_are_combined_on_request(eight: Observatory, season: list[NightTruth]) -> None:
    before = stacks(eight, "candidate")
    two = link([*files(season[0], "science"), *files(season[1], "science")], eight.lab.folder / "two")
    run = eight.lab.reduce(two, out="across", across_nights=True)
    (image,) = [ref for ref in run.report.products if ref.kind == "image"]
    assert len(image.inputs) == image.metrics["ncombine"] == 2 * FRAMES
    assert {eight.store.get(one.id).status for one in before.values()} == {"candidate"}


# A window of nights


@pytest.fixture(scope="module")
def windowed(new_lab: Callable[..., Lab], season: list[NightTruth]) -> Iterator[Observatory]:
    """Yield the first night, with its ten darks of three days, and science ten days later."""
    with observing(new_lab(SIZE), season[0]) as one:
        one.come(*CALIBRATIONS, "science")
        link(files(season[-1]), one.raw)
        one.note()
        report: NightReport = one.run(nightly, NightlyRequest(first=NIGHT))
        assert report.failures == ()
        yield one


def test_a_window_that_ends_within_a_group_includes_all_of_it(windowed: Observatory) -> None:
    (dark,) = windowed.products("dark")
    nights = sorted({frame.facts.night for frame in raw_of(windowed, dark)})
    later = NIGHT + timedelta(days=10)
    assert nights[0] < later - timedelta(days=10) <= nights[-1]
    report: NightReport = windowed.run(nightly, NightlyRequest(first=later))
    assert report.failures == ()
    assert [ref.uuid for ref in report.products if ref.kind == "dark"] == [dark.id]
    assert [one.id for one in windowed.products("dark")] == [dark.id]
    (image,) = [ref for ref in report.products if ref.kind == "image"]
    assert dark.name in image.calibrations
    show(f"\nnights {nights[0]} to {nights[-1]}, window from {later - timedelta(days=10)}")
    show(f"dark of {len(raw_of(windowed, dark))} frames, {image.name} made with {image.calibrations}")


def raw_of(observatory: Observatory, product: Product) -> list[Any]:
    store = observatory.store
    refs = [ref.source for ref in store.inputs_of(product) if isinstance(ref.source, str)]
    return list(store.frames.with_sha256s(refs).values())


def test_no_master_is_made_from_a_part_of_anothers_frames(
    windowed: Observatory, season: list[NightTruth]
) -> None:
    before = {kind: [one.id for one in windowed.products(kind)] for kind in ("dark", "bpm", "flat")}
    first = season[0]
    part = link(
        [
            *files(first, "dark")[:4],
            *files(first, "short_dark"),
            *files(first, "lamp_on")[:2],
            *files(first, "lamp_off"),
            *files(first, "science"),
        ],
        windowed.lab.folder / "part",
    )
    run = windowed.lab.reduce(part, out="of a part")
    assert run.report.failures == ()
    for kind, known in before.items():
        ref = run.product(kind)
        assert [ref.uuid] == known
        assert [one.id for one in windowed.products(kind)] == known
        assert "more, all of them usable" in ref.warnings[-1]
        show(f"\n{ref.name}: {ref.warnings[-1]}")
    assert run.product("image").reused


def test_a_part_becomes_a_set_of_its_own_when_a_frame_of_the_complete_one_is_rejected(
    windowed: Observatory, season: list[NightTruth]
) -> None:
    store = windowed.store
    (dark,) = windowed.products("dark")
    bad = store.frames.get(files(season[0], "dark")[-1].name)
    assert bad is not None
    reject(store, bad, author="Ana", reason="light leak")
    run = windowed.lab.reduce(windowed.lab.folder / "part", out="without the bad", only=("dark",))
    made = run.product("dark")
    assert made.uuid != dark.id
    assert len(made.inputs) == 4
    assert made.warnings == ()
