"""The watcher of a folder into which several instruments write: each frame belongs to its own sequence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from raw_files import SCIENCE, raw_bytes
from watched_folder import Clock, Watch, in_store, put, rounds

from calib_store.store import Store

NIRI: dict[str, Any] = {
    "INSTRUME": "NIRI", "OBSTYPE": "OBJECT", "OBSCLASS": "science", "OBJECT": "FIELD", "FILTER1": "J_G0202",
    "FILTER2": "open", "FILTER3": "pupil38_G5207", "CAMERA": "f6", "FPMASK": "f6-cam_G5208", "EXPTIME": 30.0,
    "COADDS": 1, "LNRS": 1, "NDAVGS": 16, "A_VDDUC": -3.49, "A_VDET": -2.91, "DATE-OBS": "2013-11-21",
    "UT": "02:00:00", "DATALAB": "label-000000", "OBSID": "GN-2013B-Q-1-1", "GEMPRGID": "GN-2013B-Q-1",
}  # fmt: skip


def verdicts(store: Store, *names: str) -> dict[str, str | None]:
    """Return the instrument of each frame that the store knows; None for one that is not a frame."""
    frames = {name: store.frames.named(name) for name in names}
    return {
        name: found[0].facts.instrument if found and found[0].facts else None
        for name, found in frames.items()
    }


def test_frames_of_every_instrument_with_a_table_are_recorded(
    watch: Watch, store: Store, clock: Clock, raw: Path
) -> None:
    watcher = watch()
    put(raw / "S1.fits", raw_bytes(1, SCIENCE))
    put(raw / "N1.fits", raw_bytes(2, NIRI))
    put(raw / "N2.fits", raw_bytes(3, NIRI | {"DATALAB": "GN-2013B-Q-1-1-001"}))
    put(raw / "G1.fits", raw_bytes(4, SCIENCE | {"INSTRUME": "GSAOI"}))
    put(raw / "G2.fits", raw_bytes(5, NIRI | {"INSTRUME": "GNIRS"}))
    rounds(watcher, clock)
    assert set(in_store(store)) == {"S1.fits", "N1.fits", "N2.fits"}
    assert verdicts(store, "S1", "N1") == {"S1": "F2", "N1": "NIRI"}
