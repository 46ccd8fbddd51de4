"""Tables that are wrong: each is refused with its file, the line and the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from imaging.errors import NirflowError
from imaging.instruments import catalogue

INSTRUMENTS = Path(__file__).parents[1]
SHIPPED = Path(__file__).parents[4] / "imaging" / "instruments"
MYCAM = INSTRUMENTS / "mycam.toml"


def refused(path: Path) -> NirflowError:
    with pytest.raises(NirflowError) as caught:
        catalogue.read_table(path)
    assert str(path) in str(caught.value)
    assert "nirflow instruments check" in caught.value.remedy
    return caught.value


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('title = "a made-up camera"', "", ": title: is missing"),
        ("[names]", "colour = 'red'\n[names]", "line 17: facts.colour: is 'red', expected a table"),
        ('cam = "camera"', 'cam = "kamera"', "line 18: names.cam: 'kamera' is not a fact"),
        ('"well", "section"]\nflat', '"wel", "section"]\nflat', "line 83: same.dark: 'wel' is not a fact; facts are"),
        ("group = 3, near = 1, wait = 4, serve = 5", "group = 6, near = 1, wait = 4, serve = 5",
         "line 92: windows.dark: group is 6 days, longer than serve, 5 days"),
        ("pair = 4, wait = 30", "wait = 30", "line 94: windows.bpm: lacks pair"),
        ("gain = 2.0", "", "line 50: detector: neither the detector nor a mode has gain"),
        ("when = { well = [-0.9] }", "when = { bias = [-0.9] }", "detector.modes[4].when.bias: 'bias' is not a fact"),
        ("range = [1, 100]", "range = [100, 1]", "line 12: facts.coadds: range goes from 100 down to 1"),
        ('exposure_time = { keywords = ["ITIME", "EXPTIME"], range = [0, 3600] }', "",
         "line 10: facts: lacks exposure_time"),
        ("coadds = { keywords", 'coadds = { type = "count", keywords', "line 12: facts.coadds.type: is given, but"),
        ('value = "object"', 'value = "sky"', "kinds[3].value: is 'sky', expected one of dark, flat, object, arc, bpm"),
        ('value = "0"', 'value = "0"', None),
        ("[offsets]", "[offsets", "is not valid TOML"),
        # a wrong unit, a missing keyword, rules that both match, a gain of 0, unknown keys
        ("range = [0, 3600] }", 'range = [0, 3600], unit = "ms" }',
         "line 11: facts.exposure_time.unit: is 'ms', expected 's', in which it is used"),
        ("range = [1, 100] }", 'range = [1, 100], unit = "s" }', "facts.coadds.unit: is 's', but it has none"),
        ("gain = 2.0", 'gain = "2 e/ADU"', "line 53: detector.gain: is '2 e/ADU', expected a number"),
        ('coadds = { keywords = ["NCOADD"], default', "coadds = { default",
         "line 12: facts.coadds.keywords: is missing"),
        ('keywords = ["FILTER"]\n', "", "line 20: wheels[1].keywords: is missing"),
        ('value = "flat"\nwhen = { IMAGETYP = ["FLAT*"] }', 'value = "flat"\nwhen = { IMAGETYP = ["dark 1"] }',
         "line 28: kinds[2]: never applies: kinds[1] ('dark') comes first and matches all frames that this one"),
        ('when = { LAMP = ["0"] }', 'when = { LAMP = ["1"], IMAGETYP = ["FLAT"] }',
         "lamp[2]: never applies: lamp[1] ('on') comes first"),
        ('when = { camera = ["narrow"] }', 'when = { camera = ["wide"], coadds = [1] }',
         "detector.modes[2].pixel_scale: never applies: modes[1] comes first and has 0.1 for the same frames"),
        ("gain = 2.0", "gain = 0.0", "line 53: detector.gain: is 0.0, expected greater than 0"),
        ("gain = 2.0", "gain = 2.0\ngian = 2.0", "line 54: detector.gian: is unknown here; the keys are "),
        ("gain = 2.0", "gain = 2.0\ngian = 2.0", "; 'gain' is the most similar"),
        ("[offsets]", "[ofsets]", "'offsets' is the most similar"),
        ("camera = { keywords", "camera = { keyword", "line 13: facts.camera.keywords: is missing; line 13: facts."),
        ("field_diameter = 100.0", "", "line 50: detector: neither the detector nor a mode has field_diameter"),
        ("field_diameter = 100.0", "field_diameter = 100.0\nsubarrays = [[512, 2048]]",
         "detector: subarrays has 512 x 2048, which is no part of"),
        ("reads = \"averaged\"", "reads = \"averaged\"\nextra_exposure = -1.0", "detector.extra_exposure: is -1.0"),
        ("pixel_scale = 0.02", "pixel_scale = 0.02\nextra_exposure = 1.0", "modes[2]: extra_exposure needs"),
        ("gain = 2.0", "gain = inf", "line 53: detector.gain: is inf, expected a finite number"),
        ("range = [1, 100] }", "range = [1, 100], factor = 0 }", "facts.coadds.factor: is 0, with which all"),
        ("default = -0.6", "default = 0.6", "facts.well.default: is 0.6, which is outside of the fact's own range"),
        ("default = -0.6", 'default = "shallow"', "facts.well.default: is 'shallow', expected a number"),
        ("default = 1,", "default = 1.5,", "facts.coadds.default: is 1.5, expected a whole number"),
        ('when = { IMAGETYP = ["FLAT*"] }', 'when = { imagetyp = ["FLAT*"] }',
         "kinds[2].when.imagetyp: is neither a keyword in capitals nor one of the facts that are known before"),
        ('when = { LAMP = ["0"] }', 'when = { lamps = ["0"] }', "lamp[2].when.lamps: is neither a keyword in capitals"),
        ("when = { well = [-0.9] }", 'when = { well = ["-0.9"] }',
         "modes[4].when.well: has '-0.9', but well is a number"),
        ('when = { camera = ["narrow"] }', "when = { camera = [3] }",
         "modes[2].when.camera: has 3, but camera is a text, in quotes"),
        ("exposure_time = 0.01", "camera = 1.0", "tolerance.camera: is for a number, but camera is a text"),
        ("exposure_time = 0.01", "well = -1.0", "tolerance.well: is -1.0, expected greater than or equal"),
        ('J = { flat = "lamp" }\nL = { flat = "thermal" }', "", "line 78: bands: is {}, expected at least one entry"),
        ('y = "-q"', 'y = "-p"', "line 46: offsets.y: is '-p', but x, 'p', follows the same offset"),
        ("range = [-1, 0], default = -0.6", "minus = [\"B2\"]", "line 14: facts.well: minus needs levels"),
        ("range = [-1, 0], default = -0.6", "levels = { a = [0, 2], b = [1, 3] }", "both contain 1"),
        ("values = { \"narrow-1\" = \"narrow\" }", "corners = { first = 0 }", "corners needs four keywords"),
    ],
)  # fmt: skip
def test_a_wrong_table_is_refused_with_its_line(
    tmp_path: Path, old: str, new: str, message: str | None
) -> None:
    text = MYCAM.read_text()
    assert message is None or old in text
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(old, new, 1))
    if message is None:
        assert catalogue.read_table(path).name == "MYCAM"
    else:
        assert message in str(refused(path))


def test_at_most_five_problems_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        MYCAM.read_text().replace("[bands]", "[bands]\n" + "".join(f"B{n} = {{}}\n" for n in range(7)))
    )
    message = str(refused(path))
    assert message.count("flat: is missing") == 5
    assert "; and 2 more." in message


def test_two_tables_that_give_a_fact_different_types_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.toml"
    text = MYCAM.read_text().replace("camera = {", 'camera = { type = "number",')
    text = text.replace('values = { "narrow-1" = "narrow" }', "default = 1.0")
    path.write_text(text.replace('["wide"]', "[1]").replace('["narrow"]', "[2]"))
    catalogue.read_table(path)
    monkeypatch.setattr(catalogue.OWN_TABLES, "paths", lambda: [path])
    catalogue.forget()
    try:
        with pytest.raises(
            NirflowError, match=r"niri\.toml and .*mine\.toml give the fact 'camera' different types"
        ):
            catalogue.tables()
    finally:
        monkeypatch.undo()
        catalogue.forget()


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.toml")), ids=lambda path: path.name)
def test_the_shipped_tables_are_valid(path: Path) -> None:
    assert catalogue.read_table(path).version
