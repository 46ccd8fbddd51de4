"""A night whose file names, headers and decisions are harmful when shown: none of them appears unescaped
anywhere.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hostile import harmful
from night_lab import Lab, altered
from waiting import PATIENCE

from imaging.simulator.truth import NightTruth

NAMES = (b"esc\x1b]0;owned\x07\x1b[31mred.fits", b"nl\nINJECTED[red].fits", b"bytes\xff\x9b.fits")
AUTHOR = "Eve\x1b[2J\u202e"
REASON = "good\x1b]0;owned\x07\nINJECTED [red]"


@pytest.fixture
def dark_night(tmp_path: Path, night: NightTruth) -> Path:
    """Four darks and a file that is not a frame. The first dark has a plain name, which the product
    inherits.
    """
    folder = tmp_path / "night"
    folder.mkdir()
    darks = sorted(night.of_role("dark"), key=lambda one: one.file)[:4]
    for number, (name, dark) in enumerate(zip((b"S20131120S0001.fits", *NAMES), darks, strict=True)):
        frame = altered(
            night.folder.parent / dark.file,
            folder / "frame.fits",
            UTSTART=f"04:4{number}:00",
            OBJECT="[red]D[/red]",
            DATALAB=f"L-{number}",
        )
        frame.rename(folder / os.fsdecode(name))
    (folder / "junk\x1b[2J\nINJECTED.fits").write_bytes(b"\x1b[2J")
    return folder


@pytest.fixture
def nirflow(lab: Lab) -> Callable[..., tuple[int, str]]:
    """Run a command as a process; return its exit code and its output, after checking that it is harmless."""

    def run(*arguments: object) -> tuple[int, str]:
        command = [str(Path(sys.executable).with_name("nirflow")), *map(str, arguments)]
        done = subprocess.run(
            command, env=lab.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
            timeout=PATIENCE,
        )  # fmt: skip
        text = done.stdout.decode()  # all output is UTF-8
        assert harmful(text) == set(), arguments
        assert not any(line.startswith("INJECTED") for line in text.split("\n")), arguments
        return done.returncode, text

    return run


@pytest.mark.long
def test_hostile_names_never_reach_the_output(
    dark_night: Path, lab: Lab, nirflow: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    code, text = nirflow("reduce", dark_night, "--out", out, "--set", "check.shape=none")
    assert code == 4, text
    assert r"Left out, junk\x1b[2J\nINJECTED.fits: not a FITS file" in text
    log = (out / "nirflow.log").read_text()
    assert harmful(log, breaks="\n\t") == set()
    assert not any(line.startswith("INJECTED") for line in log.split("\n"))

    ((dark, *none),) = [json.loads(nirflow("cal", "list", "--json")[1])]
    assert not none
    code, text = nirflow("cal", "certify", dark["id"], "--author", AUTHOR, "--reason", REASON)
    assert code == 0, text
    code, text = nirflow("cal", "show", dark["id"])
    for shown in (
        r"esc\x1b]0;owned\x07\x1b[31mred.fits", r"nl\nINJECTED[red].fits", r"Eve\x1b[2J\u202e",
        r"good\x1b]0;owned\x07\nINJECTED [red]",
    ):  # fmt: skip
        assert shown in text, text
    reported = json.loads(nirflow("cal", "show", dark["id"], "--json")[1])
    assert (reported["history"][-1]["author"], reported["history"][-1]["reason"]) == (AUTHOR, REASON)

    esc, newline, no_utf8 = (dark_night / os.fsdecode(name) for name in NAMES)
    code, text = nirflow("cal", "explain", esc, "--kind", "dark")
    assert code == 0, text
    assert r"dark for esc\x1b]0;owned\x07\x1b[31mred.fits: S20131120S0001_dark.fits" in text
    for expected, *command in (
        (0, "cal", "verify"), (0, "cal", "lineage", dark["id"], "--full"), (0, "cal", "affected", newline),
        (0, "cal", "match", no_utf8, "--kind", "dark"), (0, "cal", "show", newline.name),
        (1, "cal", "get", REASON), (2, "reduce", dark_night / "none\x1b[2J", "--out", out),
    ):  # fmt: skip
        code, text = nirflow(*command)
        assert code == expected, (command, text)
    code, text = nirflow("report", "2013-11-20", "--out", tmp_path / "pages")
    assert code == 0, text
    page = (tmp_path / "pages" / "2013-11-20" / "index.html").read_text()
    assert r"nl\nINJECTED" in page
    assert harmful(page, breaks="\n\t") == set()
