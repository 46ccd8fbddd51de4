"""The log of a run: every line once, in UTC, with the run that logged it."""

import importlib
import io
import logging
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from nirflow.console import log

LINE = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (\w+) +([\w.]+)(?: \[(.*?)\])? (.*)$")


@pytest.fixture
def screen() -> Console:
    return Console(file=io.StringIO(), width=200)


@pytest.fixture(autouse=True)
def _unchanged_logging() -> Iterator[None]:
    def snapshot() -> object:
        levels = {name: logging.getLogger(name).level for name in ("nirflow", "imaging", "flows")}
        handlers = {h for h in logging.getLogger().handlers if not type(h).__module__.startswith("_pytest")}
        return handlers, logging.getLogger().level, levels, warnings.showwarning

    importlib.import_module("prefect.main")  # its import installs its own handlers, once per process
    before = snapshot()
    yield
    assert snapshot() == before


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def lines(path: Path) -> list[tuple[str, ...]]:
    found = [LINE.match(line) for line in path.read_text().splitlines()]
    return [match.groups(default="") for match in found if match]


def test_the_file_gets_information_and_the_console_warnings(tmp_path: Path, screen: Console) -> None:
    file = tmp_path / "new" / "night.log"
    with log.configure(file, console=screen):
        logging.getLogger("imaging.calibrations.dark").info("combining %d frames", 10)
        logging.getLogger("flows.night").warning("frame [S0012] left out")
        logging.getLogger("imaging.calibrations.dark").debug("too much")
        logging.getLogger("stranger").info("not ours")
        logging.getLogger("stranger").warning("matters all the same")
    assert lines(file) == [
        ("INFO", "imaging.calibrations.dark", "", "combining 10 frames"),
        ("WARNING", "flows.night", "", "frame [S0012] left out"),
        ("WARNING", "stranger", "", "matters all the same"),
    ]
    assert "frame [S0012] left out" in shown(screen)
    assert "combining" not in shown(screen)


def test_the_console_can_show_more_than_the_file(tmp_path: Path, screen: Console) -> None:
    file = tmp_path / "night.log"
    with log.configure(file, level="WARNING", console_level="DEBUG", console=screen):
        logging.getLogger("imaging").debug("in detail")
    assert "in detail" in shown(screen)
    assert file.read_text() == ""


def test_entering_twice_writes_nothing_twice(tmp_path: Path, screen: Console) -> None:
    file = tmp_path / "night.log"
    with log.configure(file, console=screen), log.configure(file, console=screen):
        logging.getLogger("nirflow").warning("once")
    with log.configure(file, console=screen):
        logging.getLogger("nirflow").warning("appended")
    assert [line[3] for line in lines(file)] == ["once", "appended"]
    assert shown(screen).count("once") == 1


def test_warnings_are_one_line_each_and_python_shows_them_again_afterwards(
    tmp_path: Path, screen: Console
) -> None:
    file = tmp_path / "night.log"
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with log.configure(file, console=screen):
            warnings.warn("the WCS is odd", UserWarning, stacklevel=1)
    text = file.read_text()
    assert len(text.splitlines()) == 1
    assert "WARNING py.warnings" in text
    assert "UserWarning: the WCS is odd" in text
    assert "the WCS is odd" in shown(screen).replace("\n", "")
    with pytest.warns(UserWarning, match="again"):
        warnings.warn("again", UserWarning, stacklevel=1)


def test_previously_captured_warnings_stay_captured(tmp_path: Path, screen: Console) -> None:
    logging.captureWarnings(True)
    try:
        captured = warnings.showwarning
        with log.configure(tmp_path / "night.log", console=screen):
            pass
        assert warnings.showwarning is captured
    finally:
        logging.captureWarnings(False)


def test_a_traceback_is_for_the_file_and_its_message_for_the_console(tmp_path: Path, screen: Console) -> None:
    file = tmp_path / "night.log"
    with log.configure(file, console=screen):
        try:
            raise ValueError("no such plane")
        except ValueError:
            logging.getLogger("flows").exception("stack failed")
    assert "Traceback" in file.read_text()
    assert "ValueError: no such plane" in file.read_text()
    assert "Traceback" not in shown(screen)
    assert "stack failed (more in the log file)" in shown(screen)


def test_handlers_are_restored_after_an_error_and_the_file_is_closed(tmp_path: Path, screen: Console) -> None:
    before = set(logging.getLogger().handlers)
    new: set[logging.Handler] = set()

    def fail() -> None:
        with log.configure(tmp_path / "night.log", console=screen):
            new.update(set(logging.getLogger().handlers) - before)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert set(logging.getLogger().handlers) == before
    files = [handler for handler in new if isinstance(handler, logging.FileHandler)]
    assert len(files) == 1
    assert files[0].stream is None


def test_a_handler_on_the_console_is_muted_meanwhile(
    tmp_path: Path, screen: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    handler = logging.StreamHandler()  # as created by logging.basicConfig, or by Prefect at its import
    root.addHandler(handler)
    try:
        with log.configure(tmp_path / "night.log", console=screen):
            root.warning("said")
        root.warning("afterwards")
    finally:
        root.removeHandler(handler)
    assert capsys.readouterr().err == "afterwards\n"
    assert shown(screen).count("said") == 1


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file, not a folder")
    with pytest.raises(log.LogFileError, match=r"Cannot write to the log file .*out/night\.log") as caught:
        log.configure(tmp_path / "out" / "night.log").__enter__()
    assert "--out" in caught.value.remedy


@pytest.mark.usefixtures("prefect_server")
def test_lines_of_a_flow_run_are_in_the_file_once_with_their_run(tmp_path: Path, screen: Console) -> None:
    from prefect import flow, task

    @task(task_run_name="dark {exposure} s")
    def dark(exposure: int) -> None:
        logging.getLogger("imaging.calibrations.dark").info("combining")
        if exposure < 0:
            raise ValueError("negative exposure")

    @flow(flow_run_name="night 1")
    def night() -> str:
        logging.getLogger("flows.night").info("begins")
        dark(120)
        dark(-1, return_state=True)
        return "done"

    file = tmp_path / "night.log"
    with log.configure(file, console=screen):
        assert night() == "done"
    found = lines(file)
    assert ("INFO", "flows.night", "night 1", "begins") in found
    assert ("INFO", "imaging.calibrations.dark", "night 1/dark 120 s", "combining") in found
    assert not any(text.startswith("Finished in state") for *_, text in found)  # the UI has the states
    assert max(Counter(found).values()) == 1
    assert shown(screen).count("negative exposure") == 1
    assert "Traceback" in file.read_text()
    assert "Traceback" not in shown(screen)
