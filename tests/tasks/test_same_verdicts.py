"""`inspect` and `reduce` agree on every file: odd files of all kinds, and real frames of another camera."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from imaging.frames.find_files import CheckParameters
from imaging.io.examine import PIXELS, REST, Examination, examine
from nirflow.survey import survey
from tasks.support.references import Survey
from tasks.support.workspace import Workspace
from tasks.survey import survey_frames

#: Large enough for the end to be far from the headers, even in a compressed stream.
SHAPE = (256, 256)
CARDS: dict[str, Any] = {
    "INSTRUME": "F2", "OBJECT": "FIELD", "OBSTYPE": "OBJECT", "OBSCLASS": "science", "EXPTIME": 120.0, "COADDS": 1,
    "LNRS": 8, "NREADS": 8, "FILTER2": "Y_G0811", "DATE-OBS": "2013-11-21", "UTSTART": "02:52:48",
}  # fmt: skip
PIXEL_VALUES = np.arange(SHAPE[0] * SHAPE[1], dtype=np.int32).reshape(SHAPE)
LABELLED = {"DATALAB": "GS-2013B-Q-1-1-001"}
PACKERS: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".bz2": bz2.compress}
#: Frames of a camera without a table, as delivered by its archive: padding behind END, no UTSTART.
FOREIGN_CARDS: dict[str, Any] = {
    "INSTRUME": "NIRC2", "ITIME": 0.5, "COADDS": 10, "DATE-OBS": "2006-04-01", "FILTER": "Kp",
}  # fmt: skip


def write(path: Path, pixels: Any = PIXEL_VALUES, drop: str = "", more: int = 0, **cards: Any) -> Path:
    """Write a small science frame with other cards, without one, or with more images; pixels follow the name."""
    if pixels is PIXEL_VALUES:
        digest = zlib.crc32(os.fsencode(path.parent.name + path.name))
        pixels = PIXEL_VALUES + digest % 10_000
        pixels[0, 0] += digest // 10_000 % 10_000
    header = fits.Header(
        list((CARDS | {"DATALAB": path.name.encode("ascii", "replace").decode()} | cards).items())
    )
    if drop and drop in header:
        del header[drop]
    images = [fits.ImageHDU(pixels, name="SCI" if more else None) for _ in range(1 + more)]
    fits.HDUList([fits.PrimaryHDU(header=header), *(images if pixels is not None else [])]).writeto(path)
    return path


def pack(path: Path, suffix: str, *, cut: int = 0) -> Path:
    """Replace a file by its compressed copy, truncated by some bytes."""
    packed = path.with_name(path.name + suffix)
    content = PACKERS[suffix](path.read_bytes())
    packed.write_bytes(content[: len(content) - cut])
    path.unlink()
    return packed


def garbled(path: Path, keyword: str, value: str) -> Path:
    """Give a card a value that is not FITS."""
    content = path.read_bytes()
    at = content.index(f"{keyword:8}= ".encode())
    path.write_bytes(content[:at] + f"{keyword:8}= {value}".ljust(80).encode() + content[at + 80 :])
    return path


def with_card(path: Path, keyword: str, value: str, *, after: bytes) -> Path:
    """Insert a card of any bytes after the first card of a header, which gets another block if it is full."""
    content = path.read_bytes()
    first = content.index(after)
    end = content.index(b"END" + b" " * 77, first) + 80
    data = first + -(-(end - first) // 2880) * 2880
    card = f"{keyword:8}{value}".encode("latin-1").ljust(80)
    header = content[first : first + 80] + card + content[first + 80 : end]
    path.write_bytes(content[:first] + header.ljust(-(-len(header) // 2880) * 2880) + content[data:])
    return path


#: Cards that no step needs, or whose meaning is clear.
ODD_CARDS: dict[str, str] = {
    "AIRMASS": "= nan", "AIR2": "= 1,05", "NUL": "= 'a\0b'", "TAB": "= 'a\tb'", "TARGET": "= 'Barnard's star'",
    "HIERARCH": " ESO x y = 1,5", "lower": "= 1", "NOEQUALS": " 'text'", "CONTINUE": "  'of nothing'", "AMP": "= 'a&'",
    "CRVAL1": "= 63,4890", "PV1_1": "= 0,15", "CD1_1": "= -3.25e-55", "CTYPE1": "= 'RA---TAN'", "RA": "= inf",
    "BINARY": "= \x80\xff\0", "BLANKS": "=", "GAIN": "= 4.44 / \xb1 0.1", "LONG": "= " + "9" * 60, "COMMENT": "\0\1\2",
    "BLANK": "= 1e99", "OBSERVER": "= Nobody", "DATASUM": "= ''", "ORIGNAME": "= T", "DATE": "= never",
    "MJD-OBS": "= 0", "TIMESYS": "= 'CLT'", "REMARK": "= 1.5 seconds", "BEHIND": "= 'text' more text",
    "CTYPE2": "= 'LINEAR'", "A_ORDER": "= 3",
}  # fmt: skip
#: Cards that a step needs and whose value is unknown.
INVALID_CARDS: dict[str, str] = {
    "EXPTIME": "= nan", "COADDS": "= inf", "LNRS": "= ****", "DATE-OBS": "= 21 November", "UTSTART": "= 99:99:99",
    "OBSTYPE": "= nan", "INSTRUME": "= nan", "FILTER2": "= ****", "GRISM": "= nan", "MOSPOS": "= inf", "DETID": "= ?",
}  # fmt: skip


def tiled(path: Path) -> Path:
    """Replace a file by its tile-compressed copy."""
    packed = path.with_name(f"{path.name}.fz")
    with fits.open(path) as hdus:
        fits.HDUList([hdus[0], fits.CompImageHDU(hdus[1].data, hdus[1].header)]).writeto(packed)
    path.unlink()
    return packed


def all_odd_cards(path: Path) -> Path:
    """Insert all odd cards into both headers of a file."""
    for keyword, value in ODD_CARDS.items():
        for first in (b"SIMPLE", b"XTENSION"):
            with_card(path, keyword, value, after=first)
    return path


def odd_files(folder: Path) -> Iterator[Path]:
    """Write files of every kind that an archive, a disk or a user's script may produce."""
    yield write(folder / "good.fits", UTSTART="01:00:00")
    yield write(folder / "corrected.fits", UTSTART="01:10:00", LNRS=6, NREADS=8)
    yield write(folder / "bytes\udcff.fits", UTSTART="01:20:00")
    for n, suffix in enumerate(PACKERS):
        yield pack(write(folder / f"packed{n}.fits", UTSTART=f"02:0{n}:00"), suffix)
        yield pack(
            write(folder / f"cut{n}.fits", PIXEL_VALUES + 1, UTSTART=f"02:1{n}:00"),
            suffix,
            cut=40,
        )
        yield pack(write(folder / f"several{n}.fits", more=1, UTSTART=f"02:2{n}:00"), suffix)
    yield tiled(write(folder / "tiled.fits", UTSTART="02:30:00"))
    # Headers
    yield write(folder / "other.fits", INSTRUME="GMOS-S")
    yield write(folder / "instrument.fits", drop="INSTRUME")
    yield write(folder / "exposure.fits", drop="EXPTIME")
    yield write(folder / "reads.fits", LNRS=5, NREADS=5)
    yield write(folder / "disagree.fits", LNRS=4, **{"DATE-OBS": "2020-01-01"})
    yield write(folder / "clock.fits", UTSTART="late")
    yield write(folder / "coadds.fits", COADDS=10**12)
    yield garbled(write(folder / "garbled.fits"), "EXPTIME", "'x 120.0")
    yield garbled(write(folder / "comma.fits", UTSTART="03:00:00", AIRMASS=1.05), "AIRMASS", "1,05")
    yield garbled(write(folder / "unused.fits", UTSTART="03:10:00", SOMETHIN=1.5), "SOMETHIN", "1,5 e")
    yield write(folder / "latin.fits", UTSTART="03:20:00", OBSERVER="Pe~a")
    content = (folder / "latin.fits").read_bytes()
    (folder / "latin.fits").write_bytes(content.replace(b"Pe~a", b"Pe\xf1a"))
    for n, (card, text) in enumerate(ODD_CARDS.items()):
        for where in ("head", "image"):
            path = write(
                folder / f"odd{n}{where}.fits", UTSTART=f"10:{n:02}:{'00' if where == 'head' else '30'}"
            )
            yield with_card(path, card, text, after=b"SIMPLE" if where == "head" else b"XTENSION")
    for n, (card, text) in enumerate(INVALID_CARDS.items()):
        yield with_card(write(folder / f"invalid{n}.fits", drop=card), card, text, after=b"SIMPLE")
    yield all_odd_cards(tiled(write(folder / "odd_tiles.fits", UTSTART="03:45:00")))
    padded = write(folder / "padded_end.fits", UTSTART="03:40:00")
    padded.write_bytes(padded.read_bytes().replace(b"END" + b" " * 77, b"END" + bytes(77)))
    yield padded
    # Times
    yield write(folder / "zone.fits", **{"DATE-OBS": "2013-11-20T23:42:48-03:00", "UTSTART": "02:42:48"})
    yield write(folder / "midnight.fits", **{"DATE-OBS": "2013-11-21T00:00:00", "UTSTART": "02:43:48"})
    yield write(folder / "leap.fits", UTSTART="02:44:60")
    yield write(folder / "S20131121S0090.fits", **{"DATE-OBS": "2013-11-20", "UTSTART": "02:45:48"})
    yield write(folder / "S20131121S0091.fits", **{"DATE-OBS": "21/11/13", "UTSTART": "02:46:48"})
    yield write(
        folder / "S20131121S0092.fits",
        **{"DATE-OBS": "1970-01-01", "MJD-OBS": 56617.1, "UTSTART": "02:47:48"},
    )
    yield write(
        folder / "tai.fits", **{"TIMESYS": "TAI", "DATE-OBS": "2013-11-21T02:49:23", "UTSTART": "02:48:48"}
    )
    # Structure
    for n, (old, new) in enumerate(
        {b"END" + b" " * 77: b"END     junk".ljust(80), b"'IMAGE   ' ": b"'image   ' ",
         b"'IMAGE   '  ": b"'IUEIMAGE'  ",
         b"'IMAGE   '           / Image extension": b"'IMAGE   '             Image extension"}.items()
    ):  # fmt: skip
        path = write(folder / f"structure{n}.fits", UTSTART=f"02:50:{10 * n:02}")
        content = path.read_bytes()
        assert old in content
        path.write_bytes(content.replace(old, new, 1))
        yield path
    # Checksums
    with fits.open(write(folder / "unsummed.fits", UTSTART="03:50:00")) as hdus:
        hdus.writeto(folder / "summed.fits", checksum=True)
    (folder / "unsummed.fits").unlink()
    content = (folder / "summed.fits").read_bytes()
    (folder / "summed.fits").write_bytes(content[:-3000] + b"\1" + content[-2999:])
    yield folder / "summed.fits"
    # Kinds of frames
    yield write(folder / "spectrum.fits", GRISM="JH_G5801")
    yield write(folder / "acquisition.fits", OBSCLASS="acq", UTSTART="04:00:00")
    yield write(folder / "failed.fits", RAWGEMQA="BAD", UTSTART="04:10:00")
    yield write(
        folder / "dead_acquisition.fits", np.full(SHAPE, 7, np.int32), OBSCLASS="acq", UTSTART="04:20:00"
    )
    yield write(folder / "offset_dark.fits", OBSTYPE="DARK", POFFSET="x", UTSTART="04:30:00")
    yield write(folder / "product.fits", PROCDARK="2026-01-01T00:00:00", more=2)
    yield write(folder / "bare_product.fits", drop="EXPTIME", PROCDARK="2026-01-01T00:00:00")
    yield write(folder / "prepared.fits", PREPARE="2026-01-01T00:00:00")
    # Images
    yield write(folder / "headers_only.fits", None)
    yield write(folder / "several.fits", more=1)
    yield write(folder / "small.fits", PIXEL_VALUES[:20])
    yield write(folder / "cube.fits", np.stack([PIXEL_VALUES] * 3))
    yield write(folder / "one_plane.fits", PIXEL_VALUES[None] + 2, UTSTART="05:00:00")
    primary = fits.PrimaryHDU(PIXEL_VALUES + 3, fits.Header(list((CARDS | {"UTSTART": "05:10:00"}).items())))
    primary.writeto(folder / "primary.fits")
    yield folder / "primary.fits"
    # Pixels
    yield write(folder / "dead.fits", np.full(SHAPE, 7, np.int32), UTSTART="06:00:00")
    yield write(folder / "saturated.fits", PIXEL_VALUES + 10_000_000, UTSTART="06:10:00")
    yield write(folder / "nan.fits", np.full(SHAPE, np.nan, np.float32), UTSTART="06:20:00")
    # Files
    yield (empty := folder / "empty.fits")
    empty.touch()
    yield (text := folder / "text.fits")
    text.write_text("hello " * 1000)
    yield (not_packed := folder / "not_packed.fits.gz")
    not_packed.write_bytes(text.read_bytes())
    piece = write(folder / "piece.fits", UTSTART="07:00:00")
    piece.write_bytes(piece.read_bytes()[:9000])
    yield piece
    no_padding = write(folder / "no_padding.fits", UTSTART="07:10:00")
    no_padding.write_bytes(no_padding.read_bytes()[:-10])
    yield no_padding
    behind = write(folder / "block_behind.fits", UTSTART="07:20:00")
    behind.write_bytes(behind.read_bytes() + bytes(2880))
    yield behind
    yield (pipe := folder / "pipe.fits")
    os.mkfifo(pipe)
    yield folder / "missing.fits"
    yield from named_wrongly(folder)
    yield from with_odd_pixels(folder)
    # One exposure or one name in several files
    first = write(folder / "S20131121S0075.fits", PIXEL_VALUES + 5, **LABELLED)
    yield first
    yield write(folder / "S20131121S0075_fixhead.fits", PIXEL_VALUES + 5, OBSERVER="corrected", **LABELLED)
    (folder / "below").mkdir()
    yield write(folder / "below" / "S20131121S0075.fits", OBSERVER="somebody", **LABELLED)
    (folder / "copy.fits").write_bytes(first.read_bytes())
    yield folder / "copy.fits"
    complete = write(folder / "S20131121S0080.fits", UTSTART="08:00:00")
    yield complete
    packed = complete.with_name("S20131121S0080.fits.gz")
    packed.write_bytes(gzip.compress(complete.read_bytes()))
    yield packed
    yield write(folder / "S20131121S0081.fits", UTSTART="08:10:00", DATALAB="one", RAWGEMQA="USABLE")
    yield write(folder / "S20131121S0081_bad.fits", UTSTART="08:10:00", DATALAB="one", RAWGEMQA="BAD")
    yield write(folder / "below" / "good.fits", UTSTART="09:00:00")
    # Another camera
    yield fits_of_another_camera(folder / "nirc2.fits")


