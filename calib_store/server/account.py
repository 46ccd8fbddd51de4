"""The account that the embedded PostgreSQL server runs as: the caller's own, or one that nobody else uses.

PostgreSQL refuses to run as root. If the caller is root, as in most containers, the server runs as a user id that no
account has, without any capability. No folder's permissions are widened for it: its working folder is the cluster,
which root enters before it drops its rights, and the server refers to it as ``/proc/self/cwd``.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from imaging.errors import StoreError

#: User ids that neither distributions nor systemd give to accounts or containers (systemd's table of users and groups:
#: unused; Debian policy 9.2.2: reserved). They exist in containers that have 65536 ids too.
RESERVED: Final = range(65520, 65534)
#: An account that has a name on every machine, and owns no valuable files.
_NOBODY: Final = "nobody"
_SERVER: Final = "postgres"
#: The variables that PostgreSQL needs; secrets in the caller's environment are not passed on.
_VARIABLES: Final = ("PATH", "TZ")
#: Capabilities that root needs to give the server its files and its account, with their numbers in capability.h.
_RIGHTS: Final = {"CAP_CHOWN": 0, "CAP_DAC_OVERRIDE": 1, "CAP_SETGID": 6, "CAP_SETUID": 7}
#: CAP_SETPCAP.
_LIMITING: Final = 8
_REMEDY: Final = "Run nirflow as an ordinary user, or set NIRFLOW_DATABASE_URL to a server."


@dataclass(frozen=True)
class Account:
    """The account that a program of PostgreSQL runs as.

    Parameters
    ----------
    uid, gid
        Its user id and group id.
    prefix
        Prefix of a command that runs it as that account; empty for the caller's own.
    """

    uid: int
    gid: int
    prefix: tuple[str, ...] = ()

    def give(self, path: Path) -> None:
        """Make the account the owner of ``path``."""
        if self.prefix:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def run(
        self,
        command: Sequence[str],
        *,
        cwd: Path,
        timeout: float,
        descriptors: Sequence[int] = (),
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as the account, in its own session, without a terminal or the caller's variables.

        Parameters
        ----------
        command
            The program and its arguments.
        cwd
            Its working folder, which the account need not be able to reach.
        timeout
            s.
        descriptors
            Open files that it inherits.
        variables
            Further variables of its environment.
        """
        return subprocess.run(
            [*self.prefix, *command],
            cwd=cwd,
            env={**server_environment(), **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
            start_new_session=True,
            pass_fds=descriptors,
        )


def server_environment() -> dict[str, str]:
    """Return the environment of the PostgreSQL server: only the variables of the caller's that it needs."""
    given = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
    return {"PATH": os.defpath, **given, "LC_ALL": "C"}


def server_account(cluster: Path) -> Account:
    """Return the account for the server of a cluster, which need not exist yet.

    It is the caller's own or, if the caller is root, a reserved user id: that of the cluster's owner if it is reserved.

    Raises
    ------
    StoreError
        If there is no such account, or the cluster belongs to another account.
    """
    owner, own = _owner(cluster), os.geteuid()
    if owner is not None and owner not in (roots_owners(cluster) if own == 0 else {own}):
        raise StoreError(
            f"The database in {cluster} belongs to the account {account_name(owner)}, not to {account_name(own)}.",
            remedy="Run nirflow as its owner; or let root transfer the data to this account: "
            f"chown -R {account_name(own)} {cluster.parent}",
        )
    if own != 0:
        return Account(own, os.getegid())
    _require_rights()
    if owner is not None and owner in RESERVED and _is_free(owner):
        return _as(owner, owner)
    for number in RESERVED:
        if _is_free(number) and _only_servers_run_as(number):
            return _as(number, number)
    raise StoreError(
        "The embedded PostgreSQL does not run as root, and none of the user ids "
        f"{RESERVED[0]} to {RESERVED[-1]} can be used: each has an account, runs a process or is not mapped here.",
        remedy=_REMEDY,
    )


def owner_account(cluster: Path) -> Account:
    """Return the account that owns a cluster, which may stop the server there."""
    found = cluster.stat()
    if os.geteuid() != 0 or found.st_uid == 0:
        return Account(os.geteuid(), os.getegid())
    return _as(found.st_uid, found.st_gid)


def making_account(account: Account) -> Account:
    """Return the account that creates the cluster of `account`: initdb requires a user id with a name.

    For a reserved user id it is nobody, with a group other than nobody's: other processes of nobody may neither trace
    nor inspect such a process (ptrace(2) compares the groups too).
    """
    if not account.prefix:
        return account
    try:
        entry = pwd.getpwnam(_NOBODY)
    except KeyError:
        raise StoreError(
            f"The embedded PostgreSQL cannot be created as root, and the account {_NOBODY!r} to create it is missing.",
            remedy=_REMEDY,
        ) from None
    return _as(entry.pw_uid, account.gid)


def spare_account() -> Account:
    """Return an account for reading a file from elsewhere: the caller's own or, for root, one without processes."""
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid())
    for number in reversed(RESERVED):
        if _is_free(number) and not _processes_of(number):
            return _as(number, number)
    raise StoreError(
        f"None of the user ids {RESERVED[0]} to {RESERVED[-1]} is free for reading a file without root's rights.",
        remedy="Run nirflow as an ordinary user.",
    )


