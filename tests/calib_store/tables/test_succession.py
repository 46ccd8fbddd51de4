"""Which product supersedes another by the store's own rules, whatever the order of events."""

from __future__ import annotations

import itertools
import uuid
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from calib_store.curation.certify import certify, counting_again, reinstate, reject, supersede
from calib_store.model.records import InputRef, Tier, recipe_key
from calib_store.store import Store
from imaging.errors import StoreError

WHO = {"author": "Ana", "reason": "light leak"}


@pytest.fixture
def raws(store: Store, record):
    """Ten raw darks of the store."""
    found = [record(f"D{n}.fits") for n in range(10)]
    store.frames.ingest(found)
    return [one.sha256 for one in found]


@pytest.fixture
def dark(add, raws):
    """Add a dark that is made of some of the raw darks, by their number."""

    def make(numbers, **changes):
        metrics = changes.pop("metrics", {"noise": changes.pop("noise", 8.0 / len(numbers) ** 0.5)})
        inputs = [InputRef("dark", raws[n]) for n in numbers]
        parameters = changes.pop("parameters", {"dark": {"low": 3.0}})
        key = recipe_key("dark", [ref.source for ref in inputs], parameters, "1")
        return add(
            inputs=inputs, metrics=metrics, recipe_key=key, parameters=parameters,
            **{"hours": sum(numbers) / len(numbers)} | changes,
        )  # fmt: skip

    return make


def statuses(store: Store, *products) -> list[str]:
    return [store.get(product.id).status for product in products]


def frame(store: Store, number: int):
    return store.frames.get(f"D{number}")


@pytest.mark.parametrize("turned", [False, True])
def test_the_complete_set_supersedes_a_part_whichever_came_first(store, dark, facts, turned) -> None:
    sets = [(0, 1, 2), tuple(range(10))]
    made = {numbers: dark(numbers) for numbers in (reversed(sets) if turned else sets)}
    part, whole = made[sets[0]], made[sets[1]]
    assert statuses(store, part, whole) == ["superseded", "candidate"]
    assert store.match(facts(), "dark").product.id == whole.id
    last = store.history(part)[-1]
    assert (last.author, last.by, last.automatic) == ("nirflow", whole.id, True)
    assert "is made of all its frames and 7 more" in last.reason


def test_a_product_made_with_a_rejected_frame_serves_only_as_a_last_resort(store, dark, facts) -> None:
    dirty = dark(range(10))
    reject(store, frame(store, 3), **WHO)
    dirty = store.get(dirty.id)
    assert (dirty.tier, dirty.status) == (Tier.TAINTED, "candidate")
    assert store.match(facts(), "dark").product == dirty
    (bad,) = store.rejected_ancestors(dirty)
    assert str(bad).startswith("D3.fits was rejected by Ana on ")
    with pytest.raises(
        StoreError, match=r"cannot be certified: it was made with D3.fits, and D3.fits was rejected"
    ):
        certify(store, dirty, author="Bo", reason="good")
    far = dark(range(4, 7), hours=24 * 80, parameters={"dark": {"low": 3.0}})
    assert store.match(facts(), "dark").product.id == far.id
    reasons = {c.product.id: c.reason for c in store.explain(facts(), "dark").candidates}
    assert reasons[dirty.id] == "made with something that was rejected; another was taken"


def test_the_clean_product_supersedes_it_until_the_frame_is_reinstated(store, dark, facts) -> None:
    dirty = dark(range(10))
    reject(store, frame(store, 3), **WHO)
    clean = dark([n for n in range(10) if n != 3])
    assert statuses(store, dirty, clean) == ["superseded", "candidate"]
    assert "D3.fits was rejected by Ana" in store.history(dirty)[-1].reason
    assert [one.id for one in store.superseded_by(clean)] == [dirty.id]
    back = reinstate(store, frame(store, 3), author="Ana", reason="a mistake")
    assert statuses(store, dirty, clean) == ["candidate", "superseded"]
    assert [one.id for one in counting_again(store, back)] == [dirty.id]
    reject(store, frame(store, 3), **WHO)
    assert statuses(store, dirty, clean) == ["superseded", "candidate"]


