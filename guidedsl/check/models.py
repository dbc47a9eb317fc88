"""Models: dims, plates, data, sites and what stands between them."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from guidedsl import errors, ir
from guidedsl.check.bodies import Body
from guidedsl.check.dims import declare_dim
from guidedsl.check.expressions import Expressions
from guidedsl.check.lets import written_out
from guidedsl.check.params import check_param
from guidedsl.check.scans import (
    check_order,
    made_by_scan,
)
from guidedsl.check.scope import Report, Scope, Symbol
from guidedsl.check.shapes import fits, show
from guidedsl.check.statements import declared_names, sized_plates
from guidedsl.check.terms import condition, narrowed, restricted, site_dist, total_of
from guidedsl.check.types import Declared, check_type, moving_bound
from guidedsl.check.walk import references
from guidedsl.ir import Stage
from guidedsl.library import supports as s
from guidedsl.source import Span
from guidedsl.syntax import ast


class ModelChecker(Body[ir.ModelStatement]):
    """Checks one model; `run` gives it typed, with the scope that its guides build on."""

    def __init__(self, report: Report, node: ast.Model, dims: dict[str, ir.Dim], externs: dict[str, ir.Callee]) -> None:
        super().__init__(report, node.name.text, dims, {})
        self.node = node
        self.callees = dict(externs)
        self.fields: list[ir.Field] = []
        self.latents: dict[str, ir.Latent] = {}
        self.later = {name.text: name.span for name in reversed(list(declared_names(node.body)))}
        self.with_dist: ast.Latent | ast.Observed | None = None
        self.without_dist: ast.Latent | ast.Observed | None = None

    def run(self) -> ir.Model:
        self._dims()
        self.check_block(self.node.body, ())
        self._interface()
        self._unbound()
        origin = self.node.origin
        return ir.Model(
            self.node.name.text,
            self.node.docstring,
            self.with_dist is None and self.without_dist is not None,
            origin.path.value if origin is not None else None,
            tuple(self.dims.values()),
            tuple(self.plates.values()),
            tuple(self.fields),
            tuple(self.latents.values()),
            tuple(self.statements),
            tuple(callee for callee in self.callees.values() if callee.kind != "extern"),
            self.node.name.span,
            origin.framework.text if origin is not None and origin.framework is not None else None,
        )

    def scope(self, enclosing: tuple[str, ...] = ()) -> Scope:
        latents = self.latents
        if self.open is not None and self.open.whole:
            latents = {name: latent for name, latent in latents.items() if name not in self.open.whole}
        return Scope(
            self.symbols,
            self.dims,
            self.plates,
            latents,
            enclosing,
            later=self.later,
            steps=self.open.size if self.open is not None else None,
            of_step=frozenset(self.open.names) if self.open is not None else frozenset(),
            local=self.local,
            callees=self.callees,
            lets=self.lets,
        )

    def _dims(self) -> None:
        for statement in self.node.body:
            if isinstance(statement, ast.DimDecl):
                declare_dim(statement, self.dims, self.report)

    def check_block(self, body: tuple[ast.Statement, ...], enclosing: tuple[str, ...]) -> None:
        for statement in body:
            if not isinstance(statement, ast.DimDecl):
                self._statement(statement, enclosing)

    def _statement(self, node: ast.Statement, enclosing: tuple[str, ...]) -> None:
        expressions = Expressions(self.report, self.scope(enclosing))
        if self.open is not None:
            check_order(node, self.open, self.report)
        match node:
            case ast.Plate():
                inside = self._enter(node, expressions)
                if inside is not None:
                    before = len(self.path)
                    self.path += [item.name.text for item in node.items if item.name.text not in self.path]
                    self.check_block(node.body, inside)
                    del self.path[before:]
                else:
                    self.skip(node)
            case ast.Data():
                self._data(node, expressions)
            case ast.Latent():
                self._site(node, expressions, "latent")
            case ast.Observed():
                self._site(node, expressions, "observed")
            case ast.Factor():
                self._factor(node, expressions)
            case ast.Param():
                param = check_param(node, self.node.name.text, expressions)
                if param is None:
                    self.lost(node.name)
                elif self.declare(node.name, param[1]):
                    self.statements.append(param[0])
            case _:
                self.check_shared(node, expressions)

    def seen_let(self, symbol: Symbol) -> Symbol:
        return symbol if self.open is None else replace(symbol, role="let")

    def skip(self, node: ast.Plate | ast.Scan) -> None:
        if isinstance(node, ast.Plate):
            self.report.fail(*(name.text for name in declared_names(node.body)), *sized_plates(node))
        else:
            self.report.fail(node.step.text, *(name.text for name in declared_names((node,))))

    def free(self, name: ast.Name, *, local: bool = False) -> bool:
        """Whether nothing has this name yet. Those that are `local` to the steps of a scan may be used in the next."""
        self.later.pop(name.text, None)
        for declared in (self.symbols, self.dims, self.plates, self.callees):
            if name.text in declared:
                return self.taken(name, declared[name.text].span)
        if not local and name.text in self.local:
            return self.taken(name, self.local[name.text])
        return True

    # Plates

    def _enter(self, node: ast.Plate, expressions: Expressions) -> tuple[str, ...] | None:
        names: list[str] = []
        for item in node.items:
            if not self._plate(item, expressions):
                return None
            names.append(item.name.text)
        enclosing = expressions.scope.enclosing
        for item in node.items:
            if item.name.text in enclosing or names.count(item.name.text) > 1:
                first = self.plates[item.name.text].span
                self.report.add(errors.entered_twice(item.name.text, item.name.span, first))
                break
        return self.scope().sort((*enclosing, *names))

    def _plate(self, item: ast.PlateItem, expressions: Expressions) -> bool:
        """Declare a plate where it has its size; re-enter it where it stands by name alone."""
        name = item.name.text
        known = self.plates.get(name)
        if item.size is None:
            if known is None:
                self.report.add(errors.plate_without_size(name, item.name.span, self.plates), name)
                return False
            return True
        if known is not None:
            self.report.add(errors.plate_sized_again(name, item.name.span, known.span), name)
            return True
        if not self.free(item.name):
            return False
        size = expressions.size(item.size)
        if size is None:
            return False
        batch = expressions.size(item.batch) if item.batch is not None else None
        mode = item.batching.text if item.batching is not None else None
        if item.batching is not None and mode not in ("subsample", "minibatch"):
            known_modes = ("subsample", "minibatch")
            self.report.add(errors.unknown_option(item.batching.text, "a plate", item.batching.span, known_modes))
            return False
        batching: Literal["subsample", "minibatch"] | None = None
        if mode == "subsample":
            batching = "subsample"
        elif mode == "minibatch":
            batching = "minibatch"
        self.plates[name] = ir.Plate(name, size, batching, batch, item.name.span)
        return True

    # Sites and data

    def _data(self, node: ast.Data, expressions: Expressions) -> None:
        declared = check_type(node.type, expressions)
        default = expressions.check(node.default) if node.default is not None else None
        if declared is None or not self._fixed("data", node.name, declared, node.type.span):
            self.lost(node.name)
            return
        if node.default is not None and default is not None and not self._default(node.default, default, declared):
            default = None
        self._field(node.name, "data", declared, expressions.scope.enclosing, default)

    def _fixed(self, what: str, name: ast.Name, declared: Declared, span: Span) -> bool:
        """Whether the bounds of an input are known when it is bound."""
        moving = moving_bound(declared.bounds)
        if moving is None:
            return True
        symbol = self.symbols.get(moving.name)
        known = symbol.span if symbol is not None else None
        self.report.add(errors.bounds_move(what, name.text, moving.name, span, known), name.text)
        return False

    def _default(self, node: ast.Expr, default: ir.Expr, declared: Declared) -> bool:
        """Whether a default may stand for the data."""
        if default.type.stage > Stage.DATA:
            hint = "a default is made of numbers and other data"
            text = self.report.text(node.span)
            self.report.add(errors.not_a_value(text, "known only while sampling", node.span, hint))
            return False
        if not fits(default.type.event, declared.event):
            shapes = show(declared.event), show(default.type.event)
            self.report.add(errors.shapes_differ(shapes[0], declared.span, shapes[1], node.span))
            return False
        value = default.type.value
        if value is not None and not declared.support.structured and declared.support.target is None:
            literal_bounds = all(
                b is None or b.type.value is not None for b in (declared.bounds.low, declared.bounds.high)
            )
            if literal_bounds and not s.point(value).within(declared.support.range):
                self.report.add(errors.default_outside(f"{value:g}", str(declared.support), node.span, declared.span))
                return False
        return True

    def _field(
        self,
        name: ast.Name,
        role: Literal["data", "observed"],
        declared: Declared,
        plates: tuple[str, ...],
        default: ir.Expr | None = None,
    ) -> bool:
        type = declared.type(plates, Stage.DATA)
        if not self.declare(name, Symbol(name.text, role, type, plates, name.span)):
            return False
        type = type if self.open is None else self.open.whole[name.text].type
        base = declared.index_base
        self.fields.append(
            ir.Field(
                name.text,
                role,
                type,
                declared.support,
                declared.bounds,
                plates,
                tuple(self.path),
                default,
                base,
                name.span,
            )
        )
        return True

    def _site(self, node: ast.Latent | ast.Observed, expressions: Expressions, role: str) -> None:
        declared = check_type(node.type, expressions)
        scope, name = expressions.scope, node.name
        dist = None
        if node.dist is not None:
            self.with_dist = self.with_dist or node
            if declared is not None:
                dist = site_dist(node, node.dist, declared, expressions)
        else:
            self.without_dist = self.without_dist or node
        if declared is None or (role == "observed" and not self._fixed("observed", name, declared, node.type.span)):
            self.lost(name)
            return
        when = None
        if isinstance(node, ast.Observed) and node.when is not None:
            when = condition(node.when, declared, dist, expressions)
        if role == "latent":
            type = declared.type(scope.enclosing, Stage.LATENT)
            if not self.declare(name, Symbol(name.text, "latent", type, scope.enclosing, name.span)):
                return
            bounds = written_out(declared.bounds, self.statements)
            if bounds is None:
                self.report.add(errors.nested_too_deep(node.type.span), name.text)
                return
            made = made_by_scan(bounds, self.open)
            if made is not None:
                known = self.symbols[made.name].span
                self.report.add(errors.bounds_of_scan(name.text, made.name, node.type.span, known), name.text)
                return
            written = tuple(self.path)
            steps = self.open.size if self.open is not None else None
            whole = type if self.open is None else self.open.whole[name.text].type
            self.latents[name.text] = ir.Latent(name.text, whole, bounds, scope.enclosing, name.span, written, steps)
        elif not self._field(name, "observed", declared, scope.enclosing):
            return
        if isinstance(dist, ir.Dist):
            self._term(node, declared, dist, when, expressions)

    def _term(
        self,
        node: ast.Latent | ast.Observed,
        declared: Declared,
        dist: ir.Dist,
        when: ir.Expr | None,
        expressions: Expressions,
    ) -> None:
        name, scope = node.name.text, expressions.scope
        symbol = self.symbols[name]
        assert node.dist is not None
        allowed = restricted(node, node.dist, declared, dist, expressions)
        if allowed is None:
            self.report.doubt(name)
            return
        dist, normalised = allowed
        known = scope.positions(declared.support)
        if isinstance(node, ast.Observed) and declared.support.target is None and narrowed(known, dist):
            known = dist.type.support
            self.fields[-1] = replace(self.fields[-1], support=known, bounds=dist.bounds)
        if isinstance(node, ast.Observed):
            self.fields[-1] = replace(self.fields[-1], total=total_of(dist))
        value = ir.Var(name, symbol.role, replace(symbol.type, support=known))
        self.statements.append(ir.Term(name, value, dist, normalised, scope.enclosing, when, node.span))

    def _factor(self, node: ast.Factor, expressions: Expressions) -> None:
        value = expressions.check(node.value)
        if value is not None and value.type.event:
            self.report.add(errors.factor_shape(show(value.type.event), node.value.span))
        elif value is not None:
            enclosing = expressions.scope.enclosing
            self.statements.append(ir.Term(None, value, None, True, enclosing, None, node.span))

    # The model as a whole

    def _interface(self) -> None:
        origin, factor = self.node.origin, next((s for s in self.statements if isinstance(s, ir.Term)), None)
        if origin is not None and origin.framework is not None and origin.framework.text != "pyro":
            self.report.add(errors.unknown_option(origin.framework.text, "`from`", origin.framework.span, ("pyro",)))
        if self.with_dist is not None and self.without_dist is None and origin is not None:
            site = self.with_dist.name
            self.report.add(errors.two_densities(site.text, site.span, origin.path.value, origin.span), site.text)
        elif self.with_dist is None and self.without_dist is not None and factor is not None:
            site = self.without_dist.name
            self.report.add(errors.factor_in_interface(site.text, factor.span, site.span), site.text)
        if self.with_dist is not None and self.without_dist is not None:
            a, b = self.with_dist.name, self.without_dist.name
            self.report.add(errors.mixed_interface(a.text, a.span, b.text, b.span), a.text, b.text)

    def _unbound(self) -> None:
        bound: set[str] = set()
        for field in self.fields:
            sizes = (*(self.plates[plate].size for plate in field.plates), *field.type.event)
            bound |= {size.name for size in sizes if size.name is not None}
        fed = {plate.size.name for plate in self.plates.values() if plate.batching == "minibatch"}
        read = references(self.node.body)
        for dim in self.dims.values():
            local = dim.span.start >= self.node.span.start
            known = dim.default is not None or dim.name in bound or dim.name in fed
            if not known and (local or dim.name in read) and not self.report.skipped and not self.report.failed:
                self.report.add(errors.unbound_dim(dim.name, dim.span), dim.name)
