"""Which latents have finitely many values, and which."""

from __future__ import annotations

from collections.abc import Mapping

from guidedsl import errors, ir
from guidedsl.check.shapes import as_size, indexed_size, show
from guidedsl.diagnostics import Diagnostic
from guidedsl.sizes import Size
from guidedsl.source import Span


def classes_of(
    latent: ir.Latent, plates: Mapping[str, ir.Plate], span: Span, *, whole: bool = False
) -> ir.Classes | Diagnostic:
    """The values of a latent, or why it cannot be enumerated at `span`. `whole`: an event of several values may be."""
    support = latent.type.support
    if not support.row.discrete:
        return errors.continuous_enumerated(latent.name, str(support), span, latent.span)
    if support.kind == "one_hot" and len(latent.type.event) == 1:
        return ir.Classes(latent, 0, latent.type.event[0])
    if not whole and latent.type.event != (() if latent.steps is None else (latent.steps,)):
        shape = f"{support}{show(latent.type.event)}"
        return errors.event_enumerated(latent.name, support.kind, shape, span, latent.span)
    if support.target is not None:
        return ir.Classes(latent, 0, indexed_size(support.target, plates))
    if support.kind == "bool":
        return ir.Classes(latent, 0, Size.of(2))
    if latent.bounds.low is None or latent.bounds.high is None:
        return errors.infinitely_many(latent.name, str(support), span, latent.span)
    low, high = as_size(latent.bounds.low), as_size(latent.bounds.high)
    if low is None or high is None or low.constant is None:
        return errors.bounds_enumerated(latent.name, str(support), span, latent.span)
    return ir.Classes(latent, low.constant, high - low + Size.of(1))
