"""Situations of machines: limits, accounts, variables, full disks."""

from __future__ import annotations

import os
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.faults.laboratory import DARKS
from benchmarks.faults.situation import Check, Situation

if TYPE_CHECKING:
    from benchmarks.faults.laboratory import Done, Laboratory

#: An account without a name.
_ACCOUNT: Final = 12345
_LIBPQ: Final = {
    "PGSERVICE": "missing", "PGREQUIREAUTH": "scram-sha-256", "PGTARGETSESSIONATTRS": "standby",
    "PGSSLMODE": "require", "PGOPTIONS": "-c nonsense=1", "PGPASSFILE": "/nonexistent", "PGDATABASE": "elsewhere",
}  # fmt: skip
_PROXIES: Final = dict.fromkeys(
    ("ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy", "HTTPS_PROXY"), "socks5h://127.0.0.1:9"
) | {"NO_PROXY": "", "no_proxy": ""}


def _plain(done: Done, *codes: int, what: str = "") -> Sequence[Check]:
    """Check that a command printed no traceback and ended with one of some codes (default: 0)."""
    trace = "Traceback (most recent call last)" in done.text
    failure = re.search(r'"message": "(.*)"', done.out)  # of a report as JSON
    last = failure[1] if failure else " ".join((done.err.strip() or done.out.strip()).splitlines()[-1:])
    last = last[:150]
    right = done.code in (codes or (0,))
    return (
        Check(not trace, f"traceback: {last}"),
        Check(right, f"{what}exit code {done.code} in {done.seconds:.0f} s{'' if right else f': {last}'}"),
    )


def _darks(lab: Laboratory, folder: Path) -> Path:
    """Return a night of three darks, the fastest to reduce."""
    night = folder / "night"
    night.mkdir()
    for name in DARKS[:3]:
        os.link(lab.raw / name, night / name)
    return night


def _reduce(
    lab: Laboratory, folder: Path, env: Mapping[str, str], *, under: Sequence[str] = (), out: str = "out",
    night: Path | None = None,
) -> Done:  # fmt: skip
    frames = night or _darks(lab, folder)
    options = ("--only", "dark", "--set", "check.shape=none", "--json")
    return lab.nirflow("reduce", frames, "--out", folder / out, *options, env=env, under=under)


def _with_variables(variables: Mapping[str, str]) -> Callable[[Laboratory, Path], Sequence[Check]]:
    """Return a trial: a data folder is made, used and stopped with variables set."""

    def trial(lab: Laboratory, folder: Path) -> Sequence[Check]:
        env = {"NIRFLOW_DATA_DIR": str(folder / "data"), **variables}
        try:
            done = _reduce(lab, folder, env)
            listed = lab.nirflow("cal", "list", env=env)
        finally:
            lab.stop_services(folder / "data")
        return (*_plain(done, what="reduce: "), *_plain(listed, what="cal list: "))

    return trial


@contextmanager
def _listening() -> Iterator[tuple[int, list[object]]]:
    """Yield the port of a server that counts connections and closes them."""
    seen: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        over = threading.Event()

        def accept() -> None:
            while not over.is_set():
                try:
                    connection, address = server.accept()
                except TimeoutError:
                    continue
                seen.append(address)
                connection.close()

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield server.getsockname()[1], seen
        finally:
            over.set()
            thread.join()


def _foreign_server(lab: Laboratory, folder: Path) -> Sequence[Check]:
    with _listening() as (port, seen):
        variables = {"PGHOSTADDR": "127.0.0.1", "PGHOST": "127.0.0.1", "PGPORT": str(port)}
        checks = _with_variables(variables)(lab, folder)
    return (*checks, Check(not seen, f"{len(seen)} connections to the other server; {checks[-1].evidence}"))


def _few_files(lab: Laboratory, folder: Path) -> Sequence[Check]:
    """Reduce a dark of 380 frames with a soft limit of 1024 and a hard limit of 4096, then with 256 for both."""
    night = folder / "many"
    made = lab.nirflow(
        "simulate", night, "--size", "128", "--darks", 380, "--science", 0, "--short-darks", 0, "--lamp-on", 0,
        "--lamp-off", 0, "--exposure", 20, "--quiet",
    )  # fmt: skip
    checks = [*_plain(made, what="simulate: ")]
    for limits in ("1024:4096", "256:256"):
        env = lab.store()
        under = ("prlimit", f"--nofile={limits}")
        done = _reduce(lab, folder, env, under=under, out=f"out{limits[:3]}", night=night)
        checks += _plain(done, 0, 4, what=f"380 frames with {limits} open files: ")
        frames = re.search(r'"NCOMBINE"|"kind": "dark"', done.out)
        checks.append(Check(frames is not None, f"with {limits} open files: a dark of 380 frames"))
    return checks


