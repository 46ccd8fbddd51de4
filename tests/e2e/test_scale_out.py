"""The same runs on several machines: the steps on a Dask cluster, and several workers on one work pool."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from astropy.io import fits
from night_lab import Lab, Run, link
from waiting import wait_until

from calib_store.store import Store
from deployments.settings.server_settings import ServerAddress
from imaging.errors import NirflowError
from imaging.products.product_file import datasums
from imaging.simulator.parameters import NightParameters
from imaging.simulator.simulate import simulate_night
from imaging.simulator.truth import NightTruth
from tasks.support.step import StepEvent, listening

SIZE = 384
NIGHT = "2013-11-21"
FEW: dict[str, Any] = {
    "size": SIZE, "n_science": 5, "n_darks": 4, "n_short_darks": 3, "n_lamp_on": 3, "n_lamp_off": 3,
}  # fmt: skip


@contextlib.contextmanager
def programs(logs: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start programs, each with a log, and stop them with the block."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*command: object, env: dict[str, str], name: str) -> subprocess.Popen[bytes]:
        with (logs / f"{name}.log").open("wb") as log:
            one = subprocess.Popen([*map(str, command)], env=env, stdout=log, stderr=log, cwd=logs)
        started.append(one)
        return one

    try:
        yield start
    finally:
        for one in reversed(started):
            one.terminate()
        for one in started:
            try:
                one.wait(5)
            except subprocess.TimeoutExpired:
                one.kill()
                one.wait()


def observatory(lab: Lab, raw: Path, data: str = "data", **more: str) -> dict[str, str]:
    """Return the variables of one machine of an observatory."""
    return {
        "NIRFLOW_DATABASE_URL": lab.url,
        "NIRFLOW_DATA_DIR": str(lab.folder / data),
        "NIRFLOW_NIGHTS_DIR": str(lab.folder / "nights"),
        "NIRFLOW_WATCH_FOLDERS": json.dumps([str(raw)]),
        "NIRFLOW_WATCH_CHECK": json.dumps({"shape": [SIZE, SIZE]}),
        "NIRFLOW_NIGHTLY_CALIBRATION_DAYS": "60",
        "NIRFLOW_WORKER_THREADS": "2",
    } | more


def process_environment(server: ServerAddress, settings: dict[str, str]) -> dict[str, str]:
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("PREFECT_", "NIRFLOW_"))}
    return kept | settings | {"PREFECT_API_URL": server.api_url, "PREFECT_API_AUTH_STRING": server.auth or ""}


# --- Dask


@dataclass
class Cluster:
    """Start a Dask scheduler with two workers, each in its own process."""

    address: str
    lab: Lab
    settings: dict[str, str]
    scheduler: subprocess.Popen[bytes]
    workers: list[subprocess.Popen[bytes]]

    def run(self, flow: Any, request: Any, **changes: str) -> Any:
        """Run a deployed flow in this process, as the worker of a work pool does in its own."""
        from tasks.prefect_internals.heartbeats import prompt_heartbeats

        with pytest.MonkeyPatch.context() as patch, prompt_heartbeats(flow) as run:
            for name, value in (self.settings | {"NIRFLOW_WORKER_DASK": self.address} | changes).items():
                patch.setenv(name, value)
            return run(request)


@contextlib.contextmanager
def dask_cluster(lab: Lab, raw: Path, server: ServerAddress, folder: Path) -> Iterator[Cluster]:
    settings = observatory(lab, raw)
    environment = process_environment(server, settings)
    dask, file = Path(sys.executable).with_name("dask"), folder / "scheduler.json"
    with programs(folder) as start:
        scheduler = start(
            dask, "scheduler", "--host", "127.0.0.1", "--port", 0, "--no-dashboard", "--scheduler-file", file,
            env=environment, name="scheduler",
        )  # fmt: skip
        wait_until(lambda: file.is_file() and file.read_text().strip(), "the scheduler")
        workers = [
            start(
                dask,
                "worker",
                "--scheduler-file",
                file,
                "--nthreads",
                1,
                "--no-dashboard",
                "--no-nanny",
                "--name",
                name,
                "--local-directory",
                folder,
                env=environment,
                name=name,
            )
            for name in ("one", "two")
        ]
        yield Cluster(json.loads(file.read_text())["address"], lab, settings, scheduler, workers)


@pytest.fixture(scope="module")
def cluster(
    new_lab: Callable[..., Lab], night: NightTruth, prefect_server: ServerAddress,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Cluster]:  # fmt: skip
    with dask_cluster(new_lab(), night.folder.parent, prefect_server, tmp_path_factory.mktemp("dask")) as one:
        yield one


def sums(store: Store, report: Any) -> dict[str, dict[str, str]]:
    return {p.kind + p.label: datasums(store.objects.local(p.sha256)) for p in report.products}


@pytest.mark.long
def test_a_night_on_dask_is_the_night_in_threads(cluster: Cluster, reduced: Run, reduced_lab: Lab) -> None:
    from deployments.deployed.common import WaitingError
    from deployments.deployed.nightly import nightly
    from deployments.deployed.requests import NightlyRequest

    # An error of a step keeps its kind: without calibrations the science waits for them.
    with pytest.raises(WaitingError) as caught:
        cluster.run(
            nightly,
            NightlyRequest.model_validate({"first": NIGHT, "calibrations": {"days": 0}, "only": ["science"]}),
        )
    waiting = caught.value.report
    assert waiting.products == ()
    assert [one.waits_for for one in waiting.failures] == ["dark"]

    report = cluster.run(nightly, NightlyRequest(first=NIGHT))
    assert report.failures == ()
    assert sums(cluster.lab.store(), report) == sums(reduced_lab.store(), reduced.report)
    # The times come from the workers, as do the task runs and their logs.
    assert set(report.step_seconds) == set(reduced.report.step_seconds)
    assert all(report.step_seconds[step] > 0 for step in ("dark", "bpm", "flat", "detrend", "sky", "image"))
    check_recorded_steps(report.flow_run)

    again = cluster.run(nightly, NightlyRequest(first=NIGHT))
    assert [one.reused for one in again.products] == [True] * len(report.products)


@pytest.mark.long
def test_steps_of_the_users_own_run_on_dask(cluster: Cluster) -> None:
    from deployments.deployed.nightly import nightly
    from deployments.deployed.requests import NightlyRequest

    rays = "ccdproc:cosmicray_median(mbox=5)"
    own = {
        "after_detrend": [rays],
        "before_stack": [{"function": rays, "time_limit": 300}],
        "after_stack": [rays],
    }
    request = NightlyRequest.model_validate({"first": NIGHT, "advanced": {"parameters": {"steps": own}}})
    report = cluster.run(nightly, request)
    assert report.failures == ()
    (image,) = [one for one in report.products if one.kind == "image"]
    header = fits.getheader(image.output)
    assert [str(header[f"NFSTEP{n}"]).split(":")[0] for n in (1, 2, 3)] == list(own)
    assert all(report.step_seconds[point] > 0 for point in own)


def check_recorded_steps(flow_run: str) -> None:
    """Check that the Prefect server has the steps of a run with their dependencies and logs."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, LogFilter

    by_name = FlowRunFilter.model_validate({"name": {"any_": [flow_run]}})
    with get_client(sync_client=True) as client:
        run = max(client.read_flow_runs(flow_run_filter=by_name), key=lambda one: one.created)
        of_run = LogFilter.model_validate({"flow_run_id": {"any_": [run.id]}})

        def logged() -> bool:
            lines = client.read_logs(of_run, limit=200)
            return any(re.match(r"image: .*, built in ", one.message) and one.task_run_id for one in lines)

        def recorded() -> dict[str, Any] | None:
            found = client.read_task_runs(
                flow_run_filter=FlowRunFilter.model_validate({"id": {"any_": [run.id]}})
            )
            steps = {one.name: one for one in found if one.state is not None and one.state.is_completed()}
            return steps if any(name.startswith("stack ") for name in steps) else None

        steps = wait_until(recorded, "the task runs")
        wait_until(logged, "the logs")
    stack = next(one for name, one in steps.items() if name.startswith("stack "))
    starlight = next(one for name, one in steps.items() if name.startswith("starlight in the sky of "))
    sky = next(one for name, one in steps.items() if name.startswith("sky of "))
    assert [one.id for one in stack.task_inputs["sky"]] == [starlight.id]
    assert [one.id for one in starlight.task_inputs["sky"]] == [sky.id]


