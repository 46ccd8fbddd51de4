"""A standard field of the night gives its zero point to a field without catalogue stars."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from astropy.io import fits
from night_lab import Lab, Run
from pydantic import SecretStr

from calib_store.model.settings import StoreSettings
from calib_store.model.values import STANDARD
from calib_store.store import Store
from calib_store.tables import decisions
from imaging.simulator.parameters import NightParameters
from imaging.simulator.reference.draw_catalogue import true_zero_point
from imaging.simulator.simulate import simulate_night
from imaging.simulator.truth import NightTruth

pytestmark = pytest.mark.long

SIZE = 512
#: The field without stars of the catalogue is this far South of the standard field, deg.
AWAY = 5.0


def night(folder: Path, **parameters: object) -> NightTruth:
    few = {"n_science": 4, "n_darks": 0, "n_short_darks": 0, "n_lamp_on": 0, "n_lamp_off": 0}
    even = {"pixel_flat_rms": 0.0, "large_scale_flat": 0.0, "defects": 0.0}
    given = {"size": SIZE, "n_stars": 80, "n_bright": 15, **few, **even, **parameters}
    return simulate_night(folder, NightParameters.model_validate(given))


def rewrite(truth: NightTruth, *, south: float = 0.0, **cards: object) -> None:
    for path in truth.raw_paths():
        with fits.open(path, mode="update") as hdus:
            hdus[0].header.update(cards)
            hdus[0].header["DEC"] -= south
            hdus[1].header["CRVAL2"] -= south


@pytest.fixture(scope="module")
def standard(tmp_path_factory: pytest.TempPathFactory) -> NightTruth:
    truth = night(tmp_path_factory.mktemp("standard"), seed=5, science_time=20)
    rewrite(truth, OBSCLASS="partnerCal", OBJECT="P9106", OBSID="GS-CAL20131121-9")
    return truth


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> NightTruth:
    truth = night(tmp_path_factory.mktemp("field"), seed=6, first=40, minutes=90)
    rewrite(truth, south=AWAY, OBJECT="far field", OBSID="GS-2013B-Q-15-40", AIRMASS=1.5)
    return truth


@pytest.fixture(scope="module")
def lab(new_lab: Callable[..., Lab]) -> Lab:
    return new_lab(SIZE)


def opened(lab: Lab) -> Store:
    return Store.open(StoreSettings(data_dir=lab.data, database_url=SecretStr(lab.url)))


def reduced(lab: Lab, catalogue: Path, out: str, *nights: NightTruth) -> Run:
    choice = {"allow_missing": ["dark", "flat", "bpm"]}
    paths = [path for truth in nights for path in truth.raw_paths()]
    return lab.reduce(*paths, out=out, steps={"catalogue": {"source": str(catalogue)}}, choice=choice)


@pytest.fixture(scope="module")
def run(lab: Lab, standard: NightTruth, field: NightTruth) -> Run:
    # The field is given first: the standard has to be reduced before it all the same.
    return reduced(lab, standard.catalogue, "both", field, standard)


def header(run: Run, label: str) -> fits.Header:
    return fits.getheader(run.product("image", label).output, 0)


def test_the_field_has_the_zero_point_of_the_standard(run: Run, field: NightTruth) -> None:
    cards = header(run, "far field")
    assert cards["MAGZSRC"] == f"standard {Path(run.product('image', 'P9106').output).stem}"
    assert "MAGZN" not in cards
    one = field.frame(cards["REFFRAME"])
    true = true_zero_point(field.parameters) + 2.5 * math.log10(one.exposure * one.throughput)
    assert abs(cards["MAGZERO"] - true) < 3.5 * cards["MAGZERR"]
    # The scatter of the night, and the extinction over half an airmass.
    assert 0.03 < cards["MAGZERR"] < 0.06


def test_the_standard_has_that_of_its_own_stars(run: Run) -> None:
    cards = header(run, "P9106")
    assert cards["MAGZSRC"] == "simulated"
    assert cards["MAGZERR"] < 0.02


def test_the_store_explains_the_choice(lab: Lab, run: Run, field: NightTruth) -> None:
    with opened(lab) as store:
        frame = store.frames.get(field.science[0].root)
        assert frame is not None
        assert frame.facts is not None
        match = store.explain(frame.facts, STANDARD)
        assert match.product is not None
        assert match.product.id == run.product("image", "P9106").uuid
        assert match.candidates[0].reason.startswith("taken: 1.")
        assert "mag from" in match.candidates[0].reason
        own = next(one for one in match.candidates if one.product.id == run.product("image", "far").uuid)
        assert own.reason == "not a standard field (class science)"
        inputs = store.inputs_of(own.product)
        assert [ref.source for ref in inputs if ref.role == STANDARD] == [match.product.id]
        rows = store.database.read(lambda connection: decisions.of_frame(connection, frame.sha256))
        assert [row.product_id for row in rows if row.kind == STANDARD] == [match.product.id]
        later = frame.facts.model_copy(update={"started": frame.facts.started + timedelta(days=3)})
        far = store.explain(later, STANDARD)
        assert far.product is None
        assert "days before the frame, at most 1" in far.candidates[0].reason
        other = frame.facts.model_copy(update={"filter_id": "J_G0802"})
        assert "frame J_G0802" in store.explain(other, STANDARD).candidates[0].reason


def test_the_same_run_again_makes_nothing(
    lab: Lab, run: Run, standard: NightTruth, field: NightTruth
) -> None:
    again = reduced(lab, standard.catalogue, "again", field, standard)
    assert not again.built
    assert header(again, "far field")["MAGZERO"] == header(run, "far field")["MAGZERO"]


def test_a_rejected_standard_gives_nothing(
    lab: Lab, run: Run, standard: NightTruth, field: NightTruth
) -> None:
    with opened(lab) as store:
        one = store.get(run.product("image", "P9106").uuid)
        store.set_status(one, "rejected", author="Ana", reason="clouds")
    without = reduced(lab, standard.catalogue, "without", field)
    assert header(without, "far field")["MAGZSRC"] == "nominal"
