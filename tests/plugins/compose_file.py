"""docker-compose.yml and the Dockerfile as their programs understand them, and services run without containers."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from waiting import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
_VARIABLE = re.compile(r"\$\{(\w+)(?::([-?]))?|\$\$")


def interpolate(text: str, variables: Mapping[str, str]) -> str:
    """Substitute values for ``${NAME}``, ``${NAME:-default}`` (which may hold others) and
    ``${NAME:?why}``.
    """
    out, at = "", 0
    while found := _VARIABLE.search(text, at):
        out += text[at : found.start()]
        if found[0] == "$$":
            out, at = out + "$", found.end()
            continue
        depth, end = 1, found.end()
        while depth:
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            end += 1
        rest = interpolate(text[found.end() : end - 1], variables)
        value = variables.get(found[1], "")
        if not value and found[2] == "?":
            raise KeyError(f"{found[1]}: {rest}")
        out, at = out + (value or rest), end
    return out + text[at:]


def variables_in(text: str) -> set[str]:
    """Return the names of the variables that a file refers to."""
    return {found[1] for found in _VARIABLE.finditer(text) if found[1]}


def compose(variables: Mapping[str, str]) -> dict[str, Any]:
    """Return the compose file with its variables substituted; a variable without a value is passed on if it
    is set.
    """

    def walk(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: walk(value) for key, value in node.items()}
        if isinstance(node, list):
            return [walk(value) for value in node]
        return interpolate(node, variables) if isinstance(node, str) else node

    document: dict[str, Any] = walk(yaml.safe_load((ROOT / "docker-compose.yml").read_text()))
    for service in document["services"].values():
        passed = {name: variables.get(name) if value is None else str(value)
                  for name, value in service["environment"].items()}  # fmt: skip
        service["environment"] = {name: value for name, value in passed.items() if value is not None}
    return document


def secrets_of(service: Mapping[str, Any]) -> dict[str, str]:
    """Return the secrets of a service: the name of each by its name in the container."""
    given = [one if isinstance(one, dict) else {"source": one} for one in service.get("secrets", [])]
    return {one.get("target", one["source"]): one["source"] for one in given}


def instructions() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions with their arguments."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [
        (instruction, rest.strip())
        for instruction, _, rest in (line.partition(" ") for line in joined)
        if instruction
    ]


def image_environment() -> dict[str, str]:
    """Return the environment that the image sets in every container."""
    pairs = [
        pair for instruction, rest in instructions() if instruction == "ENV" for pair in shlex.split(rest)
    ]
    return dict(pair.split("=", 1) for pair in pairs)


def setup_commands() -> str:
    """Return the commands in the comment at the top of the compose file, up to the one that starts
    everything.
    """
    head = (ROOT / "docker-compose.yml").read_text().partition("\nname:")[0]
    lines = [line[4:] for line in head.splitlines() if line.startswith("#   ")]
    return "\n".join(line for line in lines if not line.startswith("docker"))


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
