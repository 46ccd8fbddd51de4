"""Stacks of two nights and of four pointings combined: against the truth, in the store, reused, and refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from night_lab import Lab, Run
from observatory import NIGHT

from calib_store.curation.certify import reinstate, reject
from calib_store.exchange.recipe_check import expected_key
from deployments.deployed.mosaic import mosaic
from deployments.deployed.requests import MosaicRequest
from imaging.errors import GroupError, StoreError
from imaging.kinds import MOSAIC, STACK
from imaging.pixels.dq import UNUSABLE
from imaging.products.product_file import read_table
from imaging.simulator.parameters import NightParameters
from imaging.simulator.reference.draw_catalogue import true_zero_point
from imaging.simulator.simulate import simulate_night
from imaging.simulator.truth import NightTruth
from tasks.mosaic.choose_stacks import StackSelection
from tasks.prefect_internals.heartbeats import prompt_heartbeats

pytestmark = pytest.mark.long

SIZE, SEED = 512, 5
#: Half the distance of the pointings, arcsec: they overlap by a quarter of the array.
HALF = 33.0
POINTINGS = {1: (-HALF, -HALF), 2: (HALF, -HALF), 3: (-HALF, HALF), 4: (HALF, HALF)}
HAZY = 0.75
#: Light of the brightest star whose core stays well below saturation, electrons.
BRIGHTEST = 4e5


def simulated(folder: Any, day: int, at: tuple[float, float], **changes: Any) -> NightTruth:
    """Simulate four frames of one sky, seen by an array with an even response everywhere, so that no flat is needed."""
    few = {"n_science": 4, "n_darks": 0, "n_short_darks": 0, "n_lamp_on": 0, "n_lamp_off": 0}
    even = {"pixel_flat_rms": 0.0, "large_scale_flat": 0.0, "defects": 0.0, "radius": 2.0 * SIZE}
    sky = {
        "n_stars": 200,
        "n_bright": 0,
        "n_saturated": 0,
        "n_faint": 0,
        "n_galaxies": 0,
        "field_margin": 40.0,
    }
    return simulate_night(
        folder,
        NightParameters.model_validate(
            {"size": SIZE, "seed": SEED + day, "field_seed": SEED, "detector_seed": SEED, "days": day}
            | few | even | sky | {"field_east": at[0], "field_north": at[1]} | changes
        ),
    )  # fmt: skip


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> dict[int, NightTruth]:
    """Four pointings, one a night, and a second night of the first one in worse seeing and haze."""
    found = {day: simulated(tmp_path_factory.mktemp(f"n{day}"), day, at) for day, at in POINTINGS.items()}
    worse = {"seeing_course": (0.9,) * 4, "transparency_course": (HAZY,) * 4}
    return found | {6: simulated(tmp_path_factory.mktemp("n6"), 6, POINTINGS[1], **worse)}


@pytest.fixture(scope="module")
def lab(new_lab: Callable[..., Lab], nights: dict[int, NightTruth]) -> Lab:
    """A store with the stacks of all nights; that of the fourth has the telescope's coordinates and no zero point."""
    lab = new_lab(SIZE)
    for day, night in nights.items():
        catalogue = {"catalogue": {"source": str(night.catalogue)}} if day != 4 else {}
        run = lab.reduce(
            *night.raw_paths(),
            out=f"night{day}",
            steps=catalogue,
            choice={"allow_missing": ["dark", "flat", "bpm"]},
        )
        assert run.report.failures == ()
    return lab


def target(nights: dict[int, NightTruth]) -> str:
    with fits.open(nights[1].raw_paths()[0]) as hdus:
        return str(hdus[0].header["OBJECT"])


def selection(nights: dict[int, NightTruth], first: int, last: int) -> StackSelection:
    return StackSelection(
        target=target(nights).lower(), first=NIGHT + timedelta(days=first), last=NIGHT + timedelta(days=last)
    )


@pytest.fixture(scope="module")
def tiles(lab: Lab, nights: dict[int, NightTruth]) -> Run:
    return lab.combine(selection(nights, 1, 4), "tiles")


@pytest.fixture(scope="module")
def deep(lab: Lab, nights: dict[int, NightTruth]) -> Run:
    """The two nights of the first pointing."""
    store = lab.store()
    others = [one for one in store.products(STACK.name) if 2 <= (one.span[0].date() - NIGHT).days <= 4]
    for one in others:
        reject(store, one, author="Ana", reason="another pointing")
    run = lab.combine(selection(nights, 0, 6), "deep")
    for one in others:
        reinstate(store, store.get(one.id), author="Ana", reason="it was good")
    return run


