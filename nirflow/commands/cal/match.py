"""``nirflow cal match``, ``explain`` and ``rules``: the calibrations of a frame, the reasons, and the
rules.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calib_store.choice.serving import kinds_for
from imaging.kinds import KINDS, RuleKind
from nirflow.commands.cal.naming import AsOf, Author, Json, acting_user, as_json, open_store
from nirflow.console.output import print_lines
from nirflow.console.tables import Column, print_json, print_table
from nirflow.exits import Exit, UsageError
from nirflow.moments import moment

if TYPE_CHECKING:
    from calib_store.model.records import Match
    from calib_store.store import Store
    from imaging.frames.facts import FrameFacts

FrameName = Annotated[
    str, typer.Argument(metavar="FRAME", help="File of a raw frame, or the name of one that the store knows.")
]
_REMEDY = "Give the path of a raw frame, or the name of one that the store knows."
Kind = Annotated[
    RuleKind | None,
    typer.Option(
        "--kind",
        help="Only this kind. Default: all that the frame may need. standard: the standard field that gives its field "
        "a zero point if no catalogue does.",
    ),
]


def match(frame: FrameName, kind: Kind = None, as_of: AsOf = None, json: Json = False) -> None:
    """Show which calibrations a frame gets. Exit code 4 if a kind is missing, 3 if all are."""
    when = moment(as_of, "--as-of")
    with open_store() as store:
        facts = _facts(store, frame)
        matches = [store.match(facts, one, as_of=when) for one in _kinds(facts, kind)]
        others = _used_otherwise(store, frame, matches) if when is None else []
    if not matches:
        _print_no_need(facts, json)
        return
    if json:
        print_json([_match_as_json(one) for one in matches])
    else:
        rows = [
            [
                one.kind, one.product.name if one.product else None, one.product.short_id if one.product else None,
                one.product.status if one.product else None,
                next((c.reason.removeprefix("taken: ") for c in one.candidates if c.taken), "none serves"),
            ]
            for one in matches
        ]  # fmt: skip
        columns = [
            Column("kind", style="bold"), Column("product"), Column("id"), Column("status"),
            Column("why", fold=True),
        ]  # fmt: skip
        print_table(columns, rows)
        for line in others:
            print_lines(line)
    _exit(matches)


def explain(
    frame: FrameName,
    kind: Kind = None,
    as_of: AsOf = None,
    limit: Annotated[
        int, typer.Option(min=1, help="Number of products of each kind to list on either side in time.")
    ] = 10,
    json: Json = False,
) -> None:
    """Explain why a frame gets its calibrations, and why it gets no others.

    Lists every product near it in time, with the first rule that it fails and both values.
    """
    when = moment(as_of, "--as-of")
    with open_store() as store:
        facts = _facts(store, frame)
        matches = [store.explain(facts, one, as_of=when, limit=limit) for one in _kinds(facts, kind)]
    if not matches:
        _print_no_need(facts, json)
        return
    if json:
        print_json([_match_as_json(one) for one in matches])
    else:
        for number, one in enumerate(matches):
            if number:
                print_lines()
            _print_explanation(one, facts)
    _exit(matches)


def rules(
    set_: Annotated[
        Path | None,
        typer.Option("--set", metavar="FILE", help="Use the rules of this TOML table from now on."),
    ] = None,
    reason: Annotated[str | None, typer.Option("--reason", help="Reason for the change; with --set.")] = None,
    author: Author = None,
    version: Annotated[
        str | None, typer.Option("--version", help="An earlier version in place of the current one.")
    ] = None,
    toml: Annotated[
        bool,
        typer.Option(
            "--toml", help="Print the current table, or that of --version, as a starting point for changes."
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Show the rules of association and since when they apply; --set changes them."""
    from calib_store.rules.rules_toml import rules_in, rules_text
    from calib_store.tables import rulebook

    with open_store() as store:
        if set_ is not None:
            if not reason:
                raise UsageError("A change of the rules needs a reason.", remedy="Add one: --reason TEXT")
            if not set_.is_file():
                raise UsageError(f"File not found: {set_}.", remedy="Start from: nirflow cal rules --toml")
            new = rules_in(set_)
            changed = store.database.run(
                lambda connection: rulebook.activate(
                    connection, new, author=acting_user(author), reason=reason
                )
            )
            print_lines(f"{'Now' if changed else 'Already'} using {new.version}.", err=True)
            longer = store.database.run(lambda connection: rulebook.beyond(connection, new))
            if longer:
                print_lines(
                    f"Certified for longer than these rules allow: {', '.join(longer)}. That is kept; to change it: "
                    "nirflow cal certify ID --from TIME --to TIME",
                    err=True,
                )
        shown = (
            store.database.run(lambda connection: rulebook.rules_of(connection, version))
            if version
            else store.rules()
        )
        history = store.database.run(rulebook.rule_history)
    if toml:
        print_lines(*rules_text(shown).rstrip("\n").split("\n"))
        return
    if json:
        print_json({"rules": shown, "history": [vars(change) for change in history]})
        return
    columns = [
        Column("rule", style="bold"), Column("for"), Column("must agree", fold=True), Column("within"),
        Column("frames"),
    ]  # fmt: skip
    rows = []
    for rule in shown.rules:
        agree = ", ".join(
            f"{fact} +-{rule.tolerance[fact]:g}" if rule.tolerance.get(fact) else fact for fact in rule.match
        )
        days = rule.window_days
        within = "any time" if days is None else f"{days:g} {'day' if days == 1 else 'days'}"
        kind = f"{'published ' if rule.published else ''}{rule.kind}"
        rows.append([rule.name, kind, agree, within, rule.frames])
    print_table(columns, rows, title=f"Rules {shown.version}")
    print_lines()
    print_table(
        [Column("since, UT"), Column("version"), Column("who"), Column("why", fold=True)],
        [[change.changed_at, change.version, change.author, change.reason] for change in history],
    )


