"""Grouping of raw frames: fields, dithers and offsets, calibration groups and their pairs."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.frames.calibration_groups import calibration_groups, flat_groups, nearest_group
from imaging.frames.facts import FrameFacts
from imaging.frames.groups import GroupParameters, science_groups
from imaging.frames.pointing import pointing, separation

NIGHT = datetime(2013, 11, 21, 2, 0, tzinfo=UTC)
FIELD_DIAMETER = 362.0
BASE = {
    "instrument": "F2", "observation_class": "science", "target": "W", "exposure_time": 120.0, "coadds": 1,
    "read_pairs": 1, "filter_id": "Y_G0811", "filter": "Y", "lyot": "f/16_G5830", "focal_mask": "Open",
    "disperser": "Open", "detector": "H2", "program": "GS-2013B-Q-15",
}  # fmt: skip


def science(name, *, seconds=0.0, **changes):
    values = BASE | {
        "name": name, "kind": "object", "ra": 63.49, "dec": -47.84, "observation_id": "GS-2013B-Q-15-39",
        "started": NIGHT + timedelta(seconds=seconds),
    }  # fmt: skip
    return FrameFacts(**(values | changes))


def calibration(name, kind, *, days=0.0, **changes):
    values = BASE | {"name": name, "kind": kind, "started": NIGHT + timedelta(days=days)}
    return FrameFacts(**(values | changes))


def tutorial():
    """The tutorial's night: darks of three nights, lamps on and off three nights apart."""
    frames = [science(f"sci{i}", seconds=130 * i, poffset=10.0 * (i % 3)) for i in range(9)]
    frames += [
        calibration(f"dark{i}", "dark", days=d) for i, d in enumerate([-0.9] * 6 + [-0.1, 0.9, 1.8, 1.8])
    ]
    frames += [calibration(f"short{i}", "dark", days=0.1, exposure_time=2.0) for i in range(7)]
    flat = {"exposure_time": 20.0}
    frames += [calibration(f"off{i}", "flat", days=5 + i / 1e3, lamp="off", **flat) for i in range(6)]
    frames += [calibration(f"on{i}", "flat", days=8 + i / 1e3, lamp="on", **flat) for i in range(4)]
    return frames


def test_the_tutorials_night_needs_no_option():
    frames = tutorial()
    (group,) = science_groups(frames)
    assert group.mode == "dither"
    assert group.objects == group.skies == group.members == tuple(f"sci{i}" for i in range(9))
    groups = calibration_groups(frames)
    assert [(g.kind, g.lamp, g.exposure_time, len(g.members)) for g in groups] == [
        ("dark", None, 120.0, 10), ("dark", None, 2.0, 7), ("flat", "off", 20.0, 6), ("flat", "on", 20.0, 4)
    ]  # fmt: skip
    (pair,) = flat_groups(groups)
    assert pair.on is not None
    assert pair.off is not None
    assert (pair.on.lamp, pair.off.lamp, pair.darks, pair.missing) == ("on", "off", None, ())


@given(order=st.permutations(range(27)))
def test_the_order_of_the_frames_does_not_matter(order):
    frames = tutorial()
    shuffled = [frames[i] for i in order] + frames[27:]
    assert science_groups(shuffled) == science_groups(frames)
    assert calibration_groups(shuffled) == calibration_groups(frames)


@pytest.mark.parametrize(
    "change",
    [
        {"filter_id": "J_G0802"}, {"lyot": "f/32"}, {"focal_mask": "slit"}, {"exposure_time": 60.0},
        {"coadds": 2}, {"read_pairs": 4}, {"program": "other"}, {"observation_id": "other"},
        {"ra": 63.49 + 0.2}, {"poffset": 0.91 * FIELD_DIAMETER, "target": "other"},
    ],
)  # fmt: skip
def test_what_keeps_science_frames_apart(change):
    groups = science_groups([science("a"), science("b", seconds=130), science("c", seconds=260, **change)])
    together = [set(g.objects) for g in groups]
    assert {"a", "b"} in together
    assert not any({"a", "c"} <= names for names in together)


def test_frames_that_are_no_fit_science_take_no_part():
    frames = [
        science("acq", observation_class="acq"), science("bad", quality="BAD"),
        science("spec", disperser="JH_G5801"),
        science("done", processed=True), calibration("dark", "dark"), science("good"),
    ]  # fmt: skip
    assert [g.members for g in science_groups(frames)] == [("good",)]