def test_a_certified_product_that_turns_out_bad_is_superseded_by_the_clean_one(store, dark, facts) -> None:
    dirty = certify(store, dark(range(10)), author="Ana", reason="good")
    reject(store, frame(store, 0), **WHO)
    other = dark([5, 6], hours=24 * 30)
    assert store.match(facts(), "dark").product.id == other.id
    clean = dark(range(1, 10))
    assert statuses(store, dirty, clean) == ["superseded", "candidate"]
    assert store.get(dirty.id).validity is None


def test_a_part_counts_again_when_the_complete_set_goes_bad(store, dark, facts) -> None:
    part, whole = dark([0, 1, 2]), dark(range(10))
    reject(store, frame(store, 9), **WHO)  # only of the complete one
    assert statuses(store, part, whole) == ["candidate", "candidate"]
    assert store.match(facts(), "dark").product.id == part.id
    reinstate(store, frame(store, 9), author="Ana", reason="")
    assert statuses(store, part, whole) == ["superseded", "candidate"]
    reject(store, whole, **WHO)
    assert statuses(store, part, whole) == ["candidate", "rejected"]
    reinstate(store, store.get(whole.id), author="Ana", reason="")
    assert statuses(store, part, whole)[0] == "superseded"


def test_a_product_whose_file_is_lost_supersedes_nothing(store, dark, facts) -> None:
    part, whole = dark([0, 1, 2]), dark(range(10))
    store.file_of(whole).unlink()
    assert store.match(facts(), "dark").product.id == part.id
    assert statuses(store, part) == ["candidate"]
    again = dark(range(10))
    assert again.id == whole.id
    assert statuses(store, part, whole) == ["superseded", "candidate"]


def test_decisions_of_users_are_kept(store, dark) -> None:
    part = certify(store, dark([0, 1, 2]), author="Ana", reason="good")
    whole = dark(range(10))
    assert statuses(store, part, whole) == ["certified", "candidate"]
    other = dark([3, 4])
    assert statuses(store, other) == ["superseded"]
    reinstate(store, store.get(other.id), author="Ana", reason="for the workshop")
    dark([3, 4, 5])
    assert statuses(store, other) == ["candidate"]
    supersede(store, store.get(whole.id), author="Ana", reason="I do not like it")
    dark([6, 7])
    assert statuses(store, whole) == ["superseded"]


def test_a_noisier_doubtful_or_provisional_product_supersedes_nothing(store, dark) -> None:
    part = dark([0, 1, 2], noise=4.0)
    noisy = dark(range(5), noise=4.5)
    reference = certify(store, dark([9], hours=24 * 85), author="Ana", reason="")
    gate = {"passed": False, "reasons": ["light"], "reference": {"id": str(reference.id), "name": "x"}}
    doubtful = dark(range(6), gate=gate)
    provisional = dark(range(7), provisional="made as of 2013-11-21")
    variant = dark(range(8), parameters={"dark": {"low": 1.5}})
    assert statuses(store, part, noisy, doubtful, provisional, variant) == ["candidate"] * 5
    assert statuses(store, dark(range(9))) == ["candidate"]
    assert statuses(store, part, noisy, doubtful, provisional, variant) == [*["superseded"] * 4, "candidate"]


def test_a_flat_whose_mask_was_rejected(store, add, raws, facts) -> None:
    lamps = [InputRef("lamp_on", sha256) for sha256 in raws[:5]]
    masks = [add("bpm", inputs=[InputRef("short_dark", raws[n])]) for n in (7, 8)]
    flats = []
    for mask in masks:
        inputs = [*lamps, InputRef("bpm", mask.id)]
        key = recipe_key("flat", [str(mask.id)], {}, "1")
        flats.append(add("flat", inputs=inputs, recipe_key=key, parameters={"flat": {"low": 3.0}}))
    assert statuses(store, *flats) == ["candidate"] * 2
    reject(store, masks[0], **WHO)
    assert statuses(store, *flats) == ["superseded", "candidate"]
    assert store.match(facts(), "flat").product.id == flats[1].id
    reinstate(store, store.get(masks[0].id), author="Ana", reason="")
    # The second one replaced the first.
    assert statuses(store, *flats) == ["candidate", "superseded"]


