from __future__ import annotations

import contextlib
import operator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from imaging.frames.facts import facts_from_headers
from imaging.instruments import catalogue
from nirflow.expressions.frame_names import aliases, frame_lookup, frame_names, frame_tags
from nirflow.expressions.language import Expression, ExpressionError, Name, ValueKind

TERMS = {
    "n": Name(ValueKind.NUMBER, "a number"),
    "m": Name(ValueKind.NUMBER, "another"),
    "s": Name(ValueKind.TEXT, "a text"),
    "c": Name(ValueKind.TEXT, "a choice", ("dark", "flat")),
    "b": Name(ValueKind.FLAG, "a flag"),
    "t": Name(ValueKind.MOMENT, "a time"),
    "d": Name(ValueKind.DAY, "a day"),
    "tags": Name(ValueKind.TEXTS, "tags"),
}
VALUES: dict[str, Any] = {
    "n": 5, "m": -2.5, "s": "WISE J0413", "c": "dark", "b": True, "tags": frozenset({"DARK", "RAW"}),
    "t": datetime(2013, 11, 21, 2, 52, 48, tzinfo=UTC), "d": date(2013, 11, 21),
}  # fmt: skip


def holds(text: str, **changed: Any) -> bool:
    return Expression.parse(text, TERMS).evaluate(VALUES | changed)


@pytest.mark.parametrize(
    "text",
    [
        "n == 5", "n != 4", "4 < n <= 5", "m == -2.5", "m < +1e2 and n > .5", "b", "not not b", "not n == 4",
        "n == 4 or n == 5 and b", "(n == 5 or n == 4) and not (m > 0)", "s == 'WISE J0413'", 's != "x"',
        "'WISE' in s", "'x' not in s", "c in ['dark', 'flat']", "c in ('dark', 'flat',)", "n in [1, m, 5]",
        "n not in []", "'DARK' in tags and 'FLAT' not in tags", "b == true", "b != FALSE", "n == 5.0",
        "t > '2013-11-20'", "t <= '2013-11-21'", "t == '2013-11-21'", "t >= '2013-11-21T02:52:48'",
        "t < '2013-11-21T02:52:49+00:00'", "t == d", "d == '2013-11-21'", "d in ['2013-11-21']",
        "'2013-11-20' < t < '2013-11-22'", "(n == 5) == (m < 0)", "s == none or true", "s == 'it\\'s' or b",
    ],
)  # fmt: skip
def test_evaluates_to_true(text: str) -> None:
    assert holds(text)
    assert not holds(f"not ({text})")


@pytest.mark.parametrize(
    "text", ["n == none", "n < 3", "n >= 3", "n in [3, 5]", "s in ['x']", "'x' in s", "b"]
)
def test_an_unknown_value_is_neither_above_nor_below_nor_in_anything(text: str) -> None:
    assert holds(text, n=None, s=None, b=None) is (text == "n == none")


def test_a_none_in_a_list_is_found() -> None:
    assert holds("n in [3, none]", n=None)
    assert not holds("n in [3, none]")


