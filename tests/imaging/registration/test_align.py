"""Alignment of catalogues with a known truth, honest and lying headers, and no truth at all."""

from __future__ import annotations

import dataclasses
import math
from datetime import UTC, datetime

import numpy as np
import pytest
from astropy.wcs import WCS

from imaging.errors import GroupError
from imaging.frames.facts import FrameFacts
from imaging.header import Header
from imaging.registration.align import AlignInput, AlignParameters, align, output_grid
from imaging.registration.geometry import Affine, celestial_header
from imaging.simulator.parameters import NightParameters
from imaging.sources.detect import CATALOGUE, Flag, detect

camera = NightParameters().camera

SHAPE = (1000, 1000)
SCALE = camera.pixel_scale


def facts(name, p=0.0, q=0.0, inport=3):
    return FrameFacts(
        name=name, instrument="F2", kind="object", observation_class="science", target="t", exposure_time=120,
        coadds=1, read_pairs=8, filter_id="Y_G0811", filter="Y", lyot="f/16", focal_mask="Open",
        disperser="Open", detector="d", poffset=p, qoffset=q, inport=inport,
        started=datetime(2013, 11, 21, tzinfo=UTC),
    )  # fmt: skip


def header(p, q, *, inport=3, error=(0.0, 0.0)):
    """A raw frame's extension header: +x North and +y East at port 3, three axes, obsolete RADECSYS."""
    flip = -1.0 if inport == 1 else 1.0
    step = SCALE / 3600
    return Header(
        {
            "NAXIS": 3, "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 500.5, "CRPIX2": 500.5,
            "CRVAL1": 63.5 + (p + error[0]) / 3600 / math.cos(math.radians(-47.85)),
            "CRVAL2": -47.85 + (q + error[1]) / 3600,
            "CD1_1": 0.0, "CD1_2": flip * step, "CD2_1": step, "CD2_2": 0.0, "CD3_3": 1.0, "RADECSYS": "FK5",
        }
    )  # fmt: skip


class Sky:
    """Stars of one field, seen by frames at telescope offsets (p, q) in arcsec."""

    def __init__(self, n=60, seed=1):
        self.rng = np.random.default_rng(seed)
        self.xy = self.rng.uniform(-250, 1250, (n, 2))
        self.flux = 10 ** self.rng.uniform(3.5, 5.5, n)

    def place(self, p, q, inport=3):
        flip = -1.0 if inport == 1 else 1.0
        return np.array([-q, -flip * p]) / SCALE

    def frame(
        self, name, p=0.0, q=0.0, *, inport=3, header_of=None, error=(0, 0), strangers=5, seeing=4.0,
        clear=1.0, turn=0.0, facts_of=None,
    ):  # fmt: skip
        rng = self.rng
        xy = self.xy + self.place(p, q, inport)
        c, s = math.cos(turn), math.sin(turn)
        xy = (xy - 499.5) @ np.array([[c, -s], [s, c]]).T + 499.5
        flux = self.flux * clear
        seen = ((xy > 5) & (xy < 994)).all(axis=1) & (flux > 2500 * (seeing / 4) ** 2)
        xy, flux = xy[seen], flux[seen]
        table = np.zeros(len(xy) + strangers, CATALOGUE)
        sigma = seeing / 2.3548
        flux = np.concatenate([flux, 10 ** rng.uniform(3.5, 5, strangers)])
        xy = np.vstack([xy, rng.uniform(5, 994, (strangers, 2))])
        table["error"] = sigma * np.sqrt(1 / flux + 8 * np.pi * (sigma * 15 / flux) ** 2)
        xy = xy + rng.normal(0, 1, xy.shape) * np.hypot(table["error"], 0.01)[:, None]
        table["x"], table["y"] = xy.T
        table["flux_err"] = np.sqrt(flux + 1e4 * (seeing / 4) ** 2)
        table["flux"] = flux + rng.normal(0, 1, len(flux)) * table["flux_err"]
        table["snr"], table["fwhm"] = table["flux"] / table["flux_err"], seeing
        reported = header(*(header_of or (p, q)), inport=inport, error=error)
        return AlignInput(table, seeing, reported, facts(name, *(facts_of or (p, q)), inport=inport), SHAPE)


