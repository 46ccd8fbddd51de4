"""Raw frames whose bytes differ from those that the store knows by size and date."""

from __future__ import annotations

import bz2
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from raw_files import SCIENCE, raw_bytes

from calib_store.files.objects import file_sha256
from imaging.calibrations.dark import DarkParameters
from imaging.detrend.detrend import DetrendParameters
from imaging.detrend.prepare import PrepareParameters
from imaging.errors import FrameError
from imaging.products.product_file import read_table
from tasks.dark import build_dark
from tasks.detrend import detrend_frame
from tasks.support import hashing
from tasks.support.hashing import hashed
from tasks.support.references import Calibrations, FrameSet, ProductRef, Survey
from tasks.support.workspace import Workspace

Look = Callable[..., Survey]


def replaced(path: Path, content: bytes) -> None:
    """Change a file's bytes, but not its name, size and date."""
    before = path.stat()
    assert len(content) == before.st_size
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def other_pixels(content: bytes) -> bytes:
    """Return the same headers with a different last pixel."""
    at = len(content.rstrip(b"\0")) - 1
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def dark_of(seen: Survey, workspace: Workspace) -> ProductRef:
    made: Any = build_dark.fn(FrameSet(label="dark", frames=seen.frames), DarkParameters(), workspace)
    return made if isinstance(made, ProductRef) else made.data


def test_a_dark_is_not_made_from_bytes_unknown_to_the_store(
    look: Look, workspace: Workspace, raw: list[Path]
) -> None:
    seen = look(raw)
    replaced(raw[1], other_pixels(raw[1].read_bytes()))
    with pytest.raises(FrameError, match=rf"{raw[1].name}: .*{raw[1].name} holds other bytes") as caught:
        dark_of(seen, workspace)
    assert "Run the reduction again" in caught.value.remedy
    assert workspace.store().products() == ()
    # The remedy works: the file is used with its new content, in LINEAGE as in PROVENANCE.
    made = dark_of(look(raw), workspace)
    assert made.output is not None
    lineage, provenance = read_table(made.output, "LINEAGE"), read_table(made.output, "PROVENANCE")
    assert lineage is not None
    assert provenance is not None
    assert [row["sha256"] for row in lineage] == [file_sha256(path) for path in raw]
    assert [row["md5"] for row in provenance] == [hashing._digests(path)[1] for path in raw]


def test_other_pixels_are_noticed_by_the_survey(look: Look, raw: list[Path]) -> None:
    """Name, size, date and header are those of the file before; the time of the last change is not."""
    before = look(raw)
    replaced(raw[1], other_pixels(raw[1].read_bytes()))
    after = look(raw)
    assert after.frames[1].sha256 == file_sha256(raw[1]) != before.frames[1].sha256
    assert [one.sha256 for one in after.frames[2:]] == [one.sha256 for one in before.frames[2:]]


def test_a_changed_header_is_noticed_by_the_survey(look: Look, workspace: Workspace, raw: list[Path]) -> None:
    before = look(raw)
    content = raw[1].read_bytes()
    replaced(raw[1], content.replace(b"'label-000001'", b"'label-000091'"))
    after = look(raw)
    assert after.frames[1].sha256 == file_sha256(raw[1]) != before.frames[1].sha256
    (known,) = workspace.store().frames.with_sha256s([before.frames[1].sha256]).values()
    assert known.facts == before.frames[1].facts


def test_a_file_that_is_replaced_while_it_is_read_is_refused(
    look: Look, workspace: Workspace, raw: list[Path]
) -> None:
    (frame, *_) = look(raw).frames
    content = raw[0].read_bytes()
    with hashed([frame], workspace) as md5_sums:
        assert len(md5_sums()[0]) == 32
        replaced(raw[0], other_pixels(content))
        with pytest.raises(FrameError, match="holds other bytes"):
            md5_sums()


def test_an_untouched_file_is_hashed_once_per_process(
    look: Look, workspace: Workspace, raw: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    original = hashing._digests

    def digests(path: Path) -> tuple[str, str]:
        read.append(path.name)
        return original(path)

    monkeypatch.setattr(hashing, "_digests", digests)
    packed = raw[0].with_name("S20131121S0009.fits.bz2")
    packed.write_bytes(bz2.compress(raw_bytes(9)))
    frames = look([*raw, packed]).frames
    for _ in range(3):
        with hashed(frames, workspace) as md5_sums:
            assert len(md5_sums()) == 5
    assert len(read) == 5
    raw[2].chmod(0o444)
    with hashed(frames, workspace) as md5_sums:
        md5_sums()
    assert read[5:] == [raw[2].name]


def test_no_plane_is_kept_of_another_frames_pixels(look: Look, workspace: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "S20131121S0075.fits"
    path.write_bytes(raw_bytes(1, SCIENCE))
    (frame,) = look([path]).frames
    replaced(path, other_pixels(path.read_bytes()))
    everything = DetrendParameters(allow_missing=("dark", "bpm", "flat"))

    def run(of: Any) -> Any:
        return detrend_frame.fn(of, Calibrations(), PrepareParameters(), everything, workspace)

    with pytest.raises(FrameError, match="holds other bytes"):
        run(frame)
    assert not workspace.scratch.exists() or not any(workspace.scratch.iterdir())
    (frame,) = look([path]).frames
    made = run(frame)
    assert not made.reused
    assert made.frame.sha256 == file_sha256(path)
