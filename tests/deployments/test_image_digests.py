"""Digests of the container images, from a registry that is not there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from benchmarks.containers.workload import ROOT
from deployments import image_digests

DIGEST = "sha256:" + "0a" * 32


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A script in place of Docker, in a folder with the compose file; it answers with a digest."""
    script = tmp_path / "docker"
    script.write_text(f'#!/bin/sh\n[ "$1 $2 $3" = "buildx imagetools inspect" ] && echo {DIGEST}\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    shutil.copy(ROOT / "docker-compose.yml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(image_digests, "make_output_printable", lambda: None)
    return script


def test_a_line_for_each_image(docker: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert image_digests.main() == 0
    lines = dict(line.split("=", 1) for line in capsys.readouterr().out.splitlines())
    assert set(lines) == {"NIRFLOW_POSTGRES_IMAGE", "NIRFLOW_PYTHON_IMAGE"}
    for name, value in lines.items():
        assert f"#{name}={value.removesuffix(f'@{DIGEST}')}\n" in (ROOT / ".env.example").read_text()


@pytest.mark.parametrize(
    ("answer", "logged"),
    [
        ("echo no route to host >&2; exit 1", "no route to host"),
        ("echo v1", "v1"),
        ("exit 0", "Docker named no digest"),
    ],
)
def test_an_unknown_digest_is_an_error(
    answer: str,
    logged: str,
    docker: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    docker.write_text(f"#!/bin/sh\n{answer}\n")
    assert image_digests.main() == 1
    assert capsys.readouterr().out == ""
    assert logged in caplog.text
    assert "registry" in caplog.text


def test_without_docker_or_the_compose_file(
    docker: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert image_digests.main() == 1
    assert "Install Docker" in caplog.text
    (docker.parent / "docker-compose.yml").unlink()
    assert image_digests.main() == 1
    assert "docker-compose.yml cannot be read" in caplog.text
