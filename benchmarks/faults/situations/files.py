"""Situations of files: names, compressions, links, doubles, and the same problem many times."""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.faults import edit
from benchmarks.faults.laboratory import DARK, SCIENCE, SHORT_DARK
from benchmarks.faults.outcome import Outcome
from benchmarks.faults.situation import Check, Situation


def _named(suffix: str, pack: Callable[[bytes], bytes] = bytes) -> Callable[[Path], None]:
    """Return a change: every science frame gets another ending, and is packed."""

    def disturb(night: Path) -> None:
        for name in SCIENCE:
            path = night / name
            content = pack(path.read_bytes())
            path.unlink()
            (night / name.replace(".fits", suffix)).write_bytes(content)

    return disturb


def _all_read(outcome: Outcome) -> Sequence[Check]:
    found = sum(len(one["inputs"]) for one in outcome.products("image"))
    mentioned = sum(name.removesuffix(".fits") in " ".join(outcome.lines) for name in SCIENCE)
    evidence = f"{found} of 9 science frames used, {mentioned} mentioned, exit code {outcome.code}"
    return (outcome.clean(), Check(found == 9, evidence))


def _passed_over(night: Path) -> None:
    for name in ("notes.doc", "S20131121S0990.fit.part", "archive.tar", "S20131121S0991.fits.zip"):
        (night / name).write_bytes(b"something else")
    (night / "S20131121S0992.fits").mkdir()
    (night / "S20131121S0993.fits").symlink_to(night / "removed.fits")


def _counted(outcome: Outcome) -> Sequence[Check]:
    wanted = ("archive", "S20131121S0991", "S20131121S0993")
    checks = [outcome.clean(), outcome.right_figures(), outcome.count("image", 9)]
    text = "\n".join((outcome.text, *outcome.lines))
    missing = [name for name in wanted if name not in text]
    evidence = f"not mentioned: {', '.join(missing)}" if missing else "what was passed over is named"
    return (*checks, Check(not missing, evidence, grave=False))


def _annexed(pack: Callable[[bytes], bytes], suffix: str) -> Callable[[Path], None]:
    """Return a change: files are links to blobs that are named by a checksum."""

    def disturb(night: Path) -> None:
        blobs = night.parent / "blobs"
        blobs.mkdir()
        for number, path in enumerate(sorted(night.iterdir())):
            blob = blobs / f"blob{number:04d}"
            blob.write_bytes(pack(path.read_bytes()))
            path.unlink()
            (night / f"{path.name}{suffix}").symlink_to(blob)

    return disturb


def _names_of_links(outcome: Outcome) -> Sequence[Check]:
    names = [Path(one["output"]).name for one in outcome.report.get("products", ()) if one["output"]]
    blobs = [name for name in names if "blob" in name]
    evidence = f"products {', '.join(blobs or names)}"
    return (outcome.clean(), Check(bool(names) and not blobs, evidence), outcome.right_figures())


def _packed_plain(night: Path) -> None:
    for name in SCIENCE[:2]:
        edit.write(night / name, gzip.compress((night / name).read_bytes()))
    for name in SCIENCE[2:4]:
        content = (night / name).read_bytes()
        (night / name).unlink()
        (night / f"{name}.gz").write_bytes(content)


def _double(night: Path) -> None:
    """Add a second file of four exposures with a newer header."""
    for name in SCIENCE[:4]:
        copy = name.replace(".fits", "_fixhead.fits")
        (night / copy).write_bytes((night / name).read_bytes())
        edit.values(night, [copy], OBSERVER="corrected", DATE="2014-02-01")


def _one_of_each(outcome: Outcome) -> Sequence[Check]:
    corrected = f"{SCIENCE[0].removesuffix('.fits')}_fixhead.fits"
    return (
        outcome.clean(),
        outcome.count("image", 9),
        outcome.is_used(corrected),
        outcome.is_out(SCIENCE[0]),
        outcome.named(SCIENCE[0], "same exposure"),
    )


def _many_with_one_problem(night: Path) -> None:
    content = (night / SHORT_DARK).read_bytes()
    names = [f"S20131125S{number:04d}.fits" for number in range(39)]
    for name in names:
        (night / name).write_bytes(content)
        edit.values(night, [name], EXPTIME=None, DATALAB=name)


def _one_line(outcome: Outcome) -> Sequence[Check]:
    lines = [line for line in outcome.text.splitlines() if "EXPTIME" in line]
    counted = any("39" in line for line in lines)
    return (
        outcome.clean(),
        outcome.right_figures(),
        Check(0 < len(lines) <= 2, f"{len(lines)} lines about 39 files", grave=False),
        Check(counted, (lines or ["no line"])[0][:160], grave=False),
    )


def _replaced(night: Path) -> None:
    """Nothing: the file is replaced after the first reduction."""


