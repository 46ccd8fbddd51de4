"""The page is complete, reproducible, refers to nothing outside, and shows every text literally."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from hostile import harmful

from calib_store.model.records import FrameRecord, Product, Run
from calib_store.store import Store
from flows.page.lists.night_rows import KEPT
from flows.page.view import distance, link, range_of
from flows.page.write import write_index, write_night_page
from flows.run.report import Failure
from imaging.frames.facts import FrameFacts
from imaging.quick_look.frame_figures import FrameFigures
from imaging.quick_look.night_record import NightRecord, write_record
from tasks.support.references import LeftOut, ProductRef

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>\x1b]0;owned\x07\n\x9b\x7f\u202e\u2028"


class Page(HTMLParser):
    """A page as a browser sees it: its elements with their attributes, its addresses and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._in = ""
        self.source = path.read_text()
        self.feed(self.source)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self._in = tag
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        if self._in != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    @property
    def addresses(self) -> list[str]:
        reported = [
            v
            for _, attributes in self.tags
            for k, v in attributes.items()
            if k in ("href", "src", "xlink:href")
        ]
        return [address for address in reported if address is not None]


@pytest.fixture
def written(store: Store, night: date, tmp_path: Path) -> Callable[[], Page]:
    """Return the night's page in ``pages``."""
    return lambda: Page(write_night_page(store, night, tmp_path / "pages"))


def test_a_night_at_a_glance(
    written: Callable[[], Page], stack: Callable[..., Product], ref: Callable[..., ProductRef],
    record_run: Callable[..., Run], failure: Callable[..., Failure], lost: Callable[..., LeftOut],
) -> None:  # fmt: skip
    record_run(
        ref(stack(), label="FIELD Y 2013-11-21"),
        failures=(
            failure(label="OTHER J 2013-11-21", message="no flat serves.", waits_for="flat"),
            failure(step="flat", label="flat H 2013-11-21", message="the lamp drifted."),
        ),
        left_out=(lost(),),
    )
    page = written()
    charts = {attributes["aria-label"] for _, attributes in page.tags if attributes.get("role") == "group"}
    assert {"Sky: 2.42e+03 to 2.5e+03 electrons", "Seeing: 4.1 to 4.6 px"} <= charts
    text = page.text
    assert "Level of the raw frames" not in text  # the sky in electrons is known
    for reported in (
        "Night of 21 November 2013", "1 group failed, 1 group waits for a flat and 1 item was left out.",
        "Waits for a flat: no flat serves.", "the lamp drifted.", "S20131121S0075_image.fits", "candidate",
        "seeing 4.2 px", "S20131121S0099.fits : truncated. Fetch the file again.", "Registration of 3 frames",
        "night in out", "stack 4.0 s", "Shift onto the reference",
    ):  # fmt: skip
        assert reported in text, reported


def test_a_stack_of_an_earlier_version_shows_the_figures_it_has(
    written: Callable[[], Page], stack: Callable[..., Product], ref: Callable[..., ProductRef],
    record_run: Callable[..., Run],
) -> None:  # fmt: skip
    """Its table has no seeing and no sky."""
    record_run(ref(stack(without=("seeing", "sky"))))
    text = written().text
    assert "Level of the raw frames, mostly sky" in text
    assert "Shift onto the reference" in text
    assert "Registration of 3 frames" in text


def test_a_page_is_complete_and_loads_nothing_from_outside(
    written: Callable[[], Page], stack: Callable[..., Product], ref: Callable[..., ProductRef],
    record_run: Callable[..., Run], night: date, tmp_path: Path,
) -> None:  # fmt: skip
    record_run(ref(stack()))
    page = written()
    folder = tmp_path / "pages" / night.isoformat()
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(pictures) == 4
    assert all(picture["loading"] == "lazy" for picture in pictures)
    for address in page.addresses:
        parts = urlsplit(address)
        if address.startswith("#"):
            names = {attributes.get("id") for _, attributes in page.tags}
            assert address[1:] in names, address
        elif parts.scheme:
            pytest.fail(f"{address} does not hold on another machine")
        elif address not in ("../index.html", "../trends.html", "../../runs/flow-run/1"):
            assert (folder / unquote(address)).is_file(), address
    assert not any(tag in ("link", "script", "iframe", "object") for tag, _ in page.tags)
    first = (folder / "index.html").read_bytes()
    assert b"url(http" not in first
    written()
    assert (folder / "index.html").read_bytes() == first, "the same store gives the same page"


