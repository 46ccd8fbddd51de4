"""The base class of the parameters of steps: frozen, strict, with a unit and a meaning for each value."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue


def in_order(schema: dict[str, Any]) -> None:
    """Number the fields in a JSON schema: databases do not keep their order, and forms use the numbers."""
    for position, field in enumerate(schema.get("properties", {}).values()):
        field["position"] = position


class StepParameters(BaseModel):
    """Parameters of one reduction step.

    The command line, the Prefect form, the header record and the documentation are all made from the
    fields of the subclasses.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=False, json_schema_extra=in_order
    )


def parameter(default: Any, description: str, *, unit: str = "", **limits: Any) -> Any:
    """Declare a parameter: its default, its meaning, its unit and pydantic's limits (``ge``, ``le``...).

    The JSON schema, from which forms are made, contains the unit in the description.
    """
    text = f"{description}, {unit}" if unit else description
    extra: dict[str, JsonValue] = {"unit": unit, "description": text}
    return Field(default=default, description=description, json_schema_extra=extra, **limits)
