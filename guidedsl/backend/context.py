"""The typed program as what the template prints: names chosen, statements written, nothing left to decide."""

from __future__ import annotations

from dataclasses import dataclass

from guidedsl import ir
from guidedsl.backend.guide import GuideContext, guide_context
from guidedsl.backend.model import ModelContext, model_context
from guidedsl.backend.names import MODULE_NAMES, Module, extern_name, local_name
from guidedsl.backend.nets import HandleContext, NetContext, handle_context, net_context, variable_names
from guidedsl.backend.scans import declared_names

CODEGEN = 1
"""Moves only when the text generated from an unchanged source changes."""


@dataclass(frozen=True)
class ModuleContext:
    """Everything that the template reads."""

    source: str
    sha256: str
    codegen: int
    docstring: str | None
    nets: tuple[NetContext, ...]
    handles: tuple[HandleContext, ...]
    models: tuple[ModelContext, ...]
    guides: tuple[GuideContext, ...]


def module_context(program: ir.Program) -> ModuleContext:
    """Lower a checked program."""
    names = Module(MODULE_NAMES)
    externs = {extern.store_name: names.take(extern_name(extern.name)) for extern in program.externs}
    declared = [*(model.name for model in program.models), *(guide.name for guide in program.guides)]
    variables = {name: names.take(name) for name in declared}
    found = owners(program)
    callees = {**externs, **variable_names((net for net, _, _ in found), names, program_locals(program))}
    single = {guide.model.name for guide in program.guides if guide.nets or guide.model.nets}
    single |= {model.name for model in program.models if model.nets}
    models = {
        model.name: model_context(
            model, variables[model.name], names, callees, model.name in single, _sums(program, model)
        )
        for model in program.models
    }
    guides = tuple(
        guide_context(guide, variables[guide.name], models[guide.model.name], names, callees)
        for guide in program.guides
    )
    nets = tuple(
        net_context(net, callees[net.store_name], owner, plates)
        for net, owner, plates in found
        if net.kind == "generated"
    )
    outside = [*program.externs, *(net for net, _, _ in found if net.kind != "generated")]
    handles = tuple(handle_context(callee, callees[callee.store_name]) for callee in outside)
    name = program.source.name.replace("\\", "/").rsplit("/", 1)[-1]
    return ModuleContext(
        name, program.source.sha256, CODEGEN, program.docstring, nets, handles, tuple(models.values()), guides
    )


def _sums(program: ir.Program, model: ir.Model) -> list[ir.Summed]:
    """What the guides of a model sum out of it, each set of latents once, large ones first."""
    found = {
        guide.summed.names: guide.summed
        for guide in program.guides
        if guide.model.name == model.name and guide.summed is not None
    }
    return sorted(found.values(), key=lambda summed: -len(summed.names))


def program_locals(program: ir.Program) -> frozenset[str]:
    """The variables of all functions."""
    names: set[str] = set()
    for model in program.models:
        names |= {dim.name for dim in model.dims} | {latent.name for latent in model.latents}
        names |= {net.name for net in model.nets} | declared_names(model.statements)
    for guide in program.guides:
        names |= {one.name for one in guide.nets}
        names |= declared_names(guide.statements)
    return frozenset(local_name(name) for name in names)


def owners(program: ir.Program) -> list[tuple[ir.Callee, str, dict[str, ir.Plate]]]:
    """Every net with the name of its model or guide, and the plates there."""
    found: list[tuple[ir.Callee, str, dict[str, ir.Plate]]] = []
    declared = [(model.name, model, model.nets) for model in program.models]
    declared += [(guide.name, guide.model, guide.nets) for guide in program.guides]
    for name, model, nets in declared:
        plates = {plate.name: plate for plate in model.plates}
        found.extend((net, name, plates) for net in nets)
    return found
