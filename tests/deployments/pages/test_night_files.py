"""The files below the folder of nights that are served to browsers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deployments.pages.night_files import content, open_below


@pytest.fixture
def nights(tmp_path: Path) -> Path:
    folder = tmp_path / "nights"
    (folder / "2013-11-21" / "previews").mkdir(parents=True)
    (folder / "index.html").write_bytes(b"index")
    (folder / "2013-11-21" / "index.html").write_bytes(b"night")
    (folder / "2013-11-21" / "previews" / "a b.png").write_bytes(b"picture")
    (folder / "2013-11-21" / "S1_dark.fits").write_bytes(b"x" * 3_000_000)
    (folder / "notes.txt").write_bytes(b"private")
    (folder / ".hidden.html").write_bytes(b"private")
    (tmp_path / "secret.html").write_bytes(b"private")
    return folder


@pytest.mark.parametrize(
    ("path", "kind", "size"),
    [
        ("", "text/html; charset=utf-8", 5),
        ("index.html", "text/html; charset=utf-8", 5),
        ("2013-11-21/", "text/html; charset=utf-8", 5),
        ("2013-11-21/previews/a b.png", "image/png", 7),
        ("2013-11-21/S1_dark.fits", "application/fits", 3_000_000),
    ],
)
def test_pages_pictures_and_products_are_served(nights: Path, path: str, kind: str, size: int) -> None:
    opened = open_below(nights, path)
    assert opened is not None
    assert (opened.kind, opened.size) == (kind, size)
    assert sum(map(len, content(opened))) == size


@pytest.mark.parametrize(
    "path",
    [
        "../secret.html", "2013-11-21/../../secret.html", "/etc/passwd", "//secret.html", ".", "..", "./index.html",
        "notes.txt", ".hidden.html", "2013-11-21", "2013-11-21//index.html", "index.html/", "index.html\0",
        "2013-11-21/previews/", "2013-11-21\\index.html", "a/" * 20 + "index.html", "index.HTML",
    ],
)  # fmt: skip
def test_other_files_are_not_served(nights: Path, path: str) -> None:
    assert open_below(nights, path) is None


def test_links_are_not_followed_and_pipes_do_not_block(nights: Path, tmp_path: Path) -> None:
    (nights / "link.html").symlink_to(tmp_path / "secret.html")
    (nights / "out").symlink_to(tmp_path)
    (nights / "2013-11-22").symlink_to(nights / "2013-11-21")
    os.mkfifo(nights / "pipe.html")
    (nights / "folder.html").mkdir()
    for path in ("link.html", "out/secret.html", "2013-11-22/index.html", "pipe.html", "folder.html"):
        assert open_below(nights, path) is None


def test_a_growing_file_is_sent_with_its_original_length(nights: Path) -> None:
    opened = open_below(nights, "index.html")
    assert opened is not None
    with (nights / "index.html").open("ab") as file:
        file.write(b"more")
    assert b"".join(content(opened)) == b"index"


def test_without_nights_no_page_is_found(tmp_path: Path) -> None:
    assert open_below(tmp_path / "none", "") is None
