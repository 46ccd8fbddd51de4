"""The laboratory: a small simulated night, services that every reduction shares, and a new store for each."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.faults.forked import preload, run_forked
from benchmarks.faults.outcome import Figures, Outcome, figures_of
from imaging.simulator.parameters import NightParameters
from imaging.simulator.simulate import simulate_night
from imaging.simulator.truth import NightTruth

if TYPE_CHECKING:
    from calib_store.server.postgres_address import PostgresAddress

#: An empty, migrated store.
_TEMPLATE: Final = "faults_template"
#: Seconds after which a command counts as hanging.
PATIENCE: Final = 600.0
#: The dark that a situation changes, and others of the night by role, by file name.
DARK, LAMP_ON, SHORT_DARK = "S20131120S0115.fits", "S20131129S0320.fits", "S20131121S0369.fits"
DARKS: Final = (
    *(f"S20131120S{n:04d}.fits" for n in range(115, 121)), "S20131121S0010.fits", "S20131122S0012.fits",
    "S20131122S0438.fits", "S20131122S0439.fits",
)  # fmt: skip
#: The science frames, in the order in which they were taken.
SCIENCE: Final = tuple(f"S20131121S{n:04d}.fits" for n in range(75, 84))


@dataclass
class Done:
    """The outcome of a command."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def text(self) -> str:
        """Everything that was printed."""
        return self.out + self.err


