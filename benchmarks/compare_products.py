"""Compare a reduced night with DRAGONS' products from the same raw frames.

``python -m benchmarks.compare_products OUT DRAGONS_DIR [--raw NIGHT]``

Both start from the same pixels, so their noise is mostly common: with the same arithmetic the difference is
rounding, and every figure below has its expected value with the reason. ``--raw`` adds a check that no second
pipeline can provide: whether VAR is the scatter between the raw frames. The stack is compared pixel by pixel
if both grids agree: reduce with ``--set align.reference=first``.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy import stats

from benchmarks import product_figures as pf
from deployments.printable_output import ArgumentParser
from imaging.pixels.combine import median_factor
from imaging.pixels.dq import UNUSABLE
from imaging.simulator.parameters import NightParameters

camera = NightParameters().camera

#: Grids further apart than this are not compared pixel by pixel, px.
_SAME_GRID = 0.02
#: Radius within which both masks classify the same pixels, px.
_BPM_RADIUS = 1000.0
#: Registration of DRAGONS and ours against the truth of a simulated night, each axis, px rms.
_REGISTRATION = 0.03
#: Background pixels beyond this are outliers, sigma.
_OUTLIER = 8.0
#: Cards that only describe DRAGONS' steps or the cut-out; PIXSCALE is in our primary header.
_STEPS = {
    "VALDATA", "SDZSTRUC", "SDZHDRSG", "SDZHDRSI", "SDZWCS", "ADDDQ", "ADUTOELE", "ADDVAR", "LINCORR", "STACKFRM",
    "ADILLMSK", "NORMLIZE", "TRHFLAT", "DARKCORR", "FLATCORR", "EXPGROUP", "OBJFRAME", "SKYFRAME", "SEPSKY",
    "ASSOCSKY", "SUBSKY", "DETECSRC", "CORRWCS", "ALIGN", "SCALEOBJ", "LTV1", "LTV2", "INHERIT", "PROCMODE",
    "AREATYPE", "JFACTOR", "VARNOISE", "PIXSCALE",
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One line of the table; ``low`` and ``high`` give the expected range, if any."""

    product: str
    figure: str
    value: float
    unit: str = ""
    low: float = -math.inf
    high: float = math.inf
    why: str = ""

    @property
    def fits(self) -> bool:
        """Whether the value is in the expected range."""
        return self.low <= self.value <= self.high

    @property
    def expected(self) -> str:
        """The expected range as text."""
        if math.isinf(self.low) and math.isinf(self.high):
            return ""
        if self.low == self.high:
            return f"{self.low:.4g}"
        if math.isinf(self.low):
            return f"<= {self.high:.4g}"
        return f">= {self.low:.4g}" if math.isinf(self.high) else f"{self.low:.4g} .. {self.high:.4g}"


def compare(out: Path, dragons: Path, raw: Path | None = None) -> list[Row]:
    """Return all figures of the products present in both folders."""
    rows: list[Row] = []
    for kind, function in (("dark", _dark), ("bpm", _bpm), ("flat", _flat), ("image", _stack)):
        for peer_path in sorted(dragons.glob(f"*_{kind}.fits*")):
            own = out / f"{peer_path.name.split('.fits')[0]}.fits"
            if not own.exists():
                raise SystemExit(f"{own} is missing; {peer_path.name} cannot be compared.")
            ours, peer = pf.read(own), pf.read(peer_path)
            rows += function(ours, peer, own, raw)
            rows += _headers(kind, ours, peer)
    return rows


def _alike(kind: str, ours: pf.Product, peer: pf.Product, unit: str) -> Iterator[Row]:
    """Yield the figures of any pair of planes on one grid."""
    good = (ours.dq == 0) & (peer.dq == 0)
    difference = (ours.sci - peer.sci)[good]
    sigma = np.sqrt(ours.var[good])
    yield Row(kind, "median difference", float(np.median(difference)), unit)
    yield Row(kind, "robust rms of the difference / noise", pf.spread(difference / sigma))
    yield Row(kind, "rms of the difference / noise", float(np.std(difference / sigma)))
    yield Row(
        kind, "pixels beyond 5 sigma", 1e6 * float(np.mean(np.abs(difference) > 5 * sigma)), "per million"
    )
    yield Row(kind, "VAR ours / DRAGONS", float(np.median(ours.var[good] / peer.var[good])))
    same = (ours.dq & np.uint16(UNUSABLE) != 0) == (peer.dq & np.uint16(UNUSABLE) != 0)
    yield Row(kind, "same pixels unusable", 100 * float(same.mean()), "%", low=99.99)


