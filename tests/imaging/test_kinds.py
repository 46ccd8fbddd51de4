"""The table of kinds of product, and that every list of kinds derives from it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from itertools import permutations
from pathlib import Path
from typing import get_args, get_type_hints
from uuid import UUID

import pytest
from command_line import run_nirflow
from pydantic import ValidationError

from calib_store.choice.serving import kinds_for
from calib_store.exchange.ancestry import _APPLIED, _ROLES
from calib_store.exchange.manifest import ProductEntry
from calib_store.model.values import STANDARD
from calib_store.rules.rules import Rule
from calib_store.rules.rules_toml import shipped_rules
from calib_store.tables.variants import default_parameters
from deployments.deployed.requests import CalibrationsRequest, NightlyRequest
from flows.page.view import LABELS
from flows.recipes.all_recipes import RECIPES
from flows.run.options import Options
from flows.run.plan import targets_with_needs
from imaging.calibrations import compare, sanity
from imaging.detrend.detrend import DetrendParameters
from imaging.frames.facts import FrameFacts, Kind, processing
from imaging.frames.sequences import SequenceKind
from imaging.instruments import catalogue
from imaging.kinds import (
    CALIBRATION_FRAMES,
    CALIBRATION_KINDS,
    CALIBRATIONS,
    KINDS,
    MOSAIC,
    PRODUCT_KINDS,
    REDUCED,
    REQUIRED_KINDS,
    STACK,
    TARGETS,
    CalibrationKind,
    CombinedFrame,
    ComparisonName,
    LimitsName,
    ProductKind,
    Target,
    class_named,
    in_a_sentence,
    kind_of_target,
    target_of,
)
from imaging.product_figures import metric_models
from nirflow.expressions.product_names import product_names
from nirflow.request import ReduceRequest, UseCalibration
from tasks.building.recipe import Recipe
from tasks.choose import Choice
from tasks.support.parameters import STEPS
from tasks.support.references import Calibrations, ProductRef

ROOT = Path(__file__).parents[2]
PACKAGES = ("imaging", "calib_store", "tasks", "flows", "deployments", "nirflow")
#: Modules that spell names that are kinds of product too, each with the reason why they may.
SPELLED: dict[str, str] = {
    "imaging/kinds.py": "the table",
    "imaging/detrend/detrend.py": "applies each of these in its own way",
    "imaging/simulator/plans/any_table.py": "roles of simulated raw frames",
    "imaging/simulator/plans/f2_nights.py": "roles of simulated raw frames",
    "imaging/simulator/plans/frame.py": "roles of simulated raw frames",
    "imaging/simulator/plans/table_headers.py": "roles of simulated raw frames",
    "imaging/simulator/observing_plan.py": "roles of simulated raw frames",
    "flows/page/trends.py": "charts of figures that only one of these has",
    "flows/page/view.py": "raw frames in sections",
    "nirflow/commands/inspect.py": "raw frames without a filter",
    "nirflow/commands/check.py": "applies each of these in its own way",
}

#: Modules that compare with the name of one kind, each with the reason why it is no property of a row in the table.
COMPARED: dict[str, str] = {
    "deployments/status/due.py": "raw frames in sequences",
    "calib_store/curation/field_stacks.py": "raw frames of a stack",
    "calib_store/curation/ingredients.py": "raw frames of a stack",
    "imaging/calibrations/plausible.py": "raw frames: a lamp that is off may still be warm",
    "imaging/detrend/prepare.py": "raw darks see no light",
    "imaging/frames/calibration_groups.py": "raw frames in groups",
    "imaging/frames/facts.py": "raw frames: lamps, spectra, tags",
    "imaging/frames/sequences.py": "raw frames in sequences",
    "imaging/frames/windows.py": "raw frames in groups",
    "imaging/instruments/examination.py": "raw frames: lamps",
    "imaging/instruments/quirks/f2.py": "files without the header of a frame",
    "imaging/instruments/instrument.py": "raw flats also share what a common dark requires",
    "imaging/instruments/reading.py": "files without the header of a frame",
    "imaging/simulator/plans/f2_headers.py": "roles of simulated raw frames",
    "imaging/simulator/plans/table_headers.py": "roles of simulated raw frames",
    "imaging/simulator/observing_plan.py": "roles of simulated raw frames",
    "imaging/simulator/draw_truth.py": "roles of simulated raw frames",
    "imaging/simulator/reference/draw_catalogue.py": "roles of simulated raw frames",
    "imaging/simulator/simulate.py": "roles of simulated raw frames",
    "tasks/fallbacks/sky_flat.py": "only flats are made from the sky",
    "tasks/choose.py": "raw flats take a named product only if it fits",
    "flows/page/model.py": "raw darks have no filter",
    "flows/page/view.py": "raw darks have no filter",
    "flows/recipes/night_plan.py": "raw darks",
    "deployments/deployed/common.py": "raw darks have no filter",
    "nirflow/commands/instruments.py": "raw darks",
}


def test_the_names_are_those_of_the_table() -> None:
    assert tuple(KINDS) == get_args(ProductKind) == PRODUCT_KINDS
    assert tuple(kind.name for kind in CALIBRATIONS) == get_args(CalibrationKind) == CALIBRATION_KINDS
    assert tuple(kind.target for kind in REDUCED) == get_args(Target) == TARGETS
    assert {*KINDS.values()} - {*REDUCED} == {MOSAIC}
    frames = {frame for kind in KINDS.values() for frame in kind.frames}
    assert frames == {*get_args(CombinedFrame)} < {*get_args(Kind)}
    required = [kind for kind in CALIBRATIONS if not kind.is_optional]
    assert {frame for kind in required for frame in kind.frames} == {*CALIBRATION_FRAMES}
    assert tuple(kind.name for kind in required) == REQUIRED_KINDS
    assert all({*kind.uses} & {*REQUIRED_KINDS} == set() for kind in KINDS.values())
    assert {*get_args(SequenceKind)} == {"science", *CALIBRATION_FRAMES}


def test_no_two_kinds_are_marked_or_called_alike() -> None:
    marks = [mark for kind in KINDS.values() for mark in kind.marks]
    assert len({*marks}) == len(marks)
    for attribute in ("label", "plural", "suffix", "step", "key_card", "parameters", "metrics"):
        assert len({getattr(kind, attribute) for kind in KINDS.values()}) == len(KINDS), attribute
    applied = [kind.applied_card for kind in CALIBRATIONS]
    assert all(applied)
    assert len({*applied}) == len(applied)
    assert not any(kind.applied_card or kind.primitives for kind in KINDS.values() if not kind.is_calibration)


def test_a_kind_comes_after_those_that_it_is_made_with() -> None:
    for number, name in enumerate(PRODUCT_KINDS):
        assert {*KINDS[name].made_with()} <= {*PRODUCT_KINDS[:number]}


def test_facts_that_are_the_same_are_facts() -> None:
    for table in catalogue.instruments():
        known = {*FrameFacts.model_fields, *table.own_facts}
        assert {*table.same} == {*KINDS}
        assert all({*names} <= known for names in table.same.values())
        of_a_band = {kind for kind in KINDS if "filter_id" in table.same[kind]}
        assert of_a_band == {name for name, kind in KINDS.items() if kind.is_of_a_band}


def test_what_a_kind_is_made_with() -> None:
    """As it was before there was a table."""
    made_with = {
        "dark": (), "bpm": (), "flat": ("dark", "bpm"), "distortion": ("dark", "bpm", "flat"),
        "image": ("dark", "bpm", "flat"),
    }  # fmt: skip
    assert {name: KINDS[name].made_with() for name in made_with} == made_with
    assert KINDS["flat"].made_with(thermal=False) == ("bpm",)
    assert KINDS["image"].made_with(thermal=False) == ("dark", "bpm", "flat")
    assert targets_with_needs(["flat"]) == {"flat", "bpm", "dark"}
    assert targets_with_needs(["bpm"]) == {"bpm"}
    assert targets_with_needs(["science"]) == {"dark", "bpm", "flat", "science"}
    assert targets_with_needs([]) == {*TARGETS}


@pytest.mark.parametrize(
    ("frame", "filter_", "kinds"),
    [
        ("dark", "Y", ()), ("flat", "Y", ("bpm",)), ("flat", "Ks", ("dark", "bpm")),
        ("object", "Y", ("dark", "bpm", "flat", "distortion")), ("arc", "Y", ("dark", "bpm", "flat", "distortion")),
    ],
)  # fmt: skip
def test_what_a_frame_takes(frame: str, filter_: str, kinds: tuple[str, ...]) -> None:
    assert kinds_for(FrameFacts.model_construct(instrument="F2", kind=frame, filter=filter_)) == kinds  # type: ignore[arg-type]


def test_what_marks_a_processed_file() -> None:
    marks = {"PROCDARK": "dark", "PROCFLAT": "flat", "BPMASK": "bpm", "PROCBPM": "bpm", "PROCSCI": "image"}
    assert marks.items() <= {mark: kind.name for kind in KINDS.values() for mark in kind.marks}.items()
    for mark, kind in marks.items():
        assert processing({mark: "2013-11-21T00:00:00"}) == (True, kind)
    assert processing({"PREPARE": ""}) == (True, "")
    assert processing({}) == (False, "")


def test_what_a_product_is_called_as_a_target() -> None:
    targets = {"dark": "dark", "bpm": "bpm", "flat": "flat", "image": "science"}
    assert {name: target_of(name) for name in targets} == targets
    assert target_of("align") == target_of("mosaic") == "science"
    assert [kind_of_target(target).name for target in TARGETS] == [kind.name for kind in REDUCED]


def test_a_mosaic_is_made_of_stacks() -> None:
    assert MOSAIC.made_of == (STACK.name,)
    assert MOSAIC.frame_kind == STACK.frame_kind
    assert [kind.name for kind in KINDS.values() if kind.is_resampled] == [STACK.name, MOSAIC.name]
    # It has the mark of its stacks, by which astrodata knows both as processed science.
    assert processing({"PROCSCI": "2013-11-21T00:00:00", "PROCMOSA": "2013-11-23T00:00:00"}) == (
        True,
        "mosaic",
    )


def test_names_in_a_sentence() -> None:
    assert in_a_sentence(["dark", "bpm", "flat", "image"]) == "dark, bpm, flat or image"
    assert in_a_sentence(["darks", "flats"], "and") == "darks and flats"
    assert in_a_sentence(["dark"]) == "dark"


def test_models_take_the_kinds_of_the_table() -> None:
    products = {
        ProductEntry: "kind", ProductRef: "kind",
    }  # fmt: skip
    for model, field in products.items():
        assert model.model_fields[field].annotation == ProductKind, model
    assert UseCalibration.model_fields["kind"].annotation == CalibrationKind
    assert get_args(Rule.model_fields["kind"].annotation) == (*CALIBRATION_KINDS, STANDARD)
    assert get_type_hints(Recipe)["kind"] == ProductKind
    for many in (
        DetrendParameters.model_fields["override"], DetrendParameters.model_fields["allow_missing"],
        ReduceRequest.model_fields["allow_missing"], Choice.model_fields["allow_missing"],
        CalibrationsRequest.model_fields["only"], Calibrations.model_fields["missing"],
    ):  # fmt: skip
        assert get_args(many.annotation)[0] == CalibrationKind
    assert get_args(Choice.model_fields["use"].annotation)[0] == CalibrationKind
    for many in (
        NightlyRequest.model_fields["only"], ReduceRequest.model_fields["only"], Options.model_fields["only"],
    ):  # fmt: skip
        assert get_args(many.annotation)[0] == Target
    assert CalibrationsRequest().only == REQUIRED_KINDS


def test_calibrations_are_in_the_order_of_the_table() -> None:
    """It is part of the keys of what is made with them."""
    refs = [
        ProductRef(id=str(UUID(int=n)), kind=kind, name=f"{kind}.fits", sha256="0" * 64, recipe_key=kind)
        for n, kind in enumerate(CALIBRATION_KINDS)
    ]
    for order in permutations(refs):
        chosen = Calibrations(present=order)
        assert tuple(ref.kind for ref in chosen.present) == CALIBRATION_KINDS
        assert [chosen.of(kind) for kind in CALIBRATION_KINDS] == refs
    named = Calibrations(present=refs, overridden=CALIBRATION_KINDS).required
    assert (tuple(ref.kind for ref in named.present), named.overridden) == (REQUIRED_KINDS, REQUIRED_KINDS)
    assert Calibrations(present=refs[1:]).of(CALIBRATION_KINDS[0]) is None
    with pytest.raises(ValidationError, match="two calibrations of one kind"):
        Calibrations(present=(refs[0], refs[0]))


def test_rules_comparisons_limits_and_parameters_are_there_for_each_kind() -> None:
    assert {rule.kind for rule in shipped_rules().rules} == {*CALIBRATION_KINDS, STANDARD}
    assert {rule.kind for rule in shipped_rules().rules if rule.published} == {
        kind.name for kind in CALIBRATIONS if kind.published
    }
    assert (
        {kind.comparison for kind in KINDS.values()} - {None}
        == {*compare.MEANINGS}
        == {*get_args(ComparisonName)}
    )
    assert {kind.limits for kind in KINDS.values()} == {*sanity.LIMITS} == {*get_args(LimitsName)}
    assert tuple(default_parameters()) == CALIBRATION_KINDS
    for kind in KINDS.values():
        assert STEPS[kind.step] is class_named(kind.parameters)
        assert metric_models()[kind.name] is class_named(kind.metrics)
        assert kind.made_of or RECIPES[kind.name].kind is kind
    assert tuple(RECIPES) == tuple(kind.name for kind in REDUCED)
    for kind in CALIBRATIONS:
        assert kind.step == kind.name  # the choice compares the parameters of a calibration under its name


def test_the_store_finds_what_was_applied() -> None:
    """As it was before there was a table: keywords and primitives of DRAGONS."""
    assert _APPLIED.items() >= {"DARKIM": "dark", "FLATIM": "flat", "BPMIM": "bpm"}.items()
    assert _ROLES.items() >= {"darkCorrect": "dark", "flatCorrect": "flat", "addDQ": "bpm"}.items()


def test_labels_for_users_are_those_of_the_table() -> None:
    labels = {
        "dark": "dark", "bpm": "bad pixel mask", "flat": "flat", "image": "stack", "science": "science",
    }  # fmt: skip
    assert labels.items() <= LABELS.items()
    assert product_names()["kind"].choices == PRODUCT_KINDS


@pytest.mark.parametrize(
    ("command", "option", "names"),
    [
        (["reduce"], "--only", TARGETS),
        (["reduce"], "--allow-missing", REQUIRED_KINDS),
        (["cal", "list"], "--kind", PRODUCT_KINDS),
        (["cal", "add", "x.fits"], "--kind", PRODUCT_KINDS),
        (["cal", "match", "x.fits"], "--kind", (*CALIBRATION_KINDS, STANDARD)),
    ],
)
def test_options_take_the_kinds_of_the_table(
    command: list[str], option: str, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    refused = run_nirflow(*command, option, "fringes")
    assert refused.exit_code == 2
    reported = " ".join(refused.output.split())
    assert f"'fringes' is not one of {', '.join(map(repr, names))}." in reported


def test_the_table_is_light() -> None:
    """The command line shows its help from it."""
    heavy = "{'numpy', 'astropy', 'pydantic', 'numba', 'sqlalchemy', 'prefect'}"
    code = f"import sys, imaging.kinds; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        KINDS["bias"] = KINDS["dark"]  # type: ignore[index]
    assert all(type(getattr(kind, f.name)) is not list for kind in KINDS.values() for f in fields(kind))


def modules_of_every_kind() -> Iterator[Path]:
    """All modules but those of a single kind: its science, its step, its recipe, its flow."""
    paths = (path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    return (path for path in paths if path.stem not in {*PRODUCT_KINDS, *TARGETS})


def spelled_lists(tree: ast.AST) -> Iterator[set[str]]:
    """The texts of every tuple, list, set, dict (keys, and values) and Literal; of pairs in it the first text."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Tuple | ast.List | ast.Set):
            groups = [node.elts]
        elif isinstance(node, ast.Dict):
            groups = [[key for key in node.keys if key is not None], node.values]
        else:
            continue
        for group in groups:
            first = (one.elts[0] if isinstance(one, ast.Tuple) and one.elts else one for one in group)
            yield {one.value for one in first if isinstance(one, ast.Constant) and isinstance(one.value, str)}


