"""The rows in a PostgreSQL dump, and nothing else from it.

A dump is a program: it may create functions and run them. Here pg_restore only unpacks it, to text that no server sees.
The rows of the store's own tables are taken from that text, and a dump that holds anything else is refused. pg_restore
itself may read malicious input, so it runs with minimal rights and limited memory and time.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from calib_store.administration.backup_folder import again
from calib_store.server.account import server_environment, spare_account
from calib_store.server.programs import program_for
from imaging.errors import StoreError

#: The kinds of entries in a dump of the store's tables; only the rows are read.
_HARMLESS: Final = (
    "TABLE DATA", "TABLE", "SEQUENCE OWNED BY", "SEQUENCE SET", "SEQUENCE", "DEFAULT", "FK CONSTRAINT",
    "CHECK CONSTRAINT", "CONSTRAINT", "INDEX", "ACL",
)  # fmt: skip
#: Those that are tables, whose names must be known.
_TABLES: Final = ("TABLE DATA", "TABLE")
_ENTRY: Final = re.compile(rf"\d+; \d+ \d+ ({'|'.join(_HARMLESS)}) (\S+) (.+)")
_COPY: Final = re.compile(rb'COPY (?:\w+|"[^"\n]+")\.(\w+) \(([^()\n]+)\) FROM stdin;\n')
_ENCODING: Final = re.compile(rb"SET client_encoding = '(\w+)';\n")
_COLUMN: Final = re.compile(r'"?([a-z][a-z0-9_]*)"?')
#: Lines that may follow the rows of a table.
_AFTER: Final = re.compile(rb"(--.*|\\unrestrict \w+)?\n")
_END: Final = b"\\.\n"

#: Largest row, bytes: a header of 160 cards has 10 kB, the report of a run some MB.
_LONGEST_ROW: Final = 64 * 1024**2
#: Largest list of a dump's contents, bytes; it has a few hundred lines.
_LONGEST_LIST: Final = 1024**2
#: Most lines before the rows: comments and settings.
_MOST_LINES: Final = 1000
#: Largest ratio of the size of the rows to that of the dump. Similar headers of one night compress 30 times.
_MOST_PACKED: Final = 200
#: Bytes of rows that are always allowed, for small dumps.
_FREE: Final = 256 * 1024**2
#: Limits of pg_restore: memory in kB, and processor time in s, plus a second for each MB of the dump.
_MEMORY: Final = 1024**2
_TIME: Final = 60
#: No core dump, no file beyond 64 kB (for its error messages), and the limits above.
_LIMITED: Final = 'ulimit -c 0 && ulimit -f 128 && ulimit -v "$1" && ulimit -t "$2" && shift 2 && exec "$@"'


class WrongDumpError(StoreError):
    """A dump that nirflow did not write, or that is damaged."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"The dump of the backup {why}.",
            remedy="Nothing was restored: it is damaged, or not written by `nirflow cal backup`. Take another backup.",
        )


class _BreaksOffError(WrongDumpError):
    """The text ended early: pg_restore has ended or is about to, and reports why."""

    def __init__(self, why: str = "ends early") -> None:
        super().__init__(why)


class Rows:
    """The rows of one table in the format of COPY: lines of bytes, columns separated by tabs."""

    def __init__(self, text: IO[bytes], table: str, dump: Dump) -> None:
        self._text, self._table, self._dump = text, table, dump
        self.encoding = "UTF8"
        self.columns = self._header()

    def __iter__(self) -> Iterator[bytes]:
        while (line := self._line()) != _END:
            yield line
        while line := self._text.readline(_LONGEST_LIST):
            if not _AFTER.fullmatch(line):
                raise WrongDumpError(f"holds something else after the rows of {self._table}")

    def _header(self) -> tuple[str, ...]:
        none = f"has no rows of {self._table} as pg_dump writes them"
        for _ in range(_MOST_LINES):
            try:
                line = self._line()
            except _BreaksOffError:
                raise _BreaksOffError(none) from None
            if named := _ENCODING.fullmatch(line):
                self.encoding = named[1].decode()
            if found := _COPY.fullmatch(line):
                columns = [_COLUMN.fullmatch(one) for one in found[2].decode(errors="replace").split(", ")]
                if found[1].decode() != self._table or not all(columns):
                    break
                return tuple(one[1] for one in columns if one)
        raise WrongDumpError(none)

    def _line(self) -> bytes:
        line = self._text.readline(_LONGEST_ROW)
        if len(line) == _LONGEST_ROW:
            raise WrongDumpError(f"has a row of {self._table} of more than {_LONGEST_ROW // 1024**2} MB")
        if not line.endswith(b"\n"):
            raise _BreaksOffError
        self._dump.spend(len(line))
        return line


