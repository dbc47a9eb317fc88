"""Walking trees without recursion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from functools import cache
from typing import Any

from guidedsl import ir
from guidedsl.source import Span
from guidedsl.syntax import ast


def variables(root: Any) -> Iterator[ir.Var]:
    """Every variable read in an expression, a distribution or a statement."""
    return (node for node in _typed_nodes(root) if isinstance(node, ir.Var))


def calls(root: Any) -> Iterator[ir.Call]:
    """Every call of a net or an extern."""
    return (node for node in _typed_nodes(root) if isinstance(node, ir.Call))


def gathers(root: Any) -> Iterator[ir.Gather | ir.AllRows | ir.RowOf]:
    """Every read of rows of a plate or of an axis: by number, by index, or of all."""
    return (node for node in _typed_nodes(root) if isinstance(node, ir.Gather | ir.AllRows | ir.RowOf))


def _typed_nodes(root: Any) -> Iterator[Any]:
    """Every node of a typed tree, in the order of the text."""
    stack: list[Any] = [root]
    while stack:
        node = stack.pop()
        if isinstance(node, tuple):
            stack.extend(reversed(node))
        elif (names := _parts(node.__class__)) is not None and not isinstance(node, ir.Type | ir.Latent | ir.Callee):
            yield node
            stack.extend([getattr(node, name) for name in names])


def substitute(root: Any, values: Mapping[str, ir.Expr]) -> Any:
    """The tree with every let among `values` replaced by its value."""
    if isinstance(root, ir.Var):
        return substitute(values[root.name], values) if root.role == "let" and root.name in values else root
    if isinstance(root, tuple):
        return tuple(substitute(item, values) for item in root)
    if is_dataclass(root) and not isinstance(root, ir.Type | ir.Latent | ir.Callee | type):
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
    return (node for node in _nodes(root) if isinstance(node, ast.Ref))


def called(root: Any) -> set[str]:
    """Every function that a syntax tree calls."""
    return {node.function.text for node in _nodes(root) if isinstance(node, ast.Call)}


def _nodes(root: Any) -> Iterator[Any]:
    """Every node of a syntax tree, in the order of the text."""
    stack: list[Any] = [root]
    while stack:
        node = stack.pop()
        if isinstance(node, tuple):
            stack.extend(reversed(node))
        elif (names := _parts(node.__class__)) is not None and not isinstance(node, Span):
            yield node
            stack.extend([getattr(node, name) for name in names])


@cache
def _parts(kind: type) -> tuple[str, ...] | None:
    """The fields of a class of nodes, the last first; None for a class of something else."""
    return tuple(field.name for field in reversed(fields(kind))) if is_dataclass(kind) else None
