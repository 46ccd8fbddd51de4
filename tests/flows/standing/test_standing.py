"""Where a group stands follows from its outcome, from what arrived since, and from the time."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import pytest

from flows.page.model import Group, NightFrame, NightPage, NightProduct
from flows.run.report import Space
from flows.standing.standing import Habits, Standing, standings, unused
from tasks.support.references import LeftOut

NOW = datetime(2026, 1, 1, 6, tzinfo=UTC)
UP = Habits(up=True, quiet=60.0, waiting_days=14)
DOWN = Habits(up=False, quiet=60.0, waiting_days=14)


def frame(number: int, age: float, problem: str = "", remedy: str = "") -> NightFrame:
    """Return a frame that arrived ``age`` seconds ago."""
    facts = cast("Any", SimpleNamespace(name=f"S{number}"))
    return NightFrame(facts, f"sha{number}", (), problem, remedy, NOW - timedelta(seconds=age))


def product(*numbers: int, age: float, left_out: tuple[LeftOut, ...] = ()) -> NightProduct:
    return NightProduct(
        uuid4(), "image", "S1_image.fits", "Y FIELD", "key", "sha", sources=tuple(f"sha{n}" for n in numbers),
        left_out=left_out, made_at=NOW - timedelta(seconds=age),
    )  # fmt: skip


def stands(
    frames: tuple[NightFrame, ...], habits: Habits = UP, left_out: tuple[LeftOut, ...] = (), **group: Any
) -> Standing:
    whole = Group(
        "image", "Y FIELD", tuple(one.name for one in frames), tuple(one.sha256 for one in frames), **group
    )
    page = NightPage(date(2026, 1, 1), frames, (), (whole,), (), (), left_out, (), ())
    (found,) = standings(page, habits, NOW)
    assert (found.label, found.frames) == ("Y FIELD", whole.frames)
    return found


def test_a_sequence_whose_last_frame_just_arrived_is_in_its_quiet_time() -> None:
    found = stands((frame(1, 300), frame(2, 12)))
    assert found.stage == "quiet"
    assert found.why == "no run has reduced its 2 frames yet; the last frame arrived 12 s ago"
    assert found.next == "A run starts in 48 s unless another frame arrives."
    assert found.since == NOW - timedelta(seconds=12)
    assert found.remedy == ""


@pytest.mark.parametrize(("habits", "remedy"), [(UP, "nirflow status"), (DOWN, "nirflow up")])
def test_afterwards_it_is_due(habits: Habits, remedy: str) -> None:
    found = stands((frame(1, 61.0),), habits)
    assert found.stage == "due"
    assert remedy in found.remedy
    # Nobody waits for the end of a quiet time that nothing measures.
    assert stands((frame(1, 2.0),), DOWN).stage == "due"


def test_a_stack_of_all_frames_is_done() -> None:
    done = stands((frame(1, 300), frame(2, 200)), product=product(1, 2, age=100), state="built")
    assert (done.stage, done.product, done.remedy) == ("done", "S1_image.fits", "")
    assert done.why == "S1_image.fits was made of 2 frames"


def test_frames_that_a_stack_left_out_are_named_and_not_new() -> None:
    lost = LeftOut(name="S2", reason="its seeing is 9 px", remedy="Raise stack.max_seeing.")
    made = product(1, age=100, left_out=(lost,))
    found = stands((frame(1, 300), frame(2, 200)), product=made, state="built")
    assert found.stage == "done"
    assert found.why == "S1_image.fits was made of 1 frame, 1 left out (S2: its seeing is 9 px)"
    assert found.remedy == "Raise stack.max_seeing."


def test_frames_that_arrived_after_the_stack_make_it_due() -> None:
    frames = (frame(1, 300), frame(2, 80), frame(3, 70, problem="rejected by Ana"))
    found = stands(frames, product=product(1, age=100), state="reused")
    assert (found.stage, found.product) == ("due", "S1_image.fits")
    assert found.why == "1 frame arrived after S1_image.fits was made: S2"


def test_a_sequence_without_a_dark_waits_for_it_until_it_is_given_up() -> None:
    tried = NOW - timedelta(hours=1)
    outcome: dict[str, Any] = {
        "state": "waiting",
        "why": "no dark of 120 s.",
        "waits_for": "dark",
        "attempted": tried,
    }
    found = stands((frame(1, 7000),), **outcome)
    assert (found.stage, found.since) == ("waiting", tried)
    assert found.why == "it waits for a dark: no dark of 120 s"
    assert found.next == "As soon as the store has one, a run starts, until 2026-01-15."
    assert "nirflow cal explain S1 --kind dark" in found.remedy
    assert "Raw frames for it in a watched folder make one." in found.remedy
    assert stands((frame(1, 7000),), DOWN, **outcome).next == "Nothing: nirflow is not up."
    # A frame that arrived since changes what is next.
    again = stands((frame(1, 7000), frame(2, 90)), **outcome)
    assert again.stage == "due"
    assert again.why == "frames arrived after the last attempt, which lacked a dark"


@pytest.mark.parametrize(
    ("status", "stage"), [("candidate", "done"), ("candidate, made with something rejected", "waiting")]
)
def test_a_stack_counts_again_when_its_dark_is_reinstated(status: str, stage: str) -> None:
    made = replace(product(1, age=5000), status=status)
    found = stands(
        (frame(1, 7000),), product=made, state="waiting", why="no dark.", waits_for="dark",
        attempted=NOW - timedelta(hours=1),
    )  # fmt: skip
    assert found.stage == stage


def test_a_failure_is_told_with_what_to_do() -> None:
    tried = NOW - timedelta(hours=1)
    outcome: dict[str, Any] = {
        "state": "failed",
        "why": "no stars.",
        "remedy": "Choose others.",
        "attempted": tried,
    }
    found = stands((frame(1, 7000),), **outcome)
    assert (found.stage, found.why, found.remedy) == ("failed", "no stars", "Choose others.")
    assert stands((frame(1, 7000), frame(2, 10)), **outcome).stage == "quiet"


def test_a_group_that_met_a_full_disk_waits_for_space() -> None:
    outcome: dict[str, Any] = {
        "state": "failed", "why": "full.", "attempted": NOW, "space": Space(folder=Path("/d"), needed=3 * 10**9),
    }  # fmt: skip
    up = replace(UP, free=lambda _: 2 * 10**8)
    found = stands((frame(1, 7000),), up, **outcome)
    assert (found.stage, found.since) == ("waiting", NOW)
    assert found.why == "it waits for disk space: 200.0 MB free, 3.0 GB needed (/d)"
    assert "starts again when there is room" in found.next
    assert "nirflow clean" in found.remedy
    assert stands((frame(1, 7000),), replace(up, up=False), **outcome).next == "Nothing: nirflow is not up."


def test_unused_frames_come_with_a_remedy() -> None:
    rejected = frame(2, 100, problem="rejected by Ana on 2026-01-01: cloud", remedy="Reinstate it.")
    good = frame(2, 50)  # another frame of that name
    page = NightPage(
        date(2026, 1, 1), (frame(1, 100), rejected, good), (), (), (), (),
        (LeftOut(name="S2", reason=rejected.problem), LeftOut(name="S9", reason="truncated", remedy="Copy it.")),
        (), (),
    )  # fmt: skip
    first, second = unused(page)
    assert (first.name, first.remedy) == ("S2", "Reinstate it.")
    assert (second.name, second.remedy) == ("S9", "Copy it.")
