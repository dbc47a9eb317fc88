"""Arguments of distributions: forms by name, shapes by letters, supports by the lattice."""

from __future__ import annotations

from dataclasses import dataclass

from guidedsl import errors, ir
from guidedsl.check import signatures
from guidedsl.check.expressions import Expressions
from guidedsl.check.shapes import Event, as_size, match, offset, show, unify
from guidedsl.check.signatures import Notation
from guidedsl.check.structured import is_literal, problem_of
from guidedsl.check.walk import literals
from guidedsl.ir import Type
from guidedsl.library import supports as s
from guidedsl.library.distributions import Distribution, Form
from guidedsl.library.supports import Support
from guidedsl.sizes import Size
from guidedsl.syntax import ast

_USUAL_SCALES = (0.01, 10.0)


@dataclass(frozen=True)
class Call:
    """A distribution as written, with the form that its arguments pick; an argument left to its default is None."""

    node: ast.DistExpr
    row: Distribution
    form: Form
    given: dict[str, ast.Expr | None]


@dataclass(frozen=True)
class Fitted:
    """The values of a call's arguments, the sizes of its letters, and the event dims left of the arguments' own."""

    values: tuple[ir.Expr, ...]
    letters: dict[str, Size]
    batch: Event
    ranks: tuple[int, ...]


def bind(node: ast.DistExpr, row: Distribution, expressions: Expressions) -> Call | None:
    """The form that the names pick."""
    report = expressions.report
    shown = signatures.signatures(row)
    keywords = [a.keyword for a in node.arguments if a.keyword is not None]
    positional = [a.value for a in node.arguments if a.keyword is None]
    known = {argument.name for form in row.forms for argument in form.arguments}
    for keyword in keywords:
        if keyword.text not in known:
            report.add(errors.no_argument(row.name, keyword.text, keyword.span, shown))
            return None
    problem = ""
    for form in row.forms:
        names = [argument.name for argument in form.arguments]
        if len(positional) > len(names):
            problem = problem or f"takes {len(names)} arguments, {len(node.arguments)} given"
            continue
        given: dict[str, ast.Expr] = dict(zip(names, positional, strict=False))
        if any(keyword.text not in names for keyword in keywords):
            continue
        repeated = [keyword.text for keyword in keywords if keyword.text in given]
        if repeated:
            problem = f"gets `{repeated[0]}` twice"
            continue
        given |= {a.keyword.text: a.value for a in node.arguments if a.keyword is not None}
        missing = [a.name for a in form.arguments if a.name not in given and a.default is None]
        if missing:
            problem = problem or f"lacks {' and '.join(f'`{m}`' for m in missing)}"
            continue
        return Call(node, row, form, {name: given.get(name) for name in names})
    report.add(errors.wrong_arguments(row.name, problem or "has no form with these arguments", node.span, shown))
    return None


def fit(call: Call, expressions: Expressions) -> Fitted | None:
    """The arguments that are values, of agreeing shapes and in their supports; None after reporting what is wrong."""
    values = _values(call, expressions)
    if values is None:
        return None
    report, scope = expressions.report, expressions.scope
    letters: dict[str, Size] = {}
    batch: Event = ()
    batch_span = call.node.span
    notations = [signatures.read(argument.type) for argument in call.form.values]
    for argument, notation, value in zip(call.form.values, notations, values, strict=True):
        at = call.given[argument.name]
        span = at.span if at is not None else call.node.span
        event, rank = value.type.event, len(notation.dims)
        shared = rank > 0 and not event and value.type.number and not scope.in_guide
        if shared and not s.KINDS[notation.kind].rank and _bound_by_site(call.row, notation):
            continue
        if len(event) < rank or not match(notation.dims, event, letters):
            wanted = show(tuple(offset(letter, letters) for letter in notation.dims))
            hint = f"signature: {signatures.signature(call.row, call.form, letters)}"
            report.add(errors.wrong_shape(f"{argument.name} of {call.row.name}", wanted, show(event), span, hint))
            return None
        joined = unify(batch, event[: len(event) - rank])
        if joined is None:
            own = event[: len(event) - rank]
            report.add(errors.shapes_differ(show(batch), batch_span, show(own), span))
            return None
        batch, batch_span = joined, span if len(joined) > len(batch) else batch_span
    fine = [
        _support_fits(call, argument.name, notation, value, letters, expressions)
        for argument, notation, value in zip(call.form.values, notations, values, strict=True)
    ]
    if not all(fine):
        return None
    _warn_scale(call, values, expressions)
    return Fitted(values, letters, batch, tuple(len(notation.dims) for notation in notations))


def _bound_by_site(row: Distribution, notation: Notation) -> bool:
    """Whether a site's event says how long an argument is, so that one number may stand for all of it."""
    return row.rule is not None or notation.letters <= signatures.read(row.support).letters


def _values(call: Call, expressions: Expressions) -> tuple[ir.Expr, ...] | None:
    values: list[ir.Expr | None] = []
    for argument in call.form.values:
        node = call.given[argument.name]
        if node is None:
            assert argument.default is not None
            values.append(constant(argument.default))
        else:
            values.append(expressions.check(node))
    present = tuple(value for value in values if value is not None)
    return present if len(present) == len(values) else None


def constant(value: float) -> ir.Const:
    """A number of the checker's own."""
    return ir.Const(value, Type((), s.elementwise(s.point(value)), number=True, value=value))


def _support_fits(
    call: Call,
    argument: str,
    notation: Notation,
    value: ir.Expr,
    letters: dict[str, Size],
    expressions: Expressions,
) -> bool:
    row, node = call.row, call.given[argument]
    wanted = s.support(notation.kind)
    if notation.bounds:
        wanted = _bounded(notation, letters)
        size = as_size(value)
        over = size - offset(notation.bounds[0], letters) if size is not None else None
        if over is not None and over.constant is not None and over.constant > 0:
            return True
    if node is None or value.type.support.within(wanted):
        return True
    if wanted.structured and isinstance(value, ir.Stack) and is_literal(value):
        problem = problem_of(wanted.kind, value)
        if problem:
            hint = f"give a {wanted.kind}"
            expressions.report.add(errors.literal_argument(argument, row.name, wanted.kind, problem, node.span, hint))
        return not problem
    if notation.bounds and wanted.range == s.REAL and value.type.support.range.within(s.POSITIVE):
        return True
    return expressions.refuse(f"{argument} of {row.name}", str(wanted), node, value)


def _bounded(notation: Notation, letters: dict[str, Size]) -> Support:
    """A bound that counts dims, such as `greater_than(K - 1)`; only above zero where the dim is not known."""
    size = offset(notation.bounds[0], letters)
    low = float(size.constant) if size.constant is not None else -s.INF
    return Support(notation.kind, s.Range(low, s.INF), (str(size),))


def _warn_scale(call: Call, values: tuple[ir.Expr, ...], expressions: Expressions) -> None:
    """W606: a literal scale on the log scale that is likely meant on the natural one."""
    row, names = call.row, [argument.name for argument in call.form.values]
    if row.scale_on_log not in names:
        return
    scales = literals(values[names.index(row.scale_on_log)])
    odd = next((scale for scale in scales if not _USUAL_SCALES[0] <= scale <= _USUAL_SCALES[1]), None)
    if odd is not None:
        expressions.report.add(errors.odd_scale(row.name, f"{odd:g}", call.node.span))
