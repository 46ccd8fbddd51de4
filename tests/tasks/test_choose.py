"""The user's decisions about calibrations: where they apply, what is recorded, what is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from sqlalchemy import text

from calib_store.curation.certify import reject
from calib_store.exchange.adopt import adopt
from calib_store.files.local_objects import LocalObjects
from calib_store.model.records import FrameRecord, InputRef, Product
from calib_store.tables.products import NewProduct
from imaging.detrend.detrend import DetrendParameters
from imaging.errors import FrameError, MissingCalibrationError, NirflowError, StoreError
from tasks.building.build import _history, _missing
from tasks.building.recipe import Recipe
from tasks.choose import Choice, choose_calibrations
from tasks.detrend import applied_to
from tasks.support.references import Calibrations, FrameSet, RawFrame
from tasks.support.workspace import Workspace, close_stores

PRIMARY = {
    "INSTRUME": "F2", "OBSTYPE": "DARK", "OBSCLASS": "dayCal", "OBJECT": "Dark", "EXPTIME": 120.0,
    "COADDS": 1, "LNRS": 8, "NREADS": 8, "FILTER1": "DK_G0807", "FILTER2": "Open", "LYOT": "f/16_G5830",
    "MOSPOS": "Open", "GRISM": "Open", "DETID": "109", "DATE-OBS": "2013-11-20", "UTSTART": "04:48:00.0",
    "PROCDARK": "2026-01-01T00:00:00",
}  # fmt: skip
SHORT = {"EXPTIME": 8.0, "LNRS": 4, "NREADS": 4}
DIFFERENCES = ("exposure 8 s, frame 120 s", "read pairs 4, frame 8")


@pytest.fixture
def workspace(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    monkeypatch.setenv("NIRFLOW_DATABASE_URL", database_url)
    yield Workspace(data_dir=tmp_path / "data", out=tmp_path / "out", threads=2)
    close_stores()


@pytest.fixture
def dark(workspace: Workspace, tmp_path: Path) -> Callable[..., Product]:
    """Add a dark of 120 s and 8 read pairs; other cards by keyword."""

    def make(name: str, variance: float = 1.0, **cards: Any) -> Product:
        primary = fits.PrimaryHDU()
        primary.header.update(PRIMARY | cards)
        types = {"SCI": np.float32, "VAR": np.float32, "DQ": np.uint16}
        planes = [fits.ImageHDU(np.zeros((8, 8), dtype), name=plane) for plane, dtype in types.items()]
        planes[0].data += len(name)
        planes[1].data += variance
        fits.HDUList([primary, *planes]).writeto(tmp_path / name)
        return adopt(workspace.store(), tmp_path / name)

    return make


@pytest.fixture
def choose(
    workspace: Workspace, raw_frame: Callable[..., RawFrame], tmp_path: Path
) -> Callable[..., Calibrations]:
    """Choose a dark for one frame; the user's decisions by keyword."""

    def run(kind: str = "object", workspace: Workspace = workspace, **choice: Any) -> Calibrations:
        path = tmp_path / "S1.fits"
        fits.PrimaryHDU(np.zeros((8, 8), np.int32)).writeto(path, overwrite=True)
        frame = raw_frame("S1.fits", kind=kind, detector="109", section="[1:8,1:8]").model_copy(
            update={"path": path}
        )
        record = FrameRecord(path, frame.sha256, path.stat().st_size, 1, frame.facts)
        workspace.store().frames.ingest([record])
        frames = FrameSet(label="the set", frames=(frame,))
        return choose_calibrations.fn("the set", frames, ("dark",), [], Choice(**choice), workspace)

    return run


def reasons(workspace: Workspace) -> list[str | None]:
    with workspace.store().database.begin() as connection:
        return [
            row[0] for row in connection.execute(text("SELECT override_reason FROM decisions ORDER BY id"))
        ]


def stored(workspace: Workspace, product: Product) -> Path:
    objects = workspace.store().objects
    assert isinstance(objects, LocalObjects)
    return objects.path(product.sha256)


def damage(path: Path) -> None:
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(-2880, 2)
        file.write(b"\x01" * 40)


def test_a_named_product_that_is_damaged_is_refused(
    choose: Callable[..., Calibrations], dark: Callable[..., Product], workspace: Workspace
) -> None:
    product = dark("S1_dark.fits")
    assert choose(use={"dark": product.name}).of("dark") is not None
    damage(stored(workspace, product))
    for _ in range(2):  # the second time the file has already been set aside
        with pytest.raises(StoreError, match=r"S1_dark\.fits .* is missing or damaged"):
            choose(use={"dark": product.name})
    assert not stored(workspace, product).exists()


