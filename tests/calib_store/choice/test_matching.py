from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from calib_store.choice.matching import SERVING_LIMIT, Wanted, judge
from calib_store.files.local_objects import LocalObjects
from calib_store.rules.order import rank
from calib_store.rules.rules_toml import shipped_rules
from calib_store.store import Store
from calib_store.tables.database import Database
from imaging.errors import StoreError

DAY = timedelta(days=1)
RULES = shipped_rules()


def _certify(store, product, start=None, end=None):
    return store.set_status(product, "certified", author="me", reason="", validity=(start, end))


def test_nothing_serves_in_an_empty_store(store, facts) -> None:
    match = store.match(facts(), "dark")
    assert (match.product, match.candidates, match.rules_version) == (None, (), RULES.version)
    with pytest.raises(StoreError, match="no product kind"):
        store.match(facts(), "bias")
    with pytest.raises(StoreError, match="no product kind"):
        store.explain(facts(), "bias")
    assert store.match(facts(), "image").product is None


def test_nearest_then_earlier_then_newest(store, add, facts) -> None:
    late, early, far = add(hours=3), add(hours=-3), add(hours=-4)
    newest = add(hours=-3)
    found = store.match(facts(), "dark")
    assert [c.product for c in found.candidates] == [newest, early, late, far]
    assert [c.reason for c in found.candidates] == [
        "taken: 3.0 hours before",
        "as near in time but made earlier",
        "as near in time but later",
        "4.0 hours before; the one taken 3.0 hours before",
    ]


def test_certified_before_own_night_before_nearest(store, add, facts, epoch) -> None:
    near, own, certified = add(hours=1), add(hours=20), add(hours=200)
    assert store.match(facts(), "dark").product == near
    preferred = store.match(facts(), "dark", prefer=[own.id])
    assert preferred.product == own
    assert preferred.candidates[1].reason == "not of this night's own frames; one of them was taken"
    certified = _certify(store, certified, epoch - DAY, epoch + DAY)
    found = store.match(facts(), "dark", prefer=[own.id])
    assert found.product == certified
    assert found.candidates[1].reason == "a candidate; a certified one was taken"
    # Outside its validity a certified product does not serve, however near it is.
    later = facts(started=certified.middle)
    assert store.match(later, "dark").product != certified


def test_rejected_and_superseded_do_not_serve(store, add, facts) -> None:
    one, two = add(), add()
    store.set_status(one, "rejected", author="me", reason="glow")
    store.set_status(two, "superseded", author="me", reason="newer")
    assert store.match(facts(), "dark").product is None
    reasons = {c.product.id: c.reason for c in store.explain(facts(), "dark").candidates}
    assert reasons == {one.id: "status rejected", two.id: "status superseded"}


def test_window_of_ninety_days_either_side(store, add, facts) -> None:
    inside, outside = add("flat", hours=90 * 24), add("flat", hours=90 * 24 + 0.01)
    found = store.explain(facts(), "flat")
    assert found.product == inside
    assert found.candidates[1].product == outside
    assert found.candidates[1].reason == "90.0 days after the frame, at most 90"


def test_published_masks_serve_from_their_date_and_made_ones_on_either_side(store, add, facts) -> None:
    static = add("bpm", hours=-24 * 400, published=True)
    future = add("bpm", hours=24 * 10, published=True)
    assert store.match(facts(), "bpm").product == static
    made = add("bpm", hours=24 * 80)
    assert store.match(facts(), "bpm").product == made
    assert store.match(facts(started=facts().started + 30 * 365 * DAY), "bpm").product == future
    reasons = {c.product.id: c.reason for c in store.explain(facts(), "bpm").candidates}
    assert reasons[future.id].startswith("serves frames from 2013-12-01")
    # Two rules, two configurations: certifying one does not affect the other.
    _certify(store, static)
    assert _certify(store, made).status == "certified"


def test_explain_shows_both_values_of_the_first_difference(store, add, facts) -> None:
    good, wrong = add(), add(facts=facts(exposure_time=60.0, read_pairs=4))
    found = store.explain(facts(), "dark")
    assert found.product == good
    assert [(c.product, c.serves, c.taken) for c in found.candidates] == [
        (good, True, True),
        (wrong, False, False),
    ]
    assert found.candidates[1].reason == "exposure 60 s, frame 120 s"


def test_one_that_failed_the_comparison_comes_after_the_others(store, add, facts) -> None:
    near = add(gate={"passed": False, "reasons": ["light"]})
    far = add(hours=100, gate={"passed": True})
    unknown = add(hours=200, gate={"passed": None})
    found = store.match(facts(), "dark")
    assert [c.product for c in found.candidates] == [far, unknown, near]
    assert found.candidates[2].reason == "doubtful; another was taken"
    # Also before those of the run's own night, as long as anything else serves.
    assert store.match(facts(), "dark", prefer=[near.id]).product == far
    certified = _certify(store, near)
    assert store.match(facts(), "dark").product == certified