def _dark(ours: pf.Product, peer: pf.Product, path: Path, raw: Path | None) -> Iterator[Row]:
    ours = pf.same_pixels(ours, peer)
    good = (ours.dq == 0) & (peer.dq == 0)
    equal = np.abs(ours.sci - peer.sci) <= 1e-3 + 1e-5 * np.abs(peer.sci)
    yield from _alike("dark", ours, peer, "e-")
    yield Row(
        "dark", "equal to rounding", 100 * float(equal[good].mean()), "%", low=90,
        why="the rest: one value of four rejected by one of the two",
    )  # fmt: skip
    if raw is None:
        return
    frames = _electrons(raw, _named(peer), peer, ours.origin)
    mean = frames.mean(axis=0)
    yield from _rejections("dark", "ours", ours.sci, mean, good)
    yield from _rejections("dark", "DRAGONS", peer.sci, mean, good)
    # Cosmic rays and warm pixels belong to the hot-pixel figures: only normal levels here.
    usual = good & (np.abs(ours.sci - np.median(ours.sci)) < 5 * pf.spread(ours.sci))
    for who, one in (("ours", ours), ("DRAGONS", peer)):
        yield from _pulls("dark", who, frames, one.var, usual)


def _flat(ours: pf.Product, peer: pf.Product, path: Path, raw: Path | None) -> Iterator[Row]:
    ours = pf.same_pixels(ours, peer)
    good = (ours.dq == 0) & (peer.dq == 0)
    scale = float(np.median(ours.sci[good] / peer.sci[good]))
    yield Row(
        "flat", "scale ours / DRAGONS", scale, low=0.999, high=1.001,
        why="medians over different circles of light",
    )  # fmt: skip
    scaled = pf.Product(
        ours.sci / scale, ours.var / scale**2, ours.dq, ours.header, ours.primary, ours.origin
    )
    yield from _alike("flat", scaled, peer, "")
    equal = np.abs(scaled.sci / peer.sci - 1)[good] < 2e-4
    yield Row(
        "flat", "equal but for the scale (2e-4)", 100 * float(equal.mean()), "%", low=90,
        why="lamp levels (0.6 % of drift) are evened first: that moves a value by 1e-5, and lets one be rejected",
    )  # fmt: skip
    if raw is None:
        return
    with fits.open(path) as hdus:
        files = hdus["LINEAGE"].data
        off_names = [
            str(row["file"]) for row in files if row["role"] == "lamp_off" and row["step"] == path.name
        ]
    on = _electrons(raw, _named(peer), peer, ours.origin)
    off = _electrons(raw, dict.fromkeys(off_names), peer, ours.origin)
    light = float(np.median(((on.mean(axis=0) - off.mean(axis=0)) / peer.sci)[good]))
    on *= (np.median(on[:, good]) / np.median(on[:, good], axis=1))[:, None, None]
    # The lamp-offs' contribution to VAR is in their own scatter; the median of sample variances is below the
    # mean.
    law = float(stats.chi2.median(len(off) - 1)) / (len(off) - 1)
    dim = float(np.median(off.var(axis=0, ddof=1)[good])) / law / len(off) / light**2
    for who, one in (("ours", ours), ("DRAGONS", peer)):
        yield from _pulls("flat", who, on / light, one.var - dim, good)


def _rejections(kind: str, who: str, sci: pf.F8, mean: pf.F8, good: NDArray[np.bool_]) -> Iterator[Row]:
    other = good & (np.abs(sci - mean) > 1e-3 + 1e-4 * np.abs(mean))
    yield Row(kind, f"{who}: pixels with a value rejected", 100 * float(other.sum() / good.sum()), "%")
    high, low = int((other & (sci < mean)).sum()), int((other & (sci > mean)).sum())
    yield Row(kind, f"{who}: rejected from above / from below", high / max(low, 1))


def _pulls(kind: str, who: str, frames: pf.F8, var: pf.F8, good: NDArray[np.bool_]) -> Iterator[Row]:
    typical, between = pf.pull(frames, var, good)
    expected = (0.95, 1.05) if who == "ours" else (-math.inf, math.inf)
    yield Row(kind, f"{who}: scatter between frames / VAR", typical, low=expected[0], high=expected[1])
    yield Row(kind, f"{who}: the same, spread over 8 groups of similar VAR", between)


