"""The name of the user that decides, for the records of decisions."""

from __future__ import annotations

import getpass
import os


def user_name() -> str:
    """Return the name of this process's user, or the number of its account if that has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an arbitrary user id, as in a container; OSError from Python 3.13 on
        return str(os.geteuid())
