"""The store during a night: users' decisions, repeated choices, and failures in the middle of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from night_lab import Lab, Run, link
from sqlalchemy import text
from waiting import PATIENCE, wait_until

from calib_store.curation.certify import certify, reinstate, reject
from calib_store.curation.verify import verify
from calib_store.model.records import Product
from imaging.errors import NirflowError
from imaging.products.product_file import datasums
from imaging.simulator.parameters import NightParameters
from imaging.simulator.simulate import simulate_night
from imaging.simulator.truth import NightTruth

WHO = {"author": "Ana", "reason": "for the test"}


@pytest.fixture(scope="session")
def other_night(tmp_path_factory: pytest.TempPathFactory, night: NightTruth) -> Callable[..., NightTruth]:
    """Simulate a night like the small one, of the same array by default."""

    def make(**changes: Any) -> NightTruth:
        given = night.parameters.model_dump() | {"detector_seed": night.parameters.seed, "stale_wcs": None}
        given |= changes
        return simulate_night(tmp_path_factory.mktemp("other"), NightParameters(**given))

    return make


def clock(lab: Lab) -> Any:
    """Return the database's time, apart from what comes before and after."""
    time.sleep(0.01)
    with lab.store().database.begin() as connection:
        now = connection.scalar(text("SELECT clock_timestamp()"))
    time.sleep(0.01)
    return now


def product(lab: Lab, run: Run, kind: str) -> Product:
    found: Product = lab.store().get(run.product(kind).id)
    return found


# Rejections, and what is redone


def test_a_rejected_frame_and_what_was_made_with_it(known_lab: Lab, reduced: Run, night: NightTruth) -> None:
    store = known_lab.store()
    bad = store.frames.get(night.of_role("dark")[1].root)
    old = {kind: product(known_lab, reduced, kind) for kind in reduced.kinds()}
    assert {p.kind for p in store.affected(bad)} == {"dark", "image"}
    with pytest.raises(NirflowError, match="neither rejected nor superseded"):
        known_lab.reduce(affected_by=bad.name)
    reject(store, bad, **WHO)
    again = known_lab.reduce(out="again", affected_by=bad.name)
    assert again.report.failures == ()
    assert again.kinds() == ["dark", "image"]
    assert len(again.product("dark").inputs) == len(reduced.product("dark").inputs) - 1
    assert "rejected by Ana" in again.reason(bad.name)
    assert {(one.old.split()[0], one.new.split()[0]) for one in again.report.replaced} == {
        (old[kind].name, again.product(kind).name) for kind in ("dark", "image")
    }
    assert store.get(old["dark"].id).status == store.get(old["image"].id).status == "superseded"
    assert "is made without it" in store.history(old["image"])[-1].reason
    assert bad.sha256 not in store.lineage(product(known_lab, again, "image")).frames
    with pytest.raises(NirflowError, match="No valid product was made with"):
        known_lab.reduce(affected_by=bad.name)
    # Reducing the complete night, as if for the first time, gives the same.
    complete = known_lab.reduce(night.folder.parent, out="complete")
    assert complete.built == {}
    assert complete.product("image").id == again.product("image").id


def test_a_certified_master_with_a_rejected_frame_is_replaced(
    known_lab: Lab, reduced: Run, night: NightTruth, caplog: pytest.LogCaptureFixture
) -> None:
    """A certified product is preferred to a candidate, but not to the one made again in its place."""
    store = known_lab.store()
    old = certify(store, product(known_lab, reduced, "dark"), **WHO)
    bad = store.frames.get(night.of_role("dark")[1].root)
    reject(store, bad, **WHO)
    again = known_lab.reduce(out="again", affected_by=bad.name)
    assert again.report.failures == ()
    new = product(known_lab, again, "dark")
    assert again.product("image").calibrations[0] == new.name
    assert not again.product("image").reused
    assert bad.sha256 not in store.lineage(product(known_lab, again, "image")).frames
    assert store.get(old.id).status == "superseded"
    assert f"was certified; examine {new.name_and_id}, then certify it" in caplog.text


