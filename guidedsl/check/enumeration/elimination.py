"""Exact variable elimination over plates: in which order latents are summed out, and from which terms.

The latent in the most plates goes first. All terms that read it are summed over the plates that it is not in, added up,
and log Σ exp over its values leaves a term over its plates that the other latents there read. That is exact where the
plates of the latents that meet in a term are nested (Obermeyer et al. 2019, tensor variable elimination).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from guidedsl import errors, ir
from guidedsl.check.enumeration.axes import Refused, Rewriter
from guidedsl.check.shapes import latest
from guidedsl.diagnostics import Diagnostic
from guidedsl.ir import Stage, Type
from guidedsl.library import supports as s
from guidedsl.source import Span


def sum_out(model: ir.Model, classes: Sequence[ir.Classes], spans: Mapping[str, Span]) -> ir.Summed | Diagnostic:
    """The model with these latents summed out, or why that has no short form; `spans` are where it is asked for."""
    rewriter = Rewriter(model, classes, spans)
    try:
        statements: list[ir.Let | ir.Param | ir.Term | ir.SumOut] = []
        waiting: list[ir.Term] = []
        for statement in model.statements:
            match statement:
                case ir.Let():
                    statements.append(rewriter.let(statement))
                case ir.Term():
                    term = rewriter.term(statement)
                    (waiting if rewriter.read(term.plates) else statements).append(term)
                case _:
                    statements.append(statement)
        return ir.Summed(tuple(classes), (*statements, *_Elimination(model, rewriter, waiting).run()))
    except Refused as refused:
        return refused.diagnostic


class _Elimination:
    """The sums of one model. `waiting` are the terms that read a latent that is still to be summed out."""

    def __init__(self, model: ir.Model, rewriter: Rewriter, waiting: list[ir.Term]) -> None:
        self.model = model
        self.rewriter = rewriter
        self.waiting = waiting
        self.classes = rewriter.classes
        self.taken = {name.name for name in (*model.latents, *model.dims, *model.fields)}
        self.taken |= {statement.name for statement in model.statements if isinstance(statement, ir.Let | ir.Param)}

    def run(self) -> list[ir.Term | ir.SumOut]:
        done: list[ir.Term | ir.SumOut] = []
        left = list(self.classes)
        while left:
            name = min(reversed(left), key=self._cost)
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
        return -len(self.classes[name].latent.plates), len(met)

    def _sum_out(self, name: str) -> ir.SumOut:
        one = self.classes[name]
        terms = self._readers(name)
        plates = one.latent.plates
        for term in terms:
            self._verify(one, term)
        met = self.rewriter.read(axis for term in terms for axis in term.plates)
        left = tuple(other for other in met if other != name)
        type = Type((), s.support("real"), (*plates, *left), latest(_types(terms)))
        message = ir.Var(self._fresh(f"log_{name}"), "let", replace(type, stage=max(type.stage, Stage.PARAM)))
        self.waiting = [term for term in self.waiting if term not in terms]
        if left:
            passed_on = ir.Term(None, message, None, None, True, message.type.plates, None, one.latent.span)
            self.waiting.append(passed_on)
        return ir.SumOut(one, tuple(terms), (*plates, *met), message)

    def _verify(self, one: ir.Classes, term: ir.Term) -> None:
        """Whether the sum over a latent can be taken row by row, and is not over a part of the rows."""
        span = self.rewriter.spans[one.name]
        for other in self.rewriter.read(term.plates):
            latent = self.classes[other].latent
            if not set(latent.plates) <= set(one.latent.plates):
                finding = errors.classes_meet(one.name, one.latent.plates, other, latent.plates, span, term.span)
                raise Refused(finding)
        for plate in term.plates:
            declared = next((p for p in self.model.plates if p.name == plate), None)
            if declared is not None and declared.batching is not None and plate not in one.latent.plates:
                raise Refused(errors.scale_inside(one.name, plate, declared.batching, span, term.span))

    def _fresh(self, wish: str) -> str:
        """A variable of our own that no declared name is."""
        name, number = wish, 1
        while name in self.taken:
            number += 1
            name = f"{wish}{number}"
        self.taken.add(name)
        return name


def _types(terms: Sequence[ir.Term]) -> list[Type]:
    return [part.type for term in terms for part in (term.value, term.dist) if part is not None]
