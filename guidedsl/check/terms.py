"""The density of a site of a model: its distribution, restricted to the declared type, and where it counts."""

from __future__ import annotations

from guidedsl import errors, ir
from guidedsl.check.composites import restrict
from guidedsl.check.cures import other_family
from guidedsl.check.distributions import check_dist
from guidedsl.check.expressions import Expressions
from guidedsl.check.misfits import too_wide
from guidedsl.check.shapes import fits, show
from guidedsl.check.types import Declared, moving_bound
from guidedsl.ir import Stage
from guidedsl.library import supports as s
from guidedsl.library.distributions import DISTRIBUTIONS
from guidedsl.syntax import ast

FLAT = "Flat"
"""The improper uniform density over a type: no family, so it is not in the registry."""

OBSERVED_POINT = "data is never exactly what a model says: give it a distribution with a scale"


def point_mass(name: str) -> str | None:
    """The registry's point mass, where `name` is what it or another library calls it."""
    rows = (row for row in DISTRIBUTIONS.values() if row.guide_only)
    return next((row.name for row in rows if name in (row.name, row.pyro)), None)


def site_dist(
    node: ast.Latent | ast.Observed, at: ast.DistExpr, declared: Declared, expressions: Expressions
) -> ir.Dist | str | None:
    """The distribution of a site, FLAT, or None after reporting what is wrong with it."""
    if at.name.text == FLAT:
        return _flat(node, at, declared, expressions)
    point = point_mass(at.name.text)
    if point is not None:
        value = f"let {node.name.text} = …"
        hint = f"what is known exactly is a `{value}`" if isinstance(node, ast.Latent) else OBSERVED_POINT
        expressions.report.add(errors.no_density(at.name.text, node.name.text, at.span, node.name.span, hint))
        return None
    dist = check_dist(at, expressions, declared.event)
    if dist is None:
        return None
    if not fits(dist.type.event, declared.event):
        wanted, got = show(declared.event), show(dist.type.event)
        cause = too_wide(at, dist, declared.event, expressions)
        if cause is None:
            finding = errors.shapes_differ(wanted, node.type.span, got, at.span)
        else:
            finding = errors.site_shape(node.name.text, wanted, got, cause[0], node.type.span, cause[1])
        expressions.report.add(finding)
        return None
    return dist


def _flat(
    node: ast.Latent | ast.Observed, at: ast.DistExpr, declared: Declared, expressions: Expressions
) -> str | None:
    if at.arguments or declared.support.row.discrete or isinstance(node, ast.Observed):
        problem = "takes no arguments" if at.arguments else "is for continuous latents"
        expressions.report.add(errors.flat_misused(node.name.text, problem, at.span))
        return None
    return FLAT


def condition(at: ast.Expr, declared: Declared, dist: ir.Dist | str | None, expressions: Expressions) -> ir.Expr | None:
    """The condition under which data counts."""
    when = expressions.check(at)
    if when is None:
        return None
    if not when.type.support.range.within(s.BOOL):
        expressions.refuse("the condition of `when`", "bool", at, when)
        return None
    if when.type.stage > Stage.DATA:
        expressions.report.add(errors.condition_not_data(expressions.report.text(at.span), at.span))
        return None
    one_by_one = not isinstance(dist, ir.Dist) or dist.own == 0
    if when.type.event and (when.type.event != declared.event or not one_by_one):
        shape, wanted = show(when.type.event), show(declared.event) if one_by_one else "[]"
        hint = "a condition is one value a row" + (", or one an entry" if one_by_one else ": this family is one event")
        expressions.report.add(errors.wrong_shape("the condition of `when`", wanted, shape, at.span, hint))
        return None
    return when


def restricted(
    node: ast.Latent | ast.Observed, at: ast.DistExpr, declared: Declared, dist: ir.Dist, expressions: Expressions
) -> tuple[ir.Dist, bool] | None:
    """The distribution as the declared type restricts it and whether it is normalised; None when it may not."""
    site = expressions.scope.positions(declared.support)
    family = dist.type.support
    shown, name, span = at.name.text, node.name.text, at.span
    places = span, node.type.span
    if isinstance(node, ast.Observed):
        if family.within(site, almost=True):
            return dist, True
        finding = errors.observed_narrower(
            name, str(declared.support), shown, str(family), *places, other_family(name, declared, dist)
        )
        expressions.report.add(finding, name)
        return None
    if not site.within(family, almost=True):
        finding = errors.latent_wider(
            name, str(declared.support), shown, str(family), *places, other_family(name, declared, dist)
        )
        expressions.report.add(finding, name)
        return None
    if site.range.integer and not family.range.integer:
        finding = errors.latent_of_another_kind(
            name, str(declared.support), shown, *places, other_family(name, declared, dist)
        )
        expressions.report.add(finding, name)
        return None
    if family.within(site, almost=True):
        return dist, True
    if not site.structured and not dist.own and dist.has_mass:
        return restrict(dist, site, declared.bounds), True
    bounds = [b for b in (declared.bounds.low, declared.bounds.high) if b is not None]
    if any(b.type.stage > Stage.DATA for b in bounds):
        expressions.report.add(errors.bounds_restrict(name, str(declared.support), shown, *places), name)
        return None
    if dist.type.stage <= Stage.DATA:
        return dist, False
    expressions.report.add(errors.cannot_restrict(name, str(declared.support), shown, *places), name)
    return None


def narrowed(declared: s.Support, dist: ir.Dist) -> bool:
    """Whether data of this type is checked against the narrower support of its distribution when it is bound."""
    return not declared.within(dist.type.support, almost=True) and moving_bound(dist.bounds) is None


def total_of(dist: ir.Dist) -> ir.Expr | None:
    """What the entries of data under this distribution add up to, where that is known when it is bound."""
    names = [argument.name for argument in dist.form.values]
    value = dist.arguments[names.index(dist.row.sums_to)] if dist.row.sums_to is not None else None
    return value if value is not None and value.type.stage <= Stage.DATA else None