def test_a_comparison_counts_only_while_its_reference_is_certified(store, dark, facts) -> None:
    leaky = certify(store, dark([9], hours=24 * 20), author="Ana", reason="")
    gate = {"passed": False, "reasons": ["light"], "reference": {"id": str(leaky.id), "name": leaky.name}}
    good = dark([0, 1], gate=gate)
    assert (good.tier, good.doubtful) == (Tier.DOUBTFUL, True)
    for end in (
        lambda: reject(store, store.get(leaky.id), **WHO),
        lambda: supersede(store, store.get(leaky.id), **WHO),
        lambda: reinstate(store, store.get(leaky.id), **WHO),
        lambda: reject(store, frame(store, 9), **WHO),
    ):
        end()
        now = store.get(good.id)
        assert (now.tier, now.doubtful) == (Tier.SOUND, False)
        if store.frames.get("D9").rejected:
            reinstate(store, frame(store, 9), author="Ana", reason="")
        elif store.get(leaky.id).status == "rejected" or store.get(leaky.id).status == "superseded":
            reinstate(store, store.get(leaky.id), author="Ana", reason="")
        if store.get(leaky.id).status != "certified":
            certify(store, store.get(leaky.id), author="Ana", reason="")
        assert store.get(good.id).doubtful


def test_a_product_that_is_added_while_its_input_is_rejected(store, dark, raws) -> None:
    reject(store, frame(store, 2), **WHO)
    assert dark([1, 2, 3]).tier is Tier.TAINTED
    assert dark([1, 3]).tier is Tier.SOUND


def test_as_of_an_earlier_time_the_tier_is_that_of_the_time(store, dark, facts) -> None:
    dirty = dark([0, 1, 2], hours=1)
    dark([5, 6], hours=30)
    with store.database.begin() as connection:
        then = connection.scalar(text("SELECT clock_timestamp()"))
    reject(store, frame(store, 1), **WHO)
    assert store.match(facts(), "dark").product.id != dirty.id
    assert store.match(facts(), "dark", as_of=then).product.id == dirty.id


def test_variants(store, dark, facts) -> None:
    default = dark([0, 1, 2], parameters={"dark": {"low": 3.0, "high": 3.0}})
    experiment = dark([0, 1, 2], parameters={"dark": {"low": 3.0, "high": 1.5}})
    foreign = dark([4], hours=24, parameters={"adopted": True, "kind": "dark"})
    assert statuses(store, default, experiment) == ["candidate"] * 2
    run = {"dark": {"low": 3.0, "high": 3.0, "added_since": 1}}
    assert store.match(facts(), "dark", parameters=run).product.id == default.id
    reasons = {c.product.id: c.reason for c in store.match(facts(), "dark", parameters=run).candidates}
    assert reasons[experiment.id] == "made with other parameters: dark.high is 1.5, 3.0 in this run"
    own = store.match(facts(), "dark", parameters={"dark": {"low": 3.0, "high": 1.5}})
    assert own.product.id == experiment.id
    neither = store.match(facts(), "dark", parameters={"dark": {"low": 2.0, "high": 2.0}})
    assert neither.product.id == foreign.id


def test_the_variant_of_a_flat_is_that_of_its_mask_too(store, add, facts) -> None:
    masks = [add("bpm", parameters={"bpm": {"low": low}}) for low in (0.5, 0.9)]
    flats = [
        add("flat", inputs=[InputRef("bpm", mask.id)], parameters={"flat": {"low": 3.0}},
            recipe_key=recipe_key("flat", [str(mask.id)], {}, "1"))
        for mask in masks
    ]  # fmt: skip
    run = {"flat": {"low": 3.0}, "bpm": {"low": 0.5}}
    assert store.match(facts(), "flat", parameters=run).product.id == flats[0].id
    assert store.match(facts(), "flat", parameters=run | {"bpm": {"low": 0.9}}).product.id == flats[1].id


def test_less_noise_wins_among_equally_near_masters(store, dark, facts) -> None:
    noisy, good = dark([0], hours=1, noise=4.0), dark([1], hours=20, noise=2.5)
    found = store.match(facts(), "dark")
    assert found.product.id == good.id
    assert found.candidates[1].reason == "noise 4, the one taken 2.5 (equally near, within 24 hours)"
    assert store.match(facts(), "dark", without=[good.id]).product.id == noisy.id
    dark([2], hours=25, noise=1.0)
    assert store.match(facts(), "dark").product.id == good.id


