"""The registry of types and the lattice of supports.

A support is the set of values that one event may take. Its element-wise hull is a `Range`, so that arithmetic on
supports is interval arithmetic; structured kinds (simplex, ordered, triangular, …) add membership by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from guidedsl.sizes import Size, product

INF = math.inf


@dataclass(frozen=True)
class Range:
    """An interval of the real line, or of the integers."""

    low: float = -INF
    high: float = INF
    low_closed: bool = False
    high_closed: bool = False
    integer: bool = False

    def within(self, other: Range, *, almost: bool = False) -> bool:
        """Whether every value here is in `other`; `almost` forgives end points, which have no mass."""
        whole = self.integer or (self.low == self.high and float(self.low).is_integer())
        if other.integer and not whole:
            return False
        low = self.low > other.low or (self.low == other.low and (almost or other.low_closed or not self.low_closed))
        high = self.high < other.high or (
            self.high == other.high and (almost or other.high_closed or not self.high_closed)
        )
        return (low or self.low == -INF == other.low) and (high or self.high == INF == other.high)

    def apart(self, other: Range) -> bool:
        """Whether no value here is in `other`, nor an end point."""
        return self.low > other.high or self.high < other.low

    @property
    def empty(self) -> bool:
        return self.low > self.high or (self.low == self.high and not (self.low_closed and self.high_closed))


REAL = Range()
POSITIVE = Range(0, INF)
NONNEGATIVE = Range(0, INF, low_closed=True)
UNIT = Range(0, 1)
CLOSED_UNIT = Range(0, 1, True, True)
BOOL = Range(0, 1, True, True, integer=True)
COUNT = Range(0, INF, low_closed=True, integer=True)
INTEGER = Range(integer=True)


def point(value: float) -> Range:
    return Range(value, value, True, True, integer=float(value).is_integer())


@dataclass(frozen=True)
class Kind:
    """One type of the language.

    `rank` counts its own event dims; a `square` kind is written with one of them. `bounds` names its arguments.
    `free` gives the unconstrained coordinates of one event from its written dim; None where there is no bijection.
    `initial` is the value that a parameter starts from by default, in the language.
    """

    name: str
    doc: str
    range: Range
    rank: int = 0
    square: bool = False
    bounds: tuple[str, ...] = ()
    parents: tuple[str, ...] = ()
    discrete: bool = False
    free: Callable[[Size], Size] | None = None
    initial: str = "0"
    transforms: tuple[str, ...] = ()
    constraint: str = ""


def _same(size: Size) -> Size:
    return size


def _less_one(size: Size) -> Size:
    return size - Size.of(1)


def _triangle(size: Size) -> Size:
    return (size * (size + Size.of(1))).half()


def _strict_triangle(size: Size) -> Size:
    return (size * (size - Size.of(1))).half()


_EXP = ("exp", "softplus")

_ROWS = (
    Kind("real", "any real number", REAL, free=_same),
    Kind("positive", "above zero", POSITIVE, free=_same, initial="1", transforms=_EXP),
    Kind("nonnegative", "zero or above", NONNEGATIVE, free=_same, initial="1", transforms=_EXP),
    Kind("unit", "strictly between 0 and 1", UNIT, free=_same, initial="0.5"),
    Kind("interval", "strictly between two bounds", REAL, bounds=("low", "high"), free=_same, initial="middle"),
    Kind("greater_than", "above a bound", REAL, bounds=("low",), free=_same, initial="low + 1", transforms=_EXP),
    Kind("less_than", "below a bound", REAL, bounds=("high",), free=_same, initial="high - 1", transforms=_EXP),
    Kind("simplex", "positive numbers that sum to one", UNIT, rank=1, free=_less_one, initial="uniform"),
    Kind("ordered", "a strictly increasing vector", REAL, rank=1, free=_same, initial="increasing"),
    Kind(
        "positive_ordered",
        "a strictly increasing vector of positive numbers",
        POSITIVE,
        rank=1,
        parents=("ordered",),
        free=_same,
        initial="increasing",
    ),
    Kind("zero_sum", "numbers that sum to zero", REAL, rank=1, free=_less_one, initial="0"),
    Kind("unit_vector", "a direction: numbers whose squares sum to one", Range(-1, 1, True, True), rank=1, initial=""),
    Kind(
        "lower_cholesky",
        "a lower-triangular matrix with a positive diagonal",
        REAL,
        rank=2,
        square=True,
        free=_triangle,
        initial="identity",
    ),
    Kind(
        "unit_lower_cholesky",
        "a lower-triangular matrix with ones on its diagonal",
        REAL,
        rank=2,
        square=True,
        parents=("lower_cholesky",),
        free=_strict_triangle,
        initial="identity",
    ),
    Kind(
        "corr_cholesky",
        "the cholesky factor of a correlation matrix",
        Range(-1, 1, True, True),
        rank=2,
        square=True,
        parents=("lower_cholesky",),
        free=_strict_triangle,
        initial="identity",
    ),
    Kind("cov", "a positive definite matrix", REAL, rank=2, square=True, free=_triangle, initial="identity"),
    Kind(
        "corr",
        "a correlation matrix",
        Range(-1, 1, True, True),
        rank=2,
        square=True,
        parents=("cov",),
        free=_strict_triangle,
        initial="identity",
    ),
    Kind("bool", "0 or 1", BOOL, discrete=True, constraint="boolean"),
    Kind("count", "0, 1, 2, …", COUNT, discrete=True),
    Kind(
        "int",
        "a whole number, between bounds where given",
        INTEGER,
        bounds=("low", "high"),
        discrete=True,
        constraint="integer",
    ),
    Kind("one_hot", "a vector of zeros with a single 1", BOOL, rank=1, discrete=True),
    Kind("index", "a row number of a plate, or a position along a dim", COUNT, discrete=True),
)

KINDS: dict[str, Kind] = {kind.name: kind for kind in _ROWS}

IDENTITY = "identity"
_INFERRED: dict[str, Kind] = {
    IDENTITY: Kind(
        IDENTITY,
        "the identity matrix, which is no type of its own",
        CLOSED_UNIT,
        rank=2,
        square=True,
        parents=("unit_lower_cholesky", "corr_cholesky", "corr"),
    )
}


def _kind(name: str) -> Kind:
    return KINDS[name] if name in KINDS else _INFERRED[name]


@dataclass(frozen=True)
class Support:
    """A kind with its bounds filled in.

    `bounds` are the bounds as texts (for messages, and to tell symbolic ones apart); `range` is the hull that they
    imply. `target` is the plate or dim that an index points into.
    """

    kind: str
    range: Range
    bounds: tuple[str, ...] = ()
    target: str | None = None

    @property
    def row(self) -> Kind:
        return _kind(self.kind)

    def __str__(self) -> str:
        if self.target is not None:
            return f"index({self.target})"
        return f"{self.kind}({', '.join(self.bounds)})" if self.bounds else self.kind

    @property
    def structured(self) -> bool:
        return self.row.rank > 0

    def within(self, other: Support, *, almost: bool = False) -> bool:
        """Whether every value here is in `other`."""
        if other.structured:
            return other.kind in _ancestors(self.kind)
        if other.target is not None:
            return self.target == other.target
        if other.bounds and any(_symbolic(bound) for bound in other.bounds):
            return self.bounds == other.bounds and self.kind == other.kind
        return self.range.within(other.range, almost=almost)


def _symbolic(bound: str) -> bool:
    try:
        float(bound)
    except ValueError:
        return True
    return False


def _ancestors(kind: str) -> frozenset[str]:
    found = {kind}
    for parent in _kind(kind).parents:
        found |= _ancestors(parent)
    return frozenset(found)


def support(kind: str) -> Support:
    """The support of a kind without bounds."""
    return Support(kind, _kind(kind).range)


def elementwise(range: Range) -> Support:
    """The element-wise support that a range amounts to, by its best known name."""
    for kind in _ROWS:
        if not kind.rank and not kind.bounds and kind.name != "index" and kind.range == range:
            return Support(kind.name, range)
    if range.integer:
        if range.low == -INF and range.high == INF:
            return Support("int", range)
        return Support("int", range, (number_text(range.low), number_text(range.high)))
    if range.low == -INF:
        return Support("less_than", range, (number_text(range.high),)) if range.high < INF else support("real")
    if range.high == INF:
        return Support("greater_than", range, (number_text(range.low),))
    return Support("interval", range, (number_text(range.low), number_text(range.high)))


def number_text(value: float) -> str:
    """A number as users write it, with all of its digits."""
    short = f"{value or 0:g}"
    return short if float(short) == value else repr(value)


def interval(low: tuple[str, Range], high: tuple[str, Range]) -> Support:
    """`interval(a, b)` for bounds given as text and hull."""
    return Support("interval", Range(low[1].low, high[1].high), (low[0], high[0]))


def free_shape(support: Support, event: tuple[Size, ...]) -> tuple[Size, ...] | None:
    """The shape of one event's unconstrained coordinates, or None where the kind has no bijection."""
    row = support.row
    if row.free is None:
        return None
    if not row.rank:
        return event
    return (*event[: len(event) - row.rank], row.free(event[-1]))


