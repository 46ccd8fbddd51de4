"""What identifies a step: its source and versions, and nothing about the machine."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest

from imaging.own_steps import identity
from imaging.own_steps.identity import identity_of
from imaging.own_steps.loading import load
from imaging.own_steps.registered import OwnStepError
from imaging.own_steps.uses import StepUse


@pytest.fixture
def forget(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Forget the user's package, as another process would not have imported it."""

    def drop() -> None:
        identity._seen.pop("ident", None)
        for name in [name for name in sys.modules if name.partition(".")[0] == "ident"]:
            del sys.modules[name]

    yield drop
    drop()


def package(folder: Path, helper: str = "x = 1") -> None:
    (folder / "ident").mkdir(parents=True, exist_ok=True)
    (folder / "ident" / "__init__.py").write_text("")
    (folder / "ident" / "helper.py").write_text(helper)
    (folder / "ident" / "steps.py").write_text(
        "import scipy\nfrom ident import helper\ndef f(ccd):\n    return ccd\n"
    )


def test_an_installed_package_has_its_version_and_those_that_it_requires() -> None:
    found = identity_of(load(StepUse(function="ccdproc:cosmicray_lacosmic")))
    assert found["function"] == "ccdproc.core:cosmicray_lacosmic"
    assert found["distribution"] == f"ccdproc {version('ccdproc')}"
    assert found["requires"]["astropy"] == version("astropy")
    assert found["requires"]["astroscrappy"] == version("astroscrappy")
    assert "pytest" not in found["requires"]  # an extra of it
    assert found["bit"] == 8
    assert found == identity_of(load(StepUse(function="ccdproc.core:cosmicray_lacosmic")))


def test_the_source_counts_wherever_it_is_and_whichever_module_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forget: Callable[[], None]
) -> None:
    digests = []
    for folder, helper in (("a", "x = 1"), ("b", "x = 1"), ("c", "x = 2")):
        package(tmp_path / folder, helper)
        forget()
        with monkeypatch.context() as patch:
            patch.syspath_prepend(str(tmp_path / folder))
            found = identity_of(load(StepUse(function="ident.steps:f")))
        digests.append(found["source"])
        assert found["distribution"] == ""
        assert found["requires"]["scipy"] == version("scipy")
        assert str(tmp_path) not in str(found)
    assert digests[0] == digests[1] != digests[2]


def test_a_source_that_changed_after_its_import_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forget: Callable[[], None]
) -> None:
    package(tmp_path)
    forget()
    monkeypatch.syspath_prepend(str(tmp_path))
    step = load(StepUse(function="ident.steps:f"))
    identity_of(step)
    package(tmp_path, "x = 3")
    with pytest.raises(OwnStepError, match="source of ident has changed since this process imported it"):
        identity_of(step)


def test_a_package_with_a_function_of_another_counts_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forget: Callable[[], None]
) -> None:
    found = []
    for gain in (2.0, 3.0):
        folder = tmp_path / str(gain)
        package(folder)
        (folder / "ident" / "steps.py").write_text(
            f"from functools import partial\nimport ccdproc\nf = partial(ccdproc.gain_correct, gain={gain})\n"
        )
        forget()
        with monkeypatch.context() as patch:
            patch.syspath_prepend(str(folder))
            found.append(identity_of(load(StepUse(function="ident.steps:f"))))
    assert {one["function"] for one in found} == {"ccdproc.core:gain_correct"}
    assert {one["distribution"] for one in found} == {f"ccdproc {version('ccdproc')}"}
    (first, ccdproc), (second, same) = (one["source"].split() for one in found)
    assert ccdproc == same
    assert first != second


def test_a_function_without_source_and_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("from_nowhere")
    exec("def f(ccd):\n    return ccd\n", vars(module))  # noqa: S102 - as a notebook defines one
    monkeypatch.setitem(sys.modules, "from_nowhere", module)
    with pytest.raises(OwnStepError, match="neither source files nor a package with a version"):
        identity_of(load(StepUse(function="from_nowhere:f")))
