"""nirflow in a folder of somebody else's: nothing that lies there configures it, and no code there is run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.long

#: Left by any code of the folder that was run.
PWNED = "pwned"
_RUNS = f"import pathlib; pathlib.Path({PWNED!r}).touch()\n"
_LOGGING = f"""\
version: 1
disable_existing_loggers: false
formatters:
  zz:
    (): subprocess.check_output
    args: [touch, {PWNED}]
"""


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a trap for everything that is known to read the working folder."""
    folder = tmp_path / "night"
    folder.mkdir()
    (folder / ".env").write_text(
        "PREFECT_LOGGING_CONFIG_PATH=logging.yml\nPREFECT_API_URL=http://trap.invalid/api\n"
        "PREFECT_PROFILES_PATH=profiles.toml\nPREFECT_PLUGINS_SAFE_MODE=true\n"
    )
    (folder / "prefect.toml").write_text(
        'profiles_path = "profiles.toml"\n[logging]\nconfig_path = "logging.yml"\n[client]\nmax_retries = 4321\n'
        "[experiments.plugins]\nstrict = true\n"
    )
    (folder / "pyproject.toml").write_text(
        '[tool.prefect]\nprofiles_path = "profiles.toml"\n[tool.prefect.logging]\nconfig_path = "logging.yml"\n'
        "[tool.prefect.client]\nmax_retries = 4321\n[tool.prefect.plugins]\nstrict = true\n"
    )
    (folder / "profiles.toml").write_text(
        'active = "trap"\n[profiles.trap]\nPREFECT_API_URL = "http://trap.invalid/api"\n'
    )
    (folder / "logging.yml").write_text(_LOGGING)
    (folder / ".numba_config.yaml").write_text("cache_dir: ./cache\n")
    (folder / "matplotlibrc").write_text("text.usetex: True\nsavefig.facecolor: red\n")
    for module in ("prefect.py", "typer.py", "numpy.py", "yaml.py", "sitecustomize.py", "usercustomize.py"):
        (folder / module).write_text(_RUNS)
    for package in ("tasks", "deployments"):
        (folder / package).mkdir()
        (folder / package / "__init__.py").write_text(_RUNS)
    for name in list(os.environ):
        if name.startswith(("PREFECT", "NIRFLOW_", "PYTHON", "NUMBA")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NIRFLOW_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "home"))
    return folder


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True, check=False)


def script(trap: Path, code: str, *options: str) -> Any:
    """What a script that is not in the folder prints as its last line, as JSON."""
    path = trap.parent / "script.py"
    path.write_text(code)
    done = run(trap, *options, str(path))
    assert done.returncode == 0, done.stderr
    assert not (trap / PWNED).exists()
    return json.loads(done.stdout.splitlines()[-1])


#: Reports which files of the working folder were opened, and what the settings are.
_REPORT = """
import json, os, sys
here, opened = os.getcwd(), []
def hook(event, arguments):
    if event == "open" and isinstance(arguments[0], str):
        path = os.path.abspath(arguments[0])
        if path.startswith(here + os.sep):
            opened.append(os.path.relpath(path, here))
sys.addaudithook(hook)
{imports}
import prefect.context, prefect.logging.configuration
from prefect.settings import PREFECT_API_URL, Settings, get_current_settings, temporary_settings
prefect.logging.configuration.setup_logging()
with temporary_settings({{PREFECT_API_URL: "http://ours/api"}}) as changed:
    pass
reported = []
for settings in (get_current_settings(), Settings(), changed):
    reported.append([settings.api.url, str(settings.logging.config_path), settings.client.max_retries,
                 settings.plugins.strict, settings.plugins.safe_mode])
print(json.dumps([reported, opened]))
"""


@pytest.mark.parametrize(
    "imports",
    [
        pytest.param("import flows.night", id="a flow"),
        pytest.param("import tasks.dark", id="a task"),
        pytest.param(
            "import deployments.prefect_server.serve, deployments.supervisor.worker, deployments.registry.register",
            id="the parts",
        ),
        pytest.param("import nirflow.cli, flows.night, flows.page.write", id="the command"),
    ],
)
def test_prefect_reads_nothing_of_the_working_folder(trap: Path, imports: str) -> None:
    reported, opened = script(trap, _REPORT.format(imports=imports))
    logging = str(trap.parent / "home" / "logging.yml")
    default = [None, logging, 5, False, False]
    assert reported == [default, default, ["http://ours/api", *default[1:]]]
    # Both are read at the import only, as plain data, and set aside at once.
    assert set(opened) <= {".numba_config.yaml", "matplotlibrc"}


def test_prefect_reads_nothing_of_the_working_folder_any_more_where_it_was_there_first(trap: Path) -> None:
    inside = trap.parent / "elsewhere"
    inside.mkdir()
    code = _REPORT.format(imports=f"os.chdir({str(inside)!r})\nimport prefect, flows.night\nos.chdir(here)")
    reported, opened = script(trap, code)
    assert reported[1][:3] == [None, str(trap.parent / "home" / "logging.yml"), 5]
    assert opened == []


def test_the_server_itself_is_found_in_variables(trap: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://named/api")
    reported, _ = script(trap, _REPORT.format(imports="import flows.night"))
    assert [one[0] for one in reported] == ["http://named/api", "http://named/api", "http://ours/api"]


def test_profiles_of_the_home_folder_stay(trap: Path) -> None:
    home = trap.parent / "home"
    home.mkdir()
    (home / "profiles.toml").write_text(
        'active = "mine"\n[profiles.mine]\nPREFECT_API_URL = "http://mine/api"\n'
    )
    reported, _ = script(trap, _REPORT.format(imports="import flows.night"))
    assert reported[0][0] == "http://mine/api"


_COMPILE = """
import json, os
from numba import config, njit
import imaging.pixels.combine_kernels
njit(lambda x: x + 1)(1)
print(json.dumps([config.CACHE_DIR, os.path.exists("cache")]))
"""


@pytest.mark.parametrize("first", ["", "import imaging"], ids=["numba first", "imaging first"])
def test_numba_takes_no_cache_from_the_working_folder(trap: Path, first: str) -> None:
    assert script(trap, first + _COMPILE) == ["", False]


def test_numba_heeds_its_variables(trap: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(trap.parent / "own"))
    assert script(trap, _COMPILE.replace("njit(lambda", "# njit(lambda"))[0] == str(trap.parent / "own")


@pytest.mark.parametrize("command", [["params"], ["settings"], ["cal", "list", "--help"], ["--version"]])
def test_python_m_nirflow_imports_nothing_of_the_working_folder(trap: Path, command: list[str]) -> None:
    done = run(trap, "-m", "nirflow", *command)
    assert done.returncode == 0, done.stderr
    assert not (trap / PWNED).exists()


def test_children_of_ours_import_nothing_of_their_working_folder(trap: Path) -> None:
    from deployments.settings.all_settings import Settings
    from deployments.settings.server_settings import (
        ServerAddress,
        ServerSettings,
        client_environment,
        server_environment,
    )
    from deployments.supervisor.service import environment_of

    address = ServerAddress(
        "http://127.0.0.1:1/api", "http://127.0.0.1:1", pid=None, started=False, home=trap.parent / "home"
    )
    for environment in (
        environment_of(Settings()),
        client_environment(address),
        server_environment(
            ServerSettings(), home=trap.parent / "home", port=1, database_url="postgresql+asyncpg://"
        ),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "deployments.supervisor.worker", "--help"],
            cwd=trap, env={**os.environ, **environment}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert not (trap / PWNED).exists()
