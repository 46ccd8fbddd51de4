"""The documents are true: commands and options exist, links lead somewhere, tables are those of the code."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from command_line import all_commands

from nirflow.step_settings import resolve
from tasks.support.parameters import STEPS

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
)
#: Hosts that a document may name: the machine itself, and where formats and licences are defined.
ALLOWED_HOSTS = {"127.0.0.1", "semver.org", "keepachangelog.com"}
LARGEST_PICTURE = 300_000

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
_HEADING = re.compile(r"^#+ (.+)$", re.M)
_CODE = re.compile(r"`([^`\n]+)`")


def _id(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _without_fences(text: str) -> str:
    return _FENCE.sub("", text)


def commands_in(text: str) -> Iterator[str]:
    """Every command line that begins with nirflow, in blocks and in spans of code."""
    for _, block in _FENCE.findall(text):
        for line in block.splitlines():
            line = line.removeprefix("$ ").split("  #")[0]
            line = re.sub(r"^(NIRFLOW_\w+=\S+ )*(\.venv/bin/)?", "", line)
            if re.match(r"nirflow( |$)", line):
                yield line
    for span in _CODE.findall(_without_fences(text)):
        if re.match(r"nirflow [a-z-]", span):
            yield span


def problem_of(line: str) -> str | None:
    """Why a documented command cannot be written like that, or None."""
    command = all_commands()
    words = shlex.split(line.replace("...", " "))[1:]
    while words and hasattr(command, "commands") and not words[0].startswith("-"):
        if words[0] not in command.commands:
            return f"there is no command {words[0]!r}"
        command = command.commands[words.pop(0)]
    known = {option for one in command.params for option in one.opts} | {"--help", "-h"}
    for word in words:
        option = word.split("=")[0]
        if re.fullmatch(r"--?[a-z][a-z-]*", option) and option not in known:
            return f"it has no option {option}"
    return None


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_commands_and_options_exist(page: Path) -> None:
    problems = [(line, why) for line in commands_in(page.read_text()) if (why := problem_of(line))]
    assert problems == []


def test_a_wrong_command_is_found() -> None:
    text = "`nirflow reduze night`\n```\n$ nirflow reduce night --onyl dark\n```\n`nirflow cal list`\n"
    found = [problem_of(line) for line in commands_in(text)]
    assert found == ["it has no option --onyl", "there is no command 'reduze'", None]


def test_the_readme_has_every_command() -> None:
    reported = {tuple(line.split()[1:3]) for line in commands_in((ROOT / "README.md").read_text())}
    for name, command in all_commands().commands.items():
        for inner in getattr(command, "commands", {None: None}):
            wanted = (name, inner) if inner else (name,)
            assert any(one[: len(wanted)] == wanted for one in reported), (
                f"README lacks nirflow {' '.join(wanted)}"
            )


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_settings_in_the_documents_can_be_set(page: Path) -> None:
    for text in re.findall(r"--set ([a-z_]+\.[a-z_.]+=[\w.,]+)", page.read_text()):
        if not text.startswith("step.parameter="):
            resolve([text], STEPS)


def _slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower().replace("`", "")).strip().replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_links_lead_somewhere(page: Path) -> None:
    for target in _LINK.findall(_without_fences(page.read_text())):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{_id(page)} links to {target}"
        if anchor:
            assert anchor in {_slug(h) for h in _HEADING.findall(file.read_text())}, target


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_no_foreign_hosts(page: Path) -> None:
    hosts = set(re.findall(r"https?://([^/:\s)`]+)", page.read_text()))
    # A name without a dot is one of the reader's own network.
    assert {host for host in hosts if "." in host} <= ALLOWED_HOSTS


def test_every_page_is_in_the_index() -> None:
    index = ROOT / "docs" / "index.md"
    linked = {(index.parent / target).resolve() for target in _LINK.findall(index.read_text())}
    pages = {page for page in PAGES if page.is_relative_to(ROOT / "docs")} - {index}
    assert {_id(page) for page in pages - linked} == set()


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_pages", ROOT / "docs" / "make_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["figures.md", "messages.md", "parameters.md"])
def test_pages_made_from_the_code_are_current(name: str) -> None:
    current = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert current == _generator().PAGES[name](), "run .venv/bin/python docs/make_pages.py"


def _python_blocks() -> list[tuple[str, str]]:
    return [
        (_id(page), block)
        for page in PAGES
        for kind, block in _FENCE.findall(page.read_text())
        if kind == "python"
    ]


@pytest.mark.parametrize(("page", "block"), _python_blocks())
def test_python_examples_import_what_there_is(page: str, block: str) -> None:
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module or "")
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


def test_pictures_are_small() -> None:
    pictures = list((ROOT / "docs" / "images").glob("*"))
    assert pictures
    assert {_id(p) for p in pictures if p.stat().st_size > LARGEST_PICTURE} == set()


def test_dq_bits_are_those_of_the_code() -> None:
    from imaging.pixels.dq import DQ

    rows = re.findall(r"^\| (\d+) \| (\d+) \|", (ROOT / "docs" / "products.md").read_text(), re.M)
    assert [int(value) for _, value in rows] == [int(bit) for bit in DQ if bit]
    assert all(1 << int(bit) == int(value) for bit, value in rows)


def test_makefile_has_the_two_commands() -> None:
    readme, makefile = (ROOT / "README.md").read_text(), (ROOT / "Makefile").read_text()
    for target in re.findall(r"\bmake ([a-z-]+)", "\n".join(b for _, b in _FENCE.findall(readme))):
        assert re.search(rf"^{target}:", makefile, re.M), target
