"""Ordinary histories, after which the right calibration is chosen: rejections, experiments, parts, exceptions."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from astropy.io import fits
from night_lab import Lab, Run, link
from sqlalchemy import text

import tasks.stack as stack_task
from calib_store.curation.certify import certify, reinstate, reject
from calib_store.model.records import Product, Tier
from calib_store.tables.decisions import of_frame
from imaging.errors import StoreError
from imaging.simulator.parameters import NightParameters
from imaging.simulator.simulate import simulate_night
from imaging.simulator.truth import NightTruth

pytestmark = pytest.mark.long

WHO = {"author": "Ana", "reason": "light leak"}


@pytest.fixture(scope="session")
def later(tmp_path_factory: pytest.TempPathFactory, night: NightTruth) -> NightTruth:
    """Science only, ten days after the small night, of the same array."""
    given = night.parameters.model_dump() | {
        "detector_seed": night.parameters.seed, "stale_wcs": None, "seed": 11, "days": 10,
        "n_darks": 0, "n_short_darks": 0, "n_lamp_on": 0, "n_lamp_off": 0,
    }  # fmt: skip
    return simulate_night(tmp_path_factory.mktemp("later"), NightParameters(**given))


def files(night: NightTruth, *roles: str) -> list[Path]:
    return [night.folder.parent / f"{one.root}.fits" for role in roles for one in night.of_role(role)]


def stored(lab: Lab, run: Run, kind: str) -> Product:
    found: Product = lab.store().get(run.product(kind).id)
    return found


def used(lab: Lab, run: Run, kind: str) -> str:
    """Return the id of the calibration that the image of a run was made with."""
    edges = lab.store().lineage(stored(lab, run, "image")).edges
    (found,) = {e.input_product_id for e in edges if e.depth == 1 and e.role == kind}
    return str(found)


def marks(run: Run) -> list[str]:
    """Return the image's warnings, in the report and in its header, without those of its few stars."""
    image = run.product("image")
    header = fits.getheader(image.output)
    in_header = [str(header[card]) for card in header if card.startswith("NFWARN")]
    assert all(any(warning.startswith(one[:40]) for warning in image.warnings) for one in in_header)
    return [one for one in image.warnings if "bright stars" not in one and " is aligned to " not in one]


def test_a_dark_with_a_rejected_frame_is_not_preferred_to_a_clean_one(
    known_lab: Lab, reduced: Run, night: NightTruth, later: NightTruth
) -> None:
    dirty = stored(known_lab, reduced, "dark")
    store = known_lab.store()
    bad = store.frames.get(night.of_role("dark")[1].root)
    reject(store, bad, **WHO)
    # Nothing else serves: it is used, and marked everywhere.
    only = known_lab.reduce(later.folder.parent, out="only")
    assert used(known_lab, only, "dark") == str(dirty.id)
    assert any(f"was made with {bad.name} was rejected by Ana" in one for one in marks(only))
    with pytest.raises(StoreError, match="cannot be certified"):
        certify(store, dirty, author="Bo", reason="good")
    clean = known_lab.reduce(night.folder.parent, out="clean")
    assert (dirty.name_and_id, clean.product("dark").name_and_id) in {
        (o.old, o.new) for o in clean.report.replaced
    }
    assert store.get(dirty.id).status == "superseded"
    after = known_lab.reduce(later.folder.parent, out="after")
    assert used(known_lab, after, "dark") == clean.product("dark").id
    assert marks(after) == []
    assert store.get(only.product("image").id).status == "superseded"


def test_a_flat_with_a_rejected_mask_is_not_preferred_to_a_clean_one(
    known_lab: Lab, reduced: Run, night: NightTruth, later: NightTruth
) -> None:
    store = known_lab.store()
    mask = reject(store, stored(known_lab, reduced, "bpm"), **WHO)
    run = known_lab.reduce(later.folder.parent, out="later", choice={"allow_missing": ["bpm"]})
    assert used(known_lab, run, "flat") == reduced.product("flat").id
    assert any(f"was made with {mask.name} was rejected by Ana" in one for one in marks(run))
    assert store.get(reduced.product("flat").id).tier is Tier.TAINTED


