"""The private parts of Prefect that nirflow relies on: each is unchanged since its adapter was written.

If one of these tests fails after an upgrade, compare the part with the adapter's assumptions, correct the
adapter, and record the new digest here.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import pytest

import tasks.prefect_internals

FOLDER: Final = Path(tasks.prefect_internals.__file__).parent
#: Each part by its adapter: module, name, and digest of its source.
PARTS: Final[dict[str, dict[str, str]]] = {
    "settings_sources": {
        "prefect.settings.sources:TomlConfigSettingsSourceBase": "8c9fbc848622",
        "prefect.settings.sources:PrefectTomlConfigSettingsSource": "7085016bbd75",
        "prefect.settings.sources:FilteredDotEnvSettingsSource": "b75813b5ea31",
        "prefect.settings.sources:_get_profiles_path_from_toml": "e4aec65a64df",
        "prefect.settings.base:build_settings_config": "2e70b066ef9f",
    },
    "event_ordering": {
        "prefect.server.events.ordering.memory:CausalOrdering.event_has_started_processing": "b63409254541",
        "prefect.server.events.ordering.memory:CausalOrdering.event_has_been_seen": "c0f07e203800",
        "prefect.server.events.ordering.memory:CausalOrdering.forget_follower": "1ea78250cc98",
        "prefect.server.events.ordering.memory:CausalOrdering.get_followers": "2a943295e6b5",
        "prefect.server.events.ordering.memory:CausalOrdering.wait_for_leader": "d54be31f6bc1",
        "prefect.server.events.ordering.memory:CausalOrdering.preceding_event_confirmed": "67e6f9d5cf5c",
    },
    "lost_events": {
        "prefect.server.models.events:flow_run_state_change_event": "615cf636a1d4",
        "prefect.server.events.clients:PrefectServerEventsClient": "df8be126ccb2",
        "prefect.server.events.services.triggers:ReactiveTriggers.start": "71fe193adbca",
        "prefect.server.events.services.event_persister:EventPersister.start": "a464ed70c2be",
        "prefect.server.services.base:Service.running": "095c7e4b54b5",
    },
    "server_clients": {
        "prefect.server.events.clients:PrefectServerEventsAPIClient.__init__": "4ff5e6faa6fa",
    },
    "loopback_clients": {
        "prefect.client.base:PrefectHttpxAsyncClient.__init__": "835993b8b8d9",
        "prefect.client.base:PrefectHttpxSyncClient.__init__": "835993b8b8d9",
    },
    "server_application": {
        "prefect.server.api.server:create_app": "b3eb70335746",
    },
    "process_worker": {
        "prefect.workers.process:ProcessWorker.run": "a48c1ad5b3eb",
        "prefect.workers.base:BaseWorker._submit_scheduled_flow_runs": "0a6e2aced24c",
    },
    "heartbeats": {
        "prefect.flow_engine:_send_heartbeats": "eca6cd31f93e",
        "prefect.flow_engine:BaseFlowRunEngine._build_heartbeat_event_template": "f9395ccf1d92",
        "prefect.flow_engine:BaseFlowRunEngine._emit_flow_run_heartbeat": "11374a8790c5",
    },
    "run_context": {
        "prefect.context:EngineContext": "b4c96e89405d",
        "prefect.context:TaskRunContext": "34424b323b0c",
    },
    "remote_tasks": {
        "prefect.context:serialize_context": "7046028edf74",
        "prefect.utilities.collections:visit_collection": "8293575cc8e7",
        "prefect.task_engine:run_task_sync": "90d347aa23b4",
    },
    "dask_futures": {
        "prefect_dask.task_runners:PrefectDaskFuture": "7618230a886b",
        "prefect_dask.task_runners:DaskTaskRunner.submit": "f4fb93e86eee",
        "prefect_dask.task_runners:DaskTaskRunner.client": "7783518e95df",
        "prefect.futures:PrefectWrappedFuture": "18e280df1ff1",
    },
    "identifiers": {
        "prefect.flow_engine:run_flow": "533238b81be8",
    },
    "named_runs": {
        "prefect.server.models.flow_runs:create_flow_run": "a35c6639dac5",
        "prefect.server.models.deployments:_generate_scheduled_flow_runs": "2a8ca85e5438",
        "prefect.server.models.deployments:read_deployment": "c40c9b1003ee",
    },
}

DEFINITIONS: Final = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def source_of(part: str) -> str:
    """Return the source of ``module:Class.method`` as it is in the file, even if it has been replaced
    since.
    """
    module, _, name = part.partition(":")
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise LookupError(f"{module} is gone")
    text = Path(spec.origin).read_text()
    scope: Any = ast.parse(text)
    for part in name.split("."):
        inner = [node for node in ast.walk(scope) if isinstance(node, DEFINITIONS) and node.name == part]
        if not inner:
            raise LookupError(f"{part} is gone")
        scope = inner[-1]  # after its overloads
    return ast.get_source_segment(text, scope) or ""


def digest_of(part: str) -> str:
    return hashlib.sha256(source_of(part).encode()).hexdigest()[:12]


@pytest.mark.parametrize(("adapter", "part"), [(one, part) for one, parts in PARTS.items() for part in parts])
def test_each_part_of_prefect_is_as_its_adapter_expects(adapter: str, part: str) -> None:
    try:
        found = digest_of(part)
    except LookupError as error:
        pytest.fail(f"{error}. tasks/prefect_internals/{adapter}.py relies on it.")
    assert found == PARTS[adapter][part], (
        f"{part} has changed. tasks/prefect_internals/{adapter}.py relies on it: compare the two, then put the "
        "new digest here."
    )


def test_every_adapter_is_tested() -> None:
    there = {path.stem for path in FOLDER.glob("*.py")} - {"__init__"}
    assert there == set(PARTS)


def test_a_part_that_has_changed_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    part = next(iter(PARTS["process_worker"]))
    monkeypatch.setitem(PARTS["process_worker"], part, "0" * 12)
    with pytest.raises(AssertionError, match=r"has changed\. tasks/prefect_internals/process_worker\.py"):
        test_each_part_of_prefect_is_as_its_adapter_expects("process_worker", part)
    gone = "prefect.workers.process:ProcessWorker.walk"
    with pytest.raises(pytest.fail.Exception, match=r"walk is gone\. tasks/prefect_internals/process_worker"):
        test_each_part_of_prefect_is_as_its_adapter_expects("process_worker", gone)


def test_the_names_that_adapters_replace_are_those_that_prefect_uses() -> None:
    from prefect.server.events import actions, clients

    from tasks.prefect_internals.server_clients import EventsClient

    assert issubclass(EventsClient, clients.PrefectServerEventsAPIClient)
    assert actions.PrefectServerEventsAPIClient.__name__ in ("PrefectServerEventsAPIClient", "EventsClient")
    assert "PrefectServerEventsAPIClient" in Path(inspect.getfile(actions)).read_text()


def test_prefects_runner_accepts_a_packed_task() -> None:
    from prefect.task_engine import run_task_sync

    wanted = {"task", "task_run_id", "parameters", "wait_for", "return_type", "dependencies", "context"}
    assert wanted <= set(inspect.signature(run_task_sync).parameters)


def test_a_run_knows_its_flow_and_its_runner() -> None:
    from prefect.context import FlowRunContext, TaskRunContext

    assert {"flow", "flow_run", "task_runner", "detached"} <= set(FlowRunContext.model_fields)
    assert "task_run" in TaskRunContext.model_fields


def test_the_lines_that_prefect_logs_are_recognized() -> None:
    from tasks.prefect_internals import identifiers

    def text_of(name: str) -> str:
        module = importlib.import_module(name)
        return Path(module.__file__ or "").read_text()

    assert identifiers._EXCEPTION_AGAIN in text_of("prefect.flow_engine")
    assert '"-m", "prefect.engine"' in text_of("prefect.runner.runner")
    for engine in ("prefect.flow_engine", "prefect.task_engine"):
        assert identifiers._FINAL_STATE in text_of(engine)
    assert find_spec(identifiers.ENGINE) is not None
