"""``python -m nirflow``: the command line."""

import sys
from pathlib import Path

import nirflow


def _forget_working_folder() -> None:
    """Import nothing from the working folder, which ``python -m`` searches first, unless nirflow itself is there."""
    here = Path.cwd()
    if not sys.flags.safe_path and Path(nirflow.__file__).parents[1] != here:
        sys.path[:] = [entry for entry in sys.path if Path(entry or ".").absolute() != here]


if __name__ == "__main__":
    _forget_working_folder()
    from nirflow.cli import main

    main()
