"""The templates of the pages that nirflow serves, with the frame that they share with the pages of nights."""

from __future__ import annotations

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from imaging.printable import printable


def templates() -> Environment:
    """Return the templates; every text is escaped."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader("deployments.pages"), PackageLoader("flows.page")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "moment": lambda moment: moment.strftime("%Y-%m-%d %H:%M"),
        "printable": printable,
    }
    return environment