def _account(*options: str, home: str = "/nonexistent") -> Callable[[Laboratory, Path], Sequence[Check]]:
    """Return a trial: everything is done by an account without name and home; the package is read-only."""

    def trial(lab: Laboratory, folder: Path) -> Sequence[Check]:
        night = _darks(lab, folder)
        own = folder / "own"
        own.mkdir()
        os.chown(own, _ACCOUNT, _ACCOUNT)
        env = {
            "NIRFLOW_DATA_DIR": str(own / "data"), "HOME": home, "USER": "", "LOGNAME": "", "XDG_CACHE_HOME": "",
            "XDG_CONFIG_HOME": "", "XDG_DATA_HOME": "",
        }  # fmt: skip
        under = ("setpriv", f"--reuid={_ACCOUNT}", f"--regid={_ACCOUNT}", "--clear-groups", *options)
        command = ("--only", "dark", "--set", "check.shape=none", "--json")
        try:
            done = lab.nirflow("reduce", night, "--out", own / "out", *command, env=env, under=under, cwd=own)
        finally:
            lab.nirflow("server", "stop", env=env, under=under, cwd=own)
            script = "import pathlib,sys; from calib_store.server.postgres import stop; stop(pathlib.Path(sys.argv[1]))"
            lab.run([*under, sys.executable, "-c", script, str(own / "data")], env=env, cwd=own)
        return _plain(done, what="reduce: ")

    return trial


def _host(lab: Laboratory, folder: Path) -> Sequence[Check]:
    """Reduce in two name spaces with different host names and processes, one after the other is gone."""
    night, env = _darks(lab, folder), {"NIRFLOW_DATA_DIR": str(folder / "data")}
    spaces = ("unshare", "--uts", "--pid", "--fork", "--mount-proc", "--kill-child")
    checks: list[Check] = []
    for name in ("first-host", "second-host"):
        under = (*spaces, "sh", "-c", f'hostname {name}; exec "$@"', "sh")
        done = _reduce(lab, folder, env, under=under, out=f"out-{name}", night=night)
        checks += _plain(done, what=f"{name}: ")
    reused = '"reused": true' in done.out.lower()
    return (
        *checks,
        Check(reused, "the second host reuses the first one's dark" if reused else "not reused", grave=False),
    )


def _shadowed(lab: Laboratory, folder: Path) -> Sequence[Check]:
    """Put modules with the names of our packages on PYTHONPATH, and in the working folder."""
    for name in ("tasks", "flows", "imaging"):
        (folder / "foreign").mkdir(exist_ok=True)
        (folder / "foreign" / f"{name}.py").write_text("raise RuntimeError('a foreign module')\n")
    night = _darks(lab, folder)
    done = lab.nirflow("inspect", night, "--any-shape", env={"PYTHONPATH": str(folder / "foreign")})
    named = "foreign" in done.text and "Traceback" not in done.text
    works = done.code == 0
    here = lab.run(
        [sys.executable, "-m", "nirflow", "inspect", str(night), "--any-shape"], cwd=folder / "foreign"
    )
    return (
        *_plain(here, 0, 1, what="in a folder with such modules: "),
        *_plain(done, 0, 1, what="inspect: "),
        Check(works or named, "works" if works else done.text.strip()[-150:]),
    )


def _no_reader(lab: Laboratory, folder: Path) -> Sequence[Check]:
    """Run commands whose standard output is closed, full or no longer read."""
    night, env = _darks(lab, folder), lab.store()
    checks: list[Check] = []
    commands = (
        ("inspect", str(night), "--any-shape"),
        ("cal", "list"),
        ("reduce", str(night), "--out", str(folder / "out"), "--only", "dark", "--set", "check.shape=none"),
    )
    script = str(Path(sys.executable).with_name("nirflow"))
    for command in commands:
        for where, expected in ((">&-", (0, 1, 3)), ("> /dev/full", (0, 1, 3)), ("| head -c 1", (0, 3))):
            done = lab.run(["sh", "-c", f'"$@" {where}', "sh", script, *command], env=env)
            noise = "Exception ignored" in done.err
            what = f"{command[0]} {where}: "
            checks += _plain(done, *expected, what=what)
            checks.append(Check(not noise, f"{what}{done.err.strip()[-120:]}", grave=False))
    written = (folder / "out").is_dir() and any((folder / "out").glob("*_dark.fits"))
    return (*checks, Check(written, "quiet; the dark was written"))


#: A command on a small disk, which exists only in its name space; then what is half made there, and the end.
_ON_A_DISK: Final = """
place=$1; size=$2; data=$3; nirflow=$4; shift 4
mount -t tmpfs -o size=$size none "$place" || exit 99
"$@"; code=$?
find "$place" -name "*.part" -o -name "*.tmp"
NIRFLOW_DATA_DIR="$data" "$nirflow" server stop >/dev/null 2>&1
exit $code
"""


