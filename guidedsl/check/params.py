"""Params: declared type, initial value and options."""

from __future__ import annotations

from dataclasses import replace

from guidedsl import errors, ir
from guidedsl.check.cures import type_text
from guidedsl.check.expressions import Expressions
from guidedsl.check.scope import Symbol
from guidedsl.check.shapes import show
from guidedsl.check.structured import is_literal, problem_of
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
        support = declared.support
        if support.row.discrete:
            report.add(errors.not_optimised(node.name.text, str(support), node.type.span))
        else:
            report.add(errors.no_param_bijection(node.name.text, str(support), node.type.span))
        return None
    transform = _transform(node, declared, expressions)
    init = _init(node, declared, expressions)
    lr, frozen = _options(node, expressions)
    type = declared.type(plates, Stage.PARAM)
    param = ir.Param(
        node.name.text, f"{owner}.{node.name.text}", type, declared.bounds, init, transform, lr, frozen, node.span
    )
    return param, Symbol(node.name.text, "param", type, plates, node.name.span)


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
                report.add(errors.option_takes_no_value(name, option.name.span))
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
        hint = _init_of_shape(node.name.text, init, declared, expressions)
        report.add(errors.init_shape(name, show(init.type.event), show(event), node.init.span, hint))
        return None
    if not init_in_support(node.init, init, declared, expressions):
        return None
    return init


def _init_of_shape(name: str, init: ir.Expr, declared: Declared, expressions: Expressions) -> str:
    """How an init of another shape is mended."""
    kind, event = declared.support.row, declared.event
    if not event:
        rows = " (it has one value a row already)" if expressions.scope.enclosing else ""
        return f"give one number{rows}, or declare it `{type_text(str(declared.support), init.type.event)}`"
    usual = f"give one number, which fills any shape: `= {kind.initial if kind.initial.isdecimal() else '…'}`"
    if kind.rank:
        square = kind.square and len(event) == 2
        usual = f"give `eye({event[0]})`" if square else f"leave the init out: it starts inside {declared.support}"
    if len(init.type.event) == len(event) and is_literal(init):
        data = f"`data {name}_start : {type_text(str(declared.support), event)}` in the model and `= {name}_start`"
        return f"numbers in brackets have the size that is written, which is no dim; {usual}; or read it: {data}"
    return usual


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
    problem = problem_of(kind, init)
    if problem:
        expressions.report.add(errors.init_not_in_set(kind, problem, node.span, declared.span))
        return False
    return True
