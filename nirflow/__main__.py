"""``python -m nirflow``: the command line."""

from nirflow.cli import main

if __name__ == "__main__":
    main()
