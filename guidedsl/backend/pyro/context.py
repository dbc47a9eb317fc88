"""A program as a Pyro module: what the template prints, or why Pyro cannot say it."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from guidedsl import errors, ir
from guidedsl.assets import asset_text
from guidedsl.backend.context import CODEGEN, owners, program_locals
from guidedsl.backend.names import MODULE_NAMES, Module, snake_case
from guidedsl.backend.nets import NetContext, net_context, variable_names
from guidedsl.backend.pyro.function import FunctionContext, learning_rates
from guidedsl.backend.pyro.guide import guide_function
from guidedsl.backend.pyro.layout import slots
from guidedsl.backend.pyro.model import model_function
from guidedsl.diagnostics import Diagnostic

_CALL = re.compile(r"\bfn\.(\w+)")
_SOURCES = ("backend/pyro/helpers.py", "runtime/functions.py", "runtime/factors.py", "runtime/kernels.py")


@dataclass(frozen=True)
class PyroContext:
    """Everything that the template reads."""

    source: str
    sha256: str
    codegen: int
    docstring: str | None
    helpers: tuple[str, ...]
    nets: tuple[NetContext, ...]
    rates: dict[str, str]
    functions: tuple[FunctionContext, ...]


def pyro_context(program: ir.Program) -> tuple[PyroContext, list[Diagnostic]]:
    """Lower a checked program, with what Pyro cannot say."""
    found: list[Diagnostic] = []
    names = Module(MODULE_NAMES | {"pyro", "biject_to"})
    functions: list[FunctionContext] = []
    mine = [one for one in owners(program) if one[0].kind == "generated"]
    classes = variable_names((net for net, _, _ in mine), names, program_locals(program))
    nets = tuple(_net(net, classes[net.store_name], owner, plates, found) for net, owner, plates in mine)
    for model in program.models:
        guides = [guide for guide in program.guides if guide.model.name == model.name]
        layout = slots(model, guides)
        snake = snake_case(model.name)
        name = names.take(snake, f"{snake}_model")
        if not model.interface:
            functions.append(model_function(model, layout, name, classes, found))
        for guide in guides:
            snake = snake_case(guide.name)
            functions.append(guide_function(guide, layout, names.take(snake, f"{snake}_guide"), classes, found))
    written = [line for function in functions for line in function.body]
    written += [line for net in nets for line in net.forward]
    params = [s for m in program.models for s in m.statements if isinstance(s, ir.Param)]
    params += [param for guide in program.guides for param in guide.params]
    name = program.source.name.replace("\\", "/").rsplit("/", 1)[-1]
    context = PyroContext(
        source=name,
        sha256=program.source.sha256,
        codegen=CODEGEN,
        docstring=program.docstring,
        nets=tuple(replace(net, forward=tuple(map(spelled, net.forward))) for net in nets),
        helpers=_helpers({match for line in written for match in _CALL.findall(line)}),
        rates=learning_rates(params),
        functions=tuple(functions),
    )
    return context, _once(found)


def _net(net: ir.Callee, name: str, owner: str, plates: Mapping[str, ir.Plate], found: list[Diagnostic]) -> NetContext:
    """A generated net, whose heads must be in supports that torch has a function for."""
    context = net_context(net, name, owner, plates)
    forward = tuple(line.replace("constraints.unit.constrain(", "torch.sigmoid(") for line in context.forward)
    if any(".constrain(" in line for line in forward):
        kinds = ", ".join(sorted({value.type.support.kind for value in net.outputs}))
        hint = "return real numbers, and map them in a `let`"
        found.append(errors.not_in_pyro(f"the net `{net.name}`, which returns {kinds},", net.span, hint))
    return replace(context, forward=forward)


def _once(found: list[Diagnostic]) -> list[Diagnostic]:
    """Each finding once: a model's statement may be written for several functions."""
    return list(dict.fromkeys(found))


def spelled(text: str) -> str:
    """Code with the module's own copies of the helpers that it calls."""
    return _CALL.sub(r"_\1", text)


def _helpers(called: set[str]) -> tuple[str, ...]:
    """The source of every helper that is called, and of those that these call, under private names."""
    known = _sources()
    wanted: set[str] = set()
    pending = sorted(called)
    while pending:
        name = pending.pop()
        if name not in wanted:
            wanted.add(name)
            reads = {node.id for node in ast.walk(ast.parse(known[name])) if isinstance(node, ast.Name)}
            pending += sorted(reads & known.keys())
    order = [name for name in known if name in wanted]
    public = [name for name in order if not name.startswith("_")]
    pattern = re.compile(rf"(?<![\w.])({'|'.join(public)})(?=\()")
    texts = (pattern.sub(r"_\1", known[name]) if public else known[name] for name in order)
    return tuple(re.sub(r"\bValue\b", "Tensor | float", text) for text in texts)


def _sources() -> dict[str, str]:
    """The source of every function, and of every constant that they read, which a module may copy; by name."""
    found: dict[str, str] = {}
    for path in _SOURCES:
        text = asset_text(path)
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef):
                found.setdefault(node.name, ast.get_source_segment(text, node) or "")
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                if isinstance(target, ast.Name) and target.id.isupper():
                    found.setdefault(target.id, ast.get_source_segment(text, node) or "")
    return found
