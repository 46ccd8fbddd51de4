"""Which folders are on a disk that other machines may share, from the kernel's table of mounts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

#: File systems on which other machines make changes that this kernel does not report (names of mountinfo).
_NETWORK: Final = re.compile(
    r"nfs\d*|cifs|smb\d*|smbfs|lustre|gpfs|beegfs(_\w+)?|ceph|glusterfs|afs|pvfs2|orangefs|ocfs2|gfs2|9p"
    r"|vboxsf|vmhgfs|prl_fs|virtiofs|fuse(\..+|ctl)?|fuseblk"
)
_MOUNTS: Final = Path("/proc/self/mountinfo")


def network_disk(folder: Path) -> str | None:
    """Return the type of the network file system that a folder is on, or that is mounted below it; None without one.

    Parameters
    ----------
    folder
        Absolute path, links resolved.
    """
    return _network_disk_in(_MOUNTS.read_text(errors="surrogateescape"), folder)


def _network_disk_in(mounts: str, folder: Path) -> str | None:
    on, depth = "", -1
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        if not right:
            continue
        point = Path(re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), left.split(" ")[4]))
        kind = right.split(" ")[0]
        if point != folder and point.is_relative_to(folder):
            if _NETWORK.fullmatch(kind):
                return kind
        elif folder.is_relative_to(point) and len(point.parts) >= depth:
            on, depth = kind, len(point.parts)
    return on if _NETWORK.fullmatch(on) else None