def test_no_other_module_spells_a_list_of_kinds() -> None:
    names = {*PRODUCT_KINDS, *TARGETS}
    found = {
        str(path.relative_to(ROOT))
        for path in modules_of_every_kind()
        if any(len(texts & names) > 1 for texts in spelled_lists(ast.parse(path.read_text())))
    }
    assert found == {*SPELLED}


@pytest.mark.parametrize(
    "code",
    [
        'KINDS = ("dark", "flat")', 'kind: Literal["dark", "bpm"]', 'if kind in ["flat", "image"]: pass',
        'labels = {"dark": 1, "bpm": 2}', 'cards = {"A": "dark", "B": "flat"}',
        'for k, v in (("dark", d), ("flat", f)): pass',
        'x = {"science", "flat"}',
    ],
)  # fmt: skip
def test_a_spelled_list_is_found(code: str) -> None:
    assert any(len(texts & {*PRODUCT_KINDS, *TARGETS}) > 1 for texts in spelled_lists(ast.parse(code)))


def compared_names(tree: ast.AST) -> Iterator[str]:
    """The texts that something is compared with, one at a time, and those of the cases of a match."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            values = sides if any(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops) else []
        else:
            values = [node.value] if isinstance(node, ast.MatchValue) else []
        yield from (
            one.value for one in values if isinstance(one, ast.Constant) and isinstance(one.value, str)
        )


def test_no_other_module_asks_for_one_kind() -> None:
    """A property of the table's row answers instead, so that a new kind needs no change."""
    names = {*PRODUCT_KINDS, *TARGETS}
    found = {
        str(path.relative_to(ROOT))
        for path in modules_of_every_kind()
        if names.intersection(compared_names(ast.parse(path.read_text())))
    }
    assert found == {*COMPARED}


@pytest.mark.parametrize(
    "code",
    [
        'if recipe.kind == "image": pass', 'x = "bpm" != kind', 'y = a if kind == "dark" else b',
        'match kind:\n    case "flat":\n        pass',
    ],
)  # fmt: skip
def test_a_comparison_with_one_kind_is_found(code: str) -> None:
    assert {*compared_names(ast.parse(code))} & {*PRODUCT_KINDS, *TARGETS}
