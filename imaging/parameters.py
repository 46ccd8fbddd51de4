"""The base of every step's parameters: frozen, strict, with a unit and a meaning for each value."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class StepParameters(BaseModel):
    """Parameters of one reduction step.

    The command line, the Prefect form, the header record and the documentation are all made from the
    fields of the subclasses.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=False)


def parameter(default: Any, description: str, *, unit: str = "", **limits: Any) -> Any:
    """Declare a parameter: its default, its meaning, its unit and pydantic's limits (``ge``, ``le``...)."""
    return Field(default=default, description=description, json_schema_extra={"unit": unit}, **limits)
