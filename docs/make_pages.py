"""Write the pages that are made from the code: ``.venv/bin/python docs/make_pages.py``.

``parameters.md`` comes from the parameter models, ``figures.md`` from the metric models, ``messages.md`` from the
source. A test compares the files with what this makes, so that no page is ever behind the code.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from itertools import groupby
from pathlib import Path
from typing import Final

from imaging.figures import Description
from imaging.product_figures import figures_of, metric_models
from nirflow.step_settings import ParameterInfo, describe, shown
from tasks.support.parameters import STEPS, ReductionParameters

sys.path.insert(0, str(Path(__file__).parent))  # this folder is no package
from collect_messages import Message, messages, reason_for
from message_terms import remedy_shown, term_for

_PARAMETERS: Final = """# Parameters

Made from the models of the steps by `docs/make_pages.py`; do not edit. `nirflow params` shows the same,
`nirflow params sky` one step of it. Change one with `--set`:

    nirflow reduce night --set sky.operation=median --set stack.weights=noise

A list is given as `a,b`, nothing as `none`. The values used are recorded in the product's HISTORY table.
"""
_FIGURES: Final = """# Quality figures

Made from the metric models of the steps by `docs/make_pages.py`; do not edit. The store keeps these figures with each
product, under the name and in the unit given here. Expressions use the name and the stored value:

    nirflow cal list --kind flat --where 'rms < 0.02'

The page of a night and the Prefect UI show a figure under its label, in the unit under *shown in*: with its standard
error, and the digits that this allows, where one is measured, otherwise with the digits that it is worth. A figure
without a label is a detail: the Prefect UI shows it under its name, the page of a night does not show it. `nirflow cal
show` and the store's pages show the stored values of all figures. *Report* figures are in the table at the end of a
reduction; *history* figures are in the tables of the Prefect UI that compare nights.

Products of other versions may have figures that are not listed; they are shown under their names. Products of other
software have none.
"""
_MESSAGES: Final = """# Messages

Made from the source by `docs/make_pages.py`; do not edit. Every message of the command line, the reports and the logs
that reports a problem: what happened, to what, and what to do. Values are set as code, by what they are: `name` is a
file or product, `group` one of frames. Texts between which a slash stands are alternatives. Messages that only pass on
another one are left out.

An *error* stops a command, or the product or frame that it is about. A *reason* states in reports and on pages why
something is left out or kept; a *warning* is shown with the product that it is about, and is in its header (NFWARN) or
in the log.
"""


def parameters_page() -> str:
    """Return the page of the parameters as Markdown."""
    parts = [_PARAMETERS]
    for step, model in STEPS.items():
        what = ReductionParameters.model_fields[step].description or ""
        parts.append(
            f"## {step}\n\n{what[:1].upper()}{what[1:]}.\n\n"
            + _table(
                ("parameter", "default", "unit", "limits", "meaning"), map(_parameter, describe(step, model))
            )
        )
    return "\n".join(parts)


def figures_page() -> str:
    """Return the page of the figures as Markdown."""
    headings = ("figure", "unit", "label", "shown in", "where", "meaning")
    return "\n".join(
        [
            _FIGURES,
            *(
                f"## {kind}\n\n" + _table(headings, map(_figure, figures_of(kind).values()))
                for kind in metric_models()
            ),
        ]
    )


def messages_page() -> str:
    """Return the page of the messages as Markdown, by folder and module."""
    headings = ("module", "", "what happened", "what to do")
    parts = [_MESSAGES]
    for folder, found in groupby(messages(), key=lambda one: one.module.rpartition("/")[0]):
        rows = [_message(one) for one in found if one.text.strip("{}") != one.text[1:-1] or not one.is_error]
        if rows:
            parts.append(f"## {folder}\n\n" + _table(headings, dict.fromkeys(map(tuple, rows))))
    return "\n".join(parts)


#: What makes each page, by file name.
PAGES: Final[dict[str, Callable[[], str]]] = {
    "parameters.md": parameters_page,
    "figures.md": figures_page,
    "messages.md": messages_page,
}


def _message(one: Message) -> list[str]:
    kind = "error" if one.is_error else "reason" if one.kind == "reason" else "warning"
    why = reason_for(one)
    return [
        one.module.rpartition("/")[2],
        kind,
        _as_text(one.module, one.text),
        _as_text(one.module, remedy_shown(one.remedy) or (f"({why})" if why else "")),
    ]


def _as_text(module: str, text: str) -> str:
    """Return a message as Markdown shows it: values as code, by their terms."""
    parts: list[str] = []
    is_code = False  # between the backticks of a command
    for part in re.split(r"({[^{}]*}|`)", text):
        if part == "`":
            is_code = not is_code
            parts.append(part)
        elif part.startswith("{"):
            term = term_for(module, part[1:-1])
            term = part[1:-1] if term is None else term
            parts.append(term.upper() if is_code else f"`{term}`" if term else "")
        else:
            parts.append(part if is_code else re.sub(r"([*_<>\[\]\\])", r"\\\1", part))
    return "".join(parts).replace("``", "` `")


def _parameter(info: ParameterInfo) -> list[str]:
    return [f"`{info.step}.{info.name}`", f"`{shown(info.default)}`", info.unit, info.limits, info.meaning]


def _figure(one: Description) -> list[str]:
    places = [place for place, there in (("report", one.headline), ("history", one.history)) if there]
    labels = [display.label for display in one.displays]
    units = [display.unit or "-" for display in one.displays]
    return [f"`{one.name}`", one.unit, "; ".join(labels), "; ".join(units), ", ".join(places), one.meaning]


def _table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(headings), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    head, *body = ("| " + " | ".join(line) + " |" for line in lines)
    return "\n".join([head, "|" + "---|" * len(lines[0]), *body]) + "\n"


if __name__ == "__main__":
    for name, made in PAGES.items():
        Path(__file__).with_name(name).write_text(made(), encoding="utf-8")
