"""Walks over the statements of a model or a guide, in the order of the text."""

from __future__ import annotations

from collections.abc import Iterator

from guidedsl.check.nets import IGNORED
from guidedsl.syntax import ast


def declared_names(body: tuple[ast.Statement, ...]) -> Iterator[ast.Name]:
    """Every value that the statements declare, in the order of the text."""
    for statement in body:
        match statement:
            case ast.Plate():
                yield from declared_names(statement.body)
            case ast.Unpack():
                yield from (name for name in statement.names if name.text != IGNORED)
            case ast.Scan():
                yield from (carry.name for carry in statement.carries)
                yield from declared_names(statement.body)
            case (
                ast.Data()
                | ast.Latent()
                | ast.Observed()
                | ast.Let()
                | ast.Param()
                | ast.Aux()
                | ast.Emit()
                | ast.Net()
            ):
                yield statement.name


def sampled_names(body: tuple[ast.Statement, ...]) -> Iterator[ast.Name]:
    """Every name on the left of a `~`."""
    for statement in body:
        match statement:
            case ast.Plate() | ast.Scan():
                yield from sampled_names(statement.body)
            case ast.Sample():
                yield statement.name
            case ast.Joint():
                yield from statement.names


def autos(body: tuple[ast.Statement, ...]) -> Iterator[ast.Auto]:
    """Every `auto`."""
    for statement in body:
        if isinstance(statement, ast.Plate):
            yield from autos(statement.body)
        elif isinstance(statement, ast.Auto):
            yield statement


def sized_plates(node: ast.Plate) -> Iterator[str]:
    """The plates that a block declares."""
    yield from (item.name.text for item in node.items if item.size is not None)
    for statement in node.body:
        if isinstance(statement, ast.Plate):
            yield from sized_plates(statement)