def test_a_rejected_dark_is_replaced_by_the_next_best(
    known_lab: Lab, reduced: Run, night: NightTruth, other_night: Callable[..., NightTruth]
) -> None:
    later = other_night(seed=8, days=3, n_science=0, n_short_darks=0, n_lamp_on=0, n_lamp_off=0)
    second = known_lab.reduce(later.folder.parent, out="later")
    store = known_lab.store()
    bad = reject(store, product(known_lab, reduced, "dark"), **WHO)
    again = known_lab.reduce(out="again", affected_by=str(bad.id))
    assert again.kinds() == ["image"]
    assert again.report.failures == ()
    used = {e.input_product_id for e in store.lineage(product(known_lab, again, "image")).edges}
    assert product(known_lab, second, "dark").id in used
    assert bad.id not in used
    # Its own night does not make it again either: it reports so and uses the next best.
    complete = known_lab.reduce(night.folder.parent, out="complete")
    assert "was rejected by Ana" in complete.failure("dark 120 s")
    assert f"nirflow cal reinstate {str(bad.id)[:8]}" in complete.failure("dark 120 s")
    assert complete.product("image").id == again.product("image").id
    reinstate(store, store.get(bad.id), **WHO)
    assert known_lab.reduce(night.folder.parent, out="complete").report.failures == ()


def test_a_redo_takes_frames_from_where_they_are_now(lab: Lab, night: NightTruth, tmp_path: Path) -> None:
    home = link(night.raw_paths(), tmp_path / "home")
    first = lab.reduce(home)
    store = lab.store()
    reject(store, product(lab, first, "dark"), **WHO)
    shutil.move(home, tmp_path / "away")
    lost = lab.reduce(out="lost", affected_by=first.product("dark").id)
    assert "is no longer where it was seen" in lost.reason(night.science[0].root + ".fits")
    found = lab.reduce(
        tmp_path / "away",
        out="found",
        affected_by=first.product("dark").id,
        choice={"allow_missing": ["dark"]},
    )
    assert found.kinds() == ["image"]
    assert found.report.left_out == ()


def test_an_unknown_name(lab: Lab, night: NightTruth) -> None:
    with pytest.raises(NirflowError, match="no product and no raw frame 'S1'"):
        lab.reduce(affected_by="S1")


# Choices of another time


def test_choices_and_pixels_of_a_past_month_are_reproduced(
    known_lab: Lab, reduced: Run, night: NightTruth, other_night: Callable[..., NightTruth]
) -> None:
    """Promise 5: newer calibrations arrived, one was certified and the old one rejected; as of the earlier
    moment, all is unchanged.
    """
    science = link(
        [p for p in night.raw_paths() if p.stem in {f.root for f in night.science}], known_lab.folder / "sci"
    )
    then = clock(known_lab)
    # Nearer in time, and better by every user decision.
    newer = other_night(seed=9, n_science=0, n_darks=5)
    known_lab.reduce(newer.folder.parent, out="newer", steps={"flat": {"low": 2.9}})
    store = known_lab.store()
    for kind in ("dark", "flat", "bpm"):
        best = [p for p in store.products(kind) if p.made_at > then]
        certify(store, best[0], despite_gate=True, **WHO)
    reject(store, product_used(known_lab, reduced, "dark"), **WHO)
    now = known_lab.reduce(science, out="now")
    assert now.product("image").id != reduced.product("image").id
    used = [{p.id for p in calibrations_of(known_lab, run)} for run in (reduced, now)]
    assert used[0].isdisjoint(used[1])
    old = known_lab.reduce(science, out="old", as_of=then)
    assert old.report.failures == ()
    assert old.built == {}
    assert old.product("image").id == reduced.product("image").id
    # Not only found but made again, by a store that lost the image and all intermediate data.
    shutil.rmtree(known_lab.data / "scratch")
    known_lab.object_of(reduced.product("image")).unlink()
    rebuilt = known_lab.reduce(science, out="rebuilt", as_of=then)
    assert rebuilt.built["image"] == 1
    assert datasums(rebuilt.product("image").output) == datasums(reduced.product("image").output)
    with store.database.begin() as connection:
        decided = connection.execute(text("SELECT DISTINCT as_of FROM decisions")).scalars().all()
    assert set(decided) == {None, then}


