"""Nets and externs as Python: a module class for each generated net, a typed handle for each from outside."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from guidedsl import ir
from guidedsl.backend.emit import Emitter
from guidedsl.backend.names import Module, camel_case, data_attribute, local_name, module_argument
from guidedsl.backend.statements import Statement
from guidedsl.check.calls import signature_text
from guidedsl.check.nets import head_shape
from guidedsl.check.shapes import indexed_size
from guidedsl.sizes import Size

Variables = Mapping[str, str]
"""By a callee's name in the store: what the generated module calls its class or its handle."""

_DOC_WIDTH = 88


@dataclass(frozen=True)
class NetContext:
    """A generated net: a class, and the statements of its two methods."""

    name: str
    doc: str
    arguments: str
    layers: tuple[str, ...]
    inputs: str
    result: str
    forward: tuple[str, ...]
    span_line: int


@dataclass(frozen=True)
class HandleContext:
    """A net or an extern from outside: a variable of the module."""

    name: str
    code: str
    span_line: int


def variable_names(callees: Iterable[ir.Callee], names: Module, locals: frozenset[str]) -> Variables:
    """A name in the module for each, which no variable of a function hides."""
    found: dict[str, str] = {}
    before = frozenset(names.taken)
    names.taken |= locals
    for callee in callees:
        owner, _, _ = callee.store_name.rpartition(".")
        if callee.kind == "generated":
            found[callee.store_name] = names.take(camel_case(callee.name), f"{owner}{camel_case(callee.name)}")
        else:
            found[callee.store_name] = names.take(f"{callee.name}_net", f"{owner}_{callee.name}_net")
    names.taken = {*before, *found.values()}
    return found


def net_statements(used: Iterable[ir.Callee], variables: Variables, emitter: Emitter) -> list[Statement]:
    """`decoder = net(store, "VAE.decoder", lambda: Decoder(Z, H, D), data)` for each net that a function calls."""
    statements = []
    for callee in used:
        if callee.kind == "extern":
            continue
        source = variables[callee.store_name]
        dims = net_dims(callee) if callee.layers is not None else ()
        if dims:
            source = f"lambda: {source}({', '.join(emitter.size(Size.of(dim)) for dim in dims)})"
        code = f'{emitter.local(callee.name)} = net(store, "{callee.store_name}", {source}, data)'
        statements.append(Statement(code, callee.span.line))
    return statements


# Generated nets


def net_dims(callee: ir.Callee) -> tuple[str, ...]:
    """The dims that the class takes, in the order in which data flows through them."""
    assert callee.layers is not None
    sizes = [size for layer in callee.layers.all for size in (layer.inputs, layer.outputs)]
    sizes += [size for value in callee.outputs for size in _kept_shape(value.type)]
    return tuple(dict.fromkeys(name for size in sizes for name in sorted(size.names)))


def _kept_shape(type: ir.Type) -> tuple[Size, ...]:
    """The shape of a head where it is not a vector or a number."""
    shape = head_shape(type)
    return shape if len(shape) > 1 else ()


def _classes(type: ir.Type, plates: Mapping[str, ir.Plate]) -> Size | None:
    """How many rows or positions an index points into."""
    target = type.support.target
    if target is None:
        return None
    return indexed_size(target, plates)


def net_context(callee: ir.Callee, name: str, owner: str, plates: Mapping[str, ir.Plate]) -> NetContext:
    """Lower a generated net, whose class is `name`."""
    assert callee.layers is not None
    writer = _Writer(callee, callee.layers, plates)
    forward = writer.forward()
    dims = net_dims(callee)
    return NetContext(
        name=name,
        doc=textwrap.fill(f"{signature_text(callee)}, a net of {owner}.", _DOC_WIDTH, break_long_words=False),
        arguments=", ".join(["self", *(f"{module_argument(dim)}: int" for dim in dims)]),
        layers=tuple(writer.layers()),
        inputs=", ".join(["self", *(f"{module_argument(value.name)}: Tensor" for value in callee.inputs)]),
        result=_result(callee),
        forward=tuple(forward),
        span_line=callee.span.line,
    )


def _result(callee: ir.Callee) -> str:
    count = len(callee.outputs)
    return "Tensor" if count == 1 else f"tuple[{', '.join(['Tensor'] * count)}]"


