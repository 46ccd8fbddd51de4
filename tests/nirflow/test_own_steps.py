"""Steps of the user's own on the command line: over those of the settings file, and checked before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nirflow.exits import UsageError
from nirflow.request import ReduceRequest, build_request

RAYS = "ccdproc:cosmicray_lacosmic"


def build(**changes: Any) -> ReduceRequest:
    return build_request([Path("night")], **{"out": Path("out")} | changes)


@pytest.fixture
def settings_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "nirflow.toml"
    path.touch(0o600)
    monkeypatch.setenv("NIRFLOW_CONFIG", str(path))
    return path


def steps(request: ReduceRequest, point: str) -> list[str]:
    return [str(use) for use in request.parameters.steps.at(point)]


def test_steps_of_the_command_line_are_called_in_order() -> None:
    request = build(
        steps=[f"after_detrend={RAYS}(sigclip=5, readnoise=@read_noise)", "after_detrend=ccdproc:cosmicray_median"],
        settings=["steps.time_limit=60", "steps.before_sky=[\"ccdproc:gain_correct(gain=2)\"]"],
    )  # fmt: skip
    assert steps(request, "after_detrend") == [
        f"{RAYS}(sigclip=5, readnoise=@read_noise)",
        "ccdproc:cosmicray_median",
    ]
    assert steps(request, "before_sky") == ["ccdproc:gain_correct(gain=2)"]
    assert request.parameters.steps.time_limit == 60
    assert request.changed[-1] == "--step after_detrend=ccdproc:cosmicray_median"


def test_those_of_the_settings_file_apply_unless_the_point_is_named(settings_file: Path) -> None:
    settings_file.write_text(
        f'[steps]\nafter_detrend = ["{RAYS}", '
        '{function = "ccdproc:gain_correct", arguments = {gain = 2}, bit = 16}]\n'
        'after_stack = ["ccdproc:gain_correct(gain=3)"]\n'
        '[notify]\nunknown = 1\n'  # none of a reduction's business
    )  # fmt: skip
    request = build()
    assert steps(request, "after_detrend") == [RAYS, "ccdproc:gain_correct(gain=2)"]
    assert request.parameters.steps.after_detrend[1].bit == 16
    request = build(steps=["after_detrend=ccdproc:cosmicray_median", "after_stack=none"])
    assert steps(request, "after_detrend") == ["ccdproc:cosmicray_median"]
    assert steps(request, "after_stack") == []
    assert not build(steps=["after_detrend=none", "after_stack=none"]).parameters.steps.used


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"steps": [RAYS]}, "Points: after_detrend, before_sky, before_stack, after_stack"),
        ({"steps": [f"detrend={RAYS}"]}, "Points: after_detrend"),
        ({"steps": [f"after_detrend={RAYS}(sigclip"]}, "do not end with a parenthesis"),
        ({"steps": [f"after_detrend={RAYS}(sigma=5)"]}, "has no argument 'sigma'"),
        ({"steps": ["after_detrend=nopkg:f"]}, "No module named 'nopkg'"),
        ({"steps": [f"after_detrend={RAYS}(readnoise=@object_mask)"]}, "not known there"),
        ({"steps": [f"after_detrend={RAYS}"], "affected_by": "abcdef"}, "cannot go with --affected-by"),
    ],
)
def test_a_wrong_step_is_refused_before_anything_starts(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(UsageError) as caught:
        build(**changes)
    assert expected in f"{caught.value.message} {caught.value.remedy}"
