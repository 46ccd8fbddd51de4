"""The run over the table: groups that share a reduction, repetitions alone, and the verdicts."""

from __future__ import annotations

import os
import shutil
import time
import traceback
from collections.abc import Iterator, Sequence
from itertools import groupby

from benchmarks.faults.laboratory import Laboratory, announce
from benchmarks.faults.outcome import Outcome
from benchmarks.faults.situation import Check, Row, Situation, Verdict, verdict_of


def run(situations: Sequence[Situation], lab: Laboratory, *, keep: bool = False) -> Iterator[Row]:
    """Yield the verdict on each situation, in the order of the table."""
    for group, members in groupby(situations, key=lambda one: one.group):
        together = tuple(members)
        if group and len(together) > 1:
            yield from _shared(together, lab, keep)
        else:
            yield from (_alone(one, lab, keep) for one in together)


def _shared(together: Sequence[Situation], lab: Laboratory, keep: bool) -> Iterator[Row]:
    """Reduce a night with the faults of all; repeat alone those that do not hold there."""
    announce(f"{len(together)} situations in one reduction: {together[0].group}")
    began = time.monotonic()
    outcome = _reduced(together, lab)
    seconds = (time.monotonic() - began) / len(together)
    for one in together:
        verdict = _judged(one, outcome)
        if verdict.standing == "holds":
            yield Row(one, verdict, seconds)
        else:
            yield _alone(one, lab, keep)
    _clear(outcome, keep)


def _alone(one: Situation, lab: Laboratory, keep: bool) -> Row:
    announce(one.name)
    began = time.monotonic()
    if one.root and os.geteuid() != 0:
        return Row(one, Verdict("half", "not tried: it needs the account root"))
    if one.trial is None:
        outcome = _reduced((one,), lab) if one.disturb or one.options else lab.untouched
        verdict = _judged(one, outcome)
        if outcome is not lab.untouched:
            _clear(outcome, keep)
    else:
        folder = lab.new_folder(one.name)
        try:
            verdict = verdict_of(one.trial(lab, folder))
        except Exception as error:  # noqa: BLE001 - one situation never stops the others
            verdict = _crashed(error)
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    return Row(one, verdict, time.monotonic() - began)


def _reduced(together: Sequence[Situation], lab: Laboratory) -> Outcome:
    night = lab.copy(together[0].group or together[0].name)
    for one in together:
        if one.disturb is not None:
            one.disturb(night)
    options = [option for one in together for option in one.options]
    return lab.reduce(night, together[0].name, *options)


def _judged(one: Situation, outcome: Outcome) -> Verdict:
    judge = one.judge
    if judge is None:
        return verdict_of([Check(False, "the situation has no judge")])
    try:
        return verdict_of(judge(outcome))
    except Exception as error:  # noqa: BLE001 - one situation never stops the others
        return _crashed(error)


def _crashed(error: Exception) -> Verdict:
    announce("".join(traceback.format_exception(error)))
    return Verdict("broken", f"could not be judged: {type(error).__name__}: {error}")


def _clear(outcome: Outcome, keep: bool) -> None:
    if not keep:
        shutil.rmtree(outcome.night.parent, ignore_errors=True)
