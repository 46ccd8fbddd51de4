"""Malicious backups are refused: nothing in them is run or kept."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from crafted_backups import MARK, dump_again, execute, take, url_of

from calib_store.administration.backup_folder import Backup, read_backup
from calib_store.model.settings import StoreSettings


def edit_dump(folder: Path, old: bytes, new: bytes) -> None:
    """Change bytes of a dump that is not compressed."""
    assert len(old) == len(new)
    recorded = Backup.model_validate_json((folder / "backup.json").read_bytes())
    content = (folder / recorded.dump).read_bytes()
    assert old in content
    (folder / "edited").write_bytes(content.replace(old, new))
    take(folder, folder / "edited")


# Programs instead of rows


@pytest.mark.parametrize(
    ("statements", "named"),
    [
        (
            (
                """CREATE FUNCTION runit() RETURNS int LANGUAGE plpgsql AS $$
                   BEGIN EXECUTE 'copy (select 1) to program ''touch {ran}'''; RETURN 1; END $$""",
                "CREATE MATERIALIZED VIEW shown AS SELECT runit() WITH NO DATA",
                # As its author would make it: then a restore fills it.
                "UPDATE pg_class SET relispopulated = true WHERE relname = 'shown'",
            ),
            "FUNCTION public runit",
        ),
        (("CREATE MATERIALIZED VIEW shown AS SELECT 1 AS one",), "MATERIALIZED VIEW public shown"),
        (("CREATE TABLE other (x int)",), "TABLE public other"),
        (("CREATE VIEW other AS SELECT 1 AS one",), "VIEW public other"),
        (("CREATE RULE r AS ON INSERT TO frames DO ALSO SELECT 1",), "RULE public frames r"),
        (("CREATE SCHEMA other",), "SCHEMA - other"),
        (("CREATE EXTENSION pg_trgm",), "EXTENSION - pg_trgm"),
        (("COMMENT ON TABLE frames IS 'x'",), "COMMENT public TABLE frames"),
        (("SELECT lo_create(0)",), "BLOB"),
        (
            (
                "CREATE TRIGGER t BEFORE UPDATE ON frames EXECUTE FUNCTION suppress_redundant_updates_trigger()",
            ),
            "TRIGGER public frames t",
        ),
        (("ALTER TABLE frames ENABLE ROW LEVEL SECURITY",), "ROW SECURITY public frames"),
        (("CREATE TYPE mood AS ENUM ('sad')",), "TYPE public mood"),
    ],
)
def test_a_dump_that_holds_more_than_rows_is_refused_by_name(
    source: StoreSettings, folder: Path, refused, statements: tuple[str, ...], named: str, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    execute(source, *(one.replace("{ran}", str(ran)) for one in statements))
    dump_again(source, folder)
    refused(folder, f"has an entry that no store has: .*{named}")
    assert not ran.exists()


def test_rows_as_statements_are_refused(source: StoreSettings, folder: Path, refused) -> None:
    dump_again(source, folder, "--inserts")
    refused(folder, "has no rows of products as pg_dump writes them")


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        # The statement that goes with the rows is text in the archive.
        (b"FROM stdin;", b"TO program;", "as pg_dump writes them"),
        (b"COPY public.products (id,", b"SELECT 1; COPY produ (id,", "as pg_dump writes them"),
        (b"COPY public.products (id,", b"COPY public.products (ix,", "other columns"),
        (b"COPY public.products (id,", b"COPY public.inputsxx (id,", "as pg_dump writes them"),
        # Rows that end early, with statements after them.
        (
            MARK.encode(),
            b"x\n\\.\nDROP TABLE products;".ljust(len(MARK), b"-"),
            "something else after the rows",
        ),
        (MARK.encode(), b"x\n\\.\n\\! id;".ljust(len(MARK), b"-"), "something else after the rows"),
        (
            MARK.encode(),
            b"x\n\\.\n\nCOPY public.frames (name) FROM stdin;\n".ljust(len(MARK), b"y"),
            "after the rows",
        ),
    ],
)
def test_statements_hidden_in_the_archive_are_refused(
    folder: Path, refused, old: bytes, new: bytes, match: str
) -> None:
    edit_dump(folder, old, new)
    refused(folder, match)


def test_a_dump_that_ends_early_is_refused(folder: Path, refused) -> None:
    whole = (folder / read_backup(folder).dump).read_bytes()
    for part in (0, 10, len(whole) // 3, len(whole) - 300):
        (folder / "cut").write_bytes(whole[:part])
        take(folder, folder / "cut")
        refused(folder, "cannot be unpacked|ends early")


# Rows that no store has


def test_rows_obey_the_constraints_of_the_stores_tables(source: StoreSettings, folder: Path, refused) -> None:
    whole = (folder / read_backup(folder).dump).read_bytes()
    with psycopg.connect(url_of(source)) as connection:
        ((frame,), (product,), (name,)) = (
            connection.execute(query).fetchone()
            for query in (
                "SELECT frame_sha256 FROM inputs WHERE frame_sha256 IS NOT NULL",
                "SELECT sha256 FROM products",
                "SELECT name FROM products",
            )
        )
    for old, new, match in (
        (frame, frame[:-1] + "g", "violates check constraint .frames_sha256_check"),
        (f"\tdark\t{frame}", f"\tdark\t{'0' * 64}", "violates foreign key constraint"),
        (product, "../" * 21 + ".", "has an invalid product"),
        (f"\t{name}\t", "\t../" + "x" * (len(name) - 3) + "\t", "has an invalid product"),
    ):
        edit_dump(folder, old.encode(), new.encode())
        refused(folder, match)
        (folder / "before").write_bytes(whole)
        take(folder, folder / "before")


def test_numbers_of_rows_match_those_that_the_backup_records(folder: Path, refused) -> None:
    recorded = read_backup(folder)
    for change in (
        {"products": 1},
        {"products": 3},
        {"frames": 1},
        {"store": "0" * 32},
        {"revision": "0004"},
    ):
        (folder / "backup.json").write_text(recorded.model_copy(update=change).model_dump_json())
        refused(folder, "The dump of the backup|could not be restored")


def test_serial_numbers_that_leave_none_for_later_rows_are_refused(
    source: StoreSettings, folder: Path, refused
) -> None:
    execute(source, "UPDATE status_history SET id = id + 9223372036854775000")
    dump_again(source, folder)
    refused(folder, "has a row of status_history with the number 9223372036854775")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE products SET made_at = 'infinity'",
        "UPDATE frames SET started = '0001-01-01 BC'",
        "UPDATE status_history SET validity = '[2013-01-01, infinity)'",
        "UPDATE status_history SET validity = '[-infinity, 2013-01-01)'",
        "INSERT INTO runs SELECT gen_random_uuid(), '{infinity}', 'night', NULL, '{}', now(), now(), '{}'",
    ],
)
def test_times_that_no_reader_can_represent_are_refused(
    source: StoreSettings, folder: Path, refused, statement: str
) -> None:
    execute(source, statement)
    dump_again(source, folder)
    refused(folder, "is not between the years 2 and 9998")


@pytest.mark.parametrize(
    ("statement", "match"),
    [
        ("UPDATE products SET metrics = '[1, 2]'", "a row of products that cannot be read"),
        (
            "UPDATE products SET metrics = CAST('{\"noise\": ' || repeat('9', 400) || '}' AS jsonb)",
            "metrics have a number that is too large",
        ),
        (
            "UPDATE products SET parameters = CAST('{\"low\": ' || repeat('9', 5000) || '}' AS jsonb)",
            "a row of products that cannot be read",
        ),
        (
            "UPDATE products SET parameters = CAST(repeat('{\"a\":', 900) || '1' || repeat('}', 900) AS jsonb)",
            "a row of products that cannot be read",
        ),
        (
            "UPDATE products SET metrics = CAST('{\"noise\": ' || repeat('9', 400) || '.5}' AS jsonb)",
            "metrics have a number that is too large",
        ),
        (
            "UPDATE products SET parameters = CAST(repeat('{\"a\":', 60) || '1' || repeat('}', 60) AS jsonb)",
            "levels of nested lists and tables",
        ),
        ("UPDATE products SET metrics = '{\"unused\": 7}'", "a wrong unused"),
        ('UPDATE products SET gate = \'{"passed": true, "reference": "x"}\'', "a wrong reference"),
        ("UPDATE products SET facts = '{}'", "a row of products that cannot be read"),
        ("UPDATE frames SET facts = facts || '{\"exposure_time\": 1e300}'", "an exposure of"),
        ("UPDATE frames SET exposure_time = 'infinity'", "an infinite exposure"),
        ("UPDATE frame_headers SET header = '7'", "a row of frame_headers that cannot be read"),
        ("UPDATE variants SET parameters = '7'", "a row of variants that cannot be read"),
        (
            "INSERT INTO runs SELECT gen_random_uuid(), '{}', 'night', NULL, '{}', now(), now(), '7'",
            "a row of runs",
        ),
        (
            "INSERT INTO decisions (frame_sha256, kind, rules_version, candidates)"
            " SELECT sha256, 'dark', '1', '[7]' FROM frames LIMIT 1",
            "a row of decisions",
        ),
        (
            "INSERT INTO status_history (product_id, status, author, reason)"
            " SELECT id, 'splendid', 'x', 'y' FROM products LIMIT 1",
            "a decision that cannot be read",
        ),
    ],
)
def test_rows_that_no_command_could_read_are_refused_before_they_are_kept(
    source: StoreSettings, folder: Path, refused, statement: str, match: str
) -> None:
    execute(source, statement)
    dump_again(source, folder)
    refused(folder, match)
