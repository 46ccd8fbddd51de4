from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from clean_databases import CleanDatabases
from typer.testing import Result

Run = Callable[..., Result]


def one_product(nirflow: Run) -> dict[str, Any]:
    (product,) = json.loads(nirflow("cal", "list", "--json").stdout)
    return dict(product)


@pytest.mark.usefixtures("own_store")
def test_an_empty_store_lists_nothing(nirflow: Run) -> None:
    result = nirflow("cal", "list")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "no such product" in result.stderr


@pytest.mark.usefixtures("own_store")
def test_a_product_is_added_shown_and_copied_unchanged(
    nirflow: Run, master_dark: Path, tmp_path: Path
) -> None:
    added = nirflow("cal", "add", "--any-shape", master_dark)
    assert added.exit_code == 0
    assert added.stdout.startswith("S20131120S0115_dark.fits: dark ")
    product = one_product(nirflow)
    listed = nirflow("cal", "list", "--kind", "dark").stdout.splitlines()
    assert len(listed) == 2
    assert "120 s, 8 reads" in listed[1]
    assert product["id"][:8] in listed[1]
    for name in (product["id"], product["id"][:8], "S20131120S0115_dark.fits", product["sha256"][:10]):
        shown = nirflow("cal", "show", name)
        assert shown.exit_code == 0
        assert product["sha256"] in shown.stdout
    reported = json.loads(nirflow("cal", "show", product["id"], "--json").stdout)
    assert (reported["product"]["status"], reported["lineage"]) == ("candidate", [])
    (tmp_path / "copies").mkdir()
    got = nirflow("cal", "get", product["id"], "--out", tmp_path / "copies")
    assert got.exit_code == 0
    assert (tmp_path / "copies" / master_dark.name).read_bytes() == master_dark.read_bytes()


@pytest.mark.usefixtures("own_store")
def test_get_replaces_a_file_only_on_request(nirflow: Run, master_dark: Path, tmp_path: Path) -> None:
    nirflow("cal", "add", "--any-shape", master_dark)
    copy = tmp_path / "copy.fits"
    copy.write_text("mine")
    refused = nirflow("cal", "get", master_dark.name, "--out", copy)
    assert refused.exit_code == 2
    assert copy.read_text() == "mine"
    assert nirflow("cal", "get", master_dark.name, "--out", copy, "--overwrite").exit_code == 0
    assert copy.read_bytes() == master_dark.read_bytes()


@pytest.mark.usefixtures("own_store")
def test_add_accepts_valid_products_and_reports_refused_ones(
    nirflow: Run, master_dark: Path, tmp_path: Path
) -> None:
    raw = tmp_path / "S20131120S0115.fits"
    result = nirflow("cal", "add", "--any-shape", raw, master_dark)
    assert result.exit_code == 4
    assert "S20131120S0115.fits: not a product" in result.stderr
    assert one_product(nirflow)["name"] == master_dark.name
    alone = nirflow("cal", "add", "--any-shape", raw, "--json")
    assert alone.exit_code == 1
    assert json.loads(alone.stdout)["refused"][0]["file"] == str(raw)


@pytest.mark.usefixtures("own_store")
@pytest.mark.parametrize("command", ["show", "get"])
def test_an_unknown_product_is_reported_with_a_remedy(nirflow: Run, command: str) -> None:
    result = nirflow("cal", command, "S1_dark.fits")
    assert (result.exit_code, result.stdout) == (1, "")
    error, remedy = result.stderr.splitlines()
    thing = "product and no raw frame" if command == "show" else "product"
    assert error == f"Error: The store has no {thing} 'S1_dark.fits'."
    assert "nirflow cal list" in remedy


@pytest.mark.usefixtures("own_store")
def test_export_and_import(nirflow: Run, added: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    dark = added()
    result = nirflow("cal", "export", dark["id"][:8], "--to", tmp_path / "all.tar")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1].startswith("1 product and the records of 0 raw frames")
    again = nirflow("cal", "export", dark["id"][:8], "--to", tmp_path / "all.tar")
    assert again.exit_code == 1
    assert "already exists" in again.stderr
    done = nirflow("cal", "import", tmp_path / "all.tar")
    assert done.exit_code == 0
    assert "0 products added, 1 known" in done.stdout
    reported = json.loads(nirflow("cal", "import", tmp_path / "all.tar", "--json").stdout)
    assert [p["id"] for p in reported["known"]] == [dark["id"]]
    bad = nirflow("cal", "import", tmp_path / "nothing")
    assert (bad.exit_code, bad.stdout) == (1, "")


