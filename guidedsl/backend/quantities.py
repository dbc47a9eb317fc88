"""A model's lets as Python: those that depend on latents or params, and those of data alone."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from guidedsl import ir
from guidedsl.backend.emit import Emitter
from guidedsl.backend.functions import Body, model_emitter, model_locals, model_params, used_dims
from guidedsl.backend.names import data_attribute, local_name
from guidedsl.backend.nets import Variables, net_statements
from guidedsl.backend.scans import ScanWriter, closure, definitions, read_behind
from guidedsl.backend.statements import (
    Statement,
    grouped,
    let_statements,
    let_value,
)
from guidedsl.check.walk import variables
from guidedsl.ir import Stage


def quantity_lets(model: ir.Model) -> tuple[ir.Let, ...]:
    """The lets that depend on latents or params, and what scans emit, with the scan's dim in front."""
    found: list[ir.Let] = []
    for statement in model.statements:
        if isinstance(statement, ir.Let) and statement.value.type.stage > Stage.DATA:
            found.append(statement)
        elif isinstance(statement, ir.Scan):
            found.extend(replace(emit, event=(statement.size, *emit.event)) for emit in statement.emits)
    return tuple(found)


def quantities_of(
    model: ir.Model, lets: tuple[ir.Let, ...], optional: Collection[str], callees: Variables
) -> tuple[Body, str]:
    """The statements, and the expression of what is returned."""
    writer = _Writer(model, lets, optional)
    return writer.write(callees), writer.result


class _Writer:
    """Writes the lets of one model. Those that read what may be summed out come last, each under its condition."""

    def __init__(self, model: ir.Model, lets: tuple[ir.Let, ...], optional: Collection[str]) -> None:
        self.model, self.lets = model, lets
        self.emitter = model_emitter(model)
        self.names = model_locals(model)
        self.made_of = definitions(model.statements)
        self.needed = closure([let.value for let in lets], self.made_of) | {let.name for let in lets}
        self.unsure = {let.name: _optional_reads(let, self.made_of, optional) for let in lets}
        self.body: list[Statement] = []
        self.guarded: list[Statement] = []

    @property
    def result(self) -> str:
        """What the function returns, once it is written."""
        return "quantities" if self.guarded else self._sure()

    def _sure(self) -> str:
        """A dict of the lets that always have a value."""
        pairs = (f'"{let.name}": {local_name(let.name)}' for let in self.lets if not self.unsure[let.name])
        return f"{{{', '.join(pairs)}}}"

    def write(self, callees: Variables) -> Body:
        parts = [part for name in self.needed for part in self.made_of[name]]
        params = model_params(self.model, parts, self.emitter, self.names)
        self.body += [statement for statements in params.values() for statement in statements]
        for group in grouped(self.model.statements):
            if isinstance(group[0], ir.Let):
                self._lets([let for let in group if isinstance(let, ir.Let) and let in self.lets])
            elif isinstance(group[0], ir.Scan):
                self._scan(group[0])
        if self.guarded:
            first = Statement(f"quantities: dict[str, Tensor] = {self._sure()}", self.model.span.line)
            self.body += [first, *self.guarded]
        nets = net_statements(self.emitter.callees.values(), callees, self.emitter)
        return Body((*nets, *self.body), used_dims(self.emitter, self.model), bool(params))

    def _lets(self, lets: list[ir.Let]) -> None:
        sure = [let for let in lets if not self.unsure[let.name]]
        self.body += let_statements(sure, self.emitter) if sure else []
        for let in lets:
            if self.unsure[let.name]:
                written = tuple(let_statements([let], self.emitter))
                self.guarded.append(_guarded(self.unsure[let.name], [let.name], written, let.span.line))

    def _scan(self, scan: ir.Scan) -> None:
        emits = [emit.name for emit in scan.emits]
        sure = {name for name in emits if not self.unsure[name]}
        behind = sure | read_behind(self.model.statements, scan, self.needed, terms=False)
        ScanWriter(scan, self.emitter, self.names, self.body, behind).write()
        late = [name for name in emits if name not in sure]
        if late:
            inner: list[Statement] = []
            ScanWriter(scan, self.emitter, self.names, inner, {*late}).write()
            there = tuple(dict.fromkeys(site for name in late for site in self.unsure[name]))
            self.guarded.append(_guarded(there, late, tuple(inner), scan.span.line))


def _guarded(there: Sequence[str], made: Sequence[str], written: tuple[Statement, ...], line: int) -> Statement:
    """Quantities that are there where some latents have a value."""
    kept = (Statement(f'quantities["{name}"] = {local_name(name)}', line) for name in made)
    condition = " and ".join(f"{local_name(name)} is not None" for name in there)
    return Statement(f"if {condition}:", line, (*written, *kept))


def _optional_reads(let: ir.Let, made_of: dict[str, tuple[object, ...]], optional: Collection[str]) -> tuple[str, ...]:
    """The latents that may be None which a let reads, through other lets too."""
    parts = [let.value, *(made_of[name] for name in closure((let.value,), made_of))]
    read = {var.name for part in parts for var in variables(part)}
    return tuple(name for name in optional if name in read)


def derived_names(model: ir.Model) -> tuple[str, ...]:
    optional = [field.name for field in model.fields if field.default is not None]
    return (*optional, *(let.name for let in model.derived))


def derive_of(model: ir.Model) -> Body:
    """Statements that fill optional data and data-only lets, in an order in which each finds what it reads."""
    emitter = Emitter({plate.name: plate for plate in model.plates}, local_name, whole=True)
    body: list[Statement] = []
    for field in model.fields:
        if field.default is None:
            continue
        default = emitter.materialised(field.default, field.plates, field.type.event).text
        if field.default.type.number and not field.plates and not field.type.event:
            default = f"data.new_full((), {default})"
        if field.type.support.target is not None:
            default = f"{default}.long()"
        filled = f"data = replace(data, {data_attribute(field.name)}={default})"
        body.append(Statement(f'if "{field.name}" in data.missing:\n    {filled}', field.span.line))
    for group in grouped(model.derived):
        let = group[0]
        if isinstance(let.value, ir.Output):
            body += let_statements(group, emitter)
            changes = ", ".join(f"{data_attribute(one.name)}={emitter.local(one.name)}" for one in group)
            body.append(Statement(f"data = replace(data, {changes})", let.span.line))
            continue
        value = let_value(let, emitter)
        if let.value.type.number and not let.plates and not let.event:
            value = f"data.new_full((), {value})"
        body.append(Statement(f"data = replace(data, {data_attribute(let.name)}={value})", let.span.line))
    return Body(tuple(body), used_dims(emitter, model), has_params=False)
