"""Reuse of products, and what a change makes again."""

from __future__ import annotations

import bz2
import os
import shutil
from collections import Counter
from pathlib import Path

import pytest
from night_lab import Lab, Run, altered, finished, link

from imaging.products.product_file import datasums
from imaging.simulator.parameters import NightParameters
from imaging.simulator.simulate import simulate_night
from imaging.simulator.truth import NightTruth

pytestmark = pytest.mark.usefixtures("reduced")


def _state(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.iterdir()}


def _products(run: Run) -> dict[str, str]:
    return {p.kind: p.id for p in run.report.products}


def test_first_run_makes_each_product_once(reduced: Run) -> None:
    assert reduced.report.failures == ()
    assert reduced.report.left_out == ()
    assert reduced.kinds() == ["bpm", "dark", "flat", "image"]
    assert not any(p.reused for p in reduced.report.products)
    expected = Counter(dark=1, bpm=1, flat=1, image=1, detrend=5, masks=1, sky=1, detect=5, align=1)
    assert reduced.built == expected
    assert reduced.count("failed") == reduced.count("reused") == Counter()


def test_second_run_makes_nothing(reduced_lab: Lab, reduced: Run, night: NightTruth) -> None:
    before = _state(reduced.report.out)
    again = reduced_lab.reduce(night.folder.parent, previews=True)
    assert again.built == Counter()
    assert all(p.reused for p in again.report.products)
    assert _products(again) == _products(reduced)
    assert _state(reduced.report.out) == before
    assert [p.output for p in again.report.products] == [p.output for p in reduced.report.products]


def test_into_another_folder_the_files_are_only_copied(
    reduced_lab: Lab, reduced: Run, night: NightTruth
) -> None:
    again = reduced_lab.reduce(night.folder.parent, out="copied")
    assert again.built == Counter()
    for first, copy in zip(reduced.report.products, again.report.products, strict=True):
        assert copy.output is not None
        assert first.output is not None
        assert copy.output.read_bytes() == first.output.read_bytes()


_STACK = Counter(image=1)
_ALIGN = _STACK + Counter(align=1)
#: The first pass of the sky only leaves masks, so other masks need it again.
_SKY = _ALIGN + Counter(detect=5, sky=1, masks=1)


@pytest.mark.parametrize(
    ("step", "parameter", "value", "expected"),
    [
        ("stack", "low", 3.5, _STACK),
        ("resample", "interpolant", "linear", _STACK),
        ("sky", "low", 3.5, _SKY),
        ("align", "tolerance", 1.4, _ALIGN),
        ("detect", "dilation", 3, _SKY),
        ("detrend", "linearise", False, _SKY + Counter(detrend=5)),
        ("dark", "low", 2.9, _SKY + Counter(detrend=5, dark=1)),
        ("flat", "low", 2.9, _SKY + Counter(detrend=5, flat=1)),
    ],
)
def test_a_parameter_redoes_only_what_follows(
    reduced_lab: Lab, night: NightTruth, step: str, parameter: str, value: object, expected: Counter[str]
) -> None:
    changed = reduced_lab.reduce(night.folder.parent, out=f"{step}", steps={step: {parameter: value}})
    assert changed.report.failures == ()
    assert changed.built == expected


def test_another_dark_redoes_the_dark_and_the_science(
    known_lab: Lab, reduced: Run, night: NightTruth, tmp_path: Path
) -> None:
    folder = link(night.raw_paths(), tmp_path / "night")
    given = night.parameters.model_dump() | {
        "seed": 8, "detector_seed": night.parameters.seed, "stale_wcs": None, "n_darks": 3, "n_science": 0,
        "n_short_darks": 0, "n_lamp_on": 0, "n_lamp_off": 0,
    }  # fmt: skip
    other = simulate_night(tmp_path / "other", NightParameters(**given))
    altered(other.raw_paths()[0], folder / "S20131122S0499.fits")
    more = known_lab.reduce(folder, out="more")
    assert more.report.failures == more.report.left_out == ()
    assert {p.kind for p in more.report.products if not p.reused} == {"dark", "image"}
    assert {k: i for k, i in _products(more).items() if k in ("bpm", "flat")} == {
        k: i for k, i in _products(reduced).items() if k in ("bpm", "flat")
    }
    assert len(more.product("dark").inputs) == len(reduced.product("dark").inputs) + 1
    assert more.product("dark").name in more.product("image").calibrations


def test_another_date_of_a_file_redoes_nothing(
    reduced_lab: Lab, reduced: Run, night: NightTruth, tmp_path: Path
) -> None:
    folder = tmp_path / "touched"
    folder.mkdir()
    for n, path in enumerate(night.raw_paths()):
        shutil.copyfile(path, folder / path.name)
        os.utime(folder / path.name, (1.7e9 + n, 1.7e9 + n))
    touched = reduced_lab.reduce(folder, out="touched")
    assert touched.built == Counter()
    assert _products(touched) == _products(reduced)


def test_compressed_frames_are_the_same_frames(
    reduced_lab: Lab, reduced: Run, night: NightTruth, tmp_path: Path
) -> None:
    for path in night.raw_paths():
        (tmp_path / f"{path.name}.bz2").write_bytes(bz2.compress(path.read_bytes(), 1))
    packed = reduced_lab.reduce(tmp_path, out="packed")
    assert packed.report.left_out == ()
    assert packed.built == Counter()
    assert _products(packed) == _products(reduced)


def test_threads_and_memory_do_not_change_a_pixel(lab: Lab, reduced: Run, night: NightTruth) -> None:
    alone = lab.reduce(night.folder.parent, threads=1, memory=2**20)
    assert not any(p.reused for p in alone.report.products)
    for one in alone.report.products:
        other = reduced.product(one.kind)
        assert datasums(one.output) == datasums(other.output), one.kind


def test_two_processes_at_once_build_each_product_once(lab: Lab, night: NightTruth, tmp_path: Path) -> None:
    """Also into one folder."""
    processes = [lab.start(night.folder.parent, "--out", tmp_path / "out") for _ in range(2)]
    reported = [finished(p) for p in processes]
    assert [code for code, _, _ in reported] == [0, 0], reported
    products = [p for _, report, _ in reported for p in report["products"]]
    assert len(products) == 8
    assert Counter(p["recipe_key"] for p in products if not p["reused"]) == Counter(
        {p["recipe_key"] for p in products}
    )
    assert {p["id"] for p in reported[0][1]["products"]} == {p["id"] for p in reported[1][1]["products"]}
    outputs = [{p["output"] for p in report["products"]} for _, report, _ in reported]
    assert outputs[0] == outputs[1] == {str(path) for path in (tmp_path / "out").glob("*.fits")}
