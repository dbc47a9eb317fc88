"""Terms of a log density as Python."""

from __future__ import annotations

from collections.abc import Sequence

from guidedsl import ir
from guidedsl.backend.code import PRODUCT, UNARY, Code, summed
from guidedsl.backend.distributions import log_prob
from guidedsl.backend.emit import Emitter
from guidedsl.backend.names import data_attribute


def log_density(term: ir.Term, dist: ir.Dist, emitter: Emitter, axes: Sequence[str]) -> tuple[Code, int]:
    """The log density at every entry of `axes` and of the event dims that the family does not take, and their count."""
    batch = len(term.value.type.event) - dist.own
    value = emitter.aligned(term.value, axes, len(term.value.type.event))
    code = log_prob(emitter, dist, value, term.value.type.support, axes, batch)
    if term.when is not None:
        mask = emitter.aligned(term.when, axes, batch).text
        code = Code(f"fn.masked({mask}, {code.text})")
    return code, batch


def term_code(term: ir.Term, emitter: Emitter) -> Code:
    """One term of the log density, summed over its plates and scaled by those that are subsampled."""
    if term.dist is None:
        return _factor(term, emitter)
    code, batch = log_density(term, term.dist, emitter, term.plates)
    return scaled(summed(code, len(term.plates) + batch), term.plates, emitter)


def _factor(term: ir.Term, emitter: Emitter) -> Code:
    """A factor is one term an element of its plates: that many times the same over those that it does not vary with."""
    value, minus = term.value, False
    while isinstance(value, ir.Negative):
        value, minus = value.operand, not minus
    own = tuple(plate for plate in term.plates if plate in value.type.plates)
    code = summed(emitter.emit(value), len(own))
    repeats = [emitter.size(emitter.plates[plate].size) for plate in term.plates if plate not in own]
    repeats = [size if size.isidentifier() or size.isdigit() else f"({size})" for size in repeats]
    code = scaled(code, own, emitter, *repeats)
    return Code(f"-{code.at(PRODUCT)}", UNARY) if minus else code


def scaled(code: Code, plates: tuple[str, ...], emitter: Emitter, *factors: str) -> Code:
    """Terms of subsampled plates stand for all rows."""
    scales = [f"data.{data_attribute(p)}.scale" for p in plates if emitter.plates[p].batching is not None]
    before = [*factors, *scales]
    return Code(" * ".join([*before, code.at(UNARY)]), PRODUCT) if before else code