def star_ratios(run: Run, night: NightTruth) -> tuple[Any, Any, Any]:
    """Measured over true flux of the bright clean stars of a mosaic, its error, and their pixels."""
    path = run.product(MOSAIC.name).output
    assert path is not None
    found, header = read_table(path, "OBJCAT"), fits.getheader(path, "SCI")
    assert found is not None
    truth = night.sources
    zero_point = fits.getheader(path, 0)["MAGZERO"]
    x, y = WCS(header).all_world2pix(truth["ra"], truth["dec"], 0)
    off = np.hypot(found["x"][:, None] - x[None, :], found["y"][:, None] - y[None, :])
    nearest = off.argmin(axis=1)
    alone = np.sort(np.hypot(x[:, None] - x[None, :], y[:, None] - y[None, :]), axis=1)[:, 1][nearest] > 25
    good = (off.min(axis=1) < 1.5) & (found["snr"] > 60) & (found["problems"] == 0) & alone
    magnitude = true_zero_point(night.parameters) - 2.5 * np.log10(np.asarray(truth["flux"])[nearest[good]])
    flux = 10 ** (0.4 * (zero_point - magnitude))
    light, error = found["FLUX_AUTO"][good], found["FLUXERR_AUTO"][good]
    unsaturated = flux < BRIGHTEST
    places = np.column_stack([found["x"][good], found["y"][good]])
    return (light / flux)[unsaturated], (error / light)[unsaturated], places[unsaturated]


def test_a_mosaic_has_every_tile_and_records_it(tiles: Run, lab: Lab) -> None:
    ref = tiles.product(MOSAIC.name)
    assert tiles.report.failures == ()
    assert len(ref.inputs) == 4
    assert ref.left_out == ()
    path = ref.output
    assert path is not None
    assert path.name.endswith("_mosaic.fits")
    with fits.open(path) as hdus:
        names = [hdu.name for hdu in hdus]
        header = hdus[0].header
        assert {"SCI", "VAR", "DQ", "EXPOSURE", "OBJMASK", "OBJCAT", "STACKS"} <= set(names)
        assert hdus["SCI"].data.shape[0] > 1.5 * SIZE
        assert header["NCOMBINE"] == 4
        assert "PROCMOSA" in header
        assert not {"REFFRAME", "NSKY", "SCALEBY", "NFWARN3"} & set(header)
    assert header["MAGZSRC"] == "simulated"
    store = lab.store()
    product = store.get(ref.id)
    assert [one.role for one in store.inputs_of(product)] == ["stack"] * 4
    assert len(store.lineage(product).frames) == 16
    inputs = store.inputs_of(product)
    keys = {one.source: store.get(one.source).recipe_key for one in inputs}
    key = expected_key(
        product.kind, product.sha256, inputs, keys, product.parameters, product.algorithm_version,
        metrics=product.metrics, provisional=None,
    )  # fmt: skip
    assert key == product.recipe_key


def test_fluxes_are_true_in_all_tiles(tiles: Run, nights: dict[int, NightTruth]) -> None:
    ratio, error, places = star_ratios(tiles, nights[1])
    assert len(ratio) >= 12
    assert np.median(ratio) == pytest.approx(1.0, abs=0.03)
    # Neighbours and galaxies too faint to be detected are in the light of some stars.
    off = np.abs(ratio / np.median(ratio) - 1) / np.hypot(error, 0.01)
    assert 1.4826 * np.median(off) < 1.3
    assert (off < 3).mean() > 0.8
    assert np.ptp(places, axis=0).min() > SIZE


def test_the_tile_without_a_zero_point_is_scaled_and_placed_by_stars(tiles: Run) -> None:
    path = tiles.product(MOSAIC.name).output
    assert path is not None
    rows = Table(read_table(path, "STACKS"))
    assert len(rows) == 4
    last = rows[-1]
    assert last["stars"] >= 3
    assert last["factor_error"] < 0.05
    assert last["factor"] == pytest.approx(1.0, abs=0.08)
    assert math.hypot(last["xi"], last["eta"]) > 0.02  # the telescope's coordinates were off
    assert np.all(rows["rms"] < 0.05)


def test_the_sky_has_the_noise_that_variance_states(tiles: Run) -> None:
    path = tiles.product(MOSAIC.name).output
    with fits.open(path) as hdus:
        sci, var, dq, mask = (hdus[name].data for name in ("SCI", "VAR", "DQ", "OBJMASK"))
    sky = ((dq & int(UNUSABLE)) == 0) & (mask == 0)
    pull = sci[sky] / np.sqrt(var[sky])
    assert 0.9 < 1.4826 * np.median(np.abs(pull - np.median(pull))) < 1.1