def test_provisional_ones_come_last_and_for_the_run_that_made_them_first(store, add, facts) -> None:
    bare = add("flat", hours=1, provisional="made without a bpm")
    far = add("flat", hours=24 * 80)
    assert store.match(facts(), "flat").product.id == far.id
    assert store.match(facts(), "flat").candidates[1].reason == "made without a bpm; another was taken"
    assert store.match(facts(), "flat", prefer=[bare.id]).product.id == bare.id
    image = add("flat", hours=2, inputs=[InputRef("flat", bare.id)])
    assert image.provisional == f"made with {bare.name}, which is provisional: made without a bpm"
    assert store.confirm(bare).tier is Tier.SOUND
    assert store.match(facts(), "flat").product.id == bare.id


def test_a_mask_does_not_supersede_a_flat(store, add, raws) -> None:
    lamps = [InputRef("lamp_on", sha256) for sha256 in raws[:3]]
    mask = add("bpm", inputs=[*lamps, InputRef("short_dark", raws[3])])
    flat = add("flat", inputs=[*lamps, InputRef("bpm", mask.id)])
    reject(store, mask, **WHO)
    reinstate(store, store.get(mask.id), author="Ana", reason="a mistake")
    assert statuses(store, mask, flat) == ["candidate", "candidate"]
    reject(store, frame(store, 0), **WHO)
    reinstate(store, frame(store, 0), author="Ana", reason="a mistake")
    assert statuses(store, mask, flat) == ["candidate", "candidate"]


def test_a_frame_in_another_role_is_not_contained(store, add, raws) -> None:
    def image(science, sky=()):
        refs = [InputRef("science", raws[n]) for n in science] + [InputRef("sky", raws[n]) for n in sky]
        return add("image", inputs=refs, recipe_key=recipe_key("image", [*map(str, (science, sky))], {}, "1"))

    five, fewer = image(range(5)), image([0, 1, 2, 5], sky=[3, 4])
    assert statuses(store, five, fewer) == ["candidate", "candidate"]
    assert statuses(store, image(range(7)), five, fewer) == ["candidate", "superseded", "superseded"]


def test_a_stack_until_the_day_is_of_the_same_night_as_that_of_the_morning(store, add, raws, epoch) -> None:
    """Nights end at 17:00 UT for this telescope: an exposure that starts before belongs to the night that ends."""

    def image(numbers, ends):
        refs = [InputRef("science", raws[n]) for n in numbers]
        key = recipe_key("image", [str(numbers)], {}, "1")
        return add("image", inputs=refs, recipe_key=key, span=(epoch, epoch.replace(hour=0) + ends))

    morning = image(range(3), timedelta(hours=9))
    day = image(range(4), timedelta(hours=15))
    assert statuses(store, day, morning) == ["candidate", "superseded"]
    edge = image(range(5), timedelta(hours=17, minutes=1))
    assert statuses(store, edge, day) == ["candidate", "superseded"]
    next_night = image(range(6), timedelta(hours=17, minutes=3))
    assert statuses(store, next_night, edge) == ["candidate", "candidate"]


def test_the_stack_of_several_nights_does_not_supersede_that_of_a_night(store, add, raws, epoch) -> None:
    def image(numbers, days):
        refs = [InputRef("science", raws[n]) for n in numbers]
        key = recipe_key("image", [str(numbers)], {}, "1")
        return add("image", inputs=refs, recipe_key=key, span=(epoch, epoch + timedelta(days=days)))

    one, both = image(range(3), 0.1), image(range(6), 1)
    assert statuses(store, one, both) == ["candidate", "candidate"]
    assert statuses(store, image(range(4), 0.1), one) == ["candidate", "superseded"]


def test_a_replacement_with_its_own_frames_keeps_its_place(store, dark) -> None:
    """As many as the product that it replaced: neither contains the other."""
    dirty = dark(range(9))
    reject(store, frame(store, 8), **WHO)
    clean = dark([*range(8), 9])
    assert statuses(store, dirty, clean) == ["superseded", "candidate"]
    reinstate(store, frame(store, 8), author="Ana", reason="a mistake")
    assert statuses(store, dirty, clean) == ["candidate", "candidate"]


