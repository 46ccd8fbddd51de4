"""Groups of science frames in turn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows.recipes import science
from flows.recipes.submissions import Submissions
from tasks.choose import Choice
from tasks.support.parameters import ReductionParameters
from tasks.support.workspace import Workspace


class Group:
    is_standard = False


@pytest.mark.parametrize(("scarce", "turns"), [(True, [[], [], [0], [0, 1]]), (False, [[], [], [], []])])
def test_groups_wait_for_the_one_before_the_last_if_scratch_is_scarce(
    scarce: bool, turns: list[list[int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[int] = []
    submitted: list[list[int]] = []

    class Stack:
        def __init__(self, number: int) -> None:
            self.number = number

        def wait(self) -> None:
            waited.append(self.number)

    def submit(*_: Any) -> Stack:
        submitted.append(list(waited))
        return Stack(len(submitted) - 1)

    monkeypatch.setattr(science, "submit_stack", submit)
    workspace = Workspace(data_dir=tmp_path, out=tmp_path, scarce_scratch=scarce)
    run = Submissions(ReductionParameters(), Choice(), workspace, [])
    for _ in turns:
        group: Any = Group()
        science.RECIPE.build(group, None, run)
    assert submitted == turns
