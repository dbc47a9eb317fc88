"""Guides: every latent sampled once, in its plates, at its shape, on its support."""

from __future__ import annotations

from dataclasses import replace

from guidedsl import errors, ir
from guidedsl.check.autos import LARGE, expand_auto, known_size
from guidedsl.check.bodies import Body
from guidedsl.check.draws import Draws
from guidedsl.check.enumeration import classes_of, sum_out
from guidedsl.check.expressions import Expressions
from guidedsl.check.nets import report_unused
from guidedsl.check.params import check_param
from guidedsl.check.scans import OpenScan, check_order
from guidedsl.check.scope import Report, Scope, Symbol
from guidedsl.check.statements import autos, declared_names, sampled_names
from guidedsl.check.walk import called, references
from guidedsl.diagnostics import Diagnostic
from guidedsl.library.families import FAMILIES
from guidedsl.source import Span
from guidedsl.syntax import ast

_WHAT: dict[ir.Role, str] = {
    "data": "data",
    "derived": "a let of the model",
    "param": "a param",
    "let": "a let",
    "aux": "an aux",
}


class GuideChecker(Body[ir.GuideStatement]):
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
        """`symbols` are what the model declares, `local` the names of its scans' steps, `callees` its nets, externs.

        `named` are the latents that a statement samples, an `auto` too: what is left is the rest. `in_auto` says that
        the statements are what an `auto` stands for.
        """
        plates = {plate.name: plate for plate in model.plates}
        super().__init__(report, node.name.text, {dim.name: dim for dim in model.dims}, plates)
        self.node = node
        self.local = dict(local)
        self.model = model
        self.latents = {latent.name: latent for latent in model.latents}
        visible = ("data", "observed", "param", "derived")
        self.symbols = {name: symbol for name, symbol in symbols.items() if symbol.role in visible}
        self.callees = dict(callees)
        self.inherited = frozenset(callees)
        self.declared_at = {name: symbol.span for name, symbol in symbols.items()}
        self.declared_at |= {name: callee.span for name, callee in callees.items()}
        self.sampled: dict[str, tuple[Span, bool]] = {}
        self.expanded = 0
        self.in_auto = False
        by_autos = {name.text for auto in autos(node.body) for name in auto.names if name.text != "rest"}
        self.named = {name.text for name in sampled_names(node.body)} | by_autos
        self.expansions: list[tuple[Span, str]] = []
        self.own_local: set[str] = set()
        self.laplace: ir.Laplace | None = None
        self.forgotten: list[str] = []
        self.hidden = {name: symbol.span for name, symbol in symbols.items() if symbol.role == "let"}
        self.later = self._auto_places()
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

    def _auto_places(self) -> dict[str, Span | None]:
        """Where an auto samples each latent, to go by its names."""
        found = list(autos(self.node.body))
        named = {name.text: name.span for auto in reversed(found) for name in reversed(auto.names)}
        rest = next((auto.span for auto in found for name in auto.names if name.text == "rest"), None)
        return {name: named.get(name, rest) for name in self.latents}

    def run(self) -> ir.Guide:
        self.check_block(self.node.body, ())
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
        latents = self.latents
        if self.open is not None and self.open.whole:
            latents = {name: latent for name, latent in latents.items() if name not in self.open.whole}
        return Scope(
            self.symbols,
            self.dims,
            self.plates,
            latents,
            enclosing,
            in_guide=True,
            later=self.later,
            hidden=self.hidden,
            enumerated=self.enumerated,
            steps=self.open.size if self.open is not None else None,
            of_step=frozenset(self.open.names) if self.open is not None else frozenset(),
            local=self.local,
            callees=self.callees,
            lets=self.lets,
        )

    def check_block(self, body: tuple[ast.Statement, ...], enclosing: tuple[str, ...]) -> None:
        for statement in body:
            self._statement(statement, enclosing)

    def _statement(self, node: ast.Statement, enclosing: tuple[str, ...]) -> None:
        expressions = Expressions(self.report, self.scope(enclosing))
        if self.open is not None:
            check_order(node, self.open, self.report)
        match node:
            case ast.Plate():
                inside = self._enter(node, enclosing)
                if inside is not None:
                    self.check_block(node.body, inside)
                else:
                    self.skip(node)
            case ast.Param():
                param = check_param(node, self.node.name.text, expressions)
                if param is None:
                    self.lost(node.name)
                elif self.declare(node.name, param[1]):
                    self.statements.append(param[0])
                    if not self.in_auto:
                        self._large(param[0])
            case ast.Sample():
                Draws(self, expressions).sample(node)
            case ast.Joint():
                Draws(self, expressions).joint(node)
            case ast.Aux():
                Draws(self, expressions).aux(node)
            case ast.Auto():
                self._auto(node, enclosing)
            case _:
                self.check_shared(node, expressions)

    def _auto(self, node: ast.Auto, enclosing: tuple[str, ...]) -> None:
        self.expanded += 1
        statements = expand_auto(node, self, enclosing, self.expanded)
        if statements is not None:
            self.in_auto = True
            self.check_block(statements, enclosing)
            self.in_auto = False

    def seen_let(self, symbol: Symbol) -> Symbol:
        """A guide's lets are computed where it runs."""
        return replace(symbol, role="let")

    def closed(self, scan: OpenScan) -> None:
        super().closed(scan)
        self.own_local |= set(scan.local)
        for name in scan.local:
            self.declared_at.pop(name, None)

    def skip(self, node: ast.Plate | ast.Scan) -> None:
        """A block that cannot be entered: what it declares and samples is not missing because of that."""
        for name in declared_names(node.body):
            self.lost(name)
        names = [*sampled_names(node.body), *(name for auto in autos(node.body) for name in auto.names)]
        for name in names:
            for latent in self.latents.values():
                if name.text in (latent.name, "rest"):
                    self.lose(latent, name.span)

    def lose(self, latent: ir.Latent, span: Span, *, in_auto: bool = False) -> None:
        """A statement about this latent failed; it counts as sampled all the same."""
        self.sampled.setdefault(latent.name, (span, in_auto))
        self.known(latent)

    def free(self, name: ast.Name, *, local: bool = False) -> bool:
        """Whether nothing in the model or the guide has this name yet; from here on something has."""
        first = self.declared_at.get(name.text)
        if first is None and not local and name.text in self.own_local:
            first = self.local[name.text]
        if first is None and name.text in self.dims:
            first = self.dims[name.text].span
        if first is None and name.text in self.plates:
            first = self.plates[name.text].span
        if first is not None:
            return self.taken(name, first)
        self.declared_at[name.text] = name.span
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
        by_pyro = self.model.interface and self.model.framework is not None
        found = classes_of(latent, self.plates, span, whole=by_pyro)
        if isinstance(found, ir.Classes) and self.model.interface and not by_pyro:
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
        if self.model.interface:
            return ir.Summed(tuple(self.classes[name] for name in order), (), ())
        found = sum_out(self.model, [self.classes[name] for name in order], self.enumerated)
        if isinstance(found, Diagnostic):
            self.report.add(found)
            return None
        return found

    # Sites

    def claim(self, name: ast.Name, *, in_auto: bool = False) -> ir.Latent | None:
        """The latent that a statement samples here, or None after saying why it may not."""
        in_auto = in_auto or self.in_auto
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
                errors.is_data(name.text, "a let of the model", name.span, self.hidden[name.text]), name.text
            )
        else:
            known = [*self.latents, "rest"] if self._in_an_auto(name) else self.latents
            self.report.add(errors.not_a_latent(name.text, owner, name.span, known), name.text, owner)
        if name.text in self.report.failed | self.report.skipped:
            return
        self.lost(name)
        close = errors.closest(name.text, [*self.latents, "rest"])
        meant = self.latents if close == "rest" and self._in_an_auto(name) else (close,)
        for latent in meant:
            if latent in self.latents and latent not in self.named and latent not in self.sampled:
                self.lose(self.latents[latent], name.span)

    def _in_an_auto(self, name: ast.Name) -> bool:
        return any(name is one for auto in autos(self.node.body) for one in auto.names)

    def known(self, latent: ir.Latent) -> None:
        """From here on the latent can be read."""
        symbol = Symbol(latent.name, "latent", latent.type, latent.plates, latent.span)
        self.symbols[latent.name] = symbol
        self.later.pop(latent.name, None)
        if self.open is not None:
            self.open.declared(symbol, local=False)

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
        inside = (one for scan in guide.statements if isinstance(scan, ir.Scan) for one in scan.statements)
        for draw in (*guide.statements, *inside):
            if isinstance(draw, ir.Draw | ir.JointDraw) and draw.span != guide.laplace.span:
                name = draw.name if isinstance(draw, ir.Draw) else draw.latents[0].name
                self.report.add(errors.laplace_not_alone(name, draw.span, guide.laplace.span), name)

    def _missing(self) -> None:
        broken_auto = "rest" in self.report.skipped
        for latent in self.latents.values():
            if latent.name in self.sampled or broken_auto:
                continue
            if latent.type.support.row.discrete:
                whole = self.model.framework is not None
                finite = isinstance(classes_of(latent, self.plates, latent.span, whole=whole), ir.Classes)
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
        if self.forgotten:  # what is unused may be there for a statement that is missing, which has been said
            return
        used = references(self.node.body)
        written = {name.text for name in declared_names(self.node.body)}
        for param in guide.params:
            if param.name in written and param.name not in used:
                self.report.add(errors.unused_param(param.name, param.span), param.name)
        report_unused(guide.nets, called(self.node.body), self.report)


def _sums_out(node: ast.Auto) -> bool:
    family = FAMILIES.get(node.family.text)
    return family is not None and family.sums_out
