"""A store of many years: matches, explanations and ingest with a million products and five million frames.

The database is filled with COPY, directly into the tables, and kept from one benchmark to the next. There are
no files: the benchmark measures the choice as a night requests it. A file is hashed when a process first uses
it.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import psycopg
from sqlalchemy import text

from benchmarks.figures import Figure
from calib_store.choice import matching
from calib_store.choice.matching_queries import NEAREST, SERVING, query
from calib_store.files.local_objects import LocalObjects
from calib_store.migrations import migrate
from calib_store.model.records import FrameRecord
from calib_store.rules.rules import Configuration
from calib_store.rules.rules_toml import shipped_rules
from calib_store.server import postgres
from calib_store.store import Store
from calib_store.tables.database import Database
from imaging.frames.facts import FrameFacts

#: Limits, s: the 99th percentiles, and a thousand headers. A choice as of a time reads the history of every
#: candidate in the window; it may take as long as an explanation.
MATCH, EXPLAIN, INGEST = 0.010, 0.050, 10.0
HEADERS: Final = 1000
#: Share of each kind of product, and how many configurations it has: masks are the hardest, since all masks of
#: a detector serve the same frames.
KINDS: Final = {"dark": (0.45, 200), "flat": (0.25, 60), "bpm": (0.10, 4), "image": (0.20, 0)}
YEARS: Final = 10
#: Per hundred products: rejected, superseded, and certified (consecutively within a configuration).
REJECTED, SUPERSEDED, CERTIFIED = 3, 10, 4
ASKED: Final = {"match": 2000, "explain": 400}
#: Large tables, which a choice may read only by an index.
LARGE: Final = ("products", "serves", "frames", "status_history", "inputs")
_START: Final = datetime(2015, 1, 1, tzinfo=UTC)
_SPAN: Final = timedelta(days=365 * YEARS)


@dataclass(frozen=True)
class Size:
    """The size of the store."""

    products: int = 1_000_000
    frames: int = 5_000_000

    @property
    def database(self) -> str:
        """Name of its database."""
        return f"big_{self.products}_{self.frames}"


class _NoFiles(LocalObjects):
    """Objects that all count as intact: the files of this store were never written."""

    def verify(self, sha256: str) -> bool:
        return True


def measure_store(folder: Path, size: Size, announce: Callable[[str], None]) -> list[Figure]:
    """Fill the store unless it exists, and measure.

    Parameters
    ----------
    folder
        Folder of its server.
    size
        Its size.
    announce
        Called with messages about the progress.
    """
    address = postgres.ensure_running(folder / "big-store")
    try:
        took = _fill(address, size, announce)
        with_store = Store(Database(address.url(size.database)), _NoFiles(folder / "no-objects"))
        with with_store as store:
            return [*_sizes(store, size, took), *_measure(store, announce)]
    finally:
        postgres.stop(folder / "big-store")


def facts(kind: str, number: int, moment: datetime) -> FrameFacts:
    """Return facts of a frame served by products of a kind's configuration."""
    return FrameFacts(
        name="S20200101S0001.fits", instrument="F2", kind="object", observation_class="science",
        target="FIELD", exposure_time=float(2 + number % 50) if kind == "dark" else 120.0, coadds=1,
        read_pairs=(1, 4, 6, 8)[number // 50 % 4] if kind == "dark" else 8,
        filter_id=f"Y_G{number:04d}" if kind == "flat" else "Y_G0811", filter="Y", lyot="f/16_G5830",
        focal_mask="Open", disperser="Open", detector=f"{109 + (number if kind == 'bpm' else 0)}", started=moment,
    )  # fmt: skip


# Filling


def _fill(address: postgres.PostgresAddress, size: Size, announce: Callable[[str], None]) -> float | None:
    """Create and fill the database; return the seconds taken, or None if it existed."""
    with address.administer() as server:
        query = "SELECT EXISTS (SELECT FROM pg_database WHERE datname = %s AND datdba = 'nirflow'::regrole)"
        if (server.execute(query, (size.database,)).fetchone() or (False,))[0]:
            return None
        server.execute("DROP DATABASE IF EXISTS big_unfinished WITH (FORCE)")
        server.execute("CREATE DATABASE big_unfinished OWNER nirflow")
    announce(f"filling {size.products} products and {size.frames} frames, once")
    began = time.perf_counter()
    database = Database(address.url("big_unfinished"))
    migrate(database.engine)
    database.close()
    with address.connect("big_unfinished") as connection:
        indexes = _without_indexes(connection)
        _copy_frames(connection, size.frames, announce)
        _copy_products(connection, size, announce)
        announce("creating the indexes")
        for definition in indexes:
            connection.execute(definition)  # type: ignore[call-overload]
        connection.execute("VACUUM ANALYZE")
    with address.administer() as server:
        server.execute(f"DROP DATABASE IF EXISTS {size.database} WITH (FORCE)")  # type: ignore[call-overload]
        server.execute(f"ALTER DATABASE big_unfinished RENAME TO {size.database}")  # type: ignore[call-overload]
    return time.perf_counter() - began


def _without_indexes(connection: psycopg.Connection[Any]) -> list[str]:
    """Drop indexes and constraints of the large tables, which slow down a COPY; return their definitions."""
    found = connection.execute(
        """
        SELECT i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid) FROM pg_index i
        JOIN pg_class t ON t.oid = i.indrelid
        WHERE t.relnamespace = 'public'::regnamespace
          AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid)
        """
    ).fetchall()
    constraints = connection.execute(
        """
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), contype IN ('f') FROM pg_constraint
        WHERE conrelid::regclass::text = ANY(%s) AND contype IN ('f', 'x', 'p', 'u') ORDER BY contype = 'f' DESC
        """,
        ([*LARGE, "frame_headers", "frame_files"],),
    ).fetchall()
    for name, _ in found:
        connection.execute(f"DROP INDEX {name}")  # type: ignore[call-overload]
    for table, name, _, _ in constraints:
        connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name} CASCADE")  # type: ignore[call-overload]
    again = [
        f"ALTER TABLE {t} ADD CONSTRAINT {n} {definition}" for t, n, definition, _ in reversed(constraints)
    ]
    return [*again, *(definition for _, definition in found)]


