"""The command ``nirflow``, also as ``python -m nirflow``: a check of the packages, then the command line."""

import sys
from pathlib import Path

import nirflow
from nirflow.own_packages import ForeignPackageError, require_own_packages


def main() -> None:
    """Run the command line; if a foreign package has the name of one of nirflow's, report its file and exit
    with 1.
    """
    try:
        require_own_packages()
    except ForeignPackageError as error:
        raise SystemExit(f"error: {error}") from None
    from nirflow.cli import main as run

    run()


def _forget_working_folder() -> None:
    """Import nothing from the working folder, which ``python -m`` searches first, unless nirflow itself is there."""
    here = Path.cwd()
    if not sys.flags.safe_path and Path(nirflow.__file__).parents[1] != here:
        sys.path[:] = [entry for entry in sys.path if Path(entry or ".").absolute() != here]


if __name__ == "__main__":
    _forget_working_folder()
    main()