def test_an_offset_sequence_has_its_skies_apart():
    offsets = {"s1": 400.0, "o1": 0.0, "o2": 12.0, "s2": 415.0}
    frames = [science(n, seconds=130 * i, poffset=p) for i, (n, p) in enumerate(offsets.items())]
    (group,) = science_groups(frames)
    assert (group.mode, group.objects, group.skies) == ("offset", ("o1", "o2"), ("s1", "s2"))
    assert group.members == ("o1", "o2", "s1", "s2")
    assert group.notes == ("1 fields away from the target are sky",)
    # 300 arcsec is an offset to the sky although the fields' edges overlap; a dither step of 290 is none.
    near = [science("o"), science("s", seconds=130, qoffset=300.0)]
    assert science_groups(near)[0].mode == "offset"
    close = [science("o"), science("s", seconds=130, qoffset=290.0)]
    assert science_groups(close)[0].mode == "dither"


def test_unguided_frames_are_sky_unless_none_is_guided():
    frames = [science("a"), science("b", seconds=130, guided=False), science("c", seconds=260, poffset=20)]
    (group,) = science_groups(frames)
    assert (group.mode, group.objects, group.skies) == ("dither", ("a", "c"), ("a", "b", "c"))
    assert group.notes == ("1 unguided frames are sky only",)
    (group,) = science_groups([f.model_copy(update={"guided": False}) for f in frames])
    assert group.objects == ("a", "b", "c")


def test_a_wcs_centre_counts_where_there_is_one():
    frames = [science("a"), science("b", seconds=130)]
    centres = {"b": (63.49, -47.84 + 400 / 3600)}
    (group,) = science_groups(frames, centres=centres)
    assert (group.objects, group.skies) == (("a",), ("b",))


def test_frames_without_a_target_position_group_by_name_and_offset():
    blind = {"ra": None, "dec": None}
    frames = [science("a", **blind), science("b", poffset=20, **blind), science("c", target="V", **blind)]
    assert {g.objects for g in science_groups(frames)} == {("a", "b"), ("c",)}
    assert all(g.centre is None for g in science_groups(frames))


def test_pointing_turns_the_offsets_with_the_position_angle():
    here = (63.49, -47.84)
    east = pointing(science("a", poffset=100.0))
    north = pointing(science("a", poffset=100.0, pa=-90.0))
    assert east[0] > here[0]
    assert east[1] == pytest.approx(here[1])
    assert separation(here, east) == pytest.approx(100.0, abs=0.01)
    assert north == pytest.approx((here[0], here[1] + 100 / 3600), abs=1e-9)


def test_separation_and_centre_across_zero_hours():
    assert separation((359.999, 10.0), (0.001, 10.0)) == pytest.approx(7.2 * 0.98481, rel=1e-4)
    frames = [science("a", ra=359.999, dec=10.0), science("b", ra=0.001, dec=10.0)]
    (group,) = science_groups(frames)
    ra, dec = group.centre
    assert min(ra, 360 - ra) == pytest.approx(0.0, abs=1e-9)
    assert dec == pytest.approx(10.0)


@pytest.mark.parametrize(
    "change",
    [
        {"exposure_time": 60.0}, {"read_pairs": 8}, {"coadds": 2}, {"section": "[1:1024,1:1024]"},
        {"detector": "x"},
    ],
)  # fmt: skip
def test_what_keeps_darks_apart(change):
    groups = calibration_groups([calibration("a", "dark"), calibration("b", "dark", **change)])
    assert [g.members for g in groups] == [("a",), ("b",)]
    # The filter wheel's position means nothing to a dark.
    same = calibration_groups(
        [calibration("a", "dark"), calibration("b", "dark", filter_id="DK", filter="DK")]
    )
    assert [g.members for g in same] == [("a", "b")]


def test_a_gap_ends_a_group():
    frames = [calibration(f"d{i}", "dark", days=d) for i, d in enumerate([0, 4.9, 9.8, 14.9])]
    assert [g.members for g in calibration_groups(frames)] == [("d0", "d1", "d2"), ("d3",)]
    all_of_them = calibration_groups(frames, GroupParameters(max_gap_days=5.2))
    assert [len(g.members) for g in all_of_them] == [4]


def test_thermal_lamp_offs_are_of_one_night_and_pair_with_darks():
    flat = {"lamp": "off", "filter_id": "K-red_G0814", "filter": "K-red", "exposure_time": 2.0}
    frames = [calibration(f"k{i}", "flat", days=d, **flat) for i, d in enumerate([0, 0.01, 1.0])]
    frames += [
        calibration("d", "dark", days=3, exposure_time=2.0),
        calibration("e", "dark", exposure_time=5.0),
    ]
    groups = calibration_groups(frames)
    pairs = flat_groups(groups)
    assert [(p.off.members, p.on, p.darks.members) for p in pairs] == [
        (("k0", "k1"), None, ("d",)),
        (("k2",), None, ("d",)),
    ]
    (alone,) = flat_groups([g for g in groups if g.kind == "flat"][:1])
    assert alone.darks is None
    assert alone.missing == ("darks of 2 s for the lamp-offs",)


