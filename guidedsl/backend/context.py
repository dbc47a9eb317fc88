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
    "Tensor", "constraints", "dataclass", "dist", "flow", "fn", "get_param_store", "math", "replace", "torch",
    "annotations", "LINES", *dir(builtins),
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
    models = {model.name: model_context(model, variables[model.name], names) for model in program.models}
    guides = tuple(
        guide_context(guide, variables[guide.name], models[guide.model.name], names) for guide in program.guides
    )
    name = program.source.name.replace("\\", "/").rsplit("/", 1)[-1]
    return ModuleContext(name, program.source.sha256, CODEGEN, program.docstring, tuple(models.values()), guides)
