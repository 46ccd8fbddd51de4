"""Hostile texts in every output of the command line: terminal and pipe, JSON, log, progress, usage errors."""

from __future__ import annotations

import io
import json
import logging
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from hostile import HOSTILE, harmful, texts
from hypothesis import given, settings
from rich.console import Console
from typer.testing import Result

from imaging.errors import NirflowError
from nirflow.console import log
from nirflow.console.output import print_error, print_lines
from nirflow.console.progress import progress_bar
from nirflow.console.tables import Column, cell, print_json, print_table

Run = Callable[..., Result]


class Terminal(io.StringIO):
    """A terminal without colours, so that rich adds no control sequences of its own."""

    def isatty(self) -> bool:
        return True


@contextmanager
def written(kind: type[io.StringIO], terminal: str = "dumb") -> Iterator[io.StringIO]:
    out = kind()
    with ExitStack() as stack:
        stack.enter_context(pytest.MonkeyPatch.context()).setenv("TERM", terminal)
        stack.enter_context(redirect_stdout(out))
        stack.enter_context(redirect_stderr(out))
        yield out


@given(texts)
def test_printed_lines_are_inert(text: str) -> None:
    with written(io.StringIO) as pipe:
        print_lines(text)
        print_lines(text, Path(f"a{text}"), style="red", err=True)
        print_error(NirflowError(text, remedy=text))
    assert harmful(pipe.getvalue()) == set()
    assert pipe.getvalue().count("\n") == (5 if text else 4)
    with written(Terminal) as terminal:
        print_lines(text)
        print_lines(text, style="red")
        print_error(NirflowError(text, remedy=text, details=text))
    assert harmful(terminal.getvalue(), breaks="\n\t") == set()


def test_markup_is_shown_literally() -> None:
    with written(io.StringIO) as out:
        print_lines("[red]a[/red] :smile:", style="bold")
        print_error(NirflowError("[b]x[/b]", remedy="[/]"))
        print_table([Column("n")], [["[red]b[/red]"]], title="[i]t")
    assert out.getvalue().split("\n")[:-1] == [
        "[red]a[/red] :smile:", "Error: [b]x[/b]", "[/]", "[i]t", "n", "[red]b[/red]",
    ]  # fmt: skip


@given(texts)
def test_a_row_of_a_table_stays_one_row(text: str) -> None:
    for kind in (io.StringIO, Terminal):
        with written(kind) as out:
            print_table(
                [Column("name"), Column("n", "right", fold=True)],
                [
                    [
                        text,
                        Path("x"),
                    ][:2]
                ],
                title=text,
            )
        assert harmful(out.getvalue()) == set()
    with written(io.StringIO) as out:
        print_table([Column("name")], [[f"a{text}b"]])
    assert out.getvalue().count("\n") == 2
    assert harmful(cell(OSError(text)), breaks="") == set()


@given(texts)
def test_json_is_exact_and_harmless_at_a_terminal_too(text: str) -> None:
    with written(Terminal) as out:
        print_json({"path": Path(f"a{text}"), text: text})
    assert harmful(out.getvalue()) == set()
    assert json.loads(out.getvalue()) == {"path": str(Path(f"a{text}")), text: text}


