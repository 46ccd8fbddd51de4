"""The modules of each step's algorithm, compared with those recorded with the step's VERSION.

A step's VERSION is part of its keys: products of another version are made again. If an algorithm changes and
VERSION does not, old results are taken for new ones. ``versions.toml`` has a digest of each module of a step;
``python -m tests.tasks.record_versions`` updates it.
"""

from __future__ import annotations

import argparse
import ast
import functools
import hashlib
import json
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
TABLE: Final = Path(__file__).with_name("versions.toml")
#: Modules and folders that cannot change the pixels or figures of a step, and why.
WITHOUT_PIXELS: Final = {
    "imaging.errors": "messages",
    "imaging.printable": "texts made printable",
    "imaging.redaction": "secrets left out of texts",
    "imaging.parameters": "how parameters are declared; their values are in a step's key",
    "imaging.after_import": "when libraries are imported",
    "imaging.io": "bytes read and written as they are; what a file holds has tests of its own",
    "imaging.products": "files of products: headers, tables, names, checksums",
}
#: Calls with texts for users: descriptions of parameters and fields.
_DECLARATIONS: Final = ("parameter", "Field")
_LOGGERS: Final = ("log", "logger")
#: The module by which a step reaches the tables of instruments, and the parts of a table that affect results.
_CATALOGUE: Final = "imaging.instruments.catalogue"
_OF_PIXELS: Final = (
    "quirks", "component", "facts", "wheels", "kinds", "lamp", "guiding", "unfit", "offsets", "detector", "bands",
    "same",
)  # fmt: skip
_COMMAND: Final = "python -m tests.tasks.record_versions"


@dataclass(frozen=True)
class Made:
    """A step: its version and the digest of each module of its algorithm."""

    version: int
    modules: dict[str, str]


@dataclass(frozen=True)
class Record:
    """The record: the steps, and the changes that had no effect."""

    steps: dict[str, Made]
    no_effect: list[dict[str, Any]] = field(default_factory=list)


def steps(root: Path = ROOT) -> dict[str, str]:
    """Return the steps, the modules of `tasks` that import a VERSION, each with the module that has it."""
    return {path.stem: module for path, module in _files(root)}


