"""Frames with a surface, offsets of rows and a guide probe of their own, through the subtraction of the sky."""

from __future__ import annotations

import numpy as np
import pytest

from imaging.io.planes import Planes, PlanesWriter, write_planes
from imaging.pixels.dq import DQ
from imaging.sky.subtract import LAYOUT, SkyInput, SkyParameters, subtract_sky

SIZE, LEVEL, FRAMES = 512, 5400.0, 7


def frames(folder, rng, *, tilt=0.0, rows=0.0, probe=None, repeating=0.0):
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    made = []
    for i in range(FRAMES):
        a, b = rng.uniform(-tilt, tilt, 2)
        light = LEVEL * (1 + a * (2 * x - 1) + b * (2 * y - 1) ** 2)
        if i == probe:
            beyond = np.hypot(x - 0.4, y - 0.6) - 0.09
            light = np.where(beyond < 0, 0.65 * light, light * (1 + 0.03 * np.exp(-beyond / 0.054)))
        sci = light + np.sqrt(light) * rng.standard_normal(x.shape) + rows * rng.standard_normal((SIZE, 1))
        sci = sci + mirrored(repeating * rng.standard_normal((2, 2, 8)))
        planes = {
            "sci": sci.astype(np.float32), "var": light.astype(np.float32), "dq": np.zeros(x.shape, np.uint16)
        }  # fmt: skip
        made.append(
            SkyInput(
                f"f{i}",
                Planes(write_planes(folder / f"f{i}", planes)),
                LEVEL,
                moved=(30.0 * i, 20.0 * (i % 3)),
            )
        )
    return made


def mirrored(offsets):
    """Return a plane with offsets (upper, right, phase) that repeat, counted from each quadrant's own edge."""
    half = np.tile(offsets, SIZE // 2 // offsets.shape[2])
    lines = [np.concatenate([half[upper, 0], half[upper, 1, ::-1]]) for upper in (0, 1)]
    return np.repeat(lines, SIZE // 2, axis=0)


def subtracted(folder, inputs, parameters=None, only=(), **options):
    selection = {f.name: tuple(g.name for g in inputs if g is not f) for f in inputs}
    selection = {name: selection[name] for name in only or selection}
    layout = {plane: (dtype, (SIZE, SIZE)) for plane, dtype in LAYOUT.items()}
    writers = {name: PlanesWriter(folder / name, layout) for name in selection}
    metrics = subtract_sky(inputs, selection, parameters, writers=writers, **options)
    return {name: Planes(writer.commit()) for name, writer in writers.items()}, metrics


def test_a_curved_sky_is_flat_afterwards_and_the_figures_say_what_was_removed(tmp_path):
    inputs = frames(tmp_path, np.random.default_rng(1), tilt=0.05)
    done, metrics = subtracted(tmp_path / "auto", inputs)
    before, _ = subtracted(tmp_path / "plane", inputs, SkyParameters(residual="plane"))

    def unevenness(planes):
        cells = [one.rows("sci").reshape(8, 64, 8, 64).mean(axis=(1, 3)) for one in planes.values()]
        return float(np.std(cells))

    assert unevenness(done) < 3.0 < 0.2 * unevenness(before)
    assert {m.surface_terms for m in metrics} == {6}
    assert all(m.structure > 10 and m.surface_rms > 5 for m in metrics[1:3])


def test_the_last_frame_alone_is_as_flat_as_with_the_others(tmp_path):
    """A portion of one frame: no frame of the portion has it as sky, but others of its group do."""
    inputs = frames(tmp_path, np.random.default_rng(1), tilt=0.05)
    last = inputs[-1].name
    together, _ = subtracted(tmp_path / "all", inputs)
    alone, (metrics,) = subtracted(tmp_path / "one", inputs, only=[last], serving={f.name for f in inputs})
    assert metrics.surface_terms == 6
    assert np.array_equal(alone[last].rows("sci"), together[last].rows("sci"))
    _, (bare,) = subtracted(tmp_path / "object", inputs, only=[last])
    assert bare.surface_terms == 3  # an object next to offset skies keeps its own structure


def test_rows_are_removed_only_where_they_have_offsets(tmp_path):
    _, calm = subtracted(tmp_path / "calm", frames(tmp_path / "c", np.random.default_rng(2)), channels=32)
    assert not any(m.row_rms or m.channel_rms for m in calm)
    inputs = frames(tmp_path / "r", np.random.default_rng(2), rows=8.0)
    done, metrics = subtracted(tmp_path / "rows", inputs)
    assert np.median([m.row_rms for m in metrics]) == pytest.approx(8, rel=0.3)
    left = [one.rows("sci").mean(axis=1) - one.rows("sci").mean() for one in done.values()]
    assert np.std(left) < 4


def test_offsets_that_repeat_in_each_quadrant_are_removed(tmp_path):
    _, calm = subtracted(tmp_path / "calm", frames(tmp_path / "c", np.random.default_rng(5)), period=8)
    assert not any(m.periodic_rms for m in calm)
    inputs = frames(tmp_path / "p", np.random.default_rng(5), repeating=10.0)
    done, metrics = subtracted(tmp_path / "with", inputs, period=8)
    left, other = subtracted(tmp_path / "without", inputs)
    assert np.median([m.periodic_rms for m in metrics]) == pytest.approx(10, rel=0.2)
    assert not any(m.periodic_rms for m in other)

    def remaining(planes):
        quadrants = np.stack([one.rows("sci")[: SIZE // 2, : SIZE // 2] for one in planes.values()])
        return float(quadrants.reshape(len(quadrants), -1, 8).mean(axis=1).std(axis=1).mean())

    assert remaining(done) < 1.0 < 0.1 * remaining(left)
    off, _ = subtracted(tmp_path / "off", inputs, SkyParameters(patterns=False), period=8)
    assert remaining(off) == pytest.approx(remaining(left), rel=0.05)


def test_a_probe_is_flagged_in_its_frame_and_serves_no_other(tmp_path):
    inputs = frames(tmp_path, np.random.default_rng(3), probe=2)
    done, metrics = subtracted(tmp_path / "out", inputs, channels=32)
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    core = np.hypot(x - 0.4, y - 0.6) < 0.085
    assert (done["f2"].rows("dq")[core] & DQ.UNILLUMINATED).all()
    assert [m.vignetted > 0 for m in metrics] == [i == 2 for i in range(FRAMES)]
    for name in ("f1", "f3"):
        assert not (done[name].rows("dq") & (DQ.UNILLUMINATED | DQ.GLOW)).any()
        assert abs(float(done[name].rows("sci")[core].mean())) < 4
    glow = (done["f2"].rows("dq") & DQ.GLOW) > 0
    assert glow.mean() > 0.02
    for one in done.values():
        assert abs(float(one.rows("sci")[glow].mean())) < 4


def test_threads_and_memory_change_nothing(tmp_path):
    inputs = frames(tmp_path, np.random.default_rng(4), tilt=0.04, rows=5.0, probe=1)
    one, _ = subtracted(tmp_path / "one", inputs, channels=32, threads=1)
    two, _ = subtracted(tmp_path / "two", inputs, channels=32, threads=2, memory=1 << 22)
    for name, planes in one.items():
        assert np.array_equal(planes.rows("sci"), two[name].rows("sci"))
        assert np.array_equal(planes.rows("dq"), two[name].rows("dq"))
