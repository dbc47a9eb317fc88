"""The lattice of supports: every rule holds for values drawn from the ranges that it is given."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from guidedsl.library import supports as s
from guidedsl.library.functions import FUNCTIONS
from guidedsl.library.supports import KINDS, Range, Support
from guidedsl.pipeline import check
from guidedsl.sizes import Size
from guidedsl.source import Source

# Halves, quarters and whole numbers: sums and products of these are exact.
_ENDS = (-s.INF, -4.0, -2.0, -1.5, -1.0, -0.25, 0.0, 0.25, 1.0, 1.5, 2.0, 4.0, s.INF)


@st.composite
def ranges(draw: st.DrawFn) -> Range:
    low, high = sorted((draw(st.sampled_from(_ENDS)), draw(st.sampled_from(_ENDS))))
    integer = draw(st.booleans()) and all(math.isinf(end) or end.is_integer() for end in (low, high))
    closed = [(integer or draw(st.booleans())) and not math.isinf(end) for end in (low, high)]
    result = Range(low, high, closed[0], closed[1], integer)
    assume(not result.empty and low < s.INF and high > -s.INF)
    return result


@st.composite
def values(draw: st.DrawFn, range: Range) -> float:
    """A value of a range, often at its ends."""
    low, high = max(range.low, -64.0), min(range.high, 64.0)
    steps = draw(st.one_of(st.sampled_from((0, 1, 63, 64)), st.integers(0, 64)))
    value = low + (high - low) * steps / 64
    if range.integer:
        value = float(math.floor(value))
    assume(s.point(value).within(range))
    return value


@st.composite
def ranges_with_values(draw: st.DrawFn) -> tuple[Range, float]:
    range = draw(ranges())
    return range, draw(values(range))


def _holds(result: Range, value: float) -> bool:
    # The integer flag says that only whole numbers occur; a value that happens to be whole is in any range.
    return s.point(value).within(result)


Drawn = tuple[Range, float]


@given(ranges_with_values(), ranges_with_values())
def test_sums_differences_and_products_hold_their_values(a: Drawn, b: Drawn) -> None:
    assert _holds(s.add(a[0], b[0]), a[1] + b[1])
    assert _holds(s.add(a[0], s.negate(b[0])), a[1] - b[1])
    assert _holds(s.multiply(a[0], b[0]), a[1] * b[1])


@given(ranges_with_values(), ranges_with_values())
def test_quotients_hold_their_values(a: Drawn, b: Drawn) -> None:
    assume(b[1] != 0)
    assert _holds(s.reciprocal(b[0]), 1 / b[1])
    exact = math.frexp(b[1])[0] in (0.5, -0.5)
    if exact:
        assert _holds(s.real_valued(s.multiply(a[0], s.reciprocal(b[0]))), a[1] / b[1])


@given(ranges_with_values(), st.sampled_from((-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0, 4.0)))
def test_powers_hold_their_values(a: Drawn, exponent: float) -> None:
    assume(not (a[1] == 0 and exponent < 0))
    value = a[1] ** exponent
    assume(isinstance(value, float))
    assert _holds(s.power(a[0], exponent), value)
    if a[1] > 0:
        assert _holds(s.power(a[0], None), value)


@given(ranges_with_values(), ranges_with_values())
def test_union_holds_both_and_within_is_its_order(a: Drawn, b: Drawn) -> None:
    both = s.union(a[0], b[0])
    assert a[0].within(both)
    assert b[0].within(both)
    assert _holds(both, a[1])
    if a[0].within(b[0]):
        assert _holds(b[0], a[1])
        assert a[0].within(b[0], almost=True)


@given(ranges(), ranges(), ranges())
def test_within_is_transitive(a: Range, b: Range, c: Range) -> None:
    assert a.within(a)
    if a.within(b) and b.within(c):
        assert a.within(c)


def _numeric() -> list[str]:
    return [row.name for row in FUNCTIONS.values() if row.number is not None]


@pytest.mark.parametrize("name", _numeric())
@settings(max_examples=50)
@given(data=st.data())
def test_functions_hold_their_values(name: str, data: st.DataObject) -> None:
    row = FUNCTIONS[name]
    drawn = [data.draw(ranges_with_values()) for _ in row.parameters]
    if not drawn[0][0].within(row.domain):
        drawn[0] = row.domain, data.draw(values(row.domain))
    assert row.number is not None
    try:
        value = row.number(*(value for _, value in drawn))
    except (ValueError, OverflowError, ZeroDivisionError):
        assume(False)
    if math.isfinite(value) and abs(value) != 1:  # tanh and its like reach 1 only by rounding
        assert _holds(row.range(*(range for range, _ in drawn)), float(value))


@given(st.lists(ranges_with_values(), min_size=1, max_size=4))
def test_reductions_hold_their_values(drawn: list[Drawn]) -> None:
    range = drawn[0][0]
    given = [value for other, value in drawn if s.point(value).within(range)]
    assume(given)
    reductions: dict[str, Callable[[list[float]], float]] = {"sum": sum, "min": min, "max": max, "prod": math.prod}
    for name, reduce in reductions.items():
        assert _holds(FUNCTIONS[name].range(range), float(reduce(given))), name


@pytest.mark.parametrize("operation", [s.add, s.multiply, s.union])
def test_extremes_do_not_overflow(operation: Callable[[Range, Range], Range]) -> None:
    huge = Range(-1e300, 1e300)
    for other in (huge, s.REAL, s.POSITIVE, s.point(0)):
        assert not math.isnan(operation(huge, other).low)
    assert s.power(huge, 2).high == s.INF
    assert s.power(Range(1e300, s.INF), 4.0).low == s.INF
    assert FUNCTIONS["exp"].range(huge).high == s.INF
    assert FUNCTIONS["exp"].range(Range(800, 900)).low < s.INF


@pytest.mark.parametrize(
    ("range", "shown"),
    [
        (s.REAL, "real"),
        (s.POSITIVE, "positive"),
        (s.NONNEGATIVE, "nonnegative"),
        (s.UNIT, "unit"),
        (s.BOOL, "bool"),
        (s.COUNT, "count"),
        (s.INTEGER, "int"),
        (Range(0, 2), "interval(0, 2)"),
        (Range(-1), "greater_than(-1)"),
        (Range(high=3), "less_than(3)"),
        (Range(0, 3, True, True, True), "int(0, 3)"),
        (Range(-math.pi, math.pi), "interval(-3.141592653589793, 3.141592653589793)"),
    ],
)
def test_ranges_go_by_their_best_known_name(range: Range, shown: str) -> None:
    assert str(s.elementwise(range)) == shown


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_within_itself_and_the_numbers(kind: str) -> None:
    assert s.support(kind).within(s.support(kind))
    assert s.support(kind).within(s.support("real"))


@pytest.mark.parametrize(
    ("narrow", "wide"),
    [
        ("positive", "nonnegative"),
        ("unit", "positive"),
        ("simplex", "unit"),
        ("positive_ordered", "ordered"),
        ("corr", "cov"),
        ("corr_cholesky", "lower_cholesky"),
        ("unit_lower_cholesky", "lower_cholesky"),
        ("bool", "count"),
        ("count", "int"),
    ],
)
def test_kinds_are_ordered(narrow: str, wide: str) -> None:
    assert s.support(narrow).within(s.support(wide))
    assert not s.support(wide).within(s.support(narrow))


def test_only_whole_numbers_are_integers() -> None:
    assert s.point(3).within(s.COUNT)
    assert not s.point(2.5).within(s.COUNT)
    assert not s.point(-1).within(s.COUNT)
    assert s.real_valued(s.point(3)).within(s.INTEGER)


def test_edges_do_not_matter_to_a_density() -> None:
    positive, nonnegative = s.support("positive"), s.support("nonnegative")
    assert positive.within(nonnegative)
    assert not nonnegative.within(positive)
    assert nonnegative.within(positive, almost=True)


def test_bounds_that_are_not_numbers_are_compared_as_text() -> None:
    moving = Support("interval", Range(0, 1), ("0", "1 - alpha"))
    same = Support("interval", Range(0, 1), ("0", "1 - alpha"))
    other = Support("interval", Range(0, 1), ("0", "1 - beta"))
    assert moving.within(same)
    assert not moving.within(other)
    assert moving.within(s.support("unit"))
    assert not s.support("unit").within(moving)


def test_free_coordinates_are_counted() -> None:
    k, t = Size.of("K"), Size.of("T")
    shapes = {
        "real": ((t, k), (t, k)),
        "simplex": ((t, k), (t, k - Size.of(1))),
        "ordered": ((k,), (k,)),
        "lower_cholesky": ((k, k), ((k * (k + Size.of(1))).half(),)),
        "corr": ((t, k, k), (t, (k * (k - Size.of(1))).half())),
    }
    for kind, (event, free) in shapes.items():
        assert s.free_shape(s.support(kind), event) == free, kind
    assert s.free_shape(s.support("count"), ()) is None
    assert s.free_size(s.support("simplex"), (t, k)).value({"T": 3, "K": 5}) == 12


def test_a_scaled_structured_value_keeps_its_range() -> None:
    """A positive number times the identity is a covariance, and still no entry of it is below zero."""
    text = "model M { dim K = 3 latent p : simplex[K, K] ~ Dirichlet(ones(K) + 4 * eye(K)) }"
    assert check(Source("m.guide", text)).diagnostics == ()
