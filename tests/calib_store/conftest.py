from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from real_server import RealServer
from server_store import Settings

from calib_store.model.settings import StoreSettings


@pytest.fixture
def python() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start Python processes that run given code; any left at the end are killed."""
    started: list[subprocess.Popen[str]] = []

    def start(
        script: str, *arguments: object, prefix: tuple[str, ...] = (), **options: Any
    ) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*prefix, sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@pytest.fixture
def settings(real_server: RealServer, tmp_path: Path) -> Iterator[Settings]:
    """Settings of a store on the server, in a database of its own."""
    names: list[str] = []

    def make(user: str = "admin", database: str = "", folder: str = "data") -> StoreSettings:
        name = database or f"nirflow_{uuid.uuid4().hex[:8]}"
        names.append(name)
        return StoreSettings(data_dir=tmp_path / folder, database_url=SecretStr(real_server.url(name, user)))

    yield make
    with real_server.connect() as connection:
        for name in set(names):
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
