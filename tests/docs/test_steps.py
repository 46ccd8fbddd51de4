"""The page about steps of one's own: every function of ccdproc is listed as it is, and its package works."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import ccdproc
import numpy as np
import pytest

from imaging.errors import FrameError
from imaging.frames.facts import FrameFacts
from imaging.header import Header
from imaging.own_steps.applying import apply_steps
from imaging.own_steps.loading import load
from imaging.own_steps.named_arguments import NUMBERS
from imaging.own_steps.registered import OwnStepError
from imaging.own_steps.uses import POINTS, StepUse
from imaging.pixels.image import Image
from imaging.products.astropy_hdus import to_ccd

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = (ROOT / "docs" / "steps.md").read_text()
SHAPE: Final = (64, 64)
#: Arguments with which a function that does not fit comes as far as possible.
ARGUMENTS: Final = {
    "subtract_dark": "master=@dark, exposure_time='EXPTIME', exposure_unit='s'", "create_deviation": "readnoise=8",
    "median_filter": "size=3", "transform_image": "transform_func='sqrt'", "trim_image": "fits_section='[1:32, :]'",
    "rebin": "newshape=[32, 32]", "block_average": "block_size=2", "block_reduce": "block_size=2",
    "block_replicate": "block_size=2", "background_deviation_box": "bbox=8",
    "background_deviation_filter": "bbox=8",
}  # fmt: skip


def rows(heading: str) -> list[list[str]]:
    table = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


CCDPROC: Final = rows("Functions of ccdproc")


def image(level: float = 100.0, unit: str = "electron") -> Image:
    rng = np.random.default_rng(3)
    wcs = {
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 32.0, "CRPIX2": 32.0, "CRVAL1": 10.0, "CRVAL2": -30.0,
        "CD1_1": -5e-5, "CD2_2": 5e-5, "CD1_2": 0.0, "CD2_1": 0.0, "BUNIT": unit,
    }  # fmt: skip
    sci = rng.normal(level, 0.1 * level, SHAPE).astype(np.float32)
    return Image(
        sci,
        np.full(SHAPE, level, np.float32),
        np.zeros(SHAPE, np.uint16),
        Header(wcs),
        Header({"EXPTIME": 60.0}),
    )


def call(text: str, **more: Any) -> Any:
    step = load(StepUse.model_validate(text))
    named = {
        "bpm": np.zeros(SHAPE, bool), "dark": to_ccd(image(5)), "flat": to_ccd(image(1, "")), "read_noise": 8.0,
        "gain": 1.0, "saturation": 2e5,
    }  # fmt: skip
    values = dict(step.arguments) | {n: named[one] for n, one in step.use.references.items()} | more
    made = image()
    made.sci[20, 20] += 20000
    return apply_steps("S1.fits", made, [(step, values)])


def test_every_function_of_ccdproc_is_listed_once() -> None:
    public = {
        name
        for name in dir(ccdproc)
        if not name.startswith("_") and inspect.isfunction(getattr(ccdproc, name))
    }
    listed = [row[0].strip("`") for row in CCDPROC]
    assert sorted(listed) == sorted(public)
    assert {row[1] for row in CCDPROC} == {"yes", "no"}


@pytest.mark.parametrize("row", [row for row in CCDPROC if row[1] == "yes"], ids=lambda row: row[0])
def test_functions_that_fit_can_be_called_as_the_page_shows(row: list[str]) -> None:
    (text,) = re.findall(r"`(ccdproc:[^`]+)`", row[2])
    done = call(text)
    bits = re.search(r"sets DQ (\d+)", row[2])
    assert done.dq[20, 20] == (int(bits[1]) if bits else 0)


@pytest.mark.filterwarnings("ignore")  # ccdproc warns of what it cannot do
@pytest.mark.parametrize("row", [row for row in CCDPROC if row[1] == "no"], ids=lambda row: row[0])
def test_functions_that_do_not_fit_are_refused(
    row: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = row[0].strip("`")
    more: dict[str, Any] = {}
    text = f"ccdproc:{name}({ARGUMENTS.get(name, '')})"
    if name == "wcs_project":
        text, target = f"ccdproc:{name}(target_wcs=@dark)", image().header
        target["CRVAL1"] = 10.001
        more["target_wcs"] = to_ccd(
            Image(*(getattr(image(), n) for n in ("sci", "var", "dq")), target, Header())
        ).wcs
    elif name == "fits_ccddata_writer":
        text = f"ccdproc:{name}(filename=written.fits)"
    with pytest.raises((FrameError, OwnStepError), match=f"the step {name} "):
        call(text, **more)


def test_the_page_lists_the_points_and_what_arguments_may_name() -> None:
    assert [row[0].strip("`") for row in rows("Points")] == list(POINTS)
    named = {one for row in rows("Arguments") for one in re.findall(r"`@([a-z_]+)`", row[0])}
    assert {"bpm", "dark", "flat", "object_mask", *NUMBERS} == named


def test_the_numbers_of_a_frame_exist() -> None:
    assert {"readout", "exposure"} <= set(dir(FrameFacts))


PROGRAM: Final = """
import numpy as np
from imaging.header import Header
from imaging.own_steps.applying import apply_steps
from imaging.own_steps.identity import identity_of
from imaging.own_steps.loading import load
from imaging.own_steps.uses import StepUse
from imaging.pixels.image import Image

step = load(StepUse.model_validate("remove_glow(width=4)"))
assert (step.bit, step.time_limit, step.distribution) == (1, 60, "skyglow")
assert step.arguments == {"width": 4, "limit": 50.0}
assert identity_of(step)["distribution"] == "skyglow 1.0"
sci = np.full((32, 32), 10, np.float32)
sci[:, 0], sci[:, 1] = 110, 30
planes = sci, np.ones_like(sci), np.zeros((32, 32), np.uint16)
done = apply_steps("S1.fits", Image(*planes, Header({"BUNIT": "electron"}), Header()), [(step, dict(step.arguments))])
assert (done.sci == 10).all(), done.sci
assert (done.dq[:, 0] == 1).all() and not done.dq[:, 1:].any()
print("done")
"""


def test_the_package_of_the_page_can_be_built_installed_and_used(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name, language in (("pyproject.toml", "toml"), ("skyglow.py", "python")):
        (content,) = re.findall(rf"```{language}\n# {re.escape(name)}\n(.*?)```", PAGE, re.DOTALL)
        (source / name).write_text(content)
    lines = [line for one in source.iterdir() for line in one.read_text().splitlines() if line.strip()]
    assert len(lines) <= 35
    installed = tmp_path / "installed"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation",
         "--no-warn-script-location", "--target", str(installed), str(source)],
        check=True, cwd=tmp_path, env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
    )  # fmt: skip
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(installed), str(ROOT)])}
    run = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=env,
        check=False,
    )
    assert run.stdout == "done\n", run.stderr
