"""Exact variable elimination over plates: in which order latents are summed out, and from which terms.

The latent in the most plates goes first. All terms that read it are summed over the plates that it is not in, added up,
and log Σ exp over its values leaves a term over its plates that the other latents there read. That is exact where the
plates of the latents that meet in a term are nested (Obermeyer et al. 2019, tensor variable elimination). The steps of
a scan are its innermost plate; the chains through it are summed out together, by the forward algorithm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from guidedsl import errors, ir
from guidedsl.check.enumeration.axes import Refused, Rewriter
from guidedsl.check.enumeration.chains import first_apart, joined, placed
from guidedsl.check.shapes import latest
from guidedsl.diagnostics import Diagnostic
from guidedsl.ir import Stage, Type
from guidedsl.library import supports as s
from guidedsl.source import Span


def sum_out(model: ir.Model, classes: Sequence[ir.Classes], spans: Mapping[str, Span]) -> ir.Summed | Diagnostic:
    """The model with these latents summed out, or why that has no short form; `spans` are where it is asked for."""
    axes, links = placed(model, classes)
    rewriter = Rewriter(model, axes, spans)
    statements: list[ir.Let | ir.Param | ir.Term | ir.Scan | ir.SumOut | ir.SumChain] = []
    waiting: list[ir.Term] = []
    try:
        for statement in model.statements:
            match statement:
                case ir.Let():
                    statements.append(rewriter.let(statement))
                case ir.Scan():
                    scan = rewriter.scan(statement)
                    statements.append(scan)
                    reading = (term for term in ir.terms_of((scan,)) if rewriter.read(term.plates))
                    waiting += (replace(term, plates=(*term.plates, scan.step)) for term in reading)
                case ir.Term():
                    term = rewriter.term(statement)
                    (waiting if rewriter.read(term.plates) else statements).append(term)
                case _:
                    statements.append(statement)
        sums = _Elimination(model, rewriter, links, waiting).run()
    except Refused as refused:
        return refused.diagnostic
    return ir.Summed(tuple(classes), axes, (*statements, *sums))


class _Elimination:
    """The sums of one model. `waiting` are the terms that read a latent that is still to be summed out."""

    def __init__(self, model: ir.Model, rewriter: Rewriter, links: tuple[ir.Link, ...], waiting: list[ir.Term]) -> None:
        self.plates = {plate.name: plate for plate in model.plates}
        self.rewriter = rewriter
        self.links = list(links)
        self.waiting = waiting
        self.classes = rewriter.classes
        self.taken = _declared(model)

    def run(self) -> list[ir.SumOut | ir.SumChain]:
        chained = {one.name for link in self.links for one in (link.site, link.state)}
        left = [name for name in self.classes if name not in chained]
        done: list[ir.SumOut | ir.SumChain] = []
        while left or self.links:
            chain = max((len(link.site.plates) for link in self.links), default=-1)
            name = min(reversed(left), key=self._cost, default=None)
            if name is None or len(self.classes[name].plates) < chain:
                done.append(self._sum_chain())
            else:
                left.remove(name)
                done.append(self._sum_out(name))
        return done

    def _readers(self, name: str) -> list[ir.Term]:
        """The terms that read a latent, its own first."""
        found = [term for term in self.waiting if name in term.plates]
        return sorted(found, key=lambda term: term.name != name)

    def _cost(self, name: str) -> tuple[int, int]:
        """Latents in many plates first; of these, one that meets few others."""
        met = {other for term in self._readers(name) for other in self.rewriter.read(term.plates)}
        return -len(self.classes[name].plates), len(met)

    def _sum_out(self, name: str) -> ir.SumOut:
        one = self.classes[name]
        terms = self._readers(name)
        met = self._met(one, terms)
        message = self._message(f"log_{name}", terms, (*one.plates, *(other for other in met if other != name)))
        self._pass_on(terms, message, one)
        return ir.SumOut(one, tuple(terms), self.rewriter.sort((*one.plates, *met)), message)

    def _sum_chain(self) -> ir.SumChain:
        """The deepest chain, with those that it meets."""
        links = sorted(self.links, key=lambda link: -len(link.site.plates))
        group, terms = joined(links, self.waiting)
        self.links = [link for link in self.links if link not in group]
        own = {one.name for link in group for one in (link.site, link.state)}
        terms.sort(key=lambda term: term.name not in own)
        first = group[0].site
        met = self._met(first, terms)
        outer = (*first.latent.plates, *(name for name in met if name not in own))
        message = self._message(f"log_{first.name}", terms, outer)
        self._pass_on(terms, message, first)
        ordered, kept = first_apart(self._in_order(group), terms, self.rewriter)
        return ir.SumChain(tuple(ordered), tuple(kept), self.rewriter.sort((*first.plates, *met, *own)), message)

    def _in_order(self, group: list[ir.Link]) -> list[ir.Link]:
        names = list(self.classes)
        return sorted(group, key=lambda link: names.index(link.site.name))

    def _met(self, one: ir.Classes, terms: Sequence[ir.Term]) -> tuple[str, ...]:
        """The enumerated latents in the terms, after verifying that the sum over one can be taken row by row."""
        for term in terms:
            self._verify(one, term)
        return self.rewriter.read(axis for term in terms for axis in term.plates)

    def _message(self, wish: str, terms: Sequence[ir.Term], axes: Sequence[str]) -> ir.Var:
        parts = [part.type for term in terms for part in (term.value, term.dist) if part is not None]
        stage = max(latest(parts), Stage.PARAM)
        return ir.Var(self._fresh(wish), "let", Type((), s.support("real"), self.rewriter.sort(axes), stage))

    def _pass_on(self, terms: Sequence[ir.Term], message: ir.Var, one: ir.Classes) -> None:
        """Replace terms by what is left of them, where that still reads a latent."""
        self.waiting = [term for term in self.waiting if term not in terms]
        if self.rewriter.read(message.type.plates):
            span = one.latent.span
            self.waiting.append(ir.Term(None, message, None, True, message.type.plates, None, span))

    def _verify(self, one: ir.Classes, term: ir.Term) -> None:
        """Whether the sum over a latent can be taken row by row, and is not over a part of the rows."""
        name, span = one.latent.name, self.rewriter.spans[one.latent.name]
        for other in self.rewriter.read(term.plates):
            met = self.classes[other]
            if not set(met.plates) <= set(one.plates):
                finding = errors.classes_meet(name, one.plates, met.latent.name, met.plates, span, term.span)
                raise Refused(finding)
        for axis in term.plates:
            plate = self.plates.get(axis)
            if plate is not None and plate.batching is not None and axis not in one.plates:
                raise Refused(errors.scale_inside(name, axis, plate.batching, span, term.span))

    def _fresh(self, wish: str) -> str:
        """A variable of our own that no declared name is."""
        name, number = wish, 1
        while name in self.taken:
            number += 1
            name = f"{wish}{number}"
        self.taken.add(name)
        return name


def _declared(model: ir.Model) -> set[str]:
    names = {declared.name for declared in model.latents}
    names |= {declared.name for declared in model.dims} | {declared.name for declared in model.fields}
    for statement in model.statements:
        if isinstance(statement, ir.Let | ir.Param):
            names.add(statement.name)
        elif isinstance(statement, ir.Scan):
            names |= {statement.step, *(carry.name for carry in statement.carries)}
            names |= {inner.name for inner in statement.statements if isinstance(inner, ir.Let)}
    return names
