"""The files in the watched folders, and file systems on which the kernel reports no changes."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest
from waiting import wait_until

from deployments.arrivals.folders import Notices, Scanner, hidden, need_polling, shown


def test_a_local_folder_needs_no_polling(tmp_path: Path) -> None:
    assert not need_polling([tmp_path])


def test_a_scan_follows_links_once_and_leaves_hidden_folders_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    night = tmp_path / "raw" / "night"
    night.mkdir(parents=True)
    aside, elsewhere = tmp_path / "raw" / "aside", tmp_path / "elsewhere"
    aside.mkdir()
    elsewhere.mkdir()
    (night / ".partial").mkdir()
    for path in (
        night / "a.fits",
        aside / "b.fits",
        elsewhere / "f.fits",
        night / ".partial" / "c.fits",
        night / "d.fits.part",
    ):
        path.write_bytes(b"x")
    (night / "folder.fits").mkdir()
    (night / "folder.fits" / "e.fits").write_bytes(b"x")
    (night / "loop").symlink_to(night.parent)
    (night / "self.fits").symlink_to("self.fits")
    (night / "nothing.fits").symlink_to("gone.fits")
    (night / "linked").symlink_to("../aside")
    (night / "linked2").symlink_to(aside)
    (night / "outside").symlink_to(elsewhere)
    (night / "disk").symlink_to("/")
    (night / "file.fits").symlink_to("a.fits")
    with caplog.at_level(logging.INFO):
        found = [Path(path).relative_to(night.parent) for path, _ in Scanner().find(str(night.parent))]
    assert sorted(map(str, found)) == [
        "aside/b.fits", "night/a.fits", "night/file.fits", "night/folder.fits/e.fits"
    ]  # fmt: skip
    assert any("link to a folder elsewhere: night/disk, night/outside" in line for line in caplog.messages)


def test_a_missing_folder_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    scanner = Scanner()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert list(scanner.find(str(tmp_path / "gone"))) == []
    assert len(caplog.messages) == 1


def test_hidden_folders_are_those_below_the_watched_one(tmp_path: Path) -> None:
    root = tmp_path / ".raw"
    assert not hidden(str(root / "a.fits"), [root])
    assert not hidden(str(root / ".a.fits"), [root])  # the file's own name is checked elsewhere
    assert hidden(str(root / ".partial" / "a.fits"), [root])
    assert not hidden(str(root / ".partial" / "a.fits"), [root, root / ".partial"])


def test_a_path_in_a_message_has_one_line() -> None:
    assert shown("a\nb\udcff") == r"a\nb\udcff"


def test_notices_survive_undecodable_names_and_a_folder_that_is_created_again(tmp_path: Path) -> None:
    root = tmp_path / "raw"
    root.mkdir()
    notices = Notices([root], threading.Event(), retry=0.05)
    noticed: set[str] = set()
    lost: list[bool] = []

    def hear(name: str) -> bool:
        paths, missed = notices.take()
        noticed.update(Path(path).name for path in paths)
        lost.append(missed)
        return name in noticed

    notices.start()
    try:
        assert wait_until(lambda: notices.seeing)
        (root / "a.fits").write_bytes(b"x")
        assert wait_until(lambda: hear("a.fits"))
        assert lost[0]  # a scan must find the files from before the watch began
        lost.clear()
        (root / "b\udcff.fits").write_bytes(b"x")
        assert wait_until(lambda: hear("nothing") or any(lost))
        assert wait_until(lambda: notices.seeing)
        (root / "c.fits").write_bytes(b"x")
        assert wait_until(lambda: hear("c.fits"))
        lost.clear()
        root.rename(tmp_path / "old")
        assert wait_until(lambda: not notices.seeing)
        root.mkdir()
        assert wait_until(lambda: notices.seeing)
        assert wait_until(lambda: hear("nothing") or any(lost))
        (root / "d.fits").write_bytes(b"x")
        assert wait_until(lambda: hear("d.fits"))
    finally:
        notices.stop()
    assert not notices.seeing