def _files(root: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted((root / "tasks").rglob("*.py")):
        for module in _versions_of(path.read_text()):
            yield path, module


@functools.cache
def _versions_of(source: str) -> tuple[str, ...]:
    """Return the modules from which a module imports a VERSION."""
    return tuple(
        str(node.module)
        for node in ast.parse(source).body
        if isinstance(node, ast.ImportFrom) and any(alias.name == "VERSION" for alias in node.names)
    )


def made(root: Path = ROOT) -> dict[str, Made]:
    """Return the modules of each step of the tree at ``root``."""
    return {
        path.stem: Made(
            _version(root, module), _modules(root, ".".join(path.relative_to(root).with_suffix("").parts))
        )
        for path, module in _files(root)
    }


def read(table: Path = TABLE) -> Record:
    """Return the record; empty if there is no table yet."""
    if not table.exists():
        return Record({})
    content = tomllib.loads(table.read_text())
    steps = {step: Made(**one) for step, one in content.get("steps", {}).items()}
    return Record(steps, content.get("no_effect", []))


def changes(now: Made, before: Made) -> list[str]:
    """Return the modules that changed, were added or removed; renaming does not count."""
    return sorted(
        {name for name, digest in now.modules.items() if digest not in before.modules.values()}
        | {name for name, digest in before.modules.items() if digest not in now.modules.values()}
    )


def problems(root: Path = ROOT, table: Path = TABLE) -> list[str]:
    """Return the unrecorded changes, each with a remedy; empty if everything is recorded."""
    record, found = read(table), []
    places = {step: _path(root, module).relative_to(root) for step, module in steps(root).items()}
    for step, now in made(root).items():
        before = record.steps.get(step)
        if before is None:
            found.append(f"{step}: not recorded. Record it: {_COMMAND}")
        elif now.version != before.version:
            found.append(
                f"{step}: VERSION is {now.version}, recorded is {before.version}. Record it: {_COMMAND}"
            )
        elif changed := changes(now, before):
            found.append(
                f"{step}: {', '.join(changed)} changed, and VERSION in {places[step]} is still {now.version}. "
                f"Raise it where pixels or figures may differ, then record it: {_COMMAND}. If they cannot differ: "
                f'{_COMMAND} --no-effect "why"'
            )
    return found


def record(root: Path = ROOT, table: Path = TABLE, no_effect: str = "") -> list[str]:
    """Update the table; return the steps that it refuses because they changed under the same VERSION.

    Parameters
    ----------
    root, table
        The tree, and the table.
    no_effect
        Why the changes under the same VERSION change no pixel and no figure; recorded with the modules.
    """
    before, now = read(table), made(root)
    kept: dict[str, Made] = {}
    refused = []
    without: dict[str, list[str]] = {}
    for step, one in now.items():
        old = before.steps.get(step)
        changed = changes(one, old) if old is not None and old.version == one.version else []
        if changed and not no_effect:
            refused.append(step)
            kept[step] = before.steps[step]
            continue
        if changed:
            without[step] = changed
        kept[step] = one
    entries = list(before.no_effect)
    if without:
        modules = sorted({name for names in without.values() for name in names})
        entries.append({"reason": no_effect, "steps": sorted(without), "modules": modules})
    table.write_text(_as_toml(Record(kept, entries)))
    return refused


def _as_toml(content: Record) -> str:
    lines = ["# Written by tests/tasks/record_versions.py; see there.", ""]
    for step, one in content.steps.items():
        lines += [f"[steps.{step}]", f"version = {one.version}", "", f"[steps.{step}.modules]"]
        lines += [f'"{name}" = "{digest}"' for name, digest in sorted(one.modules.items())]
        lines.append("")
    for entry in content.no_effect:
        lines.append("[[no_effect]]")
        lines += [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in entry.items()]
        lines.append("")
    return "\n".join(lines)


def _version(root: Path, module: str) -> int:
    path = _path(root, module)
    found = _own_version(path.read_text())
    if found is None:
        raise ValueError(f"{path} has no VERSION.")
    return found


@functools.cache
def _own_version(source: str) -> int | None:
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and _is_version(node):
            return int(ast.literal_eval(node.value))
    return None


def _is_version(node: ast.Assign) -> bool:
    return [ast.unparse(target) for target in node.targets] == ["VERSION"]


def _modules(root: Path, start: str) -> dict[str, str]:
    """Return the digests of a step's own module and of all modules of `imaging` that it imports, directly or
    not.
    """
    found: dict[str, str] = {}
    coming = [start]
    while coming:
        name = coming.pop()
        if name in found:
            continue
        source = _path(root, name).read_text()
        found[name] = digest(source)
        if name == _CATALOGUE:  # numbers in a table are as much a part of the algorithm as those in modules
            found |= {f"{path.parent.name}/{path.name}": _table(path.read_text()) for path in _tables(root)}
        coming += [
            target
            for target in _imported(root, source)
            if not any(target == one or target.startswith(f"{one}.") for one in WITHOUT_PIXELS)
        ]
    return found


def _tables(root: Path) -> list[Path]:
    return sorted((root / "imaging" / "instruments").glob("*.toml"))


@functools.cache
def _table(table: str) -> str:
    """Return the digest of the parts of a table that affect pixels and figures, not of comments and the
    rules' windows.
    """
    content = tomllib.loads(table)
    text = json.dumps({key: content.get(key) for key in _OF_PIXELS}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _path(root: Path, module: str) -> Path:
    base = root.joinpath(*module.split("."))
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


def _imported(root: Path, source: str) -> Iterator[str]:
    """Yield the modules of `imaging` that a module needs at run time, including imports inside functions."""
    for module, name in _imports(source):
        inner = f"{module}.{name}"
        yield inner if name and _path(root, inner).exists() else module


@functools.cache
def _imports(source: str) -> tuple[tuple[str, str], ...]:
    """Yield module and name of each import from `imaging`; no name if the module itself is imported."""
    found = []
    for node in ast.walk(_Normal(keep_imports=True).visit(ast.parse(source))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "imaging":
            found += [(node.module, alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names if alias.name.split(".")[0] == "imaging"]
    return tuple(found)


class _Normal(ast.NodeTransformer):
    """Remove from a module what cannot change a result: docstrings, texts of errors and logs, imports for
    types.

    Imports are removed too unless requested: the imported modules are compared themselves.
    """

    def __init__(self, *, keep_imports: bool) -> None:
        self.keep_imports = keep_imports

    def visit_Import(self, node: ast.Import) -> ast.AST | None:
        return node if self.keep_imports else None

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        return node if self.keep_imports else None

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        # A version is recorded with its own step; other steps may use the same module.
        return None if _is_version(node) else self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | None:
        return None if ast.unparse(node.test).endswith("TYPE_CHECKING") else self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        value = node.value
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            return None
        if isinstance(value, ast.Call) and ast.unparse(value.func).split(".")[0] in _LOGGERS:
            return None
        return self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        return ast.Raise(_Silent().visit(node.exc) if node.exc else None, node.cause)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if ast.unparse(node.func) in _DECLARATIONS:
            node.args = [*node.args[:1], *(_Silent().visit(one) for one in node.args[1:])]
            node.keywords = [one for one in node.keywords if one.arg != "description"]
        return self.generic_visit(node)


class _Silent(ast.NodeTransformer):
    """An expression without its texts."""

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Constant("") if isinstance(node.value, str) else node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        return ast.Constant("")


@functools.cache
def digest(source: str) -> str:
    """Return the digest of a module's code, independent of its comments, docstrings, messages and format."""
    return hashlib.sha256(_text(_Normal(keep_imports=False).visit(ast.parse(source))).encode()).hexdigest()[
        :16
    ]


def _text(node: Any) -> str:
    """Return a node as text, the same in all versions of Python: empty and informative fields are left out."""
    if isinstance(node, ast.AST):
        fields = [
            f"{name}={_text(value)}"
            for name, value in ast.iter_fields(node)
            if name not in ("type_params", "type_comment", "kind", "ctx") and value not in (None, [])
        ]
        return f"{type(node).__name__}({', '.join(fields)})"
    if isinstance(node, list):
        return f"[{', '.join(map(_text, node))}]"
    return repr(node)


def main(arguments: Sequence[str] | None = None) -> int:
    """Update the table from the command line."""
    parser = argparse.ArgumentParser(prog=_COMMAND, description="Record what the steps are made of.")
    parser.add_argument("--no-effect", default="", metavar="WHY", help="why no pixel and no figure differs")
    refused = record(no_effect=parser.parse_args(arguments).no_effect)
    if refused:
        sys.stderr.write("\n".join(problems()) + "\n")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
