"""Detrend: against prepare and plain arithmetic, against simulated scatter, and its refusals."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from imaging.detrend.detrend import DetrendParameters, detrend, sky_level
from imaging.detrend.prepare import prepare
from imaging.errors import FrameError, MissingCalibrationError
from imaging.io.raw_file import open_raw
from imaging.pixels.dq import DQ
from imaging.simulator.parameters import NightParameters

camera = NightParameters().camera


@dataclass
class Calibration:
    """What detrend uses of a product file."""

    facts: object
    planes: dict
    header: dict = field(default_factory=dict)

    def rows(self, extname, rows=None):
        return self.planes[extname][rows if rows is not None else slice(None)]

    def bad_pixels(self, rows=None):
        return self.rows("SCI", rows)


SHAPE = (40, 48)


@pytest.fixture
def calibrations(facts):
    facts = facts.model_copy(update={"section": "[1:48,1:40]"})
    rng = np.random.default_rng(4)
    dark_dq, flat_dq = np.zeros(SHAPE, np.uint16), np.zeros(SHAPE, np.uint16)
    dark_dq[3, 3], flat_dq[5, 5] = DQ.COSMIC_RAY, DQ.NON_LINEAR
    response = rng.uniform(0.7, 1.3, SHAPE).astype(np.float32)
    flat_dq[:, :4], response[:, :4] = DQ.UNILLUMINATED, 1.0
    flat_dq[6, 6] = DQ.BAD_PIXEL
    bad = np.zeros(SHAPE, np.uint8)
    bad[7, 7] = 1
    dark = {
        "SCI": rng.normal(70, 3, SHAPE).astype(np.float32),
        "VAR": np.full(SHAPE, 5.0, np.float32),
        "DQ": dark_dq,
    }
    flat = {"SCI": response, "VAR": np.full(SHAPE, 1e-4, np.float32), "DQ": flat_dq}
    return {
        "dark": Calibration(facts.model_copy(update={"kind": "dark"}), dark, {"PEDESTAL": 65.0}),
        "flat": Calibration(facts.model_copy(update={"kind": "flat", "exposure_time": 20.0}), flat),
        "bpm": Calibration(facts.model_copy(update={"kind": "bpm"}), {"SCI": bad}),
    }


@pytest.fixture
def raw(write_raw):
    rng = np.random.default_rng(12)
    adu = rng.normal(3600, 60, SHAPE).astype(np.int32)
    adu[20, 20] = 400000
    adu[30:33, 30:33] = 400000
    adu[31, 31] = 900  # a blown core reads low
    adu[12, 12] = 220000  # above the linear limit
    with open_raw(write_raw(data=adu[np.newaxis]), shape=None) as opened:
        yield opened


@pytest.mark.parametrize("common_noise", [False, True])
def test_equals_prepare_and_plain_arithmetic(raw, calibrations, common_noise):
    result = detrend(raw, **calibrations, common_noise=common_noise)
    bad = calibrations["bpm"].planes["SCI"]
    sci, var, dq = (p.astype(float) for p in prepare(raw.rows(), raw.facts, bpm=bad, pedestal=65.0))
    dark, flat = calibrations["dark"].planes, calibrations["flat"].planes
    sci = (sci - dark["SCI"]) / flat["SCI"]
    var = (var + common_noise * (dark["VAR"] + sci**2 * flat["VAR"])) / flat["SCI"].astype(float) ** 2
    expected = dq.astype(np.uint16) | dark["DQ"] | flat["DQ"]
    expected[31, 31] |= DQ.SATURATED
    nothing = (flat["DQ"] & (DQ.UNILLUMINATED | DQ.BAD_PIXEL)) != 0
    sci[nothing] = 0.0
    assert np.array_equal(result.dq, expected)
    np.testing.assert_allclose(result.sci, sci, rtol=3e-6, atol=1e-3)
    np.testing.assert_allclose(result.var[~nothing], var[~nothing], rtol=3e-6)
    assert result.dq[7, 7] & DQ.BAD_PIXEL
    assert result.metrics.saturated == 10
    assert result.metrics.nonlinear == np.count_nonzero(expected & DQ.NON_LINEAR) > 1
    assert result.metrics.pedestal == 65.0
    assert result.metrics.pedestal_known
    assert (result.metrics.missing, result.metrics.overridden) == ((), ())
    assert (result.sci.dtype, result.var.dtype, result.dq.dtype) == (np.float32, np.float32, np.uint16)


def test_threads_and_memory_change_no_bit(raw, calibrations):
    one, two = (detrend(raw, **calibrations, threads=t, memory=m) for t, m in ((1, 1 << 30), (3, 1)))
    for plane in ("sci", "var", "dq"):
        assert getattr(one, plane).tobytes() == getattr(two, plane).tobytes()
    assert one.level == two.level


def test_variance_is_the_scatter_of_simulated_frames(write_raw, calibrations, facts):
    """Light, read noise, rounding and a pedestal without shot noise, through a response of 0.8."""
    rng = np.random.default_rng(3)
    shape, light, pedestal, response = (300, 300), 900.0, 400.0, 0.8
    gain, read_noise = camera.gain(8), camera.read_noise(8)
    c1, c2, c3 = camera.nonlinearity
    true = rng.poisson(light, shape) + pedestal + rng.normal(0, read_noise, shape)
    true -= (c1 - 1) * true + c2 * true**2 + c3 * true**3
    path = write_raw(data=np.round(true / gain).astype(np.int32)[np.newaxis])
    zero, one = np.zeros(shape, np.float32), np.ones(shape, np.float32)
    flags = np.zeros(shape, np.uint16)
    facts = facts.model_copy(update={"section": "[1:300,1:300]"})
    dark = Calibration(facts, {"SCI": one * pedestal, "VAR": zero, "DQ": flags}, {"PEDESTAL": pedestal})
    flat = Calibration(facts, {"SCI": one * np.float32(response), "VAR": zero, "DQ": flags})
    with open_raw(path, shape=None) as raw:
        result = detrend(
            raw, dark=dark, flat=flat, bpm=None, parameters=DetrendParameters(allow_missing=("bpm",))
        )
    assert result.level == pytest.approx(light / response, abs=1.0)
    assert result.metrics.noise == pytest.approx(np.std(result.sci), rel=0.02)
    assert np.var(result.sci) / np.mean(result.var) == pytest.approx(1.0, abs=0.02)
    assert result.metrics.missing == ("bpm",)


@pytest.mark.parametrize(
    ("kind", "change", "difference"),
    [
        ("dark", {"exposure_time": 60.0}, "exposure_time 60.0, the frame has 120.0"),
        ("dark", {"read_pairs": 4}, "read_pairs 4, the frame has 8"),
        ("dark", {"coadds": 3}, "coadds 3, the frame has 1"),
        ("flat", {"filter_id": "J_G0802"}, "filter_id 'J_G0802', the frame has 'Y_G0811'"),
        ("flat", {"lyot": "f/32"}, "lyot 'f/32', the frame has 'f/16_G5830'"),
        ("bpm", {"detector": "x"}, "detector 'x', the frame has '109'"),
    ],
)
def test_another_configuration_is_refused_unless_overridden_by_name(
    raw, calibrations, kind, change, difference
):
    odd = calibrations[kind]
    odd.facts = odd.facts.model_copy(update=change | {"name": "odd.fits"})
    with pytest.raises(MissingCalibrationError) as caught:
        detrend(raw, **calibrations)
    assert f"{kind} odd.fits has {difference}" in caught.value.message
    assert f"detrend.override={kind}" in caught.value.remedy
    other = {"dark": "flat", "flat": "bpm", "bpm": "dark"}[kind]
    with pytest.raises(MissingCalibrationError):
        detrend(raw, **calibrations, parameters=DetrendParameters(override=(other,)))
    result = detrend(raw, **calibrations, parameters=DetrendParameters(override=(kind,)))
    assert result.metrics.overridden == (f"{kind} odd.fits: {difference}",)


@pytest.mark.parametrize("kind", ["dark", "flat", "bpm"])
def test_a_missing_calibration_is_refused_unless_allowed(raw, calibrations, kind):
    calibrations[kind] = None
    with pytest.raises(MissingCalibrationError, match=f"no {kind}.*allow_missing={kind}"):
        detrend(raw, **calibrations)
    result = detrend(raw, **calibrations, parameters=DetrendParameters(allow_missing=(kind,)))
    assert result.metrics.missing == (kind,)
    assert result.metrics.pedestal_known == (kind != "dark")


def test_a_calibration_of_another_size_and_a_frame_without_usable_pixels_are_refused(raw, calibrations):
    whole = dict(calibrations["flat"].planes)
    calibrations["flat"].planes = {name: plane[:, :-1] for name, plane in whole.items()}
    with pytest.raises(FrameError, match="its flat gives"):
        detrend(raw, **calibrations)
    calibrations["flat"].planes = whole
    calibrations["bpm"].planes["SCI"] = np.ones(SHAPE, np.uint8)
    with pytest.raises(FrameError, match="no usable pixel"):
        detrend(raw, **calibrations)


def test_sky_level_looks_past_stars_and_flags():
    rng = np.random.default_rng(0)
    sci = rng.normal(1000, 30, (400, 400)).astype(np.float32)
    dq = np.zeros(sci.shape, np.uint16)
    sci[:, :30] += 2000  # stars on 12 % of the light
    sci[:, -150:], dq[:, -150:] = 0.0, DQ.UNILLUMINATED
    level, noise = sky_level(sci, dq)
    assert level == pytest.approx(1000, abs=1.0)  # the unclipped median is 1005
    assert noise == pytest.approx(30, rel=0.25)
    assert np.isnan(sky_level(sci, np.full_like(dq, DQ.BAD_PIXEL))[0])


def test_a_frame_whose_rows_are_displaced_is_refused(write_raw, facts):
    shape = (128, 256)
    facts = facts.model_copy(update={"section": "[1:256,1:128]"})
    rng = np.random.default_rng(6)
    response = (1 + 0.02 * rng.standard_normal(shape)).astype(np.float32)
    planes = {"SCI": response, "VAR": np.full(shape, 1e-6, np.float32), "DQ": np.zeros(shape, np.uint16)}
    flat = Calibration(facts.model_copy(update={"kind": "flat", "name": "lamp.fits"}), planes)
    parameters = DetrendParameters(allow_missing=("dark", "bpm"), override=("flat",))
    adu = (4000 * response + rng.normal(0, 30, shape)).astype(np.int32)
    with open_raw(write_raw("good.fits", data=adu[np.newaxis]), shape=None) as good:
        detrend(good, dark=None, flat=flat, bpm=None, parameters=parameters)
    adu[70:] = np.roll(adu[70:].reshape(-1), 31).reshape(-1, shape[1])
    with open_raw(write_raw("moved.fits", data=adu[np.newaxis]), shape=None) as moved:
        with pytest.raises(
            FrameError, match=r"moved.fits: rows \d+ to 128 lack .* flat lamp.fits.*Copy the file"
        ):
            detrend(moved, dark=None, flat=flat, bpm=None, parameters=parameters)
        anyway = parameters.model_copy(update={"max_missing_pattern": 2.0})
        detrend(moved, dark=None, flat=flat, bpm=None, parameters=anyway)
