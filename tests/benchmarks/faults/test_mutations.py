"""A sample of mutated raw files: none raises, none is refused without a reason, none passes that must not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.faults.examined import Examined, examine_mutation
from benchmarks.faults.mutate import CLASSES, mutation
from benchmarks.faults.mutation_run import mutated_night

SAMPLE = range(100)


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Path]]:
    """Yield the frames of the night whose copies are mutated."""
    with mutated_night(tmp_path_factory.mktemp("mutations"), size=128) as (_, paths):
        yield paths


@pytest.fixture(scope="module")
def examined(bases: list[Path], tmp_path_factory: pytest.TempPathFactory) -> list[Examined]:
    """Return what the examination finds in the sample."""
    folder = tmp_path_factory.mktemp("mutated")
    return [examine_mutation(mutation(number, bases), folder) for number in SAMPLE]


def test_the_sample_has_every_class(examined: list[Examined]) -> None:
    assert {one.mutation.kind.name for one in examined} == {kind.name for kind in CLASSES}


def test_a_mutation_is_made_again_by_its_number(bases: list[Path]) -> None:
    for number in (3, 17, 64):
        one, again = mutation(number, bases), mutation(number, bases)
        assert (one.content, one.done, one.name) == (again.content, again.done, again.name)
        assert one.content != one.base.read_bytes()


def test_nothing_raises_and_nothing_passes_that_must_be_seen_at_once(examined: list[Examined]) -> None:
    silent = [
        f"{one.mutation.number} {one.mutation.kind.name}: {one.message}" for one in examined if one.silent
    ]
    assert silent == []


def test_every_refusal_has_a_reason(examined: list[Examined]) -> None:
    refused = [one for one in examined if one.fate == "refused"]
    assert len(refused) > len(examined) // 4
    assert [one.mutation.number for one in refused if len(one.message) < 15] == []


def test_a_file_that_was_not_changed_is_harmless(bases: list[Path], tmp_path: Path) -> None:
    from dataclasses import replace

    one = mutation(0, bases)
    untouched = replace(one, content=one.base.read_bytes())
    assert examine_mutation(untouched, tmp_path).fate == "harmless"


def test_a_change_that_nobody_could_see_is_not_called_harmless(bases: list[Path], tmp_path: Path) -> None:
    flipped = next(n for n in range(200) if mutation(n, bases).kind.name == "flipped bits")
    assert examine_mutation(mutation(flipped, bases), tmp_path).fate in ("passed", "refused", "noted")
