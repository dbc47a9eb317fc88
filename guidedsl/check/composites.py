"""Distributions made of others: the shape and support of the whole from those of its parts."""

from __future__ import annotations

from dataclasses import dataclass

from guidedsl import errors, ir
from guidedsl.check.arguments import Call, Fitted, constant
from guidedsl.check.expressions import Expressions
from guidedsl.check.shapes import Event, latest, show, unify
from guidedsl.check.types import bound_text
from guidedsl.ir import Bounds, Dist, Type
from guidedsl.library import supports as s
from guidedsl.library.distributions import DISTRIBUTIONS
from guidedsl.library.supports import Support
from guidedsl.sizes import Size
from guidedsl.source import Span


@dataclass(frozen=True)
class Part:
    """A distribution that is an argument, on its own or in a list."""

    dist: Dist
    span: Span
    listed: bool


def combine(call: Call, fitted: Fitted, parts: list[Part], expressions: Expressions) -> Dist | None:
    """The whole, or None after reporting what is wrong with it."""
    report = expressions.report
    points = [part for part in parts if part.dist.row.guide_only]
    if points:
        report.add(errors.point_as_part(points[0].dist.row.name, call.row.name, points[0].span))
        return None
    match call.row.rule:
        case "mixture":
            found = _mixture(call, fitted, parts, expressions)
        case "zero_inflated":
            found = _zero_inflated(call, fitted, parts[0], expressions)
        case _:
            found = _truncated(call, fitted, parts[0], expressions)
    if found is None:
        return None
    event, support, bounds = found
    types = [*(value.type for value in fitted.values), *(part.dist.type for part in parts)]
    type = Type(event, support, expressions.scope.sort(p for t in types for p in t.plates), latest(types))
    dists = tuple(part.dist for part in parts)
    return Dist(
        call.row, call.form, fitted.values, fitted.ranks, dists[0].own, type, bounds, dists, listed=parts[0].listed
    )


def restrict(dist: Dist, support: Support, bounds: Bounds) -> Dist:
    """A distribution given that its value lies in a support without structure: how a type restricts a prior."""
    row = DISTRIBUTIONS["Truncated"]
    low = bounds.low if bounds.low is not None else constant(support.range.low)
    high = bounds.high if bounds.high is not None else constant(support.range.high)
    type = Type(dist.type.event, support, dist.type.plates, dist.type.stage)
    return Dist(row, row.forms[0], (low, high), (0, 0), dist.own, type, bounds, (dist,))


def _batch(dist: Dist) -> Event:
    return dist.type.event[: len(dist.type.event) - dist.own]


def _joined(left: Event, right: Event, call: Call, part: Part, expressions: Expressions) -> Event | None:
    joined = unify(left, right)
    if joined is None:
        expressions.report.add(errors.shapes_differ(show(left), call.node.span, show(right), part.span))
    return joined


# Mixtures


def _mixture(
    call: Call, fitted: Fitted, parts: list[Part], expressions: Expressions
) -> tuple[Event, Support, Bounds] | None:
    weights = call.form.values[0].name
    size = fitted.letters.get("K")
    if size is None:
        span = call.given[weights] or call.node
        hint = "one for each component"
        expressions.report.add(errors.wrong_shape(f"{weights} of mixture", "[K]", "[]", span.span, hint))
        return None
    own = parts[0].dist.type.event[len(_batch(parts[0].dist)) :]
    event = fitted.batch
    for part in parts:
        batch = _batch(part.dist)
        if part.dist.type.event[len(batch) :] != own:
            shapes = show(parts[0].dist.type.event), show(part.dist.type.event)
            expressions.report.add(errors.shapes_differ(shapes[0], parts[0].span, shapes[1], part.span))
            return None
        if not part.listed:
            if not batch or batch[-1] != size:
                got = show(batch)
                expressions.report.add(errors.components_differ(weights, show((size,)), got, call.node.span, part.span))
                return None
            batch = batch[:-1]
        joined = _joined(event, batch, call, part, expressions)
        if joined is None:
            return None
        event = joined
    if parts[0].listed and size != Size.of(len(parts)):
        at = call.given[weights]
        got, hint = show((size,)), f"{len(parts)} components take {len(parts)} {weights}"
        assert at is not None
        expressions.report.add(errors.wrong_shape(f"{weights} of mixture", f"[{len(parts)}]", got, at.span, hint))
        return None
    hull = _hull(parts, expressions)
    return ((*event, *own), *hull) if hull is not None else None


def _hull(parts: list[Part], expressions: Expressions) -> tuple[Support, Bounds] | None:
    """The smallest support that holds those of all parts."""
    first = parts[0].dist
    for part in parts[1:]:
        a, b = first.type.support, part.dist.type.support
        if a.row.discrete != b.row.discrete or ((a.structured or b.structured) and not (a.within(b) or b.within(a))):
            names = first.row.name, part.dist.row.name
            expressions.report.add(errors.parts_differ(*names, str(a), str(b), part.span, parts[0].span))
            return None
    for part in parts:
        if all(other.dist.type.support.within(part.dist.type.support, almost=True) for other in parts):
            return part.dist.type.support, part.dist.bounds
    range = first.type.support.range
    for part in parts[1:]:
        range = s.union(range, part.dist.type.support.range)
    return _by_range(range)


