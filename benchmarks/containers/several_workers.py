"""The manifests of Kubernetes and the script of Slurm as hosts of one network: workers, an object store, Dask.

PostgreSQL with a password, the Prefect server, an object store and each worker have a host and a data folder of their
own. One worker is the pod of the Deployment, the other a job of Slurm.
"""

from __future__ import annotations

import http.client
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from benchmarks.containers import kubernetes_files
from benchmarks.containers.deployment import Deployment, deployed
from benchmarks.containers.images import Image
from benchmarks.containers.small_nights import ENVIRONMENT, take_night
from benchmarks.containers.workload import ROOT, Mount, Workload, in_order

#: Sequences of a batch.
BATCH: Final = 4
_STORE, _PORT, _BUCKET = "objects", 9000, "observatory"
_KEYS: Final = "[default]\naws_access_key_id = key\naws_secret_access_key = hush\n"
_IN_STORE: Final = {
    "NIRFLOW_OBJECTS_URL": f"s3://{_BUCKET}/nirflow", "AWS_ENDPOINT_URL": f"http://{_STORE}:{_PORT}",
    "AWS_DEFAULT_REGION": "us-east-1",
}  # fmt: skip
#: Where a user of Slurm keeps secrets and settings.
_SECRETS: Final = "/home/observer/nirflow-secrets"


@dataclass(frozen=True)
class Batch:
    """Runs over sequences that were waiting together.

    Attributes
    ----------
    workers
        Names of the workers that took them.
    seconds
        From the start of the first run to the end of the last.
    """

    workers: frozenset[str]
    sequences: int
    seconds: float

    @property
    def an_hour(self) -> float:
        """Sequences reduced in an hour at this rate."""
        return 3600 * self.sequences / self.seconds


def slurm_job(number: int, pod: Workload) -> Workload:
    """Return a job of Slurm as a host runs it: the script with the variables of ``sbatch`` and of Slurm.

    Parameters
    ----------
    number
        Number of the job.
    pod
        The worker as a pod, whose secrets, shared folders and networks the node has too.
    """
    environment = {
        "NIRFLOW_BIN": "/opt/nirflow/bin", "NIRFLOW_SECRETS_DIR": _SECRETS, "NIRFLOW_NIGHTS_DIR": "/nights",
        "PREFECT_API_URL": pod.environment["PREFECT_API_URL"],
        "AWS_SHARED_CREDENTIALS_FILE": f"{_SECRETS}/aws_credentials", "SLURM_JOB_ID": str(number),
        "SLURM_CPUS_PER_TASK": "1", "TMPDIR": "/scratch", "HOME": "/home/observer",
    }  # fmt: skip
    shared = [mount for mount in pod.mounts if mount.shared and mount.target != "/data/objects"]
    mounts = [*shared, Mount("/scratch", "", True), Mount("/tmp", "", True, "mode=1777")]
    return replace(
        pod, name="slurm", command=("/bin/bash", str(ROOT / "deployments" / "slurm" / "worker.sh")),
        environment=environment, mounts=in_order(mounts),
        secrets={f"{_SECRETS}/{Path(path).name}": source for path, source in pod.secrets.items()}, init=False,
        check=None,
    )  # fmt: skip


class Cluster:
    """A deployment on several hosts.

    Parameters
    ----------
    services
        Database and server are up, and the workers' variables name the object store.
    """

    def __init__(self, services: Deployment) -> None:
        self.services = services
        self.raw = services.rooms.shared("raw")
        self._nights = 0

    def sequences_arrive(self, number: int = BATCH) -> None:
        """Let the frames of sequences arrive, and wait until a run of each is scheduled."""
        services = self.services
        known = {run["id"] for run in services.runs()}
        for _ in range(number):
            first = self._nights == 0
            folder = services.folder / f"night {self._nights}"
            take_night(folder, self.raw, self._nights, calibrations=first)
            self._nights += 1
        services.wait(
            lambda: sum(run["id"] not in known for run in self._science()) >= number,
            f"runs over {number} sequences",
        )

    def reduce(self) -> Batch:
        """Wait until all runs are over; return those over sequences of science that are new."""
        before = {run["id"] for run in self._science() if run["state"]["type"] == "COMPLETED"}
        self.services.wait(lambda: not self.services.unfinished(), "the last run")
        runs = [run for run in self._science() if run["id"] not in before]
        began = min(datetime.fromisoformat(run["start_time"]) for run in runs)
        ended = max(datetime.fromisoformat(run["end_time"]) for run in runs)
        workers = frozenset(str(run["labels"].get("prefect.worker.name")) for run in runs)
        return Batch(workers, len(runs), (ended - began).total_seconds())

    def start(self, service: str, name: str = "") -> None:
        """Start a host, and wait until it is healthy if it has a health check."""
        room = self.services.start(service, name)
        if room.workload.check is not None:
            self.services.wait_healthy(room.name)

    def stop(self, *names: str) -> dict[str, int]:
        """Stop hosts, and return their exit codes; they can be started again with the same folders."""
        codes = {}
        for name in names:
            codes[name] = self.services.rooms.stop(name)
            self.services.rooms.forget(name)
        return codes

    def _science(self) -> list[dict[str, Any]]:
        return [run for run in self.services.runs() if "science" in run["name"]]


@contextmanager
def cluster(folder: Path, image: Image, component: str = "", **variables: str) -> Iterator[Cluster]:
    """Yield the manifests as hosts, with an object store; the watcher runs, workers do not.

    Parameters
    ----------
    folder
        An empty folder.
    image
        What all hosts see.
    component
        A component of the kustomization.
    variables
        Further variables of all services.
    """
    objects = (
        kubernetes_files.with_component(component) if component else list(kubernetes_files.documents())
    )  # fmt: skip
    workloads = kubernetes_files.workloads(objects)
    workloads["slurm"] = slurm_job(1, workloads["worker"])
    with deployed(folder, image, workloads, ENVIRONMENT | _IN_STORE | variables, _start_store) as services:
        services.start("watcher")
        yield Cluster(services)


def _start_store(services: Deployment) -> None:
    """Start an object store on a host of its own, with an empty bucket."""
    (services.folder / "secrets" / "aws_credentials").write_text(_KEYS)
    networks = services.rooms.networks
    networks.join(_STORE, {"storage"})
    program = Path(sys.executable).with_name("moto_server")
    with (services.folder / "store.log").open("wb") as log:
        process = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{networks.namespace(_STORE)}", program, "-H", "0.0.0.0", "-p", str(_PORT)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=services.folder,
        )  # fmt: skip
    services.rooms.closing(process)
    address = networks.address(_STORE, "storage")

    def made() -> bool:
        try:
            with closing(http.client.HTTPConnection(address, _PORT, timeout=10)) as connection:
                connection.request("PUT", f"/{_BUCKET}")
                return connection.getresponse().status == 200
        except OSError:
            return False

    services.wait(lambda: networks.call(_STORE, made), "the object store")


def stored_keys(services: Deployment) -> set[str]:
    """Return the keys of the files in the object store."""
    networks = services.rooms.networks
    address = networks.address(_STORE, "storage")

    def listed() -> str:
        with closing(http.client.HTTPConnection(address, _PORT, timeout=30)) as connection:
            connection.request("GET", f"/{_BUCKET}?list-type=2")
            return connection.getresponse().read().decode()

    text = networks.call(_STORE, listed)
    return {part.partition("</Key>")[0] for part in text.split("<Key>")[1:]}