@settings(max_examples=25)
@given(text=texts)
def test_the_log_file_and_its_console(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.mktemp("log") / "night.log"
    screen = Console(file=io.StringIO(), width=10_000)
    names = {"flow_run_name": f"night in {text}", "task_run_name": text}
    with log.configure(file, console=screen):
        logging.getLogger("flows").warning("%s", text, extra=names)
        try:
            raise ValueError(text)
        except ValueError:
            logging.getLogger("flows").exception("failed: %s", text)
    held = file.read_text()
    assert harmful(held, breaks="\n\t") == set()
    begun = [line for line in held.split("\n") if line and not line.startswith("    ")]
    assert [line.split()[1] for line in begun] == ["WARNING", "ERROR"]
    assert isinstance(screen.file, io.StringIO)
    assert harmful(screen.file.getvalue()) == set()


def test_the_progress_bar_reads_no_markup() -> None:
    with written(Terminal, "xterm") as out, progress_bar(f"[bold]{HOSTILE}", 2) as advance:
        advance()
    assert "[bold]x\\x1b]0;owned" in out.getvalue()
    assert "\x1b]0" not in out.getvalue()


@pytest.mark.parametrize(
    "arguments",
    [
        ("inspect", "--x" + HOSTILE),
        ("x" + HOSTILE,),
        ("--x" + HOSTILE,),
        ("reduce", "night", "--only", HOSTILE),
        ("status", HOSTILE),
        ("cal", "list", HOSTILE),
        ("cal", "list", "--limit", HOSTILE),
        ("cal", "list", "--where", f"'{HOSTILE}"),
        ("cal", "list", "--night", HOSTILE),
        ("inspect", HOSTILE),
        ("select", "night", "--tags", HOSTILE),
        ("select", "night", "--where", HOSTILE),
        ("params", HOSTILE),
        ("report", HOSTILE),
        ("reduce", "night", "--set", HOSTILE),
        ("reduce", "night", "--use", HOSTILE),
    ],
)
def test_usage_errors_repeat_an_argument_printable(nirflow: Run, arguments: tuple[str, ...]) -> None:
    result = nirflow(*arguments)
    assert result.exit_code == 2, (result.exception, result.stderr)
    assert harmful(result.stdout + result.stderr) == set()
    assert "INJECTED" not in [line.strip()[:8] for line in result.stderr.splitlines()]


@pytest.fixture
def hostile_night(tmp_path: Path, frame_writer: Callable[..., Path]) -> Path:
    """Return frames with harmful names and headers, and a broken one."""
    folder = tmp_path / "night"
    folder.mkdir()
    names = (
        b"esc\x1b]0;owned\x07\x1b[31mred.fits", b"nl\nINJECTED.fits", b"bytes\xff\x9b.fits",
        "bidi\u202egnp\x9b.fits".encode(), b"[red]x.fits",
    )  # fmt: skip
    for number, name in enumerate(names):
        frame = frame_writer(
            folder / "frame.fits", OBJECT="[red]T[/red]", DATALAB=f"L-{number}", UTSTART=f"02:5{number}:00"
        )
        frame.rename(folder / os.fsdecode(name))
    (folder / "junk\x1b[2J\nx.fits").write_bytes(b"\x1b[2J\n")
    return folder


def _in_a_terminal(*arguments: object) -> bytes:
    """Return the output of a command at a terminal."""
    main, side = pty.openpty()
    command = [str(Path(sys.executable).with_name("nirflow")), *map(str, arguments)]
    with subprocess.Popen(
        command, stdin=side, stdout=side, stderr=side, env=os.environ | {"NO_COLOR": "1"}
    ) as process:
        os.close(side)
        held = bytearray()
        while True:
            try:
                held += os.read(main, 65536)
            except OSError:  # the other side is closed
                break
        process.wait()
    os.close(main)
    return bytes(held)


@pytest.mark.parametrize("command", ["inspect", "select"])
def test_hostile_files_are_listed_and_harmless(nirflow: Run, hostile_night: Path, command: str) -> None:
    result = nirflow(command, hostile_night)
    assert result.exit_code == 4, result.exception
    text = result.stdout + result.stderr
    assert harmful(text) == set()
    for shown in (
        r"esc\x1b]0;owned\x07\x1b[31mred", r"nl\nINJECTED", r"bytes\xff\x9b", r"bidi\u202egnp\u009b", "[red]x",
        r"junk\x1b[2J\nx.fits",
    ):  # fmt: skip
        assert shown in text
    assert not any(line.startswith("INJECTED") for line in text.splitlines())
    if command == "inspect":
        assert "[red]T[/red]" in text


@pytest.mark.parametrize("command", ["inspect", "select"])
def test_json_names_hostile_files_exactly(nirflow: Run, hostile_night: Path, command: str) -> None:
    result = nirflow(command, hostile_night, "--json")
    assert harmful(result.stdout) == set()
    reported: Any = json.loads(result.stdout)
    reported = reported["frames"] if command == "inspect" else reported
    named = {os.fsencode(one["path"]) for one in reported}
    there = {entry.path for entry in os.scandir(os.fsencode(hostile_night))}
    assert named == {path for path in there if command == "inspect" or b"junk" not in path}


def test_a_terminal_receives_no_control_characters(hostile_night: Path) -> None:
    for arguments in (
        ["inspect", hostile_night],
        ["inspect", hostile_night, "--json"],
        ["select", hostile_night],
    ):
        held = _in_a_terminal(*arguments)
        assert b"owned" in held
        for raw in (b"\x1b]0", b"\x1b[31m", b"\x1b[2J", b"\x07", b"\xff", "\u202e".encode(), b"\nINJECTED"):
            assert raw not in held
