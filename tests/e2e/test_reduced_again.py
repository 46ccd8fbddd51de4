"""Requests after a night was reduced: other parameters, other rules, rejected or missing frames.

One night over a season; each test continues from the previous one.
"""

from __future__ import annotations

from uuid import UUID

import pytest
from observatory import CALIBRATIONS, NIGHT, Observatory

from calib_store.curation.certify import certify, reinstate, reject, supersede
from calib_store.model.records import Product
from calib_store.store import Store
from deployments.deployed.arrival import arrival
from deployments.deployed.nightly import nightly
from deployments.deployed.reprocess import reprocess, sequences_with_other_choices
from deployments.deployed.requests import NightlyRequest, ReprocessRequest, SequenceRequest
from flows.run.report import NightReport

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def reduced_once(observatory: Observatory) -> Observatory:
    """Return the night, reduced as by its schedule."""
    observatory.come(*CALIBRATIONS, "science")
    report: NightReport = observatory.run(nightly, NightlyRequest(first=NIGHT))
    assert report.failures == ()
    return observatory


def test_a_part_of_the_night_with_other_parameters(reduced_once: Observatory) -> None:
    request = NightlyRequest.model_validate(
        {
            "first": NIGHT,
            "only": ["dark"],
            "bands": ["Y"],
            "advanced": {"parameters": {"dark": {"high": 4.7}}},
        }
    )
    report: NightReport = reduced_once.run(nightly, request)
    (dark,) = report.products
    assert (dark.kind, dark.reused) == ("dark", False)
    assert len(reduced_once.products("dark")) == 2


def test_science_is_made_again_if_the_rules_now_choose_differently(reduced_once: Observatory) -> None:
    """The dark of the previous test is an experiment until somebody certifies it."""
    store = reduced_once.store
    (before,) = reduced_once.products("image")
    version = store.rules().version
    assert sequences_with_other_choices(store, version) == {}
    (experiment,) = [p for p in reduced_once.products("dark") if p.parameters["dark"]["high"] == 4.7]
    certify(store, experiment, author="Ana", reason="fewer outliers")
    assert list(sequences_with_other_choices(store, version)) == [reduced_once.sequence]
    report: NightReport = reduced_once.run(reprocess, ReprocessRequest(rules_version=version))
    assert report.failures == ()
    (image,) = [p for p in report.products if p.kind == "image"]
    assert not image.reused
    assert len(reduced_once.products("image")) == 2
    assert sequences_with_other_choices(store, version) == {}
    assert before.id != image.uuid
    reinstate(store, store.get(experiment.id), author="Ana", reason="an experiment after all")


def test_several_nights_each_into_its_own_folder(reduced_once: Observatory) -> None:
    """The flats were taken days after the science, and the darks before it."""
    nights = reduced_once.lab.folder / "nights"
    request = NightlyRequest.model_validate({"first": "2013-11-20", "last": "2013-11-29"})
    report: NightReport = reduced_once.run(nightly, request)
    assert report.failures == ()
    placed = {(p.kind, p.output.parent.name) for p in report.products if p.output is not None}
    assert placed == {
        ("dark", "2013-11-20"), ("image", "2013-11-21"), ("bpm", "2013-11-29"), ("flat", "2013-11-29"),
    }  # fmt: skip
    assert all(p.output is not None and p.output.is_file() for p in report.products)
    pages = {path.parent.name for path in nights.glob("*/index.html")}
    assert pages >= {"2013-11-20", "2013-11-21", "2013-11-29"}
    assert "2013-11-25" not in pages