def roots_owners(cluster: Path) -> frozenset[int]:
    """Return the owners that root's cluster can have: reserved ids, root (a copy), nobody (an earlier nirflow)."""
    owners = {0, *RESERVED}
    if _owner(cluster.parent) == 0:
        with contextlib.suppress(KeyError):
            owners.add(pwd.getpwnam(_NOBODY).pw_uid)
    return frozenset(owners)


def account_name(uid: int) -> str:
    """Return the name of an account, or its number if it has no name."""
    return known_name(uid) or str(uid)


def known_name(uid: int) -> str | None:
    """Return the name of an account; None if it has none, as in a container with an arbitrary user id."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def _require_rights() -> None:
    """Refuse to run as a root that cannot change owners, as in a container without capabilities."""
    if missing := [name for name, number in _RIGHTS.items() if not _has(number)]:
        raise StoreError(
            "The embedded PostgreSQL does not run as root, and this root lacks the capabilities to run it as another "
            f"account: {', '.join(missing)}.",
            remedy=_REMEDY,
        )


def _has(capability: int) -> bool:
    status = Path("/proc/self/status").read_text()
    effective = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(effective >> capability & 1)


def _as(uid: int, gid: int) -> Account:
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise StoreError(
            "The embedded PostgreSQL does not run as root, and the program setpriv (util-linux) to run it as another "
            "account is missing.",
            remedy=_REMEDY,
        )
    return Account(
        uid, gid,
        (
            setpriv, f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--inh-caps=-all",
            # Only a process with this capability may drop others permanently.
            *(["--bounding-set=-all"] if _has(_LIMITING) else []), "--no-new-privs", "--",
        ),
    )  # fmt: skip


def _owner(path: Path) -> int | None:
    try:
        return path.stat().st_uid
    except FileNotFoundError:
        return None


def _is_free(number: int) -> bool:
    """Return whether a user id belongs to no account, and exists in this container."""
    try:
        pwd.getpwuid(number)
    except KeyError:
        pass
    else:
        return False
    try:
        grp.getgrgid(number)
    except KeyError:
        return _mapped(Path("/proc/self/uid_map"), number) and _mapped(Path("/proc/self/gid_map"), number)
    return False


def _mapped(ranges: Path, number: int) -> bool:
    rows = (map(int, line.split()) for line in ranges.read_text().splitlines())
    return any(first <= number < first + count for first, _, count in rows)


def _only_servers_run_as(number: int) -> bool:
    """Return whether all processes of a user id are PostgreSQL's: root's other clusters may run as the same id."""
    return all(_command(process) in (_SERVER, "") for process in _processes_of(number))


def _processes_of(number: int) -> list[Path]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if process.stat().st_uid == number:
                found.append(process)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def _command(process: Path) -> str:
    try:
        return (process / "comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""
