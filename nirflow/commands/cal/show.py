"""``nirflow cal show``: one product, or one raw frame, with everything related to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calib_store.choice.serving import serves
from imaging.listed import counted
from imaging.machine import size_text
from nirflow.commands.cal.naming import (
    Json,
    ProductOrFrame,
    as_json,
    edge_as_json,
    open_store,
    validity,
)
from nirflow.console.output import print_lines
from nirflow.console.tables import Column, cell, print_json, print_table

if TYPE_CHECKING:
    from calib_store.exchange.proposals import Proposal
    from calib_store.model.records import Frame, LineageEdge, Product, StatusChange
    from calib_store.store import Store


def show(
    name: ProductOrFrame,
    preview: Annotated[
        bool, typer.Option("--preview/--no-preview", help="Make a PNG of the product if it has none.")
    ] = True,
    json: Json = False,
) -> None:
    """Show a product: what it serves, its inputs, its quality, its users and its file.

    For a raw frame: its facts, its files, its calibrations and the products made from it.
    """
    from calib_store.curation.lookup import product_or_frame
    from calib_store.model.records import Product

    with open_store() as store:
        found = product_or_frame(store, name)
        if isinstance(found, Product):
            _show_product(store, found, preview, json)
        else:
            _show_frame(store, found, json)


def _show_product(store: Store, product: Product, preview: bool, json: bool) -> None:
    from calib_store.exchange import proposals
    from calib_store.files.objects import object_name
    from calib_store.tables import decisions

    edges = store.lineage(product).edges
    users, history = store.affected(product), store.history(product)
    rejected = store.rejected_ancestors(product)
    frames = store.database.run(lambda connection: decisions.count_of_product(connection, product.id))
    proposed = store.database.read(lambda c: proposals.on_products(c, [product.id])).get(product.id, ())
    picture = _preview(store, product) if preview else None
    condition = (
        "damaged" if product.damaged else "there" if store.objects.exists(product.sha256) else "missing"
    )
    place = f"{store.objects.place}/{object_name(product.sha256)}"
    if json:
        print_json(
            {
                "product": as_json(product),
                "lineage": [edge_as_json(edge) for edge in edges],
                "exposed_before": dict(exposed_before(store, product)),
                "used_by": [as_json(user) for user in users],
                "frames_that_got_it": frames,
                "history": [vars(change) for change in history],
                "proposals": [vars(one) for one in proposed],
                "rejected_ancestors": [vars(one) for one in rejected],
                "file": {"place": place, "condition": condition},
                "preview": picture,
            }
        )
        return
    rows: list[list[object]] = [
        ["name", product.name], ["kind", product.kind], ["id", product.id], ["status", product.state],
        *(["  made with", one] for one in rejected),
        *_provisional_rows(product),
        ["valid", validity(product)], ["serves", serves(product)],
        ["  by the rule", product.rule], *([f"  {name}", value] for name, value in product.keys.items()),
        ["made from", _made_from(product, edges)],
        ["inputs taken", f"{cell(product.span[0])} to {cell(product.span[1])}"],
        ["made, UT", product.made_at], ["by", product.software_version],
        ["algorithm", product.algorithm_version], ["flow run", product.flow_run_id],
        ["recipe", product.recipe_key], ["sha256", product.sha256], ["size", size_text(product.size)],
        ["file", f"{condition}, {place}"], ["preview", picture],
    ]  # fmt: skip
    rows += [
        [f"metric {name}", _short_text(value)]
        for name, value in sorted(product.metrics.items())
        if name != "exposed_before"
    ]
    if product.gate is not None:
        rows += _gate_rows(product)
    print_table([Column("", style="bold"), Column("", fold=True)], rows)
    _print_inputs(product, edges)
    _print_exposures(exposed_before(store, product))
    if users:
        print_lines()
        print_table(
            [Column("used by"), Column("kind"), Column("name", fold=True), Column("status")],
            [[user.short_id, user.kind, user.name, user.state] for user in users],
        )
    print_lines("", f"Chosen for {counted(frames, 'frame')}.")
    _print_history(history)
    _print_proposals(proposed)


def _made_from(product: Product, edges: tuple[LineageEdge, ...]) -> str | None:
    """Return the number of frames in each role, and how many of the group were left out."""
    roles = Counter(e.role for e in edges if e.product_id == product.id and e.input_product_id is None)
    unused = product.metrics.get("unused", ())
    parts = [f"{n} {role}" for role, n in roles.items()] + ([f"{len(unused)} left out"] if unused else [])
    return ", ".join(parts) or None


def _short_text(value: object) -> object:
    text = cell(value)
    return text if len(text) <= 200 else f"{text[:197]}..."


def _provisional_rows(product: Product) -> list[list[object]]:
    return [["  provisional", product.provisional]] if product.provisional else []


def _gate_rows(product: Product) -> list[list[object]]:
    gate = product.gate or {}
    outcomes = {True: "passed", False: "failed", None: "not made"}
    reference = (gate.get("reference") or {}).get("name")
    rows: list[list[object]] = [
        ["comparison", outcomes[gate.get("passed")] + (f", with {reference}" if reference else "")]
    ]
    if product.disputed:
        rows = [["doubtful", "its frames disagree"]]
    rows += [["  why", reason] for reason in gate.get("reasons", ())]
    if gate.get("passed") is False and not product.doubtful:
        rows.append(["  void", "the reference is no longer certified"])
    return rows + [[f"  {name}", value] for name, value in gate.get("figures", {}).items()]


def _preview(store: Store, product: Product) -> str | None:
    """Return the path of the product's preview, made if missing; None if it cannot be made."""
    from calib_store.private import private_folder
    from deployments.settings.all_settings import Settings
    from imaging.errors import NirflowError
    from imaging.products.preview import preview_product
    from imaging.products.product_file import ProductFile

    folder = Settings().data_dir.expanduser().absolute() / "previews"
    picture = folder / f"{product.sha256}.png"
    if picture.is_file():
        return str(picture)
    try:
        private_folder(folder)
        with ProductFile(store.file_of(product)) as file:
            preview_product(picture, file)
    except (NirflowError, OSError):  # its file is damaged, or the folder cannot be written to: no picture
        return None
    return str(picture)


