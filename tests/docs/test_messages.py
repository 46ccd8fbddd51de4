"""Messages that report a problem: all are on the page, and an error has a remedy or a reason to have none."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def collect() -> ModuleType:
    """Return the module that collects the messages."""
    return _loaded("collect_messages")


@pytest.fixture(scope="module")
def terms() -> ModuleType:
    """Return the module with the terms for the values in messages."""
    return _loaded("message_terms")


def _loaded(name: str) -> ModuleType:
    """Return a module of the folder of the docs, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(name, module)
    spec.loader.exec_module(module)
    return module


def test_every_error_has_a_remedy_or_needs_none(collect: ModuleType) -> None:
    lacking = collect.without_remedy(collect.messages())
    assert [f"{one.module}:{one.line} {one.kind}: {one.text}" for one in lacking] == []


def test_no_reason_is_left_from_a_message_that_is_gone(collect: ModuleType) -> None:
    found = [(one.module, one.text) for one in collect.messages() if not one.remedy]
    unused = [
        key for key in collect.NO_REMEDY if not any(m == key[0] and t.startswith(key[1]) for m, t in found)
    ]
    assert unused == []


def test_known_messages_are_found(collect: ModuleType) -> None:
    found = {(one.module, one.kind, one.text, one.remedy) for one in collect.messages()}
    assert (
        "imaging/io/raw_file.py", "FrameError", "all pixels have the value {one_value}: the detector was not read out",
        "Leave the frame out.",
    ) in found  # fmt: skip
    kinds = {kind for _, kind, _, _ in found}
    assert {"StoreError", "FrameError", "UsageError", "reason", "warning", "error"} <= kinds
    assert len(found) > 400


def test_every_value_has_a_term_and_every_term_is_used(collect: ModuleType, terms: ModuleType) -> None:
    values = {
        (one.module, name)
        for one in collect.messages()
        for text in (one.text, terms.remedy_shown(one.remedy))
        for name in re.findall(r"{([^{}]*)}", text)
    }
    assert (
        sorted(f"{module}: {name}" for module, name in values if terms.term_for(module, name) is None) == []
    )
    names = {name for module, name in values if (module, name) not in terms.ELSEWHERE}
    assert sorted((terms.PLAIN | terms.TERMS.keys()) - names) == []
    assert sorted(terms.ELSEWHERE.keys() - values) == []
    assert sorted(terms.PLAIN & terms.TERMS.keys()) == []


def test_the_page_has_no_bare_value_as_a_remedy_and_no_name_of_the_code() -> None:
    page = (ROOT / "docs" / "messages.md").read_text(encoding="utf-8")
    rows = [line.strip("|").split(" | ") for line in page.splitlines() if ".py |" in line]
    assert len(rows) > 400
    assert [row for row in rows if re.fullmatch(r"(`[^`]*`[\s.,:;/]*)+", row[-1].strip())] == []
    odd = r"`_\w*`|`__\w+__`|`rstrip`|`strip`|`strerror`|`join`|`removeprefix`|``"
    assert [row for row in rows if re.search(odd, " ".join(row[2:]))] == []


SOURCE = """
class OwnError(NirflowError):
    def __init__(self, why: str) -> None:
        super().__init__(f"The thing {why}.", remedy="Repair it.")


class FrameError(NirflowError):
    pass


class PlainError(NirflowError):
    pass


REMEDY = "Fetch it again."


def work(name, log, warnings):
    log.warning("%s has %d rows", name.root, 3)
    warnings.append(f"no {name} to measure it from")
    if name == 1:
        raise OwnError(f"has {name}")
    if name == 2:
        raise FrameError(name, "it has " + "no pixels", remedy=REMEDY)
    if name == 3:
        reason = f"{name} is odd"
        remedy = "Leave it out."
        return LeftOut(name=name, reason=reason, remedy=remedy)
    raise PlainError(f"{name} is {'low' if name else 'high'}.")
"""


def test_a_source_is_read_as_its_user_sees_it(collect: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "imaging").mkdir()
    (tmp_path / "imaging" / "thing.py").write_text(SOURCE)
    found = collect.messages(tmp_path)
    assert [(one.kind, one.text, one.remedy) for one in found] == [
        ("warning", "{root} has {...} rows", ""),
        ("warning", "no {name} to measure it from", ""),
        ("OwnError", "The thing has {name}.", "Repair it."),
        ("FrameError", "it has no pixels", "Fetch it again."),
        ("reason", "{name} is odd", "Leave it out."),
        ("PlainError", "{name} is low / high.", ""),
    ]
    assert [one.text for one in collect.without_remedy(found)] == ["{name} is low / high."]
