"""The wheel and the source distribution: complete, and a night is reduced by the wheel alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path
from typing import Final
from zipfile import ZipFile

import pytest

ROOT: Final = Path(__file__).parents[1]
PACKAGES: Final = ("calib_store", "deployments", "flows", "imaging", "nirflow", "tasks")
#: What a package needs when it is built: nothing else of the checkout is given to the build.
FILES: Final = ("pyproject.toml", "README.md", "LICENSE")


def files_of(package: Path) -> set[str]:
    """The files of a package, by their paths in the checkout."""
    every = (path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(package.parent)) for path in every}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The source distribution, and the wheel that was built from it."""
    checkout = tmp_path_factory.mktemp("checkout")
    for name in FILES:
        shutil.copy(ROOT / name, checkout)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    out = checkout / "dist"
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(checkout)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return sdist, wheel


def test_every_file_of_the_packages_is_in_both(built: tuple[Path, Path]) -> None:
    sdist, wheel = built
    wanted = {name for package in PACKAGES for name in files_of(ROOT / package)}
    assert {"imaging/instruments/f2.toml", "flows/py.typed"} < wanted
    with ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == wanted
    with tarfile.open(sdist) as source:
        names = {name.partition("/")[2] for name in source.getnames()}
    assert wanted | {*FILES} <= names


def test_the_wheel_says_what_it_is_and_needs(built: tuple[Path, Path]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    with ZipFile(built[1]) as archive:
        (name,) = (one for one in archive.namelist() if one.endswith(".dist-info/METADATA"))
        metadata = archive.read(name).decode()
        entry_points = archive.read(name.replace("METADATA", "entry_points.txt")).decode()
    assert f"Version: {project['version']}\n" in metadata
    assert metadata.count("Requires-Dist:") == len(project["dependencies"]) + sum(
        map(len, project["optional-dependencies"].values())
    )
    assert "nirflow = nirflow.__main__:main" in entry_points


@pytest.mark.long
def test_a_night_is_reduced_by_the_wheel_alone(built: tuple[Path, Path], tmp_path: Path) -> None:
    installed, here = tmp_path / "installed", tmp_path / "somewhere else"
    here.mkdir()
    with ZipFile(built[1]) as archive:
        archive.extractall(installed)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("NIRFLOW_", "PREFECT_", "PYTHON"))}
    environment = kept | {"PYTHONPATH": str(installed), "NIRFLOW_DATA_DIR": str(tmp_path / "data")}

    def nirflow(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "nirflow", *arguments],
            cwd=here, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    where = [sys.executable, "-P", "-c", "import imaging, flows, nirflow; print(imaging.__file__)"]
    found = subprocess.run(where, cwd=here, env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.startswith(str(installed))
    try:
        nirflow("simulate", "night", "--size", "512", "--quiet")
        report = json.loads(nirflow("reduce", "night", "--out", "out", "--set", "check.shape=none", "--json"))
        page = nirflow("report", "last", "--out", "nights").strip()
    finally:
        nirflow("server", "stop")
    assert {one["kind"] for one in report["products"]} == {"dark", "bpm", "flat", "image"}
    assert len(list((here / "out").glob("*_image.fits"))) == 1
    assert (here / page).is_file()
