"""Commands run as an account that PostgreSQL accepts: it refuses to run as root.

Where the caller is root, as in most containers, the commands run as ``nobody``. The cluster's folder is
given to that account; one capability lets it pass folders above it that only root may enter (``/root``),
so that no folder's permissions have to be opened up.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from calib_store.libpq import without_variables
from imaging.errors import StoreError

_UNPRIVILEGED = "nobody"
#: Capabilities that let a process search folders that it has no permission for, the weaker one first,
#: with their numbers in Linux's capability.h.
_SEARCH = (("dac_read_search", 2), ("dac_override", 1))


@dataclass(frozen=True)
class Account:
    """The account that the database server runs as.

    Parameters
    ----------
    uid, gid
        Its numbers.
    prefix
        What comes before a command to run it as that account.
    """

    uid: int
    gid: int
    prefix: tuple[str, ...] = ()

    def give(self, path: Path) -> None:
        """Make the account the owner of ``path``."""
        if self.prefix:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def run(self, command: Sequence[str], *, cwd: Path, timeout: float) -> subprocess.CompletedProcess[str]:
        """Run a command as the account, in a session of its own and without a terminal.

        Variables that change what PostgreSQL's programs do (``PGDATA``, ``PGPORT``...) are kept from it.
        """
        return subprocess.run(
            [*self.prefix, *command],
            cwd=cwd,
            env={**without_variables(os.environ), "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
            start_new_session=True,
        )


@cache
def server_account() -> Account:
    """The account for the server: the caller's own, or ``nobody`` where the caller is root."""
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid())
    setpriv = shutil.which("setpriv")
    try:
        entry = pwd.getpwnam(_UNPRIVILEGED)
    except KeyError:
        entry = None
    if setpriv is None or entry is None:
        missing = "the program setpriv (util-linux)" if setpriv is None else f"an account {_UNPRIVILEGED!r}"
        raise StoreError(
            f"The embedded PostgreSQL does not run as root, and {missing} to run it otherwise is missing.",
            remedy="Run nirflow as an ordinary user, or set NIRFLOW_DATABASE_URL to a server.",
        )
    prefix = [setpriv, f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups"]
    permitted = _permitted_capabilities()
    for name, number in _SEARCH:
        if permitted >> number & 1:
            prefix += [f"--inh-caps=+{name}", f"--ambient-caps=+{name}"]
            break
    return Account(entry.pw_uid, entry.pw_gid, (*prefix, "--no-new-privs", "--"))


def _permitted_capabilities() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapPrm:"):
            return int(line.split()[1], 16)
    return 0
