"""The available tables of instruments: those included in nirflow, those of packages, and the user's own."""

from __future__ import annotations

import hashlib
import importlib
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from imaging.errors import NirflowError
from imaging.instruments.checking.table_checks import check_table
from imaging.instruments.checking.table_errors import TableError, located, problems
from imaging.instruments.instrument import Instrument
from imaging.instruments.own_tables import OWN_TABLES
from imaging.instruments.site import Site
from imaging.instruments.time_windows import WindowName
from imaging.kinds import CALIBRATION_KINDS

#: Group of entry points by which packages provide tables: each names a path or a function that returns one.
ENTRY_POINTS: Final = "nirflow.instruments"
#: What a table cannot express: header and facts to facts.
Quirks = Callable[[Any, dict[str, Any]], dict[str, Any]]
#: Origin of the tables included in nirflow.
OWN: Final = "nirflow"
#: Maximum size of a table, bytes.
_LARGEST: Final = 1 << 20


@dataclass(frozen=True)
class Table:
    """An instrument, and where its table is.

    Attributes
    ----------
    instrument
        What the table describes.
    source
        The file.
    origin
        ``nirflow``, ``settings``, or the name of the package's entry point.
    """

    instrument: Instrument
    source: Path
    origin: str


_trial: Table | None = None


def own_tables_from(paths: Callable[[], Iterable[Path]]) -> None:
    """Set the function that returns the paths of the user's own tables; it is called when a table is first needed."""
    OWN_TABLES.paths = paths
    forget()


def try_table(instrument: Instrument, source: Path) -> None:
    """Use a table that is being written in this process, instead of any other of its instrument."""
    global _trial
    _trial = Table(instrument, source, "on trial")
    forget()


def forget() -> None:
    """Forget all tables, so that they are read again when needed."""
    _tables.cache_clear()
    _by_header.cache_clear()
    _by_name.cache_clear()


def tables() -> tuple[Table, ...]:
    """Return all tables, those included in nirflow first.

    Raises
    ------
    NirflowError
        If one cannot be read or is invalid, or two describe the same instrument.
    """
    return _tables()


def instruments() -> tuple[Instrument, ...]:
    """Return all instruments, those included in nirflow first."""
    return tuple(table.instrument for table in tables())


def named(name: str) -> Instrument:
    """Return the instrument of that name.

    Raises
    ------
    NirflowError
        If it is unknown.
    """
    found = _by_name().get(name)
    if found is None:
        raise NirflowError(
            f"No table describes the instrument {name!r}; there are {', '.join(_by_name())}.",
            remedy='Name its table in the settings: instruments = ["PATH"].',
        )
    return found


def find(name: str) -> Instrument | None:
    """Return the instrument of that name, or None."""
    return _by_name().get(name)


def site_of(name: str) -> Site:
    """Return the site of an instrument; of one without a table the default site."""
    table = find(name)
    return Site() if table is None else table.site


def by_header(primary: Mapping[str, Any]) -> Instrument | None:
    """Return the instrument that a primary header names, by INSTRUME or a keyword of a table; None without one."""
    known = _by_header()
    for keyword in ("INSTRUME", *named_by()):
        value = primary.get(keyword)
        if isinstance(value, (str, int, float)) and (found := known.get((keyword, str(value).strip()))):
            return found
    return None


def named_by() -> tuple[str, ...]:
    """Return the keywords, other than INSTRUME, in which tables expect their instrument's name."""
    return tuple(dict.fromkeys(keyword for one in instruments() for keyword in one.named_by))


def header_names() -> tuple[str, ...]:
    """Return the names and aliases of all instruments."""
    return tuple(dict.fromkeys(name for _, name in _by_header()))


def comparable() -> tuple[str, ...]:
    """Return the names of all facts, of all instruments, by which rules may compare frames and products."""
    return tuple(dict.fromkeys(name for one in instruments() for name in one.comparable))


def label(fact: str, instrument: str = "") -> tuple[str, str]:
    """Return the label and unit of a fact, from an instrument's table or any table that has it."""
    tables_ = [one for one in (find(instrument), *instruments()) if one is not None]
    return next((one for one in tables_ if fact in one.comparable), tables_[0]).label(fact)


def is_number(fact: str) -> bool:
    """Return whether a fact is a number for any instrument."""
    return any(one.is_number(fact) for one in instruments())


def longest(window: WindowName) -> float:
    """Return the longest value of a time window for calibrations of any instrument, days."""
    every = [getattr(one.windows[kind], window) for one in instruments() for kind in CALIBRATION_KINDS]
    return max(float(days) for days in every if days is not None)


def identity(name: str) -> str | None:
    """Return the identity of the part of a table that affects products; None for a table included in nirflow.

    Included tables change with the versions of the steps. The identity of any other table is part of a
    product's recipe, so that a corrected number leads to new products.
    """
    table = next((one for one in tables() if one.instrument.name == name), None)
    if table is None or table.origin == OWN:
        return None
    instrument = table.instrument
    content = instrument.model_dump_json(include={"detector", "facts", "offsets", "quirks"})
    # A table without them keeps the identity that it had before they were used.
    if instrument.zero_points:
        content += instrument.model_dump_json(include={"zero_points"})
    if any(band.standard for band in instrument.bands.values()):
        content += instrument.model_dump_json(include={"bands"})
    return hashlib.sha256(content.encode() + _source(quirks_of(instrument))).hexdigest()