def _print_inputs(product: Product, edges: tuple[LineageEdge, ...]) -> None:
    direct = [edge for edge in edges if edge.product_id == product.id]
    if not direct:
        return
    print_lines()
    rows = [[edge.role, edge.name, _what(edge)] for edge in direct]
    print_table([Column("role"), Column("made from", fold=True), Column("")], rows)
    frames = {edge.frame_sha256 for edge in edges if edge.frame_sha256}
    absent = {
        (edge.name, edge.checksum) for edge in edges if not edge.frame_sha256 and not edge.input_product_id
    }
    rest = f" {counted(len(absent), 'input')} not in this store." if absent else ""
    print_lines("", f"{counted(len(frames), 'raw frame')} in all generations.{rest}")


def exposed_before(store: Store, product: Product) -> list[tuple[str, tuple[str, ...]]]:
    """Return the exposures whose persistence is flagged in a product's frames: frame and exposures, by name."""
    from calib_store.model.values import exposures_in

    before = exposures_in(product.metrics)
    known = store.frames.with_sha256s({*before, *(one for earlier in before.values() for one in earlier)})

    def name(sha256: str) -> str:
        return known[sha256].name if sha256 in known else sha256[:12]

    return sorted((name(frame), tuple(map(name, earlier))) for frame, earlier in before.items())


def _print_exposures(before: Sequence[tuple[str, Sequence[str]]]) -> None:
    if before:
        print_lines()
        columns = [Column("frame"), Column("persistence flagged of earlier exposures", fold=True)]
        print_table(columns, [[frame, ", ".join(earlier)] for frame, earlier in before])


def _what(edge: LineageEdge) -> str:
    if edge.frame_sha256:
        return "raw frame"
    return f"product {str(edge.input_product_id)[:8]}" if edge.input_product_id else "not in this store"


def _print_history(history: Sequence[StatusChange]) -> None:
    print_lines()
    rows = [
        [
            change.changed_at, change.status,
            " to ".join(cell(side) if side else "always" for side in change.validity) if change.validity else None,
            change.author, change.reason,
        ]
        for change in history
    ]  # fmt: skip
    columns = [
        Column("when, UT"), Column("status"), Column("valid"), Column("who"), Column("why", fold=True)
    ]  # fmt: skip
    print_table(columns, rows)


def _print_proposals(proposed: Sequence[Proposal]) -> None:
    """Print decisions of other stores, which have no effect here."""
    if not proposed:
        return
    print_lines("")
    rows = [[one.changed_at, one.status_text, one.author, one.reason, one.source] for one in proposed]
    columns = [
        Column("decided elsewhere, UT"), Column("proposed", fold=True), Column("who"), Column("why", fold=True),
        Column("came with"),
    ]  # fmt: skip
    print_table(columns, rows)


def _show_frame(store: Store, frame: Frame, json: bool) -> None:
    from calib_store.exchange import proposals
    from calib_store.tables import decisions

    made = store.affected(frame)
    got = store.database.run(lambda connection: decisions.of_frame(connection, frame.sha256))
    history = store.frames.history(frame)
    proposed = store.database.read(lambda connection: proposals.on_frame(connection, frame.sha256))
    if json:
        print_json(
            {
                "frame": frame,
                "used_by": [as_json(product) for product in made],
                "decisions": [dict(row._mapping) for row in got],
                "history": [vars(change) for change in history],
                "proposals": [vars(one) for one in proposed],
            }
        )
        return
    facts = frame.facts
    rows: list[list[object]] = [
        ["name", frame.name], ["sha256", frame.sha256], ["first seen, UT", frame.added_at],
        ["files", ", ".join(map(str, frame.paths))],
        ["quarantine", frame.quarantine], ["rejected", frame.rejected],
    ]  # fmt: skip
    if facts is not None:
        names = (
            "kind", "target", "exposure_time", "coadds", "read_pairs", "filter_id", *(facts.model_extra or ()),
            "detector", "started", "program", "observation_id", "data_label",
        )  # fmt: skip
        rows += [[name, facts.value(name)] for name in names]
    print_table([Column("", style="bold"), Column("", fold=True)], rows)
    if got:
        print_lines()
        print_table(
            [
                Column("decided, UT"),
                Column("kind"),
                Column("product", fold=True),
                Column("rules"),
                Column("why", fold=True),
            ],
            [[row.made_at, row.kind, row.name, row.rules_version, _why(row)] for row in got],
        )
    if made:
        print_lines()
        print_table(
            [Column("used by"), Column("kind"), Column("name", fold=True), Column("status")],
            [[product.short_id, product.kind, product.name, product.state] for product in made],
        )
    if history:
        _print_history(history)
    _print_proposals(proposed)


def _why(row: Any) -> str:
    if row.override_reason is not None:
        return f"{row.override_author}: {row.override_reason}"
    return next((c["reason"] for c in row.candidates if c["taken"]), "none served")
