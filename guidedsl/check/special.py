"""Functions whose shape rule is their own: densities, sizes, free coordinates, concatenation and lags."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from guidedsl import errors, ir
from guidedsl.check.shapes import DIM_RANGE, NEW, as_size, latest, show, unify
from guidedsl.check.walk import references
from guidedsl.ir import Type
from guidedsl.library import supports as s
from guidedsl.library.functions import SPECIAL, Function
from guidedsl.sizes import Size, total
from guidedsl.syntax import ast

if TYPE_CHECKING:
    from guidedsl.check.expressions import Expressions


class Special:
    """Types calls of these functions for an expression checker."""

    def __init__(self, expressions: Expressions) -> None:
        self.expressions = expressions
        self.report = expressions.report
        self.scope = expressions.scope

    def check(self, node: ast.Call) -> ir.Expr | None:
        positional = tuple(argument.value for argument in node.arguments)
        usage = (SPECIAL[node.function.text].split(":")[0],)
        if any(argument.keyword for argument in node.arguments):
            self.report.add(errors.wrong_arguments(node.function.text, "takes no names", node.span, usage))
            return None
        match node.function.text:
            case "size":
                return self._size_function(node, positional, usage)
            case "free":
                return self._free(node, positional, usage)
            case "log_prob":
                return self._log_prob(node, positional, usage)
            case "concat":
                return self._concat(node, positional, usage)
            case _:
                return self._lag(node, positional, usage)

    def _latents(self, node: ast.Call, names: tuple[ast.Expr, ...], usage: tuple[str, ...]) -> list[ir.Latent] | None:
        found: list[ir.Latent] = []
        for name in names:
            latent = self.scope.latents.get(name.name) if isinstance(name, ast.Ref) else None
            if latent is None:
                problem = f"takes latents; `{self.report.text(name.span)}` is none"
                self.report.add(errors.wrong_arguments(node.function.text, problem, name.span, usage))
                return None
            found.append(latent)
        if not found:
            self.report.add(errors.wrong_arguments(node.function.text, "takes latents", node.span, usage))
            return None
        return found

    def _size_function(self, node: ast.Call, names: tuple[ast.Expr, ...], usage: tuple[str, ...]) -> ir.Expr | None:
        latents = self._latents(node, names, usage)
        if latents is None:
            return None
        sizes = [self.expressions.coordinates(latent) for latent in latents]
        for latent, size, name in zip(latents, sizes, names, strict=True):
            if size is None:
                problem = f"`{latent.name} : {latent.type.support}` has no unconstrained coordinates"
                self.report.add(errors.wrong_arguments("size", problem, name.span, usage))
                return None
        result = total(size for size in sizes if size is not None)
        return ir.DimValue(result, Type((), s.elementwise(DIM_RANGE), number=True))

    def _free(self, node: ast.Call, names: tuple[ast.Expr, ...], usage: tuple[str, ...]) -> ir.Expr | None:
        latents = self._latents(node, names[:1], usage)
        base = self.expressions.check(names[0]) if latents else None
        if latents is None or base is None:
            return None
        size = self.expressions.coordinates(latents[0])
        if size is None:
            problem = f"`{latents[0].name}` has no unconstrained coordinates"
            self.report.add(errors.wrong_arguments("free", problem, node.span, usage))
            return None
        return ir.Free(base, latents[0], replace(base.type, event=(size,), support=s.support("real")))

    def _log_prob(self, node: ast.Call, given: tuple[ast.Expr, ...], usage: tuple[str, ...]) -> ir.Expr | None:
        from guidedsl.check.distributions import check_dist

        if len(given) != 2 or not isinstance(given[0], ast.Call):
            self.report.add(errors.wrong_arguments("log_prob", "takes a distribution and a value", node.span, usage))
            return None
        value = self.expressions.check(given[1])
        if value is None:
            return None
        dist = check_dist(
            ast.DistExpr(given[0].function, given[0].arguments, given[0].span), self.expressions, value.type.event
        )
        if dist is None:
            return None
        event = unify(dist.type.event, value.type.event)
        if event is None:
            shapes = show(dist.type.event), show(value.type.event)
            self.report.add(errors.shapes_differ(shapes[0], given[0].span, shapes[1], given[1].span))
            return None
        known = self.scope.positions(value.type.support)
        if not self._may_lie(dist, known, value, given):
            return None
        value = replace(value, type=replace(value.type, support=known))
        plates = self.scope.sort((*dist.type.plates, *value.type.plates))
        stage = max(dist.type.stage, value.type.stage)
        left = event[: len(event) - dist.own]
        return ir.LogProb(dist, value, Type(left, s.support("real"), plates, stage))

    def _may_lie(self, dist: ir.Dist, known: s.Support, value: ir.Expr, given: tuple[ast.Expr, ...]) -> bool:
        """Whether the value can be in the support; what is not shown to be is checked element by element as it runs."""
        wanted = dist.type.support
        if wanted.structured and not known.within(wanted, almost=True):
            return self.expressions.refuse(f"what {dist.row.name} is over", str(wanted), given[1], value)
        if not wanted.structured and known.range.apart(wanted.range):
            finding = errors.outside_support(
                f"`{self.report.text(given[1].span)}`",
                dist.row.name,
                str(wanted),
                str(known),
                given[1].span,
                given[0].span,
            )
            self.report.add(finding, *references(given[1]))
            return False
        return True

    def _concat(self, node: ast.Call, given: tuple[ast.Expr, ...], usage: tuple[str, ...]) -> ir.Expr | None:
        parts = self.expressions.all(given)
        if not parts:
            return None
        for part, at in zip(parts, given, strict=True):
            if len(part.type.event) != 1:
                shape = show(part.type.event)
                self.report.add(
                    errors.wrong_shape("a part of concat", "[K]", shape, at.span, "write `[x]` for one number")
                )
                return None
        range = parts[0].type.support.range
        for part in parts[1:]:
            range = s.union(range, part.type.support.range)
        event = (total(Size.of(1) if part.type.event[0] == NEW else part.type.event[0] for part in parts),)
        plates = self.scope.sort(plate for part in parts for plate in part.type.plates)
        return ir.Concat(tuple(parts), Type(event, s.elementwise(range), plates, latest(p.type for p in parts)))

    def _lag(self, node: ast.Call, given: tuple[ast.Expr, ...], usage: tuple[str, ...]) -> ir.Expr | None:
        if len(given) != 2:
            self.report.add(errors.wrong_arguments("lag", "takes a vector and a number of steps", node.span, usage))
            return None
        values = self.expressions.all(given)
        steps = as_size(values[1]) if values else None
        if values is None:
            return None
        if steps is None or len(values[0].type.event) != 1:
            self.report.add(errors.wrong_arguments("lag", "takes a vector and a number of steps", node.span, usage))
            return None
        if steps.constant is not None and steps.constant < 0:
            self.report.add(errors.wrong_arguments("lag", "cannot look ahead", given[1].span, usage))
            return None
        size = values[0].type.event[0] - steps
        stop = ir.DimValue(size, Type((), s.elementwise(DIM_RANGE), number=True))
        support = s.elementwise(values[0].type.support.range)
        return ir.Subscript(values[0], (ir.Range(None, stop),), replace(values[0].type, event=(size,), support=support))

    def lags(self, function: Function, node: ast.Call) -> ir.Expr | None:
        bound = self.expressions.functions.bind(function, node)
        values = self.expressions.all(bound[0]) if bound else None
        if values is None:
            return None
        steps, event = as_size(values[1]), values[0].type.event
        if steps is None or len(event) != 1 or (steps.constant is not None and steps.constant < 1):
            usage = ("lags(y, K)",)
            self.report.add(errors.wrong_arguments("lags", "takes a vector and a number of steps", node.span, usage))
            return None
        support = s.elementwise(function.range(values[0].type.support.range))
        type = replace(values[0].type, event=(event[0] - steps, steps), support=support)
        return ir.Apply(function, (values[0],), None, (steps,), type)
