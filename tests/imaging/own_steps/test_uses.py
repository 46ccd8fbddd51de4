"""Steps as texts, tables and models: read, refused with the reason, and shown again."""

from __future__ import annotations

import json
from datetime import date

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from imaging.own_steps.uses import OwnStepParameters, StepUse, parse_use

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(alphabet=st.characters(codec="utf-8", exclude_characters="@"), max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "function", "arguments"),
    [
        ("ccdproc:cosmicray_lacosmic", "ccdproc:cosmicray_lacosmic", {}),
        ("a.b:c.d()", "a.b:c.d", {}),
        ("remove-glow ( width = 3 )", "remove-glow", {"width": 3}),
        ("p:f(a=1.5, b=@bpm, c='x, (y', d=[1, 2], e=true, g=none, h=mean)", "p:f",
         {"a": 1.5, "b": "@bpm", "c": "x, (y", "d": [1, 2], "e": True, "g": None, "h": "mean"}),
        ("p:f(a=(1, 2), b={'k': 3}, table=@/data/a b.fits, q=\"it's\")", "p:f",
         {"a": [1, 2], "b": {"k": 3}, "table": "@/data/a b.fits", "q": "it's"}),
    ],
)  # fmt: skip
def test_a_text_names_a_function_and_its_arguments(text: str, function: str, arguments: dict) -> None:
    assert parse_use(text) == (function, arguments)
    use = StepUse.model_validate(text)
    assert (use.function, use.arguments) == (function, arguments)
    assert StepUse.model_validate(str(use)) == use
    assert StepUse.model_validate_json(use.model_dump_json()) == use


@given(st.dictionaries(st.from_regex(r"[a-z_][a-z0-9_]*", fullmatch=True), VALUES, max_size=4))
@example({"both": {"'\"": None}, "backslash": "\\", "after": "it's \\' \""})
def test_a_step_is_the_same_after_it_was_shown(arguments: dict) -> None:
    use = StepUse(function="p:f", arguments=arguments)
    assert StepUse.model_validate(str(use)) == use


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "neither package.module:function"),
        ("a b", "neither package.module:function"),
        ("p:f:g", "neither package.module:function"),
        ("p:f(a=1", "do not end with a parenthesis"),
        ("p:f(a)", "not of the form name=value"),
        ("p:f(=1)", "not of the form name=value"),
        ("p:f(a=1, a=2)", "given twice"),
        ("p:f(a=[1, 2)", "not closed"),
        ("p:f(a=[f()])", "cannot be read"),
        ("p:f(a=1+2j)", "neither a number"),
        ("p:f(a=[1e999])", "the value inf of a is not finite"),
        ({"function": "p:f", "arguments": {"a": date(2020, 1, 1)}}, "neither a number"),
        ({"function": "p:f(a=1)", "arguments": {"a": 2}}, "the argument a is given twice"),
    ],
)
def test_a_wrong_text_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        StepUse.model_validate(text)


def test_nothing_in_a_text_is_executed() -> None:
    assert parse_use("p:f(a=__import__('os').getcwd())")[1] == {"a": "__import__('os').getcwd()"}


def test_an_argument_may_be_a_text_that_begins_with_the_sign_of_a_reference() -> None:
    use = StepUse.model_validate("p:f(a=@bpm, b='@@bpm', c=1)")
    assert use.references == {"a": "bpm"}


def test_the_bit_has_to_exclude_a_pixel() -> None:
    assert StepUse(function="p:f", bit=8).bit == 8
    for bit in (0, 2, 3, 128):
        with pytest.raises(ValidationError):
            StepUse(function="p:f", bit=bit)


def test_points_that_are_given_replace_those_of_the_settings() -> None:
    base = OwnStepParameters(after_detrend=["p:a", "p:b"], after_stack=["p:c"], time_limit=5)
    own = OwnStepParameters(after_detrend=["p:d"], after_stack=["none"]).over(base)
    assert [str(use) for use in own.at("after_detrend")] == ["p:d"]
    assert own.at("after_stack") == ()
    assert own.resolved().after_stack == ()
    assert own.time_limit == 5
    assert OwnStepParameters().over(base) == base
    assert not OwnStepParameters(before_sky=["none"]).used


def test_the_form_has_a_list_of_steps_for_each_point() -> None:
    schema = OwnStepParameters.model_json_schema()
    assert json.dumps(schema)
    step = schema["$defs"]["StepUse"]["properties"]
    assert {name: one["position"] for name, one in step.items()} == {
        "function": 0, "arguments": 1, "bit": 2, "time_limit": 3,
    }  # fmt: skip
    assert schema["properties"]["before_sky"]["items"] == {"$ref": "#/$defs/StepUse"}