DITHER = [(-20.0, -20.0), (0.0, -20.0), (20.0, -20.0), (-20.0, 0.0), (0.0, 0.0), (20.0, 20.0)]


def group(sky, n=6, **options):
    return [sky.frame(f"S{k}.fits", *DITHER[k], error=sky.rng.normal(0, 0.4, 2), **options) for k in range(n)]


def truth(sky, frame, base):
    there = sky.place(base.facts.poffset, base.facts.qoffset, base.facts.inport)
    return there - sky.place(frame.facts.poffset, frame.facts.qoffset, frame.facts.inport)


def errors(sky, frames, alignment):
    base = next(f for f in frames if f.name == alignment.reference)
    return np.array(
        [
            np.array([e.dx, e.dy]) - truth(sky, f, base)
            for f, e in zip(frames, alignment.entries, strict=True)
            if e.used
        ]
    )


def test_shifts_are_good_to_a_twentieth_of_a_pixel_and_the_uncertainty_is_true():
    pulls, offs = [], []
    for seed in range(15):
        sky = Sky(seed=seed)
        frames = group(sky)
        found = align(frames)
        assert len(found.used) == len(frames)
        off = errors(sky, frames, found)
        unc = np.array([e.uncertainty for e in found.entries])
        away = unc > 0
        offs.append(off)
        pulls.append(off[away] / unc[away, None])
    assert np.sqrt(np.mean(np.concatenate(offs) ** 2)) < 0.02
    assert 0.7 < np.std(np.concatenate(pulls)) < 1.3


def test_from_pixels_to_shifts():
    """Real detection on frames of stars: the complete chain within 0.05 px rms."""
    rng = np.random.default_rng(20)
    x0, y0 = rng.uniform(40, 360, (2, 25))
    flux = 10 ** rng.uniform(4, 5.3, 25)
    shifts = [(0.0, 0.0), (11.37, -8.61), (-20.82, 14.25)]
    j, i = np.mgrid[:400, :400]
    frames = []
    for k, (dx, dy) in enumerate(shifts):
        light = np.zeros((400, 400))
        for a, b, f in zip(x0 + dx, y0 + dy, flux, strict=True):
            light += f / (2 * np.pi * 1.7**2) * np.exp(-0.5 * ((i - a) ** 2 + (j - b) ** 2) / 1.7**2)
        sci = (light + rng.normal(0, 1, light.shape) * np.sqrt(light + 400)).astype(np.float32)
        found = detect(sci, np.zeros(sci.shape, np.uint16))
        p, q = -dy * SCALE, -dx * SCALE
        reported = facts(f"S{k}.fits", p, q)
        frames.append(
            AlignInput(found.catalogue, found.seeing, header(p, q, error=(0.3, -0.4)), reported, (400, 400))
        )
    found = align(frames)
    base = shifts[int(found.reference[1])]
    off = [(e.dx - base[0] + s[0], e.dy - base[1] + s[1]) for e, s in zip(found.entries, shifts, strict=True)]
    assert np.sqrt(np.mean(np.square(off))) < 0.03
    assert all(e.flux_scale == pytest.approx(1, abs=0.02) for e in found.entries)


@pytest.mark.parametrize("liar", range(6))
def test_a_frame_with_the_previous_frame_s_wcs_is_aligned(liar):
    sky = Sky(seed=30)
    frames = group(sky)
    frames[liar] = dataclasses.replace(frames[liar], header=frames[liar - 1].header)
    found = align(frames)
    assert len(found.used) == 6
    assert np.abs(errors(sky, frames, found)).max() < 0.06
    entry = found.entries[liar]
    assert entry.wcs_error > 15
    assert "world coordinates" in entry.reason
    # The stack takes its own coordinates from the reference, so a liar is none.
    assert found.reference != entry.name


