"""The comparison of headers with an archive's record: invented files with the traps of real ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.headers.__main__ import main
from benchmarks.headers.archive import archive_files
from imaging.io.raw_file import read_headers

PRIMARY = """
SIMPLE  =                    T / standard
BITPIX  =                   16 / bits
NAXIS   =                    0 / axes
EXTEND  =                    T / extensions
INSTRUME= 'NIRI    '           / instrument
OBJECT  = 'FIELD 1 '           / target
OBSTYPE = 'OBJECT  '           / type
OBSCLASS= 'science '           / class
GEMPRGID= 'GN-2003A-Q-1'       / program
OBSID   = 'GN-2003A-Q-1-2'     / observation
DATALAB = 'GN-2003A-Q-1-2-004' / label
RA      =                 30.0 / target
DEC     =                 20.0 / target
RAWGEMQA= 'USABLE  '           / judgement
UT      = '06:01:59.7'         / begin
TIME-OBS= '06:02:00.2'         / begin
DATE-OBS= '2003-03-25'         / date
PA      =                   0. / angle
RAOFFSET=                   0. / offset
DECOFFSE=                  -4. / offset
AIRMASS =                 1.08 / airmass
INPORT  =                    3 / port
CAMERA  = 'f6      '           / camera
COADDS  =                    3 / coadds
EXPTIME =               15.001 / of one coadd
FILTER1 = 'Kprime_G0206'       / wheel
FILTER2 = 'open    '           / wheel
FILTER3 = 'pupil38_G5207'      / wheel
FPMASK  = 'f6-cam_G5208'       / mask
LNRS    =                    1 / read pairs
NDAVGS  =                   16 / averages
A_VDDUC =               -3.491 / bias
A_VDET  =               -2.907 / bias
CTYPE1  = 'RA---TAN'           / axis
CTYPE2  = 'DEC--TAN'           / axis
CRPIX1  =                512.0 / pixel
CRPIX2  =                512.0 / pixel
CRVAL1  =                 30.0 / value
CRVAL2  =                 20.0 / value
CD1_1   = -3.2524270027565E-05 / matrix
CD1_2   = 1.28695856061755E-07 / matrix
CD2_1   = -8.9987106577858E-09 / matrix
CD2_2   = 3.23352654722922E-05 / matrix
"""
IMAGE = """
XTENSION= 'IMAGE   '           / extension
BITPIX  =                   16 / bits
NAXIS   =                    2 / axes
NAXIS1  =                 1024 / columns
NAXIS2  =                 1024 / rows
PCOUNT  =                    0 / none
GCOUNT  =                    1 / one
CTYPE1  = 'RA---TAN'           / axis
CTYPE2  = 'DEC--TAN'           / axis
CRPIX1  =                512.0 / pixel
CRPIX2  =                512.0 / pixel
CRVAL1  =                 30.0 / value
CRVAL2  =                 20.0 / value
CD1_1   = -3.2524270027565E-55 / matrix
CD1_2   = 1.28695856061755E-07 / matrix
CD2_1   = -8.9987106577858E-09 / matrix
CD2_2   = 3.23352654722922E-05 / matrix
LOWROW  =                    0 / x
HIROW   =                 1023 / x
LOWCOL  =                    0 / y
HICOL   =                 1023 / y
"""
RECORD: dict[str, Any] = {
    "instrument": "NIRI", "observation_type": "OBJECT", "observation_class": "science", "spectroscopy": False,
    "filter_name": "K(prime)", "exposure_time": 45.003, "coadds": None, "disperser": "MIRROR", "camera": "f6",
    "focal_plane_mask": "f6-cam", "object": "FIELD 1", "detector_readmode_setting": "Medium_Background",
    "detector_welldepth_setting": "Shallow", "detector_roi_setting": "Full Frame", "detector_binning": "1x1",
    "ut_datetime": "2003-03-25 06:01:59.700000", "ra": 30.0, "dec": 20.0, "airmass": 1.08, "qa_state": "Pass",
    "data_label": "GN-2003A-Q-1-2-004", "observation_id": "GN-2003A-Q-1-2", "program_id": "GN-2003A-Q-1",
    "types": "{'NIRI', 'IMAGE', 'RAW'}",
}  # fmt: skip


def archive(
    folder: Path, name: str = "N20030325S0098", cards: dict[str, str] | None = None, **record: Any
) -> Path:
    """Write a file of an archive: texts of its headers with some cards replaced, and its record."""
    primary = PRIMARY
    for keyword, value in (cards or {}).items():
        lines = primary.splitlines(keepends=True)
        start = f"{keyword:8}="
        primary = "".join(f"{start} {value}\n" if line.startswith(start) else line for line in lines)
    (folder / f"{name}.txt").write_text(f"== HDU 0{primary}== HDU 1{IMAGE}")
    (folder / f"{name}.json").write_text(json.dumps(RECORD | record))
    return folder


def compared(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, dict[str, Any]]]:
    code = main([str(folder), "--json"])
    return code, {one["fact"]: one for one in json.loads(capsys.readouterr().out)}


def test_facts_agree_and_differences_are_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, facts = compared(archive(tmp_path), capsys)
    assert code == 0
    differ = {fact: one["why"] for fact, one in facts.items() if not one["agrees"]}
    assert list(differ) == ["disperser"]
    assert "both mean imaging" in differ["disperser"]
    assert facts["fate"]["ours"] == "usable"
    assert facts["exposure, s"]["ours"] == "45.003"
    assert "coadds" not in facts  # unknown to the archive
    assert float(facts["position, arcsec off"]["ours"]) < 0.1


@pytest.mark.parametrize(
    ("fact", "record"),
    [
        ("exposure, s", {"exposure_time": 15.001}),
        ("filter", {"filter_name": "K(short)"}),
        ("position, arcsec off", {"ra": 30.01}),
        ("start", {"ut_datetime": "2003-03-25 06:02:00.2"}),
        ("kind", {"types": "['NIRI_CAL', 'NIRI_IMAGE_FLAT']"}),
        ("fate", {"observation_class": "acq"}),
        ("quality", {"qa_state": "Undefined"}),
        ("section", {"detector_roi_setting": "Central768"}),
    ],
)
def test_a_difference_without_a_reason_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fact: str, record: dict[str, Any]
) -> None:
    code, facts = compared(archive(tmp_path, **record), capsys)
    assert code == 1
    assert (facts[fact]["agrees"], facts[fact]["why"]) == (False, "")
    assert main([str(tmp_path)]) == 1
    assert f"{fact} is" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("cards", "record", "fate"),
    [
        ({"OBSCLASS": "'acq     '"}, {"observation_class": "acq"}, "excluded: an acquisition"),
        ({"OBSTYPE": "'ARC     '"}, {"observation_type": "ARC"}, "excluded: an arc"),
        ({"FILTER3": "'Kgrism_G5204'"}, {"spectroscopy": True, "disperser": "Kgrism"}, "excluded: spectroscopy"),
        ({"RAWGEMQA": "'BAD     '"}, {"qa_state": "Fail"}, "excluded: a failure"),
        ({"INSTRUME": "'GSAOI   '"}, {"instrument": "GSAOI"}, "foreign: no table describes"),
        ({"DATALAB": "'GN-2003A-Q-1-2-001'"}, {"data_label": "GN-2003A-Q-1-2-001"}, "excluded: first frame of"),
    ],
)  # fmt: skip
def test_what_is_not_reduced_is_refused_for_its_reason(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    cards: dict[str, str],
    record: dict[str, Any],
    fate: str,
) -> None:
    code, facts = compared(archive(tmp_path, cards=cards, **record), capsys)
    assert (code, facts["fate"]["ours"]) == (0, fate)


def test_the_files_have_the_cards_of_the_texts(tmp_path: Path) -> None:
    (file,) = archive_files(archive(tmp_path))
    primary, image = read_headers(file.write(tmp_path))
    assert primary["DECOFFSE"] == -4.0
    assert image is not None
    assert image["CD1_1"] == pytest.approx(-3.25e-5, rel=1e-3)  # from the primary header
    assert file.headers()[1]["CD1_1"] == pytest.approx(-3.25e-55, rel=1e-3)


def test_a_folder_without_records_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.txt").write_text("== HDU 0\n")
    with pytest.raises(SystemExit):
        main([str(tmp_path)])
    assert "no header (.txt) with the archive's record (.json)" in capsys.readouterr().err
