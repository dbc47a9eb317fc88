"""Expressions: names resolved, shapes unified by dim name, supports by interval arithmetic.

Every method returns the typed expression, or None after reporting what is wrong with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from guidedsl import errors, ir
from guidedsl.check import signatures
from guidedsl.check.calls import one_value
from guidedsl.check.indexing import Indexing
from guidedsl.check.scope import Report, Scope
from guidedsl.check.shapes import DIM_RANGE, as_size, latest, match, offset, show, unify
from guidedsl.check.special import Special
from guidedsl.check.structured import is_literal, problem_of
from guidedsl.check.walk import references
from guidedsl.ir import Stage, Type
from guidedsl.library import supports as s
from guidedsl.library.distributions import DISTRIBUTIONS
from guidedsl.library.functions import FUNCTIONS, SPECIAL, Function
from guidedsl.sizes import Size, product
from guidedsl.source import Span
from guidedsl.syntax import ast

_MOST_NESTED = 100
"""A product may hold this many `@`, which nest."""

_LONGEST_SIZE = 200
"""Sizes with more terms and factors than this are plain numbers to the checker."""


class Expressions:
    """Types expressions in a scope."""

    def __init__(self, report: Report, scope: Scope) -> None:
        self.report = report
        self.scope = scope
        self.indexing = Indexing(self)
        self.special = Special(self)

    def within(self, scope: Scope) -> Expressions:
        return type(self)(self.report, scope)

    def check(self, node: ast.Expr) -> ir.Expr | None:
        match node:
            case ast.Number():
                value = node.value
                if math.isinf(value):
                    self.report.add(errors.number_too_large(node.text, node.span))
                    return None
                return ir.Const(value, Type((), s.elementwise(s.point(value)), number=True, value=value))
            case ast.Ref():
                return self._ref(node)
            case ast.Negative():
                return self._negative(node)
            case ast.Chain():
                return self._chain(node)
            case ast.Power():
                return self._power(node)
            case ast.Compare():
                return self._compare(node)
            case ast.Vector():
                return self._vector(node)
            case ast.Index():
                return self.indexing.check(node)
            case ast.Call():
                return self._call(node)
            case ast.Text():
                self.report.add(
                    errors.not_a_value(f'"{node.value}"', "a string", node.span, "a number is needed here"), node.value
                )
                return None

    def all(self, nodes: tuple[ast.Expr, ...]) -> list[ir.Expr] | None:
        """Every node typed, or None when one is wrong; all of them are looked at."""
        checked = [self.check(node) for node in nodes]
        present = [expr for expr in checked if expr is not None]
        return present if len(present) == len(checked) else None

    def each(self, nodes: Iterable[ast.Expr]) -> None:
        """Look at every node, for what is wrong in it alone."""
        for node in nodes:
            self.check(node)

    # Names

    def _ref(self, node: ast.Ref) -> ir.Expr | None:
        symbol = self.scope.symbols.get(node.name)
        if symbol is None:
            return self._dim_or_unknown(node)
        outside = tuple(plate for plate in symbol.plates if plate not in self.scope.enclosing)
        if outside:
            self.report.add(errors.local_to_plate(node.name, outside, node.span, symbol.span), node.name)
            return None
        return ir.Var(node.name, symbol.role, symbol.type)

    def _dim_or_unknown(self, node: ast.Ref) -> ir.Expr | None:
        name = node.name
        if name in self.scope.dims:
            support = s.elementwise(DIM_RANGE)
            return ir.DimValue(Size.of(name), Type((), support, number=True))
        if name in self.scope.enumerated:
            self.report.add(errors.enumerated_read(name, node.span, self.scope.enumerated[name]), name)
        elif name in self.scope.later:
            later = self.scope.later[name]
            verb = "sampled" if name in self.scope.latents and self.scope.in_guide else "declared"
            if later is not None:
                self.report.add(errors.used_before(name, node.span, later, verb), name)
        elif name in self.scope.local:
            self.report.add(errors.local_to_step(name, node.span, self.scope.local[name]), name)
        elif name in self.scope.hidden:
            self.report.add(errors.model_let(name, node.span, self.scope.hidden[name]), name)
        elif name in self.scope.plates:
            hint = f"for its size use the dim `{self.scope.plates[name].size}`"
            self.report.add(errors.not_a_value(name, "a plate", node.span, hint), name)
        elif name in self.scope.callees:
            what = f"{'an' if self.scope.callees[name].kind == 'extern' else 'a'} {self.scope.callees[name].what}"
            self.report.add(errors.not_a_value(name, what, node.span, f"call it: `{name}(…)`"), name)
        elif name in FUNCTIONS or name in SPECIAL:
            self.report.add(errors.not_a_value(name, "a function", node.span, f"call it: `{name}(…)`"), name)
        elif name in DISTRIBUTIONS:
            hint = f"a distribution stands after `~`, or in `log_prob({name}(…), x)`"
            self.report.add(errors.not_a_value(name, "a distribution", node.span, hint), name)
        else:
            self.report.add(errors.not_declared(name, node.span, self.scope.candidates()), name)
        return None

    # Operators

    def _negative(self, node: ast.Negative) -> ir.Expr | None:
        operand = self.check(node.operand)
        if operand is None:
            return None
        t = operand.type
        if isinstance(operand, ir.Const):
            return ir.Const(
                -operand.value, replace(t, support=s.elementwise(s.negate(t.support.range)), value=-operand.value)
            )
        value = None if t.value is None else -t.value
        return ir.Negative(operand, replace(t, support=s.elementwise(s.negate(t.support.range)), value=value))

    def _chain(self, node: ast.Chain) -> ir.Expr | None:
        if sum(term.operator == "@" for term in node.terms) > _MOST_NESTED:
            self.report.add(errors.nested_too_deep(node.span))
            return None
        operands = self.all(tuple(term.value for term in node.terms))
        if operands is None:
            return None
        result = operands[0]
        span = node.terms[0].value.span
        for term, operand in zip(node.terms[1:], operands[1:], strict=True):
            here = term.value.span
            joined = (
                self._matmul(result, operand, span, here)
                if term.operator == "@"
                else self._arithmetic(result, term.operator, operand, span, here)
            )
            if joined is None:
                return None
            result = joined
        return result

    def _arithmetic(
        self, left: ir.Expr, operator: str, right: ir.Expr, left_span: Span, right_span: Span
    ) -> ir.Expr | None:
        combined = self._combine(left.type, right.type, left_span, right_span)
        if combined is None:
            return None
        a, b = left.type.support.range, right.type.support.range
        match operator:
            case "+":
                range = s.add(a, b)
            case "-":
                range = s.add(a, s.negate(b))
            case "*":
                range = s.multiply(a, b)
            case _:
                range = s.real_valued(s.multiply(a, s.reciprocal(b)))
        value = _arithmetic(operator, left.type.value, right.type.value)
        if value is not None:
            range = s.point(value)
        size = _size_of(left, operator, right)
        if size is not None:
            return ir.DimValue(size, Type((), s.elementwise(range), number=True))
        first = ("+" if operator in "+-" else "*", left)
        head = left.terms if isinstance(left, ir.Chain) and _same_level(left, operator) else (first,)
        return ir.Chain((*head, (operator, right)), replace(combined, support=s.elementwise(range), value=value))

    def _combine(self, left: Type, right: Type, left_span: Span, right_span: Span) -> Type | None:
        """Shape, plates and stage of an element-wise operation; its support is the caller's."""
        event = unify(left.event, right.event)
        if event is None:
            self.report.add(errors.shapes_differ(show(left.event), left_span, show(right.event), right_span))
            return None
        return Type(
            event,
            s.support("real"),
            self.scope.sort((*left.plates, *right.plates)),
            max(left.stage, right.stage),
            left.number and right.number,
        )

    def _power(self, node: ast.Power) -> ir.Expr | None:
        operands = self.all((node.base, node.exponent))
        if operands is None:
            return None
        base, exponent = operands
        combined = self._combine(base.type, exponent.type, node.base.span, node.exponent.span)
        if combined is None:
            return None
        value = None
        if base.type.value is not None and exponent.type.value is not None:
            value = _power(base.type.value, exponent.type.value)
        range = s.point(value) if value is not None else s.power(base.type.support.range, exponent.type.value)
        return ir.Power(base, exponent, replace(combined, support=s.elementwise(range), value=value))

    def _compare(self, node: ast.Compare) -> ir.Expr | None:
        operands = self.all((node.left, node.right))
        if operands is None:
            return None
        left, right = operands
        combined = self._combine(left.type, right.type, node.left.span, node.right.span)
        if combined is None:
            return None
        return ir.Compare(node.operator, left, right, replace(combined, support=s.support("bool")))

    def _matmul(self, left: ir.Expr, right: ir.Expr, left_span: Span, right_span: Span) -> ir.Expr | None:
        a, b = left.type.event, right.type.event
        if not a or not b or len(a) > 2 or len(b) > 2:
            wrong, span = (left, left_span) if not a or len(a) > 2 else (right, right_span)
            hint = "`@` multiplies matrices and vectors; for numbers write `*`"
            shape = show(wrong.type.event)
            self.report.add(errors.wrong_shape("an operand of `@`", "[A] or [A, B]", shape, span, hint))
            return None
        if a[-1] != b[0]:
            why = f" under `@`: {a[-1]} is not {b[0]}"
            self.report.add(errors.shapes_differ(show(a), left_span, show(b), right_span, why))
            return None
        plates = self.scope.sort((*left.type.plates, *right.type.plates))
        stage = latest((left.type, right.type))
        return ir.MatMul(left, right, Type((*a[:-1], *b[1:]), _weighed(left.type, right.type), plates, stage))

    def _vector(self, node: ast.Vector) -> ir.Expr | None:
        items = self.all(node.items)
        if items is None:
            return None
        shapes = {item.type.event for item in items}
        if len(shapes) > 1:
            first, second = items[0], next(item for item in items if item.type.event != items[0].type.event)
            spans = node.items[0].span, node.items[items.index(second)].span
            self.report.add(errors.shapes_differ(show(first.type.event), spans[0], show(second.type.event), spans[1]))
            return None
        range = items[0].type.support.range
        for item in items[1:]:
            range = s.union(range, item.type.support.range)
        plates = self.scope.sort(plate for item in items for plate in item.type.plates)
        event = (Size.of(len(items)), *items[0].type.event)
        stack = ir.Stack(tuple(items), Type(event, s.elementwise(range), plates, latest(i.type for i in items)))
        kind = _stacked_kind(stack)
        return stack if kind is None else replace(stack, type=replace(stack.type, support=s.Support(kind, range)))

    # Calls

    def _call(self, node: ast.Call) -> ir.Expr | None:
        name = node.function.text
        if name in self.scope.callees:
            return one_value(node, self.scope.callees[name], self)
        if name in self.report.failed:  # a net or an extern whose declaration has its own finding
            self.each(argument.value for argument in node.arguments)
            return None
        if name in SPECIAL:
            return self.special.check(node)
        function = FUNCTIONS.get(name)
        if function is None:
            self._no_function(node.function)
            return None
        if function.shape == "lags":
            return self.special.lags(function, node)
        if function.shape == "construct":
            return self._construct(function, node)
        if function.shape == "signature":
            return self._signed(function, node)
        arguments = self.bind(function, node)
        if arguments is None:
            return None
        nodes, axis = arguments
        values = self.all(nodes)
        if values is None or not self._domains(function, nodes, values):
            return None
        match function.shape:
            case "elementwise":
                return self._elementwise(function, nodes, values)
            case _:
                return self._along_axes(function, node, values[0], axis)

    def _no_function(self, name: ast.Name) -> None:
        later = self.scope.later.get(name.text)
        if name.text in DISTRIBUTIONS:
            hint = f"a distribution stands after `~`, or in `log_prob({name.text}(…), x)`"
            self.report.add(errors.not_a_value(name.text, "a distribution", name.span, hint), name.text)
        elif later is not None:
            self.report.add(errors.used_before(name.text, name.span, later, "declared"), name.text)
        else:
            known = [*FUNCTIONS, *SPECIAL, *self.scope.callees]
            self.report.add(errors.unknown_function(name.text, name.span, known), name.text)

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
                fine = self.refuse(f"the argument of {function.name}", wanted, node, value)
        return fine

    def refuse(self, argument: str, wanted: str, node: ast.Expr, value: ir.Expr) -> bool:
        """Report an argument outside its support."""
        text = self.report.text(node.span)
        declared = None
        hint = f"use an expression that is {errors.be(wanted)}"
        into = _INTO.get(wanted)
        if into is not None:
            hint = f"`{into.format(text)}`, or declare what it is made of as {wanted}"
        elif s.KINDS[wanted].rank if wanted in s.KINDS else False:
            hint = f"`let x : {wanted}[K] = …` asserts it when the program runs"
        if isinstance(node, ast.Ref) and node.name in self.scope.symbols:
            symbol = self.scope.symbols[node.name]
            declared = symbol.span
            if symbol.role in ("param", "data", "latent", "aux"):
                hint = f"`{symbol.role} {node.name} : {wanted}`"
                if into is not None:
                    hint += f", or `{into.format(node.name)}`"
        elif value.type.value is not None:
            hint = f"give a value that is {errors.be(wanted)}"
        got = f"{value.type.support}" if value.type.value is None else f"{value.type.value:g}"
        self.report.add(
            errors.argument_support(argument, wanted, text, got, node.span, declared, hint), *references(node)
        )
        return False

    def _elementwise(self, function: Function, nodes: tuple[ast.Expr, ...], values: list[ir.Expr]) -> ir.Expr | None:
        type = values[0].type
        span = nodes[0].span
        for node, value in zip(nodes[1:], values[1:], strict=True):
            combined = self._combine(type, value.type, span, node.span)
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
        values = self.all(bound[0]) if bound is not None else None
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
                weighed = chosen.name == "dot"
                support = _weighed(values[0].type, values[1].type) if weighed else s.support(result.kind)
                type = Type(event, support, plates, latest(v.type for v in values))
                return ir.Apply(chosen, tuple(values), None, (), type)
        for argument, value, kind in zip(bound[0], values, _wanted(fitting[-1][0]), strict=True):
            if not value.type.support.within(kind):
                self.refuse(f"an argument of {function.name}", kind.kind, argument, value)
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
        sizes = [self.size(argument) for argument in positional[: len(positional) - values]]
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
        value = self.check(positional[-1])
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
        values = self.all(bound[0]) if bound else None
        if values is None:
            return None
        return ir.Apply(function, tuple(values), None, (), Type((), s.support("real"), stage=Stage.DATA))

    # Sizes

    def coordinates(self, latent: ir.Latent) -> Size | None:
        """The unconstrained coordinates of a latent, over the rows of the plates around it that are not open here."""
        if s.free_shape(latent.type.support, latent.type.event) is None:
            return None
        rows = [self.scope.plates[p].size for p in latent.plates if p not in self.scope.enclosing]
        return product((*rows, s.free_size(latent.type.support, latent.type.event)))

    def size(self, node: ast.Expr) -> Size | None:
        """A size: a number, a dim, or arithmetic over these."""
        scope = self.scope
        known = (scope.dims, scope.symbols, scope.later, scope.plates)
        if isinstance(node, ast.Ref) and not any(node.name in names for names in known):
            self.report.add(errors.unknown_dim(node.name, node.span, scope.dims), node.name)
            return None
        expr = self.check(node)
        if expr is None:
            return None
        size = as_size(expr)
        if size is None:
            self.report.add(errors.not_a_size(self.report.text(node.span), node.span))
            return None
        if size.constant is not None and size.constant < 1:
            self.report.add(errors.empty_size(str(size), node.span))
            return None
        return size


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


