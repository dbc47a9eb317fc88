"""A model run forward: a function that draws its sites, and one that gives the density of each observation."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from guidedsl import ir
from guidedsl.backend.code import summed
from guidedsl.backend.distributions import sample
from guidedsl.backend.emit import Emitter, at
from guidedsl.backend.functions import model_emitter, model_params
from guidedsl.backend.names import Locals, data_attribute, extern_name, local_name
from guidedsl.backend.nets import Variables, net_statements
from guidedsl.backend.scans import ScanWriter, closure, declared_names, definitions, read_behind
from guidedsl.backend.statements import Statement, grouped, let_statements, param_reads, param_statements
from guidedsl.backend.terms import log_density
from guidedsl.check.walk import calls, variables
from guidedsl.ir import Stage


@dataclass(frozen=True)
class ForwardContext:
    """One of the two functions.

    `sites` are the sites of its result with the variables that hold them; `unpack` names the latents that it reads,
    `sure` those of them that may be None elsewhere.
    """

    function: str
    dims: tuple[tuple[str, str], ...]
    has_params: bool
    body: tuple[Statement, ...]
    sites: tuple[tuple[str, str], ...]
    unpack: str = ""
    sure: tuple[str, ...] = ()

    @property
    def result(self) -> str:
        """`{"y": y}`."""
        return _mapping(self.sites)


def simulation(model: ir.Model, function: str, callees: Variables) -> ForwardContext | None:
    """The function that draws every site it is not given; None for an interface, whose density is elsewhere."""
    if model.interface or not model.terms:
        return None
    writer = _Simulation(as_sites(model))
    return writer.write(function, callees)


def likelihood(model: ir.Model, function: str, callees: Variables, optional: Collection[str]) -> ForwardContext | None:
    """The function that gives each observed site's log density, entry by entry; None where nothing is observed."""
    observed = {field.name for field in model.fields if field.role == "observed"}
    alone = replace(model, statements=tuple(_with_terms(model.statements, observed)))
    if model.interface or not alone.terms:
        return None
    context = _Likelihood(alone).write(function, callees)
    read = _reads(alone.terms, definitions(alone.statements))
    kept = [z.name for z in model.latents if z.name in read]
    targets = [local_name(z.name) if z.name in kept else "_" for z in model.latents] if kept else []
    return replace(
        context,
        unpack=f"{', '.join(targets)}{',' if len(targets) == 1 else ''}",
        sure=tuple(local_name(name) for name in kept if name in optional),
    )


def _with_terms(statements: Iterable[ir.ModelStatement], names: set[str]) -> Iterator[Any]:
    """The statements with only the terms of these sites."""
    for statement in statements:
        if isinstance(statement, ir.Scan):
            kept = tuple(s for s in statement.statements if not isinstance(s, ir.Term) or s.name in names)
            yield replace(statement, statements=kept)
        elif not isinstance(statement, ir.Term) or statement.name in names:
            yield statement


def forward_metadata(
    model: ir.Model, simulate: ForwardContext | None, log_likelihood: ForwardContext | None
) -> Iterator[str]:
    """What the generated `Model` knows of these functions."""
    if simulate is not None:
        yield f"simulate={simulate.function}"
        refused, after = not_drawn(model), readers(model)
        if refused:
            yield f"not_drawn={_mapping((name, _text(reason)) for name, reason in refused.items())}"
        if after:
            rows = ((name, f"({', '.join(map(_text, others))},)") for name, others in after.items())
            yield f"readers={_mapping(rows)}"
    if log_likelihood is not None:
        yield f"log_likelihood={log_likelihood.function}"


def _mapping(rows: Iterable[tuple[str, str]]) -> str:
    shown = ", ".join(f"{_text(name)}: {value}" for name, value in rows)
    return f"{{{shown}}}"


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


# What is not drawn


def not_drawn(model: ir.Model) -> dict[str, str]:
    """The sites that cannot be drawn from what the text says of them, with why."""
    made_of = definitions(model.statements)
    sites = [latent.name for latent in model.latents]
    sites += [field.name for field in model.fields if field.role == "observed"]
    terms = {term.name: term for term in model.terms if term.dist is not None}
    found: dict[str, str] = {}
    for name in sites:
        if name not in terms:
            found[name] = "its prior is Flat, which is improper"
        elif not terms[name].normalised:
            found[name] = "its type restricts its prior to a set whose probability has no closed form"
    for term in model.terms:
        if term.dist is None:
            read = _reads((term.value,), made_of)
            reason = f"the factor on line {term.span.line} reads it, so its law is not what is written behind `~`"
            found |= {name: reason for name in sites if name in read and name not in found}
    return {name: found[name] for name in sites if name in found}


