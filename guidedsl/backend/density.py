"""The log density of a model as Python, with or without some latents summed out."""

from __future__ import annotations

from guidedsl import ir
from guidedsl.backend.code import Code, added
from guidedsl.backend.emit import Emitter
from guidedsl.backend.functions import Body, model_emitter, model_locals, model_params, used_dims
from guidedsl.backend.names import local_name
from guidedsl.backend.nets import Variables, net_statements
from guidedsl.backend.scans import ScanWriter, closure, definitions, read_behind
from guidedsl.backend.statements import Statement, grouped, let_statements
from guidedsl.backend.sums import SumWriter, classes_statement
from guidedsl.backend.terms import scaled, term_code
from guidedsl.check.walk import calls, variables
from guidedsl.ir import Stage
from guidedsl.source import Span


def density(model: ir.Model, callees: Variables, summed: ir.Summed | None = None) -> Body:
    """The statements of a log density, which add its terms up in `log_p`."""
    return _Writer(model, summed).write(callees)


class _Writer:
    """Writes one log density. The terms that enter a sum wait for it; those of a scan are written behind its loop."""

    def __init__(self, model: ir.Model, summed: ir.Summed | None) -> None:
        self.model = model
        self.axes = summed.axes if summed is not None else ()
        everything = summed.statements if summed is not None else model.statements
        self.sums = [s for s in everything if isinstance(s, ir.SumOut | ir.SumChain)]
        self.statements = [s for s in everything if not isinstance(s, ir.SumOut | ir.SumChain)]
        self.untyped = any(True for _ in calls(everything))
        self.emitter = model_emitter(model, self.axes)
        self.names = model_locals(model)
        self.waiting = {term.span: term for each in self.sums for term in each.terms}
        self.scans: dict[Span, ScanWriter] = {}
        self.body: list[Statement] = []
        self.started = False

    def write(self, callees: Variables) -> Body:
        made_of = definitions(self.statements)
        ends = (*ir.terms_of(self.statements), *self.sums)
        needed = closure(ends, made_of)
        parts = (*ends, *(made_of[name] for name in needed))
        used = {var.name for var in variables(parts)}
        params = model_params(self.model, parts, self.emitter, self.names)
        self.body += [classes_statement(one, self.emitter) for one in self.axes if one.name in used]
        self.names.taken |= {local_name(each.message.name) for each in self.sums}
        for group in grouped(self.statements):
            statement = group[0]
            match statement:
                case ir.Param():
                    self.body += params.get(statement.name, [])
                case ir.Let() if statement.value.type.stage > Stage.DATA:
                    wanted = [let for let in group if isinstance(let, ir.Let) and let.name in needed]
                    self.body += let_statements(wanted, self.emitter) if wanted else []
                case ir.Term():
                    self._term(statement, self.emitter)
                case ir.Scan():
                    self._scan(statement, needed)
        self._sums()
        if not self.started:
            self.body.append(Statement("log_p = data.new_full((), 0.0)", self.model.span.line))
        nets = net_statements(self.emitter.callees.values(), callees, self.emitter)
        return Body((*nets, *self.body), used_dims(self.emitter, self.model), bool(params))

    def _add(self, code: Code, line: int, *, constant: bool = False) -> None:
        text = f"log_p = {added('log_p', code)}"
        if not self.started:
            # What a net or an extern returns has no type, and a sum with it none either.
            target = "log_p: Tensor" if self.untyped else "log_p"
            text = f"{target} = {f'data.new_full((), {code.text})' if constant else code.text}"
        self.body.append(Statement(text, line))
        self.started = True

    def _term(self, term: ir.Term, emitter: Emitter) -> None:
        constant = term.dist is None and term.value.type.number
        self._add(term_code(term, emitter), term.span.line, constant=constant)

    def _scan(self, scan: ir.Scan, needed: set[str]) -> None:
        outside = [term for term in self.waiting.values() if scan.step not in term.plates]
        behind = read_behind([*self.statements, *outside], scan, needed)
        writer = ScanWriter(scan, self.emitter, self.names, self.body, behind, terms=True)
        writer.write()
        for term in writer.terms:
            if term.span in self.waiting:
                self.scans[term.span] = writer
            else:
                self._term(*writer.whole(term))

    def _sums(self) -> None:
        writer = SumWriter(self.emitter, self.names, self.body, self._resolve)
        for each in self.sums:
            total = writer.write(each)
            if total is not None:
                rows = tuple(plate for plate in each.plates if plate in self.emitter.plates)
                self._add(scaled(total, rows, self.emitter), each.span.line)

    def _resolve(self, term: ir.Term) -> tuple[ir.Term, Emitter]:
        """A term that waited, one of a scan for all steps at once, and what emits it."""
        return self.scans[term.span].whole(term) if term.span in self.scans else (term, self.emitter)
