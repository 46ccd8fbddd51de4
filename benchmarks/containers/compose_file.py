"""docker-compose.yml as its program understands it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import yaml

from benchmarks.containers.workload import ROOT, Check, Mount, Workload, in_order

_VARIABLE: Final = re.compile(r"\$\{(\w+)(?::([-?]))?|\$\$")
_SECONDS: Final = {"s": 1.0, "m": 60.0}
_BYTES: Final = {"m": 1 / 1024, "g": 1.0}


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


def setup_commands() -> str:
    """Return the commands in the comment at the top of the compose file, up to the one that starts
    everything.
    """
    head = (ROOT / "docker-compose.yml").read_text().partition("\nname:")[0]
    lines = [line[4:] for line in head.splitlines() if line.startswith("#   ")]
    return "\n".join(line for line in lines if not line.startswith("docker"))


def workloads(variables: Mapping[str, str]) -> dict[str, Workload]:
    """Return the services of the compose file, by name."""
    document = compose(variables)
    configs = {name: one["file"].removeprefix("./") for name, one in document["configs"].items()}
    return {
        name: _workload(name, service, configs)
        for name, service in document["services"].items()
    }  # fmt: skip


def _workload(name: str, service: Mapping[str, Any], configs: Mapping[str, str]) -> Workload:
    user, group = (int(number) for number in service["user"].split(":"))
    limits = service["deploy"]["resources"]["limits"]
    guarded = (
        service["read_only"] is True
        and service["cap_drop"] == ["ALL"]
        and service["security_opt"] == ["no-new-privileges:true"]
        and user == group > 0
    )
    return Workload(
        name=name, image=service["image"], command=tuple(service.get("command", ())),
        environment=service["environment"], user=user,
        groups=tuple(int(number) for number in service.get("group_add", ())), mounts=_mounts(service),
        files={one["target"]: configs[one["source"]] for one in service.get("configs", ())},
        secrets={f"/run/secrets/{target}": source for target, source in secrets_of(service).items()},
        networks=frozenset(service["networks"]),
        ports=tuple(int(port.rpartition(":")[2]) for port in service.get("ports", ())),
        check=_check(service.get("healthcheck")), init=service.get("init", False), guarded=guarded,
        grace=quantity(service["stop_grace_period"], _SECONDS), cpus=float(limits["cpus"]),
        memory=quantity(limits["memory"], _BYTES),
    )  # fmt: skip


def quantity(text: str, units: Mapping[str, float]) -> float:
    """Return a number with a unit as a number."""
    number, unit = re.fullmatch(r"([\d.]+)([A-Za-z]*)", text).groups()  # type: ignore[union-attr]
    return float(number) * units[unit]


def _mounts(service: Mapping[str, Any]) -> tuple[Mount, ...]:
    found = []
    for one in service.get("volumes", ()):
        if isinstance(one, str):
            source, _, target = one.rpartition(":")
            found.append(Mount(target, source, True))
        else:
            # A folder of this machine is named after its place.
            source = one["target"].lstrip("/") if one["type"] == "bind" else one["source"]
            found.append(Mount(one["target"], source, not one.get("read_only", False)))
    for one in service.get("tmpfs", ()):
        target, _, options = one.partition(":")
        found.append(Mount(target, "", True, options))
    if size := service.get("shm_size"):
        found.append(Mount("/dev/shm", "", True, f"size={size.removesuffix('b')},mode=1777"))
    return in_order(found)


def _check(given: Mapping[str, Any] | None) -> Check | None:
    if given is None:
        return None
    command = tuple(given["test"][1:])
    asked = re.search(r'urlopen\("http://127\.0\.0\.1:(\d+)(/[^"]*)"', command[-1])
    return Check(page=(int(asked[1]), asked[2])) if asked else Check(command)
