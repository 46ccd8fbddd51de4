"""The pages of the calibration store: a list of products, and details of one product or raw frame."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, Final, get_args
from uuid import UUID

from calib_store.choice.serving import serves
from calib_store.model.records import Status
from calib_store.model.settings import StoreSettings
from calib_store.reader import Reader
from calib_store.rules.order import labels
from calib_store.tables.status import validity_text
from deployments.pages.templating import templates
from imaging.errors import NirflowError
from imaging.frames.nights import check_night
from imaging.kinds import PRODUCT_KINDS

#: Products on one page.
LISTED: Final = 200
_SHA256: Final = re.compile("[0-9a-f]{64}")


class StorePages:
    """Pages about a store, which is opened at the first request.

    Parameters
    ----------
    settings
        Settings of the store.
    """

    def __init__(self, settings: StoreSettings) -> None:
        self._settings = settings
        self._reader: Reader | None = None
        self._opening = threading.Lock()
        self._environment = templates()
        self._environment.filters |= {"serves": serves, "valid": validity_text, "plain": _plain}

    def close(self) -> None:
        """Close the connections to the store."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def page(self, path: str, query: Mapping[str, str]) -> tuple[int, str]:
        """Return the HTTP status and the page for a path below ``/store/``."""
        try:
            if path == "":
                return self._list(query)
            what, _, name = path.partition("/")
            if what == "products":
                return self._product(name)
            if what == "frames":
                return self._frame(name)
        except NirflowError as error:
            return self._problem(503, error.message, error.remedy)
        return self._problem(404, "There is no such page.", "")

    def _list(self, query: Mapping[str, str]) -> tuple[int, str]:
        try:
            filters = _filters(query)
        except ValueError:
            return self._problem(
                400, "This query is not valid for the store.", "Use one of the links on the page."
            )
        found = self._opened().products(**filters, limit=LISTED + 1)
        rows, more = found[:LISTED], found[LISTED:]
        kept = {name: value for name, value in query.items() if name != "after"}
        return 200, self._rendered(
            "store.html", rows=rows, kept=kept, kinds=PRODUCT_KINDS, statuses=get_args(Status),
            next=rows[-1].id if more else None,
        )  # fmt: skip

    def _product(self, name: str) -> tuple[int, str]:
        try:
            found = self._opened().product(UUID(name))
        except ValueError:
            found = None
        if found is None:
            return self._problem(404, "The store has no such product.", "")
        return 200, self._rendered("product.html", it=found, product=found.product)

    def _frame(self, name: str) -> tuple[int, str]:
        found = self._opened().frame(name) if _SHA256.fullmatch(name) else None
        if found is None:
            return self._problem(404, "The store has no such frame.", "")
        orders = {match.kind: "; ".join(labels(match.order)) for match in found.matches}
        return 200, self._rendered("frame.html", it=found, frame=found.frame, orders=orders)

    def _problem(self, status: int, message: str, remedy: str) -> tuple[int, str]:
        return status, self._rendered("problem.html", message=message, remedy=remedy)

    def _rendered(self, template: str, **values: Any) -> str:
        return self._environment.get_template(template).render(values)

    def _opened(self) -> Reader:
        with self._opening:  # pages are rendered in several threads
            if self._reader is None:
                self._reader = Reader(self._settings)
            return self._reader


def _filters(query: Mapping[str, str]) -> dict[str, Any]:
    """Return the filters of a list from its query.

    Raises
    ------
    ValueError
        If the query has something else.
    """
    filters: dict[str, Any] = {}
    for name, value in query.items():
        if value == "":
            continue
        if (name == "kind" and value in PRODUCT_KINDS) or (name == "status" and value in get_args(Status)):
            filters[name] = value
        elif name == "night":
            filters[name] = check_night(date.fromisoformat(value))
        elif name == "after":
            filters[name] = UUID(value)
        else:
            raise ValueError(name)
    return filters


def _plain(value: Any) -> str:
    """Return a short text of a product's figure."""
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M")
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 200 else f"{text[:197]}..."
