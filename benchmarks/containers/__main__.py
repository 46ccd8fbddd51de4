"""``python -m benchmarks.containers [PART ...]``: the services in namespaces, and how long they take.

image: the image of the Dockerfile, built in a chroot. night: the services of docker-compose.yml through a small night.
workers: the manifests of Kubernetes and the script of Slurm on several hosts, and the sequences that one and two
workers reduce in an hour. This needs root, Debian's packages debootstrap, iproute2 and tini, and some minutes.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.containers import compose_file
from benchmarks.containers.deployment import deployed
from benchmarks.containers.image_build import build_image
from benchmarks.containers.images import Image, borrowed_image
from benchmarks.containers.night import through_a_night
from benchmarks.containers.several_workers import cluster
from benchmarks.containers.small_nights import ENVIRONMENT
from benchmarks.figures import Figure, machine, print_figures
from deployments.printable_output import ArgumentParser

_PARTS: Final = ("image", "night", "workers")


def main() -> int:
    """Run the chosen parts and print their figures."""
    parser = ArgumentParser(prog="python -m benchmarks.containers", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(_PARTS)}; default: all")
    asked = parser.parse_args().parts or list(_PARTS)
    if unknown := set(asked) - set(_PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    of = machine()
    figures: list[Figure] = []
    with _folder() as folder:
        image = borrowed_image(folder / "borrowed")
        if "image" in asked:
            began = time.monotonic()
            image = build_image(folder / "image")
            figures.append(Figure("image", "build", time.monotonic() - began, "s"))
        if "night" in asked:
            figures += _night(folder / "night", image)
        if "workers" in asked:
            figures += _workers(folder / "workers", image)
    print_figures(figures, of)
    return 0


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="nirflow-containers-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def _night(folder: Path, image: Image) -> Iterator[Figure]:
    folder.mkdir()
    began = time.monotonic()
    with deployed(
        folder, image, compose_file.workloads({"NIRFLOW_RAW_DIR": "/raw"}), ENVIRONMENT
    ) as services:
        outcome = through_a_night(services, began)
    for name, seconds in outcome.seconds.items():
        yield Figure("night", name, seconds, "s")


def _workers(folder: Path, image: Image) -> Iterator[Figure]:
    folder.mkdir()
    names = {"worker-1": "worker", "slurm-1": "slurm"}
    with cluster(folder, image, NIRFLOW_WORKER_THREADS="1") as hosts:
        for count, label in ((2, "two workers, first sequences"), (2, "two workers"), (1, "one worker")):
            hosts.sequences_arrive()
            started = list(names)[:count]
            for name in started:
                hosts.start(names[name], name)
            batch = hosts.reduce()
            note = f"{batch.sequences} in {batch.seconds:.1f} s"
            yield Figure("workers", label, batch.an_hour, "sequences/h", note=note)
            hosts.stop(*started)


if __name__ == "__main__":
    sys.exit(main())
