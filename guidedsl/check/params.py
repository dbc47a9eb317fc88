"""Params: declared type, initial value and options."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

from guidedsl import errors, ir
from guidedsl.check.expressions import Expressions
from guidedsl.check.scope import Symbol
from guidedsl.check.shapes import show
from guidedsl.check.types import Declared, check_type, moving_bound
from guidedsl.check.walk import literals
from guidedsl.ir import Stage
from guidedsl.library import supports as s
from guidedsl.syntax import ast

OPTIONS = ("lr", "frozen")


def check_param(node: ast.Param, owner: str, expressions: Expressions) -> tuple[ir.Param, Symbol] | None:
    """A typed param and its symbol, or None after reporting what is wrong with it."""
    report, scope = expressions.report, expressions.scope
    declared = check_type(node.type, expressions)
    if declared is None:
        return None
    plates = scope.enclosing
    for plate in plates:
        if scope.plates[plate].batching == "minibatch":
            where = scope.plates[plate].span
            report.add(errors.local_param_minibatched(node.name.text, plate, node.span, where), node.name.text)
            return None
    moving = moving_bound(declared.bounds)
    if moving is not None:
        symbol = scope.symbols.get(moving.name)
        known = symbol.span if symbol is not None else None
        report.add(errors.bounds_move("param", node.name.text, moving.name, node.type.span, known))
        return None
    if declared.support.row.free is None:
        report.add(errors.not_optimised(node.name.text, str(declared.support), node.type.span))
        return None
    transform = _transform(node, declared, expressions)
    init = _init(node, declared, expressions)
    lr, frozen = _options(node, expressions)
    type = declared.type(plates, Stage.PARAM)
    param = ir.Param(
        node.name.text, f"{owner}.{node.name.text}", type, declared.bounds, init, transform, lr, frozen, node.span
    )
    return param, Symbol(node.name.text, "param", type, plates, node.span)


def _transform(node: ast.Param, declared: Declared, expressions: Expressions) -> str | None:
    if node.via is None:
        return None
    known = declared.support.row.transforms
    if node.via.text not in known:
        expressions.report.add(errors.unknown_transform(node.via.text, str(declared.support), node.via.span, known))
        return None
    return node.via.text


def _options(node: ast.Param, expressions: Expressions) -> tuple[float | None, bool]:
    report = expressions.report
    lr: float | None = None
    frozen = False
    for option in node.options:
        name = option.name.text
        if name == "lr":
            value = expressions.check(option.value) if option.value is not None else None
            if value is None or value.type.value is None or not value.type.value >= 0:
                report.add(errors.bad_option("lr", "a number from 0", option.name.span))
                continue
            lr = value.type.value
        elif name == "frozen":
            frozen = True
            if option.value is not None:
                report.add(errors.bad_option("frozen", "nothing after it", option.name.span))
        else:
            report.add(errors.unknown_option(name, "param", option.name.span, OPTIONS))
    return lr, frozen


def _init(node: ast.Param, declared: Declared, expressions: Expressions) -> ir.Expr | None:
    if node.init is None:
        return None
    report = expressions.report
    inner = expressions.within(replace(expressions.scope, in_init=True))
    init = inner.check(node.init)
    if init is None:
        return None
    if init.type.stage > Stage.DATA:
        report.add(errors.init_not_known(node.name.text, report.text(node.init.span), node.init.span))
        return None
    name, event = node.name.text, declared.event
    if init.type.event not in ((), event):
        hint = f"use `full({', '.join(map(str, event))}, …)`" if event else "declare the param with brackets"
        if len(event) == 1 and init.type.value is None:
            hint = f"use `zeros({event[0]})`, or declare it `{declared.support.kind}{show(init.type.event)}`"
        report.add(errors.init_shape(name, show(init.type.event), show(event), node.init.span, hint))
        return None
    if not init_in_support(node.init, init, declared, expressions):
        return None
    return init


def init_in_support(node: ast.Expr, init: ir.Expr, declared: Declared, expressions: Expressions) -> bool:
    """Whether the initial value may lie in the declared support; literals are decided here, the rest at run time."""
    report, support = expressions.report, declared.support
    if support.structured:
        return _structured(node, init, declared, expressions)
    values = literals(init)
    symbolic = any(b is not None and b.type.value is None for b in (declared.bounds.low, declared.bounds.high))
    for value in values:
        if not symbolic and not s.point(value).within(support.range):
            report.add(errors.init_outside(f"{value:g}", str(support), node.span, declared.span))
            return False
        if value in (support.range.low, support.range.high) and not symbolic:
            report.add(errors.init_on_edge(f"{value:g}", str(support), node.span, declared.span))
            return False
    range = init.type.support.range
    apart = range.high < support.range.low or range.low > support.range.high
    if not values and not symbolic and apart:
        text = f"`{report.text(node.span)}` ({init.type.support})"
        report.add(errors.init_outside(text, str(support), node.span, declared.span))
        return False
    return True


def _structured(node: ast.Expr, init: ir.Expr, declared: Declared, expressions: Expressions) -> bool:
    kind = declared.support.kind
    if init.type.support.within(declared.support):
        return True
    problem = _problem(kind, init)
    if problem:
        expressions.report.add(errors.init_not_in_set(kind, problem, node.span, declared.span))
        return False
    return True


def _problem(kind: str, init: ir.Expr) -> str:
    """What keeps a literal from being of a structured kind, or nothing."""
    if not init.type.event:
        return f"one number is not a {kind}"
    values = literals(init)
    rows = _matrix(init)
    if kind in ("simplex", "ordered", "positive_ordered"):
        return _vector_problem(kind, init, values)
    if rows and kind in ("lower_cholesky", "unit_lower_cholesky", "corr_cholesky"):
        return _triangular(kind, rows)
    if rows and kind in ("cov", "corr"):
        return _symmetric(kind, rows)
    if values and not rows and s.KINDS[kind].rank == 2:
        return "its entries are all equal"
    return ""


def _vector_problem(kind: str, init: ir.Expr, values: list[float]) -> str:
    """As `_problem`, for kinds of rank 1; a stack of events is looked at one by one."""
    if isinstance(init, ir.Stack) and len(init.type.event) > 1:
        problems = (_vector_problem(kind, item, literals(item)) for item in init.items)
        return next((problem for problem in problems if problem), "")
    if not values:
        return ""
    if kind in ("simplex", "positive_ordered") and min(values) <= 0:
        return f"{min(values):g} is not above 0"
    if kind == "simplex":
        size = init.type.event[-1]
        total = sum(values) if isinstance(init, ir.Stack) else values[0] * (size.constant or math.nan)
        if isinstance(init, ir.Stack) and len(values) != len(init.items):
            return ""
        if abs(total - 1) > 1e-6:
            return f"its entries sum to {total:g}, not 1"
        if math.isnan(total) and values[0] >= 1:
            return f"{size} times {values[0]:g} is not 1"
        return ""
    if not isinstance(init, ir.Stack):
        return "its entries are all equal"
    for before, after in itertools.pairwise(values):
        if before >= after:
            return f"{after:g} does not come after {before:g}"
    return ""


def _matrix(init: ir.Expr) -> list[list[float]]:
    if not isinstance(init, ir.Stack) or len(init.type.event) != 2:
        return []
    rows = [literals(item) for item in init.items if isinstance(item, ir.Stack)]
    return rows if all(len(row) == len(rows) for row in rows) else []


def _triangular(kind: str, rows: list[list[float]]) -> str:
    for i, row in enumerate(rows):
        for j, value in enumerate(row):
            if j > i and value != 0:
                return f"{value:g} stands above the diagonal"
        if row[i] <= 0:
            return f"{row[i]:g} on the diagonal is not above 0"
        if kind == "unit_lower_cholesky" and row[i] != 1:
            return f"{row[i]:g} on the diagonal is not 1"
        if kind == "corr_cholesky" and abs(sum(value * value for value in row) - 1) > 1e-6:
            return f"row {i} does not have length 1"
    return ""


def _symmetric(kind: str, rows: list[list[float]]) -> str:
    for i, row in enumerate(rows):
        for j, value in enumerate(row):
            if value != rows[j][i]:
                return f"entry {i}, {j} is {value:g}, entry {j}, {i} is {rows[j][i]:g}"
        if row[i] <= 0:
            return f"{row[i]:g} on the diagonal is not above 0"
        if kind == "corr" and row[i] != 1:
            return f"{row[i]:g} on the diagonal is not 1"
    return ""
