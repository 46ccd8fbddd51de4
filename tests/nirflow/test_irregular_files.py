"""Commands given a pipe, a device or a folder in place of a file: they name it and do not block."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

Run = Callable[..., Result]


@pytest.fixture(params=["pipe", "device"])
def irregular(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / "S20131121S0099.fits"
    if request.param == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    return path


@pytest.mark.parametrize("arguments", [("inspect",), ("inspect", "--pixels"), ("select",)])
def test_commands_that_read_frames(
    nirflow: Run, night: Path, irregular: Path, arguments: tuple[str, ...]
) -> None:
    result = nirflow(*arguments, night, irregular)
    assert result.exit_code in (0, 4)
    assert "not a file" in result.output


@pytest.mark.usefixtures("own_store")
def test_commands_of_the_store(nirflow: Run, irregular: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder.fits"
    folder.mkdir()
    for path in (irregular, folder):
        for arguments in (("add", path), ("match", path), ("rules", "--set", path, "--reason", "x")):
            result = nirflow("cal", *arguments)
            assert result.exit_code not in (0, None), arguments
            assert path.name in result.output, arguments
    result = nirflow("cal", "import", irregular)
    assert result.exit_code == 1
    assert irregular.name in result.output
