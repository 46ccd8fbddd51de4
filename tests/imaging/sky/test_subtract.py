"""Sky subtraction: against a naive loop, against physics (pulls, self-subtraction), and its refusals."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imaging.errors import FrameError, GroupError
from imaging.frames.facts import FrameFacts
from imaging.io.planes import Planes, PlanesWriter, write_planes
from imaging.pixels.combine import median_factor
from imaging.pixels.dq import DQ, UNUSABLE
from imaging.sky.choice import SkyChoice, few_skies
from imaging.sky.residual import fit_background
from imaging.sky.starlight.frame_light import LIGHT
from imaging.sky.subtract import LAYOUT, SkyInput, SkyParameters, choose_sky, subtract_sky

START = datetime(2013, 11, 21, 2, 0, tzinfo=UTC)


def facts(name, *, seconds=0.0, p=0.0, q=0.0, **changes):
    values = {
        "name": name, "instrument": "F2", "kind": "object", "observation_class": "science", "target": "W",
        "exposure_time": 120.0, "coadds": 1, "read_pairs": 1, "filter_id": "Y_G0811", "filter": "Y",
        "lyot": "f/16_G5830", "focal_mask": "Open", "disperser": "Open", "detector": "H2", "ra": 63.49,
        "dec": -47.84, "poffset": p, "qoffset": q, "started": START + timedelta(seconds=seconds),
    }  # fmt: skip
    return FrameFacts(**(values | changes))


def dither(n, *, every=130.0):
    return [facts(f"f{i:02d}", seconds=i * every, p=15.0 * (i % 3), q=15.0 * (i // 3 % 3)) for i in range(n)]


def frame(folder, name, sci, var, dq=None, *, level, mask=None):
    dq = np.zeros(sci.shape, np.uint16) if dq is None else dq
    planes = {"sci": sci.astype(np.float32), "var": var.astype(np.float32), "dq": dq}
    stored = Planes(write_planes(folder / name, planes))
    masked = None if mask is None else Planes(write_planes(folder / f"{name}_m", {"objmask": mask}))
    return SkyInput(name, stored, level, masked)


def subtract(folder, frames, selection, parameters=None, **options):
    shape = frames[0].planes.shape("sci")
    layout = {plane: (dtype, shape) for plane, dtype in LAYOUT.items()}
    writers = {name: PlanesWriter(folder / "out" / name, layout) for name in selection}
    try:
        metrics = subtract_sky(frames, selection, parameters, writers=writers, **options)
        done = {name: Planes(writer.commit()) for name, writer in writers.items()}
    finally:
        for writer in writers.values():
            writer.discard()
    return done, {m.name: m for m in metrics}


def all_but_me(frames):
    return {f.name: tuple(g.name for g in frames if g is not f) for f in frames}


def clipped(values, noises, low, high):
    """The rule: the furthest beyond the threshold goes, then look again; two are kept."""
    values, noises = list(values), list(noises)
    while len(values) > 2:
        off = np.array(values) - np.median(values)
        sigma = np.sqrt(np.mean(noises))
        distance = np.where(off > 0, off / high, -off / low)
        worst = int(np.argmax(distance))
        if distance[worst] <= sigma:
            break
        del values[worst], noises[worst]
    return np.mean(values), np.sum(noises) / len(values) ** 2


def naive(frames, selection, parameters, flat_variance=None):
    """One pixel of one frame at a time."""
    data = {f.name: [f.planes.rows(p).astype(float) for p in ("sci", "var")] for f in frames}
    dq = {f.name: f.planes.rows("dq") for f in frames}
    masks = {f.name: f.object_mask.rows("objmask") if f.object_mask else None for f in frames}
    common = np.median([f.level for f in frames])
    factor = {f.name: common / f.level for f in frames}
    out = {}
    for name, skies in selection.items():
        sci, var, flags = data[name][0].copy(), data[name][1].copy(), dq[name].copy()
        for y, x in np.ndindex(sci.shape):
            usable = [
                s for s in skies
                if not dq[s][y, x] & UNUSABLE and np.isfinite(data[s][0][y, x]) and data[s][1][y, x] < 1e9
            ]  # fmt: skip
            free = [s for s in usable if masks[s] is None or not masks[s][y, x]]
            chosen = free or usable
            values = [data[s][0][y, x] * factor[s] for s in chosen]
            noises = [data[s][1][y, x] * factor[s] ** 2 for s in chosen]
            if not chosen:
                flags[y, x] |= 0 if flags[y, x] & UNUSABLE else DQ.NO_DATA
                sci[y, x] = 0.0
                continue
            if not free:
                sky, noise = np.median(values), np.pi / 2 * np.sum(noises) / len(noises) ** 2
                flags[y, x] |= DQ.OVERLAP
            elif parameters.operation == "median":
                n = len(values)
                sky, noise = np.median(values), median_factor(n) * np.sum(noises) / n**2
            else:
                sky, noise = clipped(values, noises, parameters.low, parameters.high)
            sci[y, x] -= sky / factor[name]
            var[y, x] += noise / factor[name] ** 2
            if flat_variance is not None:
                var[y, x] += sci[y, x] ** 2 * flat_variance[y, x]
        out[name] = sci, var, flags
    return out


def hard_set(folder, rng, n, shape, *, masks):
    """Frames of different levels with cosmic rays, bad pixels, NaNs, and columns without any sky."""
    frames = []
    for i in range(n):
        level = 900.0 + 40 * i
        sci = rng.normal(level, 30, shape)
        sci[rng.random(shape) < 0.05] += 4000
        dq = rng.choice([0, 0, 0, 0, 0, 0, DQ.BAD_PIXEL, DQ.NON_LINEAR, DQ.SATURATED], shape).astype(
            np.uint16
        )
        dq[:, 3] = DQ.BAD_PIXEL
        dq[:, 4] = DQ.BAD_PIXEL if i else 0
        dq[:, 5] = 0
        sci[2, 5] = np.nan if i % 2 else level
        mask = (rng.random(shape) < 0.3).astype(np.uint8) if masks else None
        if masks:
            mask[:, 7] = 1
        var = rng.uniform(700, 1100, shape)
        var[0, 9], var[1, 9] = (np.nan, 1e20) if i == 1 else (900, 900)
        frames.append(frame(folder, f"f{i:02d}", sci, var, dq, level=level, mask=mask))
    return frames


@pytest.mark.parametrize("operation", ["mean", "median"])
@pytest.mark.parametrize("masks", [False, True])
def test_equals_the_naive_loop(tmp_path, operation, masks):
    rng = np.random.default_rng(3)
    frames = hard_set(tmp_path, rng, 7, (5, 530), masks=masks)
    relative = rng.uniform(0, 1e-4, (5, 530)).astype(np.float32)
    parameters = SkyParameters(operation=operation, residual="none", low=2.5, high=3.5)
    done, metrics = subtract(
        tmp_path, frames, all_but_me(frames), parameters, flat_variance=lambda rows: relative[rows]
    )
    for name, (sci, var, dq) in naive(frames, all_but_me(frames), parameters, relative).items():
        assert np.array_equal(done[name].rows("dq"), dq)
        known = np.isfinite(sci)
        assert known.sum() > 0.99 * known.size
        np.testing.assert_allclose(done[name].rows("sci")[known], sci[known], atol=2e-3)
        np.testing.assert_allclose(done[name].rows("var")[known], var[known], rtol=2e-5)
        gained = dq & ~next(f for f in frames if f.name == name).planes.rows("dq")
        assert metrics[name].behind_sources == np.count_nonzero(gained & DQ.OVERLAP)
        assert metrics[name].without_sky == np.count_nonzero(gained & DQ.NO_DATA)
    assert metrics["f00"].without_sky > 0
    assert (metrics["f01"].behind_sources > 0) == masks


@given(data=st.data())
@settings(max_examples=15)
def test_any_selection_equals_the_naive_loop(tmp_path_factory, data):
    n = data.draw(st.integers(3, 8))
    chosen = {}
    for i in range(n):
        others = [f"f{j:02d}" for j in range(n) if j != i]
        skies = data.draw(st.lists(st.sampled_from(others), unique=True, max_size=n - 1))
        if skies:
            chosen[f"f{i:02d}"] = tuple(skies)
    folder = tmp_path_factory.mktemp("sky")
    seed = data.draw(st.integers(0, 1000))
    frames = hard_set(folder, np.random.default_rng(seed), n, (3, 12), masks=True)
    parameters = SkyParameters(residual="none")
    done, _ = subtract(folder, frames, chosen, parameters)
    for name, (sci, var, dq) in naive(frames, chosen, parameters).items():
        assert np.array_equal(done[name].rows("dq"), dq)
        np.testing.assert_allclose(done[name].rows("sci"), sci, atol=2e-3)
        np.testing.assert_allclose(done[name].rows("var"), var, rtol=2e-5)


@pytest.mark.parametrize(
    ("n", "limits", "sizes"),
    [(16, {"fewest": 3}, {4, 5, 6, 7, 8}), (26, {"fewest": 14, "maximum": 14}, {14})],
    ids=["a few", "more than may lack in a row of values"],
)
def test_windows_of_a_long_sequence_equal_the_naive_loop(tmp_path, n, limits, sizes):
    frames = hard_set(tmp_path, np.random.default_rng(8), n, (3, 40), masks=n > 20)
    sequence = [facts(f.name, seconds=150.0 * i, p=5.0 * i) for i, f in enumerate(frames)]
    choice = choose_sky(sequence, SkyParameters(**limits))
    assert {len(s) for s in choice.skies.values()} == sizes  # fewer at the ends
    parameters = SkyParameters(residual="none")
    done, _ = subtract(tmp_path, frames, choice.skies, parameters)
    for name, (sci, var, _) in naive(frames, choice.skies, parameters).items():
        known = np.isfinite(sci)
        np.testing.assert_allclose(done[name].rows("sci")[known], sci[known], atol=2e-3)
        np.testing.assert_allclose(done[name].rows("var")[known], var[known], rtol=2e-5)


def test_threads_and_memory_change_no_bit(tmp_path):
    frames = hard_set(tmp_path, np.random.default_rng(1), 6, (67, 90), masks=True)
    one, _ = subtract(tmp_path / "a", frames, all_but_me(frames), threads=1, memory=1 << 30)
    two, _ = subtract(tmp_path / "b", frames, all_but_me(frames), threads=3, memory=1)
    assert [p.sha256() for p in one.values()] == [p.sha256() for p in two.values()]


def test_variance_is_the_scatter_although_dark_and_flat_noise_are_common(tmp_path):
    """Dark and flat are wrong by far more than VAR, in all frames alike; the pull must not notice."""
    rng = np.random.default_rng(11)
    shape, n, read_noise = (240, 240), 9, 11.7
    dark_error = rng.normal(0, 15, shape)
    relative = 0.004
    flat_error = 1 + rng.normal(0, relative, shape)
    source = np.zeros(shape)
    source[100:180, 100:180] = 20000.0
    frames = []
    for i in range(n):
        level = 1800.0 + 30 * i
        light = rng.poisson(level + (source if i == 4 else 0.0), shape)
        sci = (light + rng.normal(0, read_noise, shape)) / flat_error + dark_error
        true = read_noise**2 + level + (source if i == 4 else 0.0)
        frames.append(frame(tmp_path, f"f{i}", sci, np.broadcast_to(true, shape), level=level))
    mask = (source > 0).astype(np.uint8)
    frames[4] = SkyInput(
        "f4", frames[4].planes, frames[4].level, Planes(write_planes(tmp_path / "m", {"objmask": mask}))
    )
    variance = np.full(shape, relative**2, np.float32)
    done, metrics = subtract(tmp_path, frames, all_but_me(frames), flat_variance=lambda rows: variance[rows])
    outside = mask == 0
    for name, planes in done.items():
        pull = planes.rows("sci") / np.sqrt(planes.rows("var"))
        assert np.std(pull[outside]) == pytest.approx(1.0, abs=0.015)
        assert abs(np.mean(pull[outside])) < 0.01
        assert abs(metrics[name].residual_level) < 1.0
    # On the source the flat's noise does not cancel: without its term the pull would be 1.15.
    sci, var = done["f4"].rows("sci"), done["f4"].rows("var")
    pull = ((sci - 20000.0) / np.sqrt(var))[mask == 1]
    assert np.std(pull) == pytest.approx(1.0, abs=0.035)
    without = var - sci**2 * relative**2
    assert np.std(((sci - 20000.0) / np.sqrt(without))[mask == 1]) > 1.1


def test_mean_has_less_noise_than_the_median_and_no_more_bias_from_faint_wings(tmp_path):
    rng = np.random.default_rng(21)
    shape, sigma = (200, 200), 45.0
    frames, wing = [], 30.0
    for i in range(9):
        sci = rng.normal(2000, sigma, shape) + (wing if i == 0 else 0.0)
        frames.append(frame(tmp_path, f"f{i}", sci, np.full(shape, sigma**2), level=2000.0))
    noise, bias = {}, {}
    for operation in ("mean", "median"):
        parameters = SkyParameters(operation=operation, residual="none")
        done, _ = subtract(tmp_path / operation, frames, all_but_me(frames), parameters)
        noise[operation] = np.std(done["f3"].rows("sci"))
        bias[operation] = np.mean(done["f3"].rows("sci"))
    assert noise["mean"] / sigma == pytest.approx(np.sqrt(1 + 1 / 8), abs=0.01)
    assert noise["median"] / sigma == pytest.approx(np.sqrt(1 + 1.345 / 8), abs=0.01)
    assert bias["mean"] == pytest.approx(-wing / 8, abs=0.8)
    assert abs(bias["mean"] - bias["median"]) < 0.8


def test_a_cosmic_ray_in_one_sky_frame_leaves_no_hole(tmp_path):
    rng = np.random.default_rng(5)
    shape = (60, 60)
    frames = []
    for i in range(9):
        sci = rng.normal(2000, 45, shape)
        if i == 0:
            sci[20:40, 20:40] += 800
        frames.append(frame(tmp_path, f"f{i}", sci, np.full(shape, 2025.0), level=2000.0))
    done, _ = subtract(tmp_path, frames, all_but_me(frames), SkyParameters(residual="none"))
    assert abs(np.mean(done["f5"].rows("sci")[20:40, 20:40])) < 8.0  # unclipped: -100


def test_second_pass_undoes_the_self_subtraction_of_an_extended_source(tmp_path):
    """A galaxy wider than the dither step: its outskirts are in each other's skies until they are masked."""
    rng = np.random.default_rng(6)
    y, x = np.mgrid[:160, :160]
    plain, masked, total = [], [], 0.0
    for i in range(9):
        cy, cx = 60 + 18 * (i // 3), 60 + 18 * (i % 3)
        radius = np.hypot(y - cy, x - cx)
        galaxy = 120.0 * np.exp(-radius / 6)
        sci = rng.normal(1000, 32, x.shape) + galaxy
        mask = (radius < 24).astype(np.uint8)
        total = galaxy[radius < 15].sum()
        plain.append(frame(tmp_path, f"f{i}", sci, np.full(x.shape, 1024.0), level=1000.0))
        masked.append(frame(tmp_path / "m", f"f{i}", sci, np.full(x.shape, 1024.0), level=1000.0, mask=mask))
    inside = np.hypot(y - 78, x - 78) < 15
    flux = {}
    for label, frames in (("first", plain), ("second", masked)):
        done, _ = subtract(tmp_path / label, frames, all_but_me(frames))
        flux[label] = float(done["f4"].rows("sci")[inside].sum())
    spread = np.sqrt(inside.sum() * 1024 * (1 + 1 / 4))
    assert flux["first"] < total - 4 * spread
    assert abs(flux["second"] - total) < 3 * spread


@pytest.mark.parametrize(("kind", "slope"), [("plane", 0.05), ("level", 0.0)])
def test_what_is_left_of_the_background_is_taken_out(tmp_path, kind, slope):
    rng = np.random.default_rng(9)
    shape = (256, 256)
    x = np.arange(256.0)
    frames = []
    for i in range(6):
        sci = rng.normal(1500, 40, shape)
        if i == 2:
            sci += 12.0 + slope * (x - 127.5)
            sci[50:58, 60:68] += 5000.0
        frames.append(frame(tmp_path, f"f{i}", sci, np.full(shape, 1600.0), level=1500.0))
    done, metrics = subtract(tmp_path, frames, all_but_me(frames), SkyParameters(residual=kind))
    assert metrics["f2"].residual_level == pytest.approx(12.0, abs=1.2)
    assert metrics["f2"].residual_slope_x == pytest.approx(slope, abs=0.015)
    left = np.median(done["f2"].rows("sci").reshape(8, 32, 8, 32).swapaxes(1, 2).reshape(64, -1), axis=1)
    assert abs(np.mean(left)) < 1.0
    assert np.std(left) < 2.5  # medians of 1024 pixels of 44 electrons scatter by 1.7


def test_fit_background_finds_a_plane_among_outliers_and_refuses_too_few_blocks():
    rows, columns = np.mgrid[:12, :12]
    x, y = (columns + 0.5) * 16 - 0.5, (rows + 0.5) * 16 - 0.5
    blocks = 3.0 + 0.02 * x - 0.01 * y + np.random.default_rng(0).normal(0, 0.2, x.shape)
    blocks[:3, :3] += 50
    blocks[5, 5] = np.nan
    fit = fit_background(blocks, np.full(x.shape, 256), 16, plane=True)
    assert fit[:3] == pytest.approx((3.0, 0.02, -0.01), abs=0.1)
    assert fit.slope_x == pytest.approx(0.02, abs=0.001)
    nothing = fit_background(np.full((3, 3), 5.0), np.full((3, 3), 256), 16, plane=True)
    assert nothing[:3] == (0.0, 0.0, 0.0)
    assert np.isnan(nothing.rms)


def test_choice_takes_the_window_and_no_neighbour_at_the_same_place():
    frames = dither(9, every=130.0)
    choice = choose_sky(frames, SkyParameters(fewest=3))
    assert choice.refused == {}
    assert choice.skies["f00"] == ("f01", "f02", "f03", "f04")  # 130 to 520 s; 650 s is beyond
    assert choice.skies["f04"] == ("f00", "f01", "f02", "f03", "f05", "f06", "f07", "f08")
    near = [facts("a"), facts("b", seconds=130, p=2.9), facts("c", seconds=260, p=30), facts("d", p=60)]
    assert choose_sky(near).skies["a"] == ("d", "c")


def test_choice_goes_beyond_the_window_for_too_few_and_counts_the_edge_in():
    frames = [facts("a"), *(facts(f"s{i}", seconds=t, p=20.0) for i, t in enumerate([600, 601, 900, 1200]))]
    assert choose_sky(frames).skies["a"] == ("s0", "s1", "s2", "s3")  # as many as there are, up to eight
    assert choose_sky(frames, SkyParameters(fewest=3)).skies["a"] == ("s0", "s1", "s2")
    assert len(choose_sky(dither(12, every=200.0)).skies["f00"]) == 8
    assert choose_sky(frames, SkyParameters(fewest=1)).skies["a"] == (
        "s0",
        "s1",
    )  # never fewer than the minimum


def test_choice_refuses_by_name_and_reason():
    frames = [facts("a"), facts("b", p=20.0, exposure_time=60.0), facts("c", p=1.0), facts("d", p=30.0)]
    choice = choose_sky(frames)
    assert set(choice.refused) == {"a", "b", "c"}
    reported = choice.refused["a"]
    assert reported.startswith("1 sky frame, at least 2 are needed (sky.minimum)")
    assert (
        "of 3 other frames 2 have its configuration and 1 of these point more than 3 arcsec away" in reported
    )
    alone = choose_sky([facts("only")], SkyParameters(few="refuse"))
    assert alone.refused["only"].startswith("0 sky frames")


def test_a_group_whose_frames_all_have_few_skies_takes_what_there_is():
    pair = [facts("a"), facts("b", seconds=130, p=20.0)]
    assert choose_sky(pair) == SkyChoice(skies={"a": ("b",), "b": ("a",)})
    assert set(choose_sky(pair, SkyParameters(few="refuse")).refused) == {"a", "b"}
    assert choose_sky([facts("only")]) == SkyChoice(skies={"only": ()})
    staring = [facts("a"), facts("b", p=1.0), facts("c", q=1.0)]
    assert choose_sky(staring).skies == {"a": (), "b": (), "c": ()}
    assert choose_sky(staring).needed == {"a", "b", "c"}
    assert "smooth background of the frame itself" in few_skies(())
    assert "larger by sqrt(2)" in few_skies(("b",))
    assert few_skies(("b", "c")) == ""


def test_choice_of_an_offset_sequence_takes_skies_only_and_wcs_centres_when_given():
    frames = [facts("o1"), facts("s1", seconds=130, p=400), facts("s2", seconds=260, p=420)]
    frames += [facts("o2", seconds=390, p=15)]
    choice = choose_sky(frames, objects=["o1", "o2"], skies=["s1", "s2"])
    assert choice.skies == {"o1": ("s1", "s2"), "o2": ("s1", "s2")}
    assert choice.needed == {"o1", "o2", "s1", "s2"}
    same = {f.name: (63.49, -47.84) for f in frames}
    refusing = SkyParameters(few="refuse")
    assert set(choose_sky(frames, refusing, centres=same).refused) == {f.name for f in frames}


def test_unscalable_level_is_refused_and_adding_copes(tmp_path):
    rng = np.random.default_rng(2)
    frames = [
        frame(tmp_path, f"f{i}", rng.normal(level, 6, (64, 64)), np.full((64, 64), 36.0), level=level)
        for i, level in enumerate([2.0, 0.0, -1.0])
    ]
    with pytest.raises(FrameError, match=r"f1: sky level of 0 electrons.*scaling=add"):
        subtract(tmp_path, frames, all_but_me(frames))
    assert not list((tmp_path / "out").iterdir())
    done, _ = subtract(tmp_path, frames, all_but_me(frames), SkyParameters(scaling="add"))
    assert all(abs(np.mean(p.rows("sci"))) < 0.5 for p in done.values())


@pytest.mark.parametrize(
    "selection", [{"f0": ("f0", "f1")}, {"f0": ("nobody",)}, {"nobody": ("f0",)}, {"f0": ()}]
)
def test_an_invalid_selection_is_refused(tmp_path, selection):
    frames = [frame(tmp_path, f"f{i}", np.ones((8, 8)), np.ones((8, 8)), level=1.0) for i in range(2)]
    with pytest.raises(GroupError):
        subtract(tmp_path, frames, selection)


def test_frames_of_other_shapes_are_named(tmp_path):
    frames = [frame(tmp_path, "a", np.ones((8, 8)), np.ones((8, 8)), level=1.0)]
    frames.append(frame(tmp_path, "b", np.ones((8, 9)), np.ones((8, 9)), level=1.0))
    with pytest.raises(GroupError, match=r"b \(8, 9\)"):
        subtract(tmp_path, frames, all_but_me(frames))


def test_starlight_is_kept_out_of_the_sky_and_in_the_frame(tmp_path):
    """The result is that of frames without the light, plus the light; VAR is that of the frames with it."""
    rng = np.random.default_rng(31)
    shape, n = (64, 96), 6
    light = [np.abs(rng.normal(0, 40, shape)).astype(np.float32) for _ in range(n)]
    clean = [rng.normal(900 + 5 * i, 30, shape).astype(np.float32) for i in range(n)]
    mask = (rng.random(shape) < 0.1).astype(np.uint8)
    for one in light:
        one[mask > 0] = 0
    var = np.full(shape, 900.0)
    dq = np.zeros(shape, np.uint16)
    dq[5, 5] = DQ.BAD_PIXEL
    light[0][5, 5] = 1e6  # of a pixel that is not used
    without = [
        frame(tmp_path / "a", f"f{i}", clean[i], var, dq, level=900.0 + 5 * i, mask=mask) for i in range(n)
    ]
    dark, none = subtract(tmp_path / "a", without, all_but_me(without))
    with_light = []
    for i in range(n):
        one = frame(tmp_path / "b", f"f{i}", clean[i] + light[i], var, dq, level=900.0 + 5 * i, mask=mask)
        stored = Planes(write_planes(tmp_path / "b" / f"light{i}", {LIGHT: light[i]}))
        with_light.append(replace(one, light=stored))
    done, metrics = subtract(tmp_path / "b", with_light, all_but_me(with_light))
    for i in range(n):
        name = f"f{i}"
        np.testing.assert_allclose(done[name].rows("sci"), dark[name].rows("sci") + light[i], atol=2e-3)
        np.testing.assert_allclose(done[name].rows("var"), dark[name].rows("var"), rtol=1e-5)
        np.testing.assert_array_equal(done[name].rows("dq"), dark[name].rows("dq"))
        assert metrics[name].starlight == pytest.approx(light[i][(mask == 0) & (dq == 0)].mean(), rel=1e-4)
        assert none[name].starlight is None
        assert metrics[name].residual_rms == pytest.approx(none[name].residual_rms, rel=1e-3)