def named_wrongly(folder: Path) -> Iterator[Path]:
    """Write files whose names do not describe their content, and links."""
    for n, name in enumerate(("upper.FITS", "short.fit", "old.fts")):
        yield write(folder / name, UTSTART=f"10:0{n}:00")
    for n, (name, packed) in enumerate(
        {"x.fits.xz": lzma.compress, "upper.fits.GZ": gzip.compress, "gzip.fits": gzip.compress,
         "bzip.fits": bz2.compress, "plain.fits.gz": bytes, "plain.fits.fz": bytes}.items()
    ):  # fmt: skip
        path = write(folder / "tmp.fits", PIXEL_VALUES + 20 + n, UTSTART=f"10:1{n}:00")
        (folder / name).write_bytes(packed(path.read_bytes()))
        path.unlink()
        yield folder / name
    noise = np.random.default_rng(4).normal(4000, 60, SHAPE).astype(np.int32)
    cut = write(folder / "tmp.fits", noise, UTSTART="10:19:00").rename(folder / "cut.fits.xz")
    cut.write_bytes(lzma.compress(cut.read_bytes())[:-40])
    yield cut
    annex = folder / ".annex"
    annex.mkdir()
    for n, pack_ in enumerate((bytes, gzip.compress, lzma.compress)):
        path = write(folder / "tmp.fits", PIXEL_VALUES + 30 + n, UTSTART=f"10:2{n}:00")
        (annex / f"blob{n}").write_bytes(pack_(path.read_bytes()))
        path.unlink()
        yield (link := folder / f"linked{n}.fits")
        link.symlink_to(Path(".annex") / f"blob{n}")
    yield (broken := folder / "broken.fits")
    broken.symlink_to(".annex/gone")
    yield (loop := folder / "loop.fits")
    loop.symlink_to("loop.fits")
    with zipfile.ZipFile(folder / "zipped.fits", "w") as archive:
        archive.writestr("a.fits", "x")
    yield folder / "zipped.fits"
    yield (zeros := folder / "zeros.fits")
    zeros.write_bytes(bytes(28800))
    yield (folder / "folder.fits")
    (folder / "folder.fits").mkdir()