def free_size(support: Support, event: tuple[Size, ...]) -> Size:
    """How many unconstrained coordinates one event has."""
    shape = free_shape(support, event)
    assert shape is not None
    return product(shape)


# Interval arithmetic


def add(a: Range, b: Range) -> Range:
    return Range(
        a.low + b.low if -INF not in (a.low, b.low) else -INF,
        a.high + b.high if INF not in (a.high, b.high) else INF,
        a.low_closed and b.low_closed,
        a.high_closed and b.high_closed,
        a.integer and b.integer,
    )


def negate(a: Range) -> Range:
    return Range(-a.high, -a.low, a.high_closed, a.low_closed, a.integer)


def multiply(a: Range, b: Range) -> Range:
    corners = [
        _corner(x, xc, y, yc)
        for x, xc in ((a.low, a.low_closed), (a.high, a.high_closed))
        for y, yc in ((b.low, b.low_closed), (b.high, b.high_closed))
    ]
    low = min(value for value, _ in corners)
    high = max(value for value, _ in corners)
    low_closed = any(closed for value, closed in corners if value == low)
    high_closed = any(closed for value, closed in corners if value == high)
    return Range(low, high, low_closed, high_closed, a.integer and b.integer)


def _corner(x: float, x_closed: bool, y: float, y_closed: bool) -> tuple[float, bool]:
    if x == 0 or y == 0:
        return 0.0, (x == 0 and x_closed) or (y == 0 and y_closed)
    return x * y, x_closed and y_closed


