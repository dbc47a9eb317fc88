"""Reads of observed values at the rows, steps or entries that their `when` leaves out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from guidedsl import errors, ir
from guidedsl.check.scope import Report
from guidedsl.check.walk import references
from guidedsl.source import Span
from guidedsl.syntax import ast

_STARTS_AT_0 = ("real", "bool", "count", "index")
"""Kinds of which what is left out is 0; of others it is some value inside."""


def report_left_out(model: ir.Model, written: ast.Model, body: tuple[ast.Statement, ...], report: Report) -> None:
    """Warn of statements of the model, or of a guide, that read an observed value and not what its `when` reads."""
    supports = {field.name: field.support for field in model.fields}
    here = frozenset(scan.step.text for scan in _scans(body))
    dims = frozenset(dim.name for dim in model.dims)
    for site in _conditional(written.body):
        name, steps = site.name.text, frozenset(scan.step.text for scan in _scans(written.body))
        read = references(site.when) - dims
        # A condition on the steps alone may be repeated in another scan, whose step has another name.
        known = read - steps or (read | here if read else read)
        if not known or name not in supports:
            continue
        for statement in _simple(body):
            place = next(_unguarded(statement, name, frozenset(known)), None)
            if place is not None:
                assert site.when is not None
                text, kind = report.text(site.when.span), supports[name].kind
                value = "0" if kind in _STARTS_AT_0 else f"some value of its type, {supports[name]}"
                report.add(errors.read_where_left_out(name, text, value, place, site.when.span), name)


def _conditional(body: tuple[ast.Statement, ...]) -> Iterator[ast.Observed]:
    return (one for one in _simple(body) if isinstance(one, ast.Observed) and one.when is not None)


def _scans(body: tuple[ast.Statement, ...]) -> Iterator[ast.Scan]:
    for statement in body:
        if isinstance(statement, ast.Plate):
            yield from _scans(statement.body)
        elif isinstance(statement, ast.Scan):
            yield statement


def _simple(body: tuple[ast.Statement, ...]) -> Iterator[ast.Statement | ast.Carry]:
    """The statements that are no blocks, and the carries of scans."""
    for statement in body:
        if isinstance(statement, ast.Scan):
            yield from statement.carries
        if isinstance(statement, ast.Plate | ast.Scan):
            yield from _simple(statement.body)
        else:
            yield statement


def _unguarded(root: ast.Statement | ast.Carry, name: str, condition: frozenset[str]) -> Iterator[Span]:
    """Where a statement reads `name` outside of an expression that tells by the `condition` what counts."""
    if isinstance(root, ast.Observed) and root.when is not None and references(root.when) & condition:
        return
    stack: list[Any] = [root]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Ref):
            if node.name == name:
                yield node.span
        elif isinstance(node, tuple):
            stack.extend(reversed(node))
        elif is_dataclass(node) and not isinstance(node, Span):
            parts = _together(node)
            if parts and any(references(part) & condition for part in parts):
                continue
            stack.extend(getattr(node, field.name) for field in reversed(fields(node)))


def _together(node: object) -> tuple[object, ...]:
    """What stands side by side so that one of it can say where another counts: a choice, a product, a net's inputs."""
    match node:
        case ast.Call() | ast.Vector():
            return node.arguments if isinstance(node, ast.Call) else node.items
        case ast.Chain() if any(term.operator in "*/@" for term in node.terms[1:]):
            return node.terms
    return ()
