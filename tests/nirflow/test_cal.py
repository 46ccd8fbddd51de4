from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from astropy.io import fits
from typer.testing import Result

if TYPE_CHECKING:
    from calib_store.settings import StoreSettings

Run = Callable[..., Result]


@pytest.fixture
def own_store(store_settings: StoreSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Point the command line at the test's own store."""
    assert store_settings.database_url is not None
    monkeypatch.setenv("NIRFLOW_DATA_DIR", str(store_settings.data_dir))
    monkeypatch.setenv("NIRFLOW_DATABASE_URL", store_settings.database_url.get_secret_value())


@pytest.fixture
def master_dark(tmp_path: Path, frame_writer: Callable[..., Path]) -> Path:
    """A processed dark with the headers of a raw one."""
    raw = frame_writer(tmp_path / "S20131120S0115.fits", OBSTYPE="DARK", FILTER2="DK_G0807")
    path = tmp_path / "S20131120S0115_dark.fits"
    primary = fits.PrimaryHDU(header=fits.getheader(raw))
    primary.header["PROCDARK"] = "2026-01-01T00:00:00"
    plane = np.ones((8, 8), np.float32)
    planes = [fits.ImageHDU(plane, name=name) for name in ("SCI", "VAR")]
    fits.HDUList([primary, *planes, fits.ImageHDU(plane.astype(np.uint16), name="DQ")]).writeto(path)
    return path


def one_product(nirflow: Run) -> dict[str, Any]:
    (product,) = json.loads(nirflow("cal", "list", "--json").stdout)
    return dict(product)


@pytest.mark.usefixtures("own_store")
def test_an_empty_store_lists_nothing(nirflow: Run) -> None:
    result = nirflow("cal", "list")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "no such product" in result.stderr


@pytest.mark.usefixtures("own_store")
def test_a_product_goes_in_is_shown_and_comes_out_the_same(
    nirflow: Run, master_dark: Path, tmp_path: Path
) -> None:
    added = nirflow("cal", "add", master_dark)
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
    told = json.loads(nirflow("cal", "show", product["id"], "--json").stdout)
    assert (told["product"]["status"], told["lineage"]) == ("candidate", [])
    (tmp_path / "copies").mkdir()
    got = nirflow("cal", "get", product["id"], "--out", tmp_path / "copies")
    assert got.exit_code == 0
    assert (tmp_path / "copies" / master_dark.name).read_bytes() == master_dark.read_bytes()


@pytest.mark.usefixtures("own_store")
def test_get_replaces_a_file_only_when_told(nirflow: Run, master_dark: Path, tmp_path: Path) -> None:
    nirflow("cal", "add", master_dark)
    copy = tmp_path / "copy.fits"
    copy.write_text("mine")
    refused = nirflow("cal", "get", master_dark.name, "--out", copy)
    assert refused.exit_code == 2
    assert copy.read_text() == "mine"
    assert nirflow("cal", "get", master_dark.name, "--out", copy, "--overwrite").exit_code == 0
    assert copy.read_bytes() == master_dark.read_bytes()


@pytest.mark.usefixtures("own_store")
def test_add_takes_what_it_can_and_names_what_it_refuses(
    nirflow: Run, master_dark: Path, tmp_path: Path
) -> None:
    raw = tmp_path / "S20131120S0115.fits"
    result = nirflow("cal", "add", raw, master_dark)
    assert result.exit_code == 4
    assert "S20131120S0115.fits: not a product" in result.stderr
    assert one_product(nirflow)["name"] == master_dark.name
    alone = nirflow("cal", "add", raw, "--json")
    assert alone.exit_code == 1
    assert json.loads(alone.stdout)["refused"][0]["file"] == str(raw)


@pytest.mark.usefixtures("own_store")
@pytest.mark.parametrize("command", ["show", "get"])
def test_an_unknown_product_is_named_with_what_to_do(nirflow: Run, command: str) -> None:
    result = nirflow("cal", command, "S1_dark.fits")
    assert (result.exit_code, result.stdout) == (1, "")
    error, remedy = result.stderr.splitlines()
    assert error == "Error: The store has no product 'S1_dark.fits'."
    assert "nirflow cal list" in remedy
