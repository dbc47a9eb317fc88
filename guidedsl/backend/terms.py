"""A site's term of the log density as Python, on the axes that are asked for."""

from __future__ import annotations

from collections.abc import Sequence

from guidedsl import ir
from guidedsl.backend.code import Code
from guidedsl.backend.densities import log_prob
from guidedsl.backend.emit import Emitter


def log_density(term: ir.Term, dist: ir.Dist, emitter: Emitter, axes: Sequence[str]) -> tuple[Code, int]:
    """The log density at every entry of `axes` and of the event dims that the family does not take, and their count."""
    batch = len(term.value.type.event) - dist.own
    value = emitter.aligned(term.value, axes, len(term.value.type.event))
    code = log_prob(emitter, dist, value, term.value.type.support, axes, batch)
    if term.when is not None:
        mask = emitter.aligned(term.when, axes, batch).text
        code = Code(f"fn.masked({mask}, {code.text})")
    return code, batch