def _stacked_kind(stack: ir.Stack) -> str | None:
    """The structured kind of a vector: that of each of its rows, or `simplex` for numbers that add up to 1."""
    kinds = {item.type.support.kind if item.type.support.structured else None for item in stack.items}
    if len(stack.type.event) > 1:
        return kinds.pop() if len(kinds) == 1 else None
    sums_to_one = is_literal(stack) and not problem_of("simplex", stack)
    return "simplex" if sums_to_one or _complements(stack.items) else None


def _weighed(left: Type, right: Type) -> s.Support:
    """Where sums of products along a dim lie: what a simplex weighs stays in the hull of what it weighs."""
    a, b = left.support.range, right.support.range
    if left.support.kind == "simplex":
        if right.support.kind == "simplex" and len(right.event) > 1:
            return right.support
        return s.elementwise(s.real_valued(b))
    if right.support.kind == "simplex" and len(right.event) == 1:
        return s.elementwise(s.real_valued(a))
    for least in (s.POSITIVE, s.NONNEGATIVE):
        if a.within(least) and b.within(least):
            return s.elementwise(least)
    return s.support("real")


def _complements(items: tuple[ir.Expr, ...]) -> bool:
    """Whether these are `p, 1 - p` of a unit."""
    if len(items) != 2 or items[0].type.event or not items[0].type.support.range.within(s.UNIT):
        return False
    match items[1]:
        case ir.Chain(terms=(("+", ir.Const(value=1.0)), ("-", other))):
            return other == items[0]
    return False


