"""Objections to using a product, for reports, headers and pages."""

from __future__ import annotations

from calib_store.model.records import Product, Tier
from calib_store.store import Store


def objections(store: Store, product: Product) -> tuple[str, ...]:
    """Return the current objections to a product, most serious first; each continues a sentence after its name.

    The product was rejected or superseded, has a rejected ancestor, is provisional, failed the comparison with a
    certified product, or is made from frames that disagree.
    """
    found = []
    if not product.counts:
        last = store.history(product)[-1]
        # The store reverts its own changes automatically.
        remedy = "" if last.automatic else f". To reinstate it: nirflow cal reinstate {product.short_id}"
        when = f"{last.changed_at:%Y-%m-%d %H:%M}"
        found.append(f"was {product.status} by {last.author} on {when}: {last.reason}{remedy}")
    if product.tier is Tier.TAINTED:
        found += [f"was made with {one}" for one in store.rejected_ancestors(product)]
    if product.provisional is not None:
        found.append(f"is provisional: {product.provisional}")
    if product.doubtful:
        gate = product.gate or {}
        name = (gate.get("reference") or {}).get("name", "the certified one")
        against = "is doubtful" if product.disputed else f"differs from {name}, which is certified"
        found.append(f"{against}: {'; '.join(gate.get('reasons', ()))}")
    return tuple(found)
