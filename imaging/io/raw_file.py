"""Raw frames: opened and checked once, read in bands of rows, refused with name and reason."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

from numpy.typing import NDArray

from imaging.errors import FrameError
from imaging.frames.facts import FrameFacts, facts_from_headers
from imaging.frames.file_names import plain_name
from imaging.frames.find_files import CheckParameters
from imaging.frames.pixel_state import PixelState
from imaging.header import Header
from imaging.instruments.detector import WantedShape, wanted_shapes
from imaging.io.announced import check_tile_headers, unpacked_header
from imaging.io.assembly.assembled import AssembledPixels
from imaging.io.assembly.parts import n_arrays, parts_of
from imaging.io.compressed import compression, open_stream, reading, unpacked_descriptor
from imaging.io.compressed import digest as digest
from imaging.io.compressed import unpack as unpack
from imaging.io.data_cards import blank_note, image_shape
from imaging.io.data_sums import checksum_problem
from imaging.io.fitsfile import BLOCK, FitsFile, Hdu, holds_image, leading_headers
from imaging.io.limits import open_regular
from imaging.pixels.raw_pixels import Measured, measure
from imaging.pixels.wcs import with_valid_wcs

#: Exceptions that a parser may raise for a file with false headers that no check here anticipates. Only for
#: code that examines many files and continues with the next: the file is left out with the exception's
#: message.
UNFORESEEN = (ValueError, TypeError, OverflowError, LookupError)
#: Bytes at the start of a compressed file, many times more than the headers of a raw frame need.
_HEADER_BYTES = 64 * BLOCK


class RawFile:
    """One raw frame, open for reading by rows; threads may share it. Created by `open_raw`.

    Attributes
    ----------
    path
        The file.
    facts
        Facts of the frame.
    primary, extension
        Headers of the primary HDU and of the image (the same one if the primary HDU contains the pixels). The
        world coordinates of the image are valid or missing (`imaging.pixels.wcs.with_valid_wcs`).
    shape
        Rows and columns.
    """

    def __init__(
        self, path: Path, file: FitsFile, image: Hdu, facts: FrameFacts, sha256: str | None = None,
        assembled: AssembledPixels | None = None,
    ) -> None:  # fmt: skip
        self.path = path
        self.facts = facts
        self.primary: Header = file.hdus[0].header
        self.extension: Header = image.header
        self.shape: tuple[int, int] = (image.shape[0], image.shape[1])
        self._file, self._image, self._known, self._assembled = file, image, sha256, assembled

    def __repr__(self) -> str:
        return f"RawFile({str(self.path)!r})"

    @property
    def name(self) -> str:
        """File name without a compression suffix."""
        return self.facts.name

    def rows(self, rows: slice | None = None) -> NDArray[Any]:
        """Return rows (default: all) as a new contiguous array in ADU, shape (n_rows, nx).

        The type is the stored one (int16, uint16, int32 or float32) in native byte order; float32 for a frame that is
        assembled from regions, without data (NaN) in gaps.
        """
        if self._assembled is not None:
            return self._assembled.rows(rows)
        return self._file.rows(self._image, rows)

    @property
    def blank(self) -> int | None:
        """Value of stored pixels without a measurement (BLANK); None if it is missing or no value of the pixels."""
        return self._image.blank

    def checksum_problem(self) -> str:
        """Return which checksums in the headers disagree with the bytes; empty if none."""
        return checksum_problem(self._file)

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
        if self._assembled is not None:
            self._assembled.close()
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
        primary = file.hdus[0].header
        stored = images = [hdu for hdu in file.hdus if hdu.is_image]
        parts = parts_of(name, primary, [hdu.header for hdu in stored])
        if parts is not None:
            images = [replace(stored[parts.images[0]], header=parts.header)]
        images[:1] = [replace(hdu, header=_checked(hdu.header, primary)) for hdu in images[:1]]
        facts = facts_from_headers(primary, images[0].header if images else None, name=name)
        if facts.processed:
            raise FrameError(
                name, f"a processed {facts.product_kind or 'frame'}, not a raw frame",
                remedy="Provide it as a calibration (--use, or nirflow cal add).",
            )  # fmt: skip
        image = _only_image(name, images, wanted_shapes(shape, facts.table.detector))
        if parts is None:
            return RawFile(path, file, image, facts, sha256)
        detector, of_arrays = facts.table.detector, [stored[k] for k in parts.images]
        pixels = AssembledPixels(
            file, of_arrays, parts.arrays, detector.overscan, detector.shape, facts.readout
        )
        return RawFile(path, file, image, facts, sha256, pixels)
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
        Header of the first image, whose world coordinates are valid or missing; None without an image.
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
                with FitsFile(open_regular(path), path.name) as packed:
                    check_tile_headers(packed)
                    found = [unpacked_header(hdu.header) for hdu in packed.hdus]
                pictures = [one for one in found if holds_image(one) and image_shape(one)]
                return _layout(path.name, found[0], pictures)
            case "":
                with FitsFile(open_regular(path), path.name) as plain:
                    return _layout_of(plain)
            case _:
                with open_stream(path) as stream:
                    headers = leading_headers(stream.read(_HEADER_BYTES), path.name)
    if not headers:
        raise FrameError(path.name, "truncated: the header has no END card", remedy="Fetch the file again.")
    if n_arrays(headers[0]) > 1:  # the header of the frame may be that of any of the images
        with FitsFile(unpacked_descriptor(path), path.name) as unpacked:
            return _layout_of(unpacked)
    images = headers[1:][-1:] or [one for one in headers if image_shape(one)]
    return _layout(path.name, headers[0], images)._replace(images=())


def _layout_of(file: FitsFile) -> Layout:
    return _layout(file.name, file.hdus[0].header, [hdu.header for hdu in file.hdus if hdu.is_image])


def _layout(name: str, primary: Header, images: Sequence[Header]) -> Layout:
    parts = parts_of(plain_name(name), primary, images)
    images = images if parts is None else [parts.header]
    names = tuple(str(header.get("EXTNAME", "")).strip() for header in images)
    return Layout(primary, _checked(images[0], primary) if images else None, names)


def _checked(image: Header, primary: Header) -> Header:
    """Return the header of an image with valid world coordinates, or none, and notes about what was changed."""
    found = with_valid_wcs(image, primary)
    note = blank_note(found)
    return found.noting(note) if note else found


def read_headers(path: Path) -> tuple[Header, Header | None]:
    """Read the primary header and that of the first image; see `read_layout`."""
    layout = read_layout(path)
    return layout.primary, layout.image


def check_pixels(raw: RawFile, check: CheckParameters | None = None) -> PixelState:
    """Read and measure all pixels of a frame, and refuse one whose pixels are no measurement.

    Parameters
    ----------
    raw
        The frame.
    check
        Limits; see `CheckParameters`. The illuminated circle is 0.78 of the detector, so a saturated lamp frame is
        well above the default.

    Returns
    -------
    PixelState
        The figures of the pixels. Those without data are flagged when the frame is prepared.

    Raises
    ------
    FrameError
        If all pixels have one value (a dead readout), too many have no data or are saturated, the bytes of the values
        are swapped, or all values are off by 32768.
    """
    found = measured(raw)
    check_fractions(raw.name, found.state, raw.facts.readout.saturation, check or CheckParameters())
    return found.state


def measured(raw: RawFile) -> Measured:
    """Read and measure all pixels of a frame, and refuse one whose values are no measurement at all.

    Raises
    ------
    FrameError
        If all pixels have one value, the bytes of the values are swapped, or all values are off by 32768.
    """
    facts = raw.facts
    found = measure(raw.rows, raw.shape, facts.readout, facts.table.detector.persistence)
    state = found.state
    if found.one_value is not None:
        raise FrameError(
            raw.name, f"all pixels have the value {found.one_value:g}: the detector was not read out",
            remedy="Leave the frame out.",
        )  # fmt: skip
    if found.swapped:
        raise FrameError(
            raw.name, "the bytes of its values are in the wrong order: neighbouring pixels agree only after swapping",
            remedy="Write the file again as FITS, which stores the most significant byte first.",
        )  # fmt: skip
    if found.offset:
        raise FrameError(
            raw.name, f"all values are {abs(found.offset)} ADU too {'high' if found.offset > 0 else 'low'} (median "
            f"{state.level:.0f} ADU, scatter {state.noise:.1f} ADU): BZERO is wrong",
            remedy="Correct BZERO in the header of the image, or fetch the file again.",
        )  # fmt: skip
    return found


def check_fractions(name: str, state: PixelState, saturation: int, check: CheckParameters) -> None:
    """Refuse a frame with too many pixels without data or saturated.

    Raises
    ------
    FrameError
        With the fraction.
    """
    if state.no_data >= check.no_data_fraction:
        raise FrameError(
            name, f"{state.no_data:.0%} of the pixels have no data (undefined, unread or impossible values)",
            remedy="Fetch the file again, leave it out, or raise check.no_data_fraction.",
        )  # fmt: skip
    if state.saturated >= check.saturated_fraction:
        raise FrameError(
            name, f"{state.saturated:.0%} of the pixels are saturated (at or above {saturation} ADU)",
            remedy="Leave the frame out, or take it again with a shorter exposure.",
        )  # fmt: skip


def check_shape(header: Header, name: str, shapes: Sequence[tuple[int, int]] | None) -> None:
    """Refuse an image without the rows and columns of a frame, from its header alone.

    Parameters
    ----------
    header
        Header of the image.
    name
        The frame's name, for the error.
    shapes
        Rows and columns that the image may have; None accepts any two axes.

    Raises
    ------
    FrameError
        If the shape differs, or there are no pixels.
    """
    found = image_shape(header)
    if not found:
        raise _no_image(name)
    shape = " x ".join(map(str, found))
    expected = " or ".join(f"{rows} x {columns}" for rows, columns in shapes or ()) or "rows x columns"
    if len(found) != 2:
        raise FrameError(
            name,
            f"the image has the shape {shape}, expected {expected}",
            remedy="Leave the file out; nirflow reduces images of two axes.",
        )
    if shapes is not None and found not in shapes:
        raise FrameError(
            name, f"the image has the shape {shape}, expected {expected} (check.shape)",
            remedy="Leave the file out, or accept its size: nirflow reduce --set check.shape=none; for watched folders "
            f"[watch] check = {{shape = {list(found)}}} in nirflow.toml.",
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


def _only_image(name: str, images: list[Hdu], shapes: Sequence[tuple[int, int]] | None) -> Hdu:
    if not images:
        raise _no_image(name)
    check_one_image(name, [hdu.extname for hdu in images])
    check_shape(images[0].header, name, shapes)
    return images[0]
