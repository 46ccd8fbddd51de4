"""The page of a night before its first run, with the frames that were judged as they arrived; and its script."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Final

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from imaging.listed import counted
from imaging.quick_look.night_record import ROWS, read_rows

#: Path of the script below that of the nights.
SCRIPT: Final = "arriving.js"
#: What the pages of nights may do in addition to what all pages may: run that script, which asks for the rows.
POLICY: Final = "; script-src 'self'; connect-src 'self'"
_NIGHT: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
_PAGE: Final = re.compile(rf"{_NIGHT.pattern}/(index\.html)?")
#: Where the server puts the script: a page that is opened from the disk, or served by others, has none.
_PLACE: Final = b"<!-- nirflow: the server puts the script here -->"
_TAG: Final = f'<script src="../{SCRIPT}" defer></script>'.encode()


class ArrivingPage:
    """The pages of nights that have begun.

    Parameters
    ----------
    nights
        Folder of the nights.
    """

    def __init__(self, nights: Path) -> None:
        self._nights = nights
        self.script = Path(__file__).with_name(SCRIPT).read_bytes()
        self._environment = Environment(
            loader=ChoiceLoader([PackageLoader("deployments.pages"), PackageLoader("flows.page")]),
            autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip
        self._environment.globals["counted"] = counted

    def page(self, path: str) -> str | None:
        """Return the page of a night by its path below that of the nights, ``2013-11-21/``; None without frames."""
        name = path.removesuffix("/")
        if not path.endswith("/") or _NIGHT.fullmatch(name) is None:
            return None
        arriving = read_rows(self._nights / name)
        if arriving is None:
            return None
        page = self._environment.get_template("night_begun.html").render(arriving=arriving)
        return with_script(page.encode()).decode()

    def latest(self) -> date | None:
        """Return the latest night with judged frames."""
        return max(_nights(self._nights.glob(f"*/{ROWS}")), default=None)


def is_page(path: str) -> bool:
    """Return whether a path below that of the nights is of the page of one."""
    return _PAGE.fullmatch(path) is not None


def with_script(page: bytes) -> bytes:
    """Return a page that follows its night if it shows arriving frames."""
    return page.replace(_PLACE, _TAG, 1)


def _nights(found: Iterable[Path]) -> Iterable[date]:
    for path in found:
        try:
            yield date.fromisoformat(path.parent.name)
        except ValueError:
            continue
