"""The steps that installed packages register in the entry point group ``nirflow.steps``."""

from __future__ import annotations

import difflib
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from imaging.errors import NirflowError
from imaging.kinds import in_a_sentence

#: Group of the entry points.
GROUP: Final = "nirflow.steps"


class OwnStepError(NirflowError):
    """A step of the user's own that cannot be found, imported or called as requested."""


def registered_names() -> tuple[str, ...]:
    """Return the names of the registered steps."""
    return tuple(sorted({one.name for one in entry_points(group=GROUP)}))


def entry_point_of(name: str) -> EntryPoint:
    """Return the entry point of a registered step.

    Raises
    ------
    OwnStepError
        If no package registers the name, or several do.
    """
    # A package may be found in two folders of sys.path: the first one counts, as for an import.
    found: dict[tuple[str, str], EntryPoint] = {}
    for one in entry_points(group=GROUP, name=name):
        found.setdefault((_package(one), one.value), one)
    if not found:
        raise OwnStepError(f"No installed package registers a step {name!r}.", remedy=_known(name))
    if len(found) > 1:
        places = in_a_sentence([f"{package} ({value})" for package, value in sorted(found)], "and")
        raise OwnStepError(
            f"{len(found)} packages register a step {name!r}: {places}.",
            remedy="Name the function itself (package.module:function), or uninstall one of the packages.",
        )
    return next(iter(found.values()))


def _package(one: EntryPoint) -> str:
    return one.dist.name if one.dist is not None else "an unknown package"


def _known(name: str) -> str:
    names = registered_names()
    close = difflib.get_close_matches(name, names, n=1)
    guess = f"Did you mean {close[0]}? " if close else ""
    listed = f"Registered: {', '.join(names)}. " if names else ""
    return f"{guess}{listed}A function is named by its module: package.module:function."