@dataclass
class Laboratory:
    """A folder with the night, the shared services and the folders of the situations.

    Attributes
    ----------
    folder
        Everything is below it.
    size
        Rows and columns of a frame.
    """

    folder: Path
    size: int = 512
    _count: int = field(default=0, init=False)
    _preloaded: ExitStack | None = field(default=None, init=False)

    @cached_property
    def truth(self) -> NightTruth:
        """The untouched night, simulated once."""
        return simulate_night(self.folder / f"night-{self.size}", NightParameters(size=self.size))

    @cached_property
    def raw(self) -> Path:
        """The folder of its raw frames."""
        return self.truth.folder.parent

    @cached_property
    def untouched(self) -> Outcome:
        """The reduction of the untouched night, in a store of its own."""
        outcome = self.reduce(self.copy("untouched"), "untouched")
        if outcome.code != 0 or not outcome.figures:
            raise RuntimeError(f"the untouched night cannot be reduced: {outcome.printed}{outcome.err}")
        return outcome

    @property
    def expected(self) -> Figures:
        """The figures of the untouched night."""
        return self.untouched.figures

    @cached_property
    def services(self) -> Path:
        """The data folder of the shared Prefect server and PostgreSQL, which run."""
        data = self.folder / "services"
        done = self.nirflow("server", "start", env={"NIRFLOW_DATA_DIR": str(data)})
        if done.code != 0:
            raise RuntimeError(f"the services cannot be started: {done.text}")
        return data

    @cached_property
    def _any_store(self) -> dict[str, str]:
        return self.store()

    def stop(self) -> None:
        """Stop the shared services."""
        if self._preloaded is not None:
            self._preloaded.close()
        if "services" in self.__dict__:
            self.stop_services(self.services)

    def stop_services(self, data: Path) -> None:
        """Stop the Prefect server and the PostgreSQL of a data folder."""
        self.nirflow("server", "stop", env={"NIRFLOW_DATA_DIR": str(data)})
        stop = (
            f"import pathlib; from calib_store.server.postgres import stop; stop(pathlib.Path({str(data)!r}))"
        )
        subprocess.run([sys.executable, "-c", stop], env=environment(), capture_output=True, check=False)

    def new_folder(self, name: str) -> Path:
        """Return a new empty folder for a situation."""
        self._count += 1
        folder = self.folder / f"{self._count:03d}-{name}"
        folder.mkdir(parents=True)
        return folder

    def copy(self, name: str) -> Path:
        """Return a new folder with the night's files as hard links: a change has to replace a file."""
        night = self.new_folder(name) / "night"
        night.mkdir()
        for path in self.truth.raw_paths():
            os.link(path, night / path.name)
        return night

    def store(self) -> dict[str, str]:
        """Return the environment of commands on a new, empty store on the shared services."""
        self._count += 1
        name = f"faults_{self._count}"
        with self._address.administer() as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE} OWNER nirflow".encode())
        url = self._address.url(name).render_as_string(hide_password=False)
        return {"NIRFLOW_DATA_DIR": str(self.services), "NIRFLOW_DATABASE_URL": url}

    @cached_property
    def _address(self) -> PostgresAddress:
        """The shared PostgreSQL, with an empty store that new ones are copied from."""
        from calib_store.migrations import migrate
        from calib_store.server.postgres import ensure_running
        from calib_store.tables.database import Database

        address = ensure_running(self.services)
        with address.administer() as connection:
            connection.execute(f"CREATE DATABASE {_TEMPLATE} OWNER nirflow".encode())
        database = Database(address.url(_TEMPLATE))
        migrate(database.engine)
        database.close()
        return address

    def reduce(
        self, night: Path, name: str, *options: str, env: Mapping[str, str] | None = None, score: bool = True
    ) -> Outcome:
        """Reduce a folder into a new store (or that of ``env``), and compare the products with the truth."""
        out = night.parent / "out"
        store = self.store() if env is None else env
        done = self.nirflow(
            "reduce", night, "--out", out, "--json", "--set", "check.shape=none", *options, env=store
        )
        log_file = out / "nirflow.log"
        log = log_file.read_text(errors="replace") if log_file.is_file() else ""
        report = _json(done.out)
        figures = figures_of(report, self.truth) if report and score else {}
        return Outcome(
            name, night, out, done.code, report, "" if report else done.out, done.err, log, figures, self, store
        )  # fmt: skip

    def inspect(self, *paths: Path) -> str:
        """Return what ``nirflow inspect --pixels`` prints about files or folders."""
        return self.nirflow("inspect", "--any-shape", "--pixels", *paths, env=self._any_store).text

    def nirflow(
        self, *arguments: object, env: Mapping[str, str] | None = None, under: Sequence[str] = (), **how: Any
    ) -> Done:
        """Run ``nirflow`` with arguments; ``under`` is a command that starts it (``unshare``, ``setpriv``).

        A command on the shared services runs in a copy of this process, any other in a process of its own.
        """
        if not under and not how and env is not None and env.get("NIRFLOW_DATABASE_URL") and len(env) == 2:
            return self._forked([str(argument) for argument in arguments], environment(env))
        script = Path(sys.executable).with_name("nirflow")
        return self.run([*under, str(script), *map(str, arguments)], env=env, **how)

    def _forked(self, arguments: Sequence[str], variables: Mapping[str, str]) -> Done:
        if self._preloaded is None:
            self._preloaded = preload(self.services)
        began = time.monotonic()
        code, out, err = run_forked(arguments, variables, self.folder, PATIENCE)
        return Done(code, out, err, time.monotonic() - began)

    def run(self, command: Sequence[str], *, env: Mapping[str, str] | None = None, **how: Any) -> Done:
        """Run a command without the user's own settings."""
        how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": self.folder} | how
        began = time.monotonic()
        try:
            done = subprocess.run(
                list(command), env=environment(env), text=True, errors="replace", timeout=PATIENCE,
                stdin=subprocess.DEVNULL, check=False, **how,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return Done(-1, "", f"still running after {PATIENCE:g} s", time.monotonic() - began)
        return Done(done.returncode, done.stdout or "", done.stderr or "", time.monotonic() - began)


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a command: without the user's own settings, with ``more`` (empty unsets)."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("NIRFLOW_", "PREFECT_"))}
    return {k: v for k, v in (kept | dict(more or {})).items() if v}


@contextmanager
def laboratory(folder: Path | None, size: int, *, keep: bool = False) -> Iterator[Laboratory]:
    """Yield a laboratory below ``folder`` (default: the temporary folder); remove it afterwards unless ``keep``."""
    below = folder or Path(tempfile.gettempdir())
    below.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix="faults-", dir=below))
    place.chmod(0o755)  # other accounts read the night
    one = Laboratory(place, size)
    try:
        yield one
    finally:
        one.stop()
        if not keep:
            shutil.rmtree(place, ignore_errors=True)


def announce(text: str) -> None:
    """Print a progress message on standard error."""
    print(f"faults: {text}", file=sys.stderr, flush=True)


def _json(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
