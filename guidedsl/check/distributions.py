"""Distributions with their arguments: forms by name, shapes by letters, supports by the lattice."""

from __future__ import annotations

from guidedsl import errors, ir
from guidedsl.check import signatures
from guidedsl.check.expressions import Expressions
from guidedsl.check.shapes import Event, as_size, latest, match, show, unify
from guidedsl.check.signatures import Notation
from guidedsl.check.structured import is_literal, problem_of
from guidedsl.check.types import bound_text
from guidedsl.check.walk import literals
from guidedsl.ir import Dist, Type
from guidedsl.library import supports as s
from guidedsl.library.distributions import DISTRIBUTIONS, Distribution, Form
from guidedsl.library.supports import Support
from guidedsl.sizes import Size
from guidedsl.syntax import ast

_USUAL_SCALES = (0.01, 10.0)


def check_dist(node: ast.DistExpr, expressions: Expressions, target: Event | None) -> Dist | None:
    """The distribution with typed arguments, or None after reporting what is wrong with it.

    `target` is the event shape of what it is over; it binds letters that no argument binds, and tells a model's
    arguments what they are broadcast to.
    """
    report = expressions.report
    name = node.name.text
    row = DISTRIBUTIONS.get(name)
    if row is None:
        report.add(errors.unknown_distribution(name, node.name.span, DISTRIBUTIONS), name)
        return None
    bound = _bind(node, row, expressions)
    if bound is None:
        return None
    form, nodes = bound
    values = _values(form, nodes, expressions)
    if values is None:
        return None
    return _typed(node, row, form, nodes, values, expressions, target)


def _bind(
    node: ast.DistExpr, row: Distribution, expressions: Expressions
) -> tuple[Form, tuple[ast.Expr | None, ...]] | None:
    """The form that the names pick, and its arguments in order; None for one left to its default."""
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
        return form, tuple(given.get(name) for name in names)
    report.add(errors.wrong_arguments(row.name, problem or "has no form with these arguments", node.span, shown))
    return None


def _values(form: Form, nodes: tuple[ast.Expr | None, ...], expressions: Expressions) -> list[ir.Expr] | None:
    values: list[ir.Expr | None] = []
    for argument, node in zip(form.arguments, nodes, strict=True):
        if node is None:
            assert argument.default is not None
            default = argument.default
            values.append(ir.Const(default, Type((), s.elementwise(s.point(default)), number=True, value=default)))
        else:
            values.append(expressions.check(node))
    present = [value for value in values if value is not None]
    return present if len(present) == len(values) else None


def _typed(
    node: ast.DistExpr,
    row: Distribution,
    form: Form,
    nodes: tuple[ast.Expr | None, ...],
    values: list[ir.Expr],
    expressions: Expressions,
    target: Event | None,
) -> Dist | None:
    report, scope = expressions.report, expressions.scope
    letters: dict[str, Size] = {}
    batch: Event = ()
    batch_span = node.span
    notations = [signatures.read(argument.type) for argument in form.arguments]
    for argument, notation, value, at in zip(form.arguments, notations, values, nodes, strict=True):
        span = at.span if at is not None else node.span
        event, rank = value.type.event, len(notation.dims)
        if rank and not event and value.type.number and not scope.in_guide and not s.KINDS[notation.kind].rank:
            continue
        if len(event) < rank or not match(notation.dims, event, letters):
            wanted = show(tuple(letters.get(letter, Size.of(letter)) for letter in notation.dims))
            hint = f"signature: {signatures.signature(row, form)}"
            report.add(errors.wrong_shape(f"{argument.name} of {row.name}", wanted, show(event), span, hint))
            return None
        joined = unify(batch, event[: len(event) - rank])
        if joined is None:
            own = event[: len(event) - rank]
            report.add(errors.shapes_differ(show(batch), batch_span, show(own), span))
            return None
        batch, batch_span = joined, span if len(joined) > len(batch) else batch_span
    fine = [
        _support_fits(row, argument.name, notation, value, at, letters, expressions)
        for argument, notation, value, at in zip(form.arguments, notations, values, nodes, strict=True)
    ]
    if not all(fine):
        return None
    over = signatures.read(row.support)
    if target is not None and len(target) >= len(over.dims):
        for letter, size in zip(over.dims, target[len(target) - len(over.dims) :], strict=True):
            letters.setdefault(letter, size)
    if target is None and any(letter not in letters for letter in over.dims):
        return None
    if any(letter not in letters for letter in over.dims):
        wanted = f"[{', '.join(over.dims)}]"
        hint = f"declare it with brackets: `{over.kind}[K]`"
        report.add(errors.wrong_shape(f"what {row.name} is over", wanted, show(target or ()), node.span, hint))
        return None
    event = (*batch, *(letters[letter] for letter in over.dims))
    plates = scope.sort(plate for value in values for plate in value.type.plates)
    support = _support(over, form, values, nodes, letters)
    if support.range.low > support.range.high or (
        support.range.low == support.range.high and not s.KINDS[over.kind].discrete
    ):
        report.add(errors.empty_support(f"{row.name}'s support {support}", node.span))
        return None
    _warn_scale(row, form, values, node, expressions)
    type = Type(event, support, plates, latest(value.type for value in values))
    return Dist(row, form, tuple(values), tuple(len(n.dims) for n in notations), len(over.dims), type)


