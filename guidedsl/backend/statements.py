"""What models and guides have in common: statements, params and lets as Python."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from textwrap import indent
from typing import Any, TypeVar

from guidedsl import ir
from guidedsl.backend.code import number
from guidedsl.backend.emit import Emitter
from guidedsl.backend.names import data_attribute
from guidedsl.library.supports import support

AnyStatement = TypeVar("AnyStatement")


@dataclass(frozen=True)
class Statement:
    """One Python statement and the line of the `.guide` file that it comes from. A `body` stands in its block."""

    code: str
    line: int
    body: tuple[Statement, ...] = ()

    @property
    def text(self) -> str:
        """The statement with its block."""
        return "\n".join([self.code, *(indent(inner.text, "    ") for inner in self.body)])


def param_reads(roots: Iterable[object], plates: Mapping[str, ir.Plate]) -> tuple[set[str], set[str]]:
    """The params that are read at a step's rows, and those of which all rows of a batched plate are read."""
    by_row: set[str] = set()
    whole: set[str] = set()
    pending: list[Any] = list(roots)
    while pending:
        node = pending.pop()
        if isinstance(node, ir.Var):
            if node.role == "param":
                by_row.add(node.name)
        elif isinstance(node, ir.Gather | ir.AllRows):
            base: ir.Expr = node
            taken: set[str] = set()
            while isinstance(base, ir.Gather | ir.AllRows):
                if isinstance(base, ir.Gather):
                    pending.extend(index for _, index in base.indices)
                taken |= {base.plate} if isinstance(base, ir.AllRows) else {plate for plate, _ in base.indices}
                base = base.base
            batched = {plate for plate in taken.intersection(base.type.plates) if plates[plate].batching is not None}
            if batched and isinstance(base, ir.Var) and base.role == "param":
                whole.add(base.name)
            else:
                pending.append(base)
        elif isinstance(node, tuple):
            pending.extend(node)
        elif is_dataclass(node) and not isinstance(node, ir.Type | ir.Latent | ir.Callee):
            pending.extend(getattr(node, field.name) for field in fields(node))
    return by_row, whole


def param_statements(
    param: ir.Param, emitter: Emitter, *, by_row: bool = True, whole: str | None = None
) -> list[Statement]:
    """The param at the rows of a step, where read so, and all rows of it in the variable `whole`, where read so.

    `w = param("Guide.w", …)`: stored shape, constraint, event_dim and plates in plain sight.
    """
    line = param.span.line
    registered = _registered(param, emitter, rows=by_row)
    statements = [Statement(f"{emitter.local(param.name)} = {registered}", line)] if by_row else []
    if whole is not None:
        emitter.all_rows = {**emitter.all_rows, param.name: whole}
        code = f'param("{param.store_name}")' if by_row else registered
        statements.append(Statement(f"{whole} = {code}", line))
    return statements


def _registered(param: ir.Param, emitter: Emitter, *, rows: bool) -> str:
    type = param.type
    rank = len(type.event)
    arguments = [
        f'"{param.store_name}"',
        f"lambda: {initial_value(param, emitter)}",
        f"constraint={stored_constraint(param, emitter)}",
        f"event_dim={rank}",
    ]
    if type.plates and rows:
        plates = ", ".join(f"data.{data_attribute(plate)}" for plate in type.plates)
        arguments.append(f"plates=({plates}{',' if len(type.plates) == 1 else ''})")
    if param.lr is not None:
        arguments.append(f"lr={number(param.lr)}")
    if param.frozen:
        arguments.append("frozen=True")
    return f"param({', '.join(arguments)})"


def stored_constraint(param: ir.Param, emitter: Emitter) -> str:
    """The constraint of a param, over all rows of its plates."""
    type = param.type
    whole = emitter.of_all_rows()
    text = whole.constraint(type.support, param.bounds, param.transform, type.plates, len(type.event))
    emitter.dims |= whole.dims
    return text


