"""nirflow: automatic reduction of near-infrared imaging.

The interface for scripts and notebooks::

    from nirflow import Options, read_ccd, reduce_night, services

    with services():
        report = reduce_night(["/data/2013-11-21"], out="out")

Everything else is available from the command line, or imported from its package: `imaging`, `tasks`, `flows`,
`calib_store`, `deployments`.
"""

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from calib_store.store import Store as Store
    from flows.night import reduce_night as reduce_night
    from flows.run.options import Options as Options
    from imaging.own_steps.declared import Step as Step
    from imaging.products.ccd import read_ccd as read_ccd
    from nirflow.session import services as services

__version__ = "0.1.0"
__all__ = ["Options", "Step", "Store", "__version__", "read_ccd", "reduce_night", "services"]

#: The module of each public name, imported at its first use, so that the command line starts quickly.
_DEFINED_IN: Final = {
    "Options": "flows.run.options",
    "Step": "imaging.own_steps.declared",
    "Store": "calib_store.store",
    "read_ccd": "imaging.products.ccd",
    "reduce_night": "flows.night",
    "services": "nirflow.session",
}


def __getattr__(name: str) -> Any:
    if name not in _DEFINED_IN:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    from nirflow.own_instruments import know_own_instruments
    from nirflow.own_packages import require_own_packages

    require_own_packages()
    know_own_instruments()
    value = getattr(import_module(_DEFINED_IN[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
