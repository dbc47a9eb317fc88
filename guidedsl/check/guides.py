"""Guides: every latent sampled once, in its plates, at its shape, on its support."""

from __future__ import annotations

from dataclasses import replace

from guidedsl import errors, ir
from guidedsl.check.autos import LARGE, expand_auto, known_size
from guidedsl.check.distributions import check_dist, inner_values
from guidedsl.check.enumeration import classes_of, sum_out
from guidedsl.check.expressions import Expressions
from guidedsl.check.lets import check_let
from guidedsl.check.nets import check_net, check_unpack, report_unused
from guidedsl.check.params import check_param
from guidedsl.check.scans import (
    OpenScan,
    behind,
    check_next,
    check_order,
    close_scan,
    declare_head,
    emitted,
    open_scan,
)
from guidedsl.check.scope import Report, Scope, Symbol
from guidedsl.check.shapes import carries, show
from guidedsl.check.statements import autos, declared_names, sampled_names
from guidedsl.check.terms import FLAT, point_mass
from guidedsl.check.types import check_type
from guidedsl.check.walk import called, references, variables
from guidedsl.diagnostics import Diagnostic
from guidedsl.ir import Bounds, Stage
from guidedsl.library import supports as s
from guidedsl.library.distributions import DISTRIBUTIONS
from guidedsl.library.families import FAMILIES
from guidedsl.library.supports import Support
from guidedsl.sizes import Size, total
from guidedsl.source import Span
from guidedsl.syntax import ast

_WHAT: dict[ir.Role, str] = {
    "data": "data",
    "derived": "a let of the model",
    "param": "a param",
    "let": "a let",
    "aux": "an aux",
}


