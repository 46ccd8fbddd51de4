"""The Dockerfile as its program understands it."""

from __future__ import annotations

import re
import shlex

from benchmarks.containers.workload import ROOT


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


def made_for_nirflow() -> set[str]:
    """Return the folders of the image that its account owns."""
    text = " ".join(rest for instruction, rest in instructions() if instruction == "RUN")
    found = re.search(r"install --directory --owner=nirflow --group=nirflow ([^&]*)", text)
    if found is None:
        raise ValueError("The Dockerfile makes no folders for nirflow's account.")
    return set(found[1].split())


def last_of(instruction: str) -> str:
    """Return the arguments of the last instruction of a kind, such as WORKDIR."""
    return [rest for name, rest in instructions() if name == instruction][-1]


def debian_release() -> str:
    """Return the release of Debian that the image is based on, by the end of the base's tag."""
    (base,) = {rest.partition("=")[2] for name, rest in instructions() if name == "ARG"}
    return base.rpartition("-")[2]
