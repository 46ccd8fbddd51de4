"""A step that cannot be imported, or does not take its arguments, is refused before anything is computed."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import ccdproc
import pytest
from pydantic import BaseModel, Field

from imaging.own_steps.declared import Step
from imaging.own_steps.loading import LoadedStep, load
from imaging.own_steps.named_arguments import check_references
from imaging.own_steps.registered import OwnStepError
from imaging.own_steps.uses import StepUse

Load = Callable[..., LoadedStep]


def use(text: str) -> StepUse:
    return StepUse.model_validate(text)


def test_a_function_is_loaded_with_its_arguments() -> None:
    step = load(use("ccdproc:cosmicray_lacosmic(sigclip=5, readnoise=@read_noise)"))
    assert step.function is ccdproc.cosmicray_lacosmic
    assert (step.name, step.bit, step.time_limit) == ("cosmicray_lacosmic", 8, None)
    assert step.arguments == {"sigclip": 5, "readnoise": "@read_noise"}


def test_the_bit_and_the_limit_come_from_the_user_the_step_or_the_default(loaded: Load) -> None:
    assert load(use("ccdproc:gain_correct(gain=2)")).bit == 1
    declared = Step(lambda ccd: ccd, bit=16, time_limit=7)
    assert (loaded(declared).bit, loaded(declared).time_limit) == (16, 7)
    assert (loaded(declared, bit=64).bit, loaded(declared, time_limit=2).time_limit) == (64, 2)
    assert load(use("ccdproc:gain_correct(gain=2)"), 9.0).time_limit == 9.0
    assert load(loaded(declared).use, 9.0).time_limit == 7


@pytest.mark.parametrize(
    ("text", "message", "remedy"),
    [
        ("no_such_package:f", "cannot be imported: ModuleNotFoundError", "PYTHONPATH"),
        ("ccdproc:cosmic", "cannot be imported: ccdproc has no 'cosmic'", "cosmicray_lacosmic"),
        ("ccdproc:cosmicray_lacosmic(sigma=5)", "has no argument 'sigma'", "sigclip"),
        ("ccdproc:cosmicray_lacosmic(ccd=5)", "has no argument 'ccd'", "sigclip"),
        ("ccdproc:flat_correct", "needs a value for flat", r"flat_correct\(flat=...\)"),
        ("ccdproc:Combiner", "is the class Combiner, not a function", "CCDData"),
        ("math:pi", "of the type float, not a function", "CCDData"),
        ("remove_glow", "No installed package registers a step 'remove_glow'", "package.module:function"),
    ],
)
def test_a_step_that_cannot_be_called_is_refused(text: str, message: str, remedy: str) -> None:
    with pytest.raises(OwnStepError, match=message) as caught:
        load(use(text))
    assert re.search(remedy, caught.value.remedy)


def test_a_module_that_ends_python_on_import_is_refused(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ends_python.py").write_text("import sys\nsys.exit('no licence')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(OwnStepError, match="SystemExit: no licence"):
        load(use("ends_python:f"))


def test_a_function_that_takes_no_frame_is_refused(loaded: Load) -> None:
    with pytest.raises(OwnStepError, match="takes no frame"):
        loaded(lambda: None)
    with pytest.raises(OwnStepError, match="takes no frame"):
        loaded(lambda *, ccd: None)
    assert loaded(lambda *images, sigma=1: None, "sigma=2").arguments == {"sigma": 2}
    assert loaded(lambda ccd, **more: None, "anything=2").arguments == {"anything": 2}
    assert loaded(math.hypot).name == "function"


class Parameters(BaseModel):
    width: float = Field(default=20.0, gt=0)
    order: int = 2


def test_a_model_checks_and_completes_the_arguments(loaded: Load) -> None:
    def remove(ccd: Any, width: float, order: int, mask: Any = None) -> Any:
        return ccd

    step = Step(remove, parameters=Parameters)
    assert loaded(step, "width=30").arguments == {"width": 30.0, "order": 2}
    assert loaded(step, "mask=@bpm").arguments == {"width": 20.0, "order": 2, "mask": "@bpm"}
    for text in ("width=-1", "order=much", "with=3"):
        with pytest.raises(OwnStepError, match=r"The argument \w+ of the step .* is invalid") as caught:
            loaded(step, text)
        assert "width, order" in caught.value.remedy


def test_a_declared_bit_has_to_exclude_a_pixel(loaded: Load) -> None:
    with pytest.raises(OwnStepError, match="declares the DQ bit 2"):
        loaded(Step(lambda ccd: ccd, bit=2))  # type: ignore[arg-type]


@pytest.mark.parametrize("limit", [0, -1.0, math.inf, math.nan, "10"])
def test_a_declared_time_limit_is_a_time(loaded: Load, limit: Any) -> None:
    with pytest.raises(OwnStepError, match=re.escape(f"declares the time limit {limit!r}")):
        loaded(Step(lambda ccd: ccd, time_limit=limit))


@pytest.mark.parametrize(
    ("model", "what"), [(Parameters(), "of the type Parameters"), (dict, "the class dict")]
)
def test_declared_parameters_are_a_model(loaded: Load, model: Any, what: str) -> None:
    with pytest.raises(OwnStepError, match=f"parameters that the step .* declares are {what}, not a model"):
        loaded(Step(lambda ccd: ccd, parameters=model))


def test_what_an_argument_names_has_to_exist_at_the_point() -> None:
    with pytest.raises(OwnStepError, match="the object mask is not known there"):
        check_references(use("p:f(mask=@object_mask)"), "after_detrend")
    for name in ("bpm", "read_noise"):
        with pytest.raises(OwnStepError, match=f"a stack has no {name} of its own"):
            check_references(use(f"p:f(a=@{name})"), "after_stack")
    check_references(use("p:f(a=@/x.fits, b=@S1_flat.fits)"), "after_stack")
    check_references(use("p:f(a=@object_mask, b=@dark)"), "before_sky")


def test_a_name_that_two_packages_register_is_refused(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("first", "second"):
        info = tmp_path / f"{package}_steps-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}-steps\nVersion: 1.0\n")
        entries = f"both = users_functions:{package}\n{package} = users_functions:{package}\n"
        (info / "entry_points.txt").write_text(f"[nirflow.steps]\n{entries}")
    module = ModuleType("users_functions")
    vars(module).update(first=lambda ccd: ccd, second=Step(lambda ccd: ccd, bit=8))
    monkeypatch.setitem(sys.modules, "users_functions", module)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(OwnStepError, match="2 packages register a step 'both': first-steps") as caught:
        load(use("both"))
    assert "second-steps (users_functions:second)" in caught.value.message
    assert "uninstall one" in caught.value.remedy
    assert load(use("second")).bit == 8
    assert load(use("first")).distribution == "first-steps"
    with pytest.raises(OwnStepError, match="registers a step 'frist'") as caught:
        load(use("frist"))
    assert caught.value.remedy.startswith("Did you mean first?")
