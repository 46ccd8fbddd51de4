"""The image of the Dockerfile, built step by step in a chroot of Debian's packages.

The base is what the tag of the Dockerfile's base image names: the release of Debian, with the packages of the slim
image of Python. Python itself is this machine's, of the same minor version: the image's own is compiled by its makers.
Debian's packages come from where apt is configured to take them, Python's from where pip does.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from benchmarks.containers.dockerfile import debian_release, image_environment, instructions, last_of
from benchmarks.containers.images import POSTGRES, Image, accounts
from benchmarks.containers.workload import ROOT

#: What the slim image of Python adds to Debian's smallest system, as its own description lists it.
_PACKAGES: Final = (
    "ca-certificates", "netbase", "tzdata", "libbz2-1.0", "libffi8", "liblzma5", "libncursesw6", "libreadline8t64",
    "libsqlite3-0", "libssl3t64", "libuuid1", "zlib1g",
)  # fmt: skip
#: What Python's standard library has that an image does not need.
_LEFT_OUT: Final = ("site-packages", "test", "idlelib", "__pycache__", "tkinter", "lib2to3")
#: How this machine reaches the network, which a step of the build sees as in a container.
_NETWORK: Final = ("/etc/resolv.conf", "/etc/hosts", "/etc/pip.conf", "/etc/xdg/pip", "/root/.config/pip")


def build_image(folder: Path) -> Image:
    """Build the image, and return it.

    Parameters
    ----------
    folder
        An empty folder for it.

    Raises
    ------
    RuntimeError
        If this machine lacks what is needed.
    subprocess.CalledProcessError
        If a step fails; its output is in the error.
    """
    if shutil.which("debootstrap") is None:
        raise RuntimeError("The image cannot be built on this machine, which lacks debootstrap.")
    wanted = ".".join(dict(instructions())["ARG"].partition("python:")[2].split(".")[:2])
    if wanted != f"{sys.version_info.major}.{sys.version_info.minor}" or Path(sys.base_prefix).is_relative_to(
        "/usr"
    ):
        raise RuntimeError(
            f"The image has Python {wanted}, and needs one of this machine in a folder of its own; "
            f"{sys.base_prefix} has {sys.version.split()[0]}."
        )
    base = folder / "base"
    _debian(base)
    _python(base)
    stages = list(_stages())
    roots: dict[str, Path] = {}
    for number, (name, steps) in enumerate(stages):
        root = base if number == len(stages) - 1 else folder / f"stage-{number}"
        if root != base:
            subprocess.run(["cp", "--archive", str(base), str(root)], check=True)
        roots[name or str(number)] = root
        _run_stage(root, steps, roots)
    for name in ("etc/hosts", "etc/resolv.conf"):
        (base / name).touch()
    (base / "var/lib/postgresql").mkdir(parents=True)
    os.chown(base / "var/lib/postgresql", POSTGRES, POSTGRES)
    with (base / "etc/passwd").open("a") as file:  # the account of PostgreSQL's image
        file.writelines(f"{line}\n" for line in accounts() if line.startswith("postgres:"))
    return Image(base, image_environment(), last_of("WORKDIR"))


def mirror() -> str:
    """Return the address from which apt takes Debian's packages on this machine."""
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(ORIGIN) $(COMPONENT) $(REPO_URI)", "Created-By: Packages"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    found = [line.split()[2] for line in listed.splitlines() if line.startswith("Debian main ")]
    plain = [address for address in found if "security" not in address]
    if not plain:
        raise RuntimeError("apt knows no packages of Debian yet: run apt-get update.")
    return plain[0]


def _debian(root: Path) -> None:
    """Install the release of Debian that the Dockerfile names."""
    _call(
        [
            "debootstrap",
            "--variant=minbase",
            f"--include={','.join(_PACKAGES)}",
            debian_release(),
            str(root),
            mirror(),
        ]
    )


def _python(root: Path) -> None:
    """Put this machine's Python into /usr/local, with its installer, as in the base image."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    prefix, local = Path(sys.base_prefix), root / "usr" / "local"
    shutil.copytree(
        prefix / "lib" / name, local / "lib" / name, symlinks=True, ignore=shutil.ignore_patterns(*_LEFT_OUT)
    )
    (local / "lib" / name / "site-packages").mkdir()
    for library in (prefix / "lib").glob("libpython3*.so*"):
        shutil.copy(library, local / "lib", follow_symlinks=False)
    shutil.copy(prefix / "bin" / name, local / "bin" / name)
    for link in ("python3", "python"):
        (local / "bin" / link).symlink_to(name)
    chroot = ["chroot", str(root)]
    _call([*chroot, "/sbin/ldconfig"])
    _call([*chroot, "/usr/local/bin/python", "-m", "ensurepip", "--default-pip"])


def _stages() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield the stages of the Dockerfile: name and instructions."""
    steps: list[tuple[str, str]] = []
    name: str | None = None
    for instruction, rest in instructions():
        if instruction == "FROM":
            if name is not None:
                yield name, steps
            name, steps = rest.partition(" AS ")[2], []
        else:
            steps.append((instruction, rest))
    yield name or "", steps


def _run_stage(root: Path, steps: list[tuple[str, str]], roots: Mapping[str, Path]) -> None:
    environment = {"PATH": "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
    folder = "/"
    for instruction, rest in steps:
        if instruction == "WORKDIR":
            folder = rest
            (root / folder.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif instruction == "ENV":
            environment |= dict(pair.split("=", 1) for pair in shlex.split(rest))
        elif instruction == "COPY":
            _copy(root, folder, rest.split(), roots)
        elif instruction == "RUN":
            command = " ".join(part for part in rest.split(" ") if not part.startswith("--mount="))
            _run(root, folder, environment, command)


def _copy(root: Path, folder: str, words: list[str], roots: Mapping[str, Path]) -> None:
    source = ROOT
    if words[0].startswith("--from="):
        source = roots[words.pop(0).partition("=")[2]]
    *names, target = words
    into = root / str(Path(folder) / target).lstrip("/")
    for name in names:
        path = source / name.lstrip("/")
        if path.is_dir():
            shutil.copytree(
                path, into, symlinks=True, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy(path, into)


def _run(root: Path, folder: str, environment: Mapping[str, str], command: str) -> None:
    """Run a step in the root file system, with this machine's network and the installer's files on it."""
    asked = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    seen = [
        Path(name) for name in (*_NETWORK, *asked.values()) if name.startswith("/") and Path(name).exists()
    ]
    seen += [cache for cache in (Path.home() / ".cache" / "pip",) if cache.is_dir()]
    script = [f"mount -t proc proc {root}/proc", f"mount --bind /dev {root}/dev"]
    for path in seen:
        target = f"{root}{path}"
        made = f"mkdir -p {target}" if path.is_dir() else f"mkdir -p {Path(target).parent} && touch {target}"
        script.append(f"{made} && mount --bind {path} {target}")
    given = [f"{name}={value}" for name, value in {**asked, **environment}.items()]
    script.append(
        shlex.join(
            [
                "exec",
                "chroot",
                str(root),
                "/usr/bin/env",
                "-i",
                "-C",
                folder,
                *given,
                "/bin/sh",
                "-c",
                command,
            ]
        )
    )
    _call(["unshare", "--mount", "--propagation", "private", "/bin/sh", "-euc", "\n".join(script)])


def _call(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise RuntimeError(f"{shlex.join(command)[:300]} failed:\n{(done.stdout + done.stderr)[-4000:]}")
