"""Walking trees without recursion."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from guidedsl import ir
from guidedsl.source import Span
from guidedsl.syntax import ast


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


def references(root: Any) -> set[str]:
    """Every name that a syntax tree reads."""
    found: set[str] = set()
    stack: list[Any] = [root]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Ref):
            found.add(node.name)
        elif isinstance(node, tuple):
            stack.extend(node)
        elif is_dataclass(node) and not isinstance(node, Span):
            stack.extend(getattr(node, field.name) for field in fields(node))
    return found