class GuideChecker:
    """Checks one guide against its model; `run` gives it typed, autos written out."""

    def __init__(
        self,
        report: Report,
        node: ast.Guide,
        model: ir.Model,
        symbols: dict[str, Symbol],
        local: dict[str, Span],
        callees: dict[str, ir.Callee],
    ) -> None:
        """`symbols` are what the model declares, `local` the names of its scans' steps, `callees` its nets, externs."""
        self.report = report
        self.node = node
        self.open: OpenScan | None = None
        self.local = dict(local)
        self.model = model
        self.latents = {latent.name: latent for latent in model.latents}
        self.dims = {dim.name: dim for dim in model.dims}
        self.plates = {plate.name: plate for plate in model.plates}
        visible = ("data", "observed", "param", "derived")
        self.symbols = {name: symbol for name, symbol in symbols.items() if symbol.role in visible}
        self.callees = dict(callees)
        self.inherited = frozenset(callees)
        self.taken = {name: symbol.span for name, symbol in symbols.items()}
        self.taken |= {name: callee.span for name, callee in callees.items()}
        self.sampled: dict[str, tuple[Span, bool]] = {}
        self.statements: list[ir.GuideStatement] = []
        self.expanded = 0
        self.expansions: list[tuple[Span, str]] = []
        self.own_local: set[str] = set()
        self.laplace: ir.Laplace | None = None
        self.forgotten: list[str] = []
        self.hidden = frozenset(name for name, symbol in symbols.items() if symbol.role == "let")
        self.later: dict[str, Span | None] = {latent.name: self._auto_place(latent) for latent in model.latents}
        self.classes: dict[str, ir.Classes] = {}
        self.enumerated = {
            name.text: name.span
            for auto in autos(node.body)
            if _sums_out(auto)
            for name in auto.names
            if name.text in self.latents
        }
        self.later |= {name.text: name.span for name in reversed(list(sampled_names(node.body)))}
        self.later |= {name.text: name.span for name in reversed(list(declared_names(node.body)))}

    def _auto_place(self, latent: ir.Latent) -> Span | None:
        """Where an auto samples a latent, to go by its names."""
        found = list(autos(self.node.body))
        named = (name.span for auto in found for name in auto.names if name.text == latent.name)
        rest = (auto.span for auto in found for name in auto.names if name.text == "rest")
        return next(named, next(rest, None))

    def run(self) -> ir.Guide:
        named = self._named()
        self._body(self.node.body, (), named, in_auto=False)
        self._missing()
        statements = tuple(self.statements)
        guide = ir.Guide(
            self.node.name.text,
            self.node.docstring,
            self.model,
            statements,
            tuple(callee for name, callee in self.callees.items() if name not in self.inherited),
            self.node.name.span,
            self._summed(),
            self.laplace,
        )
        self._unused(guide)
        self._covered(guide)
        return guide

    def scope(self, enclosing: tuple[str, ...] = ()) -> Scope:
        inside = self.open.whole if self.open is not None else {}
        return Scope(
            self.symbols,
            self.dims,
            self.plates,
            {name: latent for name, latent in self.latents.items() if name not in inside},
            enclosing,
            in_guide=True,
            later=self.later,
            hidden={name: self.taken[name] for name in self.hidden},
            enumerated=self.enumerated,
            steps=self.open.size if self.open is not None else None,
            local=self.local,
            callees=self.callees,
        )

    def _named(self) -> set[str]:
        """The names that a statement samples, an `auto` too; what is left is the rest."""
        by_autos = {name.text for auto in autos(self.node.body) for name in auto.names if name.text != "rest"}
        return {name.text for name in sampled_names(self.node.body)} | by_autos

    def _body(
        self, body: tuple[ast.Statement, ...], enclosing: tuple[str, ...], named: set[str], *, in_auto: bool
    ) -> None:
        for statement in body:
            self._statement(statement, enclosing, named, in_auto)

    def _statement(self, node: ast.Statement, enclosing: tuple[str, ...], named: set[str], in_auto: bool) -> None:
        expressions = Expressions(self.report, self.scope(enclosing))
        if self.open is not None:
            check_order(node, self.open, self.report)
        match node:
            case ast.Plate():
                inside = self._enter(node, enclosing)
                if inside is not None:
                    self._body(node.body, inside, named, in_auto=in_auto)
                else:
                    self._skip(node)
            case ast.Param():
                param = check_param(node, self.node.name.text, expressions)
                if param is None:
                    self._lost(node.name)
                elif self._declare(node.name, param[1]):
                    self.statements.append(param[0])
                    if not in_auto:
                        self._large(param[0])
            case ast.Let() | ast.Emit():
                let = check_let(node, expressions)
                if let is None:
                    self._lost(node.name)
                elif self._declare(node.name, replace(let[1], role="let"), local=isinstance(node, ast.Let)):
                    self.statements.append(emitted(let[0]) if isinstance(node, ast.Emit) else let[0])
            case ast.Unpack():
                self._unpack(node, expressions)
            case ast.Net():
                self._net(node, expressions)
            case ast.Scan():
                self._scan(node, expressions, named)
            case ast.Next():
                assert self.open is not None
                check_next(node, self.open, expressions)
            case ast.Sample():
                self._sample(node, expressions, in_auto)
            case ast.Joint():
                self._joint(node, expressions, in_auto)
            case ast.Aux():
                self._aux(node, expressions)
            case ast.Auto():
                self.expanded += 1
                expanded = expand_auto(node, self, enclosing, named, self.expanded)
                if expanded is not None:
                    self._body(expanded, enclosing, named, in_auto=True)
            case _:
                raise AssertionError(f"{type(node).__name__} in a guide: this should never happen, please file a bug")

    def _unpack(self, node: ast.Unpack, expressions: Expressions) -> None:
        lets = check_unpack(node, expressions)
        if lets is None:
            for name in node.names:
                self._lost(name)
            return
        for name, let, symbol in lets:
            if self._declare(name, replace(symbol, role="let"), local=True):
                self.statements.append(let)

    def _net(self, node: ast.Net, expressions: Expressions) -> None:
        callee = check_net(node, self.node.name.text, expressions)
        if callee is None:
            self._lost(node.name)
        elif self._free(node.name):
            self.callees[node.name.text] = callee

    def _lost(self, name: ast.Name) -> None:
        """A declaration that failed: what uses it is not to blame."""
        if name.text not in self.symbols:
            self.report.fail(name.text)
        self.later.pop(name.text, None)

    def _scan(self, node: ast.Scan, expressions: Expressions, named: set[str]) -> None:
        enclosing = expressions.scope.enclosing
        scan = open_scan(node, expressions)
        if scan is None:
            self._skip(node)
            return
        self.open, first = scan, len(self.statements)
        declare_head(scan, self._declare, self._lost, enclosing)
        self._body(node.body, enclosing, named, in_auto=False)
        self.open = None
        inside = [s for s in self.statements[first:] if isinstance(s, ir.Let | ir.Draw)]
        self.statements[first:] = [close_scan(scan, inside, enclosing, self.report)]
        behind(scan, self.symbols)
        self.local |= scan.local
        self.own_local |= set(scan.local)
        for name in scan.local:
            self.taken.pop(name, None)

    def _skip(self, node: ast.Plate | ast.Scan) -> None:
        """A block that cannot be entered: what it declares and samples is not missing because of that."""
        for name in declared_names(node.body):
            self._lost(name)
        names = [*sampled_names(node.body), *(name for auto in autos(node.body) for name in auto.names)]
        for name in names:
            for latent in self.latents.values():
                if name.text in (latent.name, "rest"):
                    self.lose(latent, name.span)

    def lose(self, latent: ir.Latent, span: Span, *, in_auto: bool = False) -> None:
        """A statement about this latent failed; it counts as sampled all the same."""
        self.sampled.setdefault(latent.name, (span, in_auto))
        self._known(latent)

    def _declare(self, name: ast.Name, symbol: Symbol, *, local: bool = False) -> bool:
        """Declare a name. Those that are `local` to the steps of a scan may be used again in the next scan."""
        local = local and self.open is not None
        if not self._free(name, local=local):
            return False
        self.symbols[name.text] = symbol
        if self.open is not None:
            self.open.declared(symbol, local=local)
        return True

    def _free(self, name: ast.Name, *, local: bool = False) -> bool:
        """Whether nothing in the model or the guide has this name yet; from here on something has."""
        first = self.taken.get(name.text)
        if first is None and not local and name.text in self.own_local:
            first = self.local[name.text]
        if first is None and name.text in self.dims:
            first = self.dims[name.text].span
        if first is None and name.text in self.plates:
            first = self.plates[name.text].span
        if first is not None:
            self.report.add(errors.already_declared(name.text, name.span, first), name.text)
            self.report.fail(name.text)
            return False
        self.taken[name.text] = name.span
        self.later.pop(name.text, None)
        return True

    def _enter(self, node: ast.Plate, enclosing: tuple[str, ...]) -> tuple[str, ...] | None:
        names: list[str] = []
        for item in node.items:
            name = item.name.text
            if name not in self.plates:
                owner = self.model.name
                self.report.add(errors.no_plate(owner, name, item.name.span, self.plates), name, owner)
                return None
            if item.size is not None or item.batching is not None:
                self.report.add(errors.plate_sized_again(name, item.name.span, self.plates[name].span), name)
            if name in enclosing or name in names:
                self.report.add(errors.entered_twice(name, item.name.span, self.plates[name].span), name)
            names.append(name)
        return self.scope().sort((*enclosing, *names))

    # Enumeration

    def may_enumerate(self, latent: ir.Latent, span: Span) -> bool:
        """Whether a latent has finitely many values and a known density; notes its classes."""
        found = classes_of(latent, self.plates, span)
        if isinstance(found, ir.Classes) and self.model.interface:
            found = errors.interface_enumerated(latent.name, self.model.name, span, self.model.span)
        if isinstance(found, Diagnostic):
            self.report.add(found, latent.name)
            self.lose(latent, span, in_auto=True)
            return False
        self.classes[latent.name] = found
        return True

    def enumerate(self, latent: ir.Latent, span: Span) -> None:
        """From here on the latent is accounted for, though it has no value."""
        self.sampled[latent.name] = (span, True)
        self.enumerated[latent.name] = span
        self.later.pop(latent.name, None)

    def _summed(self) -> ir.Summed | None:
        """The model with the enumerated latents summed out; None where there are none, or it cannot be."""
        order = [latent.name for latent in self.model.latents if latent.name in self.classes]
        if not order:
            return None
        found = sum_out(self.model, [self.classes[name] for name in order], self.enumerated)
        if isinstance(found, Diagnostic):
            self.report.add(found)
            return None
        return found

    # Sites

    def claim(self, name: ast.Name, *, in_auto: bool) -> ir.Latent | None:
        """The latent that a statement samples here, or None after saying why it may not."""
        latent = self.latents.get(name.text)
        symbol = self.symbols.get(name.text)
        if latent is None:
            if symbol is not None and symbol.role == "observed":
                self.report.add(errors.is_observed(name.text, name.span, symbol.span), name.text)
            elif symbol is not None:
                what = _WHAT.get(symbol.role, "a value")
                self.report.add(errors.is_data(name.text, what, name.span, symbol.span), name.text)
            else:
                self._no_latent(name)
            return None
        if name.text in self.sampled:
            first, by_auto = self.sampled[name.text]
            self.report.add(errors.sampled_twice(name.text, name.span, first, by_auto or in_auto), name.text)
            return None
        self.sampled[name.text] = (name.span, in_auto)
        return self._in_step(name, latent) if self.open is not None else latent

    def _in_step(self, name: ast.Name, latent: ir.Latent) -> ir.Latent | None:
        """The latent as one step of the open scan samples it, or None after saying why that may not be."""
        assert self.open is not None
        if latent.steps is None:
            self.report.add(errors.no_site_of_scan(latent.name, name.span, latent.span), latent.name)
        elif latent.steps != self.open.size:
            steps = str(latent.steps), str(self.open.size)
            self.report.add(errors.scan_differs(latent.name, *steps, name.span, latent.span), latent.name)
        else:
            return replace(latent, type=replace(latent.type, event=latent.type.event[1:]))
        self.report.fail(latent.name)
        return None

    def _no_latent(self, name: ast.Name) -> None:
        """Report a name that is no latent; the latent that it is a slip of is not reported missing as well."""
        owner = self.model.name
        if name.text in self.hidden:
            self.report.add(
                errors.is_data(name.text, "a let of the model", name.span, self.taken[name.text]), name.text
            )
        else:
            self.report.add(errors.not_a_latent(name.text, owner, name.span, self.latents), name.text, owner)
        if name.text in self.report.failed | self.report.skipped:
            return
        self._lost(name)
        close = errors.closest(name.text, self.latents)
        named = self._named()
        if close is not None and close not in named and close not in self.sampled:
            self.lose(self.latents[close], name.span)

    def _known(self, latent: ir.Latent) -> None:
        """From here on the latent can be read."""
        symbol = Symbol(latent.name, "latent", latent.type, latent.plates, latent.span)
        self.symbols[latent.name] = symbol
        self.later.pop(latent.name, None)
        if self.open is not None:
            self.open.declared(symbol, local=False)

    def _sample(self, node: ast.Sample, expressions: Expressions, in_auto: bool) -> None:
        enclosing = expressions.scope.enclosing
        latent = self.claim(node.name, in_auto=in_auto)
        if latent is None:
            expressions.each(inner_values(node.dist))
            return
        if latent.plates != enclosing:
            self.report.add(
                errors.wrong_plates(latent.name, latent.plates, enclosing, node.name.span, latent.span), latent.name
            )
            self._known(latent)
            return
        if self._deterministic(node, latent):
            self._known(latent)
            return
        pushed = self._via(node, latent, expressions)
        target = latent.type.event
        if node.via is not None and pushed is not None:
            target = s.free_shape(pushed[0], latent.type.event) or target
        dist = check_dist(node.dist, expressions, target)
        self._known(latent)
        if dist is None or (node.via is not None and pushed is None):
            return
        if not self._covers(node, latent, dist, pushed, target):
            return
        self.statements.append(ir.Draw(latent.name, dist, latent, pushed, latent.type, enclosing, node.span))

    def _via(self, node: ast.Sample, latent: ir.Latent, expressions: Expressions) -> tuple[Support, Bounds] | None:
        """The support that `via` pushes onto, with its bounds."""
        if node.via is None:
            return None
        if node.via.name.text == "type" and not node.via.arguments and not node.via.dims:
            support, bounds = latent.type.support, latent.bounds
            if not self._bounds_known(latent, node.via.span):
                return None
        else:
            declared = check_type(_with_dims(node.via, latent.type.event), expressions)
            if declared is None:
                return None
            support, bounds = declared.support, declared.bounds
        if support.row.free is None:
            self.report.add(errors.no_bijection("`via`", latent.name, str(support), node.via.span, latent.span))
            return None
        if not self._inside(support, latent.type.support):
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
        self._smaller(latent, support, node.via.span)
        return support, bounds

    def _covers(
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
            hint = _share_hint(name, target, dist)
            if dist.type.event == s.free_shape(latent.type.support, target):
                hint = f"{got} are its unconstrained coordinates: write `{name} ~ {dist.row.name}(…) via type`"
            self.report.add(errors.missing_event_dims(name, wanted, got, span, latent.span, hint), name)
            return False
        wanted_support = s.support("real") if pushed is not None else latent.type.support
        if not dist.row.guide_only and not self._inside(dist.type.support, wanted_support):
            self._leaves(latent, dist, wanted_support, pushed is not None, span)
            return False
        if pushed is None and not dist.row.guide_only:
            self._smaller(latent, dist.type.support, span)
        if dist.row.guide_only and not self._point_inside(latent, dist, wanted_support, span):
            return False
        if not dist.row.reparameterised:
            self.report.add(errors.not_reparameterised(name, dist.row.name, span), name)
        return True

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
            if var.role == "latent" and var.name not in self.symbols:
                if var.name in self.enumerated:
                    finding = errors.enumerated_bound(latent.name, var.name, span, self.enumerated[var.name])
                    self.report.add(finding, var.name, latent.name)
                    return False
                other = self.latents.get(var.name)
                if other is not None and self.later.get(var.name) is not None:
                    finding = errors.bounds_before(latent.name, var.name, span, self.later[var.name] or other.span)
                    self.report.add(finding, var.name, latent.name)
                return False
        return True

    def _point_inside(self, latent: ir.Latent, dist: ir.Dist, wanted: Support, span: Span) -> bool:
        value = dist.arguments[0]
        if value.type.stage is Stage.LATENT:
            self.report.add(errors.moves_with_aux(dist.row.name, latent.name, span, latent.span), latent.name)
            return False
        if self._inside(value.type.support, wanted):
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
        shown = dist.row.name
        if via:
            hint = "`via` pushes a distribution over all reals: take Normal or another on real"
        elif not hint and (latent.type.support.row.discrete or covers is not None):
            hint = f"take a distribution on {latent.type.support}"
        hint = hint or f"`{latent.name} ~ {shown}(…) via type`, or `auto mean_field for {latent.name}`"
        covered = covers or str(dist.type.support)
        finding = errors.support_leaves(latent.name, str(wanted), shown, covered, span, latent.span, hint)
        self.report.add(finding, latent.name)

    def _inside(self, support: Support, model: Support) -> bool:
        return support.within(self.scope().positions(model), almost=True)

    def _smaller(self, latent: ir.Latent, support: Support, span: Span) -> None:
        model = latent.type.support
        if not self._inside(model, support) and not self.scope().positions(model).within(support, almost=True):
            self.report.add(
                errors.support_smaller(latent.name, str(support), str(model), span, latent.span), latent.name
            )

    def _joint(self, node: ast.Joint, expressions: Expressions, in_auto: bool) -> None:
        enclosing = expressions.scope.enclosing
        claimed = [self.claim(name, in_auto=in_auto) for name in node.names]
        latents = [latent for latent in claimed if latent is not None]
        if len(latents) < len(claimed) or not self._may_join(node, latents, enclosing):
            for latent in latents:
                self._known(latent)
            return
        sizes = [expressions.coordinates(latent) for latent in latents]
        size = total(part for part in sizes if part is not None)
        dist = check_dist(node.dist, expressions, (size,))
        for latent in latents:
            self._known(latent)
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
        self.statements.append(ir.JointDraw(dist, tuple(latents), enclosing, node.span))

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
                mode = self.plates[plate].batching
                if plate not in enclosing and mode is not None:
                    self.report.add(
                        errors.joint_in_subsampled("joint", latent.name, plate, mode, name.span, latent.span),
                        latent.name,
                    )
                    return False
        return True

    def _aux(self, node: ast.Aux, expressions: Expressions) -> None:
        enclosing = expressions.scope.enclosing
        declared = check_type(node.type, expressions)
        dist = check_dist(node.dist, expressions, declared.event if declared is not None else None)
        if declared is None:
            self._lost(node.name)
            return
        type = declared.type(enclosing, Stage.LATENT)
        if not self._declare(node.name, Symbol(node.name.text, "aux", type, enclosing, node.name.span)) or dist is None:
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
            hint = _share_hint(node.name.text, target, dist)
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
        self.statements.append(ir.Draw(node.name.text, dist, None, None, type, enclosing, node.span))

    def _large(self, param: ir.Param) -> None:
        """Warn of a square matrix that grows with the square of many coordinates."""
        rows = known_size(param.type.event[-1], self.dims) if param.type.support.row.square else None
        if rows is not None and rows > LARGE:
            hint = f"a low-rank factor has fewer: `{param.name} : real[{rows}, 8]`"
            self.report.add(errors.many_parameters(f"`{param.name}`", rows, param.span, hint), param.name)

    # The guide as a whole

    def _covered(self, guide: ir.Guide) -> None:
        """A Laplace approximation is one of all latents: the mode of some is none while others are drawn."""
        if guide.laplace is None:
            return
        for draw in guide.statements:
            if isinstance(draw, ir.Draw | ir.JointDraw) and draw.span != guide.laplace.span:
                name = draw.name if isinstance(draw, ir.Draw) else draw.latents[0].name
                self.report.add(errors.laplace_not_alone(name, draw.span, guide.laplace.span), name)

    def _missing(self) -> None:
        broken_auto = "rest" in self.report.skipped
        for latent in self.latents.values():
            if latent.name in self.sampled or broken_auto:
                continue
            if latent.type.support.row.discrete:
                finite = isinstance(classes_of(latent, self.plates, latent.span), ir.Classes)
                finding = errors.discrete_not_sampled(
                    self.node.name.text, latent.name, self.node.name.span, latent.span, finite
                )
            else:
                finding = errors.not_sampled(
                    self.node.name.text, latent.name, self.node.name.span, latent.span, self._suggestion(latent)
                )
            self.report.add(finding, latent.name, self.node.name.text)
            self.forgotten.append(latent.name)

    def _suggestion(self, latent: ir.Latent) -> str:
        statement = f"{latent.name} ~ …"
        return f"plate {', '.join(latent.plates)} {{ {statement} }}" if latent.plates else statement

    def _unused(self, guide: ir.Guide) -> None:
        used = references(self.node.body)
        written = {name.text for name in declared_names(self.node.body)}
        for param in guide.params:
            # `tau_loc` is there for a statement that is missing, which has been said.
            awaited = any(param.name.startswith(f"{name}_") for name in self.forgotten)
            if param.name in written and param.name not in used and not awaited:
                self.report.add(errors.unused_param(param.name, param.span), param.name)
        report_unused(guide.nets, called(self.node.body), self.report)


def _sums_out(node: ast.Auto) -> bool:
    family = FAMILIES.get(node.family.text)
    return family is not None and family.sums_out


def _with_dims(node: ast.TypeExpr, event: tuple[Size, ...]) -> ast.TypeExpr:
    """`via simplex` takes its dims from the latent, so that they need not be written again."""
    if node.dims or not event:
        return node
    name = event[-1].name
    if name is None or node.name.text not in s.KINDS or not s.KINDS[node.name.text].rank:
        return node
    return replace(node, dims=(ast.Ref(name, node.span),))


def _share_hint(name: str, target: tuple[Size, ...], dist: ir.Dist) -> str:
    if len(dist.type.event) >= len(target):
        return f"its arguments must have event shape {show(target)}"
    dims = ", ".join(str(size) for size in target)
    params = [arg.name for arg in dist.arguments if isinstance(arg, ir.Var) and arg.role == "param"]
    if params:
        first = params[0]
        return f"declare `{first}` with brackets, `[{dims}]`; to share one on purpose write `full({dims}, {first})`"
    return f"give an argument event shape {show(target)}: `full({dims}, …)` shares one value on purpose"
