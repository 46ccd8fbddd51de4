"""Raw frames: opened and checked once, read in bands of rows, refused with name and reason."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from astropy.io.fits import Header
from numpy.typing import NDArray

from imaging.errors import FrameError
from imaging.frames.facts import FrameFacts, facts_from_headers, plain_name
from imaging.instruments.detector import WantedShape, wanted_shape
from imaging.io.announced import check_tile_headers
from imaging.io.compressed import compression, open_stream, reading, unpacked_descriptor
from imaging.io.compressed import digest as digest
from imaging.io.compressed import unpack as unpack
from imaging.io.fitsfile import BLOCK, FitsFile, Hdu, image_shape, leading_headers
from imaging.io.limits import open_regular, opened
from imaging.pixels.bands import bands

#: Exceptions that a parser may raise for a file with false headers that no check here anticipates. Only for
#: code that examines many files and continues with the next: the file is left out with the exception's
#: message.
UNFORESEEN = (ValueError, TypeError, OverflowError, LookupError)
#: Bytes at the start of a compressed file, many times more than the headers of a raw frame need.
_HEADER_BYTES = 64 * BLOCK
_BAND = 256


class RawFile:
    """One raw frame, open for reading by rows; threads may share it. Created by `open_raw`.

    Attributes
    ----------
    path
        The file.
    facts
        Facts of the frame.
    primary, extension
        Headers of the primary HDU and of the image (the same one if the primary HDU contains the pixels).
    shape
        Rows and columns.
    """

    def __init__(
        self, path: Path, file: FitsFile, image: Hdu, facts: FrameFacts, sha256: str | None = None
    ) -> None:
        self.path = path
        self.facts = facts
        self.primary: Header = file.hdus[0].header
        self.extension: Header = image.header
        self.shape: tuple[int, int] = (image.shape[0], image.shape[1])
        self._file, self._image, self._known = file, image, sha256

    def __repr__(self) -> str:
        return f"RawFile({str(self.path)!r})"

    @property
    def name(self) -> str:
        """File name without a compression suffix."""
        return self.facts.name

    def rows(self, rows: slice | None = None) -> NDArray[Any]:
        """Return rows (default: all) as a new contiguous array in ADU, shape (n_rows, nx).

        The type is the stored one (int16, uint16, int32 or float32) in native byte order.
        """
        return self._file.rows(self._image, rows)

    @cached_property
    def sha256(self) -> str:
        """Return the sha256 of the uncompressed bytes: the identity of the frame."""
        if self._known:
            return self._known
        total, offset = hashlib.sha256(), 0
        buffer = memoryview(bytearray(1 << 20))
        while n := self._file.read_into(buffer, offset):
            total.update(buffer[:n])
            offset += n
        return total.hexdigest()

    def close(self) -> None:
        """Close the file, at the latest together with the object."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_raw(
    path: Path,
    *,
    name: str | None = None,
    shape: WantedShape = "detector",
    sha256: str | None = None,
) -> RawFile:
    """Open a file and check that it is a raw frame.

    Parameters
    ----------
    path
        The file. A compressed file is unpacked to a temporary file, removed with the `RawFile`; use `unpack`
        first to keep it.
    name
        The frame's name, if the file has another one (an unpacked file is named by its sha256).
    shape
        Required rows and columns of the image, or those of the instrument's detector; None accepts any, for
        small frames in tests.
    sha256
        The identity, if the caller knows it; otherwise it is computed when needed.

    Returns
    -------
    RawFile
        The open frame. Its pixels have not been checked: see `check_pixels`.

    Raises
    ------
    FrameError
        If the file is missing, unreadable, empty, damaged, truncated or not FITS; is of another instrument or
        a product; lacks a keyword; or has no image, several images, or one of another shape.
    """
    name = plain_name(name or path.name)
    with reading(path):
        descriptor = unpacked_descriptor(path) if compression(path) else open_regular(path)
        file = FitsFile(descriptor, name, None if compression(path) else path)
    try:
        images = [hdu for hdu in file.hdus if hdu.is_image]
        facts = facts_from_headers(
            file.hdus[0].header, images[0].header if images else None, name=name
        )  # fmt: skip
        if facts.processed:
            raise FrameError(
                name, f"a processed {facts.product_kind or 'frame'}, not a raw frame",
                remedy="Provide it as a calibration (--use, or nirflow cal add).",
            )  # fmt: skip
        image = _only_image(name, images, wanted_shape(shape, facts.table.detector))
        return RawFile(path, file, image, facts, sha256)
    except BaseException:
        file.close()
        raise


class Layout(NamedTuple):
    """The headers of a file, without its pixels.

    Attributes
    ----------
    primary
        Primary header.
    image
        Header of the first image; None without an image.
    images
        EXTNAME of each image; for a file packed as a stream, up to the first with pixels.
    """

    primary: Header
    image: Header | None
    images: tuple[str, ...]


