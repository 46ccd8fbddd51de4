"""The calibration store as pages."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from calib_store.curation.certify import certify
from calib_store.model.records import Decision, FrameRecord, Product
from calib_store.model.settings import StoreSettings
from calib_store.store import Store
from deployments.pages import store_pages
from deployments.pages.store_pages import StorePages
from imaging.frames.facts import FrameFacts

MARKUP = '<img src=x onerror="alert(1)">'


@pytest.fixture
def pages(store: Store, store_settings: StoreSettings) -> Iterator[StorePages]:
    made = StorePages(store_settings)
    yield made
    made.close()


def text_of(page: str) -> str:
    """Return the visible text of a page."""
    body = page.partition("<body>")[2]
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", body)))


def test_the_list_has_configuration_status_tier_and_validity(
    pages: StorePages, store: Store, add: Callable[..., Product]
) -> None:
    dark = certify(store, add(), author="Ana", reason="good")
    status, page = pages.page("", {})
    assert status == 200
    assert dark.validity is not None
    first, last = dark.validity
    assert first is not None
    assert last is not None
    row = text_of(page)
    assert f"dark {dark.name} 120 s, 8 reads" in row
    assert f"certified sound {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} 2013-11-21" in row
    assert f'href="/store/products/{dark.id}"' in page
    assert "no such product" in pages.page("", {"kind": "flat"})[1]


def test_the_list_continues_on_further_pages(
    pages: StorePages, add: Callable[..., Product], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_pages, "LISTED", 2)
    made = [add() for _ in range(5)]
    seen: list[str] = []
    query = {"kind": "dark"}
    while True:
        page = pages.page("", query)[1]
        seen += re.findall(r"/store/products/([0-9a-f-]{36})", page)
        more = re.search(r'href="/store/\?([^"]*after=[^"]*)"', page)
        if more is None:
            break
        query = dict(pair.split("=") for pair in html.unescape(more[1]).split("&"))
        assert query["kind"] == "dark"
    assert seen == [str(one.id) for one in reversed(made)]


@pytest.mark.parametrize(
    "query",
    [
        {"kind": "x"},
        {"status": "' OR 1=1"},
        {"night": "x"},
        {"after": "x"},
        {"limit": "9"},
        {"night": "2013-99-01"},
        {"night": "0001-01-01"},
        {"night": "9999-12-31"},
    ],
)
def test_an_invalid_query_is_refused(pages: StorePages, query: dict[str, str]) -> None:
    status, page = pages.page("", query)
    assert status == 400
    assert "This query is not valid for the store" in page


@pytest.fixture
def chosen(
    store: Store,
    add: Callable[..., Product],
    facts: Callable[..., FrameFacts],
    record: Callable[..., FrameRecord],
) -> tuple[Product, FrameRecord]:
    """A dark chosen for a frame, both with markup in the texts of users."""
    dark = add(provisional=MARKUP)
    raw = record(
        f"{MARKUP.replace('/', '')}.fits", "science", facts=facts(name="science.fits", target=MARKUP)
    )
    store.frames.ingest([raw])
    assert raw.facts is not None
    match = store.match(raw.facts, "dark")
    store.record_decisions([Decision(raw.sha256, match, match.product)])
    return certify(store, dark, author=MARKUP, reason=MARKUP), raw


def test_a_product_has_its_decisions_and_why_it_was_chosen(
    pages: StorePages, chosen: tuple[Product, FrameRecord]
) -> None:
    dark, raw = chosen
    status, page = pages.page(f"products/{dark.id}", {})
    assert status == 200
    seen = text_of(page)
    assert "Chosen for 1 frame; the latest are listed." in seen
    assert "taken: " in seen
    assert f'href="/store/frames/{raw.sha256}"' in page
    assert f"certified {dark.validity[0]:%Y-%m-%d %H:%M}" in seen  # type: ignore[index]
    assert "1 raw frame in all generations." in seen


def test_a_frame_has_its_current_choice_and_the_calibrations_used(
    pages: StorePages, chosen: tuple[Product, FrameRecord]
) -> None:
    dark, raw = chosen
    status, page = pages.page(f"frames/{raw.sha256}", {})
    assert status == 200
    seen = text_of(page)
    assert f"dark: {dark.name}" in seen.replace(" :", ":")
    assert "The store has no flat." in seen
    assert "Calibrations used" in seen


def test_texts_from_users_and_files_are_escaped(
    pages: StorePages, chosen: tuple[Product, FrameRecord]
) -> None:
    dark, raw = chosen
    for path in ("", f"products/{dark.id}", f"frames/{raw.sha256}"):
        page = pages.page(path, {})[1]
        assert "<img" not in page
        assert "<script" not in page
        assert path == "" or MARKUP in html.unescape(page)


@pytest.mark.parametrize(
    "path",
    [
        "x",
        "products/",
        "products/6f1c9a52-0b7e-4d3a-9c41-2e8f5d7b6a10",
        "products/1",
        "frames/",
        "frames/" + "0" * 64,
        "frames/x/y",
        "../",
    ],
)
def test_a_missing_product_or_frame_is_not_found(pages: StorePages, path: str) -> None:
    status, page = pages.page(path, {})
    assert status == 404
    assert "no such" in page


def test_the_page_reports_a_store_that_does_not_respond(tmp_path: Path) -> None:
    status, page = StorePages(StoreSettings(data_dir=tmp_path)).page("", {})
    assert status == 503
    assert "does not answer" in text_of(page)