class _Writer:
    """Writes the methods of one generated net."""

    def __init__(self, callee: ir.Callee, layers: ir.Layers, plates: Mapping[str, ir.Plate]) -> None:
        self.callee = callee
        self.net = layers
        self.plates = plates
        self.emitter = Emitter(plates, module_argument)

    def layers(self) -> list[str]:
        size, layers = self.emitter.size, self.net.all
        lines = [f"self.{layer.name} = nn.Linear({size(layer.inputs)}, {size(layer.outputs)})" for layer in layers]
        for layer, value in zip(self.net.heads, self.callee.outputs, strict=True):
            shape = _kept_shape(value.type)
            if any(part.constant is None for part in shape):
                lines.append(f"self._{layer.name}_shape = {self.emitter.shape((), shape)}")
        for value in self.callee.inputs:
            classes = _classes(value.type, self.plates)
            if classes is not None and classes.constant is None:
                lines.append(f"self._{value.name}_classes = {size(classes)}")
        return lines

    def forward(self) -> list[str]:
        inputs = [self._input(value) for value in self.callee.inputs]
        x = inputs[0] if len(inputs) == 1 else f"fn.concat(({', '.join(inputs)}))"
        lines = [self._one_hot(value) for value in self.callee.inputs if value.type.support.target is not None]
        for layer in self.net.hidden:
            lines.append(f"h = {self.net.activation.code.format(x=f'self.{layer.name}({x})')}")
            x = "h"
        if len(self.net.heads) > 1 and not x.isidentifier():
            lines.append(f"h = {x}")
            x = "h"
        heads = [self._head(layer, value, x) for layer, value in zip(self.net.heads, self.callee.outputs, strict=True)]
        if len(heads) == 1 and heads[0].startswith("self."):  # what a module returns has no type
            return [*lines, f"out: Tensor = {heads[0]}", "return out"]
        return [*lines, f"return {', '.join(heads)}"]

    def _one_hot(self, value: ir.Value) -> str:
        """An index [..., event] becomes [..., event, rows]."""
        name, classes = module_argument(value.name), _classes(value.type, self.plates)
        assert classes is not None
        count = f"self._{value.name}_classes" if classes.constant is None else str(classes.constant)
        dtype = f"self.{self.net.all[0].name}.weight.dtype"
        return f"{name} = nn.functional.one_hot({name}.long(), {count}).to({dtype})"

    def _input(self, value: ir.Value) -> str:
        """An input as vectors [..., width]."""
        name, rank = module_argument(value.name), len(value.type.event)
        rank += value.type.support.target is not None
        if rank == 0:
            return f"{name}[..., None]"
        return name if rank == 1 else f"{name}.flatten({-rank})"

    def _head(self, layer: ir.Layer, value: ir.Value, x: str) -> str:
        """What a head gives, in its shape and in its support by a direct formula."""
        type, shape = value.type, head_shape(value.type)
        code = f"self.{layer.name}({x})"
        if not shape:
            code = f"{code}[..., 0]"
        elif len(shape) > 1:
            fixed = all(part.constant is not None for part in shape)
            sizes = self.emitter.shape((), shape) if fixed else f"self._{layer.name}_shape"
            code = f"{code}.unflatten(-1, {sizes})"
        match type.support.kind:
            case "real":
                return code
            case "positive" | "nonnegative":
                return f"fn.softplus({code})"
            case "simplex":
                return f"torch.softmax({code}, -1)"
            case _:
                return f"{self.emitter.constraint(type.support, value.bounds, None)}.constrain({code})"


# Nets and externs from outside


def handle_context(callee: ir.Callee, name: str) -> HandleContext:
    """Lower a net that is passed in or imported, or an extern, which the generated module holds as `name`."""
    emitter = Emitter({}, local_name)
    kind = {"passed": "PassedNet", "imported": "ImportedNet", "extern": "Extern"}[callee.kind]
    parts = [f'"{callee.store_name}"']
    if callee.origin is not None:
        parts.append(json.dumps(callee.origin))
    parts += [f"inputs={_values(callee.inputs, emitter)}", f"outputs={_values(callee.outputs, emitter)}"]
    if callee.options:
        options = ", ".join(f'"{key}": {_option(value)}' for key, value in callee.options)
        parts.append(f"options=lambda data: {{{options}}}")
    return HandleContext(name, f"{kind}({', '.join(parts)})", callee.span.line)


def _values(values: tuple[ir.Value, ...], emitter: Emitter) -> str:
    rows = [_value(value, emitter) for value in values]
    return f"({', '.join(rows)}{',' if len(rows) == 1 else ''})"


def _value(value: ir.Value, emitter: Emitter) -> str:
    axes = [f'"{size}"' for size in value.type.event]
    event = f"({', '.join(axes)}{',' if len(axes) == 1 else ''})"
    constraint = emitter.constraint(value.type.support, value.bounds, None)
    return f'Value("{value.name}", {event}, {constraint})'


def _option(value: ir.Expr | str) -> str:
    if isinstance(value, str):
        return json.dumps(value)
    if value.type.value is not None:
        return str(int(value.type.value)) if value.type.value.is_integer() else repr(value.type.value)
    return Emitter({}, lambda name: f"data.{data_attribute(name)}").emit(value).text
