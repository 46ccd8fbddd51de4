"""The embedded server of an account without a name, as in a container with an arbitrary user id."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from waiting import PATIENCE

from calib_store.server import unnamed_account
from calib_store.server.unnamed_account import NAME, library, naming_library
from imaging.errors import StoreError

Python = Callable[..., "subprocess.Popen[str]"]
#: A user id and a group id without an account.
UNNAMED: Final = (34_567, 45_678)

_ASK: Final = """
import ctypes
libc = ctypes.CDLL(None)
libc.getpwuid.restype = ctypes.POINTER(ctypes.c_char_p)
entry = libc.getpwuid(12345)
ids = ctypes.cast(entry, ctypes.POINTER(ctypes.c_uint32))
print(entry[0].decode(), ids[4], ids[5], entry[4].decode(), entry[5].decode())
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of the unnamed account, with a short path that it can reach."""
    place = Path(tempfile.mkdtemp(prefix="nf", dir="/tmp"))
    if os.geteuid() == 0:
        os.chown(place, *UNNAMED)
    yield place
    shutil.rmtree(place)


def as_unnamed() -> tuple[str, ...]:
    """Return a prefix that runs a command as an account without a name; an ordinary account only hides its own."""
    if os.geteuid() != 0:
        return ()
    # A capability lets it reach an interpreter below /root; otherwise it is not root.
    return (
        "setpriv", f"--reuid={UNNAMED[0]}", f"--regid={UNNAMED[1]}", "--clear-groups", "--inh-caps=+dac_read_search",
        "--ambient-caps=+dac_read_search", "--",
    )  # fmt: skip


def test_the_library_answers_in_place_of_the_c_library() -> None:
    with naming_library() as descriptor:
        done = subprocess.run(
            [sys.executable, "-c", _ASK], pass_fds=(descriptor,), capture_output=True, text=True, check=False,
            env={**os.environ, "LD_PRELOAD": f"/proc/self/fd/{descriptor}"},
        )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.split() == [NAME, str(os.geteuid()), str(os.getegid()), "/", "/bin/sh"]


def test_the_library_of_another_machine_has_its_code() -> None:
    made = library("aarch64", 1, 2)
    assert int.from_bytes(made[18:20], "little") == 183
    at = made.index(bytes.fromhex("c0035fd6"))  # ret
    adr = int.from_bytes(made[at - 4 : at], "little")
    distance = (adr >> 5 & 0x7FFFF) << 2 | adr >> 29 & 3
    assert adr & 0x9F00001F == 0x10000000
    record = made[at - 4 + distance :]
    assert [int.from_bytes(record[n : n + 4], "little") for n in (16, 20)] == [1, 2]


def test_another_kind_of_machine_is_refused_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unnamed_account.platform, "machine", lambda: "riscv64")
    with pytest.raises(StoreError, match="requires an account with a name") as caught, naming_library():
        pass
    assert "NIRFLOW_DATABASE_URL" in caught.value.remedy


def test_it_has_a_server_that_others_cannot_reach(python: Python, folder: Path) -> None:
    script = """
        import os, pwd, stat, sys
        from pathlib import Path
        def unknown(uid):
            raise KeyError(uid)
        pwd.getpwuid = unknown
        from calib_store.server import postgres
        folder = Path(sys.argv[1])
        with postgres.ensure_running(folder).connect("nirflow") as connection:
            print(connection.execute("SELECT 42").fetchone()[0])
        print(oct(stat.S_IMODE((folder / "run").stat().st_mode)))
        print("LD_PRELOAD" in Path(f"/proc/{postgres.status(folder).pid}/environ").read_text())
        print(postgres.ensure_running(folder) == postgres.address_of(folder), postgres.stop(folder))
    """
    process = python(script, folder / "data", cwd="/", prefix=as_unnamed())
    output, _ = process.communicate(timeout=PATIENCE)
    assert output.split() == ["42", "0o700", "False", "True", "True"], output
