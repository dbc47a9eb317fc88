"""Rows of plates in Pyro's layout: what an expression picks out of another.

A plate's axis becomes an event axis by exchanging it with a new one of size 1, so that every other axis stays where it
is; an event axis becomes a plate's in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from guidedsl import ir
from guidedsl.backend.code import ATOM, Code, indexed
from guidedsl.backend.rows import _Rows
from guidedsl.ir import Stage

if TYPE_CHECKING:
    from guidedsl.backend.pyro.emit import PyroEmitter


def pyro_picked(emitter: PyroEmitter, expr: ir.Gather | ir.AllRows | ir.RowOf | ir.Subscript) -> Code:
    """The expression as `emitter` emits what it is made of."""
    rows = PyroRows(emitter)
    match expr:
        case ir.Gather():
            return rows.gather(expr)
        case ir.AllRows():
            return rows.all_rows(expr)
        case ir.RowOf():
            return rows.row_of(expr)
        case ir.Subscript():
            return rows.subscript(expr)


class PyroRows(_Rows):
    """Emits these for an emitter of Pyro's layout."""

    def __init__(self, emitter: PyroEmitter) -> None:
        super().__init__(emitter)
        self.layout = emitter

    def _unplated(self, code: Code, plate: str, plates: Sequence[str], events: int) -> Code:
        """The axis of `plate` as the first of the event axes, of size 1 where it stood."""
        events += len(self.layout.steps_of(plates))
        slot = -(self.layout.slots[plate] + events + 1)
        read = f"{code.at(ATOM)}.unsqueeze({-(events + 1)})"
        return Code(f"{read}.transpose({slot}, {-(events + 1)})")

    def gather(self, expr: ir.Gather, whole: tuple[str, ...] = ()) -> Code:
        base = expr.base
        present = [(plate, index) for plate, index in expr.indices if plate in base.type.plates]
        code = Code(self._full_base(base, [*(plate for plate, _ in present), *whole]))
        if not present:
            return code
        plates, events = base.type.plates, len(base.type.event)
        left = [plate for plate in plates if plate not in dict(present)]
        indices = [index for _, index in present]
        if len(present) == 1 and self._in_place(present[0], left):
            slot = self.layout.slots[present[0][0]]
            return indexed(code, [self._row(indices[0], ()), *["0"] * (slot - 1), *[":"] * events])
        numbers = all(index.type.number for index in indices)
        if numbers and not left and base.type.stage < Stage.LATENT and not self.layout.steps_of(plates):
            at = {self.layout.slots[plate]: self._row(index, ()) for plate, index in present}
            batch = [at.get(slot, "0") for slot in range(self.layout.depth(plates), 0, -1)]
            return indexed(code, [*batch, *[":"] * events])
        for count, (plate, _) in enumerate(reversed(present)):
            code = self._unplated(code, plate, plates, events + count)
        if numbers:
            return indexed(code, [*(self._row(index, ()) for index in indices), *[":"] * events])
        read = {plate for index in indices for plate in index.type.plates}
        # a scan that stands around it adds an axis of steps where something has one
        around = tuple(plate for plate in self.plates if plate in self.layout.slots or plate in expr.type.plates)
        rows = ", ".join(self._index(index, around) for index in indices)
        reach = self.layout.depth(tuple(read))
        beside = all(self.layout.slots[plate] > reach for plate in left if plate in self.layout.slots)
        fixed = all(index.type.stage is not Stage.LATENT for index in indices)
        steps = self.layout.steps_of([*plates, *read])
        name = "take" if fixed and beside and not steps else "gather_rows"
        return Code(f"fn.{name}({code.text}, {events}, {rows})")

    def _index(self, index: ir.Expr, plates: Sequence[str]) -> str:
        if index.type.number:
            return self._row(index, ())
        return self.emitter.aligned(index, plates, 0).text

    def _in_place(self, picked: tuple[str, ir.Expr], left: Sequence[str]) -> bool:
        """Whether torch's own indexing puts the axes of the index where that of the plate stood."""
        plate, index = picked
        read = index.type.plates
        fixed = index.type.stage is not Stage.LATENT and not index.type.number
        return (
            not left
            and fixed
            and not self.layout.steps_of(read)
            and self.layout.depth(read) == self.layout.slots[plate]
        )

    def _full_base(self, base: ir.Expr, plates: Sequence[str]) -> str:
        batched = {plate for plate in base.type.plates if self.plates[plate].batching is not None}
        at_hand = self.emitter.whole or self.emitter.full or not batched.intersection(plates)
        if at_hand or not isinstance(base, ir.Var):
            return self.emitter.emit(base).at(ATOM)
        if base.role in ("data", "observed", "derived"):
            read = self.emitter.local(base.name)
        else:
            read = self.emitter.all_rows[base.name]
        for plate in base.type.plates:
            if plate in batched and plate not in plates:
                axis = -(self.layout.slots[plate] + len(base.type.event))
                read = f"{read}.index_select({axis}, {self.layout.batches[plate]})"
        return read

    def all_rows(self, expr: ir.AllRows, whole: tuple[str, ...] = ()) -> Code:
        base = expr.base
        whole = (expr.plate, *whole)
        match base:
            case ir.Gather():
                read = self.gather(base, whole)
            case ir.AllRows():
                read = self.all_rows(base, whole)
            case _:
                read = Code(self._full_base(base, whole))
        plates, events = base.type.plates, len(base.type.event)
        if expr.plate in plates:
            return self._unplated(read, expr.plate, plates, events)
        event = (self.plates[expr.plate].size, *base.type.event)
        inner = indexed(read, ["None", *[":"] * events])
        return Code(f"fn.expand({inner.text}, {self.emitter.shape((), event)})")

    def row_of(self, expr: ir.RowOf) -> Code:
        base = expr.base
        if expr.plate not in self.layout.slots:
            return super().row_of(expr)
        events = len(base.type.event)
        read = self.emitter.emit(base)
        axis = expr.axis - events
        if self.plates[expr.plate].batching is not None and not self.emitter.full:
            read = Code(f"{read.at(ATOM)}.index_select({axis}, {self.layout.batches[expr.plate]})")
        slot = self.layout.slots[expr.plate]
        if expr.plate in base.type.plates:
            place = -(slot + events)
            diagonal = f"{read.at(ATOM)}.diagonal(0, {place}, {axis}).unsqueeze({place})"
            return Code(f"{diagonal}.transpose({place}, -1).squeeze(-1)")
        if base.type.stage < Stage.LATENT and not base.type.plates and slot == 1 and axis == -events:
            return read
        return Code(f"fn.into_plate({read.text}, {axis}, {slot}, {events})")

    def _apart(self, expr: ir.Subscript) -> bool:
        # Under vectorized particles a latent has an axis of size 1 for every plate.
        return expr.base.type.stage is Stage.LATENT and bool(expr.type.plates)
