"""What a guide samples: latents one by one or jointly, and its own randomness."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from guidedsl import errors, ir
from guidedsl.check.coverage import Coverage, share_hint
from guidedsl.check.distributions import check_dist, inner_values
from guidedsl.check.expressions import Expressions
from guidedsl.check.scope import Symbol
from guidedsl.check.shapes import carries, show
from guidedsl.check.terms import FLAT, point_mass
from guidedsl.check.types import check_type
from guidedsl.check.walk import variables
from guidedsl.ir import Bounds, Stage
from guidedsl.library import supports as s
from guidedsl.library.distributions import DISTRIBUTIONS
from guidedsl.library.supports import Support
from guidedsl.sizes import Size, total
from guidedsl.source import Span
from guidedsl.syntax import ast

if TYPE_CHECKING:
    from guidedsl.check.guides import GuideChecker


class Draws:
    """Types the statements that sample, for a guide and at one place in it."""

    def __init__(self, guide: GuideChecker, expressions: Expressions) -> None:
        self.guide = guide
        self.expressions = expressions
        self.report = expressions.report
        self.coverage = Coverage(expressions)

    def sample(self, node: ast.Sample) -> None:
        enclosing = self.expressions.scope.enclosing
        latent = self.guide.claim(node.name)
        if latent is None:
            self.expressions.each(inner_values(node.dist))
            return
        if latent.plates != enclosing:
            self.report.add(
                errors.wrong_plates(latent.name, latent.plates, enclosing, node.name.span, latent.span), latent.name
            )
            self.guide.known(latent)
            return
        if self._deterministic(node, latent):
            self.guide.known(latent)
            return
        pushed = self._via(node, latent)
        target = latent.type.event
        if node.via is not None and pushed is not None:
            target = s.free_shape(pushed[0], latent.type.event) or target
        dist = check_dist(node.dist, self.expressions, target)
        self.guide.known(latent)
        if dist is None or (node.via is not None and pushed is None):
            return
        if not self.coverage.covers(node, latent, dist, pushed, target):
            return
        if not self.guide.in_auto:
            self._shared(node, latent, dist)
        self.guide.statements.append(ir.Draw(latent.name, dist, latent, pushed, latent.type, enclosing, node.span))

    def _shared(self, node: ast.Sample, latent: ir.Latent, dist: ir.Dist) -> None:
        """Warn of rows that are drawn alike, from params that stand outside of their plate."""
        params = [var.name for var in variables(dist) if var.role == "param"]
        alike = [plate for plate in latent.plates if plate not in dist.type.plates]
        if params and alike:
            plate = self.guide.plates[alike[-1]]
            declared = self.guide.symbols[params[0]].span
            finding = errors.rows_alike(latent.name, plate.name, params[0], plate.batching, node.dist.span, declared)
            self.report.add(finding, latent.name)

    def _via(self, node: ast.Sample, latent: ir.Latent) -> tuple[Support, Bounds] | None:
        """The support that `via` pushes onto, with its bounds."""
        if node.via is None:
            return None
        if node.via.name.text == "type" and not node.via.arguments and not node.via.dims:
            support, bounds = latent.type.support, latent.bounds
            if not self._bounds_known(latent, node.via.span):
                return None
        else:
            declared = check_type(_with_dims(node.via, latent.type.event), self.expressions)
            if declared is None:
                return None
            support, bounds = declared.support, declared.bounds
        if support.row.free is None:
            self.report.add(errors.no_bijection("`via`", latent.name, str(support), node.via.span, latent.span))
            return None
        if not self.coverage.inside(support, latent.type.support):
            hint = f"write `via type`, which pushes onto {latent.type.support}"
            self.report.add(
                errors.support_leaves(
                    latent.name,
                    str(latent.type.support),
                    f"via {support}",
                    str(support),
                    node.via.span,
                    latent.span,
                    hint,
                )
            )
            return None
        self.coverage.smaller(latent, support, node.via.span)
        return support, bounds

    def _deterministic(self, node: ast.Sample, latent: ir.Latent) -> bool:
        """Whether the site is given a value instead of a density, under another library's name for that."""
        name = node.dist.name.text
        if name == FLAT:
            self.report.add(errors.improper(name, latent.name, node.dist.span, latent.span), latent.name)
            return True
        if point_mass(name) is None or name in DISTRIBUTIONS or latent.type.support.row.discrete:
            return False
        self.report.add(errors.no_density(name, latent.name, node.dist.span, latent.span), latent.name)
        return True

    def _bounds_known(self, latent: ir.Latent, span: Span) -> bool:
        """Whether the latents that the bounds of this one read are sampled above."""
        for var in variables((latent.bounds.low, latent.bounds.high)):
            if var.role == "latent" and var.name not in self.guide.symbols:
                if var.name in self.guide.enumerated:
                    finding = errors.enumerated_bound(latent.name, var.name, span, self.guide.enumerated[var.name])
                    self.report.add(finding, var.name, latent.name)
                    return False
                other = self.guide.latents.get(var.name)
                if other is not None and self.guide.later.get(var.name) is not None:
                    finding = errors.bounds_before(
                        latent.name, var.name, span, self.guide.later[var.name] or other.span
                    )
                    self.report.add(finding, var.name, latent.name)
                return False
        return True

    def joint(self, node: ast.Joint) -> None:
        enclosing = self.expressions.scope.enclosing
        claimed = [self.guide.claim(name) for name in node.names]
        latents = [latent for latent in claimed if latent is not None]
        if len(latents) < len(claimed) or not self._may_join(node, latents, enclosing):
            for latent in latents:
                self.guide.known(latent)
            return
        sizes = [self.expressions.coordinates(latent) for latent in latents]
        size = total(part for part in sizes if part is not None)
        dist = check_dist(node.dist, self.expressions, (size,))
        for latent in latents:
            self.guide.known(latent)
        if dist is None:
            return
        names = ", ".join(latent.name for latent in latents)
        if not carries(dist.type.event, (size,)):
            shapes = f"[size({names})] = {show((size,))}", show(dist.type.event)
            hint = f"give its arguments the size `size({names})`"
            self.report.add(errors.joint_shape(names, shapes[0], shapes[1], node.dist.span, latents[0].span, hint))
            return
        if not dist.type.support.within(s.support("real")) or not s.support("real").within(dist.type.support):
            support = str(dist.type.support)
            self.report.add(errors.joint_support(names, dist.row.name, support, node.dist.span, latents[0].span))
            return
        if not dist.row.reparameterised:
            self.report.add(errors.not_reparameterised(names, dist.row.name, node.dist.span), *names.split(", "))
        self.guide.statements.append(ir.JointDraw(dist, tuple(latents), enclosing, node.span))

    def _may_join(self, node: ast.Joint, latents: list[ir.Latent], enclosing: tuple[str, ...]) -> bool:
        for latent, name in zip(latents, node.names, strict=True):
            if s.free_shape(latent.type.support, latent.type.event) is None:
                support = str(latent.type.support)
                self.report.add(
                    errors.no_bijection("a joint", latent.name, support, name.span, latent.span), latent.name
                )
                return False
            if not set(enclosing) <= set(latent.plates):
                self.report.add(
                    errors.wrong_plates(latent.name, latent.plates, enclosing, name.span, latent.span), latent.name
                )
                return False
            for plate in latent.plates:
                mode = self.guide.plates[plate].batching
                if plate not in enclosing and mode is not None:
                    self.report.add(
                        errors.joint_in_subsampled("joint", latent.name, plate, mode, name.span, latent.span),
                        latent.name,
                    )
                    return False
        return True

    def aux(self, node: ast.Aux) -> None:
        enclosing = self.expressions.scope.enclosing
        declared = check_type(node.type, self.expressions)
        dist = check_dist(node.dist, self.expressions, declared.event if declared is not None else None)
        if declared is None:
            self.guide.lost(node.name)
            return
        type = declared.type(enclosing, Stage.LATENT)
        if (
            not self.guide.declare(node.name, Symbol(node.name.text, "aux", type, enclosing, node.name.span))
            or dist is None
        ):
            return
        if dist.row.guide_only:
            hint = f"what is known exactly is a value: `let {node.name.text} = …`"
            self.report.add(errors.no_density(dist.row.name, node.name.text, node.dist.span, node.name.span, hint))
            return
        if dist.not_drawn is not None:
            density, support = dist.not_drawn.row.name, str(declared.support)
            self.report.add(
                errors.not_drawn(density, node.name.text, support, node.dist.span, node.type.span), node.name.text
            )
            return
        target = declared.event
        if not carries(dist.type.event, target):
            wanted, got = show(target), show(dist.type.event)
            hint = share_hint(node.name.text, target, dist)
            finding = errors.aux_shape(node.name.text, wanted, got, node.dist.span, node.type.span, hint)
            self.report.add(finding, node.name.text)
            return
        if not dist.type.support.within(declared.support, almost=True):
            hint = f"declare `{node.name.text} : {dist.type.support}`"
            self.report.add(
                errors.support_leaves(
                    node.name.text,
                    str(declared.support),
                    dist.row.name,
                    str(dist.type.support),
                    node.dist.span,
                    node.type.span,
                    hint,
                )
            )
            return
        if not dist.row.reparameterised:
            self.report.add(errors.not_reparameterised(node.name.text, dist.row.name, node.dist.span), node.name.text)
        self.guide.statements.append(ir.Draw(node.name.text, dist, None, None, type, enclosing, node.span))


def _with_dims(node: ast.TypeExpr, event: tuple[Size, ...]) -> ast.TypeExpr:
    """`via simplex` takes its dims from the latent, so that they need not be written again."""
    if node.dims or not event:
        return node
    name = event[-1].name
    if name is None or node.name.text not in s.KINDS or not s.KINDS[node.name.text].rank:
        return node
    return replace(node, dims=(ast.Ref(name, node.span),))