def test_frames_as_they_arrived_are_in_the_page_and_no_script_is(
    written: Callable[[], Page], stack: Callable[..., Product], ref: Callable[..., ProductRef],
    record_run: Callable[..., Run], facts: Callable[..., FrameFacts], night: date, tmp_path: Path,
) -> None:  # fmt: skip
    record_run(ref(stack()))
    its = facts()
    one = FrameFigures(
        name=HOSTILE, sha256="0" * 64, night=night, started=its.started, problem=HOSTILE, kind="object"
    )
    write_record(tmp_path / "pages", NightRecord(night=night, written=its.started, frames=(one,)))
    page = written()
    assert [attributes for tag, attributes in page.tags if tag == "script"] == []
    assert "Frames as they arrived" in page.text
    assert "the table follows the night" in page.text
    assert 'data-name="seeing"' in page.source
    assert "<script>alert" not in page.source


def test_any_text_is_shown_literally(
    store: Store, written: Callable[[], Page], record: Callable[..., FrameRecord], facts: Callable[..., FrameFacts],
    stack: Callable[..., Product], ref: Callable[..., ProductRef], record_run: Callable[..., Run],
    failure: Callable[..., Failure], lost: Callable[..., LeftOut],
) -> None:  # fmt: skip
    """Target, program, file names, reasons and addresses as an attacker would write them: no element, no
    handler.
    """
    record_run(ref(stack()))
    clean = _elements(written())
    name = 'S"><img src=x onerror=alert(3)>\x1b[2J\u202e.fits'
    hostile = facts(name=name, target=HOSTILE, program=HOSTILE, filter=HOSTILE, observation_id=HOSTILE)
    store.frames.ingest([record("S9.fits", facts=hostile, quarantine=HOSTILE)])
    record_run(
        ref(
            stack(1), label=HOSTILE, warnings=(HOSTILE,), output=Path("/x") / HOSTILE, calibrations=(HOSTILE,)
        ),
        ref(name=HOSTILE, kind="dark", label=HOSTILE, metrics={"reference": HOSTILE, HOSTILE: HOSTILE}),
        failures=(
            failure(label=HOSTILE, message=HOSTILE, waits_for=HOSTILE),
            failure(step="flat", message=HOSTILE),
        ),
        left_out=(lost(HOSTILE, reason=HOSTILE, remedy=HOSTILE),),
        step_seconds={HOSTILE: 1.0},
        flow_run=HOSTILE,
        url="javascript:alert(4)",
    )
    page = written()
    assert page.text.count("<script>alert(1)</script>") > 10
    assert "Seeing over the night" in page.text
    cells = page.source.partition('class="quality"')[2].partition("</table>")[0]
    assert cells.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 1, "the label in the table of the stacks"
    assert _elements(page) == clean
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes), tag
    assert not any(address.lower().startswith(("javascript:", "data:")) for address in page.addresses)
    assert harmful(page.source) == set()
    assert r"onerror=alert(2)>\x1b]0;owned\x07\n\u009b\x7f\u202e\u2028" in page.text


def _elements(page: Page) -> set[str]:
    # A page with failures has only these in addition.
    return {tag for tag, _ in page.tags} | {"ul", "li", "strong"}


def test_a_page_without_its_files(
    store: Store, written: Callable[[], Page], raws: Sequence[FrameRecord], stack: Callable[..., Product],
    ref: Callable[..., ProductRef], record_run: Callable[..., Run],
) -> None:  # fmt: skip
    made = stack()
    reported = ref(made)
    record_run(reported)
    path = store.file_of(made)
    path.chmod(0o644)
    path.write_bytes(b"damaged")
    reported.output.unlink()
    for raw in raws:
        raw.path.unlink()
    text = written().text
    assert f"No longer at {reported.output}" in text
    assert "No preview: The file of S20131121S0075_image.fits" in text
    assert text.count("its file has been moved") == 3


