"""Changes to other packages' modules, made right after such a module is imported and before anybody uses it.

A few packages take settings, or code, from whatever folder they happen to be imported in. nirflow is run in folders of
raw frames, which may be anybody's. What it switches off is listed where each package is used.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Final

Change = Callable[[ModuleType], None]

_CHANGES: Final[dict[str, Change]] = {}


def after_import(name: str, change: Change) -> None:
    """Have a module changed once, as soon as it has been imported: now, where it has been already.

    Parameters
    ----------
    name
        Full name of the module. It is not imported by this.
    change
        Called with the module. Where it raises, so does the import: a version of the package that the change does not
        fit is found at once.
    """
    if name in sys.modules:
        change(sys.modules[name])
        return
    _CHANGES[name] = change
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """Finds a module as it would be found without this, with the change added to its loader."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        change = _CHANGES.pop(fullname, None)
        if change is None:
            return None
        spec = find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _ChangingLoader(spec.loader, change)
        return spec


class _ChangingLoader(Loader):
    def __init__(self, loader: Loader, change: Change) -> None:
        self._loader, self._change = loader, change

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        self._change(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)  # its source, for tracebacks and debuggers
