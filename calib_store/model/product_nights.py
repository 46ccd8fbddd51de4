"""The nights of products: those of their inputs, as the observatory of their instrument dates them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any

from imaging.instruments import catalogue
from imaging.instruments.site import Site


def site_of(facts: Mapping[str, Any]) -> Site:
    """Return the site of a product's instrument; the default site if its facts name none that has a table."""
    return catalogue.site_of(str(facts.get("instrument", "")))


def nights_of(facts: Mapping[str, Any], span: tuple[datetime, datetime]) -> tuple[date, date]:
    """Return the first and the last night of a product's inputs.

    An exposure belongs to the night in which it starts, and the span ends with the last one's end.

    Parameters
    ----------
    facts
        Facts of the product, which have the exposure time of its inputs.
    span
        Beginning and end of its inputs' exposures.
    """
    begins, ends = span
    exposure = float(facts.get("exposure_time") or 0.0) * float(facts.get("coadds") or 1)
    site = site_of(facts)
    return site.night_of(begins), site.night_of(max(begins, ends - timedelta(seconds=exposure)))


def night_of(facts: Mapping[str, Any], span: tuple[datetime, datetime]) -> date:
    """Return the night of the middle of a product's inputs; parameters as for `nights_of`."""
    first, last = nights_of(facts, span)
    return max(first, min(last, site_of(facts).night_of(span[0] + (span[1] - span[0]) / 2)))
