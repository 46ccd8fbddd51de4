"""The measurement of how well frames unlike the others are found, and the page that it writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.peers import page
from benchmarks.peers.faults import FAULTS, Fault
from benchmarks.peers.frames import SETS, Variations
from benchmarks.peers.measure import SIZES, Alarms, Chance, Pool, alarms, chances


def rows(block: str) -> list[list[str]]:
    """Return the cells of the table in a block of the page."""
    text = page.PAGE.read_text().split(f"<!-- {block} -->")[1].split(f"<!-- end of {block} -->")[0]
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def test_every_set_has_a_fault() -> None:
    assert {fault.of for fault in FAULTS} == set(SETS)
    assert len({(fault.of, fault.name) for fault in FAULTS}) == len(FAULTS)


def test_the_page_has_each_fault_that_is_measured_and_its_picture() -> None:
    wanted = [[one.of, one.name, page.size_text(one, size)] for one in FAULTS for size in one.sizes]
    assert [cells[:3] for cells in rows("detection")] == wanted
    assert page.PICTURE.stat().st_size > 10_000
    assert page.PICTURE.relative_to(page.DOCS).as_posix() in page.PAGE.read_text()


def test_the_page_reports_no_false_alarm() -> None:
    found = rows("false alarms")
    assert [cells[0] for cells in found] == [
        "100 at 512 px", "25 at 512 px, more noise", "10 at full size",
    ]  # fmt: skip
    assert [cells[3:] for cells in found] == [["0", "0"]] * 3


@pytest.mark.parametrize(("electrons", "share"), [(500.0, 1.0), (0.5, 0.0)])
def test_a_large_fault_is_found_and_a_tiny_one_is_not(electrons: float, share: float) -> None:
    (leak,) = (fault for fault in FAULTS if (fault.of, fault.name) == ("darks", "light leak"))
    one = Fault("darks", leak.name, "e-", (electrons,), leak.make)
    pools: dict[int, Pool] = {}
    found = chances(one, 128, (1,), 1, pools)
    assert found == [Chance(electrons, n, 1, share, 0.0, 0) for n in SIZES]
    assert list(pools) == [1]


def test_a_night_that_varies_as_usual_loses_no_frame() -> None:
    seen: list[str] = []
    assert alarms(128, 1, Variations(), seen.append) == Alarms(5, 33, 0, 0, ())
    assert seen == ["128 px, night 1 of 1"]


def test_frames_that_vary_far_too_much_are_counted_and_named() -> None:
    found = alarms(128, 1, Variations(bias=200.0, light=0.8), lambda _: None)
    assert found.left_out + found.warnings > 0
    assert found.examples[0].startswith("night 1, darks, ")


def test_blocks_of_a_page_are_replaced_and_must_exist(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("Before\n<!-- one -->\nold\n<!-- end of one -->\nafter\n")
    page.update({"one": r"\1 new"}, path)
    page.update({"one": r"\1 new"}, path)
    assert path.read_text() == "Before\n<!-- one -->\n\n\\1 new\n\n<!-- end of one -->\nafter\n"
    with pytest.raises(ValueError, match="0 blocks 'two'"):
        page.update({"two": "x"}, path)