def test_a_night_as_of_a_time_before_a_rejection(known_lab: Lab, reduced: Run, night: NightTruth) -> None:
    then = clock(known_lab)
    store = known_lab.store()
    reject(store, product(known_lab, reduced, "dark"), **WHO)
    reject(store, store.frames.get(night.of_role("lamp_on")[0].root), **WHO)
    changed = known_lab.reduce(night.folder.parent, out="changed")
    assert changed.report.failures != ()
    again = known_lab.reduce(night.folder.parent, out="again", as_of=then)
    assert again.report.failures == again.report.left_out == ()
    assert {p.id for p in again.report.products} == {p.id for p in reduced.report.products}


def calibrations_of(lab: Lab, run: Run) -> list[Product]:
    store = lab.store()
    edges = store.lineage(product(lab, run, "image")).edges
    return [store.get(e.input_product_id) for e in edges if e.depth == 1 and e.input_product_id]


def product_used(lab: Lab, run: Run, kind: str) -> Product:
    (found,) = [p for p in calibrations_of(lab, run) if p.kind == kind]
    return found


# The comparison in a night


def test_masters_of_the_same_array_pass_and_are_certified_on_request(
    known_lab: Lab, reduced: Run, night: NightTruth, other_night: Callable[..., NightTruth]
) -> None:
    store = known_lab.store()
    for kind in ("dark", "bpm", "flat"):
        old = product(known_lab, reduced, kind)
        assert old.gate["passed"] is None
        certify(store, old, end=old.middle + timedelta(days=15), **WHO)
    later = other_night(seed=8, days=30, n_science=0)
    second = known_lab.reduce(
        later.folder.parent, out="later", only=("flat", "dark"), steps={"gate": {"certify": True}}
    )
    assert [w for p in second.report.products for w in p.warnings if "differs" in w] == []
    for kind in ("dark", "bpm", "flat"):
        new, old = product(known_lab, second, kind), product(known_lab, reduced, kind)
        assert new.gate["passed"] is True, (kind, new.gate)
        assert (new.status, old.status) == ("certified", "certified")
        # A product certified by the user keeps its validity.
        assert old.validity[1] == new.validity[0] == old.middle + timedelta(days=15)
        assert store.history(new)[-1].author == "gate"


def test_a_bad_master_stays_a_candidate_with_the_reason(
    known_lab: Lab, reduced: Run, night: NightTruth, other_night: Callable[..., NightTruth]
) -> None:
    store = known_lab.store()
    certify(store, product(known_lab, reduced, "dark"), **WHO)
    leaking = other_night(
        seed=8, days=10, dark_current=1.5, n_science=0, n_short_darks=0, n_lamp_on=0, n_lamp_off=0
    )
    second = known_lab.reduce(leaking.folder.parent, out="leak", steps={"gate": {"certify": True}})
    bad = product(known_lab, second, "dark")
    assert (bad.status, bad.gate["passed"]) == ("candidate", False)
    assert any("the level is" in warning for warning in second.product("dark").warnings)


# Objects elsewhere