def _facts(store: Store, name: str) -> FrameFacts:
    """Return the facts of a frame, from a file or from the store."""
    from nirflow.survey import examine_file

    path = Path(name).expanduser()
    if path.is_file():
        seen = examine_file(path, any_shape=True)
        if seen.facts is None:
            raise UsageError(f"{path.name}: {seen.reason}.", remedy=seen.remedy)
        if seen.facts.processed:
            raise UsageError(f"{path.name} is a product, not a raw frame.", remedy=_REMEDY)
        return seen.facts
    frame = store.frames.get(name)
    if frame is None:
        raise UsageError(
            f"{name} is a folder."
            if path.is_dir()
            else f"File not found: {name}, and the store knows no frame of that name.",
            remedy=_REMEDY,
        )
    if frame.facts is None:
        raise UsageError(
            f"The store has no facts of {frame.name}: {frame.quarantine}.", remedy="Name another frame."
        )
    return frame.facts


def _used_otherwise(store: Store, name: str, matches: Sequence[Match]) -> list[str]:
    """Return the products with which a frame was last reduced if it would now get others, with the reasons."""
    from calib_store.tables import decisions

    frame = store.frames.get(Path(name).name)
    if frame is None:
        return []
    rows = store.database.read(lambda connection: decisions.of_frame(connection, frame.sha256))
    lines = []
    for match in matches:
        last = next((row for row in rows if row.kind == match.kind and row.as_of is None), None)
        if last is None or last.product_id is None or (match.product and match.product.id == last.product_id):
            continue
        why = last.override_reason or next((c["reason"] for c in last.candidates if c["taken"]), "")
        lines.append(
            f"Last reduced ({last.made_at:%Y-%m-%d %H:%M}) with the {match.kind} {last.name} "
            f"({str(last.product_id)[:8]}, now {last.status}): {why.removeprefix('taken: ')}."
        )
    return lines


def _kinds(facts: FrameFacts, kind: str | None) -> Sequence[str]:
    return kinds_for(facts) if kind is None else (kind,)


def _print_no_need(facts: FrameFacts, json: bool) -> None:
    if json:
        print_json([])
    else:
        print_lines(f"{facts.name} is a {facts.kind}: it needs no calibration.")


def _exit(matches: Sequence[Match]) -> None:
    required = [one for one in matches if one.kind not in KINDS or not KINDS[one.kind].is_optional]
    matches = required or matches
    missing = sum(one.product is None for one in matches)
    if missing:
        raise typer.Exit(Exit.NOTHING if missing == len(matches) else Exit.PARTIAL)


def _print_explanation(match: Match, facts: FrameFacts) -> None:
    from calib_store.model.values import STANDARD
    from calib_store.rules.order import labels

    taken = match.product.name_and_id if match.product else "none"
    when = f", as of {match.as_of:%Y-%m-%d %H:%M}" if match.as_of else ""
    print_lines(f"{match.kind} for {facts.name}: {taken}", style="bold")
    print_lines(
        f"taken {facts.middle:%Y-%m-%d %H:%M}; by the rules {match.rules_version}{when}",
        style="dim",
    )
    order = ("nearest in time",) if match.kind == STANDARD else labels(match.order)
    best_first = f"best first: {'; '.join(order)}"
    print_lines(*textwrap.wrap(best_first, 98, subsequent_indent="  "), style="dim")
    if not match.candidates:
        then = f" had no {match.kind} at all then" if match.as_of else f" has no {match.kind} at all"
        print_lines(f"The store{then}.")
        return
    rows, styles = [], []
    for candidate in match.candidates:
        product = candidate.product
        mark = "taken" if candidate.taken else "serves" if candidate.serves else "no"
        rows.append(
            [mark, product.name, product.short_id, product.status, candidate.reason.removeprefix("taken: ")]
        )
        styles.append("green" if candidate.taken else "" if candidate.serves else "dim")
    columns = [
        Column("", style="bold"), Column("product"), Column("id"), Column("status"),
        Column("why", fold=True),
    ]  # fmt: skip
    print_table(columns, rows, styles=styles)


def _match_as_json(match: Match) -> dict[str, Any]:
    return {
        "frame": match.frame,
        "kind": match.kind,
        "product": as_json(match.product) if match.product else None,
        "rules": match.rules_version,
        "as_of": match.as_of,
        "candidates": [candidate.as_json() for candidate in match.candidates],
    }
