"""Kubernetes' manifests and Slurm's script on hosts with networks and data folders of their own."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.containers.images import Image, borrowed_image
from benchmarks.containers.night import products_of
from benchmarks.containers.several_workers import BATCH, Cluster, cluster, stored_keys

pytestmark = [pytest.mark.long, pytest.mark.root]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """Return an image with this machine's programs, which takes no time to build."""
    return borrowed_image(tmp_path_factory.mktemp("borrowed"))


def test_a_pod_and_a_job_of_slurm_reduce_four_sequences(image: Image, tmp_path: Path) -> None:
    with cluster(tmp_path, image, NIRFLOW_WORKER_THREADS="1") as hosts:
        services = hosts.services
        hosts.start("worker", "worker-1")
        hosts.start("slurm", "slurm-1")
        hosts.sequences_arrive()
        batch = hosts.reduce()
        assert batch.sequences == BATCH
        assert batch.workers == {"nirflow on worker-1", "slurm-1"}
        assert services.troubled() == []

        products = products_of(services, "worker-1")
        assert Counter(one["kind"] for one in products)["image"] == BATCH
        # What several sequences needed was made once.
        assert len({one["recipe_key"] for one in products}) == len(products)
        # Their files are in the object store, named by their content.
        assert {one["sha256"] for one in products} <= {Path(key).stem for key in stored_keys(services)}
        for room, target in (("worker-1", "/data"), ("slurm-1", "/scratch")):
            assert any(services.rooms.own(room, target).rglob("scratch/*"))
        check_networks(services.rooms.networks.address("objects", "storage"), hosts)
        assert hosts.stop("worker-1", "slurm-1") == {"worker-1": 0, "slurm-1": 0}
        # A job leaves nothing on its node.
        assert list(services.rooms.own("slurm-1", "/scratch").iterdir()) == []


def check_networks(store: str, hosts: Cluster) -> None:
    """Check that who has the files reaches the object store, and that the server does not."""
    call: Callable[..., None] = hosts.services.rooms.networks.call
    call("worker-1", lambda: socket.create_connection((store, 9000), timeout=5).close())
    for host in ("server", "postgres", "browser"):
        with pytest.raises(OSError, match="unreachable"):
            call(host, lambda: socket.create_connection((store, 9000), timeout=5))


def test_two_dask_workers_take_the_steps_of_a_run(image: Image, tmp_path: Path) -> None:
    with cluster(tmp_path, image, "dask") as hosts:
        services = hosts.services
        hosts.start("dask")
        for name in ("dask-worker-1", "dask-worker-2"):
            hosts.start("dask-worker", name)
        hosts.start("worker")
        hosts.sequences_arrive(1)
        batch = hosts.reduce()
        assert batch.sequences == 1
        assert services.troubled() == []
        kinds = Counter(one["kind"] for one in products_of(services, "worker"))
        assert kinds["image"] == 1
        logged = [
            one["message"] for one in services.ask("/logs/filter", {"limit": 200, "sort": "TIMESTAMP_ASC"})
        ]
        assert "The steps run on 2 Dask workers of tcp://dask:8786" in logged
        assert hosts.stop("worker", "dask-worker-1", "dask-worker-2", "dask") == dict.fromkeys(
            ("worker", "dask-worker-1", "dask-worker-2", "dask"), 0
        )