@pytest.mark.parametrize(
    ("text", "column", "expected"),
    [
        ("exptime == 3", 0, "unknown name 'exptime'"),
        ("n == Y", 5, "unknown name 'Y'"),
        ("tag == 3", 0, "Did you mean tags"),
        ("n = 5", 2, "Write == to compare"),
        ("n == 5 & b", 7, "Write and"),
        ("n == 'five'", 2, "n (a number) cannot be compared with a text"),
        ("b < true", 2, "no order"),
        ("n < none", 2, "no order"),
        ("n", 0, "n is a number, not true or false"),
        ("b and s", 6, "s is a text"),
        ("s == 'x", 5, "without its closing quote"),
        ("(n == 5", 7, "closing ) is missing"),
        ("n == 5)", 6, "unexpected ')'"),
        ("n ==", 4, "the expression ends"),
        ("n == 5 m", 7, "unexpected 'm'"),
        ("", 0, "empty"),
        ("n in 5", 5, "nothing can be in a number"),
        ("n in s", 0, "only a text"),
        ("n in [5, 'x']", 2, "cannot be compared"),
        ("n in [[5]]", 6, "a list cannot hold a list"),
        ("n == [5]", 5, "cannot be compared with =="),
        ("tags == 'DARK'", 0, "'DARK' in tags"),
        ("c == 'Dark'", 5, "Did you mean 'dark'"),
        ("t > 'soon'", 4, "neither a day nor a time"),
        ("d > '2013-11-21T02:00'", 4, "without a clock time"),
        ("t == '2013-13-01'", 5, "neither a day nor a time"),
        ("n == 1e999", 5, "too large"),
        ("n == " + "9" * 999, 5, "too large"),
        ("-n == 5", 0, "a sign is allowed only before a number"),
        ("s.upper() == 'X'", 1, "no attributes"),
        ("s.__class__", 1, "no attributes"),
        ("tags[0] == 'x'", 4, "unexpected '['"),
        ("__import__('os').system('x')", 16, "no attributes"),
        ("__import__('os')", 0, "unknown name '__import__'"),
        ("(" * 41 + "b" + ")" * 41, 40, "nested more than 40"),
        ("not " * 9999 + "b", 4000, "longer than 4000"),
    ],
)
def test_errors_mark_the_position_and_name_the_remedy(text: str, column: int, expected: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        Expression.parse(text, TERMS)
    assert caught.value.column == column
    assert expected in str(caught.value)


def test_a_wrong_name_lists_every_right_one_and_the_caret_stands_under_it() -> None:
    with pytest.raises(ExpressionError) as caught:
        Expression.parse("n == 5 and exposure > 3", TERMS)
    shown, caret = caught.value.details.splitlines()
    assert shown[caret.index("^") :].startswith("exposure > 3")
    assert all(name in caught.value.remedy for name in TERMS)


def test_the_caret_is_correct_in_a_long_expression() -> None:
    text = " or ".join(["n == 5"] * 100) + " or zzz"
    with pytest.raises(ExpressionError) as caught:
        Expression.parse(text, TERMS)
    shown, caret = caught.value.details.splitlines()
    assert shown[caret.index("^") :] == "zzz"


def test_a_value_of_another_kind_than_promised_is_refused() -> None:
    with pytest.raises(ExpressionError, match="n should be a number and is 'five'"):
        holds("n == 5", n="five")
    with pytest.raises(ExpressionError, match="n should be a number and is True"):
        holds("n == 5", n=True)
    with pytest.raises(ExpressionError, match="no value is known for n"):
        Expression.parse("n == 5", TERMS).evaluate({})


def test_names_lists_the_values_that_a_lookup_needs() -> None:
    assert Expression.parse("n in [m, 3] and not (b or 'x' in s)", TERMS).names == {"n", "m", "b", "s"}


_PIECES = (
    r"""n m s b t d tags ( ) [ ] , < <= == != = in not and or - . 1 2.5 'x' " true none ' \\ () __class__"""
)
_soup = st.lists(st.sampled_from(_PIECES.split())).map(" ".join)


@settings(max_examples=400)
@given(st.one_of(st.text(), _soup))
def test_any_text_is_an_expression_or_an_expression_error(text: str) -> None:
    with contextlib.suppress(ExpressionError):
        expression = Expression.parse(text, TERMS)
        assert expression.evaluate(VALUES) in (True, False)
        assert expression.names <= set(TERMS)


_OPERATORS = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_numbers = st.one_of(
    st.integers(-6, 6).map(lambda i: (str(i), i)),
    st.floats(-9, 9, allow_nan=False).map(lambda f: (repr(f), f)),
    st.sampled_from([("n", VALUES["n"]), ("m", VALUES["m"])]),
)
_texts = st.one_of(
    st.text("abWISE J'\\\"é", max_size=4).map(
        lambda s: ("'" + s.replace("\\", "\\\\").replace("'", "\\'") + "'", s)
    ),
    st.just(("s", VALUES["s"])),
)


@st.composite
def _comparisons(draw: st.DrawFn) -> tuple[str, bool]:
    operands = draw(
        st.one_of(st.lists(_numbers, min_size=2, max_size=4), st.lists(_texts, min_size=2, max_size=4))
    )
    if draw(st.booleans()):
        (text, value), *items = operands
        term = draw(st.sampled_from(["in", "not in"]))
        listing = f"[{', '.join(t for t, _ in items)}]"
        return f"{text} {term} {listing}", (value in [v for _, v in items]) is (term == "in")
    symbols = draw(
        st.lists(st.sampled_from(sorted(_OPERATORS)), min_size=len(operands) - 1, max_size=len(operands) - 1)
    )
    text = operands[0][0] + "".join(f" {o} {t}" for o, (t, _) in zip(symbols, operands[1:], strict=True))
    truth = all(
        _OPERATORS[o](a, b) for o, (_, a), (_, b) in zip(symbols, operands, operands[1:], strict=False)
    )
    return text, truth


def _joined(parts: st.SearchStrategy[tuple[str, bool]]) -> st.SearchStrategy[tuple[str, bool]]:
    pairs = st.tuples(parts, parts)
    return st.one_of(
        parts.map(lambda p: (f"not ({p[0]})", not p[1])),
        pairs.map(lambda p: (f"({p[0][0]}) and ({p[1][0]})", p[0][1] and p[1][1])),
        pairs.map(lambda p: (f"({p[0][0]} or {p[1][0]})", p[0][1] or p[1][1])),
    )


@settings(max_examples=300)
@given(st.recursive(_comparisons(), _joined, max_leaves=8))
def test_agrees_with_python_on_valid_expressions(case: tuple[str, bool]) -> None:
    text, truth = case
    assume(len(text) < 4000)
    assert holds(text) is truth


_three_flags = st.lists(st.booleans(), min_size=3, max_size=3)
_two_words = st.lists(st.sampled_from(["and", "or"]), min_size=2, max_size=2)


@settings(max_examples=150)
@given(_three_flags, _two_words, _three_flags)
def test_and_binds_before_or_and_not_before_both(
    flags: list[bool], expected: list[str], turned: list[bool]
) -> None:
    text = " ".join(
        f"{'not ' if turn else ''}{str(flag).lower()} {term}"
        for flag, turn, term in zip(flags, turned, [*expected, ""], strict=True)
    )
    a, b, c = (flag is not turn for flag, turn in zip(flags, turned, strict=True))
    truths = {
        ("and", "and"): a and b and c, ("or", "or"): a or b or c,
        ("and", "or"): (a and b) or c, ("or", "and"): a or (b and c),
    }  # fmt: skip
    assert holds(text) is truths[expected[0], expected[1]]


@given(
    st.datetimes(datetime(2000, 1, 1), datetime(2040, 1, 1)),
    st.timedeltas(timedelta(days=-3), timedelta(days=3)),
)
def test_a_day_compared_with_a_time_means_the_full_day(moment: datetime, step: timedelta) -> None:
    day = (moment + step).date()
    for symbol, compare in _OPERATORS.items():
        assert holds(f"t {symbol} '{day}'", t=moment.replace(tzinfo=UTC)) is compare(moment.date(), day)


FACTS = facts_from_headers(
    {
        "INSTRUME": "F2", "OBJECT": "FIELD", "OBSTYPE": "OBJECT", "OBSCLASS": "science", "EXPTIME": 120.0,
        "COADDS": 2, "LNRS": 8, "FILTER1": "Open", "FILTER2": "K-red_G0814", "DATE-OBS": "2013-11-21",
        "UTSTART": "18:00:00", "GEMPRGID": "GS-2013B-Q-15",
    },
    name="S20131121S0075.fits.bz2",
)  # fmt: skip


def test_every_documented_name_has_a_value_of_its_kind() -> None:
    lookup = frame_lookup(FACTS)
    for name, reported in frame_names().items():
        assert reported.meaning
        probe = Expression.parse(
            f"{name} == none" if reported.kind != ValueKind.TEXTS else f"'RAW' in {name}", frame_names()
        )
        assert isinstance(probe.evaluate(lookup), bool)


@pytest.mark.parametrize("alias", aliases())
def test_an_alias_is_equivalent(alias: str) -> None:
    lookup = frame_lookup(FACTS)
    assert lookup(alias) == lookup(aliases()[alias])


def test_facts_of_a_frame() -> None:
    text = (
        "exposure_time == 120 and exposure == 240 and filter_name == 'K-red' and 'IMAGE' in tags"
        " and night == '2013-11-22' and started == '2013-11-21' and unfit == none and airmass == none"
    )
    assert Expression.parse(text, frame_names()).evaluate(frame_lookup(FACTS))


def test_only_names_are_looked_up_never_attributes_of_the_facts() -> None:
    with pytest.raises(KeyError):
        frame_lookup(FACTS)("model_fields")
    with pytest.raises(ExpressionError, match="unknown name"):
        Expression.parse("model_config == none", frame_names())


def test_the_known_tags_are_all_the_tags_that_frames_can_have() -> None:
    seen: set[str] = set()
    for kind in ("dark", "flat", "object", "arc", "bpm"):
        for lamp in ("on", "off", None):
            for observed in ("acq", "partnerCal", "science"):
                for disperser in ("Open", "JH"):
                    for processed in (True, False):
                        changed = {"kind": kind, "lamp": lamp, "observation_class": observed}
                        changed |= {"disperser": disperser, "processed": processed}
                        seen |= FACTS.model_copy(update=changed).tags
    assert seen | {tag for one in catalogue.instruments() for tag in one.tags} == frame_tags()
    assert set(catalogue.named(FACTS.instrument).tags) <= seen
