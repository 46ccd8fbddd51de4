from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from flows.run.report import Failure, Kept, NightReport
from nirflow.console.reduction_report import exit_code, print_report
from nirflow.exits import Exit
from tasks.support.references import LeftOut, ProductRef

LOST = LeftOut(name="S20131121S0012.fits", reason="truncated.", remedy="Fetch it again.")
FAILURE = Failure(step="flat", label="flat Y 20 s", message="no lamp-offs")
KEPT = Kept(
    old="d.fits (12345678)", reason="3 of its 10 frames are missing: a, b, c", remedy="Bring them back."
)


def product(**changes: Any) -> ProductRef:
    values: dict[str, Any] = {
        "id": "1", "kind": "dark", "name": "S20131120S0115_dark.fits", "sha256": "0" * 64,
        "recipe_key": "1" * 64,
        "inputs": ("a", "b", "c"), "metrics": {"noise": 2.34567, "hot": None},
        "seconds": 1.25,
    }  # fmt: skip
    return ProductRef(**values | changes)


def report(**changes: Any) -> NightReport:
    started = datetime(2026, 1, 1, tzinfo=UTC)
    return NightReport(**{"out": Path("out"), "started": started, "seconds": 12.34} | changes)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"products": (product(),)}, Exit.OK),
        ({}, Exit.NOTHING),
        ({"left_out": (LOST,)}, Exit.NOTHING),
        ({"failures": (FAILURE,)}, Exit.FAILED),
        ({"failures": (FAILURE,), "products": (product(),)}, Exit.PARTIAL),
        ({"left_out": (LOST,), "products": (product(),)}, Exit.PARTIAL),
        ({"products": (product(left_out=(LOST,)),)}, Exit.PARTIAL),
        ({"left_out": (LOST.model_copy(update={"expected": True}),), "products": (product(),)}, Exit.OK),
        ({"kept": (KEPT,)}, Exit.PARTIAL),
        ({"kept": (KEPT,), "products": (product(),)}, Exit.PARTIAL),
    ],
)
def test_exit_codes(changes: dict[str, Any], code: Exit) -> None:
    assert exit_code(report(**changes)) is code


def test_kept_and_incomplete_products_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    lost = tuple(LeftOut(name=f"S{n}.fits", reason="0 stars to match") for n in range(2))
    print_report(report(products=(product(left_out=lost),), kept=(KEPT,)))
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    reported = " ".join(lines)
    assert (
        "Not replaced, d.fits (12345678): 3 of its 10 frames are missing: a, b, c. Bring them back."
        in reported
    )
    assert (
        "Incomplete, S20131120S0115_dark.fits lacks 2 of 5 frames (0 stars to match: S0.fits, S1.fits)."
        in reported
    )


def test_the_report_at_the_end_of_a_night(capsys: pytest.CaptureFixture[str]) -> None:
    flat = product(
        kind="flat", name="f", output=Path("out/S20131129S0320_flat.fits"), reused=True,
        warnings=("old dark",), calibrations=("S20131129S0320_bpm.fits",), left_out=(LOST,),
        metrics={"noise": 0.0234567, "level": 22621.8, "drift": 0.1},
    )  # fmt: skip
    print_report(
        report(
            products=(product(), flat), failures=(FAILURE,), left_out=(LOST,),
            log_file=Path("out/nirflow.log"), flow_run="night-x", step_seconds={"dark": 1.25, "flat": 2.0},
        )
    )  # fmt: skip
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "S20131120S0115_dark.fits 3 - noise 2.346 e- 1.2 s built" in lines
    assert "S20131129S0320_flat.fits 3 S20131129S0320_bpm level 22622 e-, noise 2.346 % 1.2 s reused" in lines
    assert "Warning, f: old dark" in lines
    assert "Failed, flat of flat Y 20 s: no lamp-offs" in lines
    assert lines.count("Left out, S20131121S0012.fits: truncated. Fetch it again.") == 1
    assert "1 made, 1 reused, 1 failed in 12.3 s." in lines
    assert "Seconds by step, summed over tasks: dark 1.2, flat 2.0" in lines
    assert "Log: out/nirflow.log" in lines
