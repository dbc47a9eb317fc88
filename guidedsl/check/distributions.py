"""Distributions with typed arguments: what they are over, its shape and support."""

from __future__ import annotations

from collections.abc import Iterator

from guidedsl import errors, ir
from guidedsl.check import signatures
from guidedsl.check.arguments import Call, Fitted, bind, constant, fit
from guidedsl.check.composites import Part, combine
from guidedsl.check.expressions import Expressions
from guidedsl.check.shapes import Event, latest, offset, show
from guidedsl.check.signatures import Notation
from guidedsl.check.types import NO_BOUNDS, bound_text, range_between
from guidedsl.ir import Dist, Type
from guidedsl.library import supports as s
from guidedsl.library.distributions import DISTRIBUTIONS
from guidedsl.library.supports import Support
from guidedsl.syntax import ast


def check_dist(node: ast.DistExpr, expressions: Expressions, target: Event | None) -> Dist | None:
    """The distribution with typed arguments, or None after reporting what is wrong with it.

    `target` is the event shape of what it is over; it binds letters that no argument binds, and tells a model's
    arguments what they are broadcast to.
    """
    name = node.name.text
    row = DISTRIBUTIONS.get(name)
    if row is None:
        expressions.report.add(errors.unknown_distribution(name, node.name.span, DISTRIBUTIONS), name)
        return None
    call = bind(node, row, expressions)
    if call is None:
        return None
    if row.rule is None:
        fitted = fit(call, expressions)
        return _typed(call, fitted, expressions, target) if fitted is not None else None
    parts = _parts(call, expressions, target)
    fitted = fit(call, expressions)
    if parts is None or fitted is None:
        return None
    return combine(call, fitted, parts, expressions)


def _parts(call: Call, expressions: Expressions, target: Event | None) -> list[Part] | None:
    """The arguments that are distributions, one by one."""
    name = next(argument.name for argument in call.form.arguments if argument.is_distribution)
    node = call.given[name]
    assert node is not None
    found: list[Part | None] = []
    for item in node.items if isinstance(node, ast.Vector) and call.row.rule == "mixture" else (node,):
        if not isinstance(item, ast.Call):
            problem = f"needs a distribution for `{name}`; `{expressions.report.text(item.span)}` is none"
            shown = signatures.signatures(call.row)
            expressions.report.add(errors.wrong_arguments(call.row.name, problem, item.span, shown))
            return None
        dist = check_dist(ast.DistExpr(item.function, item.arguments, item.span), expressions, target)
        found.append(Part(dist, item.span, isinstance(node, ast.Vector)) if dist is not None else None)
    present = [part for part in found if part is not None]
    return present if len(present) == len(found) else None


def inner_values(node: ast.DistExpr | ast.Call) -> Iterator[ast.Expr]:
    """The arguments that are values, those of distributions that are arguments among them."""
    for argument in node.arguments:
        items = argument.value.items if isinstance(argument.value, ast.Vector) else (argument.value,)
        if all(isinstance(item, ast.Call) and item.function.text in DISTRIBUTIONS for item in items):
            for item in items:
                assert isinstance(item, ast.Call)
                yield from inner_values(item)
        else:
            yield argument.value


def _typed(call: Call, fitted: Fitted, expressions: Expressions, target: Event | None) -> Dist | None:
    report = expressions.report
    row, letters = call.row, fitted.letters
    over = signatures.read(row.support)
    if target is not None and len(target) >= len(over.dims):
        for letter, size in zip(over.dims, target[len(target) - len(over.dims) :], strict=True):
            letters.setdefault(letter, size)
    if target is None and any(letter not in letters for letter in over.dims):
        return None
    if any(letter not in letters for letter in over.dims):
        wanted = f"[{', '.join(over.dims)}]"
        hint = f"declare it with brackets: `{over.kind}[K]`"
        report.add(errors.wrong_shape(f"what {row.name} is over", wanted, show(target or ()), call.node.span, hint))
        return None
    event = (*fitted.batch, *(letters[letter] for letter in over.dims))
    plates = expressions.scope.sort(plate for value in fitted.values for plate in value.type.plates)
    support, bounds = _support(over, call, fitted)
    if support.range.low > support.range.high or (
        support.range.low == support.range.high and not s.KINDS[over.kind].discrete
    ):
        report.add(errors.empty_support(f"{row.name}'s support {support}", call.node.span))
        return None
    type = Type(event, support, plates, latest(value.type for value in fitted.values))
    return Dist(row, call.form, fitted.values, fitted.ranks, len(over.dims), type, bounds)


def _support(notation: Notation, call: Call, fitted: Fitted) -> tuple[Support, ir.Bounds]:
    """The family's support with its arguments filled in."""
    if not notation.bounds:
        return s.support(notation.kind), NO_BOUNDS
    kind = s.KINDS[notation.kind]
    found = [_bound(text, call, fitted) for text in notation.bounds]
    by_name = {name: value for name, (_, value) in zip(kind.bounds, found, strict=True)}
    low, high = by_name.get("low"), by_name.get("high")
    return Support(notation.kind, range_between(low, high, kind), tuple(text for text, _ in found)), ir.Bounds(
        low, high
    )


def _bound(text: str, call: Call, fitted: Fitted) -> tuple[str, ir.Expr]:
    """A bound as text and value: an argument, a number, or a letter and an offset."""
    names = [argument.name for argument in call.form.values]
    if text in names:
        value, node = fitted.values[names.index(text)], call.given[text]
        return bound_text(value, node) if node is not None else text, value
    if text.split()[0] in fitted.letters:
        size = offset(text, fitted.letters)
        range = s.point(size.constant) if size.constant is not None else s.COUNT
        return str(size), ir.DimValue(size, Type((), s.elementwise(range), number=True))
    return text, constant(float(text))