def readers(model: ir.Model) -> dict[str, tuple[str, ...]]:
    """By latent, the latents outside of its plates whose priors read it: with these known, it is not its prior's."""
    made_of = definitions(model.statements)
    latents = {latent.name: latent for latent in model.latents}
    reads = {
        term.name: _reads((term.dist,), made_of)
        for term in model.terms
        if term.dist is not None and term.name in latents
    }
    found = {
        name: tuple(
            other
            for other, read in reads.items()
            if other is not None and name in read and not set(latents[other].plates) >= set(latent.plates)
        )
        for name, latent in latents.items()
    }
    return {name: others for name, others in found.items() if others}


def _reads(parts: tuple[object, ...], made_of: Mapping[str, tuple[object, ...]]) -> set[str]:
    """Every name that the parts read, through lets too."""
    return {var.name for part in (*parts, *(made_of[n] for n in closure(parts, made_of))) for var in variables(part)}


# Observed sites as sites


def as_sites(model: ir.Model) -> ir.Model:
    """The model with its observed sites as unknown as its latents, and what is made of them too."""
    made_of = definitions(model.statements)
    moved = {field.name for field in model.fields if field.role == "observed"}
    while True:
        more = {name for name, parts in made_of.items() if any(var.name in moved for var in variables(parts))} - moved
        if not more:
            break
        moved |= more
    return replace(model, statements=tuple(_restaged(statement, moved)[0] for statement in model.statements))


_LEAVES = (ir.Type, ir.Latent, ir.Callee, type)
_ROLES: dict[ir.Role, ir.Role] = {"observed": "latent", "derived": "let"}


def _restaged(node: Any, moved: set[str]) -> tuple[Any, bool]:
    """The node with what reads `moved` known as late as a latent is, and whether it does."""
    if isinstance(node, ir.Var):
        if node.name not in moved:
            return node, False
        role = _ROLES.get(node.role, node.role)
        return replace(node, role=role, type=replace(node.type, stage=Stage.LATENT)), True
    if isinstance(node, tuple):
        items = [_restaged(item, moved) for item in node]
        return tuple(item for item, _ in items), any(moves for _, moves in items)
    if not is_dataclass(node) or isinstance(node, _LEAVES):
        return node, False
    parts = {field.name: _restaged(getattr(node, field.name), moved) for field in fields(node)}
    changed = {name: part for name, (part, moves) in parts.items() if moves}
    type_ = getattr(node, "type", None)
    if changed and isinstance(type_, ir.Type):
        changed["type"] = replace(type_, stage=Stage.LATENT)
    return (replace(node, **changed) if changed else node), bool(changed)


# Functions


class _Writer(ABC):
    """What both functions have in common: statements in the order of the text, on data with all rows."""

    def __init__(self, model: ir.Model) -> None:
        self.model = model
        self.emitter = Emitter({plate.name: plate for plate in model.plates}, local_name, whole=True)
        called = [call.callee for call in calls(model.statements)]
        declared = [
            *(dim.name for dim in model.dims),
            *(z.name for z in model.latents),
            *(f.name for f in model.fields),
        ]
        declared += [name for callee in called for name in (callee.name, extern_name(callee.name))]
        self.names = Locals([*declared, *declared_names(model.statements)])
        self.body: list[Statement] = []
        self.sites: dict[str, str] = {}

    def write(self, function: str, callees: Variables) -> ForwardContext:
        statements = self.model.statements
        made_of = definitions(statements)
        roots = self.roots()
        needed = closure(roots, made_of)
        params = self._params((*roots, *(made_of[name] for name in needed)))
        for group in grouped(statements):
            match group[0]:
                case ir.Let(value=value) if value.type.stage > Stage.DATA:
                    wanted = [let for let in group if isinstance(let, ir.Let) and let.name in needed]
                    self.body += let_statements(wanted, self.emitter) if wanted else []
                case ir.Term(dist=ir.Dist()) as term:
                    self.site(term)
                case ir.Scan() as scan:
                    self.scan(scan, read_behind(statements, scan, needed))
        emitter, model = self.emitter, self.model
        body = [*net_statements(emitter.callees.values(), callees, emitter), *params, *self.body]
        dims = tuple((local_name(dim.name), data_attribute(dim.name)) for dim in model.dims if dim.name in emitter.dims)
        return ForwardContext(function, dims, bool(params), tuple(body), tuple(self.sites.items()))

    def roots(self) -> tuple[object, ...]:
        """What the function computes with."""
        return tuple(term.dist for term in self.model.terms)

    def _params(self, readers: Iterable[object]) -> list[Statement]:
        by_row, whole = param_reads(readers, self.emitter.plates)
        params = [s for s in self.model.statements if isinstance(s, ir.Param) and s.name in by_row | whole]
        return [statement for param in params for statement in param_statements(param, self.emitter)]

    @abstractmethod
    def site(self, term: ir.Term) -> None:
        """Write a site that is in no scan."""

    @abstractmethod
    def scan(self, scan: ir.Scan, behind: set[str]) -> None:
        """Write a scan; `behind` is what is read behind it."""


