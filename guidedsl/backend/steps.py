"""Expressions of a scan's step as expressions of all steps at once: the steps become the innermost plate.

A plate and the steps of a scan have their axes at the same place, left of the event, so that one rewrite of the types
turns what is written for a step into what is computed for all of them.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from guidedsl import ir
from guidedsl.check.indexing import step_offset
from guidedsl.check.shapes import DIM_RANGE
from guidedsl.ir import Type
from guidedsl.library import supports as s
from guidedsl.library.distributions import Distribution, Form
from guidedsl.library.functions import Function
from guidedsl.sizes import Size
from guidedsl.source import Span

Node = TypeVar("Node")
_LEAVES = (Type, Size, s.Support, ir.Latent, Distribution, Form, Function, Span, type)


class Steps:
    """Rewrites for one scan. `axis` is the name of its plate."""

    def __init__(self, scan: ir.Scan) -> None:
        self.axis = scan.step
        self.size = scan.size
        self.plate = ir.Plate(scan.step, scan.size, None, None, scan.span)

    def at_once(self, node: Node, moving: Set[str]) -> Node:
        """The node for all steps; `moving` are the variables that have the axis of the steps."""
        result: Node = self._rewritten(node, moving, (self.axis,))[0]
        return result

    def one(self, node: Node, tensors: Set[str]) -> Node:
        """The node for one step; `tensors` are variables that a tensor holds, though their values are numbers."""
        result: Node = self._rewritten(node, tensors, ())[0]
        return result

    def _rewritten(self, node: Any, moving: Set[str], axes: tuple[str, ...]) -> tuple[Any, bool]:
        """The node, and whether it moves."""
        if isinstance(node, ir.Var):
            if node.name not in moving:
                return node, False
            return replace(node, type=_moved(node.type, axes)), True
        if isinstance(node, tuple):
            items = [self._rewritten(item, moving, axes) for item in node]
            return tuple(item for item, _ in items), any(moves for _, moves in items)
        if not is_dataclass(node) or isinstance(node, _LEAVES):
            return node, False
        if axes and isinstance(node, ir.Subscript):
            row = self._row(node, moving, axes)
            if row is not None:
                return row, True
        parts = {field.name: self._rewritten(getattr(node, field.name), moving, axes) for field in fields(node)}
        if not any(moves for _, moves in parts.values()):
            return node, False
        changed = {name: part for name, (part, moves) in parts.items() if moves}
        if isinstance(getattr(node, "type", None), Type) and not isinstance(node, ir.Draw):
            changed["type"] = _moved(node.type, axes)
        return replace(node, **changed), True

    def _row(self, node: ir.Subscript, moving: Set[str], axes: tuple[str, ...]) -> ir.Expr | None:
        """`y[t + k]`: the entries from k on as rows of the steps; None where the position is not that plain."""
        first = node.items[0]
        if isinstance(first, ir.Range | ir.NewAxis) or self.axis not in moving:
            return None
        offset = step_offset(first)
        base, moves = self._rewritten(node.base, moving, axes)
        rest, others = self._rewritten(node.items[1:], moving, axes)
        if offset is None or moves or others:
            return None
        rows = _part(base, offset, offset + self.size)
        event = base.type.event[1:]
        support = base.type.support
        if support.structured and len(event) < support.row.rank:
            support = s.elementwise(support.range)
        row = ir.RowOf(rows, self.axis, replace(_moved(base.type, axes), event=event, support=support))
        return row if not rest else ir.Subscript(row, rest, _moved(node.type, axes))


def _moved(type: Type, axes: tuple[str, ...]) -> Type:
    new = tuple(axis for axis in axes if axis not in type.plates)
    return replace(type, plates=(*type.plates, *new), number=False, value=None)


def _part(base: ir.Expr, low: Size, high: Size) -> ir.Expr:
    """The entries from `low` to `high` along the first event axis."""
    size = base.type.event[0]
    if low.constant == 0 and high == size:
        return base
    start = None if low.constant == 0 else _number(low)
    stop = None if high == size else _number(high)
    return ir.Subscript(base, (ir.Range(start, stop),), replace(base.type, event=(high - low, *base.type.event[1:])))


def _number(size: Size) -> ir.Expr:
    return ir.DimValue(size, Type((), s.elementwise(DIM_RANGE), number=True))
