"""The same nights without a disturbance: each reduced from the command line, with the same decisions."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from astropy.io import fits

from benchmarks.nights import announce
from benchmarks.observatory import Observatory
from benchmarks.season.nights import NightFrames
from benchmarks.season.season import rejected_name


@contextmanager
def quiet_site(folder: Path, size: int) -> Iterator[Observatory]:
    """Yield a data folder with a server for ``nirflow reduce``; it is stopped afterwards."""
    folder.mkdir(parents=True)
    one = Observatory(folder, size)
    try:
        one.nirflow("server", "start")
        yield one
    finally:
        one.nirflow("server", "stop")


def reduce_quietly(site: Observatory, nights: Sequence[NightFrames]) -> None:
    """Reduce the nights one after the other."""
    for frames in nights:
        announce(f"quiet night {frames.plan.number + 1}, {frames.night}")
        raw = site.raw / str(frames.night)
        raw.mkdir()
        for file in frames.files:
            (raw / file.name).symlink_to(file)
        out = str(site.folder / "data" / "nights" / str(frames.night))
        shape = ("--set", "check.shape=none", "--quiet")
        site.nirflow("reduce", str(raw), "--out", out, *shape)
        if frames.plan.rejected is not None:
            name = rejected_name(frames)
            site.nirflow("cal", "reject", name, "--reason", "season", "--author", "season")
            try:
                site.nirflow("reduce", "--affected-by", name, "--out", out, "--overwrite", *shape)
            except subprocess.CalledProcessError as error:
                # Where no other master serves, the science keeps its stack.
                if "no dark serves" not in error.stdout:
                    raise
                announce(f"no other master than {name} serves")


def data_sums(file: Path) -> dict[str, str]:
    """Return the DATASUM of each plane of a product, by its name; empty if the file is missing."""
    if not file.exists():
        return {}
    with fits.open(file) as hdus:
        return {hdu.name: str(hdu.header.get("DATASUM", "")) for hdu in hdus if hdu.is_image}
