"""Declarations of nets and externs, and tuple lets."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable
from dataclasses import replace

from guidedsl import errors, ir
from guidedsl.check.calls import all_values
from guidedsl.check.expressions import Expressions
from guidedsl.check.scope import Report, Symbol
from guidedsl.check.shapes import indexed_size
from guidedsl.check.types import check_type
from guidedsl.ir import Stage
from guidedsl.library import supports as s
from guidedsl.library.distributions import DISTRIBUTIONS
from guidedsl.library.functions import FUNCTIONS, SPECIAL
from guidedsl.library.makers import ACTIVATIONS, MAKERS, layer_names
from guidedsl.sizes import Size, product, total
from guidedsl.source import Span
from guidedsl.syntax import ast

_ORIGIN = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*(?:\.[^\W\d]\w*)*")


def check_net(node: ast.Net, owner: str, expressions: Expressions) -> ir.Callee | None:
    """A net of the model or guide `owner`, or None after reporting what is wrong with it."""
    scope = expressions.scope
    if scope.enclosing:
        plate = scope.plates[scope.enclosing[-1]]
        expressions.report.add(errors.net_in_plate(node.name.text, plate.name, node.span, plate.span), node.name.text)
        return None
    return check_callee(node, owner, expressions)


def check_callee(node: ast.Net | ast.Extern, owner: str | None, expressions: Expressions) -> ir.Callee | None:
    """A declared net or extern, or None after reporting what is wrong with it. `owner` is a net's model or guide."""
    report, name = expressions.report, node.name.text
    what = "an extern" if isinstance(node, ast.Extern) else "a net"
    if name in FUNCTIONS or name in SPECIAL or name in DISTRIBUTIONS:
        taken = "a distribution" if name in DISTRIBUTIONS else "a function"
        report.add(errors.clashes(name, taken, node.name.span, what), name)
        return None
    inputs = _values(node.signature.inputs, node, expressions)
    outputs = _values(node.signature.outputs, node, expressions)
    if inputs is None or outputs is None:
        return None
    span = node.name.span.to(node.signature.span)
    store_name = name if owner is None else f"{owner}.{name}"
    callee = ir.Callee(name, "passed", store_name, inputs, outputs, None, None, (), span)
    if isinstance(node, ast.Net) and node.maker is not None:
        layers = _layers(node.maker, node, callee, expressions)
        return None if layers is None else replace(callee, kind="generated", layers=layers)
    if node.origin is None:
        return callee
    if _ORIGIN.fullmatch(node.origin.value) is None:
        report.add(errors.bad_origin(node.origin.value, node.origin.span), name)
        return None
    if isinstance(node, ast.Extern):
        return replace(callee, kind="extern", origin=node.origin.value)
    options = _options(node, expressions)
    return None if options is None else replace(callee, kind="imported", origin=node.origin.value, options=options)


def _values(
    nodes: tuple[ast.Value, ...], owner: ast.Net | ast.Extern, expressions: Expressions
) -> tuple[ir.Value, ...] | None:
    """The inputs or the outputs of a signature."""
    report = expressions.report
    seen: dict[str, ast.Name] = {}
    values: list[ir.Value] = []
    for node in nodes:
        declared = check_type(node.type, expressions)
        if declared is None:
            continue
        if node.name is not None and node.name.text in seen:
            report.add(errors.already_declared(node.name.text, node.name.span, seen[node.name.text].span))
            continue
        if any(b is not None and b.type.value is None for b in (declared.bounds.low, declared.bounds.high)):
            report.add(errors.moving_signature(owner.name.text, node.type.span), owner.name.text)
            continue
        if node.name is not None:
            seen[node.name.text] = node.name
        name = node.name.text if node.name is not None else ""
        values.append(ir.Value(name, declared.type((), Stage.CONSTANT), declared.bounds))
    return tuple(values) if len(values) == len(nodes) else None


def report_unused(callees: Iterable[ir.Callee], called: Container[str], report: Report) -> None:
    """Report the nets and externs that nothing calls."""
    for callee in callees:
        if callee.name not in called:
            report.add(errors.unused_callee(callee.what, callee.name, callee.span), callee.name)


# Generated nets