def _full(lab: Laboratory, folder: Path) -> Sequence[Check]:
    """Reduce with the products on a disk of 1 MB, and with a data folder on one of 60 MB."""
    night = _darks(lab, folder)
    small, data = folder / "small", folder / "data"
    script = str(Path(sys.executable).with_name("nirflow"))
    checks: list[Check] = []
    for place, size in ((small, "1m"), (data, "60m")):
        place.mkdir()
        under = ("unshare", "--mount", "sh", "-c", _ON_A_DISK, "sh", str(place), size, str(data), script)
        env = lab.store() if place is small else {"NIRFLOW_DATA_DIR": str(data)}
        out = "small/out" if place is small else "out"
        done = _reduce(lab, folder, env, under=under, out=out, night=night)
        what = f"{'output' if place is small else 'data'} disk of {size}: "
        checks += _plain(done, 1, 4, *((0,) if place is data else ()), what=what)
        if done.code:
            found = ((line, line.replace(str(folder), "")) for line in done.text.splitlines())
            lines = [line for line, bare in found if re.search("space|full|room", bare, re.I)]
            named = any(str(place) in line for line in lines)
            message = lines[0][:160] if lines else "no message about space"
            checks.append(Check(named, f"{what}{message}", grave=False))
    return checks


def _deleted_folder(lab: Laboratory, folder: Path) -> Sequence[Check]:
    """Run a command in a working folder that no longer exists, with odd locale, time zone and interpreter."""
    night = _darks(lab, folder)
    command = (str(Path(sys.executable).with_name("nirflow")), "inspect", str(night), "--any-shape")
    gone = lab.run(["sh", "-c", 'mkdir gone; cd gone; rmdir ../gone; "$@"', "sh", *command], cwd=folder)
    odd = {
        "LC_ALL": "C",
        "LANG": "",
        "TZ": "Antarctica/Troll",
        "PYTHONOPTIMIZE": "1",
        "PYTHONWARNINGS": "error",
    }
    done = lab.nirflow("inspect", night, "--any-shape", env=odd)
    return (*_plain(gone, what="in a deleted folder: "), *_plain(done, what="with odd variables: "))


def _sockets(lab: Laboratory, folder: Path) -> Sequence[Check]:
    """Start and stop services with a temporary folder of their own; nothing may remain in it."""
    temporary = folder / "tmp"
    temporary.mkdir(mode=0o755)
    temporary.chmod(0o1777)
    deep = folder / ("deep" * 20)  # too long for a socket's path
    env = {"NIRFLOW_DATA_DIR": str(deep / "data"), "TMPDIR": str(temporary)}
    deep.mkdir()
    try:
        done = _reduce(lab, folder, env)
    finally:
        stopped = lab.nirflow("down", env=env)
        lab.stop_services(deep / "data")
    left = sorted(path.name for path in temporary.iterdir())
    return (
        *_plain(done, what="reduce: "),
        *_plain(stopped, 0, 3, what="down: "),
        Check(not left, f"left in the temporary folder: {', '.join(left) or 'nothing'}", grave=False),
    )


SITUATIONS: tuple[Situation, ...] = (
    Situation("few-open-files", "machines", "380 frames in a group, 1024 open files allowed, then 256",
              "open files are bounded", trial=_few_files),
    Situation("no-home-no-name", "machines", "no HOME, no entry for the account, a read-only package",
              "works with NIRFLOW_DATA_DIR", trial=_account(), root=True),
    Situation("no-home-variable", "machines", "HOME unset for such an account", "works with NIRFLOW_DATA_DIR",
              trial=_account(home=""), root=True),
    Situation("another-host", "machines", "one data folder, a new host name and new processes in each run",
              "the second run works and reuses", trial=_host, root=True),
    Situation("foreign-postgresql", "machines", "PGHOSTADDR, PGHOST and PGPORT name another server",
              "it is never connected to", trial=_foreign_server),
    Situation("libpq-variables", "machines", "PGSERVICE, PGREQUIREAUTH, PGTARGETSESSIONATTRS and others",
              "ignored for the embedded server", trial=_with_variables(_LIBPQ)),
    Situation("proxies", "machines", "ALL_PROXY and others name a SOCKS proxy that does not exist",
              "the loopback interface needs no proxy", trial=_with_variables(_PROXIES)),
    Situation("foreign-modules", "machines", "modules named tasks, flows and imaging on PYTHONPATH",
              "own packages first, or the file is named", trial=_shadowed),
    Situation("output-closed-or-full", "machines", "standard output closed, full, or no longer read",
              "quiet, and the exit code is right", trial=_no_reader),
    Situation("disk-full", "machines", "an output disk of 1 MB, a data disk of 60 MB",
              "path, needed space and remedy; nothing half made", trial=_full, root=True),
    Situation("deleted-working-folder", "machines", "a deleted working folder; odd locale, zone and interpreter",
              "works", trial=_deleted_folder),
    Situation("socket-folders", "machines", "services started and stopped", "nothing stays in the temporary folder",
              trial=_sockets),
)  # fmt: skip
