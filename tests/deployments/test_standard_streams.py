"""Standard output that is closed or full: the program continues, and the failure is known at its end."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deployments import standard_streams
from deployments.standard_streams import Stream

_PROGRAM = """
import os, sys
from deployments.standard_streams import guard_standard_streams, output_failure, was_closed
guard_standard_streams()
for n in range(30000):
    print("line", n)
sys.stdout.flush()
sys.stdout.buffer.write(b"bytes\\n")
failure = output_failure()
with open(sys.argv[1], "w") as file:
    print("nothing" if failure is None else f"{failure.errno} {was_closed(failure)}", file=file)
"""


def outcome(folder: Path, redirection: str, program: str = _PROGRAM) -> str:
    """Run the program with redirected streams, and return its note; standard error must be empty."""
    note = folder / "note"
    done = subprocess.run(
        ["/bin/bash", "-c", f'"$0" -c "$1" "$2" {redirection}', sys.executable, program, str(note)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    return note.read_text().strip()


@pytest.mark.parametrize(
    ("redirection", "expected"),
    [
        ("> /dev/null", "nothing"),
        (">&-", "nothing"),
        (">&- 2>&- <&-", "nothing"),
        ("> /dev/full", "28 False"),
        ("2> /dev/full > /dev/full", "28 False"),
        ("| head -1", "32 True"),
    ],
)
def test_no_write_raises_an_error(tmp_path: Path, redirection: str, expected: str) -> None:
    assert outcome(tmp_path, redirection) == expected


def test_a_file_does_not_take_the_place_of_a_closed_stream(tmp_path: Path) -> None:
    program = (
        "import os, sys; from deployments.standard_streams import guard_standard_streams; guard_standard_streams();"
        "note = open(sys.argv[1], 'w'); os.write(1, b'lost'); os.write(2, b'lost'); print('kept', file=note)"
    )
    assert outcome(tmp_path, ">&- 2>&- <&-", program) == "kept"


def test_a_pipe_that_does_not_block_receives_everything(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    process = subprocess.Popen([sys.executable, "-c", _PROGRAM, str(tmp_path / "note")], stdout=write)
    os.close(write)
    with os.fdopen(read, "rb") as file:
        lines = file.read().splitlines()
    assert process.wait() == 0
    assert (len(lines), lines[-1]) == (30001, b"bytes")


def test_the_encoding_of_the_interpreter_remains(tmp_path: Path) -> None:
    program = (
        "import sys; from deployments.standard_streams import guard_standard_streams; before = sys.stdout.encoding;"
        "guard_standard_streams(); print(chr(233), chr(0xdcff)); assert sys.stdout.encoding == before;"
        "open(sys.argv[1], 'w').write('ok')"
    )
    assert outcome(tmp_path, "> /dev/null", program) == "ok"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_log_continues_when_the_disk_has_room_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    room, write = [100], os.write

    def write_some(descriptor: int, data: memoryview) -> int:
        if not room[0]:
            raise OSError(number, os.strerror(number))
        written = write(descriptor, data[: room[0]])
        room[0] -= written
        return written

    monkeypatch.setattr(standard_streams.os, "write", write_some)
    with (tmp_path / "log").open("wb") as file:
        stream = Stream(file.fileno())
        stream.write(b"one\n")
        room[0] = 3
        assert stream.write(b"two\n") == 4
        stream.write(b"three\n")
        room[0] = 1000
        stream.write(b"four\n")
        stream.write(b"five\n")
    assert (tmp_path / "log").read_text().splitlines() == [
        "one", "two", "(Output is missing here: the disk was full.)", "four", "five"
    ]  # fmt: skip
    assert stream.failure is not None
    assert stream.failure.errno == number