def test_exposure_times_a_few_milliseconds_apart_serve_each_other(store, add, facts) -> None:
    one = add(facts=facts(exposure_time=5.1))
    other = add(hours=1, facts=facts(exposure_time=5.104))
    # Within the tolerance they share a configuration, so only one of them can be certified for a time.
    assert other.keys == one.keys
    frame = facts(exposure_time=5.104)
    assert {c.product.id for c in store.match(frame, "dark").candidates} == {one.id, other.id}
    assert store.match(facts(exposure_time=5.1155), "dark").product is None
    _certify(store, one)
    with pytest.raises(StoreError, match="of the same configuration"):
        _certify(store, other)


def test_explain_lists_the_nearest_first_up_to_the_limit(store, add, facts) -> None:
    for hours in range(8):
        add(hours=hours + 1, facts=facts(exposure_time=60.0))
        add(hours=-hours - 1, facts=facts(exposure_time=60.0))
    mine = add(hours=24 * 200)
    taken = add(hours=24 * 20)
    found = store.explain(facts(), "dark", limit=3)
    assert [c.product for c in found.candidates[:2]] == [taken, mine]
    assert found.candidates[1].reason == "200.0 days after the frame, at most 90"
    rest = [c.product for c in found.candidates[2:]]
    assert len(rest) == 6
    gaps = [abs(p.middle - facts().middle) for p in rest]
    assert gaps == sorted(gaps)
    assert max(gaps) < timedelta(hours=4)
    assert len(store.explain(facts(), "dark", limit=100).candidates) == 18


def moment(store):
    """The database's clock, apart from every change before and after."""
    time.sleep(0.002)
    with store.database.begin() as connection:
        now = connection.scalar(text("SELECT clock_timestamp()"))
    time.sleep(0.002)
    return now


def test_as_of_repeats_the_choice_of_that_time(store, add, facts) -> None:
    def now():
        return moment(store)

    before = now()
    far = add(hours=10)
    first = now()
    near = add(hours=1)
    second = now()
    _certify(store, far)
    third = now()
    store.set_status(far, "rejected", author="me", reason="glow")
    chosen = [store.match(facts(), "dark", as_of=t).product for t in (before, first, second, third)]
    assert [p and p.id for p in chosen] == [None, far.id, near.id, far.id]
    assert store.match(facts(), "dark").product == near
    assert store.match(facts(), "dark", as_of=third).as_of == third


def test_as_of_an_earlier_time_a_damaged_product_is_reported(store, add, facts) -> None:
    near, far = add(hours=1), add(hours=60)
    then = moment(store)
    store.file_of(near).unlink()
    assert store.match(facts(), "dark").product.id == far.id
    found = store.match(facts(), "dark", as_of=then)
    assert found.product.id == far.id
    first = found.candidates[0]
    assert (first.product.id, first.reason) == (near.id, "its file is missing or damaged")