def _copy(connection: psycopg.Connection[Any], statement: str, rows: Iterator[Sequence[object]]) -> None:
    with connection.cursor() as cursor, cursor.copy(statement) as copy:  # type: ignore[call-overload]
        lines: list[str] = []
        for row in rows:
            lines.append("\t".join("\\N" if value is None else str(value) for value in row))
            if len(lines) == 5000:
                copy.write("\n".join(lines) + "\n")
                lines = []
        if lines:
            copy.write("\n".join(lines) + "\n")


def _copy_frames(connection: psycopg.Connection[Any], number: int, announce: Callable[[str], None]) -> None:
    announce("copying frames")
    short = json.dumps(facts("dark", 0, _START).model_dump(mode="json"))
    step = _SPAN / number

    def frames() -> Iterator[Sequence[object]]:
        for n in range(number):
            moment = (_START + n * step).isoformat()
            yield (_sha(n, "f"), f"S{n:012d}.fits", "object", 120.0, 1, 8, "Y_G0811", "FIELD", moment, short)

    columns = "sha256, name, kind, exposure_time, coadds, read_pairs, filter_id, target, started, facts"
    _copy(connection, f"COPY frames ({columns}) FROM STDIN", frames())
    header = json.dumps({"OBJECT": "FIELD", "EXPTIME": 120.0})
    rows = ((_sha(n, "f"), header) for n in range(number))
    _copy(connection, "COPY frame_headers (frame_sha256, header) FROM STDIN", rows)
    files = ((f"/archive/{n // 1000}/S{n:012d}.fits", 16785408, n, _sha(n, "f")) for n in range(number))
    _copy(connection, "COPY frame_files (path, size, mtime_ns, frame_sha256) FROM STDIN", files)


