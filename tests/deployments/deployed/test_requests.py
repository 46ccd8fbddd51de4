"""The valid requests to the deployed flows, and the messages that refuse others."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from deployments.deployed.requests import (
    CalibrationsRequest,
    DecisionRequest,
    HousekeepingRequest,
    MosaicRequest,
    NightlyRequest,
    Nights,
    ReprocessRequest,
    SequenceRequest,
)
from deployments.prefect_api.names import SEQUENCE
from imaging.parameters import StepParameters, parameter
from tasks.support.parameters import STEPS

REQUESTS: list[type[BaseModel]] = [
    NightlyRequest, CalibrationsRequest, SequenceRequest, MosaicRequest, ReprocessRequest, HousekeepingRequest,
]  # fmt: skip
NAME = "2013-11-21.science.Y.1f0c9a2b"
DECISION = {"decision": "certify", "product": "a", "reason": "b"}


@pytest.mark.parametrize(
    ("model", "given"),
    [
        (Nights, {}),
        (Nights, {"first": "2013-11-21"}),
        (Nights, {"first": "2013-11-21", "last": "2013-11-21"}),
        (Nights, {"first": "2013-11-01", "last": "2013-12-01"}),
        (NightlyRequest, {"bands": ["Y", "J-lo"], "only": ["flat"], "calibrations": {"days": 0}}),
        (NightlyRequest, {"folder": "/raw/tonight", "targets": ["WISE J0413", "M 42"]}),
        (
            NightlyRequest,
            {"calibrations": {"use": [{"kind": "dark", "product": "S1"}], "allow_missing": ["flat"]}},
        ),
        (
            NightlyRequest,
            {"advanced": {"join": True, "parameters": {"stack": {"low": 4}, "check": {"shape": None}}}},
        ),
        (CalibrationsRequest, {"only": ["dark"]}),
        (SequenceRequest, {"sequence": NAME}),
        (SequenceRequest, {"sequence": SEQUENCE + NAME}),
        (MosaicRequest, {"target": "M 42", "bands": ["H"], "last": "2013-11-21"}),
        (ReprocessRequest, {"affected_by": "S1_dark.fits"}),
        (ReprocessRequest, {"rules_version": "3"}),
        (HousekeepingRequest, {"verify": False, "collect": False, "keep_runs_days": 1}),
    ],
)
def test_a_good_request_comes_back_from_json_the_same(model: type[BaseModel], given: dict[str, Any]) -> None:
    request = model.model_validate(given)
    assert model.model_validate_json(request.model_dump_json()) == request


@pytest.mark.parametrize(
    ("model", "given", "message"),
    [
        (Nights, {"last": "2013-11-21"}, "the first night of the range is missing"),
        (Nights, {"first": "2013-11-21", "last": "2013-11-20"}, "ends on 2013-11-20, before it begins on 2013-11-21"),
        (Nights, {"first": "2013-11-01", "last": "2013-12-02"}, "32 nights is too long; one run takes at most 31"),
        (Nights, {"first": "yesterday"}, "valid date"),
        (Nights, {"night": "2013-11-21"}, "Extra inputs"),
        (NightlyRequest, {"bands": ["Z"]}, "'Y', 'J-lo'"),
        (NightlyRequest, {"only": ["stack"]}, "'dark', 'bpm', 'flat'"),
        (NightlyRequest, {"calibrations": {"days": 91}}, "less than or equal to 90"),
        (NightlyRequest, {"calibrations": {"days": -1}}, "greater than or equal to 0"),
        (NightlyRequest, {"calibrations": {"use": [{"kind": "dark", "product": "../x"}]}}, "a path; only products of"),
        (
            NightlyRequest,
            {"calibrations": {"use": [{"kind": "dark", "product": "a"}, {"kind": "dark", "product": "b"}]}},
            "two products are named for the kind dark",
        ),
        (NightlyRequest, {"calibration_days": 3}, "Extra inputs"),
        (NightlyRequest, {"advanced": {"parameters": {"stack": {"lw": 4}}}}, "stack.lw"),
        (CalibrationsRequest, {"only": ["science"]}, "'dark', 'bpm'"),
        (SequenceRequest, {}, "Field required"),
        (SequenceRequest, {"sequence": "M 31"}, "'M 31' is not the name of a sequence, such as 2013-11-21.science"),
        (SequenceRequest, {"sequence": f"{NAME}/../../../../x"}, "is not the name of a sequence"),
        (Nights, {"first": "0001-01-01"}, "not a night"),
        (Nights, {"first": "9999-12-31"}, "not a night"),
        (DecisionRequest, DECISION | {"first_night": "0001-01-01"}, "not a night"),
        (DecisionRequest, DECISION | {"first_night": "2013-11-21", "last_night": "9999-12-31"}, "not a night"),
        (DecisionRequest, DECISION | {"valid_from": "0001-01-01T00:00:00+14:00"}, "not a night"),
        (DecisionRequest, DECISION | {"valid_until": "9999-12-31T23:59:00-14:00"}, "not a night"),
        (MosaicRequest, {}, "give either a target or an observation"),
        (MosaicRequest, {"target": "M 42", "observation": "G-1"}, "give either a target or an observation"),
        (MosaicRequest, {"target": "A", "first": "2013-11-22", "last": "2013-11-21"}, "before it begins on 2013-11-22"),
        (ReprocessRequest, {}, "give either"),
        (ReprocessRequest, {"affected_by": "a", "rules_version": "1"}, "give either"),
        (HousekeepingRequest, {"keep_runs_days": 0}, "greater than or equal to 1"),
    ],
)  # fmt: skip
def test_an_invalid_request_is_refused_with_a_message(
    model: type[BaseModel], given: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(given)
    assert message in str(caught.value)


def test_the_name_of_a_sequence_may_be_that_of_its_events_resource() -> None:
    assert SequenceRequest(sequence=SEQUENCE + NAME).sequence == NAME


def test_requests_are_immutable() -> None:
    request = NightlyRequest(first=date(2013, 11, 21))
    with pytest.raises(ValidationError, match="frozen"):
        request.first = None  # type: ignore[misc]


# Forms are made from the JSON schemas


def fields(model: type[BaseModel]) -> list[tuple[str, dict[str, Any]]]:
    """Return every field of a model's JSON schema and of nested ones, by its path."""
    schema = model.model_json_schema()
    models = {model.__name__: schema, **schema.get("$defs", {})}
    return [
        (f"{where}.{name}", field)
        for where, one in models.items()
        for name, field in one["properties"].items()
    ]


