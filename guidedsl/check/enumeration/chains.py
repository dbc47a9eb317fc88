"""Chains: sites of a scan whose value a step hands to the next, and nothing else of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from guidedsl import ir
from guidedsl.check.enumeration.axes import Rewriter


def placed(model: ir.Model, classes: Sequence[ir.Classes]) -> tuple[tuple[ir.Classes, ...], tuple[ir.Link, ...]]:
    """All axes in their order, and the chains: what is no chain, states that steps are handed, the chains' sites."""
    scans = [statement for statement in model.statements if isinstance(statement, ir.Scan)]
    within = {name: scan for scan in scans for name in scan.sites}
    known = [replace(one, step=within[one.name].step) if one.name in within else one for one in classes]
    by_name = {one.name: one for one in known}
    links: list[ir.Link] = []
    for scan in scans:
        linked: set[str] = set()
        for carry in scan.carries:
            site = by_name.get(carry.next.name) if isinstance(carry.next, ir.Var) else None
            if site is not None and site.name in scan.sites and site.name not in linked:
                linked.add(site.name)
                links.append(ir.Link(site, replace(site, carried=carry.name), carry.init, None))
    chained = {link.site.name for link in links}
    others = [one for one in known if one.name not in chained]
    return (*others, *(link.state for link in links), *(link.site for link in links)), tuple(links)


def joined(links: Iterable[ir.Link], terms: Iterable[ir.Term]) -> tuple[list[ir.Link], list[ir.Term]]:
    """The first of the links with all that meet it in a term, directly or through others, and those terms."""
    left, waiting = list(links), list(terms)
    group, found = [left.pop(0)], list[ir.Term]()
    while True:
        names = {name for link in group for name in (link.site.name, link.state.name)}
        reading = [term for term in waiting if not names.isdisjoint(term.plates)]
        waiting = [term for term in waiting if term not in reading]
        found += reading
        read = {axis for term in reading for axis in term.plates}
        met = [link for link in left if link.site.name in read or link.state.name in read]
        left = [link for link in left if link not in met]
        group += met
        if not met:
            return group, found


def first_apart(
    links: Sequence[ir.Link], terms: Sequence[ir.Term], rewriter: Rewriter
) -> tuple[list[ir.Link], list[ir.Term]]:
    """The priors `where(t == 0, a, b)` of a chain in two, one for the first step and one for those after it.

    Only where nothing else reads what is handed on, and `a` does not: then it does not matter what the first step is
    handed. Otherwise all as it is.
    """
    handed = {link.state.name for link in links}
    priors = {link.site.name: link for link in links}
    found: list[ir.Link] = []
    kept: list[ir.Term] = []
    for term in terms:
        if handed.isdisjoint(term.plates):
            kept.append(term)
            continue
        link = priors.get(term.name or "")
        parts = _in_two(term, link.site, rewriter) if link is not None else None
        if link is None or parts is None or not handed.isdisjoint(parts[0].type.plates):
            return list(links), list(terms)
        found.append(replace(link, start=parts[0]))
        kept.append(replace(term, value=parts[1]))
    order = [link.site.name for link in links]
    if len(found) < len(links):
        return list(links), list(terms)
    return sorted(found, key=lambda link: order.index(link.site.name)), kept


def _in_two(term: ir.Term, site: ir.Classes, rewriter: Rewriter) -> tuple[ir.Expr, ir.Expr] | None:
    """The table of a prior at the first step, and later; None where it is not written as a choice by the step."""
    value = term.value
    table = value.base if isinstance(value, ir.RowOf) else None
    if not isinstance(table, ir.LogTable):
        return None
    dist = table.dist
    for position, argument in enumerate(dist.arguments):
        chosen = _by_first_step(argument, site.step)
        if chosen is not None:
            first, later = (
                rewriter.table(replace(dist, arguments=_with(dist.arguments, position, part)), site) for part in chosen
            )
            return first, later
    return None


def _with(arguments: tuple[ir.Expr, ...], position: int, part: ir.Expr) -> tuple[ir.Expr, ...]:
    return (*arguments[:position], part, *arguments[position + 1 :])


def _by_first_step(value: ir.Expr, step: str | None) -> tuple[ir.Expr, ir.Expr] | None:
    """a and b of `where(t == 0, a, b)`, t the step."""
    if not isinstance(value, ir.Apply) or value.function.name != "where":
        return None
    condition, first, later = value.arguments
    if not isinstance(condition, ir.Compare) or condition.operator != "==":
        return None
    sides = (condition.left, condition.right)
    is_step = any(isinstance(side, ir.Var) and side.name == step for side in sides)
    is_zero = any(side.type.value == 0.0 for side in sides)
    same = first.type.event == later.type.event == value.type.event
    return (first, later) if is_step and is_zero and same else None
