"""The typed program as what the template prints: names chosen, statements written, nothing left to decide."""

from __future__ import annotations

import builtins
from dataclasses import dataclass

from guidedsl import ir
from guidedsl.backend.guide import GuideContext, guide_context
from guidedsl.backend.model import ModelContext, model_context
from guidedsl.backend.names import Module

CODEGEN = 1
"""Moves only when the text generated from an unchanged source changes."""

_MODULE_NAMES = (
    "Data", "Dim", "Draw", "Field", "Guide", "Model", "NamedTuple", "Noise", "ParamStore", "Plate", "PlateSpec", "Site",
    "Tensor", "constraints", "dataclass", "dist", "fn", "get_param_store", "math", "replace", "torch", "annotations",
    "LINES", "Mapping", *dir(builtins),
)  # fmt: skip


@dataclass(frozen=True)
class ModuleContext:
    """Everything that the template reads."""

    source: str
    sha256: str
    codegen: int
    docstring: str | None
    models: tuple[ModelContext, ...]
    guides: tuple[GuideContext, ...]


def module_context(program: ir.Program) -> ModuleContext:
    """Lower a checked program."""
    names = Module(_MODULE_NAMES)
    declared = [*(model.name for model in program.models), *(guide.name for guide in program.guides)]
    variables = {name: names.take(name) for name in declared}
    models = {
        model.name: model_context(model, variables[model.name], names, _sums(program, model))
        for model in program.models
    }
    guides = tuple(
        guide_context(guide, variables[guide.name], models[guide.model.name], names) for guide in program.guides
    )
    name = program.source.name.replace("\\", "/").rsplit("/", 1)[-1]
    return ModuleContext(name, program.source.sha256, CODEGEN, program.docstring, tuple(models.values()), guides)


def _sums(program: ir.Program, model: ir.Model) -> list[ir.Summed]:
    """What the guides of a model sum out of it, each set of latents once, large ones first."""
    found = {
        guide.summed.names: guide.summed
        for guide in program.guides
        if guide.model.name == model.name and guide.summed is not None
    }
    return sorted(found.values(), key=lambda summed: -len(summed.names))
