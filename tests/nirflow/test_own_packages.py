"""A foreign package with the name of one of nirflow's is reported with its file, not found later by a strange
error.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from nirflow import own_packages
from nirflow.own_packages import ForeignPackageError, require_own_packages

ROOT = Path(__file__).parents[2]


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in ``folder``, which it searches before nirflow's own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_the_installed_packages_are_our_own() -> None:
    require_own_packages()


@pytest.mark.parametrize("name", ["imaging", "calib_store", "tasks", "flows", "deployments"])
@pytest.mark.parametrize("as_folder", [True, False], ids=["package", "module"])
def test_the_command_names_the_file_that_shadows_a_package(
    tmp_path: Path, name: str, as_folder: bool
) -> None:
    foreign = tmp_path / name / "__init__.py" if as_folder else tmp_path / f"{name}.py"
    foreign.parent.mkdir(exist_ok=True)
    foreign.write_text("raise RuntimeError('it was imported')\n")
    # Scripts and notebooks search the working folder; the command does so only with PYTHONPATH.
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    done = subprocess.run(
        [sys.executable, "-m", "nirflow", "--version"],
        cwd=elsewhere, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert f"Python finds '{foreign}' before nirflow's own package '{name}'" in done.stderr
    assert "PYTHONPATH" in done.stderr


def test_a_notebook_gets_the_same_as_an_import_error(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text("")
    done = run(tmp_path, "-c", "import nirflow\nfrom nirflow import reduce_night")
    assert done.returncode == 1
    assert "ForeignPackageError: Python finds" in done.stderr
    assert str(tmp_path / "tasks.py") in done.stderr


def test_a_folder_that_is_not_a_package_shadows_nothing(tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    done = run(tmp_path, "-c", "from nirflow import Options; print(Options.__name__)")
    assert (done.returncode, done.stdout) == (0, "Options\n"), done.stderr


def test_a_package_that_is_not_found_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_packages, "find_spec", lambda name: None)
    with pytest.raises(ForeignPackageError, match="Python does not find nirflow's own package 'imaging'"):
        require_own_packages()


def test_a_package_that_another_was_installed_over_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("nirflow", "imaging"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    monkeypatch.setattr(own_packages, "__file__", str(tmp_path / "nirflow" / "own_packages.py"))
    origin = str(tmp_path / "imaging" / "__init__.py")
    monkeypatch.setattr(own_packages, "find_spec", lambda name: ModuleSpec(name, None, origin=origin))
    with pytest.raises(ForeignPackageError, match="another package was installed over it"):
        require_own_packages()
    (tmp_path / "imaging" / "__init__.py").unlink()
    (tmp_path / "imaging").rmdir()
    with pytest.raises(ForeignPackageError, match="it is missing"):
        require_own_packages()
