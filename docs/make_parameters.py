"""Write ``docs/parameters.md`` from the parameter models: ``.venv/bin/python docs/make_parameters.py``.

A test compares the file with what this makes, so that the page is never behind the code.
"""

from __future__ import annotations

from pathlib import Path

from nirflow.step_settings import ParameterInfo, describe, shown
from tasks.support.parameters import STEPS, ReductionParameters

PAGE = Path(__file__).with_name("parameters.md")

_HEAD = """# Parameters

Made from the models of the steps by `docs/make_parameters.py`; do not edit. `nirflow params` shows the same,
`nirflow params sky` one step of it. Change one with `--set`:

    nirflow reduce night --set sky.operation=median --set stack.weights=noise

A list is given as `a,b`, nothing as `none`. Whatever was used stands in the product's HISTORY table.
"""
_COLUMNS = "| parameter | default | unit | limits | meaning |\n|---|---|---|---|---|"


def page() -> str:
    """The whole page as Markdown."""
    parts = [_HEAD]
    for step, model in STEPS.items():
        what = ReductionParameters.model_fields[step].description or ""
        rows = [_row(info) for info in describe(step, model)]
        parts.append(f"## {step}\n\n{what[:1].upper()}{what[1:]}.\n\n{_COLUMNS}\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)


def _row(info: ParameterInfo) -> str:
    cells = [f"`{info.step}.{info.name}`", f"`{shown(info.default)}`", info.unit, info.limits, info.meaning]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
