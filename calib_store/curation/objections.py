"""What speaks against using a product, for reports, headers and pages."""

from __future__ import annotations

from calib_store.model.records import Product, Tier
from calib_store.store import Store


def objections(store: Store, product: Product) -> tuple[str, ...]:
    """What speaks against using a product now, the gravest first; each goes on after its name.

    It was rejected or superseded, made with something that was rejected, is provisional, or failed the comparison with
    a product that is certified.
    """
    found = []
    if not product.counts:
        last = store.history(product)[-1]
        # What the store did by its own rules it takes back itself.
        remedy = (
            "" if last.automatic else f". To have it count again: nirflow cal reinstate {product.short_id}"
        )
        when = f"{last.changed_at:%Y-%m-%d %H:%M}"
        found.append(f"was {product.status} by {last.author} on {when}: {last.reason}{remedy}")
    if product.tier is Tier.TAINTED:
        found += [f"was made with {one}" for one in store.rejected_ancestors(product)]
    if product.provisional is not None:
        found.append(f"is provisional: {product.provisional}")
    if product.doubtful:
        gate = product.gate or {}
        reference = (gate.get("reference") or {}).get("name", "the certified one")
        found.append(f"differs from {reference}, which is certified: {'; '.join(gate.get('reasons', ()))}")
    return tuple(found)