_INTO = {"positive": "softplus({})", "unit": "inv_logit({})", "simplex": "softmax({})"}
"""What takes any real to a kind."""


def _size_of(left: ir.Expr, operator: str, right: ir.Expr) -> Size | None:
    """Arithmetic over dims stays a size where it is one."""
    if not isinstance(left, ir.DimValue) and not isinstance(right, ir.DimValue):
        return None
    a, b = as_size(left), as_size(right)
    if a is None or b is None:
        return None
    result = None
    match operator:
        case "+":
            result = a + b
        case "-":
            result = a - b
        case "*" if a.length * b.length <= _LONGEST_SIZE:
            result = a * b
        case "/" if b.constant is not None:
            result = a.divided(b.constant)
    return result if result is not None and result.length <= _LONGEST_SIZE and result.exact else None


def _same_level(chain: ir.Chain, operator: str) -> bool:
    """Whether `operator` may go on the end of `chain` without brackets."""
    additive = chain.terms[-1][0] in "+-"
    return additive == (operator in "+-")


def _arithmetic(operator: str, a: float | None, b: float | None) -> float | None:
    if a is None or b is None or (operator == "/" and b == 0):
        return None
    match operator:
        case "+":
            result = a + b
        case "-":
            result = a - b
        case "*":
            result = a * b
        case _:
            result = a / b
    return result if math.isfinite(result) else None


def _power(a: float, b: float) -> float | None:
    try:
        result = a**b
    except (OverflowError, ZeroDivisionError):
        return None
    return result if isinstance(result, float) else None


def _number(function: Function, values: list[float]) -> float | None:
    assert function.number is not None
    try:
        return float(function.number(*values))
    except (ValueError, OverflowError, ZeroDivisionError):
        return None