def initial_value(param: ir.Param, emitter: Emitter) -> str:
    """The expression of a param's first value, at the shape that it is stored in."""
    type = param.type
    shape = emitter.stored_shape(type.plates, type.event)
    if param.init is None:
        if type.support == support("real"):
            return emitter.filled(shape, "0.0")
        return f"{stored_constraint(param, emitter)}.default({shape}, data.dtype, data.device)"
    whole = emitter.of_all_rows()
    whole.init_shape = shape
    value = whole.aligned(param.init, type.plates, len(type.event)).text
    emitter.dims |= whole.dims
    if isinstance(param.init, ir.Apply) and param.init.function.name == "normal":
        return value
    if not param.init.type.number and param.init.type.event == type.event and param.init.type.plates == type.plates:
        return value
    return emitter.filled(shape, value) if param.init.type.number else emitter.repeated(shape, value)


def let_value(let: ir.Let, emitter: Emitter) -> str:
    """The value of a let, with every axis of its plates and its declared type."""
    value = emitter.materialised(let.value, let.plates, let.event).text
    if let.asserted is not None:
        constraint = emitter.constraint(let.asserted, let.bounds, None, let.plates, len(let.event))
        value = f'fn.checked({value}, {constraint}, "{let.name}")'
    return value


def _let_name(let: ir.Let, emitter: Emitter) -> str:
    """What holds a let: in a loop that of one step."""
    return emitter.emit(ir.Var(let.name, "let", let.value.type)).text


def grouped(statements: Iterable[AnyStatement]) -> list[tuple[AnyStatement, ...]]:
    """Statements one by one, but the lets of one `let (a, b) = f(x)` together."""
    groups: list[tuple[AnyStatement, ...]] = []
    for statement in statements:
        last = groups[-1][-1] if groups else None
        if same_call(statement, last) and position_of(statement) not in map(position_of, groups[-1]):
            groups[-1] = (*groups[-1], statement)
        else:
            groups.append((statement,))
    return groups


def same_call(statement: object, other: object) -> bool:
    """Whether two lets take outputs of one call."""
    call = _call_of(statement)
    return call is not None and call == _call_of(other)


def position_of(statement: object) -> int | None:
    """Which output of a call a let takes."""
    value = statement.value if isinstance(statement, ir.Let) else None
    return value.position if isinstance(value, ir.Output) else None


def _call_of(statement: object) -> ir.Call | None:
    """The call that a let takes an output of."""
    if isinstance(statement, ir.Let) and isinstance(statement.value, ir.Output):
        return statement.value.call
    return None


def unpacking(lets: Sequence[ir.Let], emitter: Emitter) -> str:
    """`a, _ = f(x)`: the outputs that the lets take, `_` for any other."""
    first = lets[0].value
    assert isinstance(first, ir.Output)
    targets = ["_"] * len(first.call.callee.outputs)
    for let in lets:
        assert isinstance(let.value, ir.Output)
        targets[let.value.position] = _let_name(let, emitter)
    return f"{', '.join(targets)} = {emitter.emit(first.call).text}"


def let_statements(lets: Sequence[ir.Let], emitter: Emitter) -> list[Statement]:
    """The statements of one group of lets, with every axis of their plates."""
    if _call_of(lets[0]) is None:
        return [Statement(f"{_let_name(let, emitter)} = {let_value(let, emitter)}", let.span.line) for let in lets]
    statements = [Statement(unpacking(lets, emitter), lets[0].span.line)]
    for let in lets:
        name, value = _let_name(let, emitter), ir.Var(let.name, "let", let.value.type)
        full = emitter.materialised(value, let.plates, let.event).text
        if full != name:
            statements.append(Statement(f"{name} = {full}", let.span.line))
    return statements


def doc_type(type: ir.Type, plates: tuple[str, ...]) -> str:
    """A type as a docstring shows it: `[schools, K] positive`."""
    axes = [*plates, *(str(size) for size in type.event)]
    return f"[{', '.join(axes)}] {type.support}"
