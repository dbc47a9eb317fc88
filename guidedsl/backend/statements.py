"""What models and guides have in common: statements, params and lets as Python."""

from __future__ import annotations

from dataclasses import dataclass

from guidedsl import ir
from guidedsl.backend.code import number
from guidedsl.backend.emit import Emitter
from guidedsl.backend.names import data_attribute
from guidedsl.library.supports import support


@dataclass(frozen=True)
class Statement:
    """One Python statement and the line of the `.guide` file that it comes from."""

    code: str
    line: int


def param_statement(param: ir.Param, emitter: Emitter) -> Statement:
    """`w = param("Guide.w", …)`: stored shape, constraint, event_dim and plates in plain sight."""
    type = param.type
    rank = len(type.event)
    arguments = [
        f'"{param.store_name}"',
        f"lambda: {initial_value(param, emitter)}",
        f"constraint={stored_constraint(param, emitter)}",
        f"event_dim={rank}",
    ]
    if type.plates:
        plates = ", ".join(f"data.{data_attribute(plate)}" for plate in type.plates)
        arguments.append(f"plates=({plates}{',' if len(type.plates) == 1 else ''})")
    if param.lr is not None:
        arguments.append(f"lr={number(param.lr)}")
    if param.frozen:
        arguments.append("frozen=True")
    return Statement(f"{emitter.local(param.name)} = param({', '.join(arguments)})", param.span.line)


def _whole(emitter: Emitter) -> Emitter:
    """An emitter for what is stored: it reads data with all rows."""
    return Emitter(emitter.plates, emitter.local, full=True)


def stored_constraint(param: ir.Param, emitter: Emitter) -> str:
    """The constraint of a param, over all rows of its plates."""
    type = param.type
    whole = _whole(emitter)
    text = whole.constraint(type.support, param.bounds, param.transform, type.plates, len(type.event))
    emitter.dims |= whole.dims
    return text


def initial_value(param: ir.Param, emitter: Emitter) -> str:
    """The expression of a param's first value, at the shape that it is stored in."""
    type = param.type
    shape = emitter.stored_shape(type.plates, type.event)
    if param.init is None:
        if type.support == support("real"):
            return f"data.new_full({shape}, 0.0)"
        return f"{stored_constraint(param, emitter)}.default({shape}, data.dtype, data.device)"
    whole = _whole(emitter)
    whole.init_shape = shape
    value = whole.aligned(param.init, type.plates, len(type.event)).text
    emitter.dims |= whole.dims
    if isinstance(param.init, ir.Apply) and param.init.function.name == "normal":
        return value
    if not param.init.type.number and param.init.type.event == type.event and param.init.type.plates == type.plates:
        return value
    return f"data.new_full({shape}, {value})"


def let_value(let: ir.Let, emitter: Emitter) -> str:
    """The value of a let, with every axis of its plates and its declared type."""
    value = emitter.materialised(let.value, let.plates, let.event).text
    if let.asserted is not None:
        constraint = emitter.constraint(let.asserted, let.bounds, None, let.plates, len(let.event))
        value = f'fn.checked({value}, {constraint}, "{let.name}")'
    return value


def let_statement(let: ir.Let, emitter: Emitter) -> Statement:
    """`a = e`."""
    return Statement(f"{emitter.local(let.name)} = {let_value(let, emitter)}", let.span.line)


def doc_type(type: ir.Type, plates: tuple[str, ...]) -> str:
    """A type as a docstring shows it: `[schools, K] positive`."""
    axes = [*plates, *(str(size) for size in type.event)]
    return f"[{', '.join(axes)}] {type.support}"