def test_two_nights_are_deeper_than_one(deep: Run, lab: Lab, nights: dict[int, NightTruth]) -> None:
    ref = deep.product(MOSAIC.name)
    assert len(ref.inputs) == 2
    store = lab.store()
    single = {one.name: one.metrics["limiting_magnitude"] for one in store.products(STACK.name)}
    one, other = sorted((single[name] for name in ref.inputs), reverse=True)
    # Signals to noise of a point source add in squares.
    expected = one + 1.25 * math.log10(1 + 10 ** (0.8 * (other - one)))
    assert one + 0.02 < expected < one + 0.4
    assert ref.metrics["limiting_magnitude"] == pytest.approx(expected, abs=0.12)
    assert ref.metrics["total_exposure"] == pytest.approx(960.0)
    factors = [value for name, value in ref.metrics.items() if name.startswith("scales_")]
    assert max(factors) / min(factors) == pytest.approx(1 / HAZY, rel=0.05)
    ratio, _, _ = star_ratios(deep, nights[1])
    assert np.median(ratio) == pytest.approx(1.0, abs=0.03)


def test_nothing_is_made_twice(tiles: Run, lab: Lab, nights: dict[int, NightTruth]) -> None:
    again = lab.combine(selection(nights, 1, 4), "again")
    assert again.product(MOSAIC.name).reused
    assert set(again.built) == {"choose stacks"}
    assert again.product(MOSAIC.name).id == tiles.product(MOSAIC.name).id
    turned = lab.combine(selection(nights, 1, 4), "turned", {"mosaic": {"orientation": "north"}})
    assert not turned.product(MOSAIC.name).reused
    assert turned.count("reused")["measure stack"] == 4


def test_a_mosaic_changes_no_stack(tiles: Run, deep: Run, lab: Lab) -> None:
    stacks = lab.store().products(STACK.name)
    assert [one.status for one in stacks] == ["candidate"] * 5
    assert {one.status for one in lab.store().products(MOSAIC.name)} == {"candidate"}
    assert tiles.product(MOSAIC.name).replaces == ()


def test_a_rejected_stack_taints_its_mosaic(tiles: Run, lab: Lab, nights: dict[int, NightTruth]) -> None:
    store = lab.store()
    stack = store.get(tiles.product(MOSAIC.name).inputs[0])
    reject(store, stack, author="Ana", reason="moonlight")
    product = store.get(tiles.product(MOSAIC.name).id)
    assert "made with something rejected" in product.state
    three = lab.combine(selection(nights, 1, 4), "three")
    assert len(three.product(MOSAIC.name).inputs) == 3
    before = lab.combine(selection(nights, 1, 4), "before", as_of=product.made_at)
    assert before.product(MOSAIC.name).id == str(product.id)
    reinstate(store, store.get(stack.id), author="Ana", reason="no moon")
    assert "rejected" not in store.get(product.id).state


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": "NOWHERE"}, "The store has no stack of the target 'NOWHERE'; it has stacks of "),
        (
            {"first": NIGHT + timedelta(days=90)},
            "has no stack of the nights from 2014-02-19; it has stacks of ",
        ),
        (
            {"first": NIGHT + timedelta(days=2), "last": NIGHT + timedelta(days=2)},
            "it has one stack, .* and a mosaic needs two or more",
        ),
    ],
)
def test_selections_that_have_nothing(
    lab: Lab, nights: dict[int, NightTruth], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises((StoreError, GroupError), match=message):
        lab.combine(StackSelection.model_validate({"target": target(nights)} | changes))


def test_a_band_without_stacks_is_named(lab: Lab, nights: dict[int, NightTruth]) -> None:
    with pytest.raises(StoreError, match="has no stack in H; it has stacks in Y"):
        lab.combine(StackSelection(target=target(nights)), bands=("Y", "H"))


def test_a_user_starts_it_by_a_form_and_finds_it_in_the_list_of_nights(
    tiles: Run, lab: Lab, nights: dict[int, NightTruth], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIRFLOW_DATA_DIR", str(lab.data))
    monkeypatch.setenv("NIRFLOW_DATABASE_URL", lab.url)
    monkeypatch.setenv("NIRFLOW_NIGHTS_DIR", str(tmp_path))
    known = selection(nights, 1, 4)
    request = MosaicRequest(target=known.target, first=known.first, last=known.last)
    with prompt_heartbeats(mosaic) as run:
        report = run(request)
    assert [ref.id for ref in report.products] == [tiles.product(MOSAIC.name).id]
    name = report.products[0].name
    assert (tmp_path / "mosaics" / name).is_file()
    page = (tmp_path / "index.html").read_text()
    assert f'<a href="mosaics/{Path(name).stem}.png">{target(nights)}</a>' in page
    assert f"{known.first} to {known.last}" in page
