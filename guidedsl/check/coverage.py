"""Whether what a guide samples from has the shape and the support of what it samples."""

from __future__ import annotations

from guidedsl import errors, ir
from guidedsl.check.cures import families_on
from guidedsl.check.expressions import Expressions
from guidedsl.check.misfits import too_wide
from guidedsl.check.shapes import carries, show
from guidedsl.ir import Bounds, Stage
from guidedsl.library import supports as s
from guidedsl.library.supports import Support
from guidedsl.sizes import Size
from guidedsl.source import Span
from guidedsl.syntax import ast


class Coverage:
    """Compares distributions with latents, where an expression checker stands."""

    def __init__(self, expressions: Expressions) -> None:
        self.expressions = expressions
        self.report = expressions.report
        self.scope = expressions.scope

    def covers(
        self,
        node: ast.Sample,
        latent: ir.Latent,
        dist: ir.Dist,
        pushed: tuple[Support, Bounds] | None,
        target: tuple[Size, ...],
    ) -> bool:
        """Whether the distribution has the latent's shape and support."""
        name, span = latent.name, node.dist.span
        if dist.not_drawn is not None:
            density, support = dist.not_drawn.row.name, str(latent.type.support)
            self.report.add(errors.not_drawn(density, name, support, span, latent.span), name)
            return False
        if not carries(dist.type.event, target):
            wanted, got = show(target), show(dist.type.event)
            if target != latent.type.event:
                self.report.add(errors.free_shape_differs(name, wanted, got, span, latent.span), name)
                return False
            cause = too_wide(node.dist, dist, target, self.expressions)
            hint = share_hint(name, target, dist) if cause is None else cause[1]
            if dist.type.event == s.free_shape(latent.type.support, target):
                hint = f"{got} are its unconstrained coordinates: write `{name} ~ {dist.row.name}(…) via type`"
            self.report.add(errors.missing_event_dims(name, wanted, got, span, latent.span, hint), name)
            return False
        wanted_support = s.support("real") if pushed is not None else latent.type.support
        if not dist.row.guide_only and not self.inside(dist.type.support, wanted_support):
            self._leaves(latent, dist, wanted_support, pushed is not None, span)
            return False
        if pushed is None and not dist.row.guide_only:
            self.smaller(latent, dist.type.support, span)
        if dist.row.guide_only and not self._point_inside(latent, dist, wanted_support, span):
            return False
        if not dist.row.reparameterised:
            self.report.add(errors.not_reparameterised(name, dist.row.name, span), name)
        return True

    def _point_inside(self, latent: ir.Latent, dist: ir.Dist, wanted: Support, span: Span) -> bool:
        value = dist.arguments[0]
        if value.type.stage is Stage.LATENT:
            self.report.add(errors.moves_with_aux(dist.row.name, latent.name, span, latent.span), latent.name)
            return False
        if self.inside(value.type.support, wanted):
            return True
        hint = (
            f"declare it `param {value.name} : {wanted}`" if isinstance(value, ir.Var) and value.role == "param" else ""
        )
        self._leaves(latent, dist, wanted, False, span, str(value.type.support), hint)
        return False

    def _leaves(
        self,
        latent: ir.Latent,
        dist: ir.Dist,
        wanted: Support,
        via: bool,
        span: Span,
        covers: str | None = None,
        hint: str = "",
    ) -> None:
        shown, type = dist.row.name, latent.type.support
        families = " or ".join(families_on(type, shown))
        other = f"take a distribution on {type}" + (f", such as {families}" if families else "")
        if via:
            hint = "`via` pushes a distribution over all reals: take Normal or another on real"
        elif not hint and (type.row.discrete or covers is not None):
            hint = other
        elif not hint and dist.type.support == s.support("real"):
            hint = f"`{latent.name} ~ {shown}(…) via type`, or `auto mean_field for {latent.name}`"
        hint = hint or f"{other}, or `auto mean_field for {latent.name}`"
        covered = covers or str(dist.type.support)
        finding = errors.support_leaves(latent.name, str(wanted), shown, covered, span, latent.span, hint)
        self.report.add(finding, latent.name)

    def inside(self, support: Support, model: Support) -> bool:
        return support.within(self.scope.positions(model), almost=True)

    def smaller(self, latent: ir.Latent, support: Support, span: Span) -> None:
        model = latent.type.support
        if not self.inside(model, support) and not self.scope.positions(model).within(support, almost=True):
            self.report.add(
                errors.support_smaller(latent.name, str(support), str(model), span, latent.span), latent.name
            )


def share_hint(name: str, target: tuple[Size, ...], dist: ir.Dist) -> str:
    """The edit that gives a distribution the event shape `target`."""
    if len(dist.type.event) >= len(target):
        return f"its arguments must have event shape {show(target)}"
    dims = ", ".join(str(size) for size in target)
    params = [arg.name for arg in dist.arguments if isinstance(arg, ir.Var) and arg.role == "param"]
    if params:
        first = params[0]
        return f"declare `{first}` with brackets, `[{dims}]`; to share one on purpose write `full({dims}, {first})`"
    return f"give an argument event shape {show(target)}: `full({dims}, …)` shares one value on purpose"
