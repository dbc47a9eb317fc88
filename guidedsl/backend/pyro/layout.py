"""Which batch dim each plate has in Pyro: a fixed one, so that a value's axes stand where Pyro looks for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations

from guidedsl import ir

Slots = Mapping[str, int]
"""By plate, how far its axis is from the event: 1 for dim -1, 2 for dim -2."""


def slots(model: ir.Model, guides: Iterable[ir.Guide]) -> Slots:
    """A dim for each plate. Plates of one value stand in the model's order, outermost first; others may share a dim."""
    groups = list(_groups(model, guides))
    met = {frozenset(pair) for group in groups for pair in combinations(group, 2)}
    found: dict[str, int] = {}
    for plate in reversed(model.plates):
        inner = [found[other] for other in found if frozenset((plate.name, other)) in met]
        found[plate.name] = max(inner, default=0) + 1
    return {plate.name: found[plate.name] for plate in model.plates}


def _groups(model: ir.Model, guides: Iterable[ir.Guide]) -> Iterator[tuple[str, ...]]:
    """The plates of every declared value and of every statement."""
    known = {plate.name for plate in model.plates}
    declared = [*model.fields, *model.latents, *_flat(model.statements)]
    for guide in guides:
        declared += _flat(guide.statements)
    for one in declared:
        if isinstance(one, ir.Param):
            yield one.type.plates
        else:
            yield tuple(plate for plate in one.plates if plate in known)


def _flat(statements: Iterable[ir.ModelStatement | ir.GuideStatement]) -> list[ir.ModelStatement | ir.GuideStatement]:
    """Statements with those of the scans among them."""
    found: list[ir.ModelStatement | ir.GuideStatement] = []
    for statement in statements:
        found.append(statement)
        if isinstance(statement, ir.Scan):
            found += statement.statements
    return found
