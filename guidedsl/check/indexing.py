"""Brackets after a value: plate rows first, outermost first, then event positions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from guidedsl import errors, ir
from guidedsl.check.scope import Symbol
from guidedsl.check.shapes import NEW, as_size, indexed_size, show
from guidedsl.check.walk import references, variables
from guidedsl.ir import Stage, Type
from guidedsl.library import supports as s
from guidedsl.sizes import Size
from guidedsl.syntax import ast

if TYPE_CHECKING:
    from guidedsl.check.expressions import Expressions

Subscript = ast.Expr | ast.Slice
Item = ir.Expr | ir.Range | ir.NewAxis


class Indexing:
    """Types `base[…]` for an expression checker."""

    def __init__(self, expressions: Expressions) -> None:
        self.expressions = expressions
        self.report = expressions.report
        self.scope = expressions.scope

    def check(self, node: ast.Index) -> ir.Expr | None:
        symbol = self.scope.symbols.get(node.base.name) if isinstance(node.base, ast.Ref) else None
        if symbol is None:
            base = self.expressions.check(node.base)
            return None if base is None else self._event(node, base, node.subscripts)
        base = ir.Var(symbol.name, symbol.role, symbol.type)
        outside = [plate for plate in symbol.plates if plate not in self.scope.enclosing]
        if len(node.subscripts) < len(outside):
            given = len(node.subscripts)
            self.report.add(
                errors.index_missing(symbol.name, tuple(outside), given, node.span, symbol.span), symbol.name
            )
            return None
        rows = self._rows(node, symbol, base, tuple(zip(outside, node.subscripts, strict=False)))
        return None if rows is None else self._event(node, rows[0], node.subscripts[len(outside) :], rows[1])

    # Plates

    def _rows(
        self, node: ast.Index, symbol: Symbol, base: ir.Expr, pairs: tuple[tuple[str, Subscript], ...]
    ) -> tuple[ir.Expr, tuple[Item, ...]] | None:
        """The rows, and what to take along the event axes that whole plates have become: all, or a vector of rows."""
        indices: list[tuple[str, ir.Expr]] = []
        whole: dict[str, Item] = {}
        for plate, subscript in pairs:
            if isinstance(subscript, ast.Slice):
                if subscript.low is not None or subscript.high is not None:
                    what = f"`{self.report.text(subscript.span)}`"
                    self.report.add(errors.wrong_index(what, "is a slice", plate, subscript.span, symbol.span))
                    return None
                whole[plate] = ir.Range(None, None)
                continue
            index = self._row_index(symbol, plate, subscript)
            if index is None:
                return None
            if index.type.event:
                whole[plate] = index
            else:
                indices.append((plate, index))
        if not self._rows_exist(node, symbol, tuple(plate for plate, _ in pairs)):
            return None
        result = base
        if indices:
            gone = {plate for plate, _ in indices}
            left = [plate for plate in result.type.plates if plate not in gone]
            added = [plate for _, index in indices for plate in index.type.plates]
            stage = max(result.type.stage, *(index.type.stage for _, index in indices))
            type = replace(result.type, plates=self.scope.sort((*left, *added)), stage=stage)
            result = ir.Gather(result, tuple(indices), type)
        for plate in reversed(whole):
            size = self.scope.plates[plate].size
            plates = tuple(name for name in result.type.plates if name != plate)
            result = ir.AllRows(result, plate, replace(result.type, event=(size, *result.type.event), plates=plates))
        return result, tuple(whole.values())

    def _row_index(self, symbol: Symbol, plate: str, subscript: ast.Expr) -> ir.Expr | None:
        if isinstance(subscript, ast.Ref) and subscript.name in self.scope.enclosing:
            what = f"`{subscript.name}`"
            self.report.add(errors.wrong_index(what, "is another plate", plate, subscript.span, symbol.span))
            return None
        index = self.expressions.check(subscript)
        if index is None:
            return None
        target = index.type.support.target
        text = f"`{self.report.text(subscript.span)}`"
        if step_offset(index) is not None:
            return index if self._step_inside(subscript, index, self.scope.plates[plate].size, symbol.name) else None
        if target is None:
            if isinstance(index, ir.Const) and index.value >= 0 and index.value.is_integer():
                return index
            found = f"is {index.type.support}" if index.type.value is None else "is no row number"
            data = self._data(subscript)
            self.report.add(errors.wrong_index(text, found, plate, subscript.span, symbol.span, data))
            return None
        if target != plate and self._index_size(target) != self.scope.plates[plate].size:
            self.report.add(
                errors.wrong_index(text, f"indexes {self._indexed(target)}", plate, subscript.span, symbol.span)
            )
            return None
        if target != plate and target in self.scope.plates:
            self.report.add(errors.wrong_index(text, f"indexes plate `{target}`", plate, subscript.span, symbol.span))
            return None
        return index

    def _indexed(self, target: str) -> str:
        """What an index points into, in words."""
        if target.isdecimal():
            return f"{target} positions"
        return f"{'plate' if target in self.scope.plates else 'dim'} `{target}`"

    def _index_size(self, target: str) -> Size:
        return indexed_size(target, self.scope.plates)

    def _rows_exist(self, node: ast.Index, symbol: Symbol, plates: tuple[str, ...]) -> bool:
        for name in plates:
            plate = self.scope.plates[name]
            if plate.batching is None:
                continue
            stored = symbol.role == "param" or symbol.type.stage <= Stage.DATA
            if not stored or plate.batching == "minibatch":
                text = self.report.text(node.span)
                of_params = symbol.type.stage is Stage.PARAM
                self.report.add(
                    errors.all_rows_of_batch(text, name, plate.batching, of_params, node.span, plate.span), symbol.name
                )
                return False
        return True

    # Events

    def _event(
        self, node: ast.Index, base: ir.Expr, subscripts: tuple[Subscript, ...], rows: tuple[Item, ...] = ()
    ) -> ir.Expr | None:
        """Subscripts of the event axes behind those of `rows`, which are what whole plates have become."""
        axis = len(rows)
        for number, subscript in enumerate(subscripts):
            if isinstance(subscript, ast.Ref) and self._is_plate(subscript.name):
                row = self._row_of(node, base, subscript, axis)
                return None if row is None else self._event(node, row, _without(subscripts, number), rows)
            axis += not _is_new(subscript)
        if not subscripts and all(isinstance(item, ir.Range) for item in rows):
            return base
        return self._positions(node, base, subscripts, rows)

    def _is_plate(self, name: str) -> bool:
        return name in self.scope.plates and name not in self.scope.symbols

    def _row_of(self, node: ast.Index, base: ir.Expr, plate: ast.Ref, axis: int) -> ir.Expr | None:
        declared = self.scope.plates[plate.name]
        event = base.type.event
        if plate.name not in self.scope.enclosing:
            hint = f"write it inside `plate {plate.name} {{ }}`"
            self.report.add(errors.not_a_value(plate.name, "a plate", plate.span, hint), plate.name)
            return None
        if axis >= len(event) or event[axis] != declared.size:
            text, size = self.report.text(node.base.span), str(declared.size)
            shape = show(event[axis:])
            self.report.add(errors.not_these_rows(text, shape, plate.name, size, node.base.span, declared.span))
            return None
        plates = self.scope.sort((*base.type.plates, plate.name))
        support = base.type.support
        if support.structured and len(event) - axis <= support.row.rank:
            support = s.elementwise(support.range)
        left = (*event[:axis], *event[axis + 1 :])
        return ir.RowOf(base, plate.name, replace(base.type, event=left, plates=plates, support=support), axis)

    def _positions(
        self, node: ast.Index, base: ir.Expr, subscripts: tuple[Subscript, ...], rows: tuple[Item, ...]
    ) -> ir.Expr | None:
        event = base.type.event[len(rows) :]
        taken = sum(not _is_new(subscript) for subscript in subscripts)
        if taken > len(event):
            text = self.report.text(node.base.span)
            finding = errors.too_many_indices(
                text, show(event), len(event), taken, node.span, of_step=self._of_step(base, subscripts)
            )
            self.report.add(finding, *references(node.base))
            return None
        items, left = list(rows), list[Size]()
        for item, size in zip(rows, base.type.event, strict=False):
            left += [size] if isinstance(item, ir.Range | ir.NewAxis) else item.type.event
        axes = iter(event)
        for subscript in subscripts:
            size = NEW if _is_new(subscript) else next(axes)
            found = self._item(subscript, size, self.report.text(node.base.span))
            if found is None:
                return None
            items.append(found[0])
            left += found[1]
        positions = [item for item in items if not isinstance(item, ir.Range | ir.NewAxis)]
        if sum(bool(position.type.event) for position in positions) > 1:
            self.report.add(errors.two_vectors_of_positions(self.report.text(node.span), node.span))
            return None
        support = base.type.support
        if support.structured and len(event) - taken < support.row.rank:
            support = s.elementwise(support.range)
        plates = self.scope.sort((*base.type.plates, *(plate for one in positions for plate in one.type.plates)))
        stage = max([base.type.stage, *(position.type.stage for position in positions)])
        return ir.Subscript(base, tuple(items), Type((*left, *axes), support, plates, stage))

    def _of_step(self, base: ir.Expr, subscripts: tuple[Subscript, ...]) -> Literal["", "site", "carry"]:
        """Whether a value of the open scan's steps is indexed by the number of a step."""
        symbols = (self.scope.symbols.get(name) for name in references(subscripts))
        by_step = any(symbol is not None and symbol.role == "step" for symbol in symbols)
        if not isinstance(base, ir.Var) or base.name not in self.scope.of_step or not by_step:
            return ""
        return "carry" if base.role == "carry" else "site"

    def _item(self, subscript: Subscript, size: Size, base: str) -> tuple[Item, tuple[Size, ...]] | None:
        """What a subscript takes along an axis, and the axes that are left of it."""
        if isinstance(subscript, ast.Slice):
            cut = self._slice(subscript, size)
            return None if cut is None else (cut[0], (cut[1],))
        if _is_new(subscript):
            return ir.NewAxis(), (NEW,)
        index = self._position(subscript, size, base)
        return None if index is None else (index, index.type.event)

    def _position(self, node: ast.Expr, size: Size, base: str) -> ir.Expr | None:
        index = self.expressions.check(node)
        if index is None:
            return None
        text = f"`{self.report.text(node.span)}`"
        target = index.type.support.target
        if step_offset(index) is not None:
            return index if self._step_inside(node, index, size, base) else None
        if target is not None:
            if self._index_size(target) != size:
                found = f"indexes {self._indexed(target)}"
                self.report.add(errors.wrong_index(text, found, str(size), node.span))
                return None
            return index
        value = index.type.value
        if value is not None and value.is_integer() and index.type.number:
            known = size.constant
            if known is not None and not -known <= value < known:
                self.report.add(errors.position_outside(self.report.text(node.span), str(known - 1), node.span))
                return None
            return index
        if isinstance(index, ir.DimValue):
            left = (size - index.size).constant
            if left is not None and left < 1:
                last = str(size - Size.of(1))
                self.report.add(errors.position_outside(self.report.text(node.span), last, node.span))
                return None
            return index
        if value is not None:
            self.report.add(errors.wrong_index(text, "is no whole number", str(size), node.span))
            return None
        high = str(size - Size.of(1))
        if index.type.support.bounds == ("0", high):
            return index
        found = f"is {index.type.support}"
        self.report.add(errors.wrong_index(text, found, str(size), node.span, data=self._data(node)))
        return None

    def _data(self, node: ast.Expr) -> str | None:
        """The name of data that is used as an index."""
        symbol = self.scope.symbols.get(node.name) if isinstance(node, ast.Ref) else None
        return symbol.name if symbol is not None and symbol.role == "data" else None

    def _step_inside(self, node: ast.Expr, index: ir.Expr, size: Size, base: str) -> bool:
        """Whether a position that moves with the steps of a scan is within the axis at all of them."""
        steps, offset = self.scope.steps, step_offset(index)
        assert steps is not None
        assert offset is not None
        beyond = (offset + steps - size).constant
        hint = f"an axis that a scan goes along has the {steps} entries of its steps, or more"
        if offset.constant is not None and offset.constant < 0:
            why = f"is {offset} at the first step"
            step = next(var.name for var in variables(index) if var.role == "step")
            hint = f"{errors.STEP_BEFORE}: `carry (before : real = 0)`, `next before = {base}[{step}]`"
        elif beyond is None or (offset.constant is None and beyond != 0):
            why = f"counts the {steps} steps of the scan, and the axis has {size} entries"
        elif beyond > 0:
            why = f"goes past the end of an axis of {size}: the scan has {steps} steps"
        else:
            return True
        self.report.add(errors.step_outside(self.report.text(node.span), why, node.span, hint))
        return False

    def _slice(self, node: ast.Slice, size: Size) -> tuple[ir.Range, Size] | None:
        low = self.expressions.check(node.low) if node.low is not None else None
        high = self.expressions.check(node.high) if node.high is not None else None
        if (node.low is not None and low is None) or (node.high is not None and high is None):
            return None
        start = as_size(low) if low is not None else Size.of(0)
        stop = as_size(high) if high is not None else size
        if start is None or stop is None:
            self.report.add(errors.not_a_slice(self.report.text(node.span), node.span))
            return None
        if start.constant is not None and start.constant < 0:
            start = size + start
        if stop.constant is not None and stop.constant < 0:
            stop = size + stop
        left, beyond = (stop - start).constant, (stop - size).constant
        if (left is not None and left < 1) or (beyond is not None and beyond > 0):
            why = "is empty" if left is not None and left < 1 else "goes past the end"
            self.report.add(errors.wrong_slice(self.report.text(node.span), why, show((size,)), node.span))
            return None
        return ir.Range(low, high), stop - start


def step_offset(index: ir.Expr) -> Size | None:
    """k in `t + k`, t the step of a scan; None for anything else."""
    if isinstance(index, ir.Var) and index.role == "step":
        return Size.of(0)
    if not isinstance(index, ir.Chain) or index.terms[0][0] != "+":
        return None
    offset, seen = Size.of(0), False
    for operator, term in index.terms:
        size = as_size(term)
        if isinstance(term, ir.Var) and term.role == "step" and operator == "+" and not seen:
            seen = True
        elif size is None or operator not in "+-":
            return None
        else:
            offset = offset + size if operator == "+" else offset - size
    return offset if seen else None


def _without(subscripts: tuple[Subscript, ...], number: int) -> tuple[Subscript, ...]:
    return (*subscripts[:number], *subscripts[number + 1 :])


def _is_new(subscript: Subscript) -> bool:
    return isinstance(subscript, ast.Ref) and subscript.name == "new"
