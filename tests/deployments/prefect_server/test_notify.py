"""The block with which the Prefect server notifies users."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from receivers import Webhook
from triggers import wait_until_triggers_hold
from waiting import wait_until

from deployments.prefect_server.notify import Notification


def test_the_block_reads_the_settings_when_sending_and_stores_nothing(
    webhook: Webhook, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    block = Notification()
    assert not [name for name in type(block).model_fields if not name.startswith("_")]
    monkeypatch.setenv("NIRFLOW_NOTIFY_WEBHOOK", webhook.url)
    monkeypatch.setenv("NIRFLOW_DATA_DIR", str(tmp_path))
    asyncio.run(block.notify("the body", "the subject"))
    asyncio.run(block.notify("the body"))
    assert [body["title"] for _, body in webhook.received] == ["the subject", "nirflow"]


@pytest.mark.long
def test_a_failed_run_of_a_deployment_reaches_the_receiver(
    webhook: Webhook, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the automation, the block and the server's own process, which has the address in its environment."""
    from calib_store.server import postgres
    from deployments.prefect_server.client import connected
    from deployments.prefect_server.server import ensure_server, stop_server
    from deployments.settings.all_settings import Settings
    from deployments.settings.server_settings import ServerSettings

    folder = tmp_path_factory.mktemp("own")
    monkeypatch.setenv("NIRFLOW_NOTIFY_WEBHOOK", webhook.url)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    try:
        address = ensure_server(folder, settings=ServerSettings(port=0))
        with connected(address):
            _fail_one_run(Settings())
        wait_until(lambda: webhook.received, "the message")
        time.sleep(1)  # in which a second one would arrive
        ((_, body),) = webhook.received
        assert body["title"] == "nirflow: of the test: failed"
        assert "Failed: the disk is full" in body["text"]
        assert f"{address.ui_url}/runs/flow-run/" in body["text"]
        assert _files_with(Path(folder), "s3cret") == []
    finally:
        stop_server(folder)
        postgres.stop(folder)


def _fail_one_run(settings: Any) -> None:
    from prefect import flow, get_client
    from prefect.states import Failed, Scheduled

    from deployments.registry.automations import make_automations

    with get_client(sync_client=True) as client:
        make_automations(client, settings)
        name = f"test {uuid.uuid4().hex}"
        of = client.create_flow(flow(lambda: None, name=name))
        deployment = client.create_deployment(of, name)
        run = client.create_flow_run_from_deployment(deployment, name="of the test", state=Scheduled())
        lone = client.create_flow_run(flow(lambda: None, name=name), name="by hand", state=Scheduled())
        wait_until_triggers_hold(client)
        for one in (lone, run):
            client.set_flow_run_state(one.id, Failed(message="the disk is full"), force=True)


def _files_with(folder: Path, command: str) -> list[Path]:
    """Return files below a folder that contain a text, including those of the database."""
    files = (Path(where) / name for where, _, names in os.walk(folder) for name in names)
    return [path for path in files if path.is_file() and command.encode() in path.read_bytes()]
