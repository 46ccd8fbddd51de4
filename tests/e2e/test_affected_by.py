"""Products are made again after a rejection with their own parameters and all their frames, or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from night_lab import Lab, Run, link

from calib_store.curation.certify import certify, reject
from calib_store.model.records import Frame, Product
from flows.dark import reduce_darks
from imaging.simulator.truth import NightTruth
from nirflow.console.reduction_report import exit_code
from nirflow.exits import Exit

WHO: dict[str, Any] = {"author": "Ana", "reason": "light leak"}


def darks(lab: Lab, *paths: Path, out: str = "out", **options: Any) -> Run:
    return lab.reduce(*paths, out=out, flow=reduce_darks, **options)


def product(lab: Lab, run: Run) -> Product:
    found: Product = lab.store().get(run.product("dark").id)
    return found


def rejected(lab: Lab, night: NightTruth) -> Frame:
    """Reject and return the second of the night's darks."""
    frame: Frame = lab.store().frames.get(night.of_role("dark")[1].root)
    reject(lab.store(), frame, **WHO)
    return frame


def status(lab: Lab, *products: Product) -> list[str]:
    return [lab.store().get(one.id).status for one in products]


def raw_darks(night: NightTruth) -> list[Path]:
    return [night.folder.parent / frame.file for frame in night.of_role("dark")]


def test_each_variant_is_made_again_with_its_own_parameters(
    lab: Lab, night: NightTruth, tmp_path: Path
) -> None:
    raw = link(raw_darks(night), tmp_path / "raw")
    old = [product(lab, darks(lab, raw, steps={"dark": {"high": high}})) for high in (4.0, 3.5)]
    bad = rejected(lab, night)
    again = darks(lab, out="again", affected_by=bad.name)
    assert (again.report.failures, again.report.kept) == ((), ())
    assert status(lab, *old) == ["superseded", "superseded"]
    store = lab.store()
    for one in old:
        new = store.get(store.history(one)[-1].by)
        assert new.parameters == one.parameters
        assert [ref.source for ref in store.inputs_of(new)] == [
            ref.source for ref in store.inputs_of(one) if ref.source != bad.sha256
        ]


def test_while_usable_frames_are_missing_a_certified_dark_is_not_replaced(
    lab: Lab, night: NightTruth, tmp_path: Path
) -> None:
    raw = link(raw_darks(night), tmp_path / "raw")
    old = certify(lab.store(), product(lab, darks(lab, raw)), **WHO)
    bad = rejected(lab, night)
    away = tmp_path / "away"
    away.mkdir()
    gone = [path for path in sorted(raw.iterdir()) if path.name != bad.name][:1]
    for path in gone:
        path.rename(away / path.name)
    part = darks(lab, out="part", affected_by=bad.name)
    assert part.report.products == part.report.replaced == ()
    (kept,) = part.report.kept
    assert kept.old == old.name_and_id
    assert kept.reason == f"1 of its 4 frames are missing: {gone[0].name}"
    assert part.report.incomplete
    assert exit_code(part.report) is Exit.PARTIAL
    assert status(lab, old) == ["certified"]
    (run,) = [one for one in lab.store().runs.of_night(old.span[0].date()) if one.report["kept"]]
    assert run.report["kept"][0]["old"] == old.name_and_id
    for path in gone:
        (away / path.name).rename(path)
    complete = darks(lab, out="complete", affected_by=bad.name)
    assert complete.report.kept == ()
    assert len(complete.product("dark").inputs) == 3
    assert status(lab, old) == ["superseded"]
