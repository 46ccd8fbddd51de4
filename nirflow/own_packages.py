"""A check that `imaging`, `tasks` and the other packages are nirflow's own.

Their names are common. A foreign package of the same name that Python finds first would be imported in their
place, and fail far from the cause.
"""

from __future__ import annotations

from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from typing import Final

#: The other packages of nirflow, each with a module that only ours has.
_PACKAGES: Final = {
    "imaging": "frames/facts.py",
    "calib_store": "store.py",
    "tasks": "support/step.py",
    "flows": "run/plan.py",
    "deployments": "settings/all_settings.py",
}


class ForeignPackageError(ImportError):
    """A foreign package has the name of one of nirflow's and precedes it, or was installed over it."""


def require_own_packages() -> None:
    """Require that each package of nirflow is the one that came with this module.

    Raises
    ------
    ForeignPackageError
        With the package, the file that is found in its place, and the remedy.
    """
    for name, module in _PACKAGES.items():
        complaint = _complaint(name, module, find_spec(name))
        if complaint is not None:
            raise ForeignPackageError(complaint, name=name)


def _complaint(name: str, module: str, spec: ModuleSpec | None) -> str | None:
    ours = Path(__file__).resolve().parents[1] / name
    here = f"nirflow's own package {name!r} in {str(ours)!r}"
    if not (ours / module).is_file():
        found = "another package was installed over it" if ours.is_dir() else "it is missing"
        return f"{here} is not complete: {found}. Install nirflow again."
    if spec is not None and spec.origin is not None and Path(spec.origin).resolve() == ours / "__init__.py":
        return None
    if spec is None:
        return f"Python does not find {here}: the parent of that folder is not in sys.path."
    place = spec.origin or ", ".join(str(path) for path in spec.submodule_search_locations or ())
    return (
        f"Python finds {place!r} before {here}. Rename it, remove its folder from PYTHONPATH or sys.path, or start "
        "in another folder."
    )