def test_products_made_with_a_rejected_frame_are_made_again(reduced_once: Observatory) -> None:
    name = reduced_once.night.of_role("science")[0].root
    frame = reduced_once.store.frames.get(f"{name}.fits")
    assert frame is not None
    reject(reduced_once.store, frame, author="Ana", reason="a plane")
    report: NightReport = reduced_once.run(reprocess, ReprocessRequest(affected_by=f"{name}.fits"))
    assert report.failures == report.kept == ()
    assert len(report.replaced) == len(report.products) == 2
    assert all(f"{name}.fits" not in image.inputs for image in report.products)
    # Two images with different darks are two products, and each is made again with its own.
    store = reduced_once.store
    old = [p for p in reduced_once.products("image") if p.status == "superseded"]
    new = [store.get(ref.uuid) for ref in report.products]
    assert [one.status for one in new] == ["candidate", "candidate"]
    assert {_dark_of(store, one) for one in new} == {_dark_of(store, one) for one in old}
    assert len({_dark_of(store, one) for one in old}) == 2
    assert report.products[0].name in reduced_once.of_night("index.html").read_text()


def _dark_of(store: Store, image: Product) -> UUID:
    (dark,) = [ref.source for ref in store.inputs_of(image) if ref.role == "dark"]
    assert isinstance(dark, UUID)
    return dark


def _statuses(observatory: Observatory, *products: Product) -> list[str]:
    return [observatory.store.get(product.id).status for product in products]


def test_superseded_products_become_valid_again_with_the_frame(reduced_once: Observatory) -> None:
    store = reduced_once.store
    frame = store.frames.get(f"{reduced_once.night.of_role('science')[0].root}.fits")
    reinstate(store, frame, author="Ana", reason="it was a cloud")
    report: NightReport = reduced_once.run(nightly, NightlyRequest(first=NIGHT))
    (ref,) = [p for p in report.products if p.kind == "image"]
    assert ref.reused
    # Its few stars are warned of, nothing else.
    assert [one for one in ref.warnings if "bright stars" not in one and " is aligned to " not in one] == []
    image = store.get(ref.uuid)
    instead = store.get(next(c.by for c in reversed(store.history(image)) if c.by is not None))
    assert _statuses(reduced_once, image, instead) == ["candidate", "superseded"]
    again: NightReport = reduced_once.run(nightly, NightlyRequest(first=NIGHT))
    assert again.replaced == ()
    # And again in both directions: one of the two is always valid, without a run.
    reject(store, frame, author="Ana", reason="a plane after all")
    assert _statuses(reduced_once, image, instead) == ["superseded", "candidate"]
    reinstate(store, store.frames.get(frame.name), author="Ana", reason="it was a cloud")
    assert _statuses(reduced_once, image, instead) == ["candidate", "superseded"]


def test_a_users_decision_to_supersede_is_named_and_respected(reduced_once: Observatory) -> None:
    store = reduced_once.store
    name = f"{reduced_once.night.of_role('science')[0].root}_image.fits"
    counting = [p for p in reduced_once.products("image") if p.counts and p.name == name]
    (image,) = [p for p in counting if store.get(_dark_of(store, p)).parameters["dark"]["high"] == 4.0]
    supersede(store, image, author="Ana", reason="a better night")
    report: NightReport = reduced_once.run(nightly, NightlyRequest(first=NIGHT))
    (used,) = [p for p in report.products if p.kind == "image"]
    assert used.uuid == image.id
    (warning,) = [one for one in used.warnings if "superseded by Ana" in one]
    assert f"nirflow cal reinstate {str(image.id)[:8]}" in warning
    assert store.get(image.id).status == "superseded"
    reinstate(store, store.get(image.id), author="Ana", reason="it is the better one")


def test_frames_with_missing_files_are_named(reduced_once: Observatory) -> None:
    gone = [reduced_once.raw / f.file for f in reduced_once.night.of_role("science")]
    aside = reduced_once.lab.folder / "aside"
    aside.mkdir()
    for path in gone:
        path.rename(aside / path.name)
    report: NightReport = reduced_once.run(arrival, SequenceRequest(sequence=reduced_once.sequence))
    reported = {one.name: one.reason for one in report.left_out if "its file is missing" in one.reason}
    assert set(reported) == {path.name for path in gone}
    for path in gone:
        (aside / path.name).rename(path)
