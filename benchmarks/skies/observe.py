"""Nights made and reduced: the calibrations of a seed are simulated and made once, science frames for each night."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from astropy.io import fits

from benchmarks.faults.laboratory import Laboratory
from benchmarks.faults.outcome import Outcome
from benchmarks.skies.nights import NIGHTS, SkyNight, parameters_of
from imaging.simulator.simulate import simulate_night
from imaging.simulator.truth import NightTruth


@dataclass
class Observatory:
    """A laboratory in which nights of the same seed share calibrations and a store."""

    lab: Laboratory
    _stores: dict[int, dict[str, str]] = field(default_factory=dict, init=False)
    _calm: dict[int, NightTruth] = field(default_factory=dict, init=False)

    def calm(self, seed: int) -> NightTruth:
        """Return the calm night of a seed, with its calibration frames."""
        if seed not in self._calm:
            folder = self.lab.folder / f"calm-{seed}" / "night"
            self._calm[seed] = simulate_night(folder, parameters_of(NIGHTS[0], seed, self.lab.size))
        return self._calm[seed]

    def reduced(self, night: SkyNight, seed: int) -> tuple[NightTruth, Outcome]:
        """Simulate a night and reduce it."""
        calm = self.calm(seed)
        folder = self.lab.new_folder(f"{night.name.replace(' ', '-').replace(',', '')}-{seed}")
        parameters = parameters_of(night, seed, self.lab.size)
        truth = simulate_night(folder / "night", parameters, roles=("science",))
        for frame in calm.frames:
            if frame.role != "science":
                os.link(calm.folder.parent / frame.file, folder / "night" / frame.file)
        options = self._edited(night, truth, folder)
        if seed not in self._stores:
            self._stores[seed] = self.lab.store()
        # A night that changes what is in the store gets its own.
        store = self.lab.store() if night.edit else self._stores[seed]
        return truth, self.lab.reduce(folder / "night", night.name, *options, env=store, score=False)

    def clear(self, outcome: Outcome) -> None:
        """Remove a night and its products."""
        shutil.rmtree(outcome.night.parent, ignore_errors=True)

    def _edited(self, night: SkyNight, truth: NightTruth, folder: Path) -> list[str]:
        """Change the raw frames as the night demands, and return further options of the reduction."""
        if night.edit == "all bad":
            for frame in truth.science:
                fits.setval(truth.folder.parent / frame.file, "RAWGEMQA", value="BAD")
        elif night.edit == "sky frames of another filter":
            for frame in truth.science:
                if frame.disturbance.blank:
                    fits.setval(truth.folder.parent / frame.file, "FILTER2", value="H_G0803")
        elif night.edit == "a mask that leaves nothing":
            return ["--use", f"bpm={_full_mask(folder, self.lab.size)}"]
        return []


def _full_mask(folder: Path, size: int) -> Path:
    """Write a mask in which every pixel is bad."""
    path = folder / "mask.fits"
    primary = fits.PrimaryHDU()
    for keyword, value in (
        ("INSTRUME", "F2"),
        ("OBJECT", "BPM"),
        ("OBSTYPE", "BPM"),
        ("BPMASK", "2013-11-21"),
    ):
        primary.header[keyword] = value
    mask = fits.ImageHDU(np.ones((size, size), np.uint8), name="SCI")
    fits.HDUList([primary, mask]).writeto(path)
    return path
