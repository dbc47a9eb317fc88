"""Functions of the registry: arguments bound by name, the shape and support of what they give."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from guidedsl import errors, ir
from guidedsl.check import signatures
from guidedsl.check.algebra import weighed
from guidedsl.check.shapes import as_size, latest, match, offset, show
from guidedsl.check.walk import references
from guidedsl.ir import Stage, Type
from guidedsl.library import supports as s
from guidedsl.library.functions import Function
from guidedsl.sizes import Size
from guidedsl.syntax import ast

if TYPE_CHECKING:
    from guidedsl.check.expressions import Expressions


class Functions:
    """Types calls of them, for an expression checker."""

    def __init__(self, expressions: Expressions) -> None:
        self.expressions = expressions
        self.report = expressions.report
        self.scope = expressions.scope

    def check(self, function: Function, node: ast.Call) -> ir.Expr | None:
        if function.shape == "lags":
            return self.expressions.special.lags(function, node)
        if function.shape == "construct":
            return self._construct(function, node)
        if function.shape == "signature":
            return self._signed(function, node)
        arguments = self.bind(function, node)
        if arguments is None:
            return None
        nodes, axis = arguments
        values = self.expressions.all(nodes)
        if values is None or not self._domains(function, nodes, values):
            return None
        if function.shape == "elementwise":
            return self._elementwise(function, nodes, values)
        return self._along_axes(function, node, values[0], axis)

    def bind(self, function: Function, node: ast.Call) -> tuple[tuple[ast.Expr, ...], int | None] | None:
        """Arguments in order, and the axis of a reduction."""
        shown = f"{function.name}({', '.join(function.parameters)}{', axis = k' if function.shape == 'reduce' else ''})"
        axis = None
        given: dict[str, ast.Expr] = {}
        for position, argument in enumerate(node.arguments):
            if argument.keyword is not None and argument.keyword.text == "axis" and function.shape == "reduce":
                value = argument.value
                if not isinstance(value, ast.Number) or not value.value.is_integer():
                    self.report.add(errors.bad_option("axis", "a whole number from 0", value.span))
                    return None
                axis = int(value.value)
                continue
            if argument.keyword is not None:
                name = argument.keyword.text
                if name not in function.parameters:
                    self.report.add(errors.no_argument(function.name, name, argument.keyword.span, (shown,)))
                    return None
            elif position < len(function.parameters):
                name = function.parameters[position]
            else:
                count = len(function.parameters)
                problem = f"takes {count} argument{'s' if count > 1 else ''}, {len(node.arguments)} given"
                self.report.add(errors.wrong_arguments(function.name, problem, node.span, (shown,)))
                return None
            given[name] = argument.value
        missing = [name for name in function.parameters if name not in given]
        if missing:
            problem = f"lacks {' and '.join(f'`{name}`' for name in missing)}"
            self.report.add(errors.wrong_arguments(function.name, problem, node.span, (shown,)))
            return None
        return tuple(given[name] for name in function.parameters), axis

    def _domains(self, function: Function, nodes: tuple[ast.Expr, ...], values: list[ir.Expr]) -> bool:
        fine = True
        for node, value in zip(nodes, values, strict=True):
            if not value.type.support.range.within(function.domain):
                wanted = str(s.elementwise(function.domain))
                fine = self.expressions.refuse(f"the argument of {function.name}", wanted, node, value)
        return fine

    def _elementwise(self, function: Function, nodes: tuple[ast.Expr, ...], values: list[ir.Expr]) -> ir.Expr | None:
        type = values[0].type
        span = nodes[0].span
        for node, value in zip(nodes[1:], values[1:], strict=True):
            combined = self.expressions.operators.combine(type, value.type, span, node.span)
            if combined is None:
                return None
            type = combined
        literals = [value.type.value for value in values]
        result = None
        if function.number is not None and None not in literals:
            result = _number(function, [v for v in literals if v is not None])
        range = s.point(result) if result is not None else function.range(*(v.type.support.range for v in values))
        number = type.number and bool(function.number_code or result is not None)
        support = s.elementwise(range)
        if function.name == "where" and not values[0].type.event:
            support = _kept(values[1].type, values[2].type) or support
        type = replace(type, support=support, number=number, value=result)
        if result is not None:
            return ir.Const(result, type)
        return ir.Apply(function, tuple(values), None, (), type)

    def _along_axes(self, function: Function, node: ast.Call, value: ir.Expr, axis: int | None) -> ir.Expr | None:
        event = value.type.event
        if not event:
            hint = "event dims stand in brackets: `real[K]`; to reduce over a plate write `x[:]` outside it"
            what = f"the argument of {function.name}"
            self.report.add(errors.wrong_shape(what, "[K]", "[]", node.arguments[0].value.span, hint))
            return None
        if axis is not None and axis >= len(event):
            finding = errors.no_axis(function.name, axis, show(event), len(event) - 1, node.span)
            self.report.add(finding, *references(node))
            return None
        range = function.range(value.type.support.range)
        support = s.elementwise(range)
        from_right = None if axis is None else axis - len(event)
        if function.shape == "last":
            if function.support is not None:
                support = s.support(function.support)
            return ir.Apply(function, (value,), -1, (), replace(value.type, support=support, number=False))
        left = () if axis is None else (*event[:axis], *event[axis + 1 :])
        return ir.Apply(
            function, (value,), from_right, (), replace(value.type, event=left, support=support, number=False)
        )

    def _signed(self, function: Function, node: ast.Call) -> ir.Expr | None:
        """The first of a function's signatures that fits."""
        count = len(node.arguments)
        overloads = [f for f in (function, *function.others) if len(f.parameters) == count] or [function]
        bound = self.bind(overloads[0], node)
        values = self.expressions.all(bound[0]) if bound is not None else None
        if bound is None or values is None:
            return None
        fitting = [(f, letters) for f in overloads if (letters := _letters(f, values)) is not None]
        if not fitting:
            self._misfit(overloads, bound[0], values)
            return None
        for chosen, letters in fitting:
            if all(value.type.support.within(wanted) for value, wanted in zip(values, _wanted(chosen), strict=True)):
                assert chosen.signature is not None
                result = signatures.read(chosen.signature[1])
                event = tuple(offset(letter, letters) for letter in result.dims)
                plates = self.scope.sort(plate for value in values for plate in value.type.plates)
                support = weighed(values[0].type, values[1].type) if chosen.name == "dot" else s.support(result.kind)
                type = Type(event, support, plates, latest(v.type for v in values))
                return ir.Apply(chosen, tuple(values), None, (), type)
        for argument, value, kind in zip(bound[0], values, _wanted(fitting[-1][0]), strict=True):
            if not value.type.support.within(kind):
                self.expressions.refuse(f"an argument of {function.name}", kind.kind, argument, value)
                break
        return None

    def _misfit(self, overloads: list[Function], nodes: tuple[ast.Expr, ...], values: list[ir.Expr]) -> None:
        """Report the first argument whose shape is none that the function takes."""
        function = overloads[0]
        assert function.signature is not None
        letters: dict[str, Size] = {}
        takes = " or ".join(", ".join(f.signature[0]) for f in overloads if f.signature is not None)
        for argument, value, wanted in zip(nodes, values, function.signature[0], strict=True):
            notation = signatures.read(wanted)
            event = value.type.event
            if len(event) != len(notation.dims) or not match(notation.dims, event, letters):
                want = show(tuple(letters.get(letter, Size.of(letter)) for letter in notation.dims))
                what, hint = f"the argument of {function.name}", f"{function.name} takes {takes}"
                self.report.add(errors.wrong_shape(what, want, show(event), argument.span, hint))
                return

    def _construct(self, function: Function, node: ast.Call) -> ir.Expr | None:
        values = {"full": 1}.get(function.name, 0)
        if function.name == "normal":
            return self._normal(function, node)
        positional = tuple(argument.value for argument in node.arguments)
        if any(argument.keyword for argument in node.arguments) or len(positional) <= values:
            problem = "takes dims" + (", then a value" if values else "")
            self.report.add(errors.wrong_arguments(function.name, problem, node.span, (f"{function.name}(K, …)",)))
            return None
        sizes = [self.expressions.size(argument) for argument in positional[: len(positional) - values]]
        if any(size is None for size in sizes):
            return None
        dims = tuple(size for size in sizes if size is not None)
        event = (dims[0], dims[0]) if function.name == "eye" else dims
        if not values:
            kind = s.IDENTITY if function.name == "eye" else None
            support = s.support(kind) if kind else s.elementwise(function.range())
            if support.range == s.point(0):
                support = s.Support("zero_sum", support.range)
            return ir.Apply(function, (), None, dims, Type(event, support, stage=Stage.DATA))
        value = self.expressions.check(positional[-1])
        if value is None:
            return None
        type = replace(value.type, event=(*event, *value.type.event), number=False, value=None)
        if _is_part(value, event[-1]):
            type = replace(type, support=s.Support("simplex", value.type.support.range))
        type = replace(type, stage=max(type.stage, Stage.DATA))
        return ir.Apply(function, (value,), None, dims, type)

    def _normal(self, function: Function, node: ast.Call) -> ir.Expr | None:
        if not self.scope.in_init:
            hint = "in a guide sample with `~`; `normal(…)` only starts a parameter"
            self.report.add(errors.not_a_value("normal(…)", "a random init", node.span, hint))
            return None
        bound = self.bind(function, node)
        values = self.expressions.all(bound[0]) if bound else None
        if values is None:
            return None
        return ir.Apply(function, tuple(values), None, (), Type((), s.support("real"), stage=Stage.DATA))