def test_lamp_ons_without_lamp_offs_are_reported_and_the_nearest_pair_up():
    on = calibration("on", "flat", days=50, lamp="on", exposure_time=20.0)
    offs = [calibration(f"off{d}", "flat", days=d, lamp="off", exposure_time=20.0) for d in (0, 45, 60, 141)]
    (pair,) = flat_groups(calibration_groups([on, *offs]))
    assert pair.off.members == ("off45",)
    (alone,) = flat_groups(calibration_groups([on, offs[3]]))
    assert alone.off is None
    assert alone.missing == ("lamp-offs of 20 s in Y_G0811",)
    group = calibration_groups([on])[0]
    later = calibration_groups([offs[3]])
    assert nearest_group(group, later) is None
    assert nearest_group(group, later, GroupParameters(pair_within_days=92)) == later[0]


SECOND = {"observation_id": "GS-2013B-Q-1-9", "target": "the same"}


def test_a_sequence_whose_observation_id_changes_half_way():
    first = [science(f"a{n}", seconds=130 * n, poffset=10 * n) for n in range(4)]
    second = [science(f"b{n}", seconds=520 + 130 * n, poffset=-10 * n, **SECOND) for n in range(5)]
    a, b = science_groups([*first, *second])
    assert (a.objects, b.objects) == (tuple(f.name for f in first), tuple(f.name for f in second))
    assert "b0 continues this pointing as observation 'GS-2013B-Q-1-9', target 'the same'" in a.notes[0]
    assert "a0 has the same pointing as observation" in b.notes[0]
    assert all(group.notes[0].endswith("to stack both together, use --join") for group in (a, b))
    (both,) = science_groups([*second, *first], join=True)
    assert (both.name, both.objects) == ("a0", a.objects + b.objects)
    assert both.skies == both.objects
    assert both.notes == ("joined with b0, observation 'GS-2013B-Q-1-9', target 'the same'",)
    assert both.centre == pytest.approx(science_groups([f.model_copy(update={"observation_id": "x", "target": "x"})
                                                        for f in (*first, *second)])[0].centre)  # fmt: skip


def test_a_continued_sequence_has_the_nominal_exposure_time():
    """119.996 s and 120 s are one configuration for both parts, whichever begins with which."""
    first = [science("a0", exposure_time=119.996), science("a1", seconds=130)]
    second = [
        science("b0", seconds=260, **SECOND),
        science("b1", seconds=390, exposure_time=120.004, **SECOND),
    ]
    (both,) = science_groups([*first, *second], join=True)
    assert both.objects == ("a0", "a1", "b0", "b1")
    assert [len(group.notes) for group in science_groups([*first, *second])] == [1, 1]


@pytest.mark.parametrize(
    "change",
    [
        {"dec": -47.5},
        {"filter_id": "H_G0809", "filter": "H"},
        {"exposure_time": 60.0},
        {"started": "next night"},
    ],
)
def test_what_is_not_joined(change):
    first = [science("a0"), science("a1", seconds=130)]
    if "started" in change:
        second = [science("b0", seconds=86400, **SECOND)]
    else:
        second = [science("b0", seconds=260, **(SECOND | change))]
    groups = science_groups([*first, *second], join=True)
    assert [g.objects for g in groups] == [("a0", "a1"), ("b0",)]
    assert all(not group.notes for group in science_groups([*first, *second]))


def test_only_adjacent_groups_are_joined():
    elsewhere = {"observation_id": "GS-2013B-Q-1-8", "dec": -40.0}
    frames = [science("a"), science("x", seconds=130, **elsewhere), science("b", seconds=260, **SECOND)]
    assert [g.objects for g in science_groups(frames, join=True)] == [("a",), ("x",), ("b",)]
    offset = [science("o"), science("s", seconds=130, poffset=400.0), science("b", seconds=260, **SECOND)]
    assert [g.mode for g in science_groups(offset, join=True)] == ["offset", "dither"]


def test_three_parts_of_a_sequence_are_one():
    frames = [science(f"a{n}", seconds=130 * n, observation_id=f"o{n}") for n in range(3)]
    (group,) = science_groups(frames, join=True)
    assert group.objects == ("a0", "a1", "a2")
    assert [len(g.notes) for g in science_groups(frames)] == [1, 2, 1]
