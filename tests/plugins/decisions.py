"""What users decide about the frames and products of a store, chosen by number; for histories of random actions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nothing_worse import Act, Watch

from calib_store.curation.certify import certify, reinstate, reject, supersede
from calib_store.model.records import Frame, Product
from calib_store.store import Store
from imaging.errors import StoreError

WHO: dict[str, Any] = {"author": "Ana", "reason": "light leak"}


class Decisions:
    """Decisions about what a store has.

    Each method takes a number, which chooses among what it may be about, and returns what was done; None where there
    was nothing to do.
    """

    store: Store
    watch: Watch

    def frames(self) -> list[Frame]:
        """Return the frames that have come, in the order of their names."""
        raise NotImplementedError

    def products(self, *statuses: str) -> list[Product]:
        """Return the products, in an order that does not depend on their ids."""
        found = self.watch.last.products.values()
        kept = [p for p in found if not statuses or p.status in statuses]
        return sorted(kept, key=lambda p: (p.kind, sorted(self.watch.frames_of(p)), str(p.parameters), p.id))

    def bad(self) -> list[Frame | Product]:
        """Return what is rejected, and products that are superseded."""
        frames: list[Frame | Product] = [f for f in self.frames() if f.rejected is not None]
        return [*frames, *self.products("rejected", "superseded")]

    def do(self, action: tuple[Any, ...]) -> None:
        """One action, by its name and arguments, after which all is verified."""
        name, *arguments = action
        act = getattr(self, name)(*arguments)
        if act is not None:
            self.watch.after(act)

    def reject_frame(self, number: int) -> Act | None:
        """Return a raw frame is rejected."""
        found = [f for f in self.frames() if f.rejected is None]
        if not found:
            return None
        one = found[number % len(found)]
        reject(self.store, one, **WHO)
        return Act(f"reject {one.name}", [one.sha256])

    def reinstate_frame(self, number: int) -> Act | None:
        """Return a raw frame is usable again."""
        found = [f for f in self.frames() if f.rejected is not None]
        if not found:
            return None
        one = found[number % len(found)]
        reinstate(self.store, one, **WHO)
        return Act(f"reinstate {one.name}", [one.sha256])

    def reject_product(self, number: int) -> Act | None:
        """Return a product is rejected."""
        return self._decide(number, ("candidate", "certified"), lambda one: reject(self.store, one, **WHO))

    def reinstate_product(self, number: int) -> Act | None:
        """Return a product counts again."""
        chosen = ("rejected", "superseded")
        return self._decide(number, chosen, lambda one: reinstate(self.store, one, **WHO))

    def certify_product(self, number: int) -> Act | None:
        """Return a product is certified."""
        return self._decide(number, ("candidate",), lambda one: certify(self.store, one, **WHO))

    def supersede_product(self, number: int) -> Act | None:
        """Return a user takes a product out."""
        return self._decide(number, ("candidate", "certified"), lambda one: supersede(self.store, one, **WHO))

    def _decide(self, number: int, statuses: Sequence[str], act: Callable[[Product], object]) -> Act | None:
        found = self.products(*statuses)
        if not found:
            return None
        one = found[number % len(found)]
        try:
            act(one)
        except StoreError:
            return None
        return Act(f"{act.__qualname__.split('.')[1]} {one.name_and_id} ({statuses})", [one.id])

    def all_reinstated(self) -> None:
        """Whatever users decided is taken back."""
        for frame in self.frames():
            if frame.rejected is not None:
                reinstate(self.store, frame, **WHO)
        for one in self.watch.look().products:
            product = self.store.get(one)
            if product.status != "candidate" and not self.store.history(product)[-1].automatic:
                reinstate(self.store, product, **WHO)