def test_by_default_the_next_best_replaces_a_damaged_product(
    choose: Callable[..., Calibrations], dark: Callable[..., Product], workspace: Workspace
) -> None:
    best, next_best = dark("S11_dark.fits"), dark("S2_dark.fits", UTSTART="01:00:00.0")
    assert choose().of("dark").name == best.name
    damage(stored(workspace, best))
    assert choose().of("dark").name == next_best.name
    damage(stored(workspace, next_best))
    with pytest.raises(MissingCalibrationError, match=r"S11?2?_dark.fits: its file is missing or damaged"):
        choose()


def test_a_named_file_that_cannot_serve_is_refused(
    choose: Callable[..., Calibrations], dark: Callable[..., Product], tmp_path: Path
) -> None:
    dark("S1_dark.fits")
    with fits.open(tmp_path / "S1_dark.fits") as hdus:
        hdus["SCI"].data[3] = np.nan
        hdus.writeto(tmp_path / "nan_dark.fits", checksum=True)
    with pytest.raises(FrameError, match=r"nan_dark.fits: plane SCI is not a finite number in 8 of the 64"):
        choose(use={"dark": str(tmp_path / "nan_dark.fits")})


def test_what_a_named_dark_overrides_is_reported_everywhere(
    choose: Callable[..., Calibrations], dark: Callable[..., Product], workspace: Workspace, raw_frame: Any
) -> None:
    dark("S1_dark.fits")
    short = dark("S22_dark.fits", **SHORT)
    chosen = choose(use={"dark": short.name})
    disagreement = f"dark S22_dark.fits: {'; '.join(DIFFERENCES)}"
    assert (chosen.of("dark").name, chosen.overridden) == (short.name, ("dark",))
    assert chosen.disagreements == (disagreement,)
    assert reasons(workspace) == [f"--use dark=S22_dark.fits, although: {'; '.join(DIFFERENCES)}"]
    assert f"used as named: {disagreement}" in _missing(chosen)
    parameters = applied_to(DetrendParameters(override=("flat",)), chosen)
    assert parameters.override == ("flat", "dark")
    recipe = Recipe("image", "stack", 1, (), {"detrend": parameters}, chosen)
    rows = {row.primitive: row.args for row in _history(recipe, datetime.now(UTC))}
    assert disagreement in rows["calibrations"]
    agreeing = Recipe(
        "image", "stack", 1, (), {"detrend": parameters}, chosen.model_copy(update={"disagreements": ()})
    )
    assert recipe.key != agreeing.key


def test_a_named_dark_that_agrees_disagrees_in_nothing(
    choose: Callable[..., Calibrations], dark: Callable[..., Product], workspace: Workspace
) -> None:
    chosen = choose(use={"dark": dark("S1_dark.fits").name})
    assert (chosen.overridden, chosen.disagreements) == (("dark",), ())
    assert reasons(workspace) == ["--use dark=S1_dark.fits"]


def test_for_a_flat_the_user_s_choice_applies_only_if_the_configuration_agrees(
    choose: Callable[..., Calibrations],
    dark: Callable[..., Product],
    workspace: Workspace,
    caplog: pytest.LogCaptureFixture,
) -> None:
    fitting, short = dark("S1_dark.fits"), dark("S22_dark.fits", **SHORT)
    with caplog.at_level("INFO", "tasks.choose"):
        chosen = choose("flat", use={"dark": short.name})
    assert (chosen.of("dark").name, chosen.overridden, chosen.disagreements) == (fitting.name, (), ())
    assert (
        f"S22_dark.fits does not fit these frames ({'; '.join(DIFFERENCES)}); the rules choose" in caplog.text
    )
    assert reasons(workspace) == [None]
    assert choose("flat", use={"dark": fitting.name}).overridden == ("dark",)
    workspace.store().set_status(fitting, "rejected", author="me", reason="test")
    with pytest.raises(NirflowError, match="no dark serves"):
        choose("flat", use={"dark": short.name})
    assert choose("flat", use={"dark": short.name}, allow_missing={"dark"}).missing == ("dark",)


def test_parameters_are_unchanged_without_user_choices() -> None:
    parameters = DetrendParameters(override=("flat",), allow_missing=("bpm",))
    assert applied_to(parameters, Calibrations()) == parameters
    parameters_used = applied_to(parameters, Calibrations(missing=("bpm", "dark")))
    assert parameters_used.allow_missing == ("bpm", "dark")


# What the store chooses in place of an unusable product, and objections to products in use


