"""Darks that are left out: named in the report and absent from the master, whose planes come only from the
others.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from astropy.io import fits
from night_lab import Lab, altered, link

from imaging.products.product_file import datasums
from imaging.simulator.truth import NightTruth

PLANES = ("SCI", "VAR", "DQ")


def test_a_leaking_dark_is_left_out_and_named(
    lab: Lab, new_lab: Callable[..., Lab], night: NightTruth, tmp_path: Path
) -> None:
    *good, last = sorted(
        path for path in night.raw_paths() if path.name.startswith(("S20131120", "S20131122"))
    )
    assert len(good) == 3
    leaky = link(good, tmp_path / "leaky")
    altered(last, leaky / last.name, lambda adu: adu + 900)
    run = lab.reduce(leaky)
    dark = run.product("dark")
    assert "level +499." in run.reason(last.name)
    assert "(peer_level_rms)" in run.reason(last.name)
    assert "step dark" in run.reason(last.name)
    assert dark.output is not None
    header = fits.getheader(dark.output)
    assert header["NCOMBINE"] == 3
    assert header["NFOUT"] == 1
    name, reason = header["NFOUT1"].split(": ", 1)
    assert name == last.name
    assert run.reason(last.name).startswith(reason)
    assert last.name not in [header[f"IMCMB{n:03d}"] for n in (1, 2, 3)]
    assert abs(float(dark.metrics["pedestal"] or 0) - 65) < 2
    folder = link(good, tmp_path / "good")
    # In a store with this master, the remaining frames need no master of their own.
    assert lab.reduce(folder, out="part").product("dark").id == dark.id
    alone = new_lab().reduce(folder, out="alone").product("dark")
    assert alone.id != dark.id
    assert alone.output is not None
    sums = datasums(dark.output), datasums(alone.output)
    assert [sums[0][plane] for plane in PLANES] == [sums[1][plane] for plane in PLANES]


def test_a_frame_that_this_run_refuses_does_not_return_with_an_earlier_master(
    lab: Lab, night: NightTruth, tmp_path: Path
) -> None:
    *good, last = sorted(
        path for path in night.raw_paths() if path.name.startswith(("S20131120", "S20131122"))
    )
    folder = link(good, tmp_path / "darks")
    changed = altered(last, folder / last.name, CHECKSUM="0123456789abcdef")
    before = lab.reduce(folder).product("dark")
    assert changed.name in before.inputs
    run = lab.reduce(folder, out="strict", steps={"check": {"checksum": "refuse"}})
    assert "CHECKSUM of the primary HDU disagrees" in run.reason(changed.name)
    after = run.product("dark")
    assert after.id != before.id
    assert sorted(after.inputs) == [path.name for path in good]
    # Without the refusal, the master of all of them serves again.
    assert lab.reduce(folder, out="again").product("dark").id == before.id
