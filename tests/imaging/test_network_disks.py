"""Disks that other machines may share, in the kernel's table of mounts."""

from __future__ import annotations

from pathlib import Path

import pytest

from imaging import network_disks

MOUNTS = r"""
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:21 / /proc rw - proc proc rw
40 22 0:50 / /raw rw shared:2 - nfs4 server:/raw rw,vers=4.2
41 40 8:2 / /raw/local rw - xfs /dev/sdb1 rw
42 22 0:51 / /mnt/with\040blank rw - fuse.sshfs me@there: rw
43 22 8:3 / /data rw - ext4 /dev/sdc1 rw
44 43 0:52 / /data/far/off rw - cifs //there/share rw
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/home/raw", None),
        ("/raw", "nfs4"),
        ("/raw/night", "nfs4"),
        ("/rawer", None),
        ("/raw/local/night", None),
        ("/mnt/with blank/x", "fuse.sshfs"),
        ("/data/near", None),
        ("/data/far", "cifs"),
        ("/data", "cifs"),
    ],
)
def test_network_file_systems_on_and_below_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, kind: str | None
) -> None:
    (tmp_path / "mountinfo").write_text(MOUNTS)
    monkeypatch.setattr(network_disks, "_MOUNTS", tmp_path / "mountinfo")
    assert network_disks.network_disk(Path(folder)) == kind