def _by_range(range: s.Range) -> tuple[Support, Bounds]:
    support = s.elementwise(range)
    ends = {"low": range.low, "high": range.high}
    named = support.row.bounds if support.bounds else ()
    given = {name: constant(ends[name]) for name in named}
    return support, Bounds(given.get("low"), given.get("high"))


# On counts


def _zero_inflated(
    call: Call, fitted: Fitted, part: Part, expressions: Expressions
) -> tuple[Event, Support, Bounds] | None:
    dist = part.dist
    if dist.own or not dist.type.support.range.within(s.COUNT):
        name, support = dist.row.name, str(dist.type.support)
        expressions.report.add(errors.not_on_counts(name, support, part.span))
        return None
    event = _joined(fitted.batch, dist.type.event, call, part, expressions)
    if event is None:
        return None
    if dist.type.support.range.low <= 0:
        return event, dist.type.support, dist.bounds
    return event, *_by_range(s.union(dist.type.support.range, s.point(0)))


# Truncation


def _truncated(
    call: Call, fitted: Fitted, part: Part, expressions: Expressions
) -> tuple[Event, Support, Bounds] | None:
    dist, report = part.dist, expressions.report
    if not dist.has_mass or dist.own:
        report.add(errors.no_distribution_function(dist.row.name, part.span))
        return None
    low, high = fitted.values
    discrete = dist.type.support.row.discrete
    for name, value in zip(("low", "high"), fitted.values, strict=True):
        at = call.given[name]
        if at is not None and discrete and not value.type.support.range.within(s.INTEGER):
            expressions.refuse(f"{name} of Truncated on {dist.type.support}", "int", at, value)
            return None
    event = _joined(fitted.batch, dist.type.event, call, part, expressions)
    if event is None:
        return None
    support, bounds = _cut(dist, _end(call, "low", low), _end(call, "high", high))
    if support.range.low > support.range.high or (support.range.low == support.range.high and not discrete):
        report.add(errors.empty_support(f"{dist.row.name} between {_text(low)} and {_text(high)}", call.node.span))
        return None
    return event, support, bounds


def _text(bound: ir.Expr) -> str:
    return s.number_text(bound.type.value) if bound.type.value is not None else str(bound.type.support)


End = tuple[str, ir.Expr] | None
"""A bound as text and value, None for none."""


def _end(call: Call, name: str, value: ir.Expr) -> End:
    node = call.given[name]
    if node is None or value.type.value in (-s.INF, s.INF):
        return None
    return bound_text(value, node), value


def _cut(dist: Dist, low: End, high: End) -> tuple[Support, Bounds]:
    """The support of what is left between bounds: the family's own end where none is given or that lies further in."""
    base = dist.type.support
    texts = dict(zip(base.row.bounds, base.bounds, strict=False))
    lowest = _inner(1, low, texts.get("low"), dist.bounds.low, base.range.low)
    highest = _inner(-1, high, texts.get("high"), dist.bounds.high, base.range.high)
    if all(end is None or end[1].type.value is not None for end in (lowest, highest)):
        range = s.Range(
            lowest[1].type.value if lowest is not None and lowest[1].type.value is not None else -s.INF,
            highest[1].type.value if highest is not None and highest[1].type.value is not None else s.INF,
            base.row.discrete,
            base.row.discrete,
            base.row.discrete,
        )
        return _by_range(range)
    range = s.Range(
        lowest[1].type.support.range.low if lowest is not None else -s.INF,
        highest[1].type.support.range.high if highest is not None else s.INF,
        base.row.discrete,
        base.row.discrete,
        base.row.discrete,
    )
    if base.row.discrete:
        lowest, highest = lowest or ("-inf", constant(-s.INF)), highest or ("inf", constant(s.INF))
        return Support("int", range, (lowest[0], highest[0])), Bounds(lowest[1], highest[1])
    kind = "interval" if lowest and highest else "greater_than" if lowest else "less_than"
    ends = [end for end in (lowest, highest) if end is not None]
    by_name = Bounds(lowest[1] if lowest else None, highest[1] if highest else None)
    return Support(kind, range, tuple(text for text, _ in ends)), by_name


def _inner(sign: int, given: End, text: str | None, bound: ir.Expr | None, reach: float) -> End:
    """Of a bound and the family's own end the larger, times `sign`; the bound where they are not both numbers."""
    own: End = None
    if bound is not None:
        own = (text or "", bound)
    elif abs(reach) != s.INF:
        own = (s.number_text(reach), constant(reach))
    if given is None or own is None:
        return given or own
    a, b = given[1].type.value, own[1].type.value
    if a is None or b is None:
        return given
    return given if sign * a >= sign * b else own
