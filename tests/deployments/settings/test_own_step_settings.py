"""The section of the settings for steps of the user's own, and what a form may name."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployments.deployed.common import options_of
from deployments.settings.all_settings import Settings, describe
from deployments.settings.own_step_settings import StepSettings
from imaging.errors import NirflowError
from imaging.own_steps.uses import OwnStepParameters
from tasks.support.parameters import ReductionParameters


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    path = tmp_path / "nirflow.toml"
    path.touch(0o600)
    path.write_text(
        '[steps]\nbefore_stack = ["mypkg.steps:remove_glow(width=3)"]\nin_forms = ["mypkg.steps:other"]\n'
        "time_limit = 30\n"
    )
    monkeypatch.setenv("NIRFLOW_CONFIG", str(path))
    return Settings()


def test_the_steps_of_the_settings_apply_to_every_unattended_run(settings: Settings) -> None:
    own = options_of(settings).parameters.steps
    assert [str(use) for use in own.before_stack] == ["mypkg.steps:remove_glow(width=3)"]
    assert own.time_limit == 30
    shown = {one.name: one for one in describe(settings)}
    assert str(shown["steps.before_stack"].value[0]) == "mypkg.steps:remove_glow(width=3)"
    assert shown["steps.before_stack"].source.endswith("nirflow.toml")


def test_a_form_adds_points_and_empties_others(settings: Settings) -> None:
    form = OwnStepParameters(after_stack=["mypkg.steps:other"], before_stack=["none"])
    own = options_of(settings, parameters=ReductionParameters(steps=form)).parameters.steps
    assert [str(use) for use in own.after_stack] == ["mypkg.steps:other"]
    assert own.before_stack == ()


@pytest.mark.parametrize(
    "text",
    ["mypkg.steps:remove_glow(width=9)", "mypkg.steps:other", "registered_step", "registered_step(flat=@A_flat.fits)"],
)  # fmt: skip
def test_a_form_may_name_what_the_owner_allows(settings: Settings, text: str) -> None:
    settings.steps.check_form(OwnStepParameters(after_detrend=[text]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("os:system", "names the function os:system"),
        ("ccdproc:fits_ccddata_writer(filename='/home/x/.bashrc')", "names the function ccdproc:fits"),
        ("mypkg.steps:remove_glow2", "names the function"),
        (
            "ccdproc:cosmicray_lacosmic",
            "names the function",
        ),  # the list of this observatory replaces the default
        ("mypkg.steps:other(table=@/etc/shadow)", "names the file /etc/shadow"),
        ("registered_step(table=@~/x)", "names the file ~/x"),
    ],
)
def test_a_form_is_no_shell(settings: Settings, text: str, message: str) -> None:
    form = OwnStepParameters(before_sky=["registered_step", text])
    with pytest.raises(NirflowError, match=message):
        options_of(settings, parameters=ReductionParameters(steps=form))


def test_by_default_a_form_may_search_cosmic_rays() -> None:
    StepSettings().check_form(OwnStepParameters(after_detrend=["ccdproc:cosmicray_lacosmic(sigclip=5)"]))