def _bpm(ours: pf.Product, peer: pf.Product, path: Path, raw: Path | None) -> Iterator[Row]:
    bad, bad_peer = ours.sci != 0, peer.sci != 0
    ny, nx = bad.shape
    y, x = np.ogrid[:ny, :nx]
    inside = np.hypot(x - (nx - 1) / 2, y - (ny - 1) / 2) < _BPM_RADIUS
    yield Row("bpm", "bad pixels within 1000 px, ours", float((bad & inside).sum()))
    yield Row("bpm", "bad pixels within 1000 px, DRAGONS", float((bad_peer & inside).sum()))
    yield Row("bpm", "pixels that differ within 1000 px", float(((bad != bad_peer) & inside).sum()), high=0)
    yield Row("bpm", "bad outside, ours", float((bad & ~inside).sum()))
    yield Row(
        "bpm", "bad outside, DRAGONS", float((bad_peer & ~inside).sum()),
        why="DRAGONS marks unlit pixels as bad; ours has DQ 64 for them in each frame",
    )  # fmt: skip


def _stack(ours: pf.Product, peer: pf.Product, path: Path, raw: Path | None) -> Iterator[Row]:
    full = ours
    ours, apart = pf.cut_by_wcs(full, peer)
    with fits.open(path) as hdus:
        catalogue, alignment = hdus["OBJCAT"].data.copy(), hdus["ALIGNMENT"].data.copy()
        steps = {row["primitive"]: json.loads(row["args"]) for row in hdus["HISTORY"].data}
    yield Row("stack", "grids apart", apart, "px", why="0 with align.reference=first")
    usable = (ours.dq & np.uint16(UNUSABLE) == 0) & (peer.dq & np.uint16(UNUSABLE) == 0)
    objects = ours.objects if ours.objects is not None else np.zeros(usable.shape, bool)
    mine, free = pf.background(ours, usable, objects)
    theirs, _ = pf.background(peer, usable, objects)
    sigma = float(np.sqrt(np.median(ours.var[free])))
    ncorr = float(full.primary["NCORR"])
    n = len(alignment)
    frame = sigma * ncorr * math.sqrt(n)  # a sky-subtracted frame's noise
    with_median = math.sqrt((1 + median_factor(n - 1) / (n - 1)) / (1 + 1 / (n - 1)))
    if apart < _SAME_GRID:
        yield from _alike("stack", ours, peer, "e-")
        kernels, moved = pf.interpolant_difference(
            [(float(a["dx"]), float(a["dy"])) for a in alignment],
            steps["resample"]["interpolant"],
            _REGISTRATION,
        )
        sky = 0.0
        if steps["sky"]["operation"] == "mean":
            sky = (median_factor(n - 1) - 1) / (n - 1) / (1 + 1 / (n - 1)) * n
        # DRAGONS' mean is not weighted and its frames are not scaled.
        weighted = n**2 * float(np.sum((alignment["weight"] * alignment["factor"] - 1 / n) ** 2))
        expected = [frame / n * math.sqrt(v) for v in (kernels, moved, sky, weighted)]
        for name, value in zip(
            ("interpolant", "registration", "median sky", "weights and scales"), expected, strict=True
        ):
            yield Row("stack", f"expected difference: {name}", value, "e- rms")
        total = math.hypot(*expected)
        yield Row(
            "stack", "difference on the background", pf.spread((mine - theirs)[free]), "e- rms",
            low=0.85 * total, high=1.15 * total, why="the four above",
        )  # fmt: skip
    floor = sigma * ncorr
    yield Row("stack", "expected from VAR and NCORR, 8 x 8 bins", floor, "e- px")
    yield Row("stack", "ours: noise of pixels", pf.spread(mine[free]), "e-")
    yield Row(
        "stack", "DRAGONS: noise of pixels", pf.spread(theirs[free]), "e-", why="its interpolant blurs more"
    )
    noise, noise_peer = pf.binned_noise(mine, free), pf.binned_noise(theirs, free)
    yield Row("stack", "ours: noise in 8 x 8 bins / floor", noise / floor, low=0.95, high=1.10)
    yield Row(
        "stack", "DRAGONS: noise in 8 x 8 bins / floor", noise_peer / floor,
        why=f"{with_median:.3f} of it for its median sky",
    )  # fmt: skip
    # Ours has the transparency of its reference, DRAGONS' the mean of its frames'.
    brightness = 1 / float(np.mean(alignment["flux_scale"]))
    yield Row("stack", "expected: scale ours / DRAGONS", brightness, why="reference / mean of the frames")
    yield Row(
        "stack", "noise in 8 x 8 bins / scale, ours / DRAGONS", noise / brightness / noise_peer, high=1.0
    )
    for who, values in (("ours", mine), ("DRAGONS", theirs)):
        far = np.abs(values[free]) > _OUTLIER * pf.spread(values[free])
        yield Row("stack", f"{who}: background beyond 8 sigma", 1e6 * float(far.mean()), "per million")
    pull = pf.spread(mine[free]) / sigma
    yield Row("stack", "ours: noise of pixels / VAR", pull, low=0.95, high=1.06)
    yield Row(
        "stack",
        "DRAGONS: noise of pixels / VAR",
        pf.spread(theirs[free]) / math.sqrt(np.median(peer.var[free])),
    )
    yield from _stars(ours, peer, catalogue, brightness, same_grid=apart < _SAME_GRID)


