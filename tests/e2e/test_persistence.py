"""Persistence of bright stars: flagged in time order, within a run and across runs of one detector."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from night_lab import Lab, Run, link

from imaging.simulator.floor.score_floor import of_frames, score_floor
from imaging.simulator.parameters import NightParameters
from imaging.simulator.simulate import simulate_night
from imaging.simulator.stack_model import read_stack
from imaging.simulator.truth import NightTruth
from nirflow.commands.cal.show import exposed_before
from tasks.support.references import ProductRef

pytestmark = pytest.mark.long

SIZE = 384
FEW = {"size": SIZE, "n_science": 5, "n_darks": 4, "n_short_darks": 3, "n_lamp_on": 3, "n_lamp_off": 3}
#: A J night of one array whose stars leave persistence; the brightest exceed the full well several times.
NIGHT: dict[str, Any] = FEW | {
    "band": "J", "science_time": 60.0, "sky": 90.0, "detector_seed": 5, "n_saturated": 20, "wcs_rms": 0.2,
    "persistence": 0.004, "persistence_limit": 2e6,
}  # fmt: skip


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> NightTruth:
    """Return a bright field, observed before the other one."""
    return simulate_night(
        tmp_path_factory.mktemp("first"), NightParameters(**NIGHT, seed=3), roles=("science",)
    )


@pytest.fixture(scope="module")
def second(first: NightTruth, tmp_path_factory: pytest.TempPathFactory) -> NightTruth:
    """Return a faint field with its calibrations, whose first exposure begins 24 s after the last of the bright one."""
    # With the same dithers, the images of an earlier field would fall on one place of this one in every frame.
    faint = NIGHT | {"n_saturated": 0, "n_bright": 30, "first": 50, "minutes": 6.2, "dither": 13.0}
    return simulate_night(
        tmp_path_factory.mktemp("second"),
        NightParameters(**faint, seed=4, exposed_before=str(first.folder.parent)),
    )


@pytest.fixture(scope="module")
def together(new_lab: Callable[..., Lab], first: NightTruth, second: NightTruth) -> tuple[Lab, Run]:
    """Return the run of the bright field, then that of the faint one in the same store."""
    lab = new_lab(SIZE)
    broken = link([first.folder.parent / f.file for f in first.science], lab.folder / "first")
    cut = (first.folder.parent / first.science[1].file).read_bytes()[:200_000]
    (broken / "S20131121S0099.fits").write_bytes(cut)
    earlier = lab.reduce(broken, out="out1")
    assert "truncated" in earlier.reason("S20131121S0099.fits")
    assert earlier.kinds() == []  # nothing serves it: its frames are known all the same
    return lab, lab.reduce(second.folder.parent, out="out2")


@pytest.fixture(scope="module")
def alone(new_lab: Callable[..., Lab], second: NightTruth) -> tuple[Lab, Run]:
    """Return the run of the faint field in a store that knows nothing else."""
    lab = new_lab(SIZE)
    return lab, lab.reduce(second.folder.parent)


def flagged(image: ProductRef) -> dict[str, int]:
    """Return the pixels of each frame that were flagged."""
    assert image.output is not None
    table = fits.getdata(image.output, "ALIGNMENT")
    return {row["name"]: int(row["persistence"]) for row in table}


def affected(truth: NightTruth, frame: int, sigma: float) -> int:
    """Return the good pixels of a frame whose true persistence exceeds some sigma of its noise."""
    one = truth.science[frame]
    latent = truth.affected(one).latent
    assert latent is not None
    good = truth.plane("ILLUMINATED") & (truth.plane("BPM") == 0)
    noise = np.sqrt(one.level * one.exposure + one.read_variance)
    return int(np.count_nonzero(latent[good] > sigma * noise))


def test_an_earlier_run_leaves_persistence_in_a_later_one(
    together: tuple[Lab, Run], alone: tuple[Lab, Run], second: NightTruth
) -> None:
    with_history, without = (flagged(run.product("image")) for _, run in (together, alone))
    names = [frame.file for frame in second.science]
    assert affected(second, 0, 2.0) > 50
    for k in (0, 1):
        assert affected(second, k, 1.0) <= with_history[names[k]] <= 3 * affected(second, k, 0.5)
    assert sum(without.values()) < 0.1 * with_history[names[0]]


def test_the_header_and_the_report_give_the_figures(together: tuple[Lab, Run]) -> None:
    image = together[1].product("image")
    assert image.output is not None
    header = fits.getheader(image.output)
    assert header["NPERSIST"] == sum(flagged(image).values()) == image.metrics["persistence"]
    assert header["PERSFRAC"] == pytest.approx(1.0, abs=0.35)
    rows = fits.getdata(image.output, "ALIGNMENT")
    assert rows["strength_error"][0] < 0.3


def test_what_is_flagged_in_some_frames_is_made_from_the_others(
    together: tuple[Lab, Run], second: NightTruth
) -> None:
    """No bit 16 is left in the field, and the persistence of the frames is not in the stack."""
    image = together[1].product("image")
    assert image.output is not None
    stack = read_stack(Path(image.output))
    third = [slice(n // 3, 2 * n // 3) for n in stack.dq.shape]
    assert np.mean((stack.dq[third[0], third[1]] & 16) > 0) < 5e-4
    weights, scales = (of_frames(image.metrics, name) for name in ("weights", "scales"))
    (outliers,) = (
        row.value
        for row in score_floor(stack, second, weights=weights, scales=scales)
        if row.figure.startswith("outliers")
    )
    assert outliers <= 20


def test_the_history_is_part_of_the_identity_and_a_rerun_reuses_it(
    together: tuple[Lab, Run], alone: tuple[Lab, Run], first: NightTruth, second: NightTruth
) -> None:
    lab, run = together
    image = run.product("image")
    assert image.recipe_key != alone[1].product("image").recipe_key
    again = lab.reduce(second.folder.parent, out="again").product("image")
    assert again.reused
    assert again.recipe_key == image.recipe_key
    product = lab.store().get(image.id)
    exposures = exposed_before(lab.store(), product)
    bright, faint = [f.file for f in first.science], [f.file for f in second.science]
    assert [name for name, _ in exposures] == faint
    assert bright[-1] in exposures[0][1]
    assert exposures[-1][1][-1] == faint[-2]


def test_without_the_parameter_nothing_is_flagged_and_the_history_does_not_matter(
    together: tuple[Lab, Run], second: NightTruth
) -> None:
    lab, run = together
    off = lab.reduce(second.folder.parent, out="off", steps={"detrend": {"persistence": None}})
    image = off.product("image")
    assert image.recipe_key != run.product("image").recipe_key
    assert sum(flagged(image).values()) == 0
    assert image.output is not None
    assert "NPERSIST" not in fits.getheader(Path(image.output))
