"""Functions of the user's own at each point of a reduction: called, recorded, reused, refused, and never in the way."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from night_lab import Lab, Run
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from waiting import wait_until

from calib_store.curation.certify import reinstate, reject
from flows.page.collect import collect_night
from flows.page.write import write_night_page
from imaging.io.planes import open_if_intact
from imaging.own_steps import identity
from imaging.pixels.dq import DQ
from imaging.products.product_file import read_product
from imaging.simulator.truth import NightTruth

pytestmark = pytest.mark.long

#: A package of a user, which is neither installed nor known to any test.
SOURCE = '''
"""Steps of an observatory."""
import time
import numpy as np

def add(ccd, electrons=0.0):
    """Add a constant."""
    ccd.data += electrons
    return ccd

def mask_corner(ccd, size=8, mask=None, noise=0.0):
    """Mask a corner; mask and noise come from nirflow."""
    assert mask is None or (mask.shape == ccd.shape and mask.dtype == bool)
    assert noise >= 0
    ccd.mask = ccd.mask.copy()
    ccd.mask[:size, :size] = True
    return ccd

def fail_for(ccd, name=""):
    """Fail for one frame."""
    if name in ccd.header["DATALAB"]:
        raise RuntimeError("no light")
    return ccd

def scale(ccd, factor=1.0, table=None):
    """Multiply with a factor, also from a file."""
    factor = float(table.read_text()) if table is not None else factor
    return ccd.multiply(factor, handle_meta="first_found", handle_mask="first_found")

def level_of(ccd, other=None):
    """Set the level to that of another image."""
    ccd.data += np.median(other.data[~other.mask]) - np.median(ccd.data[~ccd.mask])
    return ccd

def without_uncertainty(ccd):
    return type(ccd)(ccd.data, unit=ccd.unit, wcs=ccd.wcs, mask=ccd.mask)
'''


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("own") / "packages"
    module = folder / "obspkg" / "steps.py"
    module.parent.mkdir(parents=True)
    (module.parent / "__init__.py").write_text("")
    module.write_text(textwrap.dedent(SOURCE))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield module
    for name in [name for name in sys.modules if name.partition(".")[0] == "obspkg"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def own_lab(modules_known_lab: Lab) -> Lab:
    """A lab with the night reduced without own steps."""
    return modules_known_lab


def reduce(lab: Lab, night: NightTruth, out: str, **steps: Any) -> Run:
    return lab.reduce(night.folder.parent, out=out, steps={"steps": steps})


def history(path: Path) -> dict[str, Any]:
    rows = fits.getdata(path, "HISTORY")
    name, values = rows.columns.names[:2]
    return {str(row[name]): json.loads(row[values]) for row in rows}


def test_functions_at_every_point_are_called_recorded_and_shown(
    own_lab: Lab, night: NightTruth, package: Path, tmp_path: Path
) -> None:
    plain = own_lab.reduce(night.folder.parent, out="plain")
    run = reduce(
        own_lab, night, "all",
        after_detrend=["obspkg.steps:add(electrons=1000)", "obspkg.steps:mask_corner(mask=@bpm, noise=@read_noise)"],
        before_sky=["obspkg.steps:mask_corner(size=4, mask=@object_mask)"],
        before_stack=[{"function": "obspkg.steps:mask_corner", "arguments": {"size": 12}, "bit": 8}],
        after_stack=["obspkg.steps:scale(factor=2.0)"],
    )  # fmt: skip
    image, before = run.product("image"), plain.product("image")
    n = len(night.science)
    assert {name: run.built[name] for name in ("after_detrend", "before_sky", "before_stack")} == {
        "after_detrend": n, "before_sky": n, "before_stack": n,
    }  # fmt: skip
    assert before.reused
    assert not image.reused
    assert image.recipe_key != before.recipe_key
    assert image.output is not None
    assert before.output is not None
    new, old = read_product(image.output), read_product(before.output)
    # The constant is part of the sky, and the factor of the stack.
    both = (new.dq == 0) & (old.dq == 0)
    assert np.median(new.sci[both] - 2 * old.sci[both]) == pytest.approx(0, abs=3)
    assert np.median(new.var[both] / old.var[both]) == pytest.approx(4, rel=0.1)
    header = fits.getheader(image.output)
    assert [str(header[f"NFSTEP{i}"]).split(" [")[0] for i in range(1, 6)] == [
        "after_detrend: obspkg.steps:add(electrons=1000)",
        "after_detrend: obspkg.steps:mask_corner(mask=@bpm, noise=@read_noise)",
        "before_sky: obspkg.steps:mask_corner(size=4, mask=@object_mask)",
        "before_stack: obspkg.steps:mask_corner(size=12)",
        "after_stack: obspkg.steps:scale(factor=2.0)",
    ]
    recorded = history(image.output)["own_steps"]
    assert recorded["before_stack"][0]["bit"] == 8
    assert recorded["after_detrend"][0]["bit"] == 1
    assert len(recorded["after_stack"][0]["source"]) == 64
    assert recorded["after_stack"][0]["arguments"] == {"factor": 2.0}
    assert run.product("dark").reused
    assert run.product("flat").reused
    names = {f"{step} {one.file}" for one in night.science for step in ("add, mask_corner", "mask_corner")}
    label = image.label
    wait_until(
        lambda: task_names(run) >= names | {f"scale {label}", f"own steps of {label}"}, "the task runs"
    )
    page = collect_night(own_lab.store(), _night(run))
    (shown,) = [one for one in page.products if str(one.id) == image.id]
    assert [text.split(" [")[0] for text in shown.own_steps][
        -1
    ] == "after_stack: obspkg.steps:scale(factor=2.0)"
    html = write_night_page(own_lab.store(), _night(run), tmp_path).read_text()
    assert "Own step after_stack: obspkg.steps:scale(factor=2.0) [source " in html


def task_names(run: Run) -> set[str]:
    """Return the names of the finished tasks of a run in the Prefect UI."""
    by_name = FlowRunFilter.model_validate({"name": {"any_": [run.report.flow_run]}})
    with get_client(sync_client=True) as client:
        last = max(client.read_flow_runs(flow_run_filter=by_name), key=lambda one: one.created)
        of_run = FlowRunFilter.model_validate({"id": {"any_": [last.id]}})
        found = client.read_task_runs(flow_run_filter=of_run)
    return {one.name for one in found if one.state is not None and one.state.is_completed()}


def _night(run: Run) -> Any:
    from datetime import date

    return date.fromisoformat(run.product("image").label.split()[-1])


def test_products_made_again_keep_their_own_steps(own_lab: Lab, night: NightTruth, package: Path) -> None:
    store, steps = own_lab.store(), {"after_detrend": ["obspkg.steps:add(electrons=22)"]}
    bad = store.frames.get(night.science[3].root)
    reject(store, bad, author="Ana", reason="clouds")
    again = own_lab.reduce(night.folder.parent, out="again", affected_by=bad.name, steps={"steps": steps})
    reinstate(store, store.frames.get(night.science[3].root), author="Ana", reason="no clouds")
    products = [store.get(one.id) for one in again.report.products if one.kind == "image"]
    own = [sorted(product.parameters.get("own_steps", {})) for product in products]
    # Those of the run are not called for products that are made again.
    assert sorted(own) == [[], ["after_detrend", "after_stack", "before_sky", "before_stack"]]
    called = [p.parameters["steps"]["after_detrend"] for p in products if "own_steps" in p.parameters]
    assert called[0][0]["arguments"] == {"electrons": 1000}
    assert len(again.report.replaced) == 2


def test_the_same_steps_are_reused_and_others_are_not(own_lab: Lab, night: NightTruth, package: Path) -> None:
    first = reduce(own_lab, night, "first", after_detrend=["obspkg.steps:add(electrons=5)"])
    again = reduce(own_lab, night, "again", after_detrend=["obspkg.steps:add(electrons=5)"])
    other = reduce(own_lab, night, "other", after_detrend=["obspkg.steps:add(electrons=6)"])
    assert again.product("image").id == first.product("image").id
    assert again.product("image").reused
    assert other.product("image").id != first.product("image").id
    assert other.count("reused")["detrend"] == len(night.science)
    assert other.built["after_detrend"] == len(night.science)


def test_another_source_makes_products_again(
    own_lab: Lab, night: NightTruth, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = reduce(own_lab, night, "first", after_stack=["obspkg.steps:add(electrons=7)"])
    text = package.read_text()
    package.write_text(text.replace("ccd.data += electrons", "ccd.data += electrons + 100"))
    # This process has the previous source in memory: what runs is not what would be recorded.
    stale = reduce(own_lab, night, "stale", after_stack=["obspkg.steps:add(electrons=7)"])
    assert "The source of obspkg has changed since this process imported it." in stale.failure("")
    for name in [name for name in sys.modules if name.partition(".")[0] == "obspkg"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(identity._seen, "obspkg")
    import_module("obspkg.steps")
    second = reduce(own_lab, night, "second", after_stack=["obspkg.steps:add(electrons=7)"])
    package.write_text(text)
    monkeypatch.undo()
    identity._seen.pop("obspkg", None)
    assert not second.product("image").reused
    assert second.product("image").id != first.product("image").id


def test_a_frame_whose_step_fails_is_left_out_and_named(
    own_lab: Lab, night: NightTruth, package: Path
) -> None:
    bad = night.science[1]
    label = fits.getheader(night.folder.parent / bad.file)["DATALAB"]
    for point in ("after_detrend", "before_stack"):
        run = reduce(own_lab, night, f"bad-{point}", **{point: [f"obspkg.steps:fail_for(name={label!r})"]})
        image = run.product("image")
        assert bad.file not in image.inputs
        assert len(image.inputs) == len(night.science) - 1
        assert "the step fail_for failed with RuntimeError: no light" in run.reason(bad.file)
        assert run.report.incomplete


def test_a_step_that_returns_no_uncertainty_or_is_missing_fails_the_stack_and_nothing_else(
    own_lab: Lab, night: NightTruth, package: Path
) -> None:
    run = reduce(own_lab, night, "unfit", after_stack=["obspkg.steps:without_uncertainty"])
    assert "the step without_uncertainty returned no uncertainty" in run.failure("")
    assert "flat" in run.kinds()
    missing = reduce(own_lab, night, "missing", after_stack=["nopkg.steps:f"])
    assert "cannot be imported: ModuleNotFoundError: No module named 'nopkg'" in missing.failure("")
    assert "flat" in missing.kinds()
    assert "image" not in missing.kinds()


def test_the_content_of_a_file_is_part_of_the_identity(
    own_lab: Lab, night: NightTruth, package: Path, tmp_path: Path
) -> None:
    table = tmp_path / "factor.txt"
    made = []
    for text in ("1.5", "1.5\n"):
        table.write_text(text)
        made.append(
            reduce(
                own_lab,
                night,
                "file",
                after_stack=[f"obspkg.steps:scale(table=@{table})"],
            )
        )
    assert len({run.product("image").id for run in made}) == 2


def test_a_product_that_an_argument_names_is_an_ancestor(
    own_lab: Lab, night: NightTruth, package: Path, tmp_path: Path
) -> None:
    store = own_lab.store()
    first = own_lab.reduce(night.folder.parent, out="plain").product("image")
    copied = tmp_path / "elsewhere.fits"
    copied.write_bytes(store.file_of(store.get(first.id)).read_bytes())
    for argument in (first.id, copied):  # a file is recognised by its content
        own = {"after_stack": [f"obspkg.steps:level_of(other=@{argument})"]}
        run = reduce(own_lab, night, "named", **own)
        assert first.id in {str(ref.source) for ref in store.inputs_of(store.get(run.product("image").id))}
    reject(store, store.get(first.id), author="Ana", reason="clouds")
    again = own_lab.reduce(night.folder.parent, out="named", affected_by=first.id)
    assert {one.old.split()[0] for one in again.report.kept} == {first.name}
    refused = reduce(own_lab, night, "named", **own)
    reinstate(store, store.get(first.id), author="Ana", reason="no clouds")
    assert f"{first.name}, which the step obspkg.steps:level_of uses, was rejected" in refused.failure("")


def test_cosmic_rays_are_found_by_ccdproc(own_lab: Lab, night: NightTruth) -> None:
    arguments = "readnoise=@read_noise, gain=@gain, satlevel=@saturation, niter=1"
    run = reduce(own_lab, night, "rays", after_detrend=[f"ccdproc:cosmicray_lacosmic({arguments})"])
    image = run.product("image")
    assert image.output is not None
    assert "[ccdproc 2" in fits.getheader(image.output)["NFSTEP1"]
    recorded = history(image.output)["own_steps"]["after_detrend"][0]
    assert recorded["bit"] == DQ.COSMIC_RAY
    assert {"astropy", "astroscrappy", "numpy"} <= recorded["requires"].keys()
    (frame,) = [n for n in image.inputs if n == night.science[0].file]
    folders = list((own_lab.data / "scratch").glob(f"{Path(frame).stem}-*"))
    planes = [one for one in map(open_if_intact, folders) if one is not None and "dq" in one]
    flagged = [int(np.count_nonzero(one.rows("dq") & DQ.COSMIC_RAY)) for one in planes]
    assert max(flagged) > 0
