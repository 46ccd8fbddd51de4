from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from waiting import PATIENCE, wait_until

from calib_store.model.settings import StoreSettings
from calib_store.store import Store, recipe_key
from imaging.errors import StoreError

OPEN = """
import os, signal, sys, time
from datetime import datetime, timedelta, UTC
from pathlib import Path
from calib_store.tables.products import NewProduct
from calib_store.model.settings import StoreSettings
from calib_store.store import Store, recipe_key
from imaging.frames.facts import FrameFacts
store = Store.open(StoreSettings(data_dir=Path(sys.argv[1]), database_url=sys.argv[2]))
folder = Path(sys.argv[3])
key = recipe_key("dark", [], {}, "1")
started = datetime(2013, 11, 21, 3, tzinfo=UTC)
facts = FrameFacts(
    name="S1.fits", instrument="F2", kind="dark", observation_class="dayCal", target="Dark",
    exposure_time=120.0, coadds=1, read_pairs=8, filter_id="DK", filter="DK", lyot="f/16",
    focal_mask="Open", disperser="Open", detector="109", started=started)
def add():
    file = folder / f"made-by-{os.getpid()}.fits"
    file.write_bytes(b"dark" * 100000)
    new = NewProduct(
        kind="dark", name="S1_dark.fits", facts=facts, span=(started, started + timedelta(minutes=1)),
        inputs=[], parameters={}, metrics={}, recipe_key=key, algorithm_version="1")
    return store.add(new, file)
"""


@pytest.fixture
def run(python, store_settings: StoreSettings, tmp_path: Path):
    def start(script: str):
        url = store_settings.database_url.get_secret_value()
        return python(OPEN + script, store_settings.data_dir, url, tmp_path)

    return start


def _wait_for(path: Path) -> None:
    wait_until(path.exists, str(path))


def test_one_recipe_is_built_once_by_several_processes(run, store: Store, tmp_path: Path) -> None:
    script = """
with store.lock(key):
    product = store.find(key)
    if product is None:
        time.sleep(0.2)
        product = add()
        print("built")
print(product.id)
"""
    processes = [run(script) for _ in range(4)]
    outputs = [process.communicate(timeout=PATIENCE)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, outputs
    assert sum("built" in output for output in outputs) == 1
    assert len({output.split()[-1] for output in outputs}) == 1
    assert len(list(tmp_path.glob("made-by-*"))) == 1
    assert store.find(recipe_key("dark", [], {}, "1")) is not None


def test_adding_without_the_lock_still_makes_one_product(run, store: Store) -> None:
    processes = [run("print(add().id)") for _ in range(4)]
    outputs = [process.communicate(timeout=PATIENCE)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, outputs
    assert len(set(outputs)) == 1
    assert len(store.products()) == 1


def test_a_lock_is_released_after_a_kill(run, store: Store, tmp_path: Path) -> None:
    holder = run("with store.lock(key):\n    (folder / 'held').touch()\n    time.sleep(3600)\n")
    _wait_for(tmp_path / "held")
    waited = []
    key = recipe_key("dark", [], {}, "1")
    waiter = run("(folder / 'asking').touch()\nwith store.lock(key):\n    print('got it')\n")
    _wait_for(tmp_path / "asking")
    with pytest.raises(TimeoutError), store.lock(key, waiting=lambda: (_ for _ in ()).throw(TimeoutError)):
        waited.append("never")
    assert waited == []
    os.kill(holder.pid, signal.SIGKILL)
    output, _ = waiter.communicate(timeout=PATIENCE)
    assert output.strip() == "got it"
    with store.lock(key):
        pass


def test_a_wait_for_a_lock_can_be_interrupted(run, store: Store, tmp_path: Path) -> None:
    key = recipe_key("dark", [], {}, "1")
    with store.lock(key):
        waiter = run(
            # A process started in the background of a shell inherits the ignored signal.
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "def report_waiting():\n    (folder / 'waiting').touch()\n"
            "try:\n    with store.lock(key, waiting=report_waiting):\n        print('got it')\n"
            "except KeyboardInterrupt:\n    print('interrupted')\n"
        )
        _wait_for(tmp_path / "waiting")
        time.sleep(1.2)  # longer than one interval of the wait
        assert waiter.poll() is None
        os.kill(waiter.pid, signal.SIGINT)
        output, _ = waiter.communicate(timeout=PATIENCE)
    assert output.strip() == "interrupted"


def test_other_recipes_do_not_wait_and_errors_release_the_lock(store: Store) -> None:
    one, two = (recipe_key("dark", [], {}, version) for version in "12")
    with store.lock(one), store.lock(two, waiting=lambda: pytest.fail("had to wait")):
        pass
    with pytest.raises(StoreError, match="mine"), store.lock(one):
        raise StoreError("mine")
    with store.lock(one, waiting=lambda: pytest.fail("had to wait")):
        pass


@pytest.mark.parametrize("moment", ["before file", "before row", "before commit", "after commit"])
def test_kill_leaves_no_row_without_a_file(run, store: Store, moment: str) -> None:
    """Promise 3, at each step of adding a product."""
    killer = {
        "before file": "from calib_store.files import local_objects\nlocal_objects.os.fsync = die\n",
        "before row": "from calib_store.tables import products\nproducts.add = die\n",
        "before commit": "from calib_store.tables import products\nproducts.log_status = die\n",
        "after commit": "from calib_store.tables import products\n",
    }[moment]
    process = run("def die(*a, **k):\n    os.kill(os.getpid(), signal.SIGKILL)\n" + killer + "add()\ndie()\n")
    process.communicate(timeout=PATIENCE)
    assert process.returncode == -signal.SIGKILL
    for product in store.products():
        assert store.objects.verify(product.sha256)
    assert len(store.products()) == (1 if moment == "after commit" else 0)
    # The next run completes.
    again = run("with store.lock(key):\n    print((store.find(key) or add()).id)\n")
    output, _ = again.communicate(timeout=PATIENCE)
    assert again.returncode == 0, output
    assert len(store.products()) == 1
    assert store.find(recipe_key("dark", [], {}, "1")) is not None


def test_processes_that_ingest_the_same_night_in_other_orders(run, store: Store) -> None:
    script = """
import hashlib, random
from calib_store.model.records import FrameRecord
night = [
    FrameRecord(folder / f"S{i}.fits", hashlib.sha256(b"%d" % i).hexdigest(), 1, 1, facts, {"I": i})
    for i in range(60)
]
for turn in range(5):
    random.shuffle(night)
    store.frames.ingest(night)
"""
    processes = [run(script) for _ in range(3)]
    outputs = [process.communicate(timeout=PATIENCE)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 3, outputs