def reciprocal(a: Range) -> Range:
    if a.low > 0 or (a.low == 0 and not a.low_closed):
        return Range(
            0.0 if a.high == INF else 1 / a.high, INF if a.low == 0 else 1 / a.low, a.high_closed, a.low_closed
        )
    if a.high < 0 or (a.high == 0 and not a.high_closed):
        return negate(reciprocal(negate(a)))
    return REAL


def power(a: Range, exponent: float | None) -> Range:
    """`a ^ exponent`, with None for an exponent that is not a literal."""
    if exponent is not None and exponent > 0 and exponent % 2 == 0:
        bound = max(abs(a.low), abs(a.high))
        nonzero = a.low > 0 or a.high < 0 or (a.low == 0 and not a.low_closed) or (a.high == 0 and not a.high_closed)
        least = 0.0 if a.low <= 0 <= a.high else _pow(min(abs(a.low), abs(a.high)), exponent)
        reached = (abs(a.low) == bound and a.low_closed) or (abs(a.high) == bound and a.high_closed)
        return Range(least, _pow(bound, exponent), not nonzero or least > 0, reached and bound < INF, a.integer)
    if exponent is not None and exponent > 0 and a.low >= 0:
        return monotone(a, lambda x: _pow(x, exponent), a.integer and float(exponent).is_integer())
    if a.low > 0 or (a.low == 0 and not a.low_closed):
        return POSITIVE
    return REAL


def _pow(x: float, exponent: float) -> float:
    try:
        return float(x**exponent)
    except OverflowError:
        return INF


def monotone(a: Range, f: Callable[[float], float], integer: bool = False) -> Range:
    """The image of an increasing function."""
    return Range(f(a.low), f(a.high), a.low_closed and a.low > -INF, a.high_closed and a.high < INF, integer)


def union(a: Range, b: Range) -> Range:
    """The smallest range that holds both."""
    low, high = min(a.low, b.low), max(a.high, b.high)
    return Range(
        low,
        high,
        (a.low == low and a.low_closed) or (b.low == low and b.low_closed),
        (a.high == high and a.high_closed) or (b.high == high and b.high_closed),
        a.integer and b.integer,
    )


def real_valued(range: Range) -> Range:
    return replace(range, integer=False)