def test_a_product_with_unusable_pixels_is_skipped_by_name(
    choose: Callable[..., Calibrations],
    dark: Callable[..., Product],
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Add it to the store as if before its pixels were checked."""
    good = dark("S100_dark.fits")
    with monkeypatch.context() as patch:
        patch.setattr("calib_store.exchange.adopt.check_content", lambda *_, **__: None)
        bad = dark("S1_dark.fits", variance=0.0, UTSTART="20:00:00.0")
    chosen = choose()
    assert chosen.of("dark") is not None
    assert chosen.of("dark").id == str(good.id)
    (passed_over,) = chosen.reservations
    assert passed_over.startswith(
        f"dark {bad.name_and_id} was passed over: S1_dark.fits: plane VAR is zero, "
    )


def test_objections_to_a_product_in_use_are_reported(
    choose: Callable[..., Calibrations], dark: Callable[..., Product], workspace: Workspace
) -> None:
    product = dark("S1_dark.fits")
    assert choose().reservations == ()
    store = workspace.store()
    reject(store, product, author="Ana", reason="light leak")
    (against,) = choose(use={"dark": str(product.id)}).reservations
    assert against.startswith(f"dark {product.name_and_id} was rejected by Ana on ")
    assert f": light leak. To reinstate it: nirflow cal reinstate {product.short_id}" in against
    with pytest.raises(MissingCalibrationError, match="status rejected"):
        choose()


def test_an_older_dark_made_from_a_frame_that_the_run_leaves_out_is_skipped_by_name(
    choose: Callable[..., Calibrations],
    dark: Callable[..., Product],
    workspace: Workspace,
    raw_frame: Callable[..., RawFrame],
    tmp_path: Path,
) -> None:
    store = workspace.store()
    bad = raw_frame("S20131120S0115.fits", section="[1:8,1:8]")
    store.frames.ingest([FrameRecord(tmp_path / bad.name, bad.sha256, 1, 1, bad.facts)])
    other = dark("S1_dark.fits", UTSTART="20:00:00.0")
    file = tmp_path / "S3_dark.fits"
    with fits.open(tmp_path / "S1_dark.fits") as hdus:
        hdus["SCI"].data += 1
        hdus.writeto(file, checksum=True)
    made = store.add(
        NewProduct(
            kind="dark", name=file.name, facts=bad.facts, span=(bad.facts.started, bad.facts.ended),
            inputs=[InputRef("dark", bad.sha256)], parameters={}, metrics={}, recipe_key="0" * 64,
            algorithm_version="1",
        ),
        file,
    )  # fmt: skip
    assert choose().of("dark").name == made.name
    without = workspace.model_copy(update={"left_out": frozenset({bad.sha256})})
    chosen = choose(workspace=without)
    assert chosen.of("dark").name == other.name
    reason = f"made from {bad.name}, which this run leaves out"
    assert chosen.reservations == (f"dark {made.name_and_id} was passed over: {reason}",)
    store.set_status(other, "rejected", author="me", reason="test")
    with pytest.raises(MissingCalibrationError, match=f"{made.name}: {reason}"):
        choose(workspace=without)


def test_a_group_whose_middle_has_no_dark_goes_on_with_the_frames_that_have_one(
    choose: Callable[..., Calibrations],
    dark: Callable[..., Product],
    raw_frame: Callable[..., RawFrame],
    workspace: Workspace,
    tmp_path: Path,
) -> None:
    made = dark("S1_dark.fits")

    def frame(n: int, seconds: float) -> RawFrame:
        of = raw_frame(
            f"S{n}.fits", kind="object", detector="109", section="[1:8,1:8]", exposure_time=seconds,
            started=datetime(2013, 11, 21, 2, n, tzinfo=UTC),
        )  # fmt: skip
        workspace.store().frames.ingest([FrameRecord(tmp_path / of.name, of.sha256, 1, 1, of.facts)])
        return of

    frames = FrameSet(
        label="the set", frames=tuple(frame(n, 120.0 if n in (1, 4) else 60.0) for n in range(5))
    )
    assert frames.middle.name == "S2.fits"
    chosen = choose_calibrations.fn("the set", frames, ("dark",), [], Choice(), workspace)
    assert chosen.of("dark").name == made.name
    assert [one.name for one in chosen.unserved] == ["S0.fits", "S2.fits", "S3.fits"]
    # Without an optional calibration everything is as if it had not been asked for.
    kinds = ("dark", "distortion")
    assert choose_calibrations.fn("the set", frames, kinds, [], Choice(), workspace) == chosen
    for one in chosen.unserved:
        assert one.reason.startswith(
            "no dark serves it, but S1_dark.fits serves others of its group: exposure 120"
        )
        assert "--use dark=NAME_OR_PATH" in one.remedy
    assert choose_calibrations.fn(
        "the set", frames, ("dark",), [], Choice(allow_missing={"dark"}), workspace
    ).missing == ("dark",)
    short = frames.without({"S1.fits", "S4.fits"})
    with pytest.raises(MissingCalibrationError, match=r"no dark serves S2\.fits"):
        choose_calibrations.fn("the set", short, ("dark",), [], Choice(), workspace)