def test_a_reference_that_the_user_names_is_kept_though_it_lies(caplog):
    sky = Sky(seed=30)
    frames = group(sky)
    frames[2] = dataclasses.replace(frames[2], header=frames[1].header)
    found = align(frames, AlignParameters(reference="S2.fits"))
    assert found.reference == "S2.fits"
    assert len(found.used) == 6
    assert "S2.fits" in caplog.text


def test_without_any_wcs_the_stars_are_searched():
    sky = Sky(seed=31)
    frames = [dataclasses.replace(f, header=Header()) for f in group(sky)]
    found = align(frames)
    assert {e.found_by for e in found.entries} == {"reference", "search"}
    assert np.abs(errors(sky, frames, found)).max() < 0.06
    assert len(output_grid(found, frames).header) == 0


def test_the_telescope_s_offsets_help_where_stars_are_few():
    # Three stars among four times as many strangers do not stand out in the full range, only near by.
    sky = Sky(n=3, seed=32)
    sky.xy = np.array([[300.0, 420.0], [610.0, 700.0], [480.0, 210.0]])
    sky.flux[:] = 1e5
    a = sky.frame("a.fits", 0, 0, strangers=12)
    b = sky.frame("b.fits", 20, 5, strangers=12, header_of=(-20, 20))
    found = align([a, b], AlignParameters(min_share=0.1))
    other = next(e for e in found.entries if e.found_by != "reference")
    assert other.used
    assert other.found_by == "telescope"
    assert np.abs(errors(sky, [a, b], found)).max() < 0.06


def test_the_mirrored_port():
    sky = Sky(seed=33)
    frames = [sky.frame(f"S{k}.fits", *DITHER[k], inport=1, header_of=(300.0, 300.0)) for k in range(4)]
    frames = [dataclasses.replace(f, header=Header()) for f in frames]
    found = align(frames, AlignParameters(max_search=0.5, false_alarm=1e-4))
    # The search is made useless, so it is the offsets' sign that aligns them.
    assert {e.found_by for e in found.entries} == {"reference", "telescope"}
    assert np.abs(errors(sky, frames, found)).max() < 0.06


def test_mirrored_port_by_the_wcs():
    sky = Sky(seed=34)
    frames = [sky.frame(f"S{k}.fits", *DITHER[k], inport=1) for k in range(4)]
    found = align(frames)
    assert {e.found_by for e in found.entries} == {"reference", "wcs"}
    assert np.abs(errors(sky, frames, found)).max() < 0.06


@pytest.mark.parametrize("n", [4, 20, 60, 200])
def test_unrelated_catalogues_are_never_aligned(n):
    for seed in range(12):
        frames = [Sky(n=n, seed=100 * n + 10 * seed + k).frame(f"S{k}.fits", *DITHER[k]) for k in range(3)]
        found = align(frames)
        assert len(found.used) == 1
        for entry in found.left_out:
            assert entry.reason
            assert entry.found_by == ""


def test_one_frame_of_another_field_is_left_out_by_name(caplog):
    frames = group(Sky(seed=35))
    frames[3] = Sky(seed=36).frame("S3.fits", *DITHER[3])
    found = align(frames)
    assert [e.name for e in found.left_out] == ["S3.fits"]
    assert found.entry("S3.fits").n_matched == 0
    assert "S3.fits is left out" in caplog.text


def test_a_stranger_with_the_most_stars_is_not_the_reference_for_long():
    frames = group(Sky(seed=37), n=5)
    frames.append(Sky(n=200, seed=38).frame("S9.fits"))
    found = align(frames)
    assert found.reference != "S9.fits"
    assert [e.name for e in found.left_out] == ["S9.fits"]