class Dump:
    """A dump open for reading.

    Parameters
    ----------
    descriptor
        Of its file.
    tables
        Names of the tables whose rows it may hold.

    Raises
    ------
    WrongDumpError
        If it holds anything but such tables with their constraints, indexes and sequences.
    """

    def __init__(self, descriptor: int, tables: Collection[str]) -> None:
        self._path = again(descriptor)
        self._size = os.fstat(descriptor).st_size
        self._left = _MOST_PACKED * self._size + _FREE
        self.tables = self._contents(tables)

    @contextmanager
    def rows(self, table: str) -> Iterator[Rows]:
        """Read the rows of one of its tables."""
        with self._unpacked("--data-only", f"--table={table}", "--file=-") as text:
            yield Rows(text, table, self)

    def spend(self, number: int) -> None:
        """Count bytes that were unpacked."""
        self._left -= number
        if self._left < 0:
            raise WrongDumpError(f"of {self._size} bytes unpacks to more than {_MOST_PACKED} times as much")

    def _contents(self, tables: Collection[str]) -> frozenset[str]:
        with self._unpacked("--list") as text:
            listed = text.read(_LONGEST_LIST + 1)
        if len(listed) > _LONGEST_LIST:
            raise WrongDumpError("has far more entries than that of a store")
        found: Counter[str] = Counter()
        for line in listed.decode(errors="replace").splitlines():
            if not line.strip() or line.startswith(";"):
                continue
            entry = _ENTRY.fullmatch(line)
            name = entry[3].split(" ")[0] if entry else ""
            if entry is None or (entry[1] in _TABLES and name not in tables):
                what = re.sub(r"^\d+; \d+ \d+ ", "", line)
                raise WrongDumpError(f"has an entry that no store has: {what[:200]!r}")
            if entry[1] == "TABLE DATA":
                found[name] += 1
        if twice := [name for name, number in found.items() if number > 1]:
            raise WrongDumpError(f"holds the rows of {twice[0]} more than once")
        return frozenset(found)

    @contextmanager
    def _unpacked(self, *arguments: str) -> Iterator[IO[bytes]]:
        """Provide the output of pg_restore; the caller reads to the end, or raises."""
        account = spare_account()
        command = [
            *account.prefix, "/bin/sh", "-c", _LIMITED, "sh", str(_MEMORY), str(_TIME + self._size // 1_000_000),
            str(program_for(account, "pg_restore")), *arguments,
        ]  # fmt: skip
        with (
            self._path.open("rb") as file,
            tempfile.TemporaryFile() as complaint,
            subprocess.Popen(
                command, cwd=Path("/"), env=server_environment(), stdin=file, stdout=subprocess.PIPE,
                stderr=complaint, start_new_session=True,
            ) as process,
        ):  # fmt: skip
            assert process.stdout is not None
            try:
                yield process.stdout
            except _BreaksOffError:
                if process.wait() == 0:
                    raise
            except BaseException:
                process.kill()
                raise
            if process.wait() != 0:
                raise _unreadable(process.returncode, complaint)


def _unreadable(code: int, complaint: IO[bytes]) -> WrongDumpError:
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        return WrongDumpError("takes far more time to unpack than its size explains")
    complaint.seek(0)
    lines = complaint.read(10_000).decode(errors="replace").strip().splitlines()
    first = next((line for line in lines if "error" in line), lines[0] if lines else f"it ended with {code}")
    return WrongDumpError(
        f"cannot be unpacked: {first.removeprefix('pg_restore: error: ').rstrip('.')[:200]}"
    )