def read_layout(path: Path) -> Layout:
    """Read the headers of a file; if it is packed as a stream, only the start is unpacked.

    Raises
    ------
    FrameError
        If the file cannot be read. A truncated plain file is refused; only `open_raw` and `unpack` reach the
        end of a compressed one.
    """
    with reading(path):
        match compression(path):
            case ".fz":
                from astropy.io import fits

                with opened(path) as file:
                    with FitsFile(os.dup(file.fileno()), path.name) as layout:
                        check_tile_headers(layout)
                    with fits.open(file) as packed:
                        names = tuple(hdu.name for hdu in packed if hdu.is_image and hdu.header["NAXIS"])
                        image = packed[1].header.copy() if len(packed) > 1 else None
                        return Layout(packed[0].header.copy(), image, names)
            case "":
                with FitsFile(open_regular(path), path.name) as plain:
                    images = [hdu for hdu in plain.hdus if hdu.is_image]
                    names = tuple(hdu.extname for hdu in images)
                    return Layout(plain.hdus[0].header, images[0].header if images else None, names)
            case _:
                with open_stream(path) as stream:
                    headers = leading_headers(stream.read(_HEADER_BYTES), path.name)
    if not headers:
        raise FrameError(path.name, "truncated: the header has no END card", remedy="Fetch the file again.")
    return Layout(headers[0], headers[-1] if len(headers) > 1 else None, ())


def read_headers(path: Path) -> tuple[Header, Header | None]:
    """Read the primary header and that of the first image; see `read_layout`."""
    layout = read_layout(path)
    return layout.primary, layout.image


def check_pixels(raw: RawFile, *, saturated_fraction: float = 0.5) -> None:
    """Refuse a frame whose pixels contain no measurement.

    This reads only as far as necessary: an integer frame passes when its first rows differ from each other
    and the rest can no longer be saturated enough.

    Parameters
    ----------
    raw
        The frame.
    saturated_fraction
        Fraction of all pixels at or above saturation from which the frame is refused. The illuminated circle
        is 0.78 of the detector, so a saturated lamp frame is well above the default.

    Raises
    ------
    FrameError
        If pixels are not finite, all pixels have one value (a dead readout), or most are saturated.
    """
    limit = raw.facts.readout.saturation
    total = raw.shape[0] * raw.shape[1]
    saturated = seen = not_finite = 0
    value: object = None
    varied = False
    for band in bands(raw.shape[0], _BAND):
        pixels = raw.rows(band)
        seen += pixels.size
        if pixels.dtype.kind == "f":
            not_finite += int(pixels.size - np.count_nonzero(np.isfinite(pixels)))
        value = pixels.flat[0] if value is None else value
        varied = varied or bool((pixels != value).any())
        saturated += int(np.count_nonzero(pixels >= limit))
        hopeless = saturated + total - seen < saturated_fraction * total
        if pixels.dtype.kind != "f" and varied and hopeless:
            break
    if not_finite:
        raise FrameError(
            raw.name, f"{not_finite} pixels are not finite (NaN or infinite)",
            remedy="Fetch the file again, or leave it out.",
        )  # fmt: skip
    if not varied:
        raise FrameError(
            raw.name, f"all pixels have the value {value}: the detector was not read out",
            remedy="Leave the frame out.",
        )  # fmt: skip
    if saturated >= saturated_fraction * total:
        raise FrameError(
            raw.name, f"{saturated / total:.0%} of the pixels are saturated (at or above {limit} ADU)",
            remedy="Leave the frame out, or take it again with a shorter exposure.",
        )  # fmt: skip


def check_shape(header: Header, name: str, shape: tuple[int, int] | None) -> None:
    """Refuse an image without the rows and columns of a frame, from its header alone.

    Parameters
    ----------
    header
        Header of the image.
    name
        The frame's name, for the error.
    shape
        Required rows and columns of the image; None accepts any two axes.

    Raises
    ------
    FrameError
        If the shape differs, or there are no pixels.
    """
    found = image_shape(header)
    if not found:
        raise _no_image(name)
    if len(found) != 2 or (shape is not None and found != shape):
        expected = f"{shape[0]} x {shape[1]}" if shape else "rows x columns"
        raise FrameError(
            name, f"the image has the shape {' x '.join(map(str, found))}, expected {expected}",
            remedy="Leave the file out; nirflow reduces full frames.",
        )  # fmt: skip


def check_one_image(name: str, images: Sequence[str]) -> None:
    """Refuse a file with several images, listed by EXTNAME, because a raw frame has one."""
    if len(images) > 1:
        listed = ", ".join(extname or "unnamed" for extname in images)
        raise FrameError(
            name, f"{len(images)} image extensions ({listed}), but a raw frame has one",
            remedy="Leave the file out; provide a product as a calibration (--use).",
        )  # fmt: skip


def _no_image(name: str) -> FrameError:
    return FrameError(
        name, "no image extension: the file has headers but no pixels",
        remedy="Fetch the file again, or leave it out.",
    )  # fmt: skip


def _only_image(name: str, images: list[Hdu], shape: tuple[int, int] | None) -> Hdu:
    if not images:
        raise _no_image(name)
    check_one_image(name, [hdu.extname for hdu in images])
    check_shape(images[0].header, name, shape)
    return images[0]
