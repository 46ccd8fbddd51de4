"""The commands of the containers, run without them: each service as a process of this machine."""

from __future__ import annotations

import base64
import re
import shutil
import socket
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from databases_script import ACCOUNTS, run_script
from real_server import RealServer
from services_as_processes import Machine
from waiting import PATIENCE, wait_until

from benchmarks.containers.compose_file import setup_commands
from benchmarks.containers.workload import ROOT


@pytest.fixture
def machine(real_server: RealServer) -> Iterator[Machine]:
    """Secrets as described in the compose file, databases created by its script, and services as processes."""
    with tempfile.TemporaryDirectory(prefix="nirflow-compose-", ignore_cleanup_errors=True) as name:
        root = Path(name)
        shutil.copy(ROOT / ".env.example", root)
        subprocess.run(["sh", "-euc", setup_commands()], cwd=root, check=True, timeout=PATIENCE)
        secrets = root / "secrets"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        run_script(real_server, secrets, root)
        variables = {"NIRFLOW_RAW_DIR": "/data/raw", "NIRFLOW_WATCH_QUIET": "10"}
        more = {"NIRFLOW_WATCH_CHECK": '{"shape": [128, 128]}'}  # small frames
        one = Machine(root, secrets, {4210: port, 5432: real_server.port}, variables, more)
        try:
            yield one
        finally:
            one.kill()
            with real_server.connect() as connection:
                for database in ("nirflow", "prefect"):
                    connection.execute(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")
                for role in ACCOUNTS.values():
                    connection.execute(f"DROP ROLE IF EXISTS {role}")


def wait_with(machine: Machine, condition: Callable[[], object]) -> None:
    """Wait until a condition holds; fail with the log of a service that ends."""

    def look() -> object:
        ended = [name for name, process in machine.running.items() if process.poll() is not None]
        assert not ended, machine.log(ended[0]).read_text()[-4000:]
        return condition()

    wait_until(look, lambda: str({n: machine.log(n).read_text()[-2000:] for n in machine.running}), pause=0.5)


def status(url: str, authorization: str | None = None) -> int:
    """Return the status of the server's answer to a query about flows."""
    headers = {"Content-Type": "application/json"}
    if authorization:
        headers["Authorization"] = f"Basic {base64.b64encode(authorization.encode()).decode()}"
    request = urllib.request.Request(f"{url}/flows/filter", b"{}", headers)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def page(url: str, site: str, authorization: str) -> str:
    """Return a page of the server, after a login."""
    encoded = base64.b64encode(authorization.encode()).decode()
    login = urllib.request.Request(
        f"{site}/nirflow/session", headers={"Authorization": f"Basic {encoded}"}, method="POST"
    )
    with urllib.request.urlopen(login, timeout=PATIENCE) as answer:
        cookie = answer.headers["Set-Cookie"].partition(";")[0]
    with urllib.request.urlopen(
        urllib.request.Request(url, headers={"Cookie": cookie}), timeout=PATIENCE
    ) as answer:
        text: str = answer.read().decode()
        return text


@pytest.mark.long
def test_every_service_runs_by_its_own_command_and_an_arriving_night_gives_a_dark(
    machine: Machine, real_server: RealServer
) -> None:
    from imaging.simulator.parameters import NightParameters
    from imaging.simulator.simulate import simulate_night

    url = machine.here("server", "http://server:4210/api")
    auth = (machine.secrets / "server_auth").read_text().strip()
    lines = [
        re.split(r"[:@]", file.read_text().strip().partition("://")[2] or file.read_text().strip())
        for file in machine.secrets.iterdir()
        if file.name != "aws_credentials"  # empty without an object store
    ]
    passwords = {parts[1] if len(parts) > 1 else parts[0] for parts in lines}
    assert len(passwords) == 8

    assert machine.start("init").wait(PATIENCE) == 0, machine.log("init").read_text()
    del machine.running["init"]
    assert machine.start("init").wait(PATIENCE) == 0, "it runs again at every start"
    del machine.running["init"]
    machine.start("server")
    wait_with(machine, lambda: machine.healthy("server"))
    assert (status(url), status(url, "observer:wrong"), status(url, auth)) == (401, 401, 200)
    assert machine.start("register").wait(PATIENCE) == 0, machine.log("register").read_text()
    del machine.running["register"]
    assert not machine.healthy("worker")
    machine.start("worker")
    assert not machine.healthy("watcher")
    assert not machine.healthy("judge")
    machine.start("watcher")
    machine.start("judge")
    for name in ("worker", "watcher", "judge"):
        wait_with(machine, lambda name=name: machine.healthy(name))

    commands = " ".join(machine.command_lines())
    assert "deployments.arrivals.main" in commands
    assert "worker start --pool nirflow" in commands
    assert not [password for password in passwords if password in commands]

    raw = machine.folder("watcher", "/raw")
    none = dict.fromkeys(("n_science", "n_short_darks", "n_lamp_on", "n_lamp_off"), 0)
    simulate_night(machine.root / "night", NightParameters(size=128, n_darks=4, seed=3, **none))
    for frame in sorted((machine.root / "night").glob("*.fits")):
        shutil.move(frame, raw / frame.name)
    with real_server.connect("nirflow") as connection:
        made = "SELECT id FROM products WHERE kind = 'dark'"
        wait_with(machine, lambda: connection.execute(made).fetchall())
        ((product,),) = connection.execute(made).fetchall()
    (stored,) = (machine.folder("worker", "/data") / "objects").rglob("*.fits")
    wait_with(machine, lambda: list(machine.folder("worker", "/nights").rglob("*_dark.fits")))
    assert stored.stat().st_size > 128 * 128 * 4

    assert machine.start("backup").wait(PATIENCE) == 0, machine.log("backup").read_text()
    del machine.running["backup"]
    assert stored.name in {path.name for path in machine.folder("backup", "/backup").rglob("*.fits")}

    viewer = (machine.secrets / "viewer_auth").read_text().strip()
    assert status(url, viewer) == 200
    site = url.removesuffix("/api")
    assert stored.stem in page(f"{site}/store/products/{product}", site, viewer)
    nights = machine.folder("worker", "/nights")
    wait_with(machine, lambda: list(nights.glob("*/index.html")))
    (night,) = [path.parent.name for path in nights.glob("*/index.html")]
    assert "_dark" in page(f"{site}/nights/{night}/", site, viewer)

    pipeline = (machine.secrets / "pipeline_url").read_text().strip()
    pipeline = machine.here("worker", pipeline.replace("@postgres/", "@postgres:5432/"))
    with psycopg.connect(pipeline, autocommit=True) as connection:
        for forbidden in ("DELETE FROM products", "DROP TABLE products", "CREATE TABLE mine (a int)"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(forbidden)
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        psycopg.connect(pipeline.rpartition("/")[0] + "/prefect")

    for name in ("judge", "watcher", "worker", "server"):
        grace = {"30s": 30, "1m": 60, "2m": 120}[machine.services[name]["stop_grace_period"]]
        assert machine.stop(name, grace) == 0, machine.log(name).read_text()[-3000:]
    logs = "".join(
        machine.log(name).read_text() for name in ("init", "server", "register", "worker", "watcher", "judge")
    )
    assert not [password for password in passwords if password in logs]
    assert "Traceback" not in logs
