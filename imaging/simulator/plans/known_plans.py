"""The plans by the name of their instrument."""

from __future__ import annotations

import re
from typing import Final

from imaging.instruments import catalogue
from imaging.instruments.instrument import Instrument
from imaging.simulator.plans import f2_nights, niri_nights
from imaging.simulator.plans.any_table import plan_for
from imaging.simulator.plans.plan_model import Plan

#: The instrument of the tutorial.
USUAL: Final = f2_nights.PLAN.instrument
_KNOWN: Final = {plan.instrument: plan for plan in (f2_nights.PLAN, niri_nights.PLAN)}
#: Bands of the instruments with a plan of their own.
BANDS: Final = tuple(dict.fromkeys(band for plan in _KNOWN.values() for band in plan.bands))


def plan_of(instrument: str) -> Plan:
    """Return the plan of an instrument's nights.

    Raises
    ------
    NirflowError
        If no table describes it.
    """
    table = catalogue.named(instrument)
    return _KNOWN.get(table.name) or plan_for(table)


def file_root(instrument: Instrument, date: str, number: int) -> str:
    """Return the name of a raw file, without a suffix, as the instrument's site gives it.

    Parameters
    ----------
    instrument
        Its table.
    date
        YYYYMMDD.
    number
        Number of the exposure in that night.
    """
    pattern = instrument.site.name_date or ""
    named = re.sub(r"\(.*?\)", date, re.sub(r"\\d\{(\d)\}(?!\))|\\d\+(?!\))", "#", pattern))
    if not re.fullmatch(r"[\w#.-]+", named) or named.count("#") != 1:
        return f"{instrument.name}{date}_{number:04d}"
    return named.replace("#", f"{number:04d}")