def _copy_products(connection: psycopg.Connection[Any], size: Size, announce: Callable[[str], None]) -> None:
    announce("copying products")
    rules = shipped_rules()
    numbers: dict[str, list[int]] = {}
    rows: list[Configuration] = []
    for kind, (_, count) in KINDS.items():
        made = [rules.configuration(kind, facts(kind, n, _START)) for n in range(count)]
        numbers[kind] = list(range(len(rows) + 1, len(rows) + 1 + count))
        rows += [one for one in made if one is not None]
    _copy(
        connection, "COPY configurations (id, digest, rule, kind, keys, facts) FROM STDIN",
        ((n, c.digest, c.rule, c.kind, json.dumps(dict(c.keys)), "{" + ",".join(sorted(c.keys)) + "}")
         for n, c in enumerate(rows, start=1)),
    )  # fmt: skip
    variants = {kind: number for number, kind in enumerate(KINDS, start=1)}
    _copy(
        connection, "COPY variants (id, kind, parameters) FROM STDIN",
        ((number, kind, "{}") for kind, number in variants.items()),
    )  # fmt: skip
    rng = random.Random(1)
    bounds = np.cumsum([share for share, _ in KINDS.values()]) * size.products
    kinds = list(KINDS)
    plan = []
    for n in range(size.products):
        kind = kinds[int(np.searchsorted(bounds, n, side="right"))]
        own = numbers[kind]
        configuration = own[n % len(own)] if own else None
        moment = _START + rng.random() * _SPAN
        lot = rng.randrange(100)
        status = (
            "rejected" if lot < REJECTED
            else "superseded" if lot < REJECTED + SUPERSEDED
            else "candidate"
        )  # fmt: skip
        plan.append([n, kind, configuration, moment, status, None])
    _certify(plan)
    short = json.dumps({"name": "S1.fits"})

    def products() -> Iterator[Sequence[object]]:
        for n, kind, configuration, moment, status, validity in plan:
            made = moment.isoformat()
            yield (
                _uuid(n), _sha(n, "r"), kind, f"S{n}_{kind}.fits", _sha(n, "p"), 50000000, configuration, status,
                validity, made, made, made, short, json.dumps({"level": 104.5, "noise": _noise(n)}), "{}", "1",
                "nirflow 0.1.0", made,
                variants[kind],
            )  # fmt: skip

    columns = (
        "id, recipe_key, kind, name, sha256, size, configuration_id, status, validity, span_start, span_end, "
        "middle, facts, metrics, parameters, algorithm_version, software_version, made_at, variant_id"
    )
    _copy(connection, f"COPY products ({columns}) FROM STDIN", products())
    serving = (
        (_uuid(p[0]), p[2], p[3].isoformat(), variants[p[1]], _noise(p[0])) for p in plan if p[2] is not None
    )
    _copy(
        connection,
        "COPY serves (product_id, configuration_id, middle, variant_id, noise) FROM STDIN",
        serving,
    )
    log = ((_uuid(p[0]), p[4], p[5], "pipeline", "made", p[3].isoformat()) for p in plan)
    _copy(
        connection,
        "COPY status_history (product_id, status, validity, author, reason, changed_at) FROM STDIN",
        log,
    )
    inputs = (
        (_uuid(n), ordinal, "dark", _sha((n * 5 + ordinal) % size.frames, "f"))
        for n in range(size.products)
        for ordinal in range(2)
    )
    _copy(connection, "COPY inputs (product_id, ordinal, role, frame_sha256) FROM STDIN", inputs)


def _noise(number: int) -> float:
    """Return the noise of a product, e-: among equally near ones the choice prefers the lowest."""
    return 2.0 + number % 97 / 100