def _layers(maker: ast.Call, node: ast.Net, callee: ir.Callee, expressions: Expressions) -> ir.Layers | None:
    report, row = expressions.report, MAKERS.get(maker.function.text)
    if row is None:
        usages = {known.name: known.usage for known in MAKERS.values()}
        report.add(errors.unknown_maker(maker.function.text, maker.function.span, usages), callee.name)
        return None
    for value, written in zip(callee.outputs, node.signature.outputs, strict=True):
        if value.type.support.row.free is None:
            shown = f"`{value.name}`" if value.name else "a value"
            finding = errors.discrete_output(callee.name, shown, str(value.type.support), written.type.span)
            report.add(finding, callee.name)
            return None
    if row.deep and (mended := _mended(maker, report)):
        report.add(errors.not_of_maker(row.name, *mended), callee.name)
        return None
    sizes: list[Size | None] = []
    activation = "relu"
    for argument in maker.arguments:
        keyword = argument.keyword
        if keyword is None and row.deep:
            sizes.append(expressions.size(argument.value))
        elif keyword is not None and keyword.text == "activation" and row.deep:
            activation = report.text(argument.value.span)
            if activation not in ACTIVATIONS:
                report.add(errors.unknown_activation(activation, argument.value.span, ACTIVATIONS), callee.name)
                return None
        elif keyword is not None:
            report.add(errors.no_argument(row.name, keyword.text, keyword.span, (row.usage,)), callee.name)
            return None
        else:
            report.add(errors.wrong_arguments(row.name, "takes no sizes", argument.value.span, (row.usage,)))
            return None
    problem = "needs the size of a hidden layer; without one write `linear()`" if row.deep and not sizes else ""
    problem = problem or ("needs an input" if not callee.inputs else "")
    if problem:
        report.add(errors.wrong_arguments(row.name, problem, maker.span, (row.usage,)), callee.name)
        return None
    hidden = [size for size in sizes if size is not None]
    return _stacked(hidden, activation, callee, expressions) if len(hidden) == len(sizes) else None


def _mended(maker: ast.Call, report: Report) -> tuple[Span, str] | None:
    """Where sizes stand in brackets or an activation has no name, and the call as it is written."""
    texts: list[str] = []
    wrong: list[Span] = []
    for argument in maker.arguments:
        value, text = argument.value, report.text(argument.value.span)
        name = text.strip('"')
        if argument.keyword is not None:
            text = f"{argument.keyword.text} = {name}"
        elif isinstance(value, ast.Vector):
            text = ", ".join(report.text(item.span) for item in value.items)
            wrong.append(value.span)
        elif name in ACTIVATIONS:
            text = f"activation = {name}"
            wrong.append(value.span)
        texts.append(text)
    return (wrong[0], f"{maker.function.text}({', '.join(texts)})") if wrong else None


def _stacked(hidden: list[Size], activation: str, callee: ir.Callee, expressions: Expressions) -> ir.Layers:
    """The layers, each as wide as the one before gives."""
    names = layer_names(len(hidden), tuple(value.name for value in callee.outputs))
    width = total(_width(value.type, expressions) for value in callee.inputs)
    layers: list[ir.Layer] = []
    for name, size in zip(names, hidden, strict=False):
        layers.append(ir.Layer(name, width, size))
        width = size
    heads = tuple(
        ir.Layer(name, width, product(head_shape(value.type)))
        for name, value in zip(names[len(hidden) :], callee.outputs, strict=True)
    )
    return ir.Layers(tuple(layers), heads, ACTIVATIONS[activation])


def _width(type: ir.Type, expressions: Expressions) -> Size:
    """How many numbers an input is; an index counts as many as it points into, for it enters one-hot."""
    width = product(type.event)
    target = type.support.target
    if target is None:
        return width
    return width * indexed_size(target, expressions.scope.plates)


def head_shape(type: ir.Type) -> tuple[Size, ...]:
    """The shape of what a head gives, before it is put into the output's support."""
    if type.support.kind == "simplex":
        return type.event
    free = s.free_shape(type.support, type.event)
    assert free is not None
    return free


# Imported nets


def _options(node: ast.Net, expressions: Expressions) -> tuple[tuple[str, ir.Expr | str], ...] | None:
    """What the class of an imported net is called with: numbers, dims and strings, by name."""
    report, usage = expressions.report, ('from "module:Class"(hidden = 64, name = "text")',)
    options: dict[str, ir.Expr | str] = {}
    for argument in node.arguments:
        at = argument.value.span
        if argument.keyword is None:
            report.add(errors.wrong_arguments(node.name.text, "takes its options by name", at, usage), node.name.text)
            return None
        name = argument.keyword.text
        if name in options:
            report.add(errors.wrong_arguments(node.name.text, f"gets `{name}` twice", at, usage), node.name.text)
            return None
        if isinstance(argument.value, ast.Text):
            options[name] = argument.value.value
            continue
        value = expressions.check(argument.value)
        if value is None:
            return None
        if not value.type.number:
            report.add(errors.bad_option(name, "a number, a dim or a string", at), node.name.text)
            return None
        options[name] = value
    return tuple(options.items())


# Tuple lets

IGNORED = "_"
"""In a tuple let: an output that nothing needs."""


def check_unpack(node: ast.Unpack, expressions: Expressions) -> tuple[tuple[ast.Name, ir.Let, Symbol], ...] | None:
    """What `let (a, _) = f(x)` declares, in order (nothing for `_`), or None after reporting what is wrong with it."""
    outputs = all_values(node, expressions)
    if outputs is None:
        return None
    enclosing = expressions.scope.enclosing
    found: list[tuple[ast.Name, ir.Let, Symbol]] = []
    for name, output in zip(node.names, outputs, strict=True):
        if name.text == IGNORED:
            continue
        event = output.type.event
        let = ir.Let(name.text, output, None, ir.Bounds(None, None), enclosing, event, node.span)
        type = replace(output.type, plates=enclosing)
        role: ir.Role = "derived" if type.stage <= Stage.DATA else "let"
        found.append((name, let, Symbol(name.text, role, type, enclosing, name.span)))
    return tuple(found)