def test_a_night_with_its_objects_on_s3(
    lab: Lab, reduced: Run, night: NightTruth, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = f"s3://observatory/{uuid.uuid4().hex}"
    monkeypatch.setenv("NIRFLOW_OBJECTS_URL", place)
    run = lab.reduce(night.folder.parent)
    assert run.report.failures == ()
    assert lab.store().objects.place == place
    assert not (lab.data / "objects").exists()
    for one in run.report.products:
        assert one.output is not None
        assert datasums(one.output) == datasums(reduced.product(one.kind).output)
    assert verify(lab.store()).well
    # Another machine has no copies and makes nothing again.
    shutil.rmtree(lab.data / "cache")
    again = lab.reduce(night.folder.parent, out="again")
    assert again.built == {}
    assert {p.id for p in again.report.products} == {p.id for p in run.report.products}


# Trouble


@pytest.fixture
def own_services(tmp_path: Path) -> Iterator[tuple[Path, Callable[..., subprocess.Popen[str]]]]:
    """Yield a data folder with its own services, which may be stopped, and reductions into it."""
    data = tmp_path / "own"
    nirflow = Path(sys.executable).with_name("nirflow")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("NIRFLOW_", "PREFECT_"))}
    environment = kept | {"NIRFLOW_DATA_DIR": str(data), "NIRFLOW_SERVER_PORT": "0"}

    def start(*arguments: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [nirflow, *map(str, arguments)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    assert _ended(start("server", "start"))[0] == 0
    yield data, start
    _ended(start("server", "stop"))


def _ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out + err


@pytest.mark.long
def test_the_database_is_stopped_and_started_in_the_middle_of_a_night(
    own_services: tuple[Path, Callable[..., subprocess.Popen[str]]], night: NightTruth, tmp_path: Path
) -> None:
    """The night completes; nothing is lost or made twice."""
    from calib_store.server import postgres

    data, start = own_services
    process = start("reduce", night.folder.parent, "--out", tmp_path / "out", "--set", "check.shape=none")
    log = tmp_path / "out" / "nirflow.log"
    wait_until(
        lambda: (
            (log.is_file() and "started" in log.read_text())
            or list((data / "objects").glob("*/*.fits"))
            or process.poll() is not None
        ),
        "the first product",
    )
    assert process.poll() is None
    postgres.stop(data)
    threading.Timer(2.0, lambda: postgres.ensure_running(data)).start()
    code, out = _ended(process)
    assert code == 0, out
    assert "4 made, 0 reused, 0 failed" in out
    assert "does not answer" in log.read_text()
    again = start("reduce", night.folder.parent, "--out", tmp_path / "out", "--set", "check.shape=none")
    assert "0 made, 4 reused, 0 failed" in _ended(again)[1]
    assert _ended(start("cal", "verify"))[0] == 0


@pytest.mark.long
def test_a_full_disk_is_reported_and_leaves_nothing_incomplete(
    lab: Lab, reduced: Run, night: NightTruth, tmp_path: Path
) -> None:
    """A real one: a small file system of its own for the objects, seen by one process only."""
    small, script = tmp_path / "small", tmp_path / "run.sh"
    small.mkdir()
    size = sum(p.output.stat().st_size for p in reduced.report.products if p.kind != "image")
    script.write_text(
        f"mount -t tmpfs -o size={size} none {small} || exit 99\n"
        f"export NIRFLOW_OBJECTS_URL={small}/objects\n"
        '"$@"; code=$?\n'
        f'"$0" cal verify --json > {tmp_path}/verify.json\n'
        f"find {small} -name '.*' -type f > {tmp_path}/left.txt\n"
        "exit $code\n"
    )
    nirflow = Path(sys.executable).with_name("nirflow")
    alone = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
    command = [nirflow, "reduce", night.folder.parent, "--out", tmp_path / "out", "--set", "check.shape=none"]
    done = subprocess.run(
        [*alone, "bash", "-c", f'source {script}', nirflow, *map(str, command)],
        env=lab.environment(), capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 4, done.stdout + done.stderr
    assert "No space left on device" in done.stdout
    assert "has room" in done.stdout
    reported = json.loads((tmp_path / "verify.json").read_text())
    assert (reported["well"], reported["findings"]) == (True, [])
    assert reported["checked"] < 4
    assert (tmp_path / "left.txt").read_text() == ""
    # The small file system is gone with its content. Another folder is not accepted in its place silently.
    roomy = lab.environment() | {"NIRFLOW_OBJECTS_URL": str(tmp_path / "roomy")}
    elsewhere = subprocess.run(
        list(map(str, command)), env=roomy, check=False, capture_output=True, text=True, timeout=PATIENCE
    )
    assert elsewhere.returncode == 1
    assert "holds no file of any product: this store's files" in elsewhere.stdout
    repair = [nirflow, "cal", "verify", "--repair"]
    unconfirmed = subprocess.run(repair, env=roomy, check=False, capture_output=True, text=True)
    assert unconfirmed.returncode == 1
    confirmation = f"--note-lost {reported['checked']}"
    assert confirmation in unconfirmed.stderr
    subprocess.run([*repair, *confirmation.split()], env=roomy, check=False, capture_output=True)
    # With free space the night continues from there.
    subprocess.run(list(map(str, command)), env=roomy, check=True, capture_output=True, timeout=PATIENCE)
