"""Walking typed expressions without recursion."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from guidedsl import ir


def variables(root: Any) -> Iterator[ir.Var]:
    """Every variable read in an expression, a distribution or a statement."""
    stack: list[Any] = [root]
    while stack:
        node = stack.pop()
        if isinstance(node, ir.Var):
            yield node
        elif isinstance(node, tuple):
            stack.extend(reversed(node))
        elif is_dataclass(node) and not isinstance(node, ir.Type | ir.Latent):
            stack.extend(getattr(node, field.name) for field in reversed(fields(node)))
