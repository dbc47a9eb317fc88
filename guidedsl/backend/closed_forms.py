"""KL divergences in closed form as Python: what stands in a guide's log density where they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from guidedsl import ir
from guidedsl.backend.code import Code, indexed
from guidedsl.backend.emit import Emitter
from guidedsl.backend.names import Locals, local_name
from guidedsl.backend.nets import Variables, net_statements
from guidedsl.backend.scans import closure, definitions
from guidedsl.backend.statements import Statement, grouped, let_statements, param_reads, param_statements
from guidedsl.check.closed_forms import Divergence
from guidedsl.ir import Stage


class Written(Protocol):
    """What a guide's function has so far."""

    guide: ir.Guide
    emitter: Emitter
    names: Locals
    by_row: set[str]
    whole: set[str]
    densities: dict[str, tuple[str, str | None]]


def closed_forms(sites: Sequence[Divergence], written: Written, callees: Variables) -> Statement:
    """`if kl:`, and in it the density of each site anew: the divergence from its prior + the prior's density."""
    emitter, before = written.emitter, dict(written.emitter.callees)
    line = written.guide.span.line
    body = [*_priors(sites, written)]
    for site in sites:
        log_q, log_det = written.densities[site.draw.name]
        text = _divergence(site, emitter)
        text = f"{text} + {log_det}" if log_det is not None else text
        body.append(Statement(f"{log_q} = {text}", site.draw.span.line))
    new = [callee for name, callee in emitter.callees.items() if name not in before]
    return Statement("if kl:", line, (*net_statements(new, callees, emitter), *body))


def _priors(sites: Sequence[Divergence], written: Written) -> list[Statement]:
    """The params and lets of the model that the priors read and the guide does not."""
    model, emitter = written.guide.model, written.emitter
    made_of = definitions(model.statements)
    priors = [site.term.dist for site in sites]
    needed = closure(priors, made_of)
    by_row, whole = param_reads((*priors, *(made_of[name] for name in needed)), emitter.plates)
    statements: list[Statement] = []
    for group in grouped(model.statements):
        statement = group[0]
        if isinstance(statement, ir.Param):
            name = statement.name
            rows = name in by_row - written.by_row
            every = written.names.fresh(f"{local_name(name)}_all") if name in whole - written.whole else None
            if rows or every is not None:
                statements += param_statements(statement, emitter, by_row=rows, whole=every)
        elif isinstance(statement, ir.Let) and statement.value.type.stage > Stage.DATA:
            wanted = [let for let in group if isinstance(let, ir.Let) and let.name in needed]
            statements += let_statements(wanted, emitter) if wanted else []
    return statements


def _divergence(site: Divergence, emitter: Emitter) -> str:
    draw, term = site.draw, site.term
    assert term.dist is not None
    q, p = draw.dist, term.dist
    ours = emitter.arguments(q, draw.plates, len(q.type.event) - q.own)
    theirs = emitter.arguments(p, term.plates, len(term.value.type.event) - p.own)
    x = emitter.emit(term.value)
    families = f"dist.{site.family}, {_tuple(ours)}, dist.{p.form.runtime}, {_tuple(theirs)}"
    code = Code(f"dist.kl_plus_log_prob({x.text}, {families})")
    # one value a vector, where each of its entries was drawn alone
    return indexed(code, ["None"]).text if p.own > q.own else code.text


def _tuple(texts: Sequence[str]) -> str:
    return f"({', '.join(texts)}{',' if len(texts) == 1 else ''})"