def with_odd_pixels(folder: Path) -> Iterator[Path]:
    """Write frames with pixels that are no measurement, in part or all."""
    noise = np.random.default_rng(3).normal(4000, 60, SHAPE).astype(np.int32)
    yield write(folder / "again1.fits", noise + 1, EXPTIME=60.0, UTSTART="11:00:00")
    yield write(folder / "again2.fits", noise + 1, EXPTIME=60.0, UTSTART="11:01:00")
    blank = noise + 2
    blank[:20, :20] = -(2**31)
    path = write(folder / "blank.fits", blank, EXPTIME=60.0, UTSTART="11:02:00")
    fits.setval(path, "BLANK", value=-(2**31), ext=1)
    yield path
    for n, share in enumerate((0.3, 0.8)):
        part = noise + 3 + n
        part[: int(share * SHAPE[0])] = 0
        yield write(folder / f"unread{n}.fits", part, EXPTIME=60.0, UTSTART=f"11:0{3 + n}:00")
    yield write(folder / "swapped.fits", (noise + 5).byteswap(), EXPTIME=60.0, UTSTART="11:06:00")
    yield write(folder / "bzero.fits", noise + 6 - 32768, EXPTIME=60.0, UTSTART="11:07:00")


def fits_of_another_camera(path: Path) -> Path:
    """Write a frame as that camera does: all in the primary HDU, zeros behind END, one block behind the pixels."""
    fits.PrimaryHDU(PIXEL_VALUES, fits.Header(list(FOREIGN_CARDS.items()))).writeto(path)
    content = path.read_bytes()
    end = content.index(b"END" + b" " * 77) + 80
    head = content[:end] + bytes(-end % 2880)
    path.write_bytes(head + content[len(head) :] + bytes(2880))
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return all odd files."""
    return list(odd_files(tmp_path_factory.mktemp("odd")))


@pytest.fixture
def reduced(files: list[Path], workspace: Workspace) -> Survey:
    """Return what the survey of a reduction found."""
    return survey_frames.fn(files, "night", CheckParameters(shape=SHAPE), workspace)


@pytest.fixture(scope="module")
def inspected(files: list[Path]) -> dict[bool, list[Examination]]:
    """Return what `inspect` finds without and with pixels; the frames are small."""
    import imaging.frames.find_files as module

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CheckParameters", lambda **_: CheckParameters(shape=SHAPE))
        return {pixels: survey(files, pixels=pixels) for pixels in (False, True)}


def verdicts(seen: Survey) -> list[tuple[str, str, str]]:
    """Return name, reason and remedy of each file, reasons empty for usable ones."""
    left_out = [(one.name, one.reason, one.remedy) for one in seen.left_out]
    return sorted(
        [*left_out, *((frame.source.name.replace("\udcff", "\ufffd"), "", "") for frame in seen.frames)]
    )


def test_inspect_with_pixels_finds_what_reduce_finds(
    files: list[Path], reduced: Survey, inspected: dict[bool, list[Examination]]
) -> None:
    found = inspected[True]
    assert sorted((one.name, one.reason, one.remedy) for one in found) == verdicts(reduced)
    assert {one.path: one.facts for one in found if one.usable} == {f.source: f.facts for f in reduced.frames}
    expected = {(one.name, one.reason) for one in reduced.left_out if one.expected}
    assert {(one.name, one.reason) for one in found if one.verdict == "excluded"} == expected
    assert not any(one.unchecked for one in found)
    assert {one.verdict for one in found} == {
        "usable", "excluded", "duplicate_name", "odd_pixels", "product", "foreign", "faulty", "unreadable"
    }  # fmt: skip


def test_inspect_of_headers_differs_only_where_it_reports_unexamined_pixels(
    files: list[Path], reduced: Survey, inspected: dict[bool, list[Examination]]
) -> None:
    found = {one.path: one for one in inspected[False]}
    full = {one.path: one for one in inspected[True]}
    other = {
        path.name
        for path, one in found.items()
        if (one.verdict, one.reason) != (full[path].verdict, full[path].reason)
    }
    unseen = {
        "dead.fits", "saturated.fits", "nan.fits", "dead_acquisition.fits", "again2.fits", "unread1.fits",
        "swapped.fits", "bzero.fits",
    }  # fmt: skip
    in_the_rest = {"cut0.fits.gz", "several0.fits.gz", "several1.fits.bz2", "cut.fits.xz"}
    assert other == unseen | in_the_rest
    for path, one in found.items():
        if path.name in unseen:
            assert one.unchecked == (PIXELS,)
        elif path.name in in_the_rest:
            assert one.unchecked == (PIXELS, REST)
        if path.name in other:
            assert one.verdict in ("usable", "excluded")


def test_the_watcher_judges_each_file_as_reduce_does(
    files: list[Path], workspace: Workspace, tmp_path: Path
) -> None:
    """Relations between files are found only by the survey."""
    check = CheckParameters(shape=SHAPE)
    for path in files:
        alone = survey_frames.fn([path], "night", check, workspace)
        seen = examine(path, check, unpacked=tmp_path / "unpacked")
        assert verdicts(alone) == [(seen.name, seen.reason, seen.remedy)]
        assert examine(path, check).reason == seen.reason


@pytest.mark.parametrize(
    "text", ["odd", "padded_end", "zone", "midnight", "leap", "S20131121S009", "tai", "structure", "summed"]
)
def test_odd_headers_are_used(files: list[Path], inspected: dict[bool, list[Examination]], text: str) -> None:
    found = [one for one in inspected[True] if one.name.startswith(text)]
    assert {one.name: one.reason for one in found if not one.usable} == {}
    assert len(found) >= (2 * len(ODD_CARDS) if text == "odd" else 1)


def test_an_unknown_value_that_a_step_needs_is_named(inspected: dict[bool, list[Examination]]) -> None:
    found = {one.name: one for one in inspected[False]}
    for n, (keyword, text) in enumerate(INVALID_CARDS.items()):
        one = found[f"invalid{n}.fits"]
        assert one.verdict in ("faulty", "foreign")
        assert keyword in one.reason
        assert text.removeprefix("= ") in one.reason
        assert one.remedy


def test_no_header_of_astropy_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every access to a card of astropy raises here."""

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("a card of astropy was read")

    path = write(tmp_path / "good.fits")
    packed = pack(write(tmp_path / "other.fits"), ".gz")
    tiles = tiled(write(tmp_path / "tiled.fits"))
    check = CheckParameters(shape=SHAPE)
    before = [examine(one, check) for one in (path, packed, tiles)]
    for name in ("value", "keyword", "comment"):
        monkeypatch.setattr(fits.Card, name, property(fail))
    for name in ("__getitem__", "get", "fromstring"):
        monkeypatch.setattr(fits.Header, name, fail)
    after = [examine(one, check) for one in (path, packed, tiles)]
    assert after == before
    assert all(one.usable for one in after)