def _certify(plan: list[list[Any]]) -> None:
    """Certify a few products of each configuration, each until the middle of the next one."""
    by_configuration: dict[int, list[list[Any]]] = {}
    for row in plan:
        if row[2] is not None and row[4] == "candidate":
            by_configuration.setdefault(row[2], []).append(row)
    for rows in by_configuration.values():
        rows.sort(key=lambda row: row[3])
        chosen = rows[:: max(1, 100 // CERTIFIED)]
        for one, following in pairwise(chosen):
            # Every other interval has no certified product: there candidates compete.
            end = one[3] + (following[3] - one[3]) / 2
            one[4], one[5] = "certified", f'["{one[3].isoformat()}","{end.isoformat()}")'


def _sha(n: int, what: str) -> str:
    return hashlib.sha256(f"{what}{n}".encode()).hexdigest()


def _uuid(n: int) -> str:
    return hashlib.md5(str(n).encode(), usedforsecurity=False).hexdigest()


# Measuring


def _sizes(store: Store, size: Size, took: float | None) -> list[Figure]:
    with store.database.begin() as connection:
        held = int(connection.scalar(text("SELECT pg_database_size(current_database())")) or 0)
    note = f"{size.products} products, {size.frames} frames" + (f", filled in {took:.0f} s" if took else "")
    return [Figure("store", "size of the database", held / 1e9, "GB", note=note)]


def _measure(store: Store, announce: Callable[[str], None]) -> list[Figure]:
    figures = []
    for kind, (_, count) in KINDS.items():
        if not count:
            continue
        announce(f"asking for each {kind}")
        figures += _plan(store, kind)
        for what, limit in (("match", MATCH), ("explain", EXPLAIN)):
            figures.append(_percentiles(what, kind, limit, _timed(store, what, kind, count)))
        past = _timed(store, "match", kind, count, as_of=_START + _SPAN / 2)
        figures.append(_percentiles("match as of a time", kind, EXPLAIN, past))
    return [*figures, _ingest(store)]


def _timed(store: Store, what: str, kind: str, count: int, as_of: datetime | None = None) -> list[float]:
    """Return the seconds of each query, after some that warm up the connection and the server's memory."""
    rng = random.Random(2)
    ask = store.match if what == "match" else store.explain
    times: list[float] = []
    served = 0
    for n in range(-50, ASKED[what]):
        frame = facts(kind, rng.randrange(count), _START + rng.random() * _SPAN)
        began = time.perf_counter()
        found = ask(frame, kind, as_of=as_of)
        if n >= 0:
            times.append(time.perf_counter() - began)
        served += found.product is not None
    if as_of is None and served < 0.9 * len(times):
        raise AssertionError(
            f"{served} of {len(times)} frames got a {kind}: the store was filled incorrectly"
        )
    return times


def _percentiles(what: str, kind: str, limit: float, times: Sequence[float]) -> Figure:
    half, most, worst = np.percentile(times, [50, 99, 100]) * 1000
    note = f"median {half:.2f}, largest {worst:.1f}, of {len(times)}"
    return Figure("store", f"{what}, {kind}: 99th percentile", float(most), "ms", limit * 1000, note=note)


def _plan(store: Store, kind: str) -> list[Figure]:
    """Return how many large tables the queries scan sequentially; none is allowed."""
    frame = facts(kind, 0, _START + _SPAN / 3)
    wanted = matching.Wanted(frame, kind, shipped_rules(), variants=[1])
    scans = 0
    with store.database.begin() as connection:
        for template in (SERVING, NEAREST):
            asked = query(template, False, wanted.rules.order).text
            explained = connection.execute(text(f"EXPLAIN (FORMAT JSON) {asked}"), wanted.values(50))
            (plan,) = explained.scalar_one()
            scans += sum(
                node.get("Node Type") == "Seq Scan" and node.get("Relation Name") in LARGE
                for node in _nodes(plan["Plan"])
            )
    return [Figure("store", f"large tables scanned sequentially, {kind}", float(scans), "", 0.0)]


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for inner in node.get("Plans", ()):
        yield from _nodes(inner)


def _ingest(store: Store) -> Figure:
    """Time the ingest of a thousand headers of a new night, each with as many cards as a real one."""
    header = {f"KEY{n}": "a value as long as most" for n in range(160)}
    stamp = time.time_ns()
    records = [
        FrameRecord(
            Path(f"/new/{stamp}/S{n}.fits"), _sha(n, f"new {stamp} "), 16785408, n,
            facts("dark", 0, _START + timedelta(seconds=n)), header,
        )
        for n in range(HEADERS)
    ]  # fmt: skip
    began = time.perf_counter()
    report = store.frames.ingest(records)
    took = time.perf_counter() - began
    if report.new != HEADERS:
        raise AssertionError(f"not all frames were new: {report.new}")
    return Figure("store", f"ingest of {HEADERS} headers of 160 cards", took, "s", INGEST)
