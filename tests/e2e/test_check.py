"""``nirflow check``: the planes of frames agree with those that ccdproc computes, and a wrong pixel is found."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from command_line import run_nirflow
from night_lab import Lab, Run
from typer.testing import Result

from calib_store.curation.ingredients import ingredients
from imaging.detrend import detrend as detrending
from nirflow.commands import check
from nirflow.exits import Exit


@pytest.fixture
def nirflow(reduced_lab: Lab, reduced: Run, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("NIRFLOW_DATA_DIR", str(reduced_lab.data))
    monkeypatch.setenv("NIRFLOW_DATABASE_URL", reduced_lab.url)
    return lambda *arguments: run_nirflow("check", *arguments)


def planes(result: Result) -> list[dict[str, Any]]:
    return json.loads(result.stdout)["planes"]


def test_every_frame_of_a_stack_agrees(nirflow: Any, reduced: Run) -> None:
    stack = reduced.product("image")
    result = nirflow(stack.output, "--json")
    assert result.exit_code == Exit.OK, result.output
    found = planes(result)
    assert {one["frame"] for one in found} == set(stack.inputs)
    assert len(found) == 3 * 5
    assert all(one["unexplained"] == 0 for one in found)
    for one in found:
        if one["plane"] == "DQ":
            assert one["beyond"] == 0
            continue
        # Stars are up to 3 % below their light: the correction is the difference, and is shown as such.
        assert one["rms"] > 1.0
        assert (
            one["explained"]["the correction for non-linearity, which ccdproc does not have"]
            > 0.8 * one["pixels"]
        )
        assert one["left_rms"] < 1e-3
        assert abs(one["left_largest"]) < 0.1


def test_a_calibration_stands_for_its_stacks(nirflow: Any, reduced: Run) -> None:
    name = reduced.product("image").inputs[0]
    result = nirflow(reduced.product("dark").id, "--frame", name)
    assert result.exit_code == Exit.OK, result.output
    assert name in result.stdout
    assert check.NOT_COMPARED[:40] in result.stdout
    assert "1 frame: everything else agrees with ccdproc" in result.stdout


@pytest.mark.parametrize(("plane", "by"), [("sci", 0.05), ("var", 0.05), ("dq", 32)])
def test_a_wrong_pixel_is_found_and_named(
    nirflow: Any, reduced: Run, monkeypatch: pytest.MonkeyPatch, plane: str, by: float
) -> None:
    right = detrending.detrend

    def wrong(*arguments: Any, **options: Any) -> Any:
        result = right(*arguments, **options)
        values = getattr(result, plane).copy()
        values[200, 150] += np.asarray(by).astype(values.dtype)
        return dataclasses.replace(result, **{plane: values})

    monkeypatch.setattr(detrending, "detrend", wrong)
    result = nirflow(reduced.product("image").output, "--frame", reduced.product("image").inputs[2], "--json")
    assert result.exit_code == Exit.PARTIAL
    (bad,) = [one for one in planes(result) if one["unexplained"]]
    assert (bad["plane"], bad["unexplained"]) == (plane.upper(), 1)
    assert (bad["unexplained_x"], bad["unexplained_y"]) == (151, 201)
    shown = nirflow(reduced.product("image").output, "--frame", reduced.product("image").inputs[2])
    assert f"Without an explanation: 1 pixel, most in {plane.upper()}" in " ".join(shown.stdout.split())


def test_a_frame_whose_file_is_gone_is_a_problem(reduced_lab: Lab, reduced: Run) -> None:
    store = reduced_lab.store()
    made_of = ingredients(store, store.get(reduced.product("image").uuid))
    assert {*made_of.calibrations} == {"dark", "flat", "bpm"}
    lost = made_of.frames[0].model_copy(update={"paths": (reduced_lab.folder / "none.fits",)})
    found = check._compared(store, made_of, lost)
    assert found == f"{lost.name}: its file is no longer in {reduced_lab.folder}/none.fits, or has changed."


def test_a_frame_that_stacks_detrended_alike_is_compared_once(reduced_lab: Lab, reduced: Run) -> None:
    store = reduced_lab.store()
    made_of = ingredients(store, store.get(reduced.product("image").uuid))
    parameters = made_of.stack.parameters
    same = parameters | {"steps": {"after_stack": ["pkg:f"]}}
    other = parameters | {"detrend": parameters["detrend"] | {"cosmic_rays": "other"}}
    stacks = [
        dataclasses.replace(made_of, stack=made_of.stack.model_copy(update={"parameters": one}))
        for one in (parameters, same, other)
    ]
    chosen = check._once((one, raw) for one in stacks for raw in one.frames)
    n = len(made_of.frames)
    assert [one.stack.parameters for one, _ in chosen] == [parameters] * n + [other] * n


def test_what_has_no_frames_to_compare(nirflow: Any, reduced: Run, night: Any) -> None:
    assert nirflow(reduced.product("image").id, "--frame", "S1").exit_code == Exit.NOTHING
    raw = nirflow(reduced.product("image").inputs[0])
    assert raw.exit_code == Exit.USAGE
    assert "is a raw frame" in raw.output