def _support_fits(
    row: Distribution,
    argument: str,
    notation: Notation,
    value: ir.Expr,
    node: ast.Expr | None,
    letters: dict[str, Size],
    expressions: Expressions,
) -> bool:
    wanted = s.support(notation.kind)
    if notation.bounds:
        wanted = _bounded(notation, letters)
        size = as_size(value)
        over = size - _offset(notation.bounds[0], letters) if size is not None else None
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
    size = _offset(notation.bounds[0], letters)
    low = float(size.constant) if size.constant is not None else -s.INF
    return Support(notation.kind, s.Range(low, s.INF), (str(size),))


def _offset(text: str, letters: dict[str, Size]) -> Size:
    """`K - 1`, for the size that K stands for."""
    words = text.split()
    size = letters.get(words[0], Size.of(words[0]))
    return size - Size.of(int(words[2])) if len(words) == 3 else size


def _warn_scale(
    row: Distribution, form: Form, values: list[ir.Expr], node: ast.DistExpr, expressions: Expressions
) -> None:
    """W606: a literal scale on the log scale that is likely meant on the natural one."""
    names = [argument.name for argument in form.arguments]
    if row.scale_on_log not in names:
        return
    scales = literals(values[names.index(row.scale_on_log)])
    odd = next((scale for scale in scales if not _USUAL_SCALES[0] <= scale <= _USUAL_SCALES[1]), None)
    if odd is not None:
        expressions.report.add(errors.odd_scale(row.name, f"{odd:g}", node.span))


def _support(
    notation: Notation,
    form: Form,
    values: list[ir.Expr],
    nodes: tuple[ast.Expr | None, ...],
    letters: dict[str, Size],
) -> Support:
    """The family's support with its arguments filled in."""
    if not notation.bounds:
        return s.support(notation.kind)
    named = {a.name: (value, node) for a, value, node in zip(form.arguments, values, nodes, strict=True)}
    bounds = [_bound(text, named, letters) for text in notation.bounds]
    kind = s.KINDS[notation.kind]
    low = next((b for b, n in zip(bounds, kind.bounds, strict=True) if n == "low"), ("", s.REAL))
    high = next((b for b, n in zip(bounds, kind.bounds, strict=True) if n == "high"), ("", s.REAL))
    range = s.Range(low[1].low, high[1].high, kind.discrete, kind.discrete, kind.discrete)
    return Support(notation.kind, range, tuple(text for text, _ in bounds))


def _bound(
    text: str,
    named: dict[str, tuple[ir.Expr, ast.Expr | None]],
    letters: dict[str, Size],
) -> tuple[str, s.Range]:
    """A bound as text and hull: an argument, a number, or a letter and an offset."""
    if text in named:
        value, node = named[text]
        return bound_text(value, node) if node is not None else text, value.type.support.range
    words = text.split()
    if words[0] in letters:
        size = _offset(text, letters)
        constant = size.constant
        range = s.point(constant) if constant is not None else s.Range(0, s.INF, True, False, True)
        return str(size), range
    return text, s.point(float(text))


def comparable(support: Support, size_of_target: Size | None) -> Support:
    """An index as the integers that it stands for, so that it compares with a distribution's support."""
    if support.target is None or size_of_target is None:
        return support
    last = (size_of_target - Size.of(1)).constant
    range = s.COUNT if last is None else s.Range(0, last, True, True, integer=True)
    return Support("int", range, ("0", str(size_of_target - Size.of(1))))
