"""Rows of plates and subscripts as Python: what an expression picks out of another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeGuard

from guidedsl import ir
from guidedsl.backend.code import ATOM, Code, indexed, new_axes
from guidedsl.backend.names import data_attribute
from guidedsl.ir import Stage

if TYPE_CHECKING:
    from guidedsl.backend.emit import Emitter


def picked(emitter: Emitter, expr: ir.Gather | ir.AllRows | ir.RowOf | ir.Subscript) -> Code:
    """The expression as `emitter` emits what it is made of."""
    rows = _Rows(emitter)
    match expr:
        case ir.Gather():
            return rows.gather(expr)
        case ir.AllRows():
            return rows.all_rows(expr)
        case ir.RowOf():
            return rows.row_of(expr)
        case ir.Subscript():
            return rows.subscript(expr)


class _Rows:
    """Emits these for an emitter; all rows of one may be picked from by another around it."""

    def __init__(self, emitter: Emitter) -> None:
        self.emitter = emitter
        self.plates = emitter.plates

    def gather(self, expr: ir.Gather, whole: tuple[str, ...] = ()) -> Code:
        """`whole`: the plates of which the expression around this one takes all rows."""
        base, target = expr.base, expr.type
        present = [(plate, index) for plate, index in expr.indices if plate in base.type.plates]
        if not present:
            return Code(self._full_base(base, whole))
        if any(index.type.stage is Stage.LATENT for _, index in present):
            return self._gather_random(base, present, whole)
        rows_of = dict(present)
        read = self._full_base(base, [*rows_of, *whole])
        fixed = all(index.type.number for index in rows_of.values())
        rows = []
        for plate in base.type.plates:
            if plate in rows_of:
                rows.append(self._row(rows_of[plate], target.plates))
            elif fixed:
                rows.append(":")
            else:
                after = len(target.plates) - 1 - target.plates.index(plate)
                length = self.emitter.size(self.plates[plate].size) if plate in whole else self.emitter.length(plate)
                rows.append(f"fn.rows({length}, {after}, data)")
        return indexed(Code(read), [*rows, *[":"] * len(base.type.event)])

    def _gather_random(self, base: ir.Expr, indices: list[tuple[str, ir.Expr]], whole: tuple[str, ...]) -> Code:
        """Rows that are themselves random differ from particle to particle: one plate at a time."""
        events = len(base.type.event)
        code = Code(self._full_base(base, [*(plate for plate, _ in indices), *whole]))
        plates, stage = base.type.plates, base.type.stage
        order = tuple(self.plates)
        numbers = {plate: index for plate, index in indices if index.type.number}
        if numbers:
            rows = [self.emitter.whole_number(numbers[plate]) if plate in numbers else ":" for plate in plates]
            code = indexed(code, [*rows, *[":"] * events])
            plates = tuple(plate for plate in plates if plate not in numbers)
        for plate, index in indices:
            if plate in numbers:
                continue
            after = len(plates) - plates.index(plate) - 1
            left = tuple(name for name in plates if name != plate)
            target = tuple(name for name in order if name in left or name in index.type.plates)
            read = code.at(ATOM)
            if after:
                read = f"{read}.movedim({-(after + events + 1)}, {-(events + 1)})"
            slots = [*(name in left for name in target), *[True] * (events + 1)]
            row = self.emitter.aligned(index, target, 0).text
            code = Code(f"fn.gather({indexed(Code(read), new_axes(slots, stage)).text}, {row}, {events})")
            plates, stage = target, max(stage, index.type.stage)
        return code

    def _row(self, index: ir.Expr, plates: Sequence[str], rank: int = 0) -> str:
        if index.type.number:
            return self.emitter.whole_number(index)
        row = self.emitter.aligned(index, plates, rank)
        return row.text if index.type.support.target is not None else f"{row.at(ATOM)}.long()"

    def _full_base(self, base: ir.Expr, plates: Sequence[str]) -> str:
        """`base` with all rows of `plates`: data and params are at hand whole, though a step sees a batch of them."""
        batched = {plate for plate in base.type.plates if self.plates[plate].batching is not None}
        at_hand = self.emitter.whole or self.emitter.full or not batched.intersection(plates)
        if at_hand or not isinstance(base, ir.Var):
            return self.emitter.emit(base).at(ATOM)
        if base.role in ("data", "observed", "derived"):
            read = f"data.full.{data_attribute(base.name)}"
        else:
            read = self.emitter.all_rows[base.name]
        after = len(base.type.event)
        for plate in reversed(base.type.plates):
            after += 1
            if plate in batched and plate not in plates:
                read = f"fn.batch_rows({read}, data.{data_attribute(plate)}, {-after})"
        return read

    def all_rows(self, expr: ir.AllRows, whole: tuple[str, ...] = ()) -> Code:
        base = expr.base
        plates = list(base.type.plates)
        whole = (expr.plate, *whole)
        match base:
            case ir.Gather():
                read = self.gather(base, whole)
            case ir.AllRows():
                read = self.all_rows(base, whole)
            case _:
                read = Code(self._full_base(base, whole))
        if expr.plate not in plates:
            event = (self.plates[expr.plate].size, *base.type.event)
            slots = [*(True for _ in plates), False, *(True for _ in base.type.event)]
            inner = indexed(read, new_axes(slots, Stage.LATENT))
            return Code(f"fn.expand({inner.text}, {self.emitter.shape(plates, event)})")
        events = len(base.type.event)
        source = -(len(plates) - plates.index(expr.plate) + events)
        target = -(events + 1)
        return read if source == target else Code(f"{read.at(ATOM)}.movedim({source}, {target})")

    def row_of(self, expr: ir.RowOf) -> Code:
        base, plates = expr.base, expr.type.plates
        events = len(base.type.event)
        read = self.emitter.emit(base)
        source = expr.axis - events
        if self.plates[expr.plate].batching is not None and not self.emitter.full:
            read = Code(f"fn.batch_rows({read.text}, data.{data_attribute(expr.plate)}, {source})")
        target = -(len(plates) - plates.index(expr.plate) + events - 1)
        if expr.plate in base.type.plates:
            read, source = Code(f"{read.at(ATOM)}.diagonal(0, {target - 1}, {source})"), -1
        return read if source == target else Code(f"{read.at(ATOM)}.movedim({source}, {target})")

    def subscript(self, expr: ir.Subscript) -> Code:
        base, items = expr.base, expr.items
        picks = [_is_pick(item) for item in items]
        last = max((n for n, pick in enumerate(picks) if pick), default=-1)
        leading = not any(isinstance(item, ir.Range | ir.NewAxis) for item in items[: last + 1])
        random = any(not isinstance(i, ir.Range | ir.NewAxis) and i.type.stage is Stage.LATENT for i in items)
        in_place = leading or (sum(picks) == 1 and not expr.type.plates)
        if any(picks) and (base.type.plates or random or not in_place or self._apart(expr)):
            return self._picked(expr, picks)
        rest = len(base.type.event) - sum(not isinstance(item, ir.NewAxis) for item in items)
        rank = max(_pick_rank(item) for item in items)
        positions = [
            self._row(item, expr.type.plates, rank) if _is_pick(item) else self._position(item) for item in items
        ]
        return indexed(self.emitter.emit(base), [*positions, *[":"] * rest])

    def _apart(self, expr: ir.Subscript) -> bool:
        """Whether axes may stand between those of the positions and the event, in a value without plates."""
        return False

    def _picked(self, expr: ir.Subscript, picks: list[bool]) -> Code:
        """Positions that differ from row to row: what is fixed first, then one axis at a time."""
        base, plates = expr.base, expr.type.plates
        code = self.emitter.aligned(base, plates, len(base.type.event))
        used = sum(not isinstance(item, ir.NewAxis) for item in expr.items)
        rest = len(base.type.event) - used
        fixed = [":" if pick else self._position(item) for item, pick in zip(expr.items, picks, strict=True)]
        if any(text != ":" for text in fixed):
            code = indexed(code, [*fixed, *[":"] * rest])
        axes = [item for item, text in zip(expr.items, fixed, strict=True) if text in (":", "None") or ":" in text]
        events = len(axes) + rest
        for position in range(len(axes) - 1, -1, -1):
            item = axes[position]
            if not _is_pick(item):
                continue
            read = code.at(ATOM)
            if position:
                read = f"{read}.movedim({position - events}, {-events})"
            rank = len(item.type.event)
            read = indexed(Code(read), [*["None"] * rank, *[":"] * events]).text if rank else read
            code = Code(f"fn.gather({read}, {self.emitter.aligned(item, plates, rank).text}, {events - 1})")
            events += rank - 1
            if rank and position:
                code = Code(f"{code.text}.movedim({_span(-events, rank)}, {_span(position - events, rank)})")
        return code

    def _position(self, item: ir.Expr | ir.Range | ir.NewAxis) -> str:
        if isinstance(item, ir.NewAxis):
            return "None"
        if isinstance(item, ir.Range):
            low = self.emitter.whole_number(item.low) if item.low is not None else ""
            high = self.emitter.whole_number(item.high) if item.high is not None else ""
            return f"{low}:{high}"
        return self.emitter.whole_number(item)


def _is_pick(item: ir.Expr | ir.Range | ir.NewAxis) -> TypeGuard[ir.Expr]:
    """Whether a subscript is a tensor of positions."""
    return not isinstance(item, ir.Range | ir.NewAxis) and not item.type.number


def _pick_rank(item: ir.Expr | ir.Range | ir.NewAxis) -> int:
    """The event axes of a vector of positions."""
    return 0 if isinstance(item, ir.Range | ir.NewAxis) else len(item.type.event)


def _span(first: int, count: int) -> str:
    """One axis or several in a row, as torch's `movedim` takes them."""
    return str(first) if count == 1 else str(tuple(range(first, first + count)))
