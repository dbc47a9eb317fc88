"""Scans as Python. What does not hang on the recurrence is computed for all steps at once, the rest in a loop.

A carry that becomes a value of its own step, as in `next h = x`, is that value shifted by one: then nothing needs a
loop. Otherwise the loop holds what the carries are made of and no more; it collects what is read behind, and the terms
of the density are computed from that for all steps at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from typing import Protocol

from guidedsl import ir
from guidedsl.backend.emit import Emitter, at
from guidedsl.backend.names import Locals, local_name
from guidedsl.backend.statements import Statement, grouped, let_statements, same_call
from guidedsl.backend.steps import Steps
from guidedsl.check.walk import substitute, variables

Node = ir.Let | ir.Draw | ir.Carry


def definitions(statements: Iterable[object]) -> dict[str, tuple[object, ...]]:
    """What each let, emit and carry is made of, by name."""
    found: dict[str, tuple[object, ...]] = {}
    for statement in statements:
        if isinstance(statement, ir.Let):
            found[statement.name] = (*found.get(statement.name, ()), statement.value, statement.bounds)
        elif isinstance(statement, ir.Scan):
            inner = definitions(statement.statements)
            inner |= {carry.name: (carry.init, carry.next) for carry in statement.carries}
            for name, parts in inner.items():
                found[name] = (*found.get(name, ()), *parts)
    return found


def declared_names(statements: Iterable[ir.ModelStatement | ir.GuideStatement]) -> set[str]:
    """Every name that statements declare or sample, those of scans included."""
    found: set[str] = set()
    for statement in statements:
        match statement:
            case ir.Scan():
                inner = {s.name for s in statement.statements if isinstance(s, ir.Let | ir.Draw)}
                found |= inner | {statement.step, *(carry.name for carry in statement.carries)}
            case ir.Let() | ir.Param() | ir.Draw():
                found.add(statement.name)
    return found


def mask_of_steps(when: ir.Expr, scan: ir.Scan, emitter: Emitter) -> str:
    """The condition of an observed site for all steps of its scan, from data alone."""
    steps = Steps(scan)
    lets: dict[str, ir.Expr] = {s.name: s.value for s in scan.statements if isinstance(s, ir.Let)}
    alone: ir.Expr = substitute(when, lets)
    moving = {scan.step, *scan.sites}
    number = emitter.step_numbers(scan.size)
    inner = emitter.inside({scan.step: number}, steps.plate)
    return inner.materialised(steps.at_once(alone, moving), (*scan.plates, scan.step), when.type.event).text


def read_behind(
    statements: Iterable[ir.ModelStatement | ir.GuideStatement], own: ir.Scan, needed: Set[str], *, terms: bool = True
) -> set[str]:
    """The names that the other statements read, as far as their lets and carries are needed."""
    found: set[str] = set()
    for statement in statements:
        if statement is own:
            continue
        inside = (*statement.statements, *statement.carries) if isinstance(statement, ir.Scan) else (statement,)
        for part in inside:
            if isinstance(part, ir.Let | ir.Carry) and part.name not in needed:
                continue
            if not isinstance(part, ir.Param) and (terms or not isinstance(part, ir.Term)):
                found |= {var.name for var in variables(part)}
    return found


def closure(targets: Iterable[object], made_of: Mapping[str, tuple[object, ...]]) -> set[str]:
    """The lets, emits and carries that the targets read, through others too."""
    wanted: set[str] = set()
    pending = [var.name for target in targets for var in variables(target)]
    while pending:
        name = pending.pop()
        if name in made_of and name not in wanted:
            wanted.add(name)
            pending.extend(var.name for part in made_of[name] for var in variables(part))
    return wanted


class Sampler(Protocol):
    """How a guide writes the draws of a scan."""

    def sample(self, draw: ir.Draw, emitter: Emitter, body: list[Statement]) -> None:
        """Write a draw of all steps at once, and count its density."""

    def sample_step(self, draw: ir.Draw, value: str, emitter: Emitter, body: list[Statement]) -> str | None:
        """Write a draw of one step; gives its log density, summed over its event, or None where it does not count."""

    def count(self, draw: ir.Draw, log_q: str, emitter: Emitter) -> None:
        """Count the density of a draw, a value a step."""


class ScanWriter:
    """Writes one scan of a model or of a guide into `body`.

    `behind` holds the names that are read behind the scan; with `terms` the scan's terms of the density are wanted too.
    """

    def __init__(
        self,
        scan: ir.Scan,
        emitter: Emitter,
        names: Locals,
        body: list[Statement],
        behind: Set[str],
        *,
        terms: bool = False,
        sampler: Sampler | None = None,
    ) -> None:
        self.scan, self.emitter, self.names, self.body = scan, emitter, names, body
        own: list[Node] = [*scan.emits, *scan.carries, *(s for s in scan.statements if isinstance(s, ir.Draw))]
        self.behind = behind & {node.name for node in own}
        self.sampler = sampler
        self.steps = Steps(scan)
        self.terms = [s for s in scan.statements if isinstance(s, ir.Term)] if terms else []
        self.nodes = self._needed()
        self.made = {node.name for node in self.nodes}
        self.ranks = {var.name: len(var.type.event) for var in variables((scan.statements, scan.carries))}
        self.number: str | None = None
        self.known: set[str] = set()
        self.densities: list[tuple[ir.Draw, str]] = []
        self.texts: dict[str, str] = {}
        """What holds the values of all steps, by name: this is what moves with the steps."""
        if sampler is None:
            fields = {var.name for var in variables(scan.statements) if var.role == "observed"}
            self.texts = {name: emitter.field(name) if name in fields else local_name(name) for name in scan.sites}

    def _needed(self) -> list[Node]:
        scan = self.scan
        made_of = definitions((scan,))
        draws = [s for s in scan.statements if isinstance(s, ir.Draw)]
        outside = [part for name in self.behind for part in made_of.get(name, ())]
        needed = closure((*self.terms, *draws, *outside), made_of) | self.behind
        nodes: list[Node] = [s for s in scan.statements if isinstance(s, ir.Let | ir.Draw)]
        nodes += scan.carries
        return [node for node in nodes if isinstance(node, ir.Draw) or node.name in needed]

    @property
    def moving(self) -> set[str]:
        return {self.scan.step, *self.texts}

    # The order of things

    def write(self) -> None:
        """All statements of the scan, its terms excepted."""
        left = self._all_at_once(self.nodes)
        looped = self._looped(left)
        if looped:
            others = [node for node in left if node not in looped]
            self._loop(looped, others)
            self.known |= {node.name for node in looped}
            left = self._all_at_once(others)
        assert not left, "this should never happen, please file a bug"

    def whole(self, term: ir.Term) -> tuple[ir.Term, Emitter]:
        """A term over all steps, and what emits it."""
        plates = tuple(plate for plate in term.plates if plate != self.scan.step)
        value = replace(self.steps.at_once(term, self.moving), plates=(*plates, self.scan.step))
        self._counted(value, term.span.line)
        return value, self._vector()

    def _all_at_once(self, nodes: list[Node]) -> list[Node]:
        """Write what is made of known values alone, for all steps at once; gives what is left."""
        left = list(nodes)
        while True:
            ready = next((node for node in left if self._reads(node) <= self.known), None)
            if ready is None:
                return left
            left.remove(ready)
            match ready:
                case ir.Carry():
                    self._shift(ready)
                case ir.Let():
                    others = [node for node in left if isinstance(node, ir.Let) and same_call(node, ready)]
                    for group in grouped((ready, *others)):
                        self._let(group)
                    left = [node for node in left if node not in others]
                    self.known |= {node.name for node in others}
                case ir.Draw():
                    self._draw(ready)
            self.known.add(ready.name)

    def _reads(self, node: Node) -> set[str]:
        return {var.name for var in variables(_parts(node))} & self.made

    def _looped(self, left: list[Node]) -> list[Node]:
        """The nodes of the recurrence: carries and draws that are not known yet, and the lets that they are made of."""
        heads = [node for node in left if not isinstance(node, ir.Let)]
        made_of: dict[str, tuple[object, ...]] = {
            node.name: (node.value, node.bounds) for node in left if isinstance(node, ir.Let)
        }
        wanted = closure(map(_parts, heads), made_of)
        return [node for node in left if node in heads or node.name in wanted]

    # The recurrence

    def _loop(self, nodes: list[Node], others: list[Node]) -> None:
        """A loop over the steps, which collects what `others`, the terms and the statements behind it read."""
        scan, step = self.scan, local_name(self.scan.step)
        carries = [node for node in nodes if isinstance(node, ir.Carry)]
        values = {
            node.name: self.names.fresh(f"{local_name(node.name)}_{step}")
            for node in nodes
            if not isinstance(node, ir.Carry)
        }
        read = {var.name for var in variables((tuple(map(_parts, others)), tuple(self.terms)))}
        spelled = {name: at(text, step, self.ranks.get(name, 0)) for name, text in self.texts.items()}
        spelled |= values | {scan.step: step} | {carry.name: local_name(carry.name) for carry in carries}
        emitter, inner, collected = self.emitter.inside(spelled), list[Statement](), list[tuple[Node, str]]()
        for carry in carries:
            start = self.emitter.tensor(carry.init, carry.plates, carry.type.event)
            self.body.append(Statement(f"{local_name(carry.name)} = {start}", carry.span.line))
            if carry.name in read:
                collected.append((carry, self._collect(carry, local_name(carry.name), carry.span.line, inner)))
        for group in grouped(nodes):
            lets = [node for node in group if isinstance(node, ir.Let)]
            inner += let_statements([self.steps.one(let, set(self.texts)) for let in lets], emitter) if lets else []
            for node in group:
                value = values.get(node.name, "")
                if isinstance(node, ir.Draw):
                    self._step_of_draw(node, value, emitter, inner, collected, read)
                elif isinstance(node, ir.Let) and node.name in read | self.behind:
                    collected.append((node, self._collect(node, value, node.span.line, inner)))
        inner += self._handed_on(carries, emitter)
        self.body.append(
            Statement(f"for {step} in range({self.emitter.size(scan.size)}):", scan.span.line, tuple(inner))
        )
        for node, steps in collected:
            self._gathered(node, steps)
        for draw, steps in self.densities:
            log_q = self.names.fresh(f"log_q_{local_name(draw.name)}")
            self.body.append(Statement(f"{log_q} = fn.stack({steps}, -1)", draw.span.line))
            assert self.sampler is not None
            self.sampler.count(replace(draw, plates=(*draw.plates, scan.step)), log_q, self._vector())

    def _collect(self, node: Node, value: str, line: int, inner: list[Statement], name: str = "") -> str:
        """Keep a value of every step in a list."""
        steps = self.names.fresh(f"{name or local_name(node.name)}_steps")
        self.body.append(Statement(f"{steps}: list[Tensor] = []", line))
        inner.append(Statement(f"{steps}.append({value})", line))
        return steps

    def _gathered(self, node: Node, steps: str) -> None:
        """The kept values of a node as one tensor."""
        rank = len(node.type.event) if isinstance(node, ir.Carry | ir.Draw) else len(node.event)
        name = self._before(node) if isinstance(node, ir.Carry) else local_name(node.name)
        self.body.append(Statement(f"{name} = fn.stack({steps}, {-1 - rank})", node.span.line))
        self.texts[node.name] = name

    def _step_of_draw(
        self,
        draw: ir.Draw,
        value: str,
        emitter: Emitter,
        inner: list[Statement],
        collected: list[tuple[Node, str]],
        read: Set[str],
    ) -> None:
        assert self.sampler is not None
        line = draw.span.line
        log_q = self.sampler.sample_step(self.steps.one(draw, set(self.texts)), value, emitter, inner)
        if draw.latent is not None or draw.name in read | self.behind:
            collected.append((draw, self._collect(draw, value, line, inner)))
        if log_q is not None:
            self.densities.append((draw, self._collect(draw, log_q, line, inner, f"log_q_{local_name(draw.name)}")))

    def _handed_on(self, carries: list[ir.Carry], emitter: Emitter) -> list[Statement]:
        """The carries' next values, all at once where one may read another."""
        if not carries:
            return []
        targets = ", ".join(local_name(carry.name) for carry in carries)
        values = [
            emitter.tensor(self.steps.one(carry.next, set(self.texts)), carry.plates, carry.type.event)
            for carry in carries
        ]
        return [Statement(f"{targets} = {', '.join(values)}", carries[0].next_span.line)]

    # All steps at once

    def _vector(self) -> Emitter:
        spelled = dict(self.texts)
        if self.number is not None:
            spelled[self.scan.step] = self.number
        return self.emitter.inside(spelled, self.steps.plate)

    def _counted(self, node: object, line: int) -> None:
        """The numbers of the steps as a tensor, where a value of all steps reads them."""
        if self.number is None and any(var.role == "step" for var in variables(node)):
            self.number = self.names.fresh("steps")
            self.body.append(Statement(f"{self.number} = {self.emitter.step_numbers(self.scan.size)}", line))

    def _let(self, lets: Sequence[ir.Let]) -> None:
        """The lets of one `let (a, b) = f(x)`, or a single one."""
        written: list[ir.Let] = []
        for let in lets:
            whole = self.steps.at_once(let, self.moving)
            if whole != let or isinstance(let, ir.Emit):
                whole = replace(whole, plates=(*let.plates, self.scan.step))
            self._counted(whole, let.span.line)
            written.append(whole)
        self.texts |= {
            let.name: local_name(let.name) for let, whole in zip(lets, written, strict=True) if whole is not let
        }
        self.body += let_statements(written, self._vector())

    def _shift(self, carry: ir.Carry) -> None:
        line, rank = carry.next_span.line, len(carry.type.event)
        value = self.steps.at_once(carry.next, self.moving)
        self._counted(value, line)
        text = self._vector().tensor(value, (*carry.plates, self.scan.step), carry.type.event)
        last = carry.name in self.behind
        if last and not text.replace(".", "").isidentifier():
            after = self.names.fresh(f"{local_name(carry.name)}_after")
            self.body.append(Statement(f"{after} = {text}", line))
            text = after
        if self._read_in_steps(carry.name):
            init = carry.init
            start = (
                self.emitter.emit(init)
                if init.type.number
                else self.emitter.materialised(init, carry.plates, carry.type.event)
            )
            before = self._before(carry)
            self.body.append(Statement(f"{before} = fn.shifted({start.text}, {text}, {rank})", carry.span.line))
            self.texts[carry.name] = before
        if last:
            self.body.append(Statement(f"{local_name(carry.name)} = {at(text, '-1', rank)}", line))

    def _before(self, carry: ir.Carry) -> str:
        """A variable for what each step was handed; the carry's own name is the last one's."""
        return self.names.fresh(f"{local_name(carry.name)}_in")

    def _read_in_steps(self, name: str) -> bool:
        return any(var.name == name for var in variables((tuple(map(_parts, self.nodes)), tuple(self.terms))))

    def _draw(self, draw: ir.Draw) -> None:
        whole = replace(self.steps.at_once(draw, self.moving), plates=(*draw.plates, self.scan.step))
        self._counted(whole, draw.span.line)
        assert self.sampler is not None
        self.sampler.sample(whole, self._vector(), self.body)
        self.texts[draw.name] = local_name(draw.name)


def _parts(node: Node) -> object:
    """What a node is made of at a step."""
    match node:
        case ir.Carry():
            return node.next
        case ir.Let():
            return node.value, node.bounds
        case ir.Draw():
            return node.dist, node.via
