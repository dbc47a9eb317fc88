"""Distributions as Python: their densities, probabilities and draws, put together from those of their parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from guidedsl import ir
from guidedsl.backend.code import PRODUCT, SUM, Code, indexed
from guidedsl.backend.names import HIGH_END
from guidedsl.library.supports import Support
from guidedsl.sizes import Size

if TYPE_CHECKING:
    from guidedsl.backend.emit import Emitter


def log_prob(emitter: Emitter, dist: ir.Dist, x: Code, known: Support, plates: Sequence[str], batch: int) -> Code:
    """The log density of x, one value for each of `plates` and of `batch` event dims.

    `known` is where x is known to lie. Where a family's support is narrower, its density is -inf outside.
    """
    arguments = emitter.arguments(dist, plates, batch)
    runtime = f"dist.{dist.form.runtime}"
    match dist.row.rule:
        case None:
            if known.within(dist.type.support, almost=True):
                return Code(f"{runtime}.log_prob({', '.join([x.text, *arguments])})")
            support = emitter.constraint(dist.type.support, dist.bounds, None, plates, batch)
            return Code(f"fn.on_support({', '.join([support, f'{runtime}.log_prob', x.text, *arguments])})")
        case "mixture":

            def part(dist: ir.Dist, axis: int) -> Code:
                across = indexed(x, ["None", *[":"] * dist.own]) if axis else x
                return log_prob(emitter, dist, across, known, plates, batch + axis)

            return Code(f"{runtime}.log_prob({_components(dist, part)}, {arguments[0]})")
        case "zero_inflated":
            base = log_prob(emitter, dist.parts[0], x, known, plates, batch)
            return Code(f"{runtime}.log_prob({x.text}, {arguments[0]}, {base.text})")
        case "truncated":
            return _truncated(emitter, dist, x, known, plates, batch)


def _components(dist: ir.Dist, part: Callable[[ir.Dist, int], Code]) -> str:
    """What `part` gives for each component of a mixture: along a last axis, or as a tuple where they were listed."""
    if not dist.listed:
        return part(dist.parts[0], 1).text
    texts = [part(component, 0).text for component in dist.parts]
    return f"({', '.join(texts)}{',' if len(texts) == 1 else ''})"


def _truncated(emitter: Emitter, dist: ir.Dist, x: Code, known: Support, plates: Sequence[str], batch: int) -> Code:
    base = log_prob(emitter, dist.parts[0], x, known, plates, batch)
    low, high = _ends(emitter, dist, plates, batch)
    mass = log_mass(emitter, dist.parts[0], low, high, plates, batch)
    code = Code(f"{base.at(SUM)} - {mass.at(PRODUCT)}", SUM)
    if known.within(dist.type.support, almost=True):
        return code
    return Code(f"dist.Truncated.log_prob({x.text}, {low.code.text}, {high.code.text}, {code.text})")


@dataclass(frozen=True)
class _End:
    """An end of an interval: a number or a tensor."""

    code: Code
    value: float | None
    number: bool


def _ends(emitter: Emitter, dist: ir.Dist, plates: Sequence[str], batch: int) -> tuple[_End, _End]:
    low, high = (
        _End(emitter.aligned(bound, plates, batch), bound.type.value, bound.type.number) for bound in dist.arguments
    )
    return low, high


def log_mass(emitter: Emitter, dist: ir.Dist, low: _End, high: _End, plates: Sequence[str], batch: int) -> Code:
    """log P(low < x < high), whole numbers at either end included."""
    arguments = emitter.arguments(dist, plates, batch)
    runtime = f"dist.{dist.form.runtime}"
    ends = f"{low.code.text}, {high.code.text}"
    match dist.row.rule:
        case None:
            return Code(f"{runtime}.log_mass({', '.join([ends, *arguments])})")
        case "mixture":

            def part(dist: ir.Dist, axis: int) -> Code:
                inner = (_across(low), _across(high)) if axis else (low, high)
                return log_mass(emitter, dist, *inner, plates, batch + axis)

            return Code(f"{runtime}.log_prob({_components(dist, part)}, {arguments[0]})")
        case "zero_inflated":
            base = log_mass(emitter, dist.parts[0], low, high, plates, batch)
            return Code(f"{runtime}.log_mass({ends}, {arguments[0]}, {base.text})")
        case "truncated":
            own = _ends(emitter, dist, plates, batch)
            inner = _inner("maximum", low, own[0]), _inner("minimum", high, own[1])
            left = log_mass(emitter, dist.parts[0], *inner, plates, batch)
            whole = log_mass(emitter, dist.parts[0], *own, plates, batch)
            return Code(f"{left.at(SUM)} - {whole.at(PRODUCT)}", SUM)


def _across(end: _End) -> _End:
    return end if end.number else _End(indexed(end.code, ["None"]), end.value, end.number)


def _inner(function: str, a: _End, b: _End) -> _End:
    """The inner one of two ends; an infinite one is no end."""
    infinite = (float("-inf"), float("inf"))
    if a.value in infinite or b.value in infinite:
        return b if a.value in infinite else a
    if a.value is not None and b.value is not None:
        return max(a, b, key=_value) if function == "maximum" else min(a, b, key=_value)
    return _End(Code(f"fn.{function}({a.code.text}, {b.code.text})"), None, False)


def _value(end: _End) -> float:
    assert end.value is not None
    return end.value


def draw(emitter: Emitter, dist: ir.Dist, plates: Sequence[str], event: tuple[Size, ...]) -> Code:
    """A draw of `event` shape for each particle and each of `plates`, with its log density where that comes with it."""
    shape = emitter.shape(plates, event, particles=True)
    arguments = emitter.arguments(dist, plates, len(event) - dist.own)
    return Code(f"dist.{dist.form.runtime}.draw({', '.join(['noise', shape, *arguments])})")


def sample(emitter: Emitter, dist: ir.Dist, plates: Sequence[str], event: tuple[Size, ...]) -> Code:
    """A draw alone."""
    batch = len(event) - dist.own
    arguments = emitter.arguments(dist, plates, batch)
    match dist.row.rule:
        case "mixture":
            size = dist.arguments[0].type.event[-1]

            def part(dist: ir.Dist, axis: int) -> Code:
                across = (*event[:batch], size, *event[batch:]) if axis else event
                return sample(emitter, dist, plates, across)

            rank = f", rank={dist.own}" if dist.own else ""
            shape = emitter.shape(plates, event[:batch], particles=True)
            return Code(
                f"dist.{dist.form.runtime}.sample(noise, {shape}, {_components(dist, part)}, {arguments[0]}{rank})"
            )
        case "zero_inflated":
            shape = emitter.shape(plates, event, particles=True)
            base = sample(emitter, dist.parts[0], plates, event)
            return Code(f"dist.{dist.form.runtime}.sample(noise, {shape}, {base.text}, {arguments[0]})")
        case "truncated":
            return _sample_truncated(emitter, dist, plates, event)
        case _:
            return Code(f"{draw(emitter, dist, plates, event).text}[0]")


def _sample_truncated(emitter: Emitter, dist: ir.Dist, plates: Sequence[str], event: tuple[Size, ...]) -> Code:
    """By its distribution function, which the law that is truncated has."""
    base, batch = dist.parts[0], len(event)
    low, high = _ends(emitter, dist, plates, batch)
    below = log_mass(emitter, base, low, _End(Code(HIGH_END), None, False), plates, batch)
    total = log_mass(emitter, base, low, high, plates, batch)
    shape = emitter.shape(plates, event, particles=True)
    whole = ", whole=True" if base.type.support.range.integer else ""
    ends = f"{low.code.text}, {high.code.text}"
    return Code(f"dist.Truncated.sample(noise, {shape}, lambda {HIGH_END}: {below.text}, {total.text}, {ends}{whole})")