def test_add_shows_differences_from_the_certified_product(
    nirflow: Run, added: Callable[..., dict[str, Any]], make_dark: Callable[..., Path]
) -> None:
    first = added()
    assert nirflow("cal", "certify", first["id"]).exit_code == 0
    result = nirflow("cal", "add", "--any-shape", make_dark("S20131120S0199", level=90.0))
    assert result.exit_code == 0
    assert result.stdout.endswith("candidate, doubtful\n")
    assert "the level is +89" in result.stderr


@pytest.mark.usefixtures("own_store")
def test_a_part_of_a_detector_is_accepted_only_on_request(nirflow: Run, master_dark: Path) -> None:
    refused = nirflow("cal", "add", master_dark)
    assert refused.exit_code == 1
    assert "= (40, 40), expected (2048, 2048)" in " ".join(refused.stderr.split())
    assert nirflow("cal", "add", master_dark, "--any-shape").exit_code == 0


@pytest.fixture
def from_elsewhere(
    nirflow: Run, make_dark: Callable[..., Path], tmp_path: Path, postgres_address: Any,
    clean_databases: CleanDatabases, store_settings: Any,
) -> Path:  # fmt: skip
    """Return an export of another store: a dark that Ana certified there."""
    with clean_databases.one() as name, pytest.MonkeyPatch.context() as patch:
        url = postgres_address.url(name).set(username="test_pipeline").render_as_string(hide_password=False)
        patch.setenv("NIRFLOW_DATABASE_URL", url)
        patch.setenv("NIRFLOW_DATA_DIR", str(tmp_path / "elsewhere"))
        assert nirflow("cal", "add", "--any-shape", make_dark()).exit_code == 0
        named = ("S20131120S0115_dark", "--reason", "no\x1b[31m glow", "--author", "Ana")
        assert nirflow("cal", "certify", *named).exit_code == 0
        assert nirflow("cal", "export", named[0], "--to", tmp_path / "x.tar").exit_code == 0
    return tmp_path / "x.tar"


@pytest.mark.usefixtures("own_store")
def test_an_import_shows_decisions_of_another_store_without_applying_them(
    nirflow: Run, from_elsewhere: Path
) -> None:
    small = nirflow("cal", "import", from_elsewhere)
    assert small.exit_code == 1
    assert "the wrong shape for a calibration" in small.stderr
    done = nirflow("cal", "import", "--any-shape", from_elsewhere)
    assert done.exit_code == 0
    added, proposed, total = done.stdout.splitlines()
    assert added.startswith("added: dark S20131120S0115_dark.fits (")
    assert proposed.startswith("proposed: S20131120S0115_dark.fits (")
    assert "certified for " in proposed
    assert proposed.endswith(r"no\x1b[31m glow")
    assert total == "1 product added, 0 known; 0 raw frames new."
    assert f"To adopt everything: nirflow cal import --trust {from_elsewhere}" in done.stderr
    assert "candidate, provisional" in nirflow("cal", "list").stdout
    (listed,) = json.loads(nirflow("cal", "list", "--json").stdout)
    assert (listed["status"], listed["proposed"]) == ("candidate", "certified")
    shown = nirflow("cal", "show", "S20131120S0115_dark").stdout
    assert "decided elsewhere, UT" in shown
    assert "imported from another store" in shown
    reported = json.loads(nirflow("cal", "show", "S20131120S0115_dark", "--json").stdout)
    assert [(one["status"], one["author"], one["source"]) for one in reported["proposals"]] == [
        ("certified", "Ana", "x.tar")
    ]
    assert nirflow("cal", "certify", "S20131120S0115_dark", "--reason", "seen").exit_code == 0
    assert "decided elsewhere" not in nirflow("cal", "show", "S20131120S0115_dark").stdout
    (listed,) = json.loads(nirflow("cal", "list", "--json").stdout)
    assert (listed["provisional"], listed["proposed"]) == (None, None)


@pytest.mark.usefixtures("own_store")
def test_a_trusted_import(nirflow: Run, from_elsewhere: Path) -> None:
    done = nirflow("cal", "import", "--trust", from_elsewhere)
    assert done.exit_code == 0
    assert done.stdout.splitlines()[-1] == "1 product added, 0 known; 0 raw frames new."
    assert "nirflow cal import --trust" not in done.stderr
    reported = json.loads(nirflow("cal", "show", "S20131120S0115_dark", "--json").stdout)
    assert (reported["product"]["status"], reported["product"]["provisional"]) == ("certified", None)
    assert reported["history"][-1]["author"] == "Ana (elsewhere)"
    assert reported["proposals"] == []
