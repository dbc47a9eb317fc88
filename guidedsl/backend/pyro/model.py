"""A model as a Pyro function: a `pyro.sample` for each site, a `pyro.factor` for what Pyro has no distribution for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from guidedsl import ir
from guidedsl.backend.code import SUM, UNARY, Code
from guidedsl.backend.functions import model_locals
from guidedsl.backend.names import local_name
from guidedsl.backend.pyro.distributions import log_density, pyro_distribution
from guidedsl.backend.pyro.emit import PyroEmitter, over
from guidedsl.backend.pyro.function import FunctionContext, FunctionWriter, names_read
from guidedsl.backend.pyro.layout import Slots
from guidedsl.backend.pyro.supports import pyro_constraint
from guidedsl.backend.scans import ScanWriter, closure, definitions, read_behind
from guidedsl.backend.statements import Statement, grouped, let_statements
from guidedsl.diagnostics import Diagnostic
from guidedsl.ir import Stage
from guidedsl.library.supports import support


def model_function(
    model: ir.Model, slots: Slots, name: str, classes: Mapping[str, str], found: list[Diagnostic]
) -> FunctionContext:
    """The model as a function called `name`; what Pyro cannot say goes into `found`."""
    writer = _ModelWriter(model, slots, model_locals(model), classes, found)
    writer.write()
    writer.finish()
    doc = model.docstring or f"Model {model.name}."
    return FunctionContext(name, doc, writer.arguments(), (*writer.dims(), *writer.written()))


class _ModelWriter(FunctionWriter):
    """Writes the statements of one model. What has no distribution in Pyro is sampled first, then weighed."""

    def write(self) -> None:
        model = self.model
        terms = [s for s in model.statements if isinstance(s, ir.Term | ir.Scan)]
        made_of = definitions(model.statements)
        ends = ir.terms_of(model.statements)
        needed = closure(ends, made_of)
        reads = names_read(ends, made_of) | {term.name for term in ends if term.name is not None}
        reads |= self._shaping(reads)
        self.prelude(reads)
        readers = (*terms, *(made_of[name] for name in needed))
        param = self.params([s for s in model.statements if isinstance(s, ir.Param)], readers)
        waiting = [z for z in model.latents if self._improper(z)]
        for group in grouped(model.statements):
            statement = group[0]
            inside = statement.sites if isinstance(statement, ir.Scan) else ()
            waiting = self._sampled_before(statement.span.line, inside, waiting)
            with self.refusing(statement.span):
                match statement:
                    case ir.Param():
                        param(statement)
                    case ir.Let() if statement.value.type.stage > Stage.DATA:
                        wanted = [let for let in group if isinstance(let, ir.Let) and let.name in needed]
                        for one in let_statements(wanted, self.emitter) if wanted else []:
                            self.lines.append(((), one))
                    case ir.Term():
                        self._term(statement)
                    case ir.Scan():
                        self._scan(statement, needed)
        self._sampled_before(None, (), waiting)

    def _shaping(self, reads: set[str]) -> set[str]:
        """Data that the excuses of other data read."""
        whens = tuple(t.when for t in self.model.terms if t.when is not None)
        return names_read(whens, definitions(self.model.statements))

    # Sites

    def _improper(self, latent: ir.Latent) -> bool:
        """Whether a latent's density is written as a factor: Flat, restricted, or that of a recurrence."""
        if latent.steps is not None:
            return True
        terms = [term for term in self.model.terms if term.name == latent.name]
        if not terms:
            return True
        dist = terms[0].dist
        return dist is not None and (dist.row.rule == "truncated" or not terms[0].normalised)

    def _sampled_before(self, line: int | None, inside: Sequence[str], waiting: Sequence[ir.Latent]) -> list[ir.Latent]:
        """Samples what is declared above a line, or inside the scan that begins there; gives the rest."""
        left = []
        for latent in waiting:
            if line is not None and latent.span.line > line and latent.name not in inside:
                left.append(latent)
                continue
            with self.refusing(latent.span):
                kind, rank = latent.type.support, len(latent.type.event)
                kind = support("real") if kind.row.name == "zero_sum" else kind
                constraint = pyro_constraint(self.emitter, kind, latent.bounds, None, latent.plates, rank)
                own = rank - kind.row.rank
                if own:
                    constraint = f"constraints.independent({constraint}, {own})"
                shape = self.emitter.shape((), latent.type.event)
                improper = f"dist.ImproperUniform({constraint}, (), {shape})"
                code = f'{local_name(latent.name)} = pyro.sample("{latent.name}", {improper})'
                self.add(code, latent.span, latent.plates)
        return left

    def _term(self, term: ir.Term, emitter: PyroEmitter | None = None) -> None:
        emitter = emitter or self.emitter
        if term.dist is None:
            self._factor(term, emitter)
            return
        assert term.name is not None
        latent = next((z for z in self.model.latents if z.name == term.name), None)
        if (latent is not None and self._improper(latent)) or term.dist.row.rule == "truncated":
            self._weighed(term, emitter)
            return
        event = term.value.type.event
        batch = len(event) - term.dist.own
        code = pyro_distribution(emitter, term.dist, term.plates, batch, event)
        if term.when is not None:
            mask = emitter.aligned(term.when, term.plates, batch)
            code = Code(f"{code.text}.mask({mask.at(UNARY)}.bool())")
        batch += len(emitter.steps_of(term.plates))
        if batch:
            code = Code(f"{code.text}.to_event({batch})")
        plates = self._known_plates(term.plates)
        if latent is not None:
            text = f'pyro.sample("{term.name}", {code.text})'
            self.sampled(local_name(term.name), text, term.dist, latent.type, term.span, plates)
        else:
            text = f'pyro.sample("{term.name}", {code.text}, obs={emitter.field(term.name)})'
            self.add(text, term.span, plates)

    def _weighed(self, term: ir.Term, emitter: PyroEmitter) -> None:
        """The density of a site as a factor."""
        assert term.dist is not None
        assert term.name is not None
        batch = len(term.value.type.event) - term.dist.own
        value = emitter.aligned(term.value, term.plates, len(term.value.type.event))
        code = log_density(emitter, term.dist, value.text, term.plates, batch)
        if term.when is not None:
            code = Code(f"fn.masked({emitter.aligned(term.when, term.plates, batch).text}, {code.text})")
        steps = len(emitter.steps_of(term.plates))
        name = self._factor_name(f"{term.name}_log_density")
        self.add(f'pyro.factor("{name}", {over(code, batch + steps).text})', term.span, self._known_plates(term.plates))

    def _factor(self, term: ir.Term, emitter: PyroEmitter) -> None:
        steps = emitter.steps_of(term.plates)
        moving = [step for step in steps if step in term.value.type.plates]
        code = over(emitter.emit(term.value), len(moving))
        code = Code(emitter.as_tensor(code.text, term.value)) if term.value.type.number else code
        for step in steps:
            if step not in moving:
                code = Code(f"{emitter.size(emitter.plates[step].size)} * {code.at(UNARY)}", SUM)
        name = self._factor_name(f"factor_line_{term.span.line}")
        self.add(f'pyro.factor("{name}", {code.text})', term.span, self._known_plates(term.plates))

    def _factor_name(self, wish: str) -> str:
        return self.names.fresh(wish)

    def _known_plates(self, plates: Sequence[str]) -> tuple[str, ...]:
        return tuple(plate for plate in plates if plate in self.emitter.slots)

    # Scans

    def _scan(self, scan: ir.Scan, needed: set[str]) -> None:
        behind = read_behind(self.model.statements, scan, needed)
        body: list[Statement] = []
        writer = ScanWriter(scan, self.emitter, self.names, body, behind, terms=True)
        writer.write()
        self.lines += [((), statement) for statement in body]
        for term in writer.terms:
            before = len(body)
            whole, emitter = writer.whole(term)
            self.lines += [((), statement) for statement in body[before:]]
            assert isinstance(emitter, PyroEmitter)
            self._term(whole, emitter)
