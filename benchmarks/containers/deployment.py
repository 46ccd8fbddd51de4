"""All services of one deployment in rooms, brought up as its files declare, and its Prefect server asked."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from benchmarks.containers.compose_file import setup_commands
from benchmarks.containers.images import Image
from benchmarks.containers.rooms import Room, Rooms, requirements
from benchmarks.containers.workload import ROOT, Workload
from deployments.prefect_api.rest import Rest

T = TypeVar("T")

#: Limit of every wait, s: far beyond the needs of a busy machine.
PATIENCE: Final = 900.0
#: States of runs that are not over.
_UNFINISHED: Final = {"SCHEDULED", "PENDING", "RUNNING", "CANCELLING"}
_BROWSER: Final = "browser"


class Deployment:
    """The services of one deployment.

    Parameters
    ----------
    folder
        Empty folder for everything that they write.
    image
        What nirflow's services see.
    workloads
        What the files declare, by name.
    environment
        Further variables of nirflow's services: small frames, another object store.
    """

    def __init__(
        self, folder: Path, image: Image, workloads: Mapping[str, Workload], environment: Mapping[str, str]
    ) -> None:  # fmt: skip
        self.folder, self.workloads, self.environment = folder, workloads, environment
        shutil.copy(ROOT / ".env.example", folder)
        subprocess.run(["sh", "-euc", setup_commands()], cwd=folder, check=True)
        self.rooms = Rooms(folder, image, folder / "secrets")
        self.rooms.networks.join(_BROWSER, {"edge"})

    def secret(self, name: str) -> str:
        """Return a secret."""
        return (self.folder / "secrets" / name).read_text().strip()

    def passwords(self) -> set[str]:
        """Return the passwords of all accounts."""
        found = set()
        for file in (self.folder / "secrets").iterdir():
            if file.name != "aws_credentials":
                text = file.read_text().strip()
                url = text.partition("://")[2]
                found.add((url.partition("@")[0] if url else text).rpartition(":")[2])
        return found

    def start(self, service: str, name: str = "") -> Room:
        """Start a service that stays, with the further variables."""
        given = {} if service == "postgres" else self.environment
        return self.rooms.start(self.workloads[service], name, given)

    def run(self, service: str) -> str:
        """Run a service that ends, and return its output."""
        output = self.rooms.run(self.workloads[service], environment=self.environment)
        self.rooms.forget(service)
        return output

    def bring_up(self) -> None:
        """Start the database and the server, and run what has to run once, in the order of their needs."""
        self.start("postgres")
        self.wait_healthy("postgres")
        self.run("init")
        self.run("init")  # it runs at every start, and finds that all is done
        self.start("server")
        self.wait_healthy("server")
        self.run("register")

    def wait_healthy(self, *names: str) -> None:
        """Wait until the health checks of rooms succeed."""
        for name in names:
            self.wait(lambda name=name: self.rooms.healthy(name), f"{name} to be healthy")

    def wait(self, condition: Callable[[], T], what: str) -> T:
        """Wait until a condition holds, and return its first true value.

        Raises
        ------
        AssertionError
            If a service ends meanwhile, or the condition never holds.
        """
        deadline = time.monotonic() + PATIENCE
        while not (found := condition()):
            for room in self.rooms.ended():
                raise AssertionError(f"{room.name} ended with {room.process.returncode}:\n{room.log[-4000:]}")
            if time.monotonic() > deadline:
                logs = "\n".join(f"== {room.name}\n{room.log[-2000:]}" for room in self.rooms.rooms.values())
                raise AssertionError(f"Waited {PATIENCE:g} s in vain for {what}.\n{logs}")
            time.sleep(0.5)
        return found

    def ask(self, path: str, body: Any) -> Any:
        """Send a request to the Prefect server from the network of the browsers."""
        url = f"http://{self.rooms.networks.address('server', 'edge')}:4210/api"
        rest = Rest(url, self.secret("server_auth"))
        return self.rooms.networks.call(_BROWSER, lambda: rest.post(path, body))

    def outside(self, function: Callable[[str], T]) -> T:
        """Return the result of a function of the server's address, called in the network of the browsers."""
        site = f"http://{self.rooms.networks.address('server', 'edge')}:4210"
        return self.rooms.networks.call(_BROWSER, lambda: function(site))

    def runs(self, states: Collection[str] = ()) -> list[dict[str, Any]]:
        """Return the runs of frames: those in some states, or all that were not scheduled by the clock."""
        found = self.ask("/flow_runs/filter", {"limit": 200})
        return [
            run for run in found
            if "auto-scheduled" not in run["tags"] and (not states or run["state"]["type"] in states)
        ]  # fmt: skip

    def unfinished(self) -> list[dict[str, Any]]:
        """Return the runs that are not over."""
        return self.runs(_UNFINISHED)

    def troubled(self) -> list[str]:
        """Return the runs that ended otherwise than as planned, with the reason."""
        over = [run for run in self.runs() if run["state"]["type"] not in _UNFINISHED]
        good = ("Completed", "Waiting")
        return [f"{r['name']}: {r['state']['message']}" for r in over if r["state"]["name"] not in good]

    def logs(self) -> str:
        """Return the output of all rooms that stay."""
        return "".join(room.log for room in self.rooms.rooms.values())


@contextmanager
def deployed(
    folder: Path, image: Image, workloads: Mapping[str, Workload], environment: Mapping[str, str],
    prepare: Callable[[Deployment], None] = lambda services: None,
) -> Iterator[Deployment]:  # fmt: skip
    """Yield a deployment whose database and server are up, and end everything with the block.

    Parameters
    ----------
    folder, image, workloads, environment
        Of `Deployment`.
    prepare
        Called before anything is started.

    Raises
    ------
    RuntimeError
        If this machine cannot run services in namespaces.
    """
    if lacks := requirements():
        raise RuntimeError(f"Containers cannot be tried on this machine, which lacks: {', '.join(lacks)}.")
    with contextlib.ExitStack() as stack:
        one = Deployment(folder, image, workloads, environment)
        stack.callback(one.rooms.close)
        prepare(one)
        one.bring_up()
        yield one
