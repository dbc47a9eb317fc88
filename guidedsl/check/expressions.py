"""Expressions: names resolved, shapes unified by dim name, supports by interval arithmetic.

Every method returns the typed expression, or None after reporting what is wrong with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from guidedsl import errors, ir
from guidedsl.check.calls import one_value
from guidedsl.check.cures import cure
from guidedsl.check.functions import Functions
from guidedsl.check.indexing import Indexing
from guidedsl.check.operators import Operators
from guidedsl.check.scope import Report, Scope
from guidedsl.check.shapes import DIM_RANGE, as_size
from guidedsl.check.special import Special
from guidedsl.check.walk import references
from guidedsl.ir import Type
from guidedsl.library import supports as s
from guidedsl.library.distributions import DISTRIBUTIONS
from guidedsl.library.functions import FUNCTIONS, SPECIAL
from guidedsl.sizes import Size, product
from guidedsl.syntax import ast


class Expressions:
    """Types expressions in a scope."""

    def __init__(self, report: Report, scope: Scope) -> None:
        self.report = report
        self.scope = scope
        self.operators = Operators(self)
        self.functions = Functions(self)
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
            case ast.Negative() | ast.Chain() | ast.Power() | ast.Compare() | ast.Vector():
                return self.operators.check(node)
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
                in_scan = self.scope.steps is not None
                self.report.add(errors.used_before(name, node.span, later, verb, in_scan=in_scan), name)
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
            self.report.fail(name)  # said once, wherever else it is read
        return None

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
        return self.functions.check(function, node)

    def _no_function(self, name: ast.Name) -> None:
        later = self.scope.later.get(name.text)
        if name.text in DISTRIBUTIONS:
            hint = f"a distribution stands after `~`, or in `log_prob({name.text}(…), x)`"
            self.report.add(errors.not_a_value(name.text, "a distribution", name.span, hint), name.text)
        elif later is not None:
            self.report.add(errors.used_before(name.text, name.span, later, "declared", in_scan=False), name.text)
        else:
            known = [*FUNCTIONS, *SPECIAL, *self.scope.callees]
            self.report.add(errors.unknown_function(name.text, name.span, known), name.text)

    def refuse(self, argument: str, wanted: str, node: ast.Expr, value: ir.Expr) -> bool:
        """Report an argument outside its support."""
        text = self.report.text(node.span)
        symbol = self.scope.symbols.get(node.name) if isinstance(node, ast.Ref) else None
        declared = symbol.span if symbol is not None else None
        hint = cure(argument, wanted, node, text, value, self.scope)
        got = f"{value.type.support}" if value.type.value is None else f"{value.type.value:g}"
        self.report.add(
            errors.argument_support(argument, wanted, text, got, node.span, declared, hint), *references(node)
        )
        return False

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
            self.report.fail(node.name)
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
