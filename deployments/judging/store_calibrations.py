"""The calibrations of a frame from the store, for a frame that is judged: chosen by the rules, and kept open."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final
from uuid import UUID

from calib_store.model.records import Product
from calib_store.store import Store
from imaging.errors import NirflowError
from imaging.frames.facts import FrameFacts
from imaging.kinds import KINDS
from imaging.products.product_file import ProductFile
from imaging.quick_look.measure_frame import NEEDED, Calibrations

log = logging.getLogger(__name__)

#: Products that are kept open: those of a few configurations.
_OPEN: Final = 12
#: Time after which a store that did not answer is asked again, s.
_PAUSE: Final = 30.0


class StoreCalibrations:
    """The choice of calibrations for frames that are judged.

    Parameters
    ----------
    open_store
        Opens the store; None if there is no store.
    clock
        Monotonic clock, s.
    """

    def __init__(
        self, open_store: Callable[[], Store] | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._open_store, self._clock = open_store, clock
        self._store: Store | None = None
        self._files: dict[UUID, ProductFile] = {}
        self._failed, self._not_before = "", 0.0

    def close(self) -> None:
        """Close the store and the files."""
        for file in self._files.values():
            file.close()
        self._files.clear()
        if self._store is not None:
            self._store.close()
            self._store = None

    def connect(self) -> None:
        """Open the store now, so that the first frame does not wait for it; a failure is logged."""
        if self._open_store is not None and self._store is None:
            try:
                self._store = self._open_store()
            except NirflowError as error:
                self._remember(error)

    def of(self, facts: FrameFacts) -> Calibrations:
        """Return the calibrations of a frame; without a store, or if it does not answer, none.

        A frame that shows no sky needs none: its level is that of the raw pixels.
        """
        if facts.kind != "object" or facts.spectroscopic:
            return Calibrations()
        if self._open_store is None:
            return Calibrations(missing="there is no calibration store")
        if self._failed and self._clock() < self._not_before:
            return Calibrations(missing=self._failed)
        found: dict[str, ProductFile] = {}
        names: list[str] = []
        try:
            if self._store is None:
                self._store = self._open_store()
            for kind in NEEDED:
                product = self._store.match(facts, kind).product
                if product is not None:
                    found[kind] = self._opened(self._store, product)
                    names.append(product.name)
        except NirflowError as error:
            self._remember(error)
            return Calibrations(missing=error.message)
        self._failed = ""
        lacking = [KINDS[kind].label for kind in NEEDED if kind not in found]
        missing = f"the store has no {' and no '.join(lacking)}" if lacking else ""
        return Calibrations(
            dark=found.get("dark"), flat=found.get("flat"), bpm=found.get("bpm"), names=tuple(names), missing=missing
        )  # fmt: skip

    def _remember(self, error: NirflowError) -> None:
        if error.message != self._failed:
            log.warning("Frames are judged without calibrations: %s", error)
        self._failed, self._not_before = error.message, self._clock() + _PAUSE

    def _opened(self, store: Store, product: Product) -> ProductFile:
        if product.id not in self._files:
            while len(self._files) >= _OPEN:
                self._files.pop(next(iter(self._files))).close()
            self._files[product.id] = ProductFile(store.file_of(product))
        else:
            self._files[product.id] = self._files.pop(product.id)  # the last one used is closed last
        return self._files[product.id]
