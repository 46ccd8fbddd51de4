"""Situations of other software that reads our products, or whose products are added to the store."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table

from benchmarks.faults import products
from benchmarks.faults.laboratory import SCIENCE
from benchmarks.faults.products import added, file_of, plain, shown
from benchmarks.faults.situation import Check, Situation

if TYPE_CHECKING:
    from benchmarks.faults.laboratory import Laboratory

#: Columns of a source table that DRAGONS' primitives read.
_SOURCE_COLUMNS: Final = (
    "NUMBER", "X_IMAGE", "Y_IMAGE", "X_WORLD", "Y_WORLD", "FLUX_AUTO", "FLUXERR_AUTO", "MAG_AUTO", "MAGERR_AUTO",
    "FWHM_IMAGE", "ELLIPTICITY", "CLASS_STAR", "FLAGS", "ISOAREA_IMAGE", "BACKGROUND",
)  # fmt: skip
#: Cards of SCI that ccdproc, photutils and reproject need.
_SCI_CARDS: Final = ("EXPTIME", "FILTER", "GAIN", "DATE-OBS", "AIRMASS", "BUNIT", "CTYPE1")
#: How far the WCS of a raw frame may be from its pointing, arcsec: DRAGONS refuses more by default.
_POINTING: Final = 30.0
_DOCS: Final = Path(__file__).parents[3] / "docs" / "products.md"


def _foreign_lineage(lab: Laboratory, folder: Path) -> Sequence[Check]:
    """Add a stack of other software that carries the lineage of the dark it was made with."""
    dark, image = (file_of(lab.untouched, kind) for kind in ("dark", "image"))
    with fits.open(dark, memmap=False) as hdus:
        table = hdus["LINEAGE"].copy()
    stack = products.changed(
        image, folder / "S20131121S0075_stack.fits", lambda hdus: hdus.append(table), foreign=True,
        DARKIM=dark.name, **products.DRAGONS,
    )  # fmt: skip
    done, found = products.add(lab, lab.untouched.store, stack)
    record = shown(lab, lab.untouched.store, found["added"][0]["id"]) if found.get("added") else {}
    direct = [edge for edge in record.get("lineage", ()) if edge["depth"] == 1]
    frames = [edge["name"] for edge in direct if edge["input"] is None]
    science = sum(name in SCIENCE for name in frames)
    evidence = f"its inputs are {len(frames)} frames, {science} of them science frames"
    return (plain(done), added(done, found), Check(science == 9, evidence))


def _few_counted(lab: Laboratory, folder: Path) -> Sequence[Check]:
    """Add a flat like ours whose NCOMBINE counts only the frames with light, and compare it with ours."""
    flat, store = file_of(lab.untouched, "flat"), lab.untouched.store
    certified = lab.nirflow("cal", "certify", flat.name, "--author", "faults", env=store)

    def nearly(hdus: fits.HDUList) -> None:
        hdus["SCI"].data = (hdus["SCI"].data * np.float32(1.00001)).astype(np.float32)

    theirs = products.changed(
        flat,
        folder / "S20131129S0320_flat.fits",
        nearly,
        foreign=True,
        NCOMBINE=4,
        NLAMPON=None,
        **products.DRAGONS,
    )
    done, found = products.add(lab, store, theirs)
    gate = found["added"][0].get("gate") or {} if found.get("added") else {}
    doubtful = bool(found.get("added") and found["added"][0].get("doubtful"))
    with fits.open(flat) as hdus:
        counted = {key: hdus[0].header.get(key) for key in ("NCOMBINE", "NLAMPON", "NLAMPOFF")}
    return (
        plain(certified), added(done, found),
        Check(not doubtful, f"doubtful: {gate.get('reasons')}" if doubtful else "compared by VAR, and alike"),
        Check(counted["NLAMPON"] == 4, f"the header counts {counted}", grave=False),
    )  # fmt: skip


def _source_table(lab: Laboratory, folder: Path) -> Sequence[Check]:
    with fits.open(file_of(lab.untouched, "image")) as hdus:
        columns = hdus["OBJCAT"].columns
        missing = [name for name in _SOURCE_COLUMNS if name not in columns.names]
        units_of = {column.name: column.unit for column in columns if column.unit}
    odd = []
    for name, unit in units_of.items():
        try:
            units.Unit(unit, format="fits")
        except ValueError:
            odd.append(f"{name} in {unit}")
    return (
        Check(
            not missing,
            f"OBJCAT lacks {', '.join(missing)}" if missing else "OBJCAT has SExtractor's columns",
        ),
        Check(
            not odd, f"units that FITS does not have: {', '.join(odd)}" if odd else "all units are FITS units"
        ),
    )


def _astrodata_copy(lab: Laboratory, folder: Path) -> Sequence[Check]:
    """Add a copy as astrodata writes it: the cards of SCI with every plane, stale sums, no new checksums."""
    checks = []
    store = lab.store()
    for kind in ("dark", "flat"):

        def rewritten(hdus: fits.HDUList) -> None:
            cards = hdus["SCI"].header
            for name in ("VAR", "DQ"):
                old = hdus[name]
                new = fits.ImageHDU(old.data, cards.copy(), name=name)
                for keyword in ("BZERO", "BSCALE"):
                    if keyword in old.header:
                        new.header[keyword] = old.header[keyword]
                hdus[hdus.index_of(name)] = new

        source = file_of(lab.untouched, kind)
        copy = products.changed(source, folder / source.name, rewritten, checksum=False)
        done, found = products.add(lab, store, copy)
        checks += [plain(done), added(done, found)]
    return checks


def _their_record(lab: Laboratory, folder: Path) -> Sequence[Check]:
    """Add a product of DRAGONS; its software, version, time and inputs are those that it records."""
    dark = file_of(lab.untouched, "dark")
    theirs = products.changed(
        dark, folder / "S20131120S0115_dark.fits", products.scaled(1.000001), foreign=True,
        PROCDARK="2024-05-06T07:08:09", **products.DRAGONS,
    )  # fmt: skip
    store = lab.untouched.store
    done, found = products.add(lab, store, theirs)
    if not found.get("added"):
        return (plain(done), added(done, found))
    record = shown(lab, store, found["added"][0]["id"])
    product = record.get("product", {})
    by, made = str(product.get("software_version")), str(product.get("made_at"))
    inputs = sum(edge["depth"] == 1 for edge in record.get("lineage", ()))
    return (
        plain(done),
        Check("DRAGONS" in by and "4.2.2" in by, f"by {by}"),
        Check(made.startswith("2024-05-06"), f"made {made}"),
        Check(inputs == 10, f"by {by}, made {made}, {inputs} inputs"),
    )


def _sci_cards(lab: Laboratory, folder: Path) -> Sequence[Check]:
    checks = []
    for kind in ("dark", "flat", "image"):
        wanted = [
            card
            for card in _SCI_CARDS
            if (kind, card)
            not in {
                ("dark", "AIRMASS"),
                ("flat", "AIRMASS"),
                ("flat", "BUNIT"),
                ("dark", "CTYPE1"),
                ("flat", "CTYPE1"),
            }
        ]
        header = fits.getheader(file_of(lab.untouched, kind), "SCI")
        missing = [card for card in wanted if card not in header]
        checks.append(
            Check(
                not missing,
                f"SCI of the {kind} lacks {', '.join(missing)}"
                if missing
                else f"SCI of the {kind}: all cards",
            )
        )
    unit = fits.getheader(file_of(lab.untouched, "bpm"), "SCI").get("BUNIT")
    return (
        *checks,
        Check(unit is not None, "the mask has a BUNIT" if unit is not None else "the mask has no BUNIT"),
    )


def _photutils(lab: Laboratory, folder: Path) -> Sequence[Check]:
    from nirflow import read_ccd

    ccd = read_ccd(file_of(lab.untouched, "image"))
    kind = type(ccd.uncertainty).__name__
    text = _DOCS.read_text(encoding="utf-8")
    documented = "photutils" in text and ("StdDevUncertainty" in text or "standard deviation" in text.lower())
    return (
        Check(
            kind == "StdDevUncertainty" or documented,
            f"read_ccd gives {kind}; docs name photutils: {documented}",
        ),
    )


def _unlit_corners(lab: Laboratory, folder: Path) -> Sequence[Check]:
    """Add a mask in which everything outside the circle of light is bad, and compare it with ours."""
    mask, store = file_of(lab.untouched, "bpm"), lab.untouched.store
    certified = lab.nirflow("cal", "certify", mask.name, "--author", "faults", env=store)
    lit = lab.truth.plane("ILLUMINATED")

    def corners(hdus: fits.HDUList) -> None:
        hdus["SCI"].data[~lit] = 1

    theirs = products.changed(
        mask, folder / "S20131129S0320_bpm.fits", corners, foreign=True, **products.DRAGONS
    )
    done, found = products.add(lab, store, theirs)
    doubtful = bool(found.get("added") and found["added"][0].get("doubtful"))
    reasons = (found["added"][0].get("gate") or {}).get("reasons") if found.get("added") else None
    return (
        plain(certified),
        added(done, found),
        Check(not doubtful, f"compared inside the light: {reasons or 'alike'}"),
    )


def _cut_out(lab: Laboratory, folder: Path) -> Sequence[Check]:
    """Add a part of a dark, then reduce full frames without darks: it must not be chosen for them."""
    dark, store = file_of(lab.untouched, "dark"), lab.store()

    def part(hdus: fits.HDUList) -> None:
        for name in ("SCI", "VAR", "DQ"):
            hdus[name].data = hdus[name].data[100:356, 100:356].copy()
            for keyword in ("DATASEC", "ARRAYSEC", "DETSEC"):
                if keyword in hdus[name].header:
                    hdus[name].header[keyword] = "[101:356,101:356]"

    cut = products.changed(dark, folder / "S20131120S0115_dark.fits", part, foreign=True)
    done, found = products.add(lab, store, cut)
    night = lab.copy("cut-out")
    for frame in lab.truth.of_role("dark"):
        (night / frame.file).unlink()
    outcome = lab.reduce(night, "cut-out", env=store, score=False)
    if not found.get("added"):
        return (plain(done), Check(True, f"refused when it was added: {done.text.strip()[:120]}"))
    failure = outcome.failure
    return (outcome.clean(), Check("no dark serves" in failure, f"the science: {failure[:160]}"))


def _pointing(lab: Laboratory, folder: Path) -> Sequence[Check]:
    worst, of = 0.0, ""
    on_sky = {frame.root for frame in lab.truth.science}
    for path in [path for path in lab.truth.raw_paths() if path.stem in on_sky]:
        with fits.open(path) as hdus:
            primary, header = hdus[0].header, hdus[1].header
            target = SkyCoord(primary["RA"], primary["DEC"], unit="deg")
            offset = target.spherical_offsets_by(
                primary["RAOFFSET"] * units.arcsec, primary["DECOFFSE"] * units.arcsec
            )
            centre = SkyCoord(header["CRVAL1"], header["CRVAL2"], unit="deg")
            distance = float(offset.separation(centre).arcsec)
        if distance > worst:
            worst, of = distance, path.name
    return (Check(worst < _POINTING, f"WCS {worst:.3g} arcsec from the pointing in {of}"),)


def _reference(lab: Laboratory, folder: Path) -> Sequence[Check]:
    image = file_of(lab.untouched, "image")
    header, truth = fits.getheader(image), lab.truth
    with fits.open(image) as hdus:
        rows = hdus["ALIGNMENT"].data
        scales = {str(row["name"]).removesuffix(".fits"): float(row["flux_scale"]) for row in rows}
    reference = truth.frame(str(header["REFFRAME"]))
    rank = sorted(frame.transparency for frame in truth.science).index(reference.transparency)
    ratios = [f.transparency / reference.transparency for f in truth.science if f.root in scales]
    measured = [scales[f.root] for f in truth.science if f.root in scales]
    # A scale is the factor to the reference, or its inverse.
    worst = min(max(abs(m * r**sign - 1) for m, r in zip(measured, ratios, strict=True)) for sign in (1, -1))
    shown = f"flux scales up to {worst:.1%} off" if len(set(scales.values())) > 1 else "flux scales are all 1"
    return (
        Check(rank >= 4, f"the reference has rank {9 - rank} of 9 in transparency"),
        Check(len(set(scales.values())) > 1 and worst < 0.01, shown, grave=False),
    )


def _apertures(lab: Laboratory, folder: Path) -> Sequence[Check]:
    text = _DOCS.read_text(encoding="utf-8")
    stated = "aperture" in text and all(word in text for word in ("BGERR", "blank", "1.0"))
    return (
        Check(
            stated,
            "the scatter of blank apertures is in the docs" if stated else "not in docs/products.md",
            grave=False,
        ),
    )


def _readers(lab: Laboratory, folder: Path) -> Sequence[Check]:
    """Read every product with astropy, with checksums, as tables and as CCDData."""
    from astropy.nddata import CCDData

    problems = []
    for kind in ("dark", "bpm", "flat", "image"):
        path = file_of(lab.untouched, kind)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                with fits.open(path, checksum=True) as hdus:
                    hdus.verify("exception")
                    tables = [hdu.name for hdu in hdus if isinstance(hdu, fits.BinTableHDU)]
                for name in tables:
                    Table.read(path, hdu=name)
                CCDData.read(path, hdu="SCI", unit="adu" if kind in ("flat", "bpm") else None)
            except (OSError, ValueError, fits.VerifyError) as error:
                problems.append(f"{kind}: {error}")
        problems += [
            f"{kind}: {one.message}"
            for one in caught
            if "unit" in str(one.message).lower() or "checksum" in str(one.message).lower()
        ]
    return (
        Check(
            not problems, problems[0][:160] if problems else "astropy reads all products without complaint"
        ),
    )


def _one(
    name: str, given: str, right: str, trial: Callable[[Laboratory, Path], Sequence[Check]]
) -> Situation:
    return Situation(name, "software", given, right, trial=trial)


SITUATIONS: tuple[Situation, ...] = (
    _one("lineage-of-another-product", "a stack of DRAGONS with the LINEAGE table of our dark",
         "a LINEAGE table counts only for the product that wrote it", _foreign_lineage),
    _one("frames-counted-otherwise", "a flat equal to ours whose NCOMBINE counts the lamp-ons alone",
         "variances are compared; on and off are counted apart", _few_counted),
    _one("source-table", "our image in primitives that read OBJCAT", "SExtractor's columns; FITS units", _source_table),
    _one("copy-by-astrodata", "unchanged copies with stale DATASUM", "accepted, as the pixels are intact",
         _astrodata_copy),
    _one("record-of-dragons", "a product of DRAGONS", "its software, version, time and all inputs", _their_record),
    _one("cards-of-sci", "CCDData.read of SCI alone", "SCI has the cards that ccdproc, photutils and reproject need",
         _sci_cards),
    _one("photutils", "read_ccd and photutils", "the variance is not ignored silently", _photutils),
    _one("mask-with-unlit-corners", "a mask with bad corners compared with ours", "compared inside the circle of light",
         _unlit_corners),
    _one("cut-out", "a part of a dark, added", "never chosen for full frames", _cut_out),
    _one("simulated-pointing", "simulated frames in DRAGONS' prepare", "WCS and pointing agree", _pointing),
    _one("reference-frame", "frames of different transparency", "the reference is among the best; scales from stars",
         _reference),
    _one("blank-apertures", "the noise of large apertures", "stated in the docs", _apertures),
    _one("standard-readers", "every product in astropy, with checksums", "read without complaint", _readers),
)  # fmt: skip
