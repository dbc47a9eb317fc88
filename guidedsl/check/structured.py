"""Literals of structured types: what keeps a vector or a matrix of numbers from being one."""

from __future__ import annotations

import itertools
import math

from guidedsl import ir
from guidedsl.check.walk import literals
from guidedsl.library import supports as s


def is_literal(expr: ir.Expr) -> bool:
    """Whether an expression is made of numbers in brackets alone."""
    if isinstance(expr, ir.Stack):
        return all(is_literal(item) for item in expr.items)
    return expr.type.value is not None


def problem_of(kind: str, init: ir.Expr) -> str:
    """What keeps a literal from being of a structured kind, or nothing."""
    if kind == "zero_sum" and init.type.value == 0:
        return ""
    if not init.type.event:
        return f"one number is not a {kind}"
    values = literals(init)
    rows = _matrix(init)
    if kind in ("simplex", "ordered", "positive_ordered", "zero_sum", "unit_vector"):
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
    if kind in ("zero_sum", "unit_vector"):
        return _sum_problem(kind, init, values)
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


def _sum_problem(kind: str, init: ir.Expr, values: list[float]) -> str:
    wanted = 0 if kind == "zero_sum" else 1
    size = 1 if isinstance(init, ir.Stack) else init.type.event[-1].constant
    if isinstance(init, ir.Stack) and len(values) != len(init.items):
        return ""
    if size is None:
        return "" if kind == "zero_sum" and not any(values) else "its entries are all equal"
    total = size * sum(value if kind == "zero_sum" else value * value for value in values)
    of = "entries" if kind == "zero_sum" else "squared entries"
    return f"its {of} sum to {total:g}, not {wanted}" if abs(total - wanted) > 1e-6 else ""


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
