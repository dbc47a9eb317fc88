"""What the functions of a generated model share: their variables, the dims and the params that they read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from guidedsl import ir
from guidedsl.backend.emit import Emitter
from guidedsl.backend.names import Locals, data_attribute, extern_name, local_name
from guidedsl.backend.scans import declared_names
from guidedsl.backend.statements import (
    Statement,
    param_reads,
    param_statements,
)
from guidedsl.check.walk import calls

Pairs = tuple[tuple[str, str], ...]
"""Pairs of a name in one place and in another."""


class Body(NamedTuple):
    """The statements of a function, the dims that they read, and whether they read params."""

    statements: tuple[Statement, ...]
    dims: Pairs
    has_params: bool


def model_locals(model: ir.Model) -> Locals:
    """The variables of a function of the model that are taken by what it declares."""
    return _locals(model, model.statements, model.statements)


def guide_locals(guide: ir.Guide) -> Locals:
    """The variables of the function of a guide that are taken by what it and its model declare."""
    everything = (*guide.statements, *guide.model.statements)
    return _locals(guide.model, everything, everything)


def _locals(model: ir.Model, own: Iterable[ir.ModelStatement | ir.GuideStatement], around: object) -> Locals:
    declared = [*(dim.name for dim in model.dims), *(latent.name for latent in model.latents)]
    called = [call.callee for call in calls(around)]
    declared += [name for callee in called for name in (callee.name, extern_name(callee.name))]
    return Locals([*declared, *declared_names(own)])


def model_emitter(model: ir.Model, axes: Iterable[ir.Classes] = ()) -> Emitter:
    """An emitter whose axes are the plates and, to their right, the latents that are summed out."""
    plates = {plate.name: plate for plate in model.plates}
    summed = {one.name: ir.Plate(one.name, one.size, None, None, one.latent.span) for one in axes}
    return Emitter(plates | summed, local_name)


def used_dims(emitter: Emitter, model: ir.Model) -> Pairs:
    """The dims that emitted code reads, in the model's order: variable and attribute."""
    read = [dim.name for dim in model.dims if dim.name in emitter.dims]
    return tuple((local_name(name), data_attribute(name)) for name in read)


def model_params(
    model: ir.Model, readers: Iterable[object], emitter: Emitter, names: Locals
) -> dict[str, list[Statement]]:
    """The statements of each param that the readers read."""
    by_row, whole = param_reads(readers, emitter.plates)
    found: dict[str, list[Statement]] = {}
    for param in (s for s in model.statements if isinstance(s, ir.Param)):
        name = param.name
        if name in by_row | whole:
            every = names.fresh(f"{local_name(name)}_all") if name in whole else None
            found[name] = param_statements(param, emitter, by_row=name in by_row, whole=every)
    return found
