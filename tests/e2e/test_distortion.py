"""The distortion of a camera: made on request, used by later stacks, explained, rejected, and not needed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from night_lab import Lab, Run

from calib_store.curation.certify import reject
from imaging.astrometry.tangent_plane import project
from imaging.products.product_file import read_table
from imaging.simulator.parameters import NightParameters
from imaging.simulator.simulate import simulate_night
from imaging.simulator.truth import NightTruth

pytestmark = pytest.mark.long

SIZE = 512
FRACTION = 0.006
WITHOUT = {"allow_missing": ["dark", "flat", "bpm"]}


def night(folder: Path, **parameters: object) -> NightTruth:
    few = {"n_darks": 0, "n_short_darks": 0, "n_lamp_on": 0, "n_lamp_off": 0, "defects": 0.0}
    given = {
        "size": SIZE,
        "n_stars": 250,
        "n_bright": 20,
        "distortion": FRACTION,
        "radius": SIZE,
        **few,
        **parameters,
    }
    return simulate_night(folder, NightParameters.model_validate(given))


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> NightTruth:
    return night(tmp_path_factory.mktemp("field"), seed=5, n_science=5)


@pytest.fixture(scope="module")
def science(tmp_path_factory: pytest.TempPathFactory) -> NightTruth:
    return night(tmp_path_factory.mktemp("science"), seed=6, days=1, n_science=5)


@pytest.fixture(scope="module")
def lab(new_lab: Callable[..., Lab]) -> Lab:
    return new_lab(SIZE)


def reduced(lab: Lab, truth: NightTruth, out: str, **options: object) -> Run:
    steps = {"catalogue": {"source": str(truth.catalogue)}} | options.pop("steps", {})  # type: ignore[operator]
    return lab.reduce(*truth.raw_paths(), out=out, steps=steps, choice=WITHOUT, **options)


@pytest.fixture(scope="module")
def before(lab: Lab, science: NightTruth) -> Run:
    return reduced(lab, science, "before")


@pytest.fixture(scope="module")
def made(lab: Lab, field: NightTruth, before: Run) -> Run:
    return reduced(lab, field, "made", only=["distortion"])


@pytest.fixture(scope="module")
def after(lab: Lab, science: NightTruth, made: Run) -> Run:
    return reduced(lab, science, "after")


def off_at_the_edge(run: Run, truth: NightTruth) -> float:
    """Return the rms distance of bright sources near the edge from their true places, mas."""
    table = read_table(run.product("image").output, "OBJCAT")
    stars = truth.sources[np.asarray(truth.sources["flux"]) * truth.parameters.exposure_time > 3e4]
    radius = np.hypot(stars["xi"], stars["eta"]) / truth.parameters.axes.scale / (SIZE / 2)
    stars = stars[(radius > 0.8) & (radius < 1.0)]
    found = []
    for star in stars:
        off = project(table["X_WORLD"], table["Y_WORLD"], (float(star["ra"]), float(star["dec"]))) * 1000
        found.append(np.hypot(*off.T).min())
    near = np.array(found)
    assert (near < 700).sum() > 8
    return float(np.sqrt(np.mean(near[near < 700] ** 2)))


def test_it_is_measured_and_kept(lab: Lab, made: Run) -> None:
    assert made.kinds() == ["distortion"]
    product = made.product("distortion")
    metrics = product.metrics
    assert metrics["source"] == "simulated"
    assert metrics["largest"] == pytest.approx(FRACTION * SIZE / 2 * 2**1.5, rel=0.15)
    assert metrics["noise"] < 0.05
    with fits.open(product.output) as hdus:
        assert {"SCI", "VAR", "DQ", "DISTORTION", "INVERSE"} <= {hdu.name for hdu in hdus}
        assert hdus[0].header["PROCDIST"]
        assert hdus["SCI"].data.shape == (SIZE, SIZE)
    stored = lab.store().get(product.id)
    assert (stored.kind, stored.status, stored.keys["filter_id"]) == ("distortion", "candidate", "Y_G0811")


def test_a_stack_made_with_it_is_a_plain_projection_and_right_at_the_edge(
    before: Run, made: Run, after: Run, science: NightTruth
) -> None:
    image = after.product("image")
    cards, wcs = fits.getheader(image.output, 0), fits.getheader(image.output, "SCI")
    assert cards["DISTIM"] == made.product("distortion").name
    assert wcs["CTYPE1"] == "RA---TAN"
    assert "A_ORDER" not in wcs
    assert image.calibrations == (made.product("distortion").name,)
    assert "DISTIM" not in fits.getheader(before.product("image").output, 0)
    # A distortion of 1.5 px blurs and displaces what is stacked without it.
    assert off_at_the_edge(after, science) < 25
    first, then = (run.product("image").metrics for run in (before, after))
    assert then["registration"] < first["registration"]
    assert then["rejected"] <= first["rejected"]


def test_the_choice_is_explained_and_recorded(lab: Lab, made: Run, after: Run, science: NightTruth) -> None:
    store = lab.store()
    product = store.get(made.product("distortion").id)
    frame = store.frames.get(science.science[0].root)
    assert frame is not None
    assert frame.facts is not None
    assert store.explain(frame.facts, "distortion").candidates[0].reason.startswith("taken: ")
    roles = {ref.role: ref.source for ref in store.inputs_of(store.get(after.product("image").id))}
    assert roles["distortion"] == product.id
    assert [one.id for one in store.affected(product)] == [after.product("image").uuid]


def test_stacks_do_without_it_where_asked_earlier_or_after_it_was_rejected(
    lab: Lab, before: Run, made: Run, after: Run, science: NightTruth
) -> None:
    store = lab.store()
    never = reduced(lab, science, "never", steps={"stack": {"distortion": "never"}})
    planes = [fits.getdata(run.product("image").output, "SCI") for run in (before, never, after)]
    assert planes[0].tobytes() == planes[1].tobytes() != planes[2].tobytes()
    again = reduced(lab, science, "after")
    assert again.product("image").reused
    then = store.history(store.get(made.product("distortion").id))[0].changed_at
    early = reduced(lab, science, "early", as_of=then.replace(microsecond=0))
    assert early.product("image").id == before.product("image").id
    now = datetime.now(UTC)
    reject(store, store.get(made.product("distortion").id), author="observer", reason="a test")
    without = reduced(lab, science, "without")
    assert without.product("image").id == before.product("image").id
    past = reduced(lab, science, "past", as_of=now)
    assert past.product("image").id == after.product("image").id


def test_small_dithers_without_a_catalogue_are_refused_with_numbers(
    lab: Lab, tmp_path_factory: pytest.TempPathFactory
) -> None:
    few = night(tmp_path_factory.mktemp("few"), seed=8, n_science=3, n_stars=0, n_bright=12, dither=4.0)
    run = lab.reduce(*few.raw_paths(), out="few", choice=WITHOUT, only=["distortion"])
    assert run.report.products == ()
    message = run.failure("distortion")
    assert "no distortion is measured" in message
    assert "(--catalogue)" in message
