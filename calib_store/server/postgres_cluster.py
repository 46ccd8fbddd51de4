"""The folder of an embedded PostgreSQL server: its creation, its owner, and who may connect to its server."""

from __future__ import annotations

import os
import shutil
import stat
import uuid
from pathlib import Path
from subprocess import CompletedProcess
from typing import Final

from calib_store.server.account import Account, known_name, making_account, roots_owners
from calib_store.server.postgres_address import SUPERUSER
from calib_store.server.programs import program_for
from calib_store.server.unnamed_account import naming_library

#: The path of the cluster for all PostgreSQL processes: their working folder, even if no other account can reach it.
HERE: Final = "/proc/self/cwd"
_MAKING_SECONDS: Final = 300.0
_PRIVATE: Final = 0o700

#: Written to postgresql.conf when the cluster is created, so that a user may change them there. Many small, safe
#: writes by few clients on a machine whose memory is needed for pixels; fsync stays on.
_CONFIGURATION: Final = {
    "listen_addresses": "",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "max_connections": "100",
    "shared_buffers": "96MB",
    "wal_buffers": "4MB",
    "max_wal_size": "512MB",
    "checkpoint_timeout": "15min",
    "effective_cache_size": "1GB",
    "random_page_cost": "1.1",
    "io_method": "sync",
    "max_parallel_workers_per_gather": "0",
    "max_logical_replication_workers": "0",
    "log_min_messages": "warning",
    "log_checkpoints": "off",
    "jit": "off",
}


def make_cluster(cluster: Path, account: Account) -> CompletedProcess[str]:
    """Create a cluster that the account owns, all or nothing.

    Returns
    -------
    CompletedProcess
        Of initdb; the cluster exists if its return code is 0.
    """
    for left in cluster.parent.glob(f".{cluster.name}-*"):  # of a killed process, as this one holds the lock
        shutil.rmtree(left)
    maker = making_account(account)
    # It may be created as nobody: the folder around the new cluster is closed to all others.
    around = cluster.parent / f".{cluster.name}-{uuid.uuid4().hex[:12]}"
    made = around / "cluster"
    around.mkdir(mode=_PRIVATE)
    try:
        made.mkdir(mode=_PRIVATE)
        maker.give(made)
        command = [
            str(program_for(maker, "initdb")), "-D", HERE, "-U", SUPERUSER, "--auth-local=peer", "--auth-host=reject",
            "--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8",
        ]  # fmt: skip
        for name, value in _CONFIGURATION.items():
            command += ["-c", f"{name}={value}"]
        if known_name(maker.uid) is not None:
            done = maker.run(command, cwd=made, timeout=_MAKING_SECONDS)
        else:
            with naming_library() as named:
                preloaded = {"LD_PRELOAD": f"/proc/self/fd/{named}"}
                done = maker.run(
                    command, cwd=made, timeout=_MAKING_SECONDS, descriptors=(named,), variables=preloaded
                )
        if done.returncode == 0:
            _take_over(made, account, {maker.uid})
            _write_authentication(made, account)
            made.rename(cluster)
    finally:
        shutil.rmtree(around, ignore_errors=True)
    return done


def make_current(cluster: Path, account: Account) -> None:
    """Give a cluster without a running server to its account, and update who may connect to it."""
    if account.prefix and cluster.stat().st_uid != account.uid:
        _take_over(cluster, account, roots_owners(cluster))
    if not is_current(cluster, account):
        _write_authentication(cluster, account)


def is_current(cluster: Path, account: Account) -> bool:
    """Return whether a cluster belongs to its account and accepts the same clients as this nirflow."""
    if cluster.stat().st_uid != account.uid:
        return False
    return all(
        (cluster / name).is_file() and (cluster / name).read_text(errors="replace") == text
        for name, text in _authentication().items()
    )


def _authentication() -> dict[str, str]:
    """Return the files that define who may connect: this account and root, identified by the kernel, as any role.

    PostgreSQL cannot identify an account without a name. There the folder of the socket is the only limit, which no
    other account may enter.
    """
    own = known_name(os.geteuid())
    head = "# Written by nirflow when it starts the server.\n"
    quoted = ['"' + name.replace('"', '""') + '"' for name in dict.fromkeys((own, "root")) if name]
    method = "peer map=nirflow" if own is not None else "trust"
    return {
        "pg_hba.conf": f"{head}local all all {method}\n",
        "pg_ident.conf": head + "".join(f"nirflow {name} all\n" for name in quoted),
    }


def _write_authentication(cluster: Path, account: Account) -> None:
    for name, text in _authentication().items():
        aside = cluster / f".{name}.{uuid.uuid4().hex[:12]}"
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
            if account.prefix:
                os.fchown(descriptor, account.uid, account.gid)
        aside.rename(cluster / name)


def _take_over(cluster: Path, account: Account, owners: set[int] | frozenset[int]) -> None:
    """Make an account the owner of other accounts' files in a folder; the folder itself last, to mark completion.

    Files that they could have created there do not lead elsewhere: links are not followed, and root's file with
    another hard link elsewhere stays root's.
    """
    if not account.prefix:
        return
    os.chown(cluster, 0, 0, follow_symlinks=False)
    cluster.chmod(_PRIVATE)
    for _, folders, files, descriptor in os.fwalk(cluster):
        for name in (*folders, *files):
            found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            linked = found.st_uid == 0 and found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode)
            if found.st_uid in owners and not linked:
                os.chown(name, account.uid, account.gid, dir_fd=descriptor, follow_symlinks=False)
    account.give(cluster)
