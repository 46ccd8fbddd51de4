"""Open files stay within the limit of the process, whatever the number of frames."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from imaging.errors import FrameError
from imaging.io import descriptors
from imaging.io.descriptors import SharedFile, raise_limit
from imaging.io.planes import PlanesWriter
from imaging.io.raw_file import open_raw
from imaging.machine import MachineError

_PROGRAM = """
import resource, sys
from contextlib import ExitStack
from pathlib import Path
import numpy as np
from imaging.io.planes import Planes, PlanesWriter
from imaging.io.raw_file import open_raw
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
folder, count = Path(sys.argv[1]), int(sys.argv[2])
with ExitStack() as stack:
    frames = [stack.enter_context(open_raw(folder / f"S{n}.fits", shape=None)) for n in range(count)]
    writers = [
        stack.enter_context(PlanesWriter(folder / f"p{n}", {"sci": ("f4", (4, 5)), "var": ("f4", (4, 5))}))
        for n in range(count)
    ]
    for band in (slice(0, 2), slice(2, 4)):
        for n, writer in enumerate(writers):
            writer.write("sci", band, np.full((2, 5), n, "f4"))
            writer.write("var", band, np.full((2, 5), -n, "f4"))
    total = sum(int(frame.rows(slice(n % 8, n % 8 + 1)).sum()) for n, frame in enumerate(frames))
    for writer in writers:
        writer.commit()
read = [float(Planes(folder / f"p{n}").rows("var").sum()) for n in range(count)]
print(total, read == [-20.0 * n for n in range(count)])
"""


@pytest.mark.parametrize("count", [380, 1000])
def test_a_group_of_any_size_is_read_and_written(
    write_raw: Callable[..., Path], tmp_path: Path, count: int
) -> None:
    path = write_raw()
    with open_raw(path, shape=None) as raw:
        expected = sum(int(raw.rows(slice(n % 8, n % 8 + 1)).sum()) for n in range(count))
    for n in range(count):
        shutil.copyfile(path, tmp_path / f"S{n}.fits")
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(tmp_path), str(count)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == [str(expected), "True"], done.stderr


@pytest.fixture
def reopened(write_raw: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> SharedFile:
    """A file that is opened for each use."""
    monkeypatch.setattr(descriptors, "_keep", lambda: False)
    path = write_raw()
    return SharedFile(os.open(path, os.O_RDONLY), "S1.fits", path)


def test_a_file_that_was_replaced_between_two_bands_is_refused(reopened: SharedFile) -> None:
    path = reopened._path
    assert path is not None
    with reopened.opened() as descriptor:
        assert os.pread(descriptor, 6, 0) == b"SIMPLE"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    other = path.with_name("other")
    shutil.copyfile(path, other)
    other.rename(path)
    with pytest.raises(FrameError, match=r"S1\.fits: it was replaced or written to"), reopened.opened():
        pass
    reopened.close()


def test_files_that_are_closed_make_room_for_others(write_raw: Callable[..., Path]) -> None:
    path = write_raw()
    before = descriptors._kept
    for _ in range(3):
        file = SharedFile(os.open(path, os.O_RDONLY), "S1.fits", path)
        assert descriptors._kept == before + 1
        file.close()
        file.close()
    assert descriptors._kept == before


@pytest.mark.parametrize(("soft", "most"), [(64, 16), (4096, 256), (resource.RLIM_INFINITY, 256)])
def test_the_number_of_files_that_stay_open_is_limited(
    write_raw: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, soft: int, most: int
) -> None:
    path = write_raw()
    monkeypatch.setattr(descriptors, "_kept", 0)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, soft))
    files = [SharedFile(os.open(path, os.O_RDONLY), "S1.fits", path) for _ in range(most + 5)]
    assert descriptors._kept == most
    for file in files:
        file.close()
    text = (Path(__file__).parents[3] / "docs" / "operations.md").read_text()
    assert f"at most {descriptors._MOST} are open" in text


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ((256, 256), []),
        ((256, 1000), [(1000, 1000)]),
        ((1024, 10**6), [(4096, 10**6)]),
        ((8192, 10**6), []),
        ((64, resource.RLIM_INFINITY), [(4096, resource.RLIM_INFINITY)]),
    ],
)
def test_the_soft_limit_is_raised_and_never_lowered(
    monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int], expected: list[tuple[int, int]]
) -> None:
    changes: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, new: changes.append(new))
    raise_limit()
    assert changes == expected


def test_planes_on_a_full_disk_name_folder_and_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, os.strerror(28))

    with PlanesWriter(tmp_path / "planes", {"sci": ("f4", (4, 5))}) as writer:
        monkeypatch.setattr(os, "pwrite", full)
        with pytest.raises(
            MachineError, match=r"planes could not be written: No space left on device \(80 bytes n"
        ):
            writer.write("sci", slice(0, 4), np.zeros((4, 5), "f4"))
    assert list(tmp_path.iterdir()) == []
