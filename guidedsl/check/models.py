"""Models: dims, plates, data, sites and what stands between them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from guidedsl import errors, ir
from guidedsl.check.composites import restrict
from guidedsl.check.distributions import check_dist
from guidedsl.check.expressions import Expressions
from guidedsl.check.nets import IGNORED, check_net, check_unpack
from guidedsl.check.params import check_param
from guidedsl.check.scans import (
    OpenScan,
    behind,
    check_next,
    check_order,
    close_scan,
    declare_head,
    emitted,
    made_by_scan,
    open_scan,
)
from guidedsl.check.scope import Report, Scope, Symbol
from guidedsl.check.shapes import NEW, fits, show
from guidedsl.check.structured import is_literal, problem_of
from guidedsl.check.types import Declared, check_type, moving_bound
from guidedsl.check.walk import references, substitute, variables
from guidedsl.ir import Stage
from guidedsl.library import supports as s
from guidedsl.library.distributions import DISTRIBUTIONS
from guidedsl.source import Span
from guidedsl.syntax import ast


def declared_names(body: tuple[ast.Statement, ...]) -> Iterator[ast.Name]:
    """Every value that the statements declare, in the order of the text."""
    for statement in body:
        match statement:
            case ast.Plate():
                yield from declared_names(statement.body)
            case ast.Unpack():
                yield from (name for name in statement.names if name.text != IGNORED)
            case ast.Scan():
                yield from (carry.name for carry in statement.carries)
                yield from declared_names(statement.body)
            case (
                ast.Data()
                | ast.Latent()
                | ast.Observed()
                | ast.Let()
                | ast.Param()
                | ast.Aux()
                | ast.Emit()
                | ast.Net()
            ):
                yield statement.name


class ModelChecker:
    """Checks one model; `run` gives it typed, with the scope that its guides build on."""

    def __init__(self, report: Report, node: ast.Model, dims: dict[str, ir.Dim], externs: dict[str, ir.Callee]) -> None:
        self.report = report
        self.node = node
        self.symbols: dict[str, Symbol] = {}
        self.plates: dict[str, ir.Plate] = {}
        self.dims = dict(dims)
        self.callees = dict(externs)
        self.fields: list[ir.Field] = []
        self.latents: dict[str, ir.Latent] = {}
        self.statements: list[ir.ModelStatement] = []
        self.later: dict[str, Span | None] = {
            name.text: name.span for name in reversed(list(declared_names(node.body)))
        }
        self.path: list[str] = []
        self.open: OpenScan | None = None
        self.local: dict[str, Span] = {}
        self.with_dist: ast.Latent | ast.Observed | None = None
        self.without_dist: ast.Latent | ast.Observed | None = None

    def run(self) -> ir.Model:
        self._dims()
        self._body(self.node.body, ())
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
            local=self.local,
            callees=self.callees,
        )

    def _dims(self) -> None:
        for statement in self.node.body:
            if isinstance(statement, ast.DimDecl):
                declare_dim(statement, self.dims, self.report)

    def _body(self, body: tuple[ast.Statement, ...], enclosing: tuple[str, ...]) -> None:
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
                    self._body(node.body, inside)
                    del self.path[before:]
                else:
                    self.report.fail(*(name.text for name in declared_names(node.body)), *_plate_names(node))
            case ast.Data():
                self._data(node, expressions)
            case ast.Latent():
                self._site(node, expressions, "latent")
            case ast.Observed():
                self._site(node, expressions, "observed")
            case ast.Let() | ast.Emit():
                self._let(node, expressions)
            case ast.Unpack():
                self._unpack(node, expressions)
            case ast.Net():
                self._net(node, expressions)
            case ast.Scan():
                self._scan(node, expressions)
            case ast.Next():
                assert self.open is not None
                check_next(node, self.open, expressions)
            case ast.Factor():
                self._factor(node, expressions)
            case ast.Param():
                param = check_param(node, self.node.name.text, expressions)
                if param is None:
                    self._lost(node.name)
                elif self._declare(node.name, param[1]):
                    self.statements.append(param[0])
            case _:
                raise AssertionError(f"{type(node).__name__} in a model: this should never happen, please file a bug")

    def _let(self, node: ast.Let | ast.Emit, expressions: Expressions) -> None:
        let = check_let(node, expressions)
        if let is None:
            self._lost(node.name)
            return
        symbol = let[1] if self.open is None else replace(let[1], role="let")
        if self._declare(node.name, symbol, local=isinstance(node, ast.Let)):
            written = replace(let[0], written=tuple(self.path))
            self.statements.append(emitted(written) if isinstance(node, ast.Emit) else written)

    def _scan(self, node: ast.Scan, expressions: Expressions) -> None:
        enclosing = expressions.scope.enclosing
        scan = open_scan(node, expressions)
        if scan is None:
            self.report.fail(node.step.text, *(name.text for name in declared_names((node,))))
            return
        self.open, first = scan, len(self.statements)
        declare_head(scan, self._declare, self._lost, enclosing)
        self._body(node.body, enclosing)
        self.open = None
        inside = [s for s in self.statements[first:] if isinstance(s, ir.Let | ir.Term)]
        whole = close_scan(scan, inside, enclosing, self.report)
        self.statements[first:] = [replace(whole, written=tuple(self.path))]
        behind(scan, self.symbols)
        self.local |= scan.local

    def _unpack(self, node: ast.Unpack, expressions: Expressions) -> None:
        lets = check_unpack(node, expressions)
        if lets is None:
            for name in node.names:
                self._lost(name)
            return
        for name, let, symbol in lets:
            symbol = symbol if self.open is None else replace(symbol, role="let")
            if self._declare(name, symbol, local=True):
                self.statements.append(replace(let, written=tuple(self.path)))

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

    def _free(self, name: ast.Name, *, local: bool = False) -> bool:
        """Whether nothing has this name yet. Those that are `local` to the steps of a scan may be used in the next."""
        self.later.pop(name.text, None)
        for declared in (self.symbols, self.dims, self.plates, self.callees):
            if name.text in declared:
                return self._taken(name, declared[name.text].span)
        if not local and name.text in self.local:
            return self._taken(name, self.local[name.text])
        return True

    def _taken(self, name: ast.Name, first: Span) -> bool:
        self.report.add(errors.already_declared(name.text, name.span, first), name.text)
        self.report.fail(name.text)
        return False

    def _declare(self, name: ast.Name, symbol: Symbol, *, local: bool = False) -> bool:
        local = local and self.open is not None
        if not self._free(name, local=local):
            return False
        symbol = replace(symbol, span=name.span)
        self.symbols[name.text] = symbol
        if self.open is not None:
            self.open.declared(symbol, local=local)
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
        if not self._free(item.name):
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
            self._lost(node.name)
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
        if not self._declare(name, Symbol(name.text, role, type, plates, name.span)):
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
                dist = self._site_dist(node, node.dist, declared, expressions)
        else:
            self.without_dist = self.without_dist or node
        if declared is None or (role == "observed" and not self._fixed("observed", name, declared, node.type.span)):
            self._lost(name)
            return
        when = None
        if isinstance(node, ast.Observed) and node.when is not None:
            when = self._when(node.when, declared, dist, expressions)
        if role == "latent":
            type = declared.type(scope.enclosing, Stage.LATENT)
            if not self._declare(name, Symbol(name.text, "latent", type, scope.enclosing, name.span)):
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
            self._term(node, declared, dist, when, scope)

    def _site_dist(
        self, node: ast.Latent | ast.Observed, at: ast.DistExpr, declared: Declared, expressions: Expressions
    ) -> ir.Dist | str | None:
        if at.name.text == FLAT:
            return self._flat(node, at, declared)
        point = point_mass(at.name.text)
        if point is not None:
            value = f"let {node.name.text} = …"
            hint = f"what is known exactly is a `{value}`" if isinstance(node, ast.Latent) else OBSERVED_POINT
            self.report.add(errors.no_density(at.name.text, node.name.text, at.span, node.name.span, hint))
            return None
        dist = check_dist(at, expressions, declared.event)
        if dist is None:
            return None
        if not fits(dist.type.event, declared.event):
            wanted, got = show(declared.event), show(dist.type.event)
            self.report.add(errors.shapes_differ(wanted, node.type.span, got, at.span))
            return None
        return dist

    def _flat(self, node: ast.Latent | ast.Observed, at: ast.DistExpr, declared: Declared) -> str | None:
        if at.arguments or declared.support.row.discrete or isinstance(node, ast.Observed):
            problem = "takes no arguments" if at.arguments else "is for continuous latents"
            self.report.add(errors.flat_misused(node.name.text, problem, at.span))
            return None
        return FLAT

    def _when(
        self, at: ast.Expr, declared: Declared, dist: ir.Dist | str | None, expressions: Expressions
    ) -> ir.Expr | None:
        when = expressions.check(at)
        if when is None:
            return None
        if not when.type.support.range.within(s.BOOL):
            expressions.refuse("the condition of `when`", "bool", at, when)
            return None
        if when.type.stage > Stage.DATA:
            self.report.add(errors.condition_not_data(self.report.text(at.span), at.span))
            return None
        one_by_one = not isinstance(dist, ir.Dist) or dist.own == 0
        if when.type.event and (when.type.event != declared.event or not one_by_one):
            shape, wanted = show(when.type.event), show(declared.event) if one_by_one else "[]"
            hint = "a condition is one value a row" + (
                ", or one an entry" if one_by_one else ": this family is one event"
            )
            self.report.add(errors.wrong_shape("the condition of `when`", wanted, shape, at.span, hint))
            return None
        return when

    def _term(
        self,
        node: ast.Latent | ast.Observed,
        declared: Declared,
        dist: ir.Dist,
        when: ir.Expr | None,
        scope: Scope,
    ) -> None:
        name = node.name.text
        symbol = self.symbols[name]
        assert node.dist is not None
        restricted = self._supports(node, node.dist, declared, dist)
        if restricted is None:
            self.report.doubt(name)
            return
        dist, normalised = restricted
        known = scope.positions(declared.support)
        if isinstance(node, ast.Observed) and declared.support.target is None and _narrowed(known, dist):
            known = dist.type.support
            self.fields[-1] = replace(self.fields[-1], support=known, bounds=dist.bounds)
        if isinstance(node, ast.Observed):
            self.fields[-1] = replace(self.fields[-1], total=_total(dist))
        value = ir.Var(name, symbol.role, replace(symbol.type, support=known))
        self.statements.append(ir.Term(name, value, dist, normalised, scope.enclosing, when, node.span))

    def _supports(
        self, node: ast.Latent | ast.Observed, at: ast.DistExpr, declared: Declared, dist: ir.Dist
    ) -> tuple[ir.Dist, bool] | None:
        """The distribution as the declared type restricts it and whether it is normalised; None when it may not."""
        site = self.scope().positions(declared.support)
        family = dist.type.support
        shown, name, span = at.name.text, node.name.text, at.span
        places = span, node.type.span
        if isinstance(node, ast.Observed):
            if family.within(site, almost=True):
                return dist, True
            self.report.add(errors.observed_narrower(name, str(declared.support), shown, str(family), *places), name)
            return None
        if not site.within(family, almost=True):
            self.report.add(errors.latent_wider(name, str(declared.support), shown, str(family), *places), name)
            return None
        if family.within(site, almost=True):
            return dist, True
        if not site.structured and not dist.own and dist.has_mass:
            return restrict(dist, site, declared.bounds), True
        bounds = [b for b in (declared.bounds.low, declared.bounds.high) if b is not None]
        if any(b.type.stage > Stage.DATA for b in bounds):
            self.report.add(errors.bounds_restrict(name, str(declared.support), shown, *places), name)
            return None
        if dist.type.stage <= Stage.DATA:
            return dist, False
        self.report.add(errors.cannot_restrict(name, str(declared.support), shown, *places), name)
        return None

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


def _narrowed(declared: s.Support, dist: ir.Dist) -> bool:
    """Whether data of this type is checked against the narrower support of its distribution when it is bound."""
    return not declared.within(dist.type.support, almost=True) and moving_bound(dist.bounds) is None


def _total(dist: ir.Dist) -> ir.Expr | None:
    """What the entries of data under this distribution add up to, where that is known when it is bound."""
    names = [argument.name for argument in dist.form.values]
    value = dist.arguments[names.index(dist.row.sums_to)] if dist.row.sums_to is not None else None
    return value if value is not None and value.type.stage <= Stage.DATA else None


FLAT = "Flat"
"""The improper uniform density over a type: no family, so it is not in the registry."""

OBSERVED_POINT = "data is never exactly what a model says: give it a distribution with a scale"


def point_mass(name: str) -> str | None:
    """The registry's point mass, where `name` is what it or another library calls it."""
    rows = (row for row in DISTRIBUTIONS.values() if row.guide_only)
    return next((row.name for row in rows if name in (row.name, row.pyro)), None)


