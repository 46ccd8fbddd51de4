"""What a file contains that should be FITS and is not: archives, further compressions, pages of web servers."""

from __future__ import annotations

from typing import Final

from imaging.errors import FrameError

#: What a file is that does not begin like FITS: bytes at an offset, its name, and what to do.
_OTHER_CONTENT: Final = (
    (0, b"PK\x03\x04", "a zip archive", "Unpack it: unzip"),
    (0, b"\x28\xb5\x2f\xfd", "a file compressed by zstd", "Unpack it: unzstd"),
    (0, b"\x1f\x9d", "a file compressed by compress", "Unpack it: uncompress"),
    (0, b"\x04\x22\x4d\x18", "a file compressed by lz4", "Unpack it: unlz4"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-zip archive", "Unpack it: 7z x"),
    (0, b"Rar!", "a RAR archive", "Unpack it: unrar x"),
    (257, b"ustar", "a tar archive", "Unpack it: tar xf"),
    (0, b"\x1f\x8b", "compressed by gzip a second time", "Unpack it: gunzip"),
    (0, b"BZh", "compressed by bzip2 a second time", "Unpack it: bunzip2"),
    (0, b"\xfd7zXZ", "compressed by xz a second time", "Unpack it: unxz"),
    (0, b"\x89HDF", "an HDF5 file", "Leave the file out."),
    (0, b"/annex/objects/", "a pointer of git-annex without its content", "Fetch it: git annex get"),
    (0, b"version https://git-lfs", "a pointer of Git LFS without its content", "Fetch it: git lfs pull"),
    (0, b"<", "a page of a web server", "Fetch the file again."),
)


def refuse_other_content(raw: bytes, name: str) -> None:
    """Refuse a file by its first bytes if they show what it is; return otherwise.

    Raises
    ------
    FrameError
        With what the file is, and how to get FITS from it.
    """
    for at, start, what, remedy in _OTHER_CONTENT:
        if raw[at:].startswith(start):
            remedy = f"{remedy} {name}" if remedy[-1] != "." else remedy
            raise FrameError(name, f"not a FITS file but {what}", remedy=remedy)
    if not raw.strip(b"\0"):
        raise FrameError(
            name, "not a FITS file: it begins with zeros, as a file whose copy was interrupted does",
            remedy="Fetch the file again.",
        )  # fmt: skip