class _Simulation(_Writer):
    """Draws the sites in the order of the text, each where it is not given."""

    def __init__(self, model: ir.Model) -> None:
        super().__init__(model)
        self.refused = not_drawn(model)
        self.latents = {latent.name for latent in model.latents}
        self.sites = {z.name: local_name(z.name) for z in model.latents}
        self.sites |= {f.name: local_name(f.name) for f in model.fields if f.role == "observed"}

        self.flat = set(self.sites) - {term.name for term in model.terms}
        self.step = ""

    def write(self, function: str, callees: Variables) -> ForwardContext:
        for latent in self.model.latents:
            if latent.name in self.flat:
                self.body.append(Statement(f'{local_name(latent.name)} = given["{latent.name}"]', latent.span.line))
        return super().write(function, callees)

    def site(self, term: ir.Term) -> None:
        self.sample(_as_draw(term), self.emitter, self.body)

    def scan(self, scan: ir.Scan, behind: set[str]) -> None:
        drawn = tuple(
            _as_draw(s) if isinstance(s, ir.Term) else s
            for s in scan.statements
            if not isinstance(s, ir.Term) or s.dist is not None
        )
        sites = {s.name for s in drawn if isinstance(s, ir.Draw)}
        self.step = scan.step
        inner = replace(scan, statements=drawn)
        writer = ScanWriter(inner, self.emitter, self.names, self.body, behind | sites, sampler=self)
        writer.texts |= {name: local_name(name) for name in scan.sites if name in self.flat}
        writer.write()

    def sample(self, draw: ir.Draw, emitter: Emitter, body: list[Statement]) -> None:
        """A draw of all rows, and of all steps."""
        self._write(draw, local_name(draw.name), f'given["{draw.name}"]', emitter, body)

    def sample_step(self, draw: ir.Draw, value: str, emitter: Emitter, body: list[Statement]) -> str | None:
        """A draw of one step."""
        given = at(f'given["{draw.name}"]', emitter.spelled[self.step], len(draw.type.event))
        self._write(draw, value, given, emitter, body)
        return None

    def count(self, draw: ir.Draw, log_q: str, emitter: Emitter) -> None:
        """No density is counted here."""

    def _write(self, draw: ir.Draw, value: str, given: str, emitter: Emitter, body: list[Statement]) -> None:
        code = given
        if draw.name not in self.refused:
            code = sample(emitter, draw.dist, draw.plates, draw.type.event).text
            if draw.name in self.latents:
                code = f'{given} if "{draw.name}" in given else {code}'
        body.append(Statement(f"{value} = {code}", draw.span.line))


def _as_draw(term: ir.Term) -> ir.Draw:
    assert term.name is not None
    assert term.dist is not None
    return ir.Draw(term.name, term.dist, None, None, term.value.type, term.plates, term.span)


class _Likelihood(_Writer):
    """The terms of the observed sites, those of a scan a value a step, at the rows of a batch as at all."""

    def __init__(self, model: ir.Model) -> None:
        super().__init__(model)
        self.emitter = model_emitter(model)

    def _params(self, readers: Iterable[object]) -> list[Statement]:
        found = model_params(self.model, readers, self.emitter, self.names)
        return [statement for statements in found.values() for statement in statements]

    def roots(self) -> tuple[object, ...]:
        return self.model.terms

    def site(self, term: ir.Term) -> None:
        self._write(term, self.emitter)

    def scan(self, scan: ir.Scan, behind: set[str]) -> None:
        writer = ScanWriter(scan, self.emitter, self.names, self.body, behind, terms=True)
        writer.write()
        for term in writer.terms:
            self._write(*writer.whole(term))

    def _write(self, term: ir.Term, emitter: Emitter) -> None:
        assert term.name is not None
        assert term.dist is not None
        code, batch = log_density(term, term.dist, emitter, term.plates)
        variable = self.names.fresh(f"log_p_{local_name(term.name)}")
        self.body.append(Statement(f"{variable} = {summed(code, batch).text}", term.span.line))
        self.sites[term.name] = variable