_MOST_INLINED = 200
"""A bound may be made of lets that read this many values in all."""


def written_out(bounds: ir.Bounds, statements: list[ir.ModelStatement]) -> ir.Bounds | None:
    """Bounds with the model's lets replaced by their values, since guides do not see those; None when that is long."""
    if not any(var.role == "let" for var in variables((bounds.low, bounds.high))):
        return bounds
    lets = {s.name: s.value for s in statements if isinstance(s, ir.Let) and s.value.type.stage > Stage.DATA}
    reads: dict[str, int] = {}
    for name, value in lets.items():
        reads[name] = 1 + sum(reads.get(var.name, 1) for var in variables(value))
    if sum(reads.get(var.name, 1) for var in variables((bounds.low, bounds.high))) > _MOST_INLINED:
        return None
    low, high = (substitute(bound, lets) if bound is not None else None for bound in (bounds.low, bounds.high))
    return ir.Bounds(low, high)


def _plate_names(node: ast.Plate) -> Iterator[str]:
    yield from (item.name.text for item in node.items if item.size is not None)
    for statement in node.body:
        if isinstance(statement, ast.Plate):
            yield from _plate_names(statement)


def declare_dim(node: ast.DimDecl, dims: dict[str, ir.Dim], report: Report) -> None:
    name = node.name.text
    if name == NEW.name:
        report.add(errors.reserved_word(name, node.name.span), name)
        report.fail(name)
        return
    if name in dims:
        report.add(errors.already_declared(name, node.name.span, dims[name].span), name)
        return
    default: int | None = None
    if node.default is not None:
        if not isinstance(node.default, ast.Number) or not node.default.value.is_integer() or node.default.value < 1:
            report.add(errors.bad_dim_default(name, node.default.span))
            report.fail(name)
        else:
            default = int(node.default.value)
    dims[name] = ir.Dim(name, default, node.name.span)


