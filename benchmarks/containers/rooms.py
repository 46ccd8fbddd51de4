"""Services in namespaces of the kernel, with the file systems, rights and networks that were declared."""

from __future__ import annotations

import contextlib
import http.client
import os
import shlex
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.containers.images import Image, place_in
from benchmarks.containers.networks import Networks
from benchmarks.containers.workload import ROOT, Check, Mount, Workload

#: How long a command in a room may take, s.
_PATIENCE: Final = 300.0
#: A program that collects ended processes and passes signals on, where Docker mounts its own.
_INIT: Final = Path("/usr/bin/tini-static")
_INIT_TARGET: Final = "/run/docker-init"
_DEVICES: Final = ("null", "zero", "full", "random", "urandom", "tty")


@dataclass
class Room:
    """One container: a service that runs, or has run.

    Attributes
    ----------
    name
        Name of the host, by which others reach it.
    environment
        All variables of the service.
    """

    name: str
    workload: Workload
    environment: Mapping[str, str]
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def log(self) -> str:
        """Its output so far."""
        return (self.folder / "log").read_text(errors="replace")

    @property
    def first_process(self) -> int:
        """Process id of its first process, as this machine sees it."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0])


class Rooms:
    """The containers of one deployment: their folders, networks and secrets.

    Parameters
    ----------
    folder
        Folder below which everything is written.
    image
        What nirflow's services see.
    secrets
        Folder with a file for each secret.
    """

    def __init__(self, folder: Path, image: Image, secrets: Path) -> None:
        self.folder, self.secrets = folder, secrets
        self.images = {"nirflow": image, "postgres": image.for_postgres()}
        self.networks = Networks()
        self.rooms: dict[str, Room] = {}
        self._others: list[subprocess.Popen[bytes]] = []
        for one in (folder / "rooms", folder / "volumes"):
            one.mkdir()

    def start(
        self, workload: Workload, name: str = "", environment: Mapping[str, str] | None = None
    ) -> Room:  # fmt: skip
        """Start a service as a host of some name, by default its own; further variables may be given."""
        name = name or workload.name
        folder = self.folder / "rooms" / name
        if name not in self.rooms:
            self.networks.join(name, workload.networks)
            folder.mkdir(exist_ok=True)
        image = self.images[workload.image.partition(":")[0]]
        given = {"HOSTNAME": name, **image.environment, **workload.environment, **(environment or {})}
        command = list(workload.command or image.command)
        self._write_hosts()
        script = "\n".join([
            *self._mounting(name, workload, image),
            shlex.join(["exec", "chroot", str(folder / "root"), *_as_user(workload, given, image, [
                *([_INIT_TARGET, "--"] if workload.init else []), *command,
            ])]),
        ])  # fmt: skip
        (folder / "start.sh").write_text(f"set -eu\n{script}\n")
        with (folder / "log").open("ab") as log:
            process = subprocess.Popen(
                ["nsenter", f"--net=/run/netns/{self.networks.namespace(name)}", "unshare", "--mount", "--uts", "--ipc",
                 "--pid", "--fork", "--kill-child", "--propagation", "private", "/bin/sh", str(folder / "start.sh")],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self.rooms[name] = Room(name, workload, given, folder, process)
        return self.rooms[name]

    def run(self, workload: Workload, name: str = "", environment: Mapping[str, str] | None = None) -> str:
        """Run a service that ends, and return its output; fail if it did not succeed."""
        room = self.start(workload, name, environment)
        code = room.process.wait(_PATIENCE)
        if code:
            raise AssertionError(f"{room.name} ended with {code}:\n{room.log[-4000:]}")
        return room.log

    def inside(self, name: str, command: list[str]) -> subprocess.CompletedProcess[str]:
        """Run a command in a room, with the rights of its service."""
        room = self.rooms[name]
        image = self.images[room.workload.image.partition(":")[0]]
        return subprocess.run(
            ["nsenter", "--target", str(room.first_process), "--mount", "--uts", "--ipc", "--net", "--pid", "--root",
             *_as_user(room.workload, room.environment, image, command)],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=_PATIENCE,
        )  # fmt: skip

    def healthy(self, name: str) -> bool:
        """Return the result of a room's health check; a page is asked for from another host, as by a node."""
        check = self.rooms[name].workload.check
        if check is None:
            raise ValueError(f"{name} has no health check.")
        if check.page is None:
            with contextlib.suppress(IndexError, FileNotFoundError):  # it has not begun
                return self.inside(name, list(check.command)).returncode == 0
            return False
        return bool(self.networks.call(name, lambda: self._answers(name, check)))

    def stop(self, name: str) -> int:
        """Stop a room as its engine does, and return its exit code."""
        room = self.rooms[name]
        with contextlib.suppress(IndexError, FileNotFoundError, ProcessLookupError):
            os.kill(room.first_process, signal.SIGTERM)
        try:
            return room.process.wait(room.workload.grace)
        finally:
            _kill(room.process)

    def forget(self, name: str) -> None:
        """Remove a room that has ended from the networks; its folders stay for the next of its name."""
        del self.rooms[name]
        self.networks.leave(name)

    def ended(self) -> list[Room]:
        """Return the rooms whose process has ended."""
        return [room for room in self.rooms.values() if room.process.poll() is not None]

    def command_lines(self, name: str) -> Iterator[str]:
        """Yield the command line of every process in a room that runs."""
        space = Path(f"/proc/{self.rooms[name].first_process}/ns/pid").readlink()
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (process / "ns" / "pid").readlink() == space:
                    yield (process / "cmdline").read_text().replace("\0", " ")

    def shared(self, name: str) -> Path:
        """Return the folder of this machine that is a shared volume."""
        return self.folder / "volumes" / name

    def own(self, room: str, target: str) -> Path:
        """Return the folder of this machine that is a room's own."""
        return self.folder / "rooms" / room / "own" / target.strip("/").replace("/", "-")

    def closing(self, process: subprocess.Popen[bytes]) -> None:
        """Kill another process of these networks, which leads a session, with the rooms."""
        self._others.append(process)

    def close(self) -> None:
        """Kill and remove everything."""
        for process in [*(room.process for room in self.rooms.values()), *self._others]:
            _kill(process)
        self.networks.close()

    def _answers(self, name: str, check: Check) -> bool:
        assert check.page is not None
        port, path = check.page
        address = self.networks.address(name)
        try:
            if not path:
                socket.create_connection((address, port), timeout=5).close()
                return True
            with contextlib.closing(http.client.HTTPConnection(address, port, timeout=5)) as connection:
                connection.request("GET", path)
                return connection.getresponse().status < 400
        except OSError:
            return False

    # --- file systems

    def _write_hosts(self) -> None:
        """Write each room's /etc/hosts, in place: rooms that run see the names of those that come later."""
        for name in self.networks.hosts():
            folder = self.folder / "rooms" / name
            if folder.is_dir():
                known = self.networks.known_to(name).items()
                lines = "".join(f"{address}\t{host}\n" for host, address in known)
                _rewrite(folder / "hosts", f"127.0.0.1\tlocalhost\n::1\tlocalhost\n{lines}")

    def _mounting(self, name: str, workload: Workload, image: Image) -> Iterator[str]:
        """Yield the commands that mount everything below the room's root."""
        folder = self.folder / "rooms" / name
        root, upper, work = folder / "root", folder / "upper", folder / "work"
        for one in (root, upper, work):
            shutil.rmtree(one, ignore_errors=True)
            one.mkdir()
        upper.chmod(0o755)
        files = self._files(name, workload)
        yield f"mount -t overlay overlay -o lowerdir={image.root},upperdir={upper},workdir={work} {root}"
        places = [*image_folders(image), "/run/secrets", *(mount.target for mount in workload.mounts)]
        yield shlex.join(["mkdir", "-p", *(f"{root}{place_in(image.root, target)}" for target in places)])
        for target in [*files, *image_files(image)]:
            yield f"mkdir -p {shlex.quote(str(Path(f'{root}{target}').parent))} && : > {shlex.quote(f'{root}{target}')}"
        yield f"hostname {shlex.quote(name)}"
        if workload.guarded:
            yield f"mount -o remount,ro {root}"
        yield f"mount -t proc -o nosuid,nodev,noexec proc {root}/proc"
        yield f"mount -t sysfs -o ro,nosuid,nodev,noexec sysfs {root}/sys"
        yield f"mount -t tmpfs -o mode=755,size=64k tmpfs {root}/dev && mkdir {root}/dev/shm {root}/dev/pts"
        for device in _DEVICES:
            yield f": > {root}/dev/{device} && mount --bind /dev/{device} {root}/dev/{device}"
        if not any(mount.target == "/dev/shm" for mount in workload.mounts):
            yield f"mount -t tmpfs -o mode=1777,size=64m,nosuid,nodev tmpfs {root}/dev/shm"
        for mount in workload.mounts:
            yield from self._mount(name, workload, image, mount, root)
        for target, path in sorted(image.borrowed.items()):
            # A folder in memory may hide the place.
            if path.is_dir():
                yield f"mkdir -p {root}{target} && mount --rbind {path} {root}{target}"
            else:
                yield f"mount --bind {path} {root}{target}"
            yield f"mount -o remount,bind,ro {root}{target}"
        for target, path in files.items():
            yield f"mount --bind {shlex.quote(str(path))} {root}{target} && mount -o remount,bind,ro {root}{target}"

    def _mount(
        self, name: str, workload: Workload, image: Image, mount: Mount, root: Path
    ) -> Iterator[str]:  # fmt: skip
        target = f"{root}{place_in(image.root, mount.target)}"
        if mount.options or (mount.target == "/dev/shm" and not mount.shared):
            options = mount.options or "mode=1777"
            yield f"mkdir -p {target} && mount -t tmpfs -o nosuid,nodev,{options} tmpfs {target}"
            return
        source = self.shared(mount.shared) if mount.shared else self.own(name, mount.target)
        if not source.exists():
            self._make(source, workload, image, mount)
        yield f"mkdir -p {target} && mount --bind {source} {target}"
        if not mount.writable:
            yield f"mount -o remount,bind,ro {target}"

    @staticmethod
    def _make(source: Path, workload: Workload, image: Image, mount: Mount) -> None:
        """Make a folder for a mount, as the engine does when it first needs it."""
        covered = image.root / mount.target.lstrip("/")
        source.parent.mkdir(parents=True, exist_ok=True)
        if workload.copies_image and covered.is_dir():
            subprocess.run(["cp", "--archive", str(covered), str(source)], check=True)
        else:
            source.mkdir()
            if not workload.copies_image:
                os.chown(source, 0, workload.user)
                source.chmod(0o2777 if not mount.shared else 0o2775)

    def _files(self, name: str, workload: Workload) -> dict[str, Path]:
        """Return the files that are mounted: secrets, files of the checkout, and those of the engine."""
        folder = self.folder / "rooms" / name
        found = {"/etc/hosts": folder / "hosts"}
        for target, source in workload.secrets.items():
            found[target] = self.secrets / source
            if not workload.copies_image:
                # In Kubernetes a secret belongs to root, and to the group of the pod.
                found[target] = folder / "secrets" / Path(target).name
                found[target].parent.mkdir(exist_ok=True)
                shutil.copy(self.secrets / source, found[target])
                os.chown(found[target], 0, workload.user)
                found[target].chmod(0o440)
        found |= {target: ROOT / file for target, file in workload.files.items()}
        if workload.init:
            found[_INIT_TARGET] = _INIT
        return found


