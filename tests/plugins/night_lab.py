"""Small nights and a separate store for their reduction, shared by the end-to-end tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray
from waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flows.run.report import NightReport
    from imaging.simulator.truth import NightTruth
    from tasks.support.references import ProductRef
    from tasks.support.step import StepEvent

Pixels = Callable[[NDArray[np.int32]], NDArray[Any]]


@dataclass(frozen=True)
class Run:
    """One run of a flow: its report, and the events of its steps."""

    report: NightReport
    events: list[StepEvent]

    def product(self, kind: str, label: str = "") -> ProductRef:
        """Return the only product of a kind whose label contains ``label``."""
        (found,) = [p for p in self.report.products if p.kind == kind and label in p.label]
        return found

    def kinds(self) -> list[str]:
        """Return the kinds of the products, sorted."""
        return sorted(p.kind for p in self.report.products)

    def count(self, state: str) -> Counter[str]:
        """Return how often each step ended in ``state``; what only looks makes nothing and is not
        counted.
        """
        quiet = ("survey", "choose", "exposures")
        return Counter(e.step for e in self.events if e.state == state and e.step not in quiet)

    @property
    def built(self) -> Counter[str]:
        """Return how often each step made a new result."""
        return self.count("built")

    def reason(self, name: str) -> str:
        """Return why the file or group ``name`` was left out, with the remedy."""
        products = [member for p in self.report.products for member in p.left_out]
        found = [one for one in (*self.report.left_out, *products) if name in one.name.split(", ")]
        assert len(found) == 1, f"{name}: {found or self.report.left_out}"
        return f"{found[0].reason} {found[0].remedy}".strip()

    def failure(self, label: str) -> str:
        """Return why the product whose label contains ``label`` could not be made."""
        (found,) = [f for f in self.report.failures if label in f.label]
        return found.message


@dataclass
class Lab:
    """An empty store on the session's servers, and runs into it.

    Attributes
    ----------
    folder
        For outputs; ``folder / "data"`` is the store's folder.
    url
        The store's database.
    server_dir
        Data folder of the Prefect server, for runs in a process of their own.
    shape
        Required shape of the frames.
    """

    folder: Path
    url: str
    server_dir: Path
    shape: tuple[int, int]
    flow: Any = field(default=None)

    @property
    def data(self) -> Path:
        """The store's folder."""
        return self.folder / "data"

    def parameters(self, **steps: dict[str, Any]) -> Any:
        """Return the parameters of the reduction for frames of this lab's shape; ``steps`` like
        ``stack={"low": 4}``.
        """
        from tasks.support.parameters import ReductionParameters

        given = steps | {"check": {"shape": self.shape} | steps.get("check", {})}
        return ReductionParameters.model_validate(given)

    def reduce(
        self, *paths: Path, out: str = "out", flow: Any = None, steps: Any = None, **options: Any
    ) -> Run:
        """Run the night's flow (or ``flow``) in this process, without previews by default."""
        from flows.night import Options, reduce_night
        from tasks.prefect_internals.heartbeats import prompt_heartbeats
        from tasks.support.step import listening

        given = Options.model_validate(
            {"data_dir": self.data, "previews": False, "parameters": self.parameters(**(steps or {}))}
            | options
        )
        events: list[StepEvent] = []
        with pytest.MonkeyPatch.context() as patch, listening(events.append):
            patch.setenv("NIRFLOW_DATABASE_URL", self.url)
            with prompt_heartbeats(flow or reduce_night) as run:
                report = run(list(paths), self.folder / out, given)
        return Run(report, events)

    def combine(self, selection: Any, out: str = "mosaics", steps: Any = None, **options: Any) -> Run:
        """Combine the stacks of a selection in this process, without previews by default."""
        from flows.mosaic import Options, combine_stacks
        from tasks.prefect_internals.heartbeats import prompt_heartbeats
        from tasks.support.step import listening

        given = Options.model_validate(
            {"data_dir": self.data, "previews": False, "parameters": self.parameters(**(steps or {}))}
            | options
        )
        events: list[StepEvent] = []
        with pytest.MonkeyPatch.context() as patch, listening(events.append):
            patch.setenv("NIRFLOW_DATABASE_URL", self.url)
            with prompt_heartbeats(combine_stacks) as run:
                report = run(selection, self.folder / out, given)
        return Run(report, events)

    def environment(self) -> dict[str, str]:
        """Return the environment of a separate process: the session's Prefect server, this lab's database."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_API")}
        return kept | {"NIRFLOW_DATA_DIR": str(self.server_dir), "NIRFLOW_DATABASE_URL": self.url}

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        """Start ``nirflow reduce`` as a separate process; read it with `finished`."""
        nirflow = Path(sys.executable).with_name("nirflow")
        command = [nirflow, "reduce", "--json", "--set", "check.shape=none"]
        return subprocess.Popen(
            [*command, *map(str, arguments)],
            env=self.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def store(self) -> Any:
        """Return the store of the runs in this process."""
        from tasks.support.workspace import Workspace

        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("NIRFLOW_DATABASE_URL", self.url)
            return Workspace(data_dir=self.data, out=self.folder).store()

    def object_of(self, product: ProductRef) -> Path:
        """Return the store's own file of a product."""
        path: Path = self.store().objects.path(product.sha256)
        return path


def finished(process: subprocess.Popen[str]) -> tuple[int, dict[str, Any], str]:
    """Wait for a process of `Lab.start`; return its exit code, the report and its standard error."""
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, json.loads(out) if out.strip() else {}, err


def link(files: Iterable[Path], folder: Path) -> Path:
    """Return hard links to files in a new folder, a night that takes no space. Never write through one."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        os.link(file, folder / file.name)
    return folder


def without_stars(night: NightTruth, noise: float) -> Pixels:
    """Return what makes a frame of a night one through thick cloud: the level of its sky, with the array's response.

    The response is that of the lamp frames, as in the night's flat.
    """

    def mean(role: Literal["lamp_on", "lamp_off"]) -> NDArray[np.float64]:
        frames = [fits.getdata(night.folder.parent / one.file, 1) for one in night.of_role(role)]
        return np.mean(frames, axis=0, dtype=np.float64)

    response = mean("lamp_on") - mean("lamp_off")
    response /= np.median(response)

    def sky_alone(adu: NDArray[np.int32]) -> NDArray[np.int32]:
        rng = np.random.default_rng(int(adu[0, 5, 5]))
        return np.asarray(np.median(adu) * response + rng.normal(0, noise, adu.shape)).astype(np.int32)

    return sky_alone


def altered(source: Path, target: Path, pixels: Pixels | None = None, **cards: Any) -> Path:
    """Return a copy of a raw frame with changed cards (None drops one; DATE_OBS is DATE-OBS) or pixels.

    It is a different exposure: it has its own data label unless one is given, and pixels of its own.
    """
    cards.setdefault("DATALAB", f"{target.parent.name}-{target.name}")
    with fits.open(source, memmap=False) as hdus:
        for name, value in cards.items():
            keyword = name.replace("_", "-")
            if value is None:
                del hdus[0].header[keyword]
            else:
                hdus[0].header[keyword] = value
        header, adu = hdus[1].header, np.array(hdus[1].data)
        if pixels is None:
            adu.flat[zlib.crc32(os.fsencode(target.name)) % adu.size] += 1
        hdus[1] = fits.ImageHDU(adu if pixels is None else pixels(adu), header)
        hdus.writeto(target)
    return target
