"""Many processes, and killed processes: nothing is built twice, lost, or incomplete."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
import store_worker
from sqlalchemy import text
from waiting import PATIENCE

from calib_store.curation.verify import gc, remove, verify
from calib_store.exchange.adopt import adopt
from calib_store.model.settings import StoreSettings
from calib_store.store import Store

#: Number of kills, and the seed of their times.
SHORT, LONG = 8, 150
SEED = 20131121


def start(settings: StoreSettings, folder: Path, *arguments: object) -> subprocess.Popen[str]:
    assert settings.database_url is not None
    url = settings.database_url.get_secret_value()
    command = [sys.executable, store_worker.__file__, settings.data_dir, url, folder, *arguments]
    return subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        cwd=Path(__file__).parents[2], env=os.environ | {"TMPDIR": str(folder)},
    )  # fmt: skip


def test_four_processes_want_the_same_eight_calibrations(
    store: Store, store_settings: StoreSettings, tmp_path: Path
) -> None:
    processes = [start(store_settings, tmp_path, seed, "all") for seed in range(4)]
    outputs = [process.communicate(timeout=PATIENCE)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, outputs
    built = Counter(line.split()[0] for line in (tmp_path / "built.log").read_text().splitlines())
    assert built == Counter({str(n): 1 for n in range(store_worker.RECIPES)})
    assert len(store.products()) == store_worker.RECIPES
    assert verify(store).well


@pytest.mark.parametrize("kills", [SHORT, pytest.param(LONG, marks=pytest.mark.long)])
def test_kills_at_random_moments(
    store: Store, store_settings: StoreSettings, tmp_path: Path, kills: int
) -> None:
    """Promise 3."""
    done = start(store_settings, tmp_path, SEED, "soak", kills)
    output, _ = done.communicate()
    assert done.returncode == 0, output
    found = verify(store)
    assert found.checked >= store_worker.LEAST
    assert found.findings == ()
    # No row lacks its inputs, its log, or what it serves.
    with store.database.begin() as connection:
        for what in (
            "SELECT p.id FROM products p WHERE NOT EXISTS (SELECT FROM status_history h WHERE h.product_id = p.id)",
            "SELECT p.id FROM products p WHERE NOT EXISTS (SELECT FROM serves s WHERE s.product_id = p.id)",
            "SELECT p.id FROM products p WHERE algorithm_version = '1'"
            " AND NOT EXISTS (SELECT FROM inputs i WHERE i.product_id = p.id)",
            "SELECT p.id FROM products p JOIN LATERAL (SELECT status FROM status_history h WHERE h.product_id = p.id"
            " ORDER BY id DESC LIMIT 1) last ON true WHERE last.status <> p.status",
        ):
            assert connection.execute(text(what)).all() == [], what
    # A process that waits for a killed one's lock gets it at once, and makes the rest.
    for n in range(store_worker.SOAKED):
        store_worker.build(store, tmp_path, n)
    for file in sorted(tmp_path.glob("A*_dark.fits")):
        adopt(store, file)
    assert len(store.products()) == store_worker.SOAKED + store_worker.FILES
    none = timedelta(0)
    remove(store, gc(store, grace=none), grace=none)
    last = verify(store)
    assert (last.findings, last.orphans, last.leftovers) == ((), (), ())