@pytest.fixture(scope="module")
def population(postgres_address, tmp_path_factory, facts):
    """A database with 300 products written straight into the tables, in tight ties; read only."""
    url = postgres_address.url("population").render_as_string(hide_password=False)
    with postgres_address.administer() as connection:
        connection.execute("CREATE DATABASE population TEMPLATE nirflow_template OWNER nirflow")
    database = Database(url)
    digests = []
    with database.begin() as connection:
        for exposure in (60.0, 120.0):
            chosen = RULES.configuration("dark", facts(exposure_time=exposure))
            digests.append(chosen.digest)
            connection.execute(
                text(
                    "INSERT INTO configurations (digest, rule, kind, keys, facts)"
                    " VALUES (:d, 'dark', 'dark', CAST(:k AS jsonb), :f)"
                ),
                {"d": chosen.digest, "k": json.dumps(dict(chosen.keys)), "f": sorted(chosen.keys)},
            )
        connection.execute(
            text("INSERT INTO variants (kind, parameters) VALUES ('dark', '{}'), ('dark', :experiment)"),
            {"experiment": json.dumps({"dark": {"low": 1.5}})},
        )
        # Times on a coarse grid, so that distances, sides and dates of making tie often.
        connection.execute(
            text("""
                INSERT INTO products (id, recipe_key, kind, name, sha256, size, configuration_id, status,
                    validity, span_start, span_end, middle, facts, metrics, parameters, algorithm_version,
                    software_version, made_at, damaged, gate, doubtful, provisional, tier, variant_id)
                SELECT md5(n::text)::uuid, encode(sha256(n::text::bytea), 'hex'), 'dark', 'n' || n,
                    encode(sha256(n::text::bytea), 'hex'), 1,
                    CASE WHEN n <= 4 THEN 1 + n % 2 ELSE 1 + (n * 7) % 2 END,
                    CASE WHEN n <= 4 THEN 'certified' WHEN n % 11 = 0 THEN 'rejected' ELSE 'candidate' END,
                    CASE WHEN n <= 4 THEN tstzrange(:epoch + (n - 3) * interval '20 days',
                        :epoch + (n - 1) * interval '20 days' ) END,
                    m, m, m, '{}',
                    CASE WHEN n % 3 > 0 THEN jsonb_build_object('noise', 2 + n % 3) ELSE '{}' END, '{}', '1', '1',
                    timestamptz '2020-01-01' + (n % 5) * interval '1 day', n % 13 = 0,
                    CASE WHEN n % 4 = 0 THEN jsonb_build_object('passed', n % 8 = 0) END, n % 8 = 4,
                    CASE WHEN n % 7 = 0 THEN 'made without a bpm' END,
                    CASE WHEN n % 17 = 0 THEN 3 WHEN n % 7 = 0 THEN 2 WHEN n % 8 = 4 THEN 1 ELSE 0 END, 1 + n % 5 / 3
                FROM (SELECT n, :epoch + ((n * 37) % 241 - 120) * interval '10 hours' AS m
                      FROM generate_series(1, 300) n) numbered
            """),
            {"epoch": facts().middle},
        )
        connection.execute(
            text("""
                INSERT INTO serves SELECT id, configuration_id, middle, tier, variant_id,
                    CAST(metrics ->> 'noise' AS float8) FROM products
            """)
        )
        connection.execute(
            text("""
                INSERT INTO status_history (product_id, status, validity, author, reason, changed_at)
                SELECT id, 'candidate', NULL, 'me', 'made', made_at FROM products
                UNION ALL SELECT id, status, validity, 'me', '', made_at + interval '1 hour' FROM products
                    WHERE status <> 'candidate'
            """)
        )
    store = Store(database, LocalObjects(tmp_path_factory.mktemp("population")))
    store._is_intact = lambda product: True  # type: ignore[method-assign]  # there are no files here
    yield store
    store.close()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_the_query_and_the_explanation_agree_and_the_order_is_total(population, facts, data) -> None:
    day = data.draw(st.integers(-140, 140))
    half = data.draw(st.sampled_from([0, 0, 12, 10, 5]))
    exposure = data.draw(st.sampled_from([60.0, 120.0, 30.0]))
    everything = population.products("dark")
    prefer = data.draw(st.lists(st.sampled_from([p.id for p in everything]), max_size=4))
    limit = data.draw(st.sampled_from([5, 50, 400]))
    shift = timedelta(seconds=(120.0 - exposure) / 2)  # keep the middle on the grid
    frame = facts(exposure_time=exposure, started=facts().started + day * DAY + timedelta(hours=half) + shift)

    experiment = data.draw(st.booleans())
    parameters = {"dark": {"low": 1.5 if experiment else 3.0}}
    variants = [1, 2] if experiment else [1]
    without = data.draw(st.lists(st.sampled_from([p.id for p in everything]), max_size=30))

    wanted = Wanted(frame, "dark", RULES, None, prefer, without, variants, parameters)
    expected = [p for p in everything if judge(p, wanted) is None]
    expected.sort(key=lambda p: rank(p, wanted.asked))
    match = population.match(frame, "dark", prefer=prefer, parameters=parameters)
    found = [c.product.id for c in match.candidates]
    assert found[:1] == [p.id for p in expected[:1]]
    assert found == [p.id for p in expected if p.id in found]
    assert len(found) == min(SERVING_LIMIT, len(expected))
    assert (match.product.id if match.product else None) == (expected[0].id if expected else None)
    ranks = [rank(p, wanted.asked) for p in everything]
    assert len(set(ranks)) == len(ranks)
    again = population.match(frame, "dark", prefer=list(reversed(prefer)), parameters=parameters)
    assert again.product == match.product
    then = population.match(
        frame, "dark", as_of=datetime(2030, 1, 1, tzinfo=UTC), prefer=prefer, parameters=parameters
    )
    damaged = {p.id for p in everything if p.damaged}
    assert [c.product for c in then.candidates if c.product.id not in damaged][:1] == [
        c.product for c in match.candidates
    ][:1] or then.candidates[0].product.id in damaged
    other = population.match(frame, "dark", prefer=prefer, parameters=parameters, without=without).product
    assert (other.id if other else None) == next((p.id for p in expected if p.id not in without), None)

    explained = population.explain(frame, "dark", prefer=prefer, limit=limit, parameters=parameters)
    by_id = {c.product.id: c for c in explained.candidates}
    assert len(by_id) == len(explained.candidates)
    assert explained.product == match.product
    assert limit < len(everything) or len(by_id) == len(everything)
    for product in everything:
        if product.id in by_id:
            assert by_id[product.id].serves == (judge(product, wanted) is None)
            assert by_id[product.id].reason