@pytest.mark.parametrize("model", REQUESTS)
def test_every_field_of_a_form_has_a_title_and_a_description(model: type[BaseModel]) -> None:
    bare = [where for where, field in fields(model) if not field.get("description")]
    untitled = [
        where for where, field in fields(model) if not field.get("title") and not _model_inside(field)
    ]
    assert bare == []
    assert untitled == []
    assert len(fields(model)) >= len(model.model_fields)


def _model_inside(field: dict[str, Any]) -> bool:
    return "$ref" in field or "allOf" in field  # a form shows the title of the model


@pytest.mark.parametrize("model", REQUESTS)
def test_every_model_of_a_form_has_a_description(model: type[BaseModel]) -> None:
    schema = model.model_json_schema()
    for name, one in {model.__name__: schema, **schema.get("$defs", {})}.items():
        assert one.get("title"), name
        assert one.get("description"), name


def test_a_form_shows_the_unit_of_each_parameter() -> None:
    units = 0
    for model in STEPS.values():
        properties = model.model_json_schema()["properties"]
        for name, info in model.model_fields.items():
            extra = info.json_schema_extra
            unit = extra["unit"] if isinstance(extra, dict) and "unit" in extra else ""
            if unit:
                assert properties[name]["description"] == f"{info.description}, {unit}"
                units += 1
    assert units > 30


def test_the_description_of_a_parameter_itself_has_no_unit() -> None:
    class Step(StepParameters):
        """A step."""

        low: float = parameter(3.0, "rejected below", unit="sigma", gt=0)
        count: int = parameter(2, "how many")

    properties = Step.model_json_schema()["properties"]
    assert properties["low"]["description"] == "rejected below, sigma"
    assert properties["low"]["unit"] == "sigma"
    assert properties["low"]["exclusiveMinimum"] == 0
    assert properties["count"]["description"] == "how many"
    assert Step.model_fields["low"].description == "rejected below"
