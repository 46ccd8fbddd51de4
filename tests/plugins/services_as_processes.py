"""Services of docker-compose.yml run without containers."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from waiting import PATIENCE

from benchmarks.containers.compose_file import compose, secrets_of
from benchmarks.containers.dockerfile import image_environment


@dataclass
class Machine:
    """Services of the compose file run as plain processes, with this machine's folders and ports.

    Attributes
    ----------
    root
        Folder below which everything is written.
    secrets
        Folder of the secrets; each service gets its own in a separate folder.
    ports
        Port on this machine by the port in a container.
    variables
        Values of the compose file's variables.
    more
        Additional variables for every service.
    """

    root: Path
    secrets: Path
    ports: Mapping[int, int]
    variables: Mapping[str, str]
    more: Mapping[str, str] = field(default_factory=dict)
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.services = compose(self.variables)["services"]

    def start(self, name: str) -> subprocess.Popen[bytes]:
        """Start a service; its output goes to a file."""
        with self.log(name).open("ab") as sink:
            self.running[name] = subprocess.Popen(
                self.arguments_of(name, self.services[name]["command"]), env=self.environment(name), stdout=sink,
                stderr=sink, stdin=subprocess.DEVNULL, cwd=self.root, start_new_session=True,
            )  # fmt: skip
        return self.running[name]

    def healthy(self, name: str) -> bool:
        """Return the result of a service's health check."""
        check = self.services[name]["healthcheck"]["test"]
        command = self.arguments_of(name, check[1:])
        done = subprocess.run(
            command, env=self.environment(name), capture_output=True, timeout=PATIENCE, cwd=self.root
        )
        return done.returncode == 0

    def log(self, name: str) -> Path:
        """Return the file with a service's output."""
        return self.root / f"{name}.log"

    def arguments_of(self, name: str, command: list[str]) -> list[str]:
        """Return a command, with this machine's folders and ports."""
        program, *arguments = (self.here(name, argument) for argument in command)
        return [str(Path(sys.executable).with_name(program)), *arguments]

    def environment(self, name: str) -> dict[str, str]:
        """Return the environment from the image and the compose file, with nothing of this process's own
        except PATH.
        """
        given = image_environment() | self.services[name]["environment"]
        given = {key: self.here(name, value) for key, value in given.items()}
        given["PATH"] = f"{Path(sys.executable).parent}:/usr/bin:/bin"
        return given | {"NIRFLOW_SECRETS_DIR": str(self._secrets(name))} | self.more

    def here(self, name: str, text: str) -> str:
        """Return a text of the compose file, with this machine's folders and ports."""
        places = r"(?<![\w/.])/(?:data|nights|raw|tmp|backup)(?![\w.])"
        text = re.sub(places, lambda found: str(self.folder(name, found[0])), text)
        for inside, outside in self.ports.items():
            text = re.sub(rf"(?<=[\w.]:){inside}\b", str(outside), text)
        return re.sub(r"(?<=[@/])(server|postgres)(?=:)", "127.0.0.1", text)

    def folder(self, name: str, target: str) -> Path:
        """Return the folder that replaces a container's: shared if it is a volume with a name, otherwise the
        service's own, with the volumes in it.
        """
        volumes = [one if isinstance(one, str) else f"{one['source']}:{one['target']}"
                   for one in self.services[name].get("volumes", [])]  # fmt: skip
        named = {one.split(":")[1] for one in volumes if ":" in one}
        folder = self.root / ("volumes" if target in named else name) / target[1:]
        folder.mkdir(parents=True, exist_ok=True)
        if target not in named:
            for one in named:
                inner = self.root / name / one[1:]
                if inner.is_relative_to(folder) and not inner.exists():
                    inner.symlink_to(self.folder(name, one))
        return folder

    def _secrets(self, name: str) -> Path:
        folder = self.root / name / "secrets"
        folder.mkdir(parents=True, exist_ok=True)
        for target, source in secrets_of(self.services[name]).items():
            text = (self.secrets / source).read_text().replace("@postgres/", "@postgres:5432/")
            if not (folder / target).exists():  # a running service may be reading it
                (folder / target).write_text(self.here(name, text))
        return folder

    def stop(self, name: str, seconds: float) -> int:
        """Stop a service as Docker does and return its exit code."""
        process = self.running.pop(name)
        process.terminate()
        try:
            return process.wait(seconds)
        finally:
            _kill(process)

    def kill(self) -> None:
        """Kill everything that still runs."""
        while self.running:
            _kill(self.running.popitem()[1])

    def command_lines(self) -> Iterator[str]:
        """Yield the command line of every process of the running services."""
        for process in self.running.values():
            for folder in Path("/proc").glob("[0-9]*"):
                try:
                    session = (folder / "stat").read_text().rpartition(")")[2].split()[3]
                    if session == str(process.pid):
                        yield (folder / "cmdline").read_text().replace("\0", " ")
                except (FileNotFoundError, ProcessLookupError):
                    continue


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
