"""What a checked program declares, as plain data: the content of `guidedsl info`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from guidedsl import ir
from guidedsl.check import Checked
from guidedsl.check.calls import signature_text
from guidedsl.cli.trust import imports
from guidedsl.library.supports import free_size
from guidedsl.sizes import Size, product, total
from guidedsl.source import Source, Span
from guidedsl.syntax import ast
from guidedsl.syntax.parser import parse

Record = dict[str, Any]


def describe(checked: Checked) -> Record:
    """Everything that `info --json` prints. Sizes are texts over dim names."""
    program = checked.program
    inits = _Inits(checked)
    return {
        "file": program.source.name,
        "sha256": program.source.sha256,
        "doc": program.docstring,
        "imports": [{"what": one.what, "from": one.origin, "line": one.span.line} for one in imports(program)],
        "externs": [_callee(extern) for extern in program.externs],
        "models": [_model(model, inits) for model in program.models],
        "guides": [_guide(guide, inits) for guide in program.guides],
    }


def _model(model: ir.Model, inits: _Inits) -> Record:
    return {
        "name": model.name,
        "doc": model.docstring,
        "interface": model.interface,
        "from": model.origin,
        "dims": [{"name": dim.name, "default": dim.default} for dim in model.dims],
        "plates": [
            {
                "name": plate.name,
                "size": str(plate.size),
                "batching": plate.batching,
                "batch": None if plate.batch is None else str(plate.batch),
            }
            for plate in model.plates
        ],
        "data": [
            {
                "name": field.name,
                "role": field.role,
                **_shape(field.type.event, field.written, model),
                "type": str(field.type.support),
                "optional": field.default is not None,
            }
            for field in model.fields
        ],
        "sites": [
            {
                "name": latent.name,
                **_shape(latent.type.event, latent.written, model),
                "type": str(latent.type.support),
                "distribution": _distribution(latent.name, model),
            }
            for latent in model.latents
        ],
        "params": [_param(s, model, inits.of(s)) for s in model.statements if isinstance(s, ir.Param)],
        "nets": [_callee(net) for net in model.nets],
    }


def _callee(callee: ir.Callee) -> Record:
    """A net or an extern. The layers of a net from outside are not known; a weight is [outputs, inputs]."""
    record: Record = {"name": callee.store_name, "signature": signature_text(callee), "from": callee.origin}
    if callee.kind == "extern":
        return record
    weights = callee.layers.all if callee.layers is not None else ()
    record["made"] = callee.kind
    record["activation"] = callee.layers.activation.name if callee.layers is not None and weights[1:] else None
    record["layers"] = [
        {"name": f"{callee.store_name}.{layer.name}", "weight": [str(layer.outputs), str(layer.inputs)]}
        for layer in weights
    ]
    return record


def _net_size(net: ir.Callee) -> Size:
    """How many weights and biases a generated net has."""
    layers = net.layers.all if net.layers is not None else ()
    return total(layer.outputs * (layer.inputs + Size.of(1)) for layer in layers)


def _distribution(name: str, model: ir.Model) -> str | None:
    for term in model.terms:
        if term.name == name and term.dist is not None:
            return term.dist.row.name
    return None


def _guide(guide: ir.Guide, inits: _Inits) -> Record:
    params = [_param(param, guide.model, inits.of(param)) for param in guide.params]
    sizes = [_stored_size(param, guide.model) for param in guide.params] + [_net_size(net) for net in guide.nets]
    return {
        "name": guide.name,
        "doc": guide.docstring,
        "model": guide.model.name,
        "params": params,
        "nets": [_callee(net) for net in guide.nets],
        "unconstrained_size": str(total(sizes)),
        "flows": [
            _flow(s.dist) for s in guide.statements if isinstance(s, ir.JointDraw) if isinstance(s.dist, ir.Flow)
        ],
    }


def _flow(flow: ir.Flow) -> Record:
    """A flow, whose weights are parameters too: how many, its library knows."""
    sizes = {"size": flow.size, "transforms": flow.transforms, "hidden": flow.hidden}
    return {"name": flow.store_name, "kind": flow.kind} | {name: str(size) for name, size in sizes.items()}


def _param(param: ir.Param, model: ir.Model, init: str) -> Record:
    constraint = str(param.type.support)
    return {
        "name": param.store_name,
        **_shape(param.type.event, param.type.plates, model),
        "event_dim": len(param.type.event),
        "constraint": constraint if param.transform is None else f"{constraint} via {param.transform}",
        "unconstrained_size": str(_stored_size(param, model)),
        "init": init,
        "default_init": param.init is None,
        "lr": param.lr,
        "frozen": param.frozen,
    }


def _shape(event: tuple[Size, ...], plates: tuple[str, ...], model: ir.Model) -> Record:
    sizes = (*(model.plate(name).size for name in plates), *event)
    return {"shape": [str(size) for size in sizes], "plates": list(plates)}


def _stored_size(param: ir.Param, model: ir.Model) -> Size:
    rows = product(model.plate(name).size for name in param.type.plates)
    return rows * free_size(param.type.support, param.type.event)


class _Inits:
    """The initial values of params as they are written, in the text or in what an `auto` stands for."""

    def __init__(self, checked: Checked) -> None:
        source = checked.program.source
        self.written: dict[tuple[Span, str], str] = {}
        for item in parse(source).file.items:
            if isinstance(item, ast.Model | ast.Guide):
                self._read(item.body, source, None)
        for span, text in checked.expansions:
            expanded = Source("auto", f"guide g for m {{\n{text}\n}}")
            self._read(parse(expanded).file.guides[0].body, expanded, span)

    def _read(self, body: tuple[ast.Statement, ...], source: Source, auto: Span | None) -> None:
        for node in _params(body):
            if node.init is not None:
                text = " ".join(source.excerpt(node.init.span).split())
                self.written[auto or node.span, node.name.text] = text

    def of(self, param: ir.Param) -> str:
        """The initial value as text; the type's own where none is written."""
        return self.written.get((param.span, param.name), param.type.support.row.initial)


def _params(body: tuple[ast.Statement, ...]) -> Iterator[ast.Param]:
    for node in body:
        if isinstance(node, ast.Param):
            yield node
        elif isinstance(node, ast.Plate):
            yield from _params(node.body)
