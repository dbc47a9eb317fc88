"""A site's term of the log density as Python, on the axes that are asked for."""

from __future__ import annotations

from collections.abc import Sequence

from guidedsl import ir
from guidedsl.backend.emit import SUM, Code, Emitter, number


def log_density(term: ir.Term, dist: ir.Dist, emitter: Emitter, axes: Sequence[str]) -> tuple[Code, int]:
    """The log density at every entry of `axes` and of the event dims that the family does not take, and their count."""
    batch = len(term.value.type.event) - dist.own
    arguments = emitter.arguments(dist, axes, batch)
    value = emitter.aligned(term.value, axes, len(term.value.type.event)).text
    runtime = f"dist.{dist.form.runtime}"
    code = Code(f"{runtime}.log_prob({', '.join([value, *arguments])})")
    if term.truncated is not None:
        low, high = (number(bound) for bound in term.truncated)
        code = Code(f"{code.text} - {runtime}.log_mass({', '.join([low, high, *arguments])})", SUM)
    if term.when is not None:
        mask = emitter.aligned(term.when, axes, batch).text
        code = Code(f"fn.masked({mask}, {code.text})")
    return code, batch