def test_few_stars_are_enough_and_fewer_are_reported():
    sky = Sky(n=5, seed=39)
    sky.xy = np.array([[300.0, 400], [650, 720], [480, 250], [700, 330], [380, 600]])
    sky.flux[:] = 3e4
    frames = [sky.frame(f"S{k}.fits", *DITHER[k], strangers=0) for k in range(3)]
    assert len(align(frames).used) == 3
    bare = dataclasses.replace(frames[1], catalogue=frames[1].catalogue[:2])
    strict = AlignParameters(without_stars=False)
    found = align([frames[0], bare, frames[2]], strict)
    assert [e.name for e in found.left_out] == ["S1.fits"]
    assert "2 stars" in found.left_out[0].reason


def test_uneven_seeing_and_clouds():
    sky = Sky(n=80, seed=40)
    frames = [
        sky.frame("sharp.fits", *DITHER[0], seeing=3.0),
        sky.frame("soft.fits", *DITHER[1], seeing=7.0),
        sky.frame("cloudy.fits", *DITHER[2], clear=0.6),
        sky.frame("good.fits", *DITHER[3], seeing=3.2),
    ]
    found = align(frames)
    assert len(found.used) == 4
    assert found.reference in ("sharp.fits", "good.fits")
    assert np.abs(errors(sky, frames, found)).max() < 0.08
    assert found.entry("cloudy.fits").flux_scale == pytest.approx(0.6, rel=0.02)


def test_a_turned_field_is_refused_as_a_shift_and_aligned_as_a_turn():
    sky = Sky(n=80, seed=41)
    frames = [sky.frame("a.fits"), sky.frame("b.fits", 20, -20, turn=math.radians(0.25))]
    assert len(align(frames, AlignParameters(reference="a.fits", transform="shift")).used) == 1
    turned = align(frames, AlignParameters(reference="a.fits", transform="shift_rotation"))
    entry = turned.entry("b.fits")
    assert entry.used
    assert entry.rotation == pytest.approx(-0.25, abs=0.003)
    assert entry.scale == pytest.approx(1)


@pytest.mark.parametrize("kind", ["similarity", "affine"])
def test_other_transforms(kind):
    sky = Sky(n=120, seed=42)
    frames = group(sky, n=3)
    found = align(frames, AlignParameters(transform=kind))
    assert len(found.used) == 3
    assert all(e.scale == pytest.approx(1, abs=1e-4) for e in found.entries)


def test_bad_sources_do_not_take_part():
    sky = Sky(seed=43)
    a, b = sky.frame("a.fits"), sky.frame("b.fits", 10, 10)
    # Hot pixels: bright, sharp, on the same pixel of every frame.
    hot = np.zeros(100, CATALOGUE)
    hot["x"], hot["y"] = sky.rng.uniform(0, 1000, (2, 100))
    hot["flux"], hot["snr"], hot["error"], hot["flags"] = 1e6, 1e3, 0.001, Flag.SHARP
    frames = [dataclasses.replace(f, catalogue=np.concatenate([f.catalogue, hot])) for f in (a, b)]
    found = align(frames)
    assert len(found.used) == 2
    assert np.abs(errors(sky, frames, found)).max() < 0.06


def test_the_order_of_the_frames_changes_nothing():
    frames = group(Sky(seed=44))
    there, back = align(frames), align(frames[::-1])
    assert there.reference == back.reference
    assert there.entries == back.entries[::-1]
    # Equal frames: the name decides.
    twin = [
        dataclasses.replace(frames[0], facts=facts(n, *DITHER[0])) for n in ("z.fits", "b.fits", "k.fits")
    ]
    assert align(twin).reference == "b.fits"


def test_references_by_name_and_by_place():
    frames = group(Sky(seed=45))
    assert align(frames, AlignParameters(reference="first")).reference == "S0.fits"
    assert align(frames, AlignParameters(reference="S4.fits")).reference == "S4.fits"
    with pytest.raises(GroupError, match=r"S77\.fits is not in the group"):
        align(frames, AlignParameters(reference="S77.fits"))
    with pytest.raises(GroupError, match="no frames"):
        align([])


