"""Reference stars from files: columns, errors, flags, frames, epochs, and catalogues that do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.table import Table
from catalogue_files import CENTRE, csv_of, gaia, plain, region, star_positions, twomass, votable, written

from imaging.errors import CatalogueError
from imaging.reference_catalogue import read_catalogue as read_module
from imaging.reference_catalogue.catalogue_parameters import CatalogueParameters
from imaging.reference_catalogue.read_catalogue import answered_catalogue, read_catalogue
from imaging.reference_catalogue.reference_stars import ReferenceCatalogue, separation


def read(
    table: Table | bytes, *, observed: float = 2013.9, radius: float = 0.1, **parameters: Any
) -> ReferenceCatalogue:
    content = table if isinstance(table, bytes) else csv_of(table)
    return answered_catalogue(
        content, CatalogueParameters(**parameters), region(observed, radius), origin="stars.csv"
    )


def test_2mass_by_the_names_of_its_archive() -> None:
    found = read(twomass())
    assert (found.name, found.bands, len(found)) == ("2MASS", ("J", "H", "Ks"), 20)
    j = found.in_band("J")
    assert (j.photometric_system, j.magnitude_system) == ("2MASS", "Vega")
    np.testing.assert_allclose(j.value, np.linspace(12, 16, 20))
    # 80 and 60 mas along the axes, with 7 mas/yr since 2000
    expected = np.hypot(np.sqrt((80**2 + 60**2) / 2), 7.0 * 13.9)
    np.testing.assert_allclose(found.position_error, expected, rtol=1e-3)
    assert found.dropped == {}


def test_flags_of_2mass_leave_out_rows_and_magnitudes() -> None:
    quality = ["AAA"] * 16 + ["AUA", "UAA", "XFE", "DCB"]
    confusion = ["000"] * 14 + ["00p", "c00"] + ["000"] * 4
    found = read(
        twomass(ph_qual=quality, cc_flg=confusion, gal_contam=[2] + [0] * 19, mp_flg=[0, 1] + [0] * 18)
    )
    assert len(found) == 18
    assert found.dropped == {
        "extended or part of an extended source": 1, "minor planet": 1, "J magnitudes with a flag": 3,
        "H magnitudes with a flag": 2, "Ks magnitudes with a flag": 2,
    }  # fmt: skip
    assert int(found.in_band("J").valid.sum()) == 15


def test_rows_and_magnitudes_without_valid_positions_or_errors_are_left_out_and_counted() -> None:
    error = np.full(20, 0.03)
    error[:4] = [np.nan, -0.1, 0.0, 99.0]
    position = np.full(20, 0.08)
    position[5:7] = [-1.0, np.nan]
    longitude = np.array(twomass()["ra"])
    longitude[9:12] = np.nan
    found = read(twomass(ra=longitude, j_msigcom=error, err_maj=position))
    assert found.dropped == {
        "J magnitudes without a valid error": 4,
        "without a valid error of the position": 2,
        "without a valid position, anywhere in the table": 3,
    }
    assert len(found) == 15
    assert int(found.in_band("J").valid.sum()) == 11


def test_marks_for_missing_magnitudes_are_no_magnitudes() -> None:
    ra, dec = star_positions(4)
    values = [-0.9999995e9, 15.0, 16.0, np.nan]
    found = read(
        Table({
            "ra": ra, "dec": dec, "mergedClass": [-1] * 4, "ksAperMag3": values, "ksAperMag3Err": [0.02] * 4,
            "ksppErrBits": [0, 16, 65536, 0], "priOrSec": [0, 0, 0, 0],
        })
    )  # fmt: skip
    assert found.name == "VHS"
    np.testing.assert_array_equal(found.in_band("Ks").valid, [False, True, False, False])
    assert found.in_band("Ks").photometric_system == "VISTA"
    assert any("100 mas" in note for note in found.notes)


def test_galaxies_and_second_entries_of_ukidss_are_left_out() -> None:
    ra, dec = star_positions(5)
    found = read(
        Table({
            "ra": ra, "dec": dec, "mergedClass": [-1, -2, 1, -1, -1], "kAperMag3": [15.0] * 5,
            "kAperMag3Err": [0.02] * 5, "priOrSec": [0, 7, 0, 8, 0], "frameSetID": [1, 7, 3, 4, 5],
        })
    )  # fmt: skip
    assert (found.name, len(found)) == ("UKIDSS", 3)
    assert found.dropped == {"not a star": 1, "second entry of a source": 1}
    assert found.in_band("K").photometric_system == "MKO"


def test_gaia_moves_to_the_epoch_of_the_observation() -> None:
    stars = gaia()
    found = read(stars, observed=2006.0)
    expected = SkyCoord(
        stars["ra"] * units.deg, stars["dec"] * units.deg, pm_ra_cosdec=np.full(20, 10) * units.mas / units.yr,
        pm_dec=np.full(20, -20) * units.mas / units.yr, obstime="J2016", distance=np.ones(20) * units.kpc,
    ).apply_space_motion(dt=-10 * units.yr)  # fmt: skip
    away = expected.separation(SkyCoord(found.ra * units.deg, found.dec * units.deg)).mas
    assert away.max() < 1e-3
    np.testing.assert_allclose(found.position_error, np.hypot(np.sqrt(0.025), 1.0), rtol=1e-6)
    assert found.bands == ()


def test_sources_of_gaia_without_a_motion_keep_their_place_with_a_larger_error() -> None:
    motion = np.full(20, 10.0)
    motion[3] = np.nan
    found = read(gaia(pmra=motion), observed=2006.0, proper_motion_rms=5.0)
    assert found.position_error[3] == pytest.approx(np.hypot(np.sqrt(0.025), 50.0))
    assert any(note.startswith("1 of 20 stars have no proper motion") for note in found.notes)


def test_a_large_ruwe_is_left_out() -> None:
    assert read(gaia(ruwe=[1.5] + [1.0] * 19)).dropped == {"RUWE above 1.4": 1}


def test_a_fast_star_moves_into_the_region() -> None:
    stars = gaia(1, ra=[CENTRE[0]], dec=[CENTRE[1] + 0.101], pmra=[0.0], pmdec=[-1000.0])
    found = read(stars, observed=2026.0, radius=0.1)
    assert found.dec[0] == pytest.approx(CENTRE[1] + 0.101 - 10 / 3600)


def test_columns_by_ucd() -> None:
    ra, dec = star_positions(3)
    columns = {
        "alpha": ("pos.eq.ra;meta.main", "deg", ra), "delta": ("pos.eq.dec;meta.main", "deg", dec),
        "s1": ("stat.error;pos.eq.ra", "arcsec", [0.05] * 3), "s2": ("stat.error;pos.eq.dec", "arcsec", [0.05] * 3),
        "m": ("phot.mag;em.IR.J", "mag", [12.0, 13.0, 14.0]), "dm": ("stat.error;phot.mag;em.IR.J", "mag", [0.01] * 3),
        "colour": ("phot.color;em.IR.J;em.IR.H", "mag", [0.5] * 3),
    }  # fmt: skip
    found = read(votable(columns, epoch="J2010.0"), proper_motion_rms=0.0)
    np.testing.assert_allclose(found.position_error, 50.0)
    np.testing.assert_allclose(found.in_band("J").value, [12, 13, 14])
    assert (found.name, found.bands) == ("stars", ("J",))


def test_several_columns_with_the_ucd_of_a_band_have_to_be_named() -> None:
    ra, dec = star_positions(2)
    columns = {
        "a": ("pos.eq.ra", "deg", ra), "d": ("pos.eq.dec", "deg", dec), "m1": ("phot.mag;em.IR.J", "mag", [12.0] * 2),
        "m2": ("phot.mag;em.IR.J", "mag", [13.0] * 2), "e": ("stat.error;phot.mag;em.IR.J", "mag", [0.1] * 2),
    }  # fmt: skip
    with pytest.raises(CatalogueError, match="m1, m2"):
        read(votable(columns), position_error=50.0).in_band("J")
    found = read(votable(columns), position_error=50.0, columns=("j=m2",))
    np.testing.assert_allclose(found.in_band("J").value, 13.0)


def test_given_columns_and_units_take_precedence() -> None:
    ra, dec = star_positions(4)
    stars = Table(
        {"a": ra, "d": dec, "ra": ra + 30, "dec": dec, "pe": [0.07] * 4, "m": [14.0] * 4, "dm": [0.03] * 4}
    )
    given = ("ra=a", "dec=d", "position_error=pe[arcsec]", "ks=m", "ks_err=dm")
    found = read(stars, columns=given, observed=2000.0, magnitude_system="AB")
    np.testing.assert_allclose(found.position_error, 70.0)
    assert found.in_band("Ks").magnitude_system == "AB"


@pytest.mark.parametrize("suffix", ["fits", "vot", "ecsv", "csv"])
def test_every_format_gives_the_same_stars(tmp_path: Path, suffix: str) -> None:
    path = written(twomass(), tmp_path / f"stars.{suffix}")
    found = read_catalogue(CatalogueParameters(source=str(path)), region())
    expected = read(twomass())
    np.testing.assert_allclose(found.ra, expected.ra, rtol=1e-13)
    np.testing.assert_array_equal(found.in_band("H").value, expected.in_band("H").value)
    assert found.origin == str(path)


def test_sexagesimal_positions() -> None:
    ra, dec = star_positions(3)
    sky = SkyCoord(ra * units.deg, dec * units.deg)
    stars = Table({
        "RA": sky.ra.to_string(unit="hour", sep=":", precision=5), "DEC": sky.dec.to_string(sep=" ", precision=4),
    })  # fmt: skip
    found = read(stars, position_error=50.0, observed=2000.0)
    assert separation(found.ra[0], found.dec[0], ra[0], dec[0]) < 1e-6
    np.testing.assert_allclose(found.ra, ra, atol=1e-6)


@pytest.mark.parametrize("frame", ["fk4", "fk5", "galactic"])
def test_other_frames_become_icrs(frame: str) -> None:
    ra, dec = star_positions(10)
    there = SkyCoord(ra * units.deg, dec * units.deg).transform_to(frame)
    lon, lat = there.spherical.lon.deg, there.spherical.lat.deg
    stars = Table({"ra": lon, "dec": lat})
    found = read(stars, frame=frame, position_error=50.0)
    away = [separation(a, d, r, e) for a, d, r, e in zip(found.ra, found.dec, ra, dec, strict=True)]
    # FK4 turns against ICRS by half an arcsecond in a century, here between 1950 and the epoch.
    assert max(away) * 3600 < (0.4 if frame == "fk4" else 1e-6)


def test_columns_of_galactic_positions_are_known() -> None:
    ra, dec = star_positions(5)
    there = SkyCoord(ra * units.deg, dec * units.deg).galactic
    found = read(Table({"glon": there.l.deg, "glat": there.b.deg}), position_error=50.0)
    np.testing.assert_allclose(found.ra, ra, atol=1e-9)


def test_a_catalogue_in_another_frame_is_refused_with_the_frame_that_fits() -> None:
    ra, dec = star_positions(10, radius=0.02)
    there = SkyCoord(ra * units.deg, dec * units.deg).transform_to("fk4")
    stars = Table({"ra": there.spherical.lon.deg, "dec": there.spherical.lat.deg})
    with pytest.raises(CatalogueError, match="read as FK4 1950 positions, 10 would be there") as caught:
        read(stars, position_error=50.0)
    assert "catalogue.frame=fk4" in caught.value.remedy
    read(stars, position_error=50.0, frame="fk4")


def test_a_catalogue_of_another_field_is_refused_with_what_it_covers() -> None:
    stars = plain()
    stars["ra"] += 40.0
    with pytest.raises(CatalogueError, match=r"positions cover longitude 103\.\d+ to 103\.\d+") as caught:
        read(stars, position_error=50.0)
    assert "20 rows" in caught.value.message


def test_a_band_that_is_missing_is_named_with_those_there() -> None:
    with pytest.raises(CatalogueError, match=r"no usable magnitudes in Y \(bands: J, H, Ks\)"):
        read(twomass()).in_band("Y")


def test_magnitudes_without_errors_are_not_used() -> None:
    stars = plain()
    stars.remove_column("j_err")
    found = read(stars, position_error=50.0)
    with pytest.raises(CatalogueError, match="j_err=COLUMN"):
        found.in_band("J")
    np.testing.assert_allclose(read(stars, position_error=50.0, magnitude_error=0.1).in_band("J").error, 0.1)


def test_positions_without_errors_are_refused() -> None:
    with pytest.raises(CatalogueError, match="no errors of its positions") as caught:
        read(plain())
    assert "catalogue.position_error" in caught.value.remedy


def test_an_error_without_unit_is_refused() -> None:
    stars = plain()
    stars["pos_err"] = 0.05
    with pytest.raises(CatalogueError, match="no unit"):
        read(stars)


def test_a_unit_that_does_not_fit_is_refused() -> None:
    with pytest.raises(CatalogueError, match="unit mag"):
        read(plain(), columns=("ra=ra[mag]", "dec=dec"), position_error=50.0)


def test_a_given_column_that_is_missing_is_refused() -> None:
    with pytest.raises(CatalogueError, match="no column 'alpha' for ra"):
        read(plain(), columns=("ra=alpha",))


def test_a_table_without_positions_is_refused() -> None:
    with pytest.raises(CatalogueError, match="no columns of positions"):
        read(Table({"x": [1.0], "y": [2.0]}))


def test_positions_that_are_no_degrees_are_refused() -> None:
    with pytest.raises(CatalogueError, match=r"no valid position in any row .*ra = 900"):
        read(Table({"ra": [900.0], "dec": [2.0]}))


def test_motions_without_an_epoch_are_refused() -> None:
    stars = plain()
    stars["pmra"], stars["pmdec"] = 1.0, 2.0
    with pytest.raises(CatalogueError, match="no epoch"):
        read(stars, position_error=50.0)
    with pytest.raises(CatalogueError, match=r"pmra \(pm_ra\) has no unit") as refused:
        read(stars, position_error=50.0, epoch=2000.0)
    assert "catalogue.columns=pm_ra=pmra[mas/yr],pm_dec=pmdec[mas/yr]'" in (refused.value.remedy or "")
    given = ("pm_ra=pmra[mas/yr]", "pm_dec=pmdec[arcsec/yr]")
    found = read(stars, position_error=50.0, epoch=2000.0, columns=given, observed=2010.0)
    np.testing.assert_allclose(found.dec - stars["dec"], 20.0 / 3600.0, rtol=1e-4)
    assert any("taken as exact" in note for note in found.notes)


def test_without_an_epoch_the_error_allows_for_motion_and_this_is_stated() -> None:
    found = read(plain(), position_error=50.0, observed=2020.0)
    np.testing.assert_allclose(found.position_error, np.hypot(50.0, 140.0))
    assert any("epoch of the positions is not known" in note for note in found.notes)


@pytest.mark.parametrize("bad", ["ra", "alpha=x", "ra=[deg]"])
def test_columns_that_name_nothing_are_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="write name=column"):
        CatalogueParameters(columns=(bad,))


def test_a_known_survey_that_is_declared_in_fk5_is_in_icrs() -> None:
    ra, dec = star_positions(3)
    columns = {
        "ra": ("POS_EQ_RA_MAIN", "deg", ra), "dec": ("POS_EQ_DEC_MAIN", "deg", dec), "j_m": ("", "mag", [12.0] * 3),
        "h_m": ("", "mag", [12.0] * 3), "k_m": ("", "mag", [12.0] * 3),
    }  # fmt: skip
    found = read(votable(columns, system="eq_FK5", equinox="J2000.", epoch="J2000."))
    np.testing.assert_allclose(found.ra, ra, atol=1e-12)
    assert found.name == "2MASS"
    other = {"ra": columns["ra"], "dec": columns["dec"]}
    moved = read(votable(other, system="eq_FK5", equinox="J2000"), position_error=50.0)
    away = separation(moved.ra[0], moved.dec[0], ra[0], dec[0]) * 3.6e6
    assert 1.0 < away < 60.0  # the difference of the frames


def test_positions_in_single_precision_have_a_larger_error(tmp_path: Path) -> None:
    stars = twomass(err_maj=np.full(20, 0.001), err_min=np.full(20, 0.001))
    stars["ra"] = stars["ra"].astype(np.float32)
    path = written(stars, tmp_path / "stars.fits")
    found = read_catalogue(CatalogueParameters(source=str(path), proper_motion_rms=0), region())
    # 63 deg in single precision: steps of 3.8e-6 deg
    np.testing.assert_allclose(found.position_error, np.hypot(1.0, 2.0**-18 * 3.6e6 / np.sqrt(12)), rtol=1e-6)
    assert any("single precision" in note for note in found.notes)


def test_the_zero_point_is_that_of_the_unit_the_setting_or_vega() -> None:
    ra, dec = star_positions(2)
    columns = {
        "ra": ("pos.eq.ra", "deg", ra), "dec": ("pos.eq.dec", "deg", dec),
        "j": ("phot.mag;em.IR.J", "mag(AB)", [12.0] * 2), "j_err": ("stat.error;phot.mag;em.IR.J", "mag", [0.1] * 2),
    }  # fmt: skip
    assert read(votable(columns), position_error=50.0).in_band("J").magnitude_system == "AB"
    found = read(plain(), position_error=50.0)
    assert found.in_band("J").magnitude_system == "Vega"
    assert any("Vega is assumed" in note for note in found.notes)
    stated = read(plain(), position_error=50.0, magnitude_system="AB")
    assert stated.in_band("J").magnitude_system == "AB"
    assert not any("assumed" in note for note in stated.notes)


def test_a_file_is_read_once_for_a_field_and_again_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = []
    real = read_module.read_table_file

    def counting(path: Path) -> Any:
        reads.append(path)
        return real(path)

    monkeypatch.setattr(read_module, "read_table_file", counting)
    path = tmp_path / "stars.csv"
    path.write_bytes(csv_of(plain()))
    parameters = CatalogueParameters.model_validate({"source": str(path), "position_error": 100})
    first = read_catalogue(parameters, region())
    assert read_catalogue(parameters, region()) is first
    assert len(reads) == 1
    path.write_bytes(csv_of(plain()) + b"\n")
    assert read_catalogue(parameters, region()).identity != first.identity
    assert len(reads) == 2