@pytest.mark.parametrize(
    ("checksum", "verdict"), [("warn", "usable"), ("refuse", "faulty"), ("ignore", "usable")]
)
def test_checksums_that_disagree(
    files: list[Path], workspace: Workspace, tmp_path: Path, checksum: Any, verdict: str
) -> None:
    (path,) = [one for one in files if one.name == "summed.fits"]
    check = CheckParameters(shape=SHAPE, checksum=checksum)
    seen = examine(path, check, unpacked=tmp_path / "unpacked")
    assert seen.verdict == verdict
    assert ("DATASUM" in " ".join(seen.notes)) == (checksum == "warn")
    assert ("DATASUM" in seen.reason) == (checksum == "refuse")
    # A frame that was accepted before is refused as well.
    survey_frames.fn([path], "night", CheckParameters(shape=SHAPE), workspace)
    again = survey_frames.fn([path], "night", check, workspace)
    assert bool(again.frames) == (verdict == "usable")


def test_real_frames_of_another_camera(tmp_path: Path, workspace: Workspace) -> None:
    path = fits_of_another_camera(tmp_path / "standard.fits")
    found = survey([path], pixels=True)
    reduced = survey_frames.fn([path], "night", CheckParameters(), workspace)
    assert [(one.verdict, one.reason) for one in found] == [("foreign", reduced.left_out[0].reason)]
    assert "NIRC2" in found[0].reason