def test_a_single_frame_is_its_own_reference():
    frame = Sky(seed=46).frame("only.fits")
    found = align([frame])
    assert found.reference == "only.fits"
    assert found.entries[0].used
    assert output_grid(found, [frame]).shape == SHAPE


def test_the_grid_holds_all_frames_and_its_wcs_is_the_reference_s():
    sky = Sky(seed=47)
    frames = [sky.frame(f"S{k}.fits", *DITHER[k]) for k in range(6)]
    found = align(frames)
    grid = output_grid(found, frames)
    assert grid.shape[0] == pytest.approx(1000 + 40 / SCALE, abs=2)
    assert grid.shape[1] == pytest.approx(1000 + 40 / SCALE, abs=2)
    assert "CD3_3" not in grid.header
    base = next(f for f in frames if f.name == found.reference)
    out, ref = WCS(grid.header), WCS(celestial_header(base.header))
    assert out.naxis == 2
    x, y = np.array([10.0, 900.0]), np.array([33.0, 450.0])
    reported = out.all_pix2world(x - grid.origin[0], y - grid.origin[1], 0)
    assert np.allclose(reported, ref.all_pix2world(x, y, 0), atol=1e-10)
    for entry in found.entries:
        u, v = grid.place(entry.transform)(np.array([0.0, 999]), np.array([0.0, 999]))
        assert u.min() > -0.01
        assert u.max() < grid.shape[1] - 0.99
        assert v.min() > -0.01
        assert v.max() < grid.shape[0] - 0.99


def test_an_alignment_survives_json():
    found = align(group(Sky(seed=48), n=3))
    again = type(found).model_validate_json(found.model_dump_json())
    assert again == found
    assert isinstance(again.entries[0].transform, Affine)


def test_the_reference_is_among_the_clearest():
    """Clouds hide few of many stars: their number is limited, and the seeing does not show them."""
    sky = Sky(n=300, seed=40)
    sky.flux = 10 ** sky.rng.uniform(4.5, 5.5, 300)
    # The first has the best seeing and as many stars as the others.
    clear = [0.7, 1.0, 0.99, 0.72, 0.97, 0.96]
    frames = [
        sky.frame(f"S{k}.fits", *DITHER[k], clear=c, seeing=3.9 if k == 0 else 4.0)
        for k, c in enumerate(clear)
    ]
    found = align(frames)
    assert found.reference in ("S1.fits", "S2.fits", "S4.fits", "S5.fits")
    assert len(found.used) == 6
    base = clear[int(found.reference[1])]
    assert [e.flux_scale for e in found.entries] == pytest.approx([c / base for c in clear], rel=0.02)
    assert align(frames, AlignParameters(reference="S0.fits")).reference == "S0.fits"
    assert align(frames, AlignParameters(reference="first")).reference == "S0.fits"


def test_a_clear_frame_in_poor_seeing_is_not_the_reference():
    sky = Sky(n=300, seed=41)
    sky.flux = 10 ** sky.rng.uniform(4.8, 5.5, 300)
    frames = [
        sky.frame(f"S{k}.fits", *DITHER[k], clear=1.0 if k == 3 else 0.8, seeing=5.0 if k == 3 else 4.0)
        for k in range(6)
    ]
    assert align(frames).reference != "S3.fits"


def test_on_a_calm_night_the_reference_does_not_depend_on_the_transparency():
    sky = Sky(n=60, seed=42)
    clear = [0.99, 1.0, 1.01, 0.98, 1.0, 1.02]
    frames = [sky.frame(f"S{k}.fits", *DITHER[k], clear=c) for k, c in enumerate(clear)]
    found = align(frames)
    most = max(frames, key=lambda f: len(f.catalogue[f.catalogue["snr"] >= 15]))
    assert found.reference == most.name
