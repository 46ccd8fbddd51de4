"""What makes a step of the user's own the same: its name, its source, the versions of its package and what that needs.

A changed source or version gives products another key, so that they are made again.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import re
import sys
from collections.abc import Iterable, Mapping
from functools import partial
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path
from typing import Any, Final

from imaging.own_steps.loading import LoadedStep
from imaging.own_steps.registered import OwnStepError

#: The beginning of a requirement: the name of a distribution.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
#: Distributions whose versions count for every step: they are what a CCDData is made of.
_ALWAYS: Final = ("astropy", "numpy")
#: Digest of the source of each package when it was first identified, by name.
_seen: Final[dict[str, str]] = {}


def identity_of(step: LoadedStep) -> dict[str, Any]:
    """Return the identity of a step as JSON values, without its arguments.

    Returns
    -------
    dict
        ``function`` (dotted name), ``source`` (sha256 of the Python files of its package, and of the package that
        names it if that is another), ``distribution`` (names and versions; empty without one), ``requires`` (versions
        of what these require, by name), ``bit``.

    Raises
    ------
    OwnStepError
        If it has neither source nor version.
    """
    function = _innermost(step.function)
    module = getattr(function, "__module__", None) or type(function).__module__
    name = getattr(function, "__qualname__", type(function).__qualname__)
    # A package may register a function of another one, with arguments of its own: it matters which of both changes.
    modules = {one.partition(".")[0]: one for one in (step.module or module, module)}
    files = {package: _files(one) for package, one in modules.items()}
    provided = packages_distributions()
    providers = [step.distribution, *(one for package in modules for one in provided.get(package, ()))]
    versions = {one: _version(one) for one in dict.fromkeys(providers) if one}
    for package, named in modules.items():
        of_it = [step.distribution, *provided.get(package, ())]
        if not files[package] and not any(versions.get(one) for one in of_it):
            raise OwnStepError(
                f"The step {step.use.function} ({named}) has neither source files nor a package with a version, so "
                "that nirflow could not notice when it changes.",
                remedy="Put the function into a module of its own: a file, or an installed package.",
            )
    needed = set(_ALWAYS)
    for one in versions:
        needed |= _required(one)
    if not versions:  # no metadata: what the files import
        every = [path for part in files.values() for path in part.values()]
        needed |= {one for imported in _imports(every) for one in provided.get(imported, ())}
    return {
        "function": f"{module}:{name}",
        "source": " ".join(_as_imported(package, _digest(part)) for package, part in files.items()),
        "distribution": ", ".join(f"{one} {version}" for one, version in versions.items() if version),
        "requires": {one: _version(one) for one in sorted(needed - set(versions)) if _version(one)},
        "bit": step.bit,
    }


def _innermost(function: Any) -> Any:
    """Return the function that a decorator or `functools.partial` calls."""
    function = inspect.unwrap(function)
    return _innermost(function.func) if isinstance(function, partial) else function


def _files(module: str) -> dict[str, Path]:
    """Return the Python files of the package that a module is in, or the one file of a module outside of packages.

    Each has its name within the package.
    """
    root = sys.modules.get(module.partition(".")[0])
    places = [Path(one) for one in getattr(root, "__path__", ())]
    if places:
        found = {
            str(path.relative_to(place)): path
            for place in places
            for path in place.rglob("*.py")
            if path.is_file()
        }
        return dict(sorted(found.items()))
    file = getattr(sys.modules.get(module), "__file__", None)
    return {Path(file).name: Path(file)} if file is not None and file.endswith(".py") else {}


def _as_imported(package: str, source: str) -> str:
    """Return the digest of a package's source, unless another one was imported in this process.

    Raises
    ------
    OwnStepError
        If the files changed since: what runs is not what they contain.
    """
    if _seen.setdefault(package, source) != source:
        raise OwnStepError(
            f"The source of {package} has changed since this process imported it.",
            remedy="Restart Python (in a notebook, its kernel), so that the new source is imported.",
        )
    return source


def _digest(files: Mapping[str, Path]) -> str:
    """Return one sha256 of files: of their names within the package and their content, not of where it is."""
    total = hashlib.sha256()
    for name, path in files.items():
        total.update(name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def _imports(files: Iterable[Path]) -> set[str]:
    """Return the top-level names that files import anywhere."""
    names: set[str] = set()
    for path in files:
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.partition(".")[0])
    return names


def _version(name: str) -> str:
    try:
        return distribution(name).version
    except PackageNotFoundError:
        return ""


def _required(name: str) -> set[str]:
    """Return the distributions that one requires, without those of its extras.

    What these require in turn does not count: an upgrade of it would make every product again.
    """
    try:
        requirements = distribution(name).requires or ()
    except PackageNotFoundError:
        return set()
    matched = (_NAME.match(text) for text in requirements if "extra ==" not in text.partition(";")[2])
    return {one[0].lower().replace("_", "-") for one in matched if one is not None}
