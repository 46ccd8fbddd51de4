"""The README, the changelog and the documents are in plain English: `english.AVOIDED` lists what to avoid."""

from __future__ import annotations

from pathlib import Path

import pytest
from english import ALLOWED, AVOIDED, FOLDERS, allowances_in, findings, prose_of

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    {ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")}
)
#: Modules whose texts may need an allowance (tests/test_english.py).
MODULES = sorted(module for folder in FOLDERS for module in (ROOT / folder).rglob("*.py"))

#: A sentence for each entry of AVOIDED that has to be found, in the order of the table.
BAD = (
    "The command tells which frames fit.",
    "The report says why.",
    "The table lists its words.",
    "The whole file is read.",
    "Threads: as many as cores without.",
    "The folder (`/run/secrets` without it).",
    "The status lists what is in work.",
    "The service runs by itself.",
    "There is none.",
    "The time is no time at all.",
    "A negative limit makes no sense.",
    "The product is made anew.",
    "A file beside the program.",
    "The rules of then are used.",
    "A person decides.",
    "The product is spoilt.",
    "The pixels round the star.",
    "The answer depends on who asks.",
    "It lists what is not there.",
)


def _id(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_the_prose_avoids_the_listed_words(page: Path) -> None:
    found = sorted(findings(prose_of(page.read_text(encoding="utf-8"))), key=lambda one: one.line)
    assert not found, "\n".join(f"{_id(page)}, {one}" for one in found)


def test_every_allowance_is_used() -> None:
    used = {phrase for page in PAGES for phrase in allowances_in(prose_of(page.read_text(encoding="utf-8")))}
    for module in MODULES:
        used |= allowances_in(module.read_text(encoding="utf-8"))
    assert set(ALLOWED) == used, "remove the allowances that no page and no module needs"


@pytest.mark.parametrize(("sentence", "write"), list(zip(BAD, AVOIDED.values(), strict=True)))
def test_each_listed_word_is_found(sentence: str, write: str) -> None:
    assert [one.write for one in findings(prose_of(sentence))] == [write]


def test_a_finding_names_its_line_across_a_line_break() -> None:
    (found,) = findings("Fine.\nThe run is in\nwork.\n")
    assert (found.line, found.found) == (2, "in\nwork")
    assert str(found) == "line 2: 'in\\nwork'; write: running or in progress"


@pytest.mark.parametrize(
    "text",
    [
        "It uses a password, besides; the answer is wholesome.",
        "Distances are counted in whole steps of 24 hours.",
        "Run `nirflow tell` or see [the page](words/told.md).",
        "```\n$ nirflow cal compare A\nA beside B\n```\n",
        "- An item:\n\n  ```\n  the whole night\n  ```\n",
    ],
)
def test_other_words_allowed_phrases_and_code_are_left_alone(text: str) -> None:
    assert list(findings(prose_of(text))) == []


def test_an_allowance_covers_its_phrase_only() -> None:
    found = [one.found for one in findings("In whole steps, over the whole night.")]
    assert found == ["whole"]
