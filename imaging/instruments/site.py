"""Where a telescope is, as far as the dates of its frames depend on it."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Site(BaseModel):
    """The time zone of a telescope, and how its nights and file names are dated.

    The defaults are those of a table without a site, and of an instrument without a table: nights change at 14:00 UT.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    utc_offset: float = Field(default=0.0, ge=-14, le=14, description="local time minus UT, hours")
    rollover: float = Field(
        default=14.0, ge=0, lt=24,
        description="local time, hours, from which exposures belong to the next date: nights and file names",
    )  # fmt: skip
    name_date: str | None = Field(
        default=None, description="pattern of a file name whose only group is the date of the night, YYYYMMDD"
    )

    @model_validator(mode="after")
    def _one_group(self) -> Self:
        try:
            groups = 1 if self.name_date is None else re.compile(self.name_date).groups
        except re.error as error:
            raise ValueError(f"name_date is not a regular expression: {error}") from None
        if groups != 1:
            raise ValueError(f"name_date needs exactly one group in parentheses: {self.name_date!r}")
        return self

    def night_of(self, moment: datetime) -> date:
        """Return the date of the night of a moment."""
        local = moment.astimezone(UTC) + timedelta(hours=self.utc_offset)
        return (local + timedelta(hours=24 - self.rollover)).date()

    def begins(self, night: date) -> datetime:
        """Return the moment from which exposures belong to a night; it ends when the next one begins."""
        return datetime.combine(night, time(), UTC) - timedelta(hours=24 - self.rollover + self.utc_offset)

    def validity_of(self, first: date, last: date) -> tuple[datetime, datetime]:
        """Return when the first night begins, and when the night after the last one does."""
        return self.begins(first), self.begins(last + timedelta(days=1))

    def date_in(self, name: str) -> date | None:
        """Return the date of the night in a file name; None if it has none."""
        found = re.search(self.name_date, name) if self.name_date is not None else None
        if found is None:
            return None
        try:
            return datetime.strptime(found[1], "%Y%m%d").date()
        except (ValueError, TypeError):
            return None
