"""A test observatory: a watched folder, a store, and the deployed flows run in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fake_runs import FakePrefect
from night_lab import Lab, link

if TYPE_CHECKING:
    from calib_store.model.records import Product
    from calib_store.store import Store
    from imaging.simulator.truth import NightTruth

NIGHT = date(2013, 11, 21)
CALIBRATIONS = ("dark", "short_dark", "lamp_on", "lamp_off")


def recorded(settings: Any) -> int:
    """Record new files, as a flow does, and return their number."""
    from prefect import flow

    from deployments.deployed.catch_up import record_new_files
    from tasks.prefect_internals.heartbeats import prompt_heartbeats

    with prompt_heartbeats(flow(record_new_files, validate_parameters=False)) as record:
        count: int = record(settings)
    return count


@dataclass
class Observatory:
    """A watched folder, a store and its settings, and the runs that were started."""

    lab: Lab
    night: NightTruth
    prefect: FakePrefect = field(default_factory=FakePrefect)

    @property
    def raw(self) -> Path:
        """The watched folder."""
        return self.lab.folder / "raw"

    @property
    def store(self) -> Store:
        """The store of the settings."""
        from deployments.deployed.common import store_of
        from deployments.settings.all_settings import Settings

        return store_of(Settings())

    @property
    def sequence(self) -> str:
        """Name of the only sequence of science."""
        from imaging.frames.sequences import Sequence

        (name,) = {
            one.name for frame in self.store.frames.of_nights(NIGHT, NIGHT, kinds=("object",))
            if frame.facts is not None and frame.facts.filter == "Y" and (one := Sequence.of(frame.facts)) is not None
        }  # fmt: skip
        return name

    def come(self, *roles: str) -> None:
        """Put the frames of these roles into the watched folder."""
        link([self.night.folder.parent / f.file for f in self.night.frames if f.role in roles], self.raw)

    def note(self) -> int:
        """Record arrived files in the store, as the watcher does, and return their number."""
        from deployments.settings.all_settings import Settings

        return recorded(Settings())

    def run(self, flow: Any, request: Any) -> Any:
        """Run a deployed flow in this process, and return its report, also if it waits for a calibration; afterwards
        ``prefect`` has only the runs that it started."""
        from deployments.deployed.common import WaitingError
        from tasks.prefect_internals.heartbeats import prompt_heartbeats

        self.prefect.runs_by_key.clear()
        with prompt_heartbeats(flow) as ready:
            try:
                return ready(request)
            except WaitingError as waits:
                return waits.report

    def products(self, kind: str) -> tuple[Product, ...]:
        """Return all products of a kind."""
        return tuple(self.store.products(kind))

    def of_night(self, name: str) -> Path:
        """Return a file of the night's own folder."""
        return self.lab.folder / "nights" / str(NIGHT) / name


@contextmanager
def observing(lab: Lab, night: NightTruth) -> Iterator[Observatory]:
    """Yield an observatory with settings for an empty folder of a lab, whose flows start runs on a fake server."""
    from deployments.deployed import common

    one = Observatory(lab, night)
    one.raw.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NIRFLOW_DATA_DIR", str(lab.data))
        patch.setenv("NIRFLOW_DATABASE_URL", lab.url)
        patch.setenv("NIRFLOW_NIGHTS_DIR", str(lab.folder / "nights"))
        patch.setenv("NIRFLOW_WATCH_CHECK", f'{{"shape": [{lab.shape[0]}, {lab.shape[1]}]}}')
        patch.setenv("NIRFLOW_WATCH_FOLDERS", f'["{one.raw}"]')
        patch.setattr(common, "Rest", lambda *_: one.prefect)
        yield one
