"""Calls of nets and externs: arguments against the signature, results as declared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guidedsl import errors, ir
from guidedsl.check.shapes import indexed_size, latest, show
from guidedsl.check.walk import references
from guidedsl.ir import Stage, Type
from guidedsl.library.supports import Support
from guidedsl.syntax import ast

if TYPE_CHECKING:
    from guidedsl.check.expressions import Expressions


def signature_text(callee: ir.Callee) -> str:
    """`encoder(x: bool[D]) -> (loc: real[Z], scale: positive[Z])`."""
    inputs = ", ".join(f"{value.name}: {type_text(value.type)}" for value in callee.inputs)
    outputs = [f"{value.name}: {type_text(value.type)}" if value.name else "" for value in callee.outputs]
    result = f"({', '.join(outputs)})" if outputs[0] else type_text(callee.outputs[0].type)
    return f"{callee.name}({inputs}) -> {result}"


def type_text(type: Type) -> str:
    """A type as users write it: `real[D]`, `cov[K]`."""
    event = type.event[:-1] if type.support.row.square else type.event
    return f"{type.support}{show(event) if event else ''}"


def one_value(node: ast.Call, callee: ir.Callee, expressions: Expressions) -> ir.Expr | None:
    """A call as a value, or None after reporting what is wrong with it."""
    if len(callee.outputs) > 1:
        hint = f"take it apart: `{_unpacking(callee)}`"
        count = len(callee.outputs)
        expressions.report.add(
            errors.wrong_count(f"`{callee.name}`", count, 1, node.span, callee.span, hint), callee.name
        )
        return None
    return check_call(node, callee, expressions)


def all_values(node: ast.Unpack, expressions: Expressions) -> tuple[ir.Output, ...] | None:
    """The outputs of the call on the right of `let (a, b) = …`, or None after reporting what is wrong with it."""
    report, value = expressions.report, node.value
    callee = expressions.scope.callees.get(value.function.text) if isinstance(value, ast.Call) else None
    if callee is None or not isinstance(value, ast.Call):
        if expressions.check(value) is not None:
            report.add(errors.not_a_tuple(report.text(value.span), len(node.names), value.span))
        return None
    if len(callee.outputs) != len(node.names):
        alone = len(callee.outputs) == 1
        hint = f"write `let {node.names[0].text} = {callee.name}(…)`" if alone else f"write `{_unpacking(callee)}`"
        counts = len(callee.outputs), len(node.names)
        report.add(errors.wrong_count(f"`{callee.name}`", *counts, node.span, callee.span, hint), callee.name)
        return None
    call = check_call(value, callee, expressions)
    if call is None:
        return None
    types = [_result(output.type, call.type) for output in callee.outputs]
    return tuple(ir.Output(call, position, type) for position, type in enumerate(types))


def _unpacking(callee: ir.Callee) -> str:
    return f"let ({', '.join(value.name for value in callee.outputs)}) = {callee.name}(…)"


def _result(declared: Type, call: Type) -> Type:
    """The type of an output, with the plates and the stage of the call."""
    return Type(declared.event, declared.support, call.plates, call.stage)


def check_call(node: ast.Call, callee: ir.Callee, expressions: Expressions) -> ir.Call | None:
    """A call with typed arguments, of whatever number of outputs."""
    nodes = _bind(node, callee, expressions)
    values = expressions.all(nodes) if nodes is not None else None
    if nodes is None or values is None or not _dims_known(node, callee, expressions):
        return None
    for value, at, wanted in zip(values, nodes, callee.inputs, strict=True):
        if not _fits(value, at, wanted, callee, expressions):
            return None
    plates = expressions.scope.sort(plate for value in values for plate in value.type.plates)
    least = Stage.DATA if callee.kind == "extern" else Stage.PARAM
    stage = max(least, latest(value.type for value in values))
    first = callee.outputs[0].type
    return ir.Call(callee, tuple(values), Type(first.event, first.support, plates, stage))


def _bind(node: ast.Call, callee: ir.Callee, expressions: Expressions) -> tuple[ast.Expr, ...] | None:
    """The arguments in the order of the inputs."""
    report, names = expressions.report, [value.name for value in callee.inputs]
    shown = (signature_text(callee),)
    given: dict[str, ast.Expr] = {}
    problem = ""
    for position, argument in enumerate(node.arguments):
        if argument.keyword is not None and argument.keyword.text not in names:
            report.add(errors.no_argument(callee.name, argument.keyword.text, argument.keyword.span, shown))
            return None
        if argument.keyword is None and position >= len(names):
            count = f"{len(names)} argument{'' if len(names) == 1 else 's'}"
            problem = f"takes {count}, {len(node.arguments)} given"
            break
        name = names[position] if argument.keyword is None else argument.keyword.text
        if name in given:
            problem = f"gets `{name}` twice"
            break
        given[name] = argument.value
    missing = [name for name in names if name not in given]
    if missing and not problem:
        problem = f"lacks {' and '.join(f'`{name}`' for name in missing)}"
    if problem:
        report.add(errors.wrong_arguments(callee.name, problem, node.span, shown), callee.name)
        return None
    return tuple(given[name] for name in names)


def _dims_known(node: ast.Call, callee: ir.Callee, expressions: Expressions) -> bool:
    """An extern's dims may be those of another model of the file."""
    sizes = [size for value in (*callee.inputs, *callee.outputs) for size in value.type.event]
    known = expressions.scope.dims
    unknown = next((name for size in sizes for name in sorted(size.names) if name not in known), None)
    if unknown is not None:
        expressions.report.add(errors.unknown_dim(unknown, node.span, known), unknown, callee.name)
    return unknown is None


def _fits(value: ir.Expr, at: ast.Expr, wanted: ir.Value, callee: ir.Callee, expressions: Expressions) -> bool:
    """Whether an argument has the event shape of an input and lies in its support."""
    inside = _within(value.type.support, wanted.type.support, expressions)
    if value.type.event == wanted.type.event and inside:
        return True
    cure = ""
    if value.type.event != wanted.type.event and not value.type.event:
        cure = "; inside a plate a value has the axes of its brackets alone"
    expected, got = type_text(wanted.type), type_text(value.type)
    if value.type.value is not None and not value.type.event:
        got = f"{value.type.value:g}"
    finding = errors.call_argument(callee.name, wanted.name, expected, got, at.span, callee.span, cure)
    expressions.report.add(finding, callee.name, *references(at))
    return False


def _within(support: Support, wanted: Support, expressions: Expressions) -> bool:
    """Whether a support lies in another; indices do where they point into as many rows."""
    if support.target is not None and wanted.target is not None:
        plates = expressions.scope.plates
        a, b = (indexed_size(target, plates) for target in (support.target, wanted.target))
        return a == b
    return support.within(wanted)