def _stars(
    ours: pf.Product, peer: pf.Product, catalogue: fits.FITS_rec, brightness: float, *, same_grid: bool
) -> Iterator[Row]:
    both = pf.stars(ours, peer, catalogue)
    # Two references have two WCS, each accurate to an arcsecond or two.
    limit = 0.05 if same_grid else 2 / camera.pixel_scale
    yield Row("stack", "isolated stars of S/N > 30", len(both), low=10)
    for axis, shift in (("x", both.dx), ("y", both.dy)):
        yield Row(
            "stack", f"registration, {axis}: median", float(np.median(shift)), "px", low=-limit, high=limit,
            why="mean of the frames' registrations" if same_grid else "the references' WCS",
        )  # fmt: skip
        yield Row("stack", f"registration, {axis}: scatter", pf.spread(shift), "px", high=0.05)
    yield Row(
        "stack",
        "flux / scale, ours / DRAGONS",
        float(np.median(both.ratio)) / brightness,
        low=0.995,
        high=1.005,
    )
    yield Row("stack", "flux ours / DRAGONS: scatter", 100 * pf.spread(both.ratio), "%", high=0.6)
    yield Row("stack", "FWHM ours", float(np.median(both.fwhm)), "px")
    yield Row(
        "stack", "FWHM ours / DRAGONS", float(np.median(both.fwhm / both.fwhm_peer)), high=1.01,
        why="below 1 is sharper",
    )  # fmt: skip


def _headers(kind: str, ours: pf.Product, peer: pf.Product) -> Iterator[Row]:
    lacking = [
        key
        for mine, theirs in ((ours.primary, peer.primary), (ours.header, peer.header))
        for key in theirs
        if key and key not in mine and key not in _STEPS and not key.startswith("AREA")
    ]
    yield Row(
        kind, "cards of DRAGONS' that ours lacks", len(lacking), high=0, why=" ".join(lacking)
    )  # fmt: skip


def _named(product: pf.Product) -> list[str]:
    """Return the names of the frames that a product was combined from."""
    return [str(name) for name in product.primary["IMCMB*"].values()]


def _electrons(raw: Path, names: Iterable[str], peer: pf.Product, origin: tuple[int, int]) -> pf.F8:
    """Return raw frames, electrons corrected for non-linearity, on the peer's cut-out; (n, ny, nx)."""
    x, y = origin
    ny, nx = peer.sci.shape
    frames = []
    for name in names:
        path = next(iter(sorted(raw.glob(f"{name}*"))), None)
        if path is None:
            raise SystemExit(f"{raw} does not hold {name}, from which the product was made.")
        with fits.open(path) as hdus:
            read_pairs = int(hdus[0].header["LNRS"])
            adu = np.squeeze(hdus[1].data)[y : y + ny, x : x + nx]
        electrons = adu * camera.gain(read_pairs)
        c1, c2, c3 = camera.nonlinearity
        frames.append(electrons * (c1 + electrons * (c2 + electrons * c3)))
    return np.array(frames)


def main(arguments: list[str] | None = None) -> int:
    """Print the table; return 1 if a figure is not as expected."""
    parser = ArgumentParser(prog="python -m benchmarks.compare_products", description=__doc__)
    parser.add_argument("out", type=Path, help="folder written by nirflow reduce")
    parser.add_argument("dragons", type=Path, help="folder of DRAGONS' products, full or cut out (LTV cards)")
    parser.add_argument("--raw", type=Path, help="folder of the raw frames, for the scatter between them")
    given = parser.parse_args(arguments)
    rows = compare(given.out, given.dragons, given.raw)
    table = Table("product", "figure", "value", "unit", "expected", "", "because")
    for row in rows:
        table.add_row(
            row.product, row.figure, f"{row.value:.5g}", row.unit, row.expected,
            "" if row.fits else "[red]differs[/red]", row.why,
        )  # fmt: skip
    Console(width=None if sys.stdout.isatty() else 180).print(table)
    return 0 if all(row.fits for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
