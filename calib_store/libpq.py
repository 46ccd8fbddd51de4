"""Connections to PostgreSQL that follow from their address alone, never from a variable of libpq.

libpq, asyncpg and PostgreSQL's programs take whatever an address leaves out from variables such as ``PGHOSTADDR`` and
``PGSERVICE``. Those describe servers that the user works with otherwise. Some of them (``PGSERVICE``, ``PGTZ``)
cannot be overridden by a parameter, so they must not be in the environment of a process that connects.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the supervisor, which only needs an environment, stays small
    import psycopg
    from sqlalchemy import Engine
    from sqlalchemy.engine import URL

logger = logging.getLogger(__name__)

#: Every name that libpq, asyncpg or PostgreSQL's programs read. The plotting library's PGPLOT_DIR is not one of them.
_VARIABLE = re.compile(r"PG(?:[A-Z]+|CONNECT_TIMEOUT|_COLORS?)")


def without_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return a copy of an environment without libpq's variables."""
    return {name: value for name, value in environment.items() if not _VARIABLE.fullmatch(name)}


def forget_variables() -> None:
    """Remove libpq's variables from this process, and so from those that it starts.

    They are not restored after connecting: another thread could connect, or read the environment, in the meantime.
    """
    names = sorted(name for name in os.environ if _VARIABLE.fullmatch(name))
    for name in names:
        os.environ.pop(name, None)
    if names:
        logger.info(
            "Removed %s from the environment of this process: a database is reached by its URL alone",
            ", ".join(names),
        )


def connect(**parameters: Any) -> psycopg.Connection[Any]:
    """Connect with these parameters of libpq and its built-in defaults, in autocommit."""
    import psycopg

    forget_variables()
    return psycopg.connect(**parameters, autocommit=True)


def forget_variables_before_connecting(engine: Engine) -> None:
    """Make every new connection of an engine depend on its URL alone."""
    from sqlalchemy import event

    event.listen(engine, "do_connect", lambda *_: forget_variables())


def program_environment(url: URL) -> dict[str, str]:
    """Return the environment in which PostgreSQL's programs reach the database of a URL, and nothing else.

    Every parameter of the URL is passed as a variable, which keeps a password out of the process list.
    """
    from psycopg import pq

    variables = {
        option.keyword.decode(): option.envvar.decode()
        for option in pq.Conninfo.get_defaults()
        if option.envvar is not None
    }
    _, parameters = url.get_dialect()().create_connect_args(url)
    given = {variables[name]: str(value) for name, value in parameters.items() if name in variables}
    return {**without_variables(os.environ), "LC_ALL": "C", **given}
