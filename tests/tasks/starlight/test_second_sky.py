"""The second pass of the sky in crowded fields."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from imaging.detrend.detrend import DetrendParameters
from imaging.detrend.prepare import PrepareParameters
from imaging.header import Header
from imaging.io.planes import Planes, write_planes
from imaging.registration.entries import AlignEntry, AlignInput, Alignment
from imaging.registration.geometry import Affine
from imaging.sky.choice import SkyParameters
from imaging.sources.detect import DetectParameters
from tasks import stack as stack_step
from tasks.align import AlignedGroup
from tasks.detect import catalogue_of, detect_sources
from tasks.detrend import Detrending
from tasks.masks import find_masks
from tasks.science.science_set import ScienceSet
from tasks.sky import subtract_group_sky
from tasks.starlight.second_sky import remove_starlight
from tasks.support.parameters import ReductionParameters
from tasks.support.references import Calibrations, FrameSet, ScratchRef
from tasks.support.scratching import folder_for, meta
from tasks.support.workspace import Workspace
from tests.imaging.sky.starlight.crowds import stars_at

SIZE, LEVEL = 256, 5400.0
#: Where the field's stars are in the nine frames, relative to the first, px.
DITHERS = [(31.0 * (i % 3) + 3 * i, 29.0 * (i // 3) - 2 * i) for i in range(9)]
DETRENDING = Detrending(
    calibrations=Calibrations(), prepare=PrepareParameters(), parameters=DetrendParameters()
)


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return Workspace(data_dir=tmp_path / "data", out=tmp_path / "out", threads=2)


def lights(stars: int) -> list[np.ndarray]:
    """The true light of the stars in each frame."""
    rng = np.random.default_rng(5)
    x, y = rng.uniform(-80, SIZE + 80, (2, stars))
    flux = (1200**-0.25 + rng.random(stars) * (3e5**-0.25 - 1200**-0.25)) ** -4
    return [stars_at((SIZE, SIZE), x + dx, y + dy, flux) for dx, dy in DITHERS]


class Field:
    """Nine dithered frames of a field, with their first pass."""

    def __init__(self, raw_frame, workspace, monkeypatch, stars, **sky):
        self.workspace = workspace
        self.parameters = ReductionParameters(
            sky=SkyParameters(patterns=False, probe=False, residual="level", **sky),
            detect=DetectParameters(background_mesh=32),
        )
        self.truth, self.frames = lights(stars), {}
        rng, start = np.random.default_rng(6), datetime(2020, 1, 4, 1, tzinfo=UTC)
        for i, light in enumerate(self.truth):
            frame = raw_frame(
                f"S20200104S{i:04d}.fits", kind="object", poffset=5.0 * (i % 3), qoffset=5.0 * (i // 3),
                started=start + timedelta(seconds=70 * i),
            )  # fmt: skip
            var = (LEVEL + 400 + light).astype(np.float32)
            sci = LEVEL + light + np.sqrt(var) * rng.standard_normal(var.shape).astype(np.float32)
            planes = {"sci": sci.astype(np.float32), "var": var, "dq": np.zeros(var.shape, np.uint16)}
            key, metrics = f"{i:064d}", {"level": LEVEL, "noise": 76.0}
            folder = folder_for(workspace, key, frame)
            write_planes(folder, planes, meta(key, metrics))
            self.frames[frame.name] = ScratchRef(frame=frame, key=key, folder=folder, metrics=metrics)
        names = tuple(self.frames)
        raw = tuple(ref.frame for ref in self.frames.values())
        self.group = ScienceSet(
            label="W J", frames=FrameSet(label="W J", frames=raw), objects=names, skies=names, mode="dither"
        )
        p = self.parameters
        self.masks = find_masks.fn("W J", self.frames, names, DETRENDING, p.sky, p.detect, workspace)
        self.first = subtract_group_sky.fn(
            "W J", self.frames, names, names, DETRENDING, p.sky, workspace, self.masks
        )
        catalogues = tuple(detect_sources.fn(self.first, name, p.detect, workspace) for name in names)
        entries = tuple(
            AlignEntry(
                name=name,
                transform=Affine.shift(-dx, -dy),
                rms=0.02,
                uncertainty=0.005,
                n_matched=40,
                flux_scale=1.0,
                flux_error=0.002,
                found_by="stars",
                wcs_error=0.1,
                used=True,
                reason="",
            )
            for name, (dx, dy) in zip(names, DITHERS, strict=True)
        )
        self.aligned = AlignedGroup(
            alignment=Alignment(reference=names[0], entries=entries), catalogues=catalogues
        )
        monkeypatch.setattr(stack_step, "align_input", lambda ref, *_: AlignInput(
            catalogue=catalogue_of(ref), seeing=4.2, header=Header([]), facts=ref.frame.facts, shape=(SIZE, SIZE)
        ))  # fmt: skip

    def second(self):
        done = remove_starlight.fn(
            self.group, self.frames, DETRENDING, self.masks, self.first, self.aligned, self.parameters, self.workspace
        )  # fmt: skip
        return done if not hasattr(done, "name") else done.name

    def errors(self, done) -> np.ndarray:
        """The mean of what is left of the frames on the sky, after the stars of the truth: (frames, ny, nx)."""
        left = [
            Planes(one.folder).rows("sci") - light for one, light in zip(done.frames, self.truth, strict=True)
        ]
        return np.stack(left)


@pytest.fixture
def field(raw_frame, workspace, monkeypatch):
    return lambda stars, **sky: Field(raw_frame, workspace, monkeypatch, stars, **sky)


def test_a_crowded_field_gets_its_starlight_back(field):
    crowd = field(800)
    done = crowd.second()
    before, after = crowd.errors(crowd.first), crowd.errors(done)
    assert -16 < before.mean() < -6
    assert abs(after.mean()) < 0.2 * abs(before.mean())
    for one in done.frames:
        assert 5 < one.metrics["starlight"] < 20
        assert one.metrics["residual_rms"] <= next(
            f.metrics["residual_rms"] for f in crowd.first.frames if f.name == one.name
        )
    # Fewer values are clipped for the light in them: no pixel has more noise.
    for one, other in zip(done.frames, crowd.first.frames, strict=True):
        new, old = Planes(one.folder), Planes(other.folder)
        np.testing.assert_array_equal(new.rows("dq"), old.rows("dq"))
        assert 0.95 < new.rows("var").mean() / old.rows("var").mean() <= 1.0
    assert not list(crowd.workspace.scratch.glob(".starlight*"))


def test_a_field_of_few_stars_keeps_its_sky(field):
    few = field(40)
    assert few.second() == "Not crowded"


def test_the_user_decides_about_starlight(field):
    assert field(800, starlight="never").second() == "Not crowded"
    assert field(800, crowded=0.5).second() == "Not crowded"
    assert len(field(250, crowded=0.5, starlight="always").second().frames) == 9


def test_without_isolated_stars_the_sky_stays_and_the_log_has_the_reason(field, caplog):
    few = field(60, starlight="always")
    assert few.second() == "No profile"
    assert "too few isolated stars to measure their profile" in caplog.text


def test_a_second_run_uses_the_planes_of_the_first(field, monkeypatch):
    crowd = field(800)
    done = crowd.second()
    identities = [Planes(one.folder).sha256() for one in done.frames]
    monkeypatch.setattr(stack_step, "make_stack", None)
    assert crowd.second() == "Reused"
    assert [Planes(one.folder).sha256() for one in done.frames] == identities


def test_too_few_frames_are_left_as_they_are(field):
    crowd = field(800, starlight="always")
    few = crowd.aligned.alignment.entries[:2]
    crowd.aligned = crowd.aligned.model_copy(
        update={"alignment": Alignment(reference=few[0].name, entries=few)}
    )
    assert crowd.second() == "Not crowded"