def _letters(function: Function, values: list[ir.Expr]) -> dict[str, Size] | None:
    """The sizes of a signature's letters, where the arguments have its shapes."""
    assert function.signature is not None
    letters: dict[str, Size] = {}
    for value, wanted in zip(values, function.signature[0], strict=True):
        notation, event = signatures.read(wanted), value.type.event
        if len(event) != len(notation.dims) or not match(notation.dims, event, letters):
            return None
    return letters


def _wanted(function: Function) -> list[s.Support]:
    assert function.signature is not None
    return [s.support(signatures.read(wanted).kind) for wanted in function.signature[0]]


def _kept(yes: Type, no: Type) -> s.Support | None:
    """The structured support that two events of one shape have in common."""
    if yes.event != no.event or not (yes.support.structured or no.support.structured):
        return None
    kept = no if yes.support.within(no.support) else yes if no.support.within(yes.support) else None
    return None if kept is None else replace(kept.support, range=s.union(yes.support.range, no.support.range))


def _is_part(value: ir.Expr, size: Size) -> bool:
    """Whether `value` is `1 / size`, so that a vector of them is a simplex."""
    match value:
        case ir.Chain(terms=((_, ir.Const(value=1.0)), ("/", divisor))):
            return as_size(divisor) == size
    known = size.constant
    return value.type.value is not None and known is not None and value.type.value == 1 / known


def _number(function: Function, values: list[float]) -> float | None:
    assert function.number is not None
    try:
        return float(function.number(*values))
    except (ValueError, OverflowError, ZeroDivisionError):
        return None