def check_let(node: ast.Let | ast.Emit, expressions: Expressions) -> tuple[ir.Let, Symbol] | None:
    """A typed let and its symbol. An asserted type that the lattice cannot prove is left to a check at run time."""
    value = expressions.check(node.value)
    declared = check_type(node.type, expressions) if node.type is not None else None
    if value is None or (node.type is not None and declared is None):
        return None
    enclosing = expressions.scope.enclosing
    if declared is None and NEW in value.type.event:
        expressions.report.add(errors.axis_without_size(node.name.text, show(value.type.event), node.value.span))
        return None
    asserted = None
    event, support = value.type.event, value.type.support
    if declared is not None:
        if not fits(event, declared.event):
            shapes = show(declared.event), show(event)
            assert node.type is not None
            expressions.report.add(errors.shapes_differ(shapes[0], node.type.span, shapes[1], node.value.span))
            return None
        proven = support.within(declared.support)
        if not proven and declared.support.structured and is_literal(value):
            problem = problem_of(declared.support.kind, value)
            if problem:
                finding = errors.let_not_in_set(declared.support.kind, problem, node.value.span, declared.span)
                expressions.report.add(finding)
                return None
        if not proven and value.type.value is not None:
            text, shown = f"{value.type.value:g}", str(declared.support)
            expressions.report.add(errors.let_outside(text, shown, node.value.span, declared.span))
            return None
        asserted = None if proven else declared.support
        event, support = declared.event, declared.support if not proven else support
    type = replace(value.type, event=event, support=support, plates=enclosing, number=False, value=None)
    if not enclosing and not event and value.type.number:
        type = replace(type, number=True)
    bounds = declared.bounds if declared is not None else ir.Bounds(None, None)
    let = ir.Let(node.name.text, value, asserted, bounds, enclosing, event, node.span)
    return let, Symbol(
        node.name.text, "derived" if type.stage <= Stage.DATA else "let", type, enclosing, node.name.span
    )
