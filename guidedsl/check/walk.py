"""Walking trees without recursion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
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


def substitute(root: Any, values: Mapping[str, ir.Expr]) -> Any:
    """The tree with every let among `values` replaced by its value."""
    if isinstance(root, ir.Var):
        return substitute(values[root.name], values) if root.role == "let" and root.name in values else root
    if isinstance(root, tuple):
        return tuple(substitute(item, values) for item in root)
    if is_dataclass(root) and not isinstance(root, ir.Type | ir.Latent | type):
        parts = {field.name: getattr(root, field.name) for field in fields(root)}
        changed = {name: substitute(part, values) for name, part in parts.items()}
        return replace(root, **{name: part for name, part in changed.items() if part is not parts[name]})
    return root


def literals(expr: ir.Expr) -> list[float]:
    """The numbers of a literal or of a vector of literals."""
    if expr.type.value is not None:
        return [expr.type.value]
    if isinstance(expr, ir.Stack):
        return [value for item in expr.items for value in literals(item)]
    if isinstance(expr, ir.Apply) and expr.function.shape == "construct":
        if expr.arguments and expr.function.parameters[-1] == "value":
            return literals(expr.arguments[-1])
        if expr.function.name in ("zeros", "ones"):
            return [0.0 if expr.function.name == "zeros" else 1.0]
    return []


def references(root: Any) -> set[str]:
    """Every name that a syntax tree reads."""
    return {ref.name for ref in refs(root)}


def refs(root: Any) -> Iterator[ast.Ref]:
    """Every place where a syntax tree reads a name."""
    stack: list[Any] = [root]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Ref):
            yield node
        elif isinstance(node, tuple):
            stack.extend(reversed(node))
        elif is_dataclass(node) and not isinstance(node, Span):
            stack.extend(getattr(node, field.name) for field in reversed(fields(node)))
