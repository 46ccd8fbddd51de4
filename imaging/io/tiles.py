"""A tile-compressed file, unpacked by a separate process (`imaging.io.tile_decoder`), which may crash."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from imaging.errors import FrameError
from imaging.io.announced import check_tiles, unpacked_header
from imaging.io.cards import is_valid, valid_bytes
from imaging.io.data_cards import blank_note
from imaging.io.fitsfile import LONGEST_HEADERS, FitsFile
from imaging.io.tile_decoder import UNWRITTEN

_PROGRAM: Final = Path(__file__).with_name("tile_decoder.py")
#: Memory of the decoder, bytes: a constant, and a factor for each byte of the packed and unpacked file.
_MEMORY, _MEMORY_A_BYTE = 1 << 30, 6
#: Its processor time, s, the bytes for each further second, and the allowance for waiting for the processor.
_SECONDS, _BYTES_A_SECOND, _WAITING = 30, 1_000_000, 10
#: Environment variables needed to find Python and its packages.
_KEPT: Final = ("HOME", "LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONUSERBASE")
_CHUNK: Final = 1 << 20
_LONGEST_COMPLAINT: Final = 10_000


class NoRoomError(OSError):
    """The unpacked file cannot be written."""


def unpack_tiles(file: io.FileIO, out: int, name: str) -> None:
    """Write a tile-compressed file as a plain one.

    Parameters
    ----------
    file
        The packed file.
    out
        Descriptor of an empty file.
    name
        File name, for errors.

    Raises
    ------
    FrameError
        If it announces more than a frame or product can have, or cannot be unpacked for any reason.
    NoRoomError
        If ``out`` cannot be written.
    """
    with FitsFile(os.dup(file.fileno()), name) as layout:
        unpacked = check_tiles(layout)
        size = unpacked + layout.size + LONGEST_HEADERS
        repaired = _repaired_headers(layout)
    file.seek(0)
    if not repaired:
        _run_decoder(file, out, name, unpacked, size)
        return
    with tempfile.TemporaryFile(buffering=0) as copy:
        assert isinstance(copy, io.FileIO)
        shutil.copyfileobj(file, copy, _CHUNK)
        for offset, header in repaired.items():
            os.pwrite(copy.fileno(), header, offset)
        copy.seek(0)
        _run_decoder(copy, out, name, unpacked, size)


def _repaired_headers(layout: FitsFile) -> dict[int, bytes]:
    """Return the headers that astropy may not be able to read, by their offsets, with valid cards only."""
    found = {}
    for hdu in layout.hdus:
        undefined = blank_note(unpacked_header(hdu.header)) != ""
        if undefined or not is_valid(hdu.header):
            header = hdu.header.copy()
            if undefined:
                del header["BLANK"]
            found[hdu.header_at] = valid_bytes(header, hdu.data_at - hdu.header_at)
    return found


def _run_decoder(file: io.FileIO, out: int, name: str, unpacked: int, size: int) -> None:
    seconds = _SECONDS + size // _BYTES_A_SECOND
    limits = (_MEMORY + _MEMORY_A_BYTE * size, seconds, size)
    # A file in memory, limited like the output; a pipe would have to be read concurrently.
    with io.FileIO(os.memfd_create("complaint"), "r+") as complaint:
        try:
            code = subprocess.run(
                [sys.executable, "-P", str(_PROGRAM), *map(str, limits)], stdin=file, stdout=out, stderr=complaint,
                env=_environment(), cwd="/", timeout=_WAITING * seconds, check=False, start_new_session=True,
            ).returncode  # fmt: skip
        except subprocess.TimeoutExpired:
            code = -signal.SIGXCPU
        complaint.seek(0)
        message = complaint.read(_LONGEST_COMPLAINT).decode(errors="replace").strip()
    if code == UNWRITTEN:
        raise NoRoomError(0, message)
    if code != 0:
        raise FrameError(
            name,
            f"cannot be unpacked: {_reason(code, message)}",
            remedy="Fetch the file again or leave it out.",
        )


def _reason(code: int, message: str) -> str:
    if code == -signal.SIGXCPU:
        return "it takes far more time than its size explains"
    if code < 0:
        return f"its tiles are damaged (the decoder was ended by {signal.Signals(-code).name})"
    return message.splitlines()[-1].rstrip(".")[:200] if message else f"the decoder ended with {code}"


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    if paths := os.environ.get("PYTHONPATH"):
        kept["PYTHONPATH"] = os.pathsep.join(
            str(Path(path).absolute()) for path in paths.split(os.pathsep) if path
        )
    # A single thread, because each thread reserves memory.
    return kept | {"PYTHONSAFEPATH": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
