"""Dims, of a file or a model."""

from __future__ import annotations

from guidedsl import errors, ir
from guidedsl.check.scope import Report
from guidedsl.check.shapes import NEW
from guidedsl.syntax import ast


def declare_dim(node: ast.DimDecl, dims: dict[str, ir.Dim], report: Report) -> None:
    name = node.name.text
    if name == NEW.name:
        report.add(errors.reserved_word(name, node.name.span), name)
        report.fail(name)
        return
    if name in dims:
        report.add(errors.already_declared(name, node.name.span, dims[name].span), name)
        return
    default: int | None = None
    if node.default is not None:
        if not isinstance(node.default, ast.Number) or not node.default.value.is_integer() or node.default.value < 1:
            report.add(errors.bad_dim_default(name, node.default.span))
            report.fail(name)
        else:
            default = int(node.default.value)
    dims[name] = ir.Dim(name, default, node.name.span)