def _same_name_other_bytes(outcome: Outcome) -> Sequence[Check]:
    """Replace a dark by other pixels of the same size and modification time, and reduce again."""
    path = outcome.night / DARK
    before = path.stat()
    edit.pixels(outcome.night, DARK, lambda adu: adu + 5)
    import os

    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    again = outcome.lab.reduce(outcome.night, outcome.name, env=outcome.store)
    import hashlib

    from imaging.products.product_file import read_table

    if not again.products("dark"):
        return (again.clean(), Check(False, again.failure))
    first = outcome.products("dark")[0]
    same = again.products("dark")[0]["sha256"] == first["sha256"]
    if same:
        noticed = again.message(DARK, "changed|replaced|other")
        return (again.clean(), Check(noticed is not None, noticed or "the old product is reused, silently"))
    rows = read_table(Path(again.products("dark")[0]["output"]), "LINEAGE")
    recorded = {str(row["sha256"]) for row in rows} if rows is not None else set()
    true = hashlib.sha256(path.read_bytes()).hexdigest()
    return (again.clean(), Check(true in recorded, "the lineage has the sha256 of the new file"))


def _truncated(night: Path) -> None:
    content = (night / SCIENCE[4]).read_bytes()
    edit.write(night / SCIENCE[4], content[: len(content) // 2])
    edit.write(night / SCIENCE[5], b"")
    edit.write(night / SCIENCE[6], b"<html>404 Not Found</html>" * 400)


def _broken_named(outcome: Outcome) -> Sequence[Check]:
    return (
        outcome.clean(),
        outcome.count("image", 6),
        outcome.right_figures("dark", "flat"),
        outcome.named(SCIENCE[4], "truncated", grave=True),
        outcome.named(SCIENCE[5], "empty", grave=True),
        outcome.named(SCIENCE[6], "not a FITS file", grave=True),
    )


def _left_out_of_a_stack(outcome: Outcome) -> Sequence[Check]:
    """Compare the header of a stack that lacks its last frame with the frames in it."""
    from astropy.io import fits

    if not outcome.products("image"):
        return (outcome.clean(), Check(False, outcome.failure))
    header = fits.getheader(outcome.products("image")[0]["output"])
    times = (
        f"DATE-END {header.get('DATE-END')}, EXPEND {header.get('EXPEND')}, NCOMBINE {header.get('NCOMBINE')}"
    )
    right = header.get("NCOMBINE") == 8 and header.get("DATE-END") == header.get("EXPEND")
    return (outcome.clean(), Check(right, times))


def _starless(night: Path) -> None:
    import numpy as np

    def cloud(adu: np.ndarray) -> np.ndarray:
        noise = np.random.default_rng(1).normal(0, 30, adu.shape)
        changed: np.ndarray = (np.median(adu) + noise).astype(adu.dtype)
        return changed

    edit.pixels(night, SCIENCE[8], cloud)


SITUATIONS: tuple[Situation, ...] = (
    Situation("ending-upper-case", "files", "science frames named .FITS in a folder of .fits darks", "read",
              disturb=_named(".FITS"), judge=_all_read),
    Situation("ending-fit", "files", "science frames named .fit", "read", disturb=_named(".fit"),
              judge=_all_read),
    Situation("ending-xz", "files", "science frames packed as .fits.xz", "read",
              disturb=_named(".fits.xz", lzma.compress), judge=_all_read),
    Situation("ending-gz-upper-case", "files", "science frames packed as .fits.GZ", "read",
              disturb=_named(".fits.GZ", gzip.compress), judge=_all_read),
    Situation("passed-over", "files", "archives, parts, folders and broken links in the folder",
              "what is passed over is counted and named", disturb=_passed_over, judge=_counted),
    Situation("links-to-blobs", "files", "links to blobs named by their checksum", "the link's name counts",
              disturb=_annexed(bytes, ""), judge=_names_of_links),
    Situation("links-to-packed-blobs", "files", "links named .fits.gz to packed blobs",
              "the link's name counts; unpacked by content", disturb=_annexed(gzip.compress, ".gz"),
              judge=_names_of_links),
    Situation("compression-by-content", "files", "gzip under a plain name, plain files under .gz",
              "read by content", disturb=_packed_plain, judge=_all_read),
    Situation("exposure-in-two-files", "files", "four exposures a second time with a newer header",
              "the newer one is used, the other named", disturb=_double, judge=_one_of_each),
    Situation("one-problem-39-times", "files", "39 files that lack EXPTIME", "one line with a count and a list",
              disturb=_many_with_one_problem, judge=_one_line),
    Situation("broken-files", "files", "a truncated file, an empty one, a web page", "each is named, the night goes on",
              disturb=_truncated, judge=_broken_named),
    Situation("same-name-size-and-date", "store", "a raw file replaced by one of the same name, size and date",
              "the record of the product is true", disturb=_replaced, judge=_same_name_other_bytes),
    Situation("left-out-of-a-stack", "store", "the last frame has no stars and is left out of the stack",
              "times and counts of the header are those of the frames in it", disturb=_starless,
              judge=_left_out_of_a_stack),
)  # fmt: skip
