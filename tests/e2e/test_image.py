"""The image of the Dockerfile, built from Debian's packages in a chroot, and docker-compose.yml with it."""

from __future__ import annotations

import re
import socket
import subprocess
import time
import tomllib
from collections import Counter
from pathlib import Path

import psycopg
import pytest

from benchmarks.containers import compose_file
from benchmarks.containers.deployment import Deployment, deployed
from benchmarks.containers.image_build import build_image
from benchmarks.containers.images import Image
from benchmarks.containers.night import STAYING, page_of, products_of, status_of, through_a_night
from benchmarks.containers.small_nights import ENVIRONMENT
from benchmarks.containers.workload import ROOT

pytestmark = [pytest.mark.long, pytest.mark.root]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    return build_image(tmp_path_factory.mktemp("image"))


def test_the_image_has_what_the_dockerfile_installs_and_nothing_that_installs(image: Image) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    command = ["chroot", str(image.root), "/opt/nirflow/bin/nirflow", "--version"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={"HOME": "/tmp", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    )
    assert version in done.stdout, done.stderr
    pins = dict(re.findall(r"(?m)^([\w-]+)==([\w.]+)", (ROOT / "constraints.txt").read_text()))
    (packages,) = (image.root / "opt/nirflow/lib").glob("python3*/site-packages")
    assert (packages / f"prefect-{pins['prefect']}.dist-info").is_dir()
    assert {"s3fs", "distributed", "astroquery"} <= {path.name for path in packages.iterdir()}
    # Settings and secrets of the checkout are not in it, nor its tests.
    assert not [path for path in packages.iterdir() if path.name in ("tests", "benchmarks", "docs")]
    found = [
        path for name in ("pip*", "apt-key", "gcc*") for path in (image.root / "usr/local/bin").glob(name)
    ]
    assert found == []
    assert re.search(r"(?m)^nirflow:x:10001:10001:", (image.root / "etc/passwd").read_text())


def test_every_service_runs_as_declared_through_a_night(image: Image, tmp_path: Path) -> None:
    workloads = compose_file.workloads({"NIRFLOW_RAW_DIR": "/data/raw"})
    began = time.monotonic()
    with deployed(tmp_path, image, workloads, ENVIRONMENT) as services:
        assert not {"worker", "watcher", "judge"} & set(services.rooms.rooms)
        outcome = through_a_night(services, began, look_around)
    kinds = Counter(outcome.kinds)
    assert (kinds["image"], kinds["flat"], kinds["bpm"], kinds["dark"]) == (1, 1, 1, 1)
    assert outcome.troubled == ()
    assert outcome.verdicts == set(outcome.frames)
    assert outcome.written == ()
    assert outcome.leaked == ()
    assert outcome.tracebacks == ()
    assert outcome.exit_codes == dict.fromkeys(STAYING, 0)
    assert len(outcome.backup_files) >= len(outcome.kinds)


def look_around(services: Deployment) -> None:
    """Look at the deployment as a browser and as the pipeline's account of the database."""
    right = services.secret("server_auth")
    assert [status_of(services, one) for one in (None, "observer:wrong", right)] == [401, 401, 200]
    (stack,) = (one for one in products_of(services) if one["kind"] == "image")
    assert stack["name"] in page_of(services, f"/store/products/{stack['id']}")
    (page,) = services.rooms.shared("nights").glob("*/*_image.fits")
    assert stack["name"] in page_of(services, f"/nights/{page.parent.name}/")

    networks = services.rooms.networks
    url = services.secret("pipeline_url").replace("@postgres/", f"@{networks.address('postgres')}/")

    def forbidden() -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            for statement in ("DELETE FROM products", "DROP TABLE products", "CREATE TABLE mine (a int)"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(statement)
        with pytest.raises(psycopg.OperationalError, match="permission denied"):
            psycopg.connect(url.rpartition("/")[0] + "/prefect")

    networks.call("worker", forbidden)
    # The browsers' network leads to the server and nowhere else.
    with pytest.raises(OSError, match="unreachable"):
        networks.call("browser", lambda: _connect(networks.address("postgres"), 5432))


def _connect(address: str, port: int) -> None:
    socket.create_connection((address, port), timeout=5).close()