def largest_detector() -> int:
    """Return the number of pixels of the largest detector."""
    return max(one.detector.shape[0] * one.detector.shape[1] for one in instruments())


def quirks_of(instrument: Instrument) -> Quirks | None:
    """Return the function that an instrument's table names for its quirks; None without one.

    Raises
    ------
    NirflowError
        If the function does not exist, or cannot be imported.
    """
    return None if instrument.quirks is None else _function(instrument.quirks, instrument.name)


@cache
def _function(path: str, name: str) -> Quirks:
    module, _, function = path.partition(":")
    try:
        found: Quirks = getattr(importlib.import_module(module), function)
    except (Exception, SystemExit) as error:  # importing runs code of the package
        raise NirflowError(
            f"The table of {name} names the quirks {path!r}, which cannot be imported: {type(error).__name__}: "
            f"{error}.",
            remedy="Correct its line `quirks`, or install the package.",
        ) from error
    if not callable(found):
        raise NirflowError(
            f"The table of {name} names the quirks {path!r}, which is not a function.",
            remedy="Correct its line `quirks`.",
        )
    return found


def _source(quirks: Quirks | None) -> bytes:
    """Return the source of the module with the quirks of a table that is not nirflow's own; empty without any."""
    file = getattr(sys.modules.get(getattr(quirks, "__module__", "")), "__file__", None)
    return Path(file).read_bytes() if quirks is not None and file is not None else b""


def read_table(path: Path) -> Instrument:
    """Read the table in a file.

    Raises
    ------
    NirflowError
        If it cannot be read or is invalid; the error names the file, the line and the key.
    """
    remedy = "Compare it with docs/instruments.md, and test it: nirflow instruments check TABLE FILES."
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST + 1)
        if len(text) > _LARGEST:
            raise NirflowError(f"{path} is too large for a table of an instrument.", remedy=remedy)
        decoded = text.decode()
        given = tomllib.loads(decoded)
    except OSError as error:
        raise NirflowError(f"{path} cannot be read: {error.strerror or error}.", remedy=remedy) from error
    except (ValueError, RecursionError) as error:
        raise NirflowError(f"{path} is not valid TOML: {error}.", remedy=remedy) from error
    try:
        table = Instrument.model_validate(given)
        check_table(table)
    except ValidationError as error:
        problem = problems(decoded, given, error, Instrument)
        raise NirflowError(f"{path}: {problem}.", remedy=remedy) from error
    except TableError as error:
        problem = located(decoded, error.place, str(error))
        raise NirflowError(f"{path}: {problem}.", remedy=remedy) from error
    return table


def _of_packages() -> list[Table]:
    """Return the tables of installed packages."""
    # A package may be found in two folders of sys.path: the first one counts, as for an import.
    points: dict[tuple[str, str, str], EntryPoint] = {}
    for point in entry_points(group=ENTRY_POINTS):
        points.setdefault((point.dist.name if point.dist else "", point.name, point.value), point)
    found = []
    for (package, _, _), point in points.items():
        try:
            loaded = point.load()
            path = Path(loaded() if callable(loaded) else loaded)
        except (Exception, SystemExit) as error:  # importing runs code of the package
            raise NirflowError(
                f"The table {point.name!r} of the package {package or 'of unknown name'} ({point.value}) cannot be "
                f"found: {type(error).__name__}: {error}.",
                remedy="Correct its entry point, which names a path or a function that returns one, or uninstall it.",
            ) from error
        found.append(Table(read_table(path), path, point.name))
    return found


@cache
def _tables() -> tuple[Table, ...]:
    here = Path(__file__).parent
    found = [Table(read_table(path), path, OWN) for path in sorted(here.glob("*.toml"))]
    found += _of_packages()
    found += [
        Table(read_table(path), path, "settings")
        for path in map(Path.expanduser, map(Path, OWN_TABLES.paths()))
    ]
    if _trial is not None:
        names = {_trial.instrument.name, *_trial.instrument.aliases}
        found = [one for one in found if names.isdisjoint((one.instrument.name, *one.instrument.aliases))]
        found.append(_trial)
    taken: dict[str, Table] = {}
    for table in found:
        for name in dict.fromkeys((table.instrument.name, *table.instrument.aliases)):
            if name in taken:
                raise NirflowError(
                    f"{table.source} and {taken[name].source} both describe the instrument {name!r}.",
                    remedy="Remove one of them from the settings, or uninstall the package.",
                )
            taken[name] = table
    types: dict[str, Table] = {}
    for table in found:
        for fact in table.instrument.own_facts:
            other = types.setdefault(fact, table)
            details = " and ".join(one.instrument.facts[fact].type for one in (other, table))
            if other.instrument.facts[fact].type != table.instrument.facts[fact].type:
                raise NirflowError(
                    f"{other.source} and {table.source} give the fact {fact!r} different types ({details}).",
                    remedy="Give it another name in one of them.",
                )
    return tuple(found)


@cache
def _by_name() -> dict[str, Instrument]:
    return {one.name: one for one in instruments()}


@cache
def _by_header() -> dict[tuple[str, str], Instrument]:
    return {
        (keyword, name): one
        for one in instruments()
        for keyword in ("INSTRUME", *one.named_by)
        for name in (one.name, *one.aliases)
    }
