"""Users' decisions about the frames and products of a store, chosen by number; for histories of random
actions.
"""

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
    """Decisions about the content of a store.

    Each method takes a number, which chooses the object of the decision, and returns the action; None if
    there was nothing to do.
    """

    store: Store
    watch: Watch

    def frames(self) -> list[Frame]:
        """Return the frames that have arrived, in the order of their names."""
        raise NotImplementedError

    def products(self, *statuses: str) -> list[Product]:
        """Return the products, in an order that does not depend on their ids."""
        found = self.watch.last.products.values()
        kept = [p for p in found if not statuses or p.status in statuses]
        return sorted(kept, key=lambda p: (p.kind, sorted(self.watch.frames_of(p)), str(p.parameters), p.id))

    def bad(self) -> list[Frame | Product]:
        """Return rejected frames and products, and superseded products."""
        frames: list[Frame | Product] = [f for f in self.frames() if f.rejected is not None]
        return [*frames, *self.products("rejected", "superseded")]

    def do(self, action: tuple[Any, ...]) -> None:
        """Perform one action, by its name and arguments, then verify everything."""
        name, *arguments = action
        act = getattr(self, name)(*arguments)
        if act is not None:
            self.watch.after(act)

    def reject_frame(self, number: int) -> Act | None:
        """Reject a raw frame."""
        found = [f for f in self.frames() if f.rejected is None]
        if not found:
            return None
        one = found[number % len(found)]
        reject(self.store, one, **WHO)
        return Act(f"reject {one.name}", [one.sha256])

    def reinstate_frame(self, number: int) -> Act | None:
        """Make a raw frame usable again."""
        found = [f for f in self.frames() if f.rejected is not None]
        if not found:
            return None
        one = found[number % len(found)]
        reinstate(self.store, one, **WHO)
        return Act(f"reinstate {one.name}", [one.sha256])

    def reject_product(self, number: int) -> Act | None:
        """Reject a product."""
        return self._decide(number, ("candidate", "certified"), lambda one: reject(self.store, one, **WHO))

    def reinstate_product(self, number: int) -> Act | None:
        """Reinstate a product."""
        chosen = ("rejected", "superseded")
        return self._decide(number, chosen, lambda one: reinstate(self.store, one, **WHO))

    def certify_product(self, number: int) -> Act | None:
        """Certify a product."""
        return self._decide(number, ("candidate",), lambda one: certify(self.store, one, **WHO))

    def supersede_product(self, number: int) -> Act | None:
        """Supersede a product without a successor."""
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
        """Revert all decisions of users."""
        for frame in self.frames():
            if frame.rejected is not None:
                reinstate(self.store, frame, **WHO)
        for one in self.watch.look().products:
            product = self.store.get(one)
            if product.status != "candidate" and not self.store.history(product)[-1].automatic:
                reinstate(self.store, product, **WHO)
