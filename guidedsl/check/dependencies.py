"""What a latent's prior reads: the latents behind its arguments and bounds, through lets and indices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from guidedsl import ir
from guidedsl.check.walk import substitute, variables


@dataclass(frozen=True)
class Reading:
    """A latent as a prior reads it.

    `rows` names the data that picks its rows, one for each plate in which the reader is not; `row_of` the plate whose
    row of its first event axis is read.
    """

    latent: str
    rows: tuple[str, ...] = ()
    row_of: str | None = None


_Indices = Mapping[str, ir.Expr | None]
"""How each plate that is left is read: by an index, or with all rows (None)."""


def readings(latent: ir.Latent, model: ir.Model) -> tuple[Reading, ...]:
    """What the prior of a latent reads, each once. Of what it reads with all rows, or by an index that is not plain
    data, nothing is said. An interface has no priors: there a latent may read all that come before it in its plates."""
    ranks = model.ranks
    rank = ranks[latent.name]
    if model.interface:
        before = model.latents[:rank]
        return tuple(Reading(other.name) for other in before if set(other.plates) <= set(latent.plates))
    prior = model.priors.get(latent.name)
    scan = model.scans.get(latent.name)
    own = (None if prior is None else prior.dist, latent.bounds)
    root = substitute(own, model.lets) if scan is None else _over_steps(own, scan, model.lets)
    found = (
        _reading(var, model.latents[ranks[var.name]].plates, latent.plates, indices, row)
        for var, indices, row in _reads(root, {})
        if ranks.get(var.name, rank) < rank
    )
    return tuple(dict.fromkeys(reading for reading in found if reading is not None))


def _over_steps(prior: object, scan: ir.Scan, lets: Mapping[str, ir.Expr]) -> tuple[object, ...]:
    """What a prior of a step is made of at all steps: itself, and what the carries that it reads are."""
    known = {**lets, **{s.name: s.value for s in scan.statements if isinstance(s, ir.Let)}}
    carries = {carry.name: (carry.init, carry.next) for carry in scan.carries}
    parts: list[object] = [substitute(prior, known)]
    for part in parts:
        for var in variables(part):
            if var.role == "carry" and var.name in carries:
                parts.append(substitute(carries.pop(var.name), known))
    return tuple(parts)


def _reading(
    var: ir.Var, plates: tuple[str, ...], inside: tuple[str, ...], indices: _Indices, row_of: str | None
) -> Reading | None:
    rows: list[str] = []
    for plate in plates:
        index = indices.get(plate)
        if plate in inside and plate not in indices:
            continue
        if plate in inside or not isinstance(index, ir.Var) or index.role not in ("data", "derived"):
            return None
        if not set(index.type.plates) <= set(inside):
            return None
        rows.append(index.name)
    return Reading(var.name, tuple(rows), row_of)


def _reads(root: Any, indices: _Indices) -> Iterator[tuple[ir.Var, _Indices, str | None]]:
    """Every latent read below `root`, with how the indices around it pick its rows."""
    stack: list[tuple[Any, _Indices]] = [(root, indices)]
    while stack:
        node, around = stack.pop()
        if isinstance(node, ir.Var):
            if node.role == "latent":
                yield node, around, None
        elif isinstance(node, ir.Gather):
            stack.extend((index, around) for _, index in reversed(node.indices))
            stack.append((node.base, {**around, **dict(node.indices)}))
        elif isinstance(node, ir.AllRows):
            stack.append((node.base, {**around, node.plate: None}))
        elif isinstance(node, ir.RowOf) and isinstance(node.base, ir.Var) and node.base.role == "latent":
            yield node.base, around, node.plate
        elif isinstance(node, tuple):
            stack.extend((item, around) for item in reversed(node))
        elif is_dataclass(node) and not isinstance(node, ir.Type | ir.Latent | type):
            stack.extend((getattr(node, field.name), around) for field in reversed(fields(node)))
