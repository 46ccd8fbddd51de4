"""Work on a store in a separate process: builds under the lock and additions of files, each with a log line.

Run as ``python store_worker.py DATA URL FOLDER SEED MODE``, where MODE is ``all`` (every recipe once) or
``soak KILLS`` (children that work endlessly, each killed at a random moment).
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from astropy.io import fits

from calib_store.exchange.adopt import adopt
from calib_store.model.records import FrameRecord, InputRef, recipe_key
from calib_store.model.settings import StoreSettings
from calib_store.store import Store
from calib_store.tables.products import NewProduct
from imaging.frames.facts import FrameFacts

STARTED = datetime(2013, 11, 21, 3, tzinfo=UTC)
RECIPES = 8
SOAKED = 200
#: Products that a soak has made, at least, when it ends.
LEAST = 11
#: Maximum lifetime of a process before it may be killed, on an otherwise idle machine, s.
LONGEST = 0.35
FILES = 40


def facts(n: int) -> FrameFacts:
    """Return the facts of the n-th frame: every fourth has another exposure time."""
    return FrameFacts(
        name=f"S{n}.fits", instrument="F2", kind="dark", observation_class="dayCal", target="Dark",
        exposure_time=60.0 * (1 + n % 4), coadds=1, read_pairs=8, filter_id="DK", filter="DK", lyot="f/16",
        focal_mask="Open", disperser="Open", detector="109", started=STARTED + timedelta(hours=n),
    )  # fmt: skip


def key(n: int) -> str:
    """Return the key of the n-th recipe."""
    return recipe_key("dark", [str(n)], {}, "1")


def build(store: Store, folder: Path, n: int, *, slow: float = 0.0) -> None:
    """Find the n-th product or build it from a raw frame and the previous product, if any."""
    with store.lock(key(n)):
        if store.find(key(n)) is not None:
            return
        with (folder / "built.log").open("a") as log:
            log.write(f"{n} {os.getpid()}\n")
        time.sleep(slow)
        raw = hashlib.sha256(f"raw {n}".encode()).hexdigest()
        store.frames.ingest([FrameRecord(folder / f"S{n}.fits", raw, 10, n, facts(n), {"N": n})])
        before = store.find(key(n - 1)) if n else None
        file = folder / f"building-{os.getpid()}.fits"
        file.write_bytes(hashlib.sha256(str(n).encode()).digest() * 5000)
        new = NewProduct(
            kind="dark", name=f"S{n}_dark.fits", facts=facts(n), span=(facts(n).started, facts(n).ended),
            inputs=[InputRef("dark", raw), *([InputRef("dark", before.id)] if before else [])],
            parameters={}, metrics={}, recipe_key=key(n), algorithm_version="1",
        )  # fmt: skip
        product = store.add(new, file, move=True)
        if n % 5 == 0:
            store.set_status(product, "rejected", author="worker", reason="every fifth")


def write_files(folder: Path) -> list[Path]:
    """Return files of products to add, as DRAGONS would have made them."""
    cards = {
        "INSTRUME": "F2", "OBSTYPE": "DARK", "OBSCLASS": "dayCal", "OBJECT": "Dark", "EXPTIME": 20.0,
        "COADDS": 1, "LNRS": 8, "NREADS": 8, "FILTER1": "DK_G0807", "FILTER2": "Open", "LYOT": "f/16",
        "MOSPOS": "Open", "GRISM": "Open", "DETID": "109", "DATE-OBS": "2013-11-20", "PROCDARK": "2026-01-01",
    }  # fmt: skip
    paths = []
    for n in range(FILES):
        primary = fits.PrimaryHDU()
        primary.header.update(cards | {"UTSTART": f"04:{n:02d}:00.0"})
        sci, var = np.full((64, 64), n, np.float32), np.ones((64, 64), np.float32)
        pixels = {"SCI": sci, "VAR": var, "DQ": np.zeros((64, 64), np.uint16)}
        planes = [fits.ImageHDU(plane, name=name) for name, plane in pixels.items()]
        path = folder / f"A{n}_dark.fits"
        fits.HDUList([primary, *planes]).writeto(path)
        paths.append(path)
    return paths


def work(settings: StoreSettings, folder: Path, seed: int, files: list[Path]) -> None:
    """Build and add at random endlessly."""
    rng = random.Random(seed)
    with Store.open(settings) as store:
        while True:
            with (folder / "steps.log").open("a") as log:
                log.write("another\n")
            if rng.random() < 0.3:
                adopt(store, rng.choice(files))
            else:
                build(store, folder, rng.randrange(SOAKED), slow=rng.random() * 0.01)


def soak(settings: StoreSettings, folder: Path, seed: int, kills: int) -> None:
    """Keep two children running and repeatedly kill one at a random moment."""
    rng = random.Random(seed)
    files = write_files(folder)

    def start() -> int:
        child = os.fork()
        if child == 0:
            try:
                work(settings, folder, rng.randrange(2**32), files)
            finally:
                os._exit(1)  # it never ends normally: an error shows as this code
        return child

    running = [start(), start()]
    longest, made = LONGEST, 0
    for _ in range(kills):
        time.sleep(rng.uniform(0.0, longest))
        victim = running.pop(rng.randrange(2))
        os.kill(victim, signal.SIGKILL)
        _, status = os.waitpid(victim, 0)
        assert os.WIFSIGNALED(status), f"a worker failed without being killed: {status}"
        rng.random()
        running.append(start())
        # If nothing was begun between two kills, the machine is busy and its processes need more time.
        now = (folder / "steps.log").stat().st_size if (folder / "steps.log").exists() else 0
        longest = longest * 1.5 if now == made else max(LONGEST, longest / 1.5)
        made = now
    # On a busy machine the kills may come faster than the products: the last two workers go on until there are enough.
    with Store.open(settings) as store:
        while len(store.products()) < LEAST:
            time.sleep(0.05)
    for victim in running:
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)


def main() -> None:
    """Run the requested mode."""
    data, url, folder, seed, mode, *more = sys.argv[1:]
    settings = StoreSettings(data_dir=Path(data), database_url=url)
    if mode == "soak":
        soak(settings, Path(folder), int(seed), int(more[0]))
        return
    order = list(range(RECIPES))
    random.Random(int(seed)).shuffle(order)
    with Store.open(settings) as store:
        for n in order:
            build(store, Path(folder), n, slow=0.05)


if __name__ == "__main__":
    main()
