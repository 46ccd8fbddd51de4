"""A step whose algorithm changed has another VERSION, or the change is recorded as having no effect."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import pytest

from tests.tasks.record_versions import ROOT, WITHOUT_PIXELS, digest, made, problems, read, record, steps

CHANGED = "imaging/detrend/detrend.py"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a copy of the science and the steps, and its table."""
    for package in ("imaging", "tasks"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    assert record(tmp_path, tmp_path / "table.toml") == []
    return tmp_path


def edit(path: Path, old: str, new: str) -> None:
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new, 1))


def found(tree: Path) -> list[str]:
    return problems(tree, tree / "table.toml")


def raise_version(tree: Path, step: str) -> None:
    path = tree / f"{steps(tree)[step].replace('.', '/')}.py"
    version = made(tree)[step].version
    edit(path, f"\nVERSION = {version}\n", f"\nVERSION = {version + 1}\n")


def test_every_change_of_a_step_is_recorded() -> None:
    assert problems() == []


def test_a_step_is_made_of_its_module_its_science_and_what_that_imports() -> None:
    found = made()
    assert set(found) == set(steps()) >= {"dark", "bpm", "flat", "detrend", "sky", "detect", "align", "stack"}
    assert {"tasks.dark", "imaging.calibrations.dark", "imaging.pixels.combine_kernels"} <= set(
        found["dark"].modules
    )
    assert {"imaging.stack.rejection_kernels", "imaging.registration.resampling.shift_kernels"} <= set(
        found["stack"].modules
    )
    assert all(
        len([name for name in one.modules if name.startswith("tasks.")]) == 1 for one in found.values()
    )


def test_a_number_of_an_instrument_is_part_of_the_steps(tree: Path) -> None:
    table = tree / "imaging/instruments/f2.toml"
    edit(table, "# electrons per ADU of one read pair", "# e-/ADU")
    edit(table, "exposure_time = 0.01 ", "exposure_time = 0.02 ")
    assert found(tree) == []
    edit(table, "gain = 4.44", "gain = 4.45")
    affected = {one.split(":")[0] for one in found(tree)}
    # Sources are found in electrons, stacks combined, and functions of the user's own found, whatever the instrument.
    assert affected == set(steps()) - {"detect", "resolve", "measure_stack", "build_mosaic"}
    assert all("instruments/f2.toml changed" in one for one in found(tree))


def test_excluded_modules_exist_and_are_excluded() -> None:
    reached = {name for one in made().values() for name in one.modules}
    for name in WITHOUT_PIXELS:
        path = ROOT / name.replace(".", "/")
        assert path.is_dir() or path.with_suffix(".py").is_file(), name
        assert not [one for one in reached if one == name or one.startswith(f"{name}.")]


def test_a_change_is_reported_with_module_step_and_remedy_until_the_version_is_raised(tree: Path) -> None:
    (tree / CHANGED).write_text((tree / CHANGED).read_text() + "\nSOMETHING = 3\n")
    affected = [one.split(":")[0] for one in found(tree)]
    assert "detrend" in affected
    assert "dark" not in affected
    (message,) = (one for one in found(tree) if one.startswith("detrend:"))
    assert "imaging.detrend.detrend changed" in message
    assert "VERSION in imaging/detrend/detrend.py" in message
    assert "--no-effect" in message
    assert set(record(tree, tree / "table.toml")) == set(affected)
    for step in affected:
        raise_version(tree, step)
    assert all("Record it" in one for one in found(tree))
    assert {one.split(":")[0] for one in found(tree)} >= set(affected)  # steps with the same VERSION, too
    assert record(tree, tree / "table.toml") == []
    assert found(tree) == []
    assert read(tree / "table.toml").no_effect == []


def test_a_change_without_effect_is_recorded_with_its_reason(tree: Path) -> None:
    (tree / CHANGED).write_text((tree / CHANGED).read_text() + "\nSOMETHING = 3\n")
    assert record(tree, tree / "table.toml", no_effect='a constant that "nobody" uses') == []
    assert found(tree) == []
    (entry,) = read(tree / "table.toml").no_effect
    assert entry["reason"] == 'a constant that "nobody" uses'
    assert entry["modules"] == ["imaging.detrend.detrend"]
    assert "detrend" in entry["steps"]


def test_a_raised_version_counts_for_its_own_step_only(tree: Path) -> None:
    """The mask uses the darks' combination, and has a version of its own."""
    raise_version(tree, "dark")
    assert "imaging.calibrations.dark" in made(tree)["bpm"].modules
    (message,) = found(tree)
    assert message.startswith("dark: VERSION is")


def test_a_step_in_a_new_module_is_found(tree: Path) -> None:
    (tree / "tasks/fringes.py").write_text((tree / "tasks/dark.py").read_text())
    assert [one.split(":")[0] for one in found(tree)] == ["fringes"]


def test_a_default_that_changes_is_a_change(tree: Path) -> None:
    source = "class P:\n    clip: float = parameter({}, '{}', unit='px')\n"
    one, text, other = (digest(source.format(*values)) for values in ((3.0, "a"), (3.0, "b"), (4.0, "a")))
    assert one == text != other


def test_docstrings_comments_messages_and_format_do_not_count_as_a_change(tree: Path) -> None:
    path = tree / CHANGED
    parsed = ast.parse(path.read_text())
    parsed.body[0] = ast.Expr(ast.Constant("Another docstring."))
    path.write_text(f"# a comment\n\n{ast.unparse(parsed)}")
    assert ast.get_docstring(ast.parse(path.read_text())) == "Another docstring."
    assert found(tree) == []
    plain = "def f(x):\n    if x < 0:\n        raise ValueError({})\n    log.info({})\n    return {}\n"
    texts = [digest(plain.format(*one)) for one in (("f'{x} a'", "'b'", "'c'"), ("'d'", "'e'", "'c'"))]
    assert texts[0] == texts[1]
    assert texts[0] != digest(plain.format("'d'", "'e'", "'g'"))


def test_moving_a_module_does_not_count_as_a_change(tree: Path) -> None:
    (tree / "imaging/detrend/kernels_of_prepare.py").write_text(
        (tree / "imaging/detrend/prepare_kernels.py").read_text()
    )
    (tree / "imaging/detrend/prepare_kernels.py").unlink()
    for path in (tree / "imaging").rglob("*.py"):
        path.write_text(path.read_text().replace("detrend.prepare_kernels", "detrend.kernels_of_prepare"))
    assert "imaging.detrend.kernels_of_prepare" in made(tree)["detrend"].modules
    assert found(tree) == []


def test_a_newly_imported_module_is_a_change(tree: Path) -> None:
    edit(tree / CHANGED, "\nfrom imaging.errors", "\nimport imaging.sky.choice\nfrom imaging.errors")
    (message,) = (one for one in found(tree) if one.startswith("detrend:"))
    assert "imaging.sky.choice" in message


def test_a_step_that_was_never_recorded_is_reported(tree: Path) -> None:
    (tree / "table.toml").unlink()
    assert [one.split(":")[0] for one in found(tree)] == list(steps())
    assert all("not recorded" in one for one in found(tree))