@pytest.mark.parametrize("step", ["dark", "bpm"])
def test_an_experiment_does_not_serve_other_runs(
    known_lab: Lab, reduced: Run, night: NightTruth, later: NightTruth, step: str
) -> None:
    changed = {"dark": {"high": 1.5}} if step == "dark" else {"bpm": {"flat_lowest": 0.7}}
    kind = "dark" if step == "dark" else "flat"  # a flat is of the variant of its mask too
    trial = known_lab.reduce(night.folder.parent, out="trial", only=(kind,), steps=changed)
    assert trial.product(kind).id != reduced.product(kind).id
    run = known_lab.reduce(later.folder.parent, out="later")
    assert used(known_lab, run, kind) == reduced.product(kind).id
    # A run that requests the same parameters gets it.
    same = known_lab.reduce(later.folder.parent, out="same", steps=changed)
    assert used(known_lab, same, kind) == trial.product(kind).id


@pytest.mark.parametrize("turned", [False, True])
def test_part_of_a_set_reduced_before_the_rest_arrived(
    lab: Lab, night: NightTruth, later: NightTruth, tmp_path: Path, turned: bool
) -> None:
    darks = files(night, "dark")
    part, complete = link(darks[1:], tmp_path / "part"), link(darks, tmp_path / "complete")
    runs = {folder: lab.reduce(folder, out=folder.name, only=("dark",)) for folder in
            ((complete, part) if turned else (part, complete))}  # fmt: skip
    best = stored(lab, runs[complete], "dark")
    assert best.status == "candidate"
    assert len([p for p in lab.store().products("dark") if p.counts]) == 1
    lab.reduce(link(files(night, "short_dark", "lamp_on", "lamp_off"), tmp_path / "lamps"), out="lamps")
    run = lab.reduce(later.folder.parent, out="later")
    assert used(lab, run, "dark") == str(best.id)


def test_a_flat_without_a_mask_is_a_last_resort_and_marked(
    lab: Lab, night: NightTruth, later: NightTruth, tmp_path: Path
) -> None:
    lamps = link(files(night, "lamp_on", "lamp_off"), tmp_path / "lamps")
    bare = lab.reduce(lamps, out="bare", only=("flat",), choice={"allow_missing": ["bpm"]})
    assert "made without a bpm" in str(stored(lab, bare, "flat").provisional)
    rest = link(files(night, "dark", "short_dark", "lamp_on", "lamp_off"), tmp_path / "rest")
    lab.reduce(rest, out="rest", only=("bpm", "dark"))
    run = lab.reduce(later.folder.parent, out="later")
    assert used(lab, run, "flat") == bare.product("flat").id
    assert any("is provisional: made without a bpm" in one for one in marks(run))
    complete = lab.reduce(night.folder.parent, out="complete")
    run = lab.reduce(later.folder.parent, out="again")
    assert used(lab, run, "flat") == complete.product("flat").id
    assert marks(run) == []


def test_a_product_named_with_use_serves_no_other_run(
    known_lab: Lab, reduced: Run, night: NightTruth, later: NightTruth, tmp_path: Path
) -> None:
    mine = tmp_path / "mine_dark.fits"
    shutil.copy(reduced.product("dark").output, mine)
    with fits.open(mine, mode="update") as hdus:
        hdus["SCI"].data += 1.0
        for hdu in hdus:
            for card in ("DATASUM", "CHECKSUM"):
                hdu.header.remove(card, ignore_missing=True)
    run = known_lab.reduce(later.folder.parent, out="mine", choice={"use": {"dark": str(mine)}})
    assert used(known_lab, run, "dark") != reduced.product("dark").id
    assert "the dark was named by the user" in marks(run)
    run = known_lab.reduce(later.folder.parent, out="later")
    assert used(known_lab, run, "dark") == reduced.product("dark").id


def test_use_of_a_rejected_product_is_refused_with_author_and_reason(
    known_lab: Lab, reduced: Run, night: NightTruth, later: NightTruth
) -> None:
    dark = reject(known_lab.store(), stored(known_lab, reduced, "dark"), author="Ana", reason="a bad night")
    run = known_lab.reduce(later.folder.parent, out="later", choice={"use": {"dark": str(dark.id)}})
    assert any("was rejected by Ana on" in one and "a bad night" in one for one in marks(run))