def test_a_replacement_keeps_its_place_if_the_other_is_doubtful(store, add, dark, raws) -> None:
    reference = certify(store, dark([9], hours=24 * 40), author="Ana", reason="")
    gate = {"passed": False, "reasons": ["light"], "reference": {"id": str(reference.id), "name": "x"}}
    lamps = [InputRef("lamp_on", sha256) for sha256 in raws[:5]]
    masks = [add("bpm", inputs=[InputRef("short_dark", raws[n])]) for n in (7, 8)]
    old, new = (
        add("flat", inputs=[*lamps, InputRef("bpm", mask.id)], recipe_key=recipe_key("flat", [str(mask.id)], {}, "1"),
            **({"gate": gate} if mask is masks[0] else {}))
        for mask in masks
    )  # fmt: skip
    reject(store, masks[0], **WHO)
    assert statuses(store, old, new) == ["superseded", "candidate"]
    reinstate(store, store.get(masks[0].id), author="Ana", reason="")
    assert statuses(store, old, new) == ["candidate", "candidate"]


def test_a_product_with_a_frame_in_quarantine_is_superseded_by_the_one_without_it(
    store, dark, record
) -> None:
    complete = dark(range(10))
    store.frames.ingest([record("D3.fits", facts=None, quarantine="it is truncated")])
    clean = dark([n for n in range(10) if n != 3])
    assert statuses(store, complete, clean) == ["superseded", "candidate"]
    assert "D3.fits is in quarantine: it is truncated; " in store.history(complete)[-1].reason
    store.frames.ingest([record("D3.fits")])
    assert statuses(store, complete, clean) == ["candidate", "superseded"]


def test_a_frame_that_was_left_out_as_unlike_the_others_need_not_be_in_the_complete_one(
    store, dark, raws, facts
) -> None:
    part = dark([3, 4, 5], hours=0)
    whole = dark(
        [n for n in range(10) if n != 4], hours=30, metrics={"noise": 2.7, "given_as": {raws[4]: "dark"}}
    )
    assert statuses(store, part, whole) == ["superseded", "candidate"]
    reason = store.history(part)[-1].reason
    assert reason.endswith(
        "is made of all its frames and 7 more, without 1 that it left out as unlike the others"
    )
    assert store.match(facts(), "dark").product.id == whole.id


def test_descendants_of_a_provisional_product_stay_provisional_until_it_is_confirmed(store, add) -> None:
    mask = add("bpm", provisional="made as of 2013-11-21")
    flat = add("flat", inputs=[InputRef("bpm", mask.id)])
    assert store.confirm(flat).tier is Tier.PROVISIONAL
    store.confirm(mask)
    assert store.confirm(flat).tier is Tier.SOUND


PARTS = st.lists(st.integers(0, 5), min_size=1, max_size=6, unique=True).map(lambda n: tuple(sorted(n)))
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), PARTS), st.tuples(st.just("reject"), st.integers(0, 5)),
        st.tuples(st.just("reinstate"), st.integers(0, 5)),
    ),
    min_size=1, max_size=8,
)  # fmt: skip


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(actions=ACTIONS)
def test_what_counts_does_not_depend_on_the_order_of_events(store, add, record, actions) -> None:
    """Also: a product is superseded only by one without objections, with at least as many usable frames."""
    example = uuid.uuid4().hex[:8]
    raws = [record(f"{example}{n}.fits") for n in range(6)]
    store.frames.ingest(raws)

    def raw(number):
        return store.frames.get(f"{example}{number}")

    made = {}
    for what, value in actions:
        if what == "add":
            inputs = [InputRef("dark", raws[n].sha256) for n in value]
            key = recipe_key("dark", [ref.source for ref in inputs], {}, "1")
            made[value] = add(inputs=inputs, recipe_key=key)
        elif what == "reject":
            reject(store, raw(value), **WHO)
        elif raw(value).rejected is not None:
            reinstate(store, raw(value), author="Ana", reason="")
    bad = {n for n in range(6) if raw(n).rejected is not None}
    for numbers, product in made.items():
        now = store.get(product.id)
        assert (now.tier is Tier.TAINTED) == bool(bad & set(numbers))
        usable = set(numbers) - bad
        better = [
            other for other in made
            if not bad & set(other) and (usable <= set(other) if now.tier is Tier.TAINTED and usable
                                         else now.tier is not Tier.TAINTED and set(numbers) < set(other))
        ]  # fmt: skip
        assert now.counts == (not better), (numbers, bad, list(made))
    for one, other in itertools.permutations(made, 2):
        if set(one) < set(other) and not bad & set(other):
            assert not store.get(made[one].id).counts
