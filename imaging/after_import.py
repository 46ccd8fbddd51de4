"""Changes to modules of other packages, made right after the import and before the first use.

A few packages read settings, or code, from the working folder when they are imported. nirflow runs in folders
of raw frames, which may belong to anyone. The disabled features are listed where each package is used.
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
    """Change a module once, as soon as it has been imported, or now if it already has been.

    Parameters
    ----------
    name
        Full name of the module. It is not imported here.
    change
        Called with the module. If it raises, so does the import: an incompatible version of the package is
        noticed at once.
    """
    if name in sys.modules:
        change(sys.modules[name])
        return
    _CHANGES[name] = change
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """Finds a module normally, and adds the change to its loader."""

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