def test_a_file_below_the_pages_has_a_relative_link(tmp_path: Path) -> None:
    root = tmp_path / "pages"
    page = root / "2013-11-21"
    assert link(root / "out" / "a.fits", page, root) == "../out/a.fits"
    assert link(page / "previews" / "a b#?.png", page, root) == "previews/a%20b%23%3F.png"
    assert link(page / "javascript:alert(1).fits", page, root) == "javascript%3Aalert%281%29.fits"
    assert link(tmp_path / "out" / "a.fits", page, root) == ""


def test_texts_for_ranges_and_distances() -> None:
    assert range_of(["S2.fits", "S1.fits"]) == "S1 to S2"
    assert (range_of(["S1.fits"]), range_of([])) == ("S1", "")
    assert (distance(-1.26), distance(6.8), distance(None)) == ("1.3 days before", "6.8 days after", "")


def test_the_index_has_the_newest_night_first_and_links_to_existing_pages(
    store: Store, night: date, raws: Sequence[FrameRecord], stack: Callable[..., Product],
    ref: Callable[..., ProductRef], record_run: Callable[..., Run], failure: Callable[..., Failure], tmp_path: Path,
) -> None:  # fmt: skip
    later = night + timedelta(days=1)
    made = ref(stack(), metrics={"seeing": 4.2})
    record_run(made, failures=(failure(label="a"), failure(label="b", waits_for="flat")))
    record_run(nights=(later,))
    folder = tmp_path / "pages"
    (folder / "2013-99-99").mkdir(parents=True)
    (folder / "2013-99-99" / "index.html").touch()
    write_night_page(store, night, folder)
    path = write_index(store, folder)
    assert path == folder / "index.html"
    page = Page(path)
    assert page.addresses == ["trends.html", "2013-11-21/index.html"]
    # On a phone, where the head is hidden, each cell has its heading.
    table = page.source.partition('class="listing"')[2].partition("</table>")[0]
    headings = [part.partition("</th>")[0].partition(">")[2] for part in table.split("<th")[2:]]
    row = table.split("<tr>")[2]
    assert [part.partition('"')[0] for part in row.split('data-name="')[1:]] == headings[1:]
    rows = re.findall(r"2013-11-2[12].*?(?=2013-11-2|$)", page.text)
    assert re.fullmatch(r"2013-11-21 \S.* Y GS-\S+ 0\.\d\d 3 1 1 1.*", rows[1]), rows[1]
    assert rows[0].startswith("2013-11-22 no page yet 0 0 0 0")


def test_the_index_before_the_first_night(store: Store, tmp_path: Path) -> None:
    assert "No night has been reduced yet." in Page(write_index(store, tmp_path / "pages")).text


def test_the_row_of_a_night_is_made_again_only_if_something_happened_to_the_night(
    store: Store, night: date, raws: Sequence[FrameRecord], stack: Callable[..., Product],
    ref: Callable[..., ProductRef], record_run: Callable[..., Run], record: Callable[..., FrameRecord],
    facts: Callable[..., FrameFacts], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    asked: list[date] = []
    of_night = type(store.runs).of_night
    monkeypatch.setattr(
        type(store.runs), "of_night", lambda runs, of: (asked.append(of), of_night(runs, of))[1]
    )
    later = night + timedelta(days=30)
    record_run(ref(stack()))
    record_run(nights=(later,))

    def made() -> list[date]:
        asked.clear()
        write_index(store, tmp_path)
        return asked

    assert made() == [later, night]
    first = (tmp_path / "index.html").read_text()
    assert made() == []
    assert (tmp_path / "index.html").read_text() == first
    record_run(nights=(later,))
    assert made() == [later]
    store.frames.ingest([record("S20131121S0900.fits", facts=facts(name="S20131121S0900.fits"))])
    assert made() == [night]
    assert (tmp_path / "index.html").read_text() != first
    write_night_page(store, night, tmp_path)
    assert night in made()  # it has a page now
    (tmp_path / KEPT).write_text("damaged")
    assert made() == [later, night]
