"""The base class of the parameters of steps: frozen, strict, with a unit and a meaning for each value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

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

    #: Parameters of earlier versions that no longer exist, and those that changed their meaning together with them.
    retired: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def outdated(cls, recorded: Mapping[str, Any]) -> dict[str, Any]:
        """Return those of the values recorded with a product that an earlier version gave another meaning.

        Parameters of the same name count if the record also has one that no longer exists.
        """
        if all(name in cls.model_fields for name in cls.retired & recorded.keys()):
            return {}
        return {name: value for name, value in recorded.items() if name in cls.retired}

    @classmethod
    def current(cls, recorded: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values recorded with a product that still apply."""
        outdated = cls.outdated(recorded)
        return {name: value for name, value in recorded.items() if name not in outdated}


def parameter(default: Any, description: str, *, unit: str = "", **limits: Any) -> Any:
    """Declare a parameter: its default, its meaning, its unit and pydantic's limits (``ge``, ``le``...).

    The JSON schema, from which forms are made, contains the unit in the description.
    """
    text = f"{description}, {unit}" if unit else description
    extra: dict[str, JsonValue] = {"unit": unit, "description": text}
    return Field(default=default, description=description, json_schema_extra=extra, **limits)
