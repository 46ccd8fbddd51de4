"""Products read again, and written to disks that are full or go away."""

from __future__ import annotations

import dataclasses
import errno
import itertools
import os
import re
import shutil
import subprocess
import sys
import warnings
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from small_products import STAMP, Write

from imaging.errors import NirflowError
from imaging.frames.facts import FrameFacts, facts_from_headers
from imaging.pixels.image import Image
from imaging.products.header_cards import Record
from imaging.products.product_file import (
    ProductFile,
    datasums,
    read_product,
    write_product,
)
from imaging.products.product_tables import stamped


def test_a_product_is_read_as_what_it_is(write: Write, facts: FrameFacts) -> None:
    path = write("flat")
    with ProductFile(path) as product:
        assert (product.facts.processed, product.facts.product_kind, product.facts.kind) == (
            True,
            "flat",
            "flat",
        )
        assert product.facts.filter_id == facts.filter_id
        assert product.facts.started == facts.started


def test_headers_of_a_product_can_be_used_again(
    write: Write, image: Image, tmp_path: Path, record: Record
) -> None:
    first = read_product(write())
    again = tmp_path / "again.fits"
    write_product(again, first, record)
    with fits.open(again) as hdus:
        hdus.verify("exception")
        for hdu in hdus:
            keywords = [k for k in hdu.header if k not in ("", "COMMENT", "HISTORY")]
            assert len(keywords) == len(set(keywords)), f"{hdu.name} has a card twice"


def test_long_and_foreign_texts_in_cards(write: Write) -> None:
    cards = {
        "NFWARN1": ("x" * 150, "a comment that does not fit"),
        "OBSERVER": "Žofie\nB",
        "N": (1, "c" * 90),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        header = fits.getheader(write(cards=cards))
    assert header["NFWARN1"] == "x" * 150
    assert header["OBSERVER"] == "\\u017dofie\\nB"


def test_more_inputs_than_keywords(write: Write) -> None:
    header = fits.getheader(write(inputs=[f"S{n}.fits" for n in range(1100)]))
    assert header["NCOMBINE"] == 1100
    assert header["IMCMB999"] == "S998.fits"


def test_stamps_are_utc(record: Record) -> None:
    chile = timezone(timedelta(hours=-3))
    assert stamped(datetime(2026, 1, 1, 22, tzinfo=chile)) == "2026-01-02T01:00:00.000000"
    with pytest.raises(ValueError, match="no time zone"):
        stamped(datetime(2026, 1, 1))
    with pytest.raises(ValueError, match="at least one input"):
        dataclasses.replace(record, inputs=[])


def listing(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_nothing_is_left_of_a_full_disk(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = write().read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("imaging.io.atomic.os.fsync", full)
    with pytest.raises(NirflowError, match=re.escape(f"to {tmp_path}: No space left on device")) as caught:
        write(stamp=STAMP + timedelta(days=1))
    assert caught.value.remedy
    assert listing(tmp_path) == ["S20131121S0075_image.fits"]
    assert (tmp_path / "S20131121S0075_image.fits").read_bytes() == before


def test_nothing_is_left_when_the_kernel_stops_the_write(tmp_path: Path) -> None:
    code = f"""
import resource, signal
from pathlib import Path
from imaging.io.atomic import write_complete
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
write_complete(Path({str(tmp_path / "a.fits")!r}), [bytes(60_000)] * 3)
"""
    reported = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "NirflowError: a.fits could not be written" in reported.stderr
    assert "File too large" in reported.stderr
    assert listing(tmp_path) == []


def test_a_disk_that_fills_up_while_astropy_writes(tmp_path: Path) -> None:
    code = f"""
import resource, signal
from pathlib import Path
import numpy as np
from imaging.products.astropy_hdus import image_hdu, primary_hdu, write_hdus
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
write_hdus(Path({str(tmp_path / "a.fits")!r}), [primary_hdu([]), image_hdu("SCI", np.zeros((300, 300), "f4"), [])])
"""
    reported = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert f"NirflowError: a.fits could not be written to {tmp_path}: File too large." in reported.stderr
    assert listing(tmp_path) == []


def test_a_folder_that_cannot_be_written(write: Write, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NirflowError, match="could not be written"):
        write(name="file/out/a.fits")


def test_folder_and_file_are_synced_before_the_name_is_there(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[bool, list[str]]] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        is_folder = Path(f"/proc/self/fd/{descriptor}").readlink() == tmp_path
        seen.append((is_folder, [n for n in listing(tmp_path) if not n.startswith(".")]))
        real(descriptor)

    monkeypatch.setattr("imaging.io.atomic.os.fsync", fsync)
    write()
    assert seen == [(False, []), (True, ["S20131121S0075_image.fits"])]


def test_rows_in_bands_make_the_complete_plane(write: Write, image: Image) -> None:
    with ProductFile(write()) as product:
        assert product.shape == (40, 48)
        assert "VAR" in product
        assert "OBJMASK" not in product
        edges = [0, 7, 8, 33, 40]
        rows = [product.rows("VAR", slice(a, b)) for a, b in itertools.pairwise(edges)]
        np.testing.assert_array_equal(np.vstack(rows), image.var)
        assert product.rows("SCI", slice(0, 3)).dtype.isnative


def test_a_product_moves_without_losing_its_identity(write: Write, tmp_path: Path) -> None:
    path = write()
    shutil.copy(path, tmp_path / "copy.fits")
    assert datasums(path) == datasums(tmp_path / "copy.fits")


def test_facts_of_our_headers_need_nothing_else(write: Write, facts: FrameFacts) -> None:
    with fits.open(write("dark")) as hdus:
        read = facts_from_headers(hdus[0].header, hdus["SCI"].header, name="a_dark.fits")
    assert read.exposure_time == facts.exposure_time
    assert read.section == "[1:48,1:40]"  # the pixels of the file, whatever the card states