def image_folders(image: Image) -> list[str]:
    """Return the borrowed folders of an image."""
    return [target for target, path in image.borrowed.items() if path.is_dir()]


def image_files(image: Image) -> list[str]:
    """Return the borrowed files of an image."""
    return [target for target, path in image.borrowed.items() if not path.is_dir()]


def _as_user(
    workload: Workload, environment: Mapping[str, str], image: Image, command: list[str]
) -> list[str]:  # fmt: skip
    """Return a command that runs another as the service's user, with its rights and variables only."""
    groups = ",".join(str(one) for one in workload.groups)
    return [
        "/usr/bin/env", "-i", "-C", image.working_folder, *(f"{name}={value}" for name, value in environment.items()),
        "/usr/bin/setpriv", f"--reuid={workload.user}", f"--regid={workload.user}",
        *([f"--groups={groups}"] if groups else ["--clear-groups"]),
        *(["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"] if workload.guarded else []), "--", *command,
    ]  # fmt: skip


def _rewrite(path: Path, text: str) -> None:
    """Replace the content of a small file that is mounted elsewhere, such that no reader sees it empty."""
    path.touch()
    content = text.encode().ljust(path.stat().st_size, b"\n")
    with path.open("r+b", buffering=0) as file:
        file.write(content)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def requirements() -> list[str]:
    """Return what this machine lacks for rooms."""
    lacks: list[Any] = [] if os.geteuid() == 0 else ["the account root"]
    programs = ("ip", "unshare", "nsenter", "setpriv", "chroot", "mount", "hostname")
    lacks += [program for program in programs if shutil.which(program) is None]
    return lacks + ([] if _INIT.exists() else [f"{_INIT} (Debian: tini)"])