def test_a_missing_scheduler(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    import deployments.deployed.cluster
    from deployments.deployed.nightly import nightly
    from deployments.deployed.requests import NightlyRequest

    monkeypatch.setattr(deployments.deployed.cluster, "ANSWER", 1.0)
    with pytest.raises(NirflowError, match=r"tcp://127\.0\.0\.1:9 does not respond.*unset worker\.dask"):
        cluster.run(nightly, NightlyRequest(first=NIGHT), NIRFLOW_WORKER_DASK="tcp://127.0.0.1:9")


def test_workers_with_other_settings_get_no_work(cluster: Cluster, tmp_path: Path) -> None:
    from deployments.deployed.nightly import nightly
    from deployments.deployed.requests import NightlyRequest

    with pytest.raises(NirflowError, match="NIRFLOW_OBJECTS_URL is None for the worker"):
        cluster.run(nightly, NightlyRequest(first=NIGHT), NIRFLOW_OBJECTS_URL=str(tmp_path / "elsewhere"))


@pytest.mark.long
def test_parts_of_the_cluster_die(
    lab: Lab, night: NightTruth, prefect_server: ServerAddress, tmp_path: Path
) -> None:
    from deployments.deployed.nightly import nightly
    from deployments.deployed.requests import AdvancedRequest, NightlyRequest

    with dask_cluster(lab, night.folder.parent, prefect_server, tmp_path) as cluster:

        def stop_one(event: StepEvent) -> None:
            if event.step == "detrend" and event.state == "started":
                cluster.workers[0].kill()

        def stop_all(event: StepEvent) -> None:
            if event.step == "image":
                cluster.scheduler.kill()

        only = NightlyRequest(first=NIGHT, only=("dark",))
        with listening(stop_one):
            cluster.run(nightly, only)
            report = cluster.run(nightly, NightlyRequest(first=NIGHT))
        # The other worker repeated the dead one's unfinished tasks and those whose results it held.
        assert report.failures == ()
        assert cluster.workers[0].poll() is not None
        assert len(next(one for one in report.products if one.kind == "image").inputs) == FEW["n_science"]
        other = NightlyRequest(
            first=NIGHT, advanced=AdvancedRequest(parameters=lab.parameters(stack={"low": 4.6}))
        )
        with listening(stop_all), pytest.raises(NirflowError, match="The Dask scheduler was lost"):
            cluster.run(nightly, other)
    # Without Dask the night is reduced where the run is.
    report = cluster.run(nightly, other, NIRFLOW_WORKER_DASK="")
    assert report.failures == ()


# --- several workers on one pool


@dataclass
class Machines:
    """Two machines of an observatory, each with its own worker and data folder."""

    names = ("one", "two")
    lab: Lab
    settings: dict[str, dict[str, str]]

    closing: contextlib.ExitStack

    def stores(self) -> list[Store]:
        """Return the store as seen by each machine."""
        from calib_store.model.settings import StoreSettings

        return [
            self.closing.enter_context(
                Store.open(
                    StoreSettings(
                        data_dir=Path(given["NIRFLOW_DATA_DIR"]),
                        database_url=given["NIRFLOW_DATABASE_URL"],
                        objects_url=given["NIRFLOW_OBJECTS_URL"],
                    )
                )
            )
            for given in self.settings.values()
        ]


@pytest.fixture
def machines(
    request: pytest.FixtureRequest, new_lab: Callable[..., Lab], two_bands: Path, prefect_server: ServerAddress,
    tmp_path: Path,
) -> Iterator[Machines]:  # fmt: skip
    """Start two workers that share a database, objects at a URL or in a folder, and the folder of nights."""
    from prefect.client.orchestration import get_client

    from deployments.prefect_api.names import POOL
    from deployments.registry import registry
    from deployments.settings.all_settings import Settings

    lab = new_lab()
    objects = str(tmp_path / "objects")
    if request.param == "s3":
        request.getfixturevalue("s3_endpoint")
        objects = f"s3://observatory/{tmp_path.name}/objects"
    common = {"NIRFLOW_OBJECTS_URL": objects, "NIRFLOW_WORKER_LIMIT": "2", "NIRFLOW_WORKER_RUNS": "1",
              "NIRFLOW_NIGHTLY_ENABLED": "false"}  # fmt: skip
    settings = {
        name: observatory(lab, two_bands, name, NIRFLOW_WORKER_NAME=name, **common) for name in Machines.names
    }
    with get_client(sync_client=True) as client:
        automations = {one.id for one in client.read_automations()}
        with pytest.MonkeyPatch.context() as patch:
            for name, value in settings["one"].items():
                patch.setenv(name, value)
            registry.register(Settings())
        try:
            with programs(tmp_path) as start, contextlib.ExitStack() as closing:
                for name in Machines.names:
                    environment = process_environment(prefect_server, settings[name])
                    environment["PREFECT_HOME"] = str(tmp_path / f"prefect-{name}")
                    start(sys.executable, "-m", "deployments.supervisor.command", env=environment, name=name)
                yield Machines(lab, settings, closing)
        finally:
            # Other tests of the session use the server too.
            for deployment in client.read_deployments():
                if deployment.work_pool_name == POOL:
                    client.delete_deployment(deployment.id)
            for automation in client.read_automations():
                if automation.id not in automations:
                    client.delete_automation(automation.id)
            client.delete_work_pool(POOL)


@pytest.fixture(scope="module")
def two_bands(tmp_path_factory: pytest.TempPathFactory, night: NightTruth) -> Path:
    """Return the small night with additional J-band frames of the same night and darks."""
    folder = tmp_path_factory.mktemp("two_bands")
    link(night.raw_paths(), folder)
    other = simulate_night(
        tmp_path_factory.mktemp("j"), NightParameters(**FEW, band="J", seed=9, detector_seed=7)
    )
    for path in other.raw_paths():
        os.link(path, folder / f"{path.name[:10]}{int(path.name[10:14]) + 5000}.fits")
    return folder


@pytest.mark.long
@pytest.mark.parametrize("machines", ["folder", "s3"], indirect=True)
def test_two_machines_reduce_two_sequences_at_a_time(machines: Machines) -> None:
    from prefect.client.orchestration import get_client
    from prefect.deployments import run_deployment

    with pytest.MonkeyPatch.context() as patch:
        for name, value in machines.settings["one"].items():
            patch.setenv(name, value)
        sequences = noted_sequences()
    assert len(sequences) == 2
    asked = [
        run_deployment(
            "arrival/arrival", parameters={"request": {"sequence": one}}, timeout=0, as_subflow=False
        )
        for one in sequences
    ]
    with get_client(sync_client=True) as client:

        def ended() -> Any:
            runs = [client.read_flow_run(one.id) for one in asked]
            return runs if all(run.state.is_final() for run in runs) else None

        runs = wait_until(ended, "both runs")
    assert [run.state.name for run in runs] == ["Completed", "Completed"], runs
    first, second = sorted(runs, key=lambda run: run.start_time)
    assert second.start_time < first.end_time, "one after the other"

    stores = machines.stores()
    products = stores[0].products(limit=100)
    kinds = sorted(product.kind for product in products)
    # What both needed was made by one and reused by the other.
    assert len({product.recipe_key for product in products}) == len(products)
    assert kinds.count("image") == kinds.count("flat") == 2
    assert {product.flow_run_id for product in products} == {str(run.id) for run in runs}
    reports = [run.report["products"] for run in stores[0].runs.of_night(date.fromisoformat(NIGHT))]
    built = [one["id"] for report in reports for one in report if not one["reused"]]
    assert sorted(built) == sorted(str(product.id) for product in products)
    assert {one["id"] for one in reports[0]} & {one["id"] for one in reports[1]}
    for store in stores:
        assert all(store.objects.local(product.sha256).stat().st_size == product.size for product in products)
    nights = Path(machines.settings["one"]["NIRFLOW_NIGHTS_DIR"])
    page = (nights / NIGHT / "index.html").read_text()
    assert all(product.name in page for product in products if product.kind == "image")
    for name in machines.names:  # each works in its own folder
        folder = Path(machines.settings[name]["NIRFLOW_DATA_DIR"])
        assert len(list((folder / "scratch").iterdir())) >= FEW["n_science"]
        assert list((folder / "staging").iterdir()) == []


def noted_sequences() -> list[str]:
    """Record the frames in the store, as the watcher does; return the sequences of science."""
    from deployments.deployed.catch_up import record_new_files
    from deployments.deployed.common import store_of
    from deployments.settings.all_settings import Settings
    from imaging.frames.sequences import Sequence

    settings = Settings()
    record_new_files(settings)
    frames = store_of(settings).frames.of_nights(date.fromisoformat(NIGHT), date.fromisoformat(NIGHT))
    named = {Sequence.of(f.facts) for f in frames if f.facts is not None and f.facts.kind == "object"}
    return sorted(one.name for one in named if one is not None)
