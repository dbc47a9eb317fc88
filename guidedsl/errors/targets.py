"""E7xx: what a target cannot express."""

from __future__ import annotations

from guidedsl.diagnostics import Diagnostic, Label
from guidedsl.source import Span


def not_in_pyro(what: str, span: Span, hint: str) -> Diagnostic:
    return Diagnostic("E701", f"{what} cannot be expressed in Pyro", Label(span, "in this statement"), hint=hint)
