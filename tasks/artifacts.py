"""What the Prefect UI shows of a step besides its log: short tables under keys that stay the same."""

from __future__ import annotations

import re

from prefect import runtime
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from imaging.alignment import Alignment
from tasks.references import ProductRef


def tell_product(product: ProductRef) -> None:
    """A product: what it was made from, with what, and how good it is."""
    if not runtime.task_run.id:
        return
    lines = [f"# {plain(product.label)}", f"`{product.name}` from {len(product.inputs)} frames"]
    if product.calibrations:
        lines.append("made with " + ", ".join(f"`{name}`" for name in product.calibrations))
    lines += [f"**warning:** {plain(text)}" for text in product.warnings]
    lines += [f"left out: {plain(one.name)}: {plain(one.reason)}" for one in product.left_out]
    rows = [
        f"| {name} | {plain(_told(value))} |" for name, value in product.metrics.items() if value is not None
    ]
    lines.append("\n".join(["| figure | value |", "|---|---|", *rows]))
    create_markdown_artifact(
        key=_key(product.kind), markdown="\n\n".join(lines), description=f"{product.label}: {product.name}"
    )


def tell_alignment(label: str, alignment: Alignment) -> None:
    """Where each frame of a group lies on the reference."""
    if not runtime.task_run.id:
        return
    rows = [
        {
            "frame": entry.name,
            "dx, px": round(entry.dx, 3),
            "dy, px": round(entry.dy, 3),
            "error, px": round(entry.uncertainty, 4) if entry.used else None,
            "stars": entry.n_matched,
            "found by": entry.found_by,
            "used": entry.used,
            "remark": entry.reason,
        }
        for entry in alignment.entries
    ]
    create_table_artifact(key="alignment", table=rows, description=f"{label} on {alignment.reference}")


def plain(text: str) -> str:
    """A text from a header or a file name so that markdown shows it as it is."""
    return re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", text)


def _told(value: object) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _key(text: str) -> str:
    """A key as Prefect wants it: small letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