def test_frames_outside_the_validity_are_named(
    known_lab: Lab, reduced: Run, night: NightTruth, later: NightTruth
) -> None:
    store = known_lab.store()
    science = sorted(later.of_role("science"), key=lambda one: one.root)
    known_lab.reduce(later.folder.parent, out="plain")
    middles = [store.frames.get(one.root).facts.middle for one in science]
    certify(
        store,
        stored(known_lab, reduced, "dark"),
        start=middles[1],
        end=middles[-1] + timedelta(hours=1),
        **WHO,
    )
    run = known_lab.reduce(later.folder.parent, out="later", steps={"stack": {"low": 4.4}})
    (mark,) = marks(run)
    assert "serves the group's middle frame, but not" in mark
    assert science[0].root in mark
    with store.database.begin() as connection:
        rows = of_frame(connection, store.frames.get(science[0].root).sha256)
    (taken,) = [c for c in next(row for row in rows if row.kind == "dark").candidates if c["taken"]]
    assert not taken["serves"]
    assert taken["reason"].startswith("taken for the group, by its middle frame")


def test_the_product_of_an_old_choice_is_not_preferred_in_current_runs(
    lab: Lab, night: NightTruth, later: NightTruth, tmp_path: Path
) -> None:
    lamps = link(files(night, "lamp_on", "lamp_off"), tmp_path / "lamps")
    lab.reduce(
        link(files(night, "short_dark", "lamp_on", "lamp_off"), tmp_path / "m"), out="m", only=("bpm",)
    )
    store = lab.store()
    (mask,) = store.products("bpm")
    with store.database.begin() as connection:
        then = connection.scalar(text("SELECT clock_timestamp()"))
    reject(store, mask, **WHO)
    old = lab.reduce(lamps, out="old", only=("flat",), as_of=then)
    flat = stored(lab, old, "flat")
    assert (flat.tier, flat.provisional is not None) == (Tier.TAINTED, True)
    lab.reduce(link(files(night, "dark"), tmp_path / "d"), out="d", only=("dark",))
    run = lab.reduce(later.folder.parent, out="later", choice={"allow_missing": ["bpm"]})
    assert any("was made with" in one and "rejected by Ana" in one for one in marks(run))
    # An ordinary run that would make the same product makes it an ordinary one.
    reinstate(store, store.get(mask.id), author="Ana", reason="a mistake")
    again = lab.reduce(lamps, out="again", only=("flat",))
    assert again.product("flat").id == old.product("flat").id
    assert store.get(flat.id).tier is Tier.SOUND


def test_a_rejection_during_a_run_is_noticed(
    known_lab: Lab, reduced: Run, night: NightTruth, later: NightTruth, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = known_lab.store()
    made = stack_task.make_stack

    def reject_and_make(*arguments: Any, **options: Any) -> Any:
        if store.get(reduced.product("flat").id).status != "rejected":
            reject(store, stored(known_lab, reduced, "flat"), **WHO)
        return made(*arguments, **options)

    monkeypatch.setattr(stack_task, "make_stack", reject_and_make)
    run = known_lab.reduce(later.folder.parent, out="later")
    assert stored(known_lab, run, "image").tier is Tier.TAINTED
    assert any("after the run had chosen it" in one for one in marks(run))


def test_a_product_that_passes_its_comparison_is_certified_without_overriding_users(
    known_lab: Lab, reduced: Run, night: NightTruth, tmp_path: Path
) -> None:
    store = known_lab.store()
    mine = certify(store, stored(known_lab, reduced, "dark"), author="Ana", reason="good")
    gate = {"gate": {"certify": True}}
    trial = known_lab.reduce(
        link(files(night, "dark"), tmp_path / "darks"),
        out="x",
        only=("dark",),
        steps=gate | {"dark": {"high": 3.5}},
    )
    assert stored(known_lab, trial, "dark").gate["passed"]
    assert stored(known_lab, trial, "dark").status == "candidate"
    flat = certify(store, stored(known_lab, reduced, "flat"), author="Ana", reason="good")
    reject(store, stored(known_lab, reduced, "bpm"), **WHO)
    bare = known_lab.reduce(
        link(files(night, "lamp_on", "lamp_off"), tmp_path / "lamps"), out="y", only=("flat",),
        steps=gate | {"flat": {"high": 5.0}}, choice={"allow_missing": ["bpm"]},
    )  # fmt: skip
    assert stored(known_lab, bare, "flat").status == "candidate"
    assert store.get(mine.id).status == store.get(flat.id).status == "certified"
