"""An observatory's unattended night: frames arrive, sequences are reduced, parts die, and everything is
completed.
"""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from browser import Page, browser_page
from night_lab import altered
from service_up import Service, kill, of_folder
from waiting import wait_until

from imaging.simulator.parameters import NightParameters
from imaging.simulator.simulate import simulate_night
from imaging.simulator.truth import NightTruth

pytestmark = pytest.mark.long

FEW: dict[str, Any] = {
    "size": 384, "n_science": 5, "n_darks": 4, "n_short_darks": 3, "n_lamp_on": 3, "n_lamp_off": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def y_night(tmp_path_factory: pytest.TempPathFactory) -> NightTruth:
    return simulate_night(tmp_path_factory.mktemp("y"), NightParameters(**FEW, seed=7))


@pytest.fixture(scope="module")
def j_frames(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """Return a J night of the same array and dates, with other numbers, by role."""
    folder = tmp_path_factory.mktemp("j")
    truth = simulate_night(folder / "raw", NightParameters(**FEW, band="J", seed=9, detector_seed=7))
    found: dict[str, list[Path]] = {}
    for frame in truth.frames:
        path = folder / "raw" / f"{frame.root}.fits"
        there = folder / f"{frame.root[:10]}{int(frame.root[10:14]) + 5000}.fits"
        os.link(path, there)
        found.setdefault(frame.role, []).append(there)
    return found


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory, y_night: NightTruth) -> list[Path]:
    """Another sequence of the Y night: the same sky under another observation."""
    folder = tmp_path_factory.mktemp("second")
    paths = []
    for number, frame in enumerate(y_night.of_role("science")):
        source = y_night.folder.parent / f"{frame.root}.fits"
        target = folder / f"{frame.root[:10]}{3000 + number}.fits"
        cards = {"OBSID": "GS-2013B-Q-15-99", "DATALAB": f"GS-2013B-Q-15-99-{number:03d}", "OBJECT": "OTHER"}
        paths.append(altered(source, target, **cards))
    return paths


def of_roles(truth: NightTruth, *roles: str) -> list[Path]:
    return [truth.folder.parent / f"{f.root}.fits" for role in roles for f in truth.of_role(role)]


def products(service: Service, kind: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(
        service.nirflow("cal", "list", "--kind", kind, "--json", code=None) or "[]"
    )
    return found


CALIBRATIONS = ("dark", "short_dark", "lamp_on", "lamp_off")


def test_up_prints_its_address_and_recognizes_a_running_service(service: Service) -> None:
    assert service.state["ready"]
    assert service.state["ui_url"].startswith("http://127.0.0.1:")
    again = service.up()
    assert (again["started"], again["pid"]) == (False, service.state["pid"])
    reported = service.nirflow("status")
    for part in ("server", "worker", "watcher", "judge"):
        assert f"{part} " in reported
    assert reported.count("running") == 4


def test_the_schedules_make_runs(service: Service) -> None:
    scheduled = {"deployments": {"name": {"any_": ["nightly", "housekeeping"]}}}
    found = wait_until(lambda: service.post("/flow_runs/filter", scheduled), "the schedules' runs")
    assert {run["state_type"] for run in found} == {"SCHEDULED"}
    assert len(found) >= 2
    (nightly,) = service.post("/deployments/filter", {"deployments": {"name": {"any_": ["nightly"]}}})
    (schedule,) = nightly["schedules"]
    assert (
        schedule["schedule"] | {"cron": "0 9 * * *", "timezone": "America/Santiago"} == schedule["schedule"]
    )


def test_a_sequence_is_reduced_when_its_last_frame_has_come(service: Service, y_night: NightTruth) -> None:
    service.drop(of_roles(y_night, *CALIBRATIONS))
    service.drop(of_roles(y_night, "science"))
    runs = service.idle()
    assert Counter(run["state_type"] for run in runs) == {"COMPLETED": len(runs)}
    (science,) = service.runs("arrival", "backlog")
    assert re.fullmatch(r"science Y \S.* 2013-11-21", science["name"])
    assert {"2013-11-21", "Y", "nirflow"} <= set(science["tags"])
    (stack,) = products(service, "image")
    assert (service.nights / "2013-11-21" / stack["name"]).is_file()
    page = (service.nights / "2013-11-21" / "index.html").read_text()
    assert stack["name"] in page
    assert science["id"] in page  # the link to its run
    # Runs that started late found everything made: no recipe was built twice.
    assert {kind: len(products(service, kind)) for kind in ("dark", "bpm", "flat")} == {
        "dark": 1,
        "bpm": 1,
        "flat": 1,
    }


def test_what_the_ui_shows_of_a_run(service: Service) -> None:
    found = service.post("/artifacts/filter", {"limit": 200})
    keys = {artifact["key"]: artifact for artifact in found if artifact["key"]}
    assert {"night", "dark-120-s", "flat-y", "bpm-bad-pixel-mask"} <= set(keys)
    assert {"history-image-y", "history-dark-120-s-8-reads-1-coadd", "history-flat-y-g0811"} <= set(keys)
    flat = keys["flat-y"]["data"]
    assert "![preview](data:image/png;base64," in flat
    (image,) = [key for key in keys if key.startswith("image-") and "history" not in key]
    assert "seeing" in keys[image]["data"]
    chosen = [artifact for key, artifact in keys.items() if key.startswith("calibrations-wise")]
    assert {row["kind"] for row in json.loads(chosen[0]["data"])} == {"dark", "bpm", "flat"}


_IMAGES = (
    "[...document.images].length > {0} && [...document.images].every(i => i.complete && i.naturalWidth > 0)"
)


@pytest.mark.parametrize("scheme", ["file", "http"])
def test_the_nights_page_in_a_browser(service: Service, tmp_path: Path, scheme: str) -> None:
    with ExitStack() as stack:
        base = service.nights.as_uri() if scheme == "file" else stack.enter_context(served(service.nights))
        page = stack.enter_context(browser_page(tmp_path / "profile"))
        page.open(f"{base}/index.html")
        page.wait_for("document.body && document.body.innerText.includes('2013-11-21')")
        page.open(f"{base}/2013-11-21/index.html")
        page.wait_for("document.body && document.body.textContent.includes('Plan and outcome')")
        page.wait_for("document.readyState !== 'loading'")  # images parsed later would stay lazy
        page.evaluate("document.querySelectorAll('img').forEach(i => { i.loading = 'eager' })")
        page.wait_for(_IMAGES.format(4))
        assert page.evaluate("document.querySelectorAll('svg').length") >= 3
        (stack_name,) = {product["name"] for product in products(service, "image")}
        assert stack_name in page.text()
        page.size(390, 844)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        # A browser requests that automatically.
        assert [one for one in page.failed if not one[0].endswith("/favicon.ico")] == []
        assert page.errors == []
        assert {url.split(":")[0] for url in page.requested} <= {scheme, "data"}


@contextmanager
def logged_in(service: Service, folder: Path) -> Iterator[Page]:
    """Yield a browser with the server's password, as the link of `nirflow server login` gives it."""
    given = json.loads(service.nirflow("server", "login", "--json"))
    with browser_page(folder / "profile") as page:
        page.open(given["link"])
        page.wait_for("location.pathname == '/dashboard' && document.body.innerText.includes('Dashboard')")
        page.failed.clear()
        page.requested.clear()
        yield page


def test_a_run_in_the_ui_in_a_browser(service: Service, tmp_path: Path) -> None:
    (run,) = service.runs("arrival", "backlog")
    ui = service.state["ui_url"]
    body = {"artifacts": {"flow_run_id": {"any_": [run["id"]]}}}
    stack = next(a for a in service.post("/artifacts/filter", body) if (a["key"] or "").startswith("image-"))
    with logged_in(service, tmp_path) as page:
        page.open(f"{ui}/runs/flow-run/{run['id']}")
        page.wait_for(f"document.body && document.body.innerText.includes({json.dumps(run['name'])})")
        # The graph of the steps is drawn on a canvas.
        page.wait_for("[...document.querySelectorAll('canvas')].some(c => c.width > 300 && c.height > 100)")
        page.wait_for("document.body.innerText.includes('detrend S20131121')")
        page.open(f"{ui}/artifacts/artifact/{stack['id']}")
        page.wait_for(
            "[...document.images].some(i => i.src.startsWith('data:image/png') && i.naturalWidth > 100)"
        )
        page.wait_for("document.body.innerText.includes('seeing')")
        # Two files that the UI requests and Prefect does not have.
        lacking = [one for one in page.failed if not one[0].endswith(("/favicon.ico", "/ico/undefined.svg"))]
        assert lacking == []
        assert hosts(page.requested) == {ui.split("/")[2]}


def hosts(urls: Iterable[str]) -> set[str]:
    return {url.split("/")[2] for url in urls if url.startswith("http")}


def test_no_page_of_the_server_asks_outside(service: Service, tmp_path: Path) -> None:
    """Prefect's newer UI requests settings of Amplitude, and the catalogue of blocks requests logos from two
    hosts.
    """
    ui = service.state["ui_url"]
    with logged_in(service, tmp_path) as page:
        for path, shown in (
            ("/", "Dashboard"),
            ("/v2/dashboard", "Dashboard"),
            ("/v2/runs", "2013-11-21"),
            ("/blocks/catalog", "Slack"),
        ):
            page.requested.clear()
            page.forbidden.clear()
            page.open(f"{ui}{path}")
            page.wait_for(f"document.body && document.body.innerText.includes('{shown}')")
            page.wait_for("performance.now() > 5000")
            assert hosts(set(page.requested) - set(page.forbidden)) == {ui.split("/")[2]}, path
            assert page.errors == [], path
            assert ("/v2/" in page.evaluate("location.pathname")) == ("/v2/" in path)
            assert page.forbidden or "catalog" not in path


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Yield the folder over HTTP."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_late_calibrations_start_only_the_waiting_science(
    service: Service, j_frames: dict[str, list[Path]]
) -> None:
    before = {run["id"] for run in service.runs()}
    service.drop(j_frames["science"])
    service.idle()
    (waiting,) = [run for run in service.runs("arrival", "backlog") if run["id"] not in before]
    page = (service.nights / "2013-11-21" / "index.html").read_text()
    assert "waiting" in page.lower()
    service.drop(j_frames["dark"] + j_frames["lamp_on"] + j_frames["lamp_off"])
    service.idle()
    new = [run for run in service.runs("arrival", "backlog") if run["id"] not in before | {waiting["id"]}]
    assert new
    (name,) = {run["name"] for run in new}
    assert re.fullmatch(r"science J \S.* 2013-11-21", name)
    assert {image["serves"].split("_")[0] for image in products(service, "image")} == {"Y", "J"}


def test_a_night_continues_whichever_process_is_killed(service: Service, second: list[Path]) -> None:
    """Worker, flow process, watcher, server and PostgreSQL, each killed once while a night is being
    reduced.
    """
    service.drop(second)
    service.idle()
    done = {image["id"] for image in products(service, "image")}
    for number, name in enumerate(("flow", "server", "watcher", "postgres", "worker")):
        part = {"flow": "worker"}.get(name, name)
        pid = _postgres(service) if name == "postgres" else service.pid(part)
        # Different parameters each time, so that there is work to do.
        high = 4.01 + 0.01 * number
        run = service.ask(
            "nightly", "nightly", first="2013-11-21", advanced={"parameters": {"dark": {"high": high}}}
        )
        service.running(run)
        kill(service.flow_processes(pid)[0] if name == "flow" else pid)
        ended = service.ended(run)
        assert ended["state_type"] == "COMPLETED", (name, ended["state"])
        if name == "flow":  # reported once and handed out again: never twice at a time
            states = [state["name"] for state in service.states(run)]
            assert states.count("Crashed") == states.count("AwaitingRetry") == 1
            assert (states.count("Running"), states[-1]) == (2, "Completed")
    wait_until(lambda: service.part("watcher")["restarts"] == 1 or None, "the watcher's restart")
    images = products(service, "image")
    # Three sequences, five times each: nothing was lost and nothing was made twice.
    assert len(images) == len(done) + 5 * 3
    assert len({image["id"] for image in images}) == len(images)
    assert json.loads(service.nirflow("cal", "verify", "--json"))["findings"] == []


def test_a_run_stopped_with_the_service_continues_at_the_next_start_without_an_alarm(
    service: Service,
) -> None:
    for high in (4.21, 4.22, 4.23, 4.24):
        run = service.ask(
            "nightly", "nightly", first="2013-11-21", advanced={"parameters": {"dark": {"high": high}}}
        )
        service.running(run)
        service.nirflow("down")
        service.up()
        assert service.ended(run)["state_type"] == "COMPLETED"
        states = [state["name"] for state in service.states(run)]
        assert "Crashed" not in states
        if "AwaitingRetry" in states:  # otherwise it ended while the command started
            break
    assert states.count("AwaitingRetry") == 1
    at_work = {"flow_runs": {"id": {"any_": [run]}}, "task_runs": {"state": {"type": {"any_": ["RUNNING"]}}}}
    wait_until(lambda: not service.post("/task_runs/filter", at_work), "no step to seem at work")


def test_worker_and_run_killed_together_are_found_by_their_silence(service: Service) -> None:
    worker = service.pid("worker")
    run = service.ask(
        "nightly", "nightly", first="2013-11-21", advanced={"parameters": {"dark": {"high": 4.31}}}
    )
    service.running(run)
    (process,) = service.flow_processes(worker)
    os.kill(process, signal.SIGSTOP)  # or it may end while the worker is killed
    kill(worker)
    kill(process)
    ended = service.ended(run)
    assert (ended["state_type"], ended["run_count"] > 1) == ("COMPLETED", True)


def test_a_cancelled_run_stops_soon_and_leaves_nothing_incomplete(service: Service) -> None:
    run = service.ask(
        "nightly", "nightly", first="2013-11-21", advanced={"parameters": {"dark": {"high": 4.41}}}
    )
    service.running(run)
    service.post(f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})
    ended = service.ended(run)
    assert ended["state_type"] == "CANCELLED"
    assert json.loads(service.nirflow("cal", "verify", "--json"))["findings"] == []
    again = service.ask(
        "nightly", "nightly", first="2013-11-21", advanced={"parameters": {"dark": {"high": 4.41}}}
    )
    assert service.ended(again)["state_type"] == "COMPLETED"


def test_frames_that_came_while_everything_was_down_are_found(
    service: Service, y_night: NightTruth, tmp_path: Path
) -> None:
    service.nirflow("down")
    wait_until(lambda: not of_folder(service.folder) or None, "every process to end")
    source = of_roles(y_night, "science")[:4]
    new = [
        altered(p, tmp_path / f"{p.name[:10]}{4000 + n}.fits", OBSID="GS-2013B-Q-15-77", DATALAB=f"x-{n}")
        for n, p in enumerate(source)
    ]
    service.drop(new)
    service.up()
    service.known = {run["id"] for run in service.runs()}
    service.idle()
    assert "S20131121S4000_image.fits" in {product["name"] for product in products(service, "image")}


def test_down_leaves_no_process(service: Service) -> None:
    service.nirflow("down")
    wait_until(lambda: not of_folder(service.folder) or None, "every process to end")
    assert "not up" in service.nirflow("status", code=3)
    assert "was not up" in service.nirflow("down")


def _postgres(service: Service) -> int:
    return int((service.folder / "data" / "postgres" / "postmaster.pid").read_text().split()[0])
