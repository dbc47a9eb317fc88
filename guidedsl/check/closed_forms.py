"""What of a guide is known in closed form: KL divergences of its sites from their priors, and marginal laws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from guidedsl import ir
from guidedsl.check.walk import variables
from guidedsl.library.distributions import DISTRIBUTIONS, Distribution
from guidedsl.library.supports import Support, support

_PUSHED = {"positive": "LogNormal", "nonnegative": "LogNormal", "unit": "LogitNormal"}
"""The family that a normal pushed onto a type by its bijection is."""
_INCREASING = frozenset({"real", "positive", "nonnegative", "unit", "interval", "greater_than"})
"""Types of numbers whose bijection is increasing."""


@dataclass(frozen=True)
class Divergence:
    """A site whose KL divergence from its prior has a closed form: the family of its draws, and the prior's term."""

    draw: ir.Draw
    family: str
    term: ir.Term


def divergences(guide: ir.Guide) -> tuple[Divergence, ...]:
    """The sites of a guide whose KL divergence from the prior has a closed form, given what both read.

    What a prior reads must not be drawn from the site itself: given that, the site's law is another one. Sites of scans
    and of joints are left out.
    """
    reads, drawn = _ancestors(guide), _drawn(guide)
    lets = _lets(guide.model)
    terms = {term.name: term for term in guide.model.statements if isinstance(term, ir.Term)}
    found: list[Divergence] = []
    for draw in (s for s in guide.statements if isinstance(s, ir.Draw)):
        term = terms.get(draw.name)
        family = _family(draw)
        if draw.latent is None or term is None or family is None or not _plain_prior(term, draw, family):
            continue
        parents = _draws_behind(term.dist, lets)
        if parents <= drawn and not any(draw.name in (parent, *reads[parent]) for parent in parents):
            runtime = draw.dist.form.runtime if family is draw.dist.row else family.forms[0].runtime
            found.append(Divergence(draw, runtime, term))
    return tuple(found)


def _family(draw: ir.Draw) -> Distribution | None:
    """The family of a draw on its latent's own type."""
    if draw.via is None or draw.via[0] == support("real"):
        return draw.dist.row if draw.dist.row.rule is None else None
    name = _PUSHED.get(draw.via[0].row.name) if draw.dist.row.name == "Normal" else None
    return DISTRIBUTIONS[name] if name is not None else None


def _plain_prior(term: ir.Term, draw: ir.Draw, family: Distribution) -> bool:
    prior = term.dist
    if prior is None or prior.row.rule is not None or not term.normalised or term.plates != draw.plates:
        return False
    return family.closed_kl(prior.row) and (family is draw.dist.row or prior.own == 0)


def known_marginals(guide: ir.Guide) -> set[str]:
    """The latents whose entries each have a marginal law with a distribution function that can be inverted.

    Their families' arguments read no draws, and what pushes them onto their types is increasing in each entry.
    """
    lets = _lets(guide)
    found: set[str] = set()
    for statement in guide.statements:
        if isinstance(statement, ir.Draw) and statement.latent is not None:
            pushed = () if statement.via is None else (statement.via,)
            if _marginal(statement.dist, pushed, lets):
                found.add(statement.name)
        elif isinstance(statement, ir.JointDraw) and isinstance(statement.dist, ir.Dist):
            for latent in statement.latents:
                if _marginal(statement.dist, ((latent.type.support, latent.bounds),), lets):
                    found.add(latent.name)
    return found


def _marginal(dist: ir.Dist, pushed: tuple[tuple[Support, ir.Bounds], ...], lets: Mapping[str, ir.Expr]) -> bool:
    gaussian = dist.row.name in ("MultivariateNormal", "LowRankMultivariateNormal")
    if dist.row.rule is not None or not (gaussian or dist.has_mass) or dist.type.support.row.discrete:
        return False
    if any(onto.row.name not in _INCREASING for onto, _ in pushed):
        return False
    return not _draws_behind((dist, tuple(bounds for _, bounds in pushed)), lets)


def _lets(owner: ir.Model | ir.Guide) -> dict[str, ir.Expr]:
    statements = owner.statements if isinstance(owner, ir.Model) else (*owner.model.statements, *owner.statements)
    return {s.name: s.value for s in statements if isinstance(s, ir.Let)}


def _draws_behind(root: object, lets: Mapping[str, ir.Expr]) -> set[str]:
    """What a tree reads that is drawn, through lets too. A let of a scan or a carry counts as drawn itself."""
    found: set[str] = set()
    seen: set[str] = set()
    pending = list(variables(root))
    while pending:
        var = pending.pop()
        if var.role == "let" and var.name in lets:
            if var.name not in seen:
                seen.add(var.name)
                pending.extend(variables(lets[var.name]))
        elif var.role in ("latent", "aux", "let", "carry"):
            found.add(var.name)
    return found


def _drawn(guide: ir.Guide) -> set[str]:
    """The latents that have a value where the guide ends."""
    summed = guide.summed.names if guide.summed is not None else ()
    return {latent.name for latent in guide.model.latents if latent.name not in summed}


def _ancestors(guide: ir.Guide) -> dict[str, set[str]]:
    """By what a guide draws: what it is drawn from, directly or through others. Of a joint or a scan each part depends
    on all."""
    lets = _lets(guide)
    found: dict[str, set[str]] = {}
    for statement in guide.statements:
        parts: tuple[object, ...]
        match statement:
            case ir.Draw():
                names, parts = {statement.name}, (statement.dist, statement.via)
            case ir.JointDraw():
                names = {latent.name for latent in statement.latents}
                parts = (statement.dist, tuple(latent.bounds for latent in statement.latents))
            case ir.Scan():
                names = {*statement.sites, *(s.name for s in statement.statements if isinstance(s, ir.Let | ir.Draw))}
                names |= {carry.name for carry in statement.carries}
                parts = (statement.statements, statement.carries)
            case _:
                continue
        direct = _draws_behind(parts, lets)
        above = direct.union(*(found.get(name, set()) for name in direct))
        others = names if len(names) > 1 else set()
        found |= {name: above | (others - {name}) for name in names}
    return found
