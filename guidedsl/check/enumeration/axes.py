"""Rewrites expressions so that an enumerated latent is an axis: it stands for all of its values at once.

Such an axis is a plate that no data has. Its values do not vary with the plates of the latent, so neither does what is
made of them alone, and the axes of every expression above follow from those below it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

from guidedsl import errors, ir
from guidedsl.diagnostics import Diagnostic
from guidedsl.ir import Stage
from guidedsl.library import supports as s
from guidedsl.sizes import Size
from guidedsl.source import Span


class Refused(Exception):
    """A model whose sum over a latent has no short form, with the finding that says why."""

    def __init__(self, diagnostic: Diagnostic) -> None:
        super().__init__(diagnostic.message)
        self.diagnostic = diagnostic


class Rewriter:
    """Rewrites the statements of one model.

    `classes` are in the order of their axes; `spans` are the places where a guide asks for each latent.
    """

    def __init__(self, model: ir.Model, classes: Iterable[ir.Classes], spans: Mapping[str, Span]) -> None:
        self.classes = {one.name: one for one in classes}
        self.spans = spans
        self.sizes = {plate.name: plate.size for plate in model.plates}
        steps = dict.fromkeys(one.step for one in self.classes.values() if one.step is not None)
        self._order = (*self.sizes, *self.classes, *steps)
        self._lets: dict[str, ir.Var] = {}
        self._closed: dict[str, str] = {}
        self._span = model.span

    def sort(self, axes: Iterable[str]) -> tuple[str, ...]:
        """Plates and enumerated latents in the order of axes."""
        wanted = set(axes)
        return tuple(name for name in self._order if name in wanted)

    def read(self, axes: Iterable[str]) -> tuple[str, ...]:
        """The enumerated latents among axes."""
        return tuple(name for name in self.sort(axes) if name in self.classes)

    def scan(self, scan: ir.Scan) -> ir.Scan:
        """A scan without the sites and carries that are axes. A site may reach the next step as such a carry alone."""
        statements = tuple(
            self.let(statement) if isinstance(statement, ir.Let) else self.term(statement)
            for statement in scan.statements
            if isinstance(statement, ir.Let | ir.Term)
        )
        carries = tuple(self._carry(carry) for carry in scan.carries if carry.name not in self.classes)
        for statement in statements:
            if isinstance(statement, ir.Let) and statement.name in self._lets:
                self._closed[statement.name] = self.read(self._lets.pop(statement.name).type.plates)[0]
        closed = [one for one in self.classes.values() if one.step == scan.step]
        self._closed |= {one.name: one.latent.name for one in closed if {one.name, one.latent.name} & {*scan.sites}}
        sites = tuple(name for name in scan.sites if name not in self.classes)
        return replace(scan, sites=sites, carries=carries, statements=statements)

    def _carry(self, carry: ir.Carry) -> ir.Carry:
        self._span = carry.next_span
        changed = replace(carry, init=self.expr(carry.init), next=self.expr(carry.next))
        read = self.read((*changed.init.type.plates, *changed.next.type.plates))
        if read:
            name = self.classes[read[0]].latent.name
            raise Refused(errors.carried_on(name, carry.name, self.spans[name], carry.next_span))
        return changed

    def let(self, let: ir.Let) -> ir.Let:
        """A let; one that reads an enumerated latent has its axis, and only those plates that it varies over."""
        self._span = let.span
        value = self.expr(let.value)
        if value is let.value:
            return let
        axes = value.type.plates
        type = replace(value.type, event=let.event, number=False, value=None)
        self._lets[let.name] = ir.Var(let.name, "let", type)
        bounds = self._rebuilt(let.bounds)
        return ir.Let(let.name, value, let.asserted, bounds, axes, let.event, let.span, axes)

    def term(self, term: ir.Term) -> ir.Term:
        """A term; one that reads enumerated latents has their axes to the right of its plates."""
        self._span = term.span
        value, dist = self.expr(term.value), self.dist(term.dist)
        if value is term.value and dist is term.dist:
            return term
        axes = {*value.type.plates, *(dist.type.plates if dist is not None else ())}
        table = self._table(term.name, dist)
        if table is not None:
            value, dist = table, None
        return replace(term, value=value, dist=dist, plates=self.sort((*term.plates, *self.read(axes))))

    def _table(self, name: str | None, dist: ir.Dist | None) -> ir.Expr | None:
        """The prior of an enumerated latent over all of its values, where its family knows them all at once."""
        one = self.classes.get(name or "")
        if one is None or dist is None or not dist.row.tabulated:
            return None
        if one.low != 0 or dist.type.support.bounds != ("0", str(one.size - Size.of(1))):
            return None
        return self.table(dist, one)

    def table(self, dist: ir.Dist, one: ir.Classes) -> ir.Expr:
        """The log probabilities of a family whose values are all those of an enumerated latent, along its axis."""
        type = self._type(dist.type, dist.arguments)
        return self._as_axis(ir.LogTable(dist, replace(type, event=(one.size,), support=s.support("real"))), one.name)

    def dist(self, dist: ir.Dist | None) -> ir.Dist | None:
        if dist is None:
            return None
        arguments = tuple(self.expr(argument) for argument in dist.arguments)
        parts = tuple(self._rebuilt(part) for part in dist.parts)
        before, after = (*dist.arguments, *dist.parts), (*arguments, *parts)
        if all(new is old for new, old in zip(after, before, strict=True)):
            return dist
        low, high = (None if bound is None else self.expr(bound) for bound in (dist.bounds.low, dist.bounds.high))
        type = self._type(dist.type, after)
        return replace(dist, arguments=arguments, parts=parts, bounds=ir.Bounds(low, high), type=type)

    def expr(self, node: ir.Expr) -> ir.Expr:
        """The expression itself where it reads no enumerated latent."""
        match node:
            case ir.Var():
                return self._var(node)
            case ir.Gather():
                return self._gather(node)
            case ir.Subscript():
                return self._subscript(node)
            case ir.AllRows():
                base = self.expr(node.base)
                self._rows_apart(base, (node.plate,))
                if base is node.base:
                    return node
                left = (plate for plate in base.type.plates if plate != node.plate)
                return replace(node, base=base, type=self._moved(node.type, left, (base,)))
            case ir.RowOf():
                base = self.expr(node.base)
                if base is node.base:
                    return node
                return replace(node, base=base, type=self._moved(node.type, (*base.type.plates, node.plate), (base,)))
            case _:
                changed: ir.Expr = self._rebuilt(node)
                return changed if changed is node else replace(changed, type=self._type(node.type, _children(changed)))

    def _var(self, var: ir.Var) -> ir.Expr:
        if var.name in self._closed:
            name = self._closed[var.name]
            raise Refused(errors.read_behind(name, var.name, self.spans[name], self._span))
        if var.name in self.classes:
            return ir.Var(var.name, var.role, replace(var.type, plates=(var.name,), stage=Stage.PARAM))
        return self._lets.get(var.name, var)

    def _gather(self, node: ir.Gather) -> ir.Expr:
        base = self.expr(node.base)
        indices = [(plate, self.expr(index)) for plate, index in node.indices]
        self._rows_apart(base, (plate for plate, _ in indices))
        result = base
        left: list[tuple[str, ir.Expr]] = []
        for plate, index in indices:
            name = self._all_of(index, self.sizes[plate])
            if plate in base.type.plates and name is not None and name not in result.type.plates:
                result = self._as_axis(_all_rows(result, plate, self.sizes[plate]), name)
            else:
                left.append((plate, index))
        if not left:
            return replace(result, type=replace(result.type, support=node.type.support))
        same = all(new is old for (_, new), (_, old) in zip(indices, node.indices, strict=True))
        if base is node.base and same:
            return node
        kept = set(result.type.plates) - {plate for plate, _ in left}
        axes = (*kept, *(axis for _, index in left for axis in index.type.plates))
        type = self._moved(node.type, axes, (result, *(index for _, index in left)))
        return ir.Gather(result, tuple(left), type)

    def _subscript(self, node: ir.Subscript) -> ir.Expr:
        """Leading positions that are all values of a latent make its axis of theirs; the others stay positions."""
        result = self.expr(node.base)
        items = tuple(self._rebuilt(item) if isinstance(item, ir.Range) else self._item(item) for item in node.items)
        rest = list(items)
        while rest and not isinstance(rest[0], ir.Range | ir.NewAxis):
            name = self._all_of(rest[0], result.type.event[0])
            if name is None or name in result.type.plates:
                break
            result = self._as_axis(result, name)
            rest.pop(0)
        if not rest:
            return replace(result, type=replace(result.type, support=node.type.support))
        if result is node.base and all(new is old for new, old in zip(items, node.items, strict=True)):
            return node
        positions = [item for item in rest if not isinstance(item, ir.Range | ir.NewAxis)]
        return ir.Subscript(result, tuple(rest), self._type(node.type, (result, *positions)))

    def _item(self, item: ir.Expr | ir.NewAxis) -> ir.Expr | ir.NewAxis:
        return item if isinstance(item, ir.NewAxis) else self.expr(item)

    def _all_of(self, index: ir.Expr, size: Size) -> str | None:
        """The enumerated latent whose values in order are all positions along an axis of this size."""
        one = self.classes.get(index.name) if isinstance(index, ir.Var) else None
        return one.name if one is not None and one.low == 0 and one.size == size else None

    def _as_axis(self, base: ir.Expr, name: str) -> ir.Expr:
        """`base` with its first event axis as the axis of an enumerated latent."""
        type = base.type
        stage = max(type.stage, Stage.PARAM)
        support = s.elementwise(type.support.range) if len(type.event) <= type.support.row.rank else type.support
        axes = self.sort((*type.plates, name))
        return ir.RowOf(base, name, replace(type, event=type.event[1:], plates=axes, stage=stage, support=support))

    def _rows_apart(self, base: ir.Expr, plates: Iterable[str]) -> None:
        """Refuse rows of a plate whose enumerated latents they depend on: each row would meet each other one."""
        for plate in plates:
            for name in self.read(base.type.plates):
                latent = self.classes[name].latent
                if plate in latent.plates:
                    raise Refused(errors.other_rows(latent.name, plate, self.spans[latent.name], self._span))

    def _rebuilt(self, node: Any) -> Any:
        """The node with its parts rewritten; itself where none of them changes."""
        if isinstance(node, ir.Dist):
            return self.dist(node)
        if isinstance(node, tuple):
            parts = tuple(self._part(item) for item in node)
            return node if all(new is old for new, old in zip(parts, node, strict=True)) else parts
        changed = {}
        for field in fields(node):
            old = getattr(node, field.name)
            new = self._part(old)
            if new is not old:
                changed[field.name] = new
        return replace(node, **changed) if changed else node

    def _part(self, part: Any) -> Any:
        if isinstance(part, tuple | ir.Dist | ir.Range):
            return self._rebuilt(part)
        if is_dataclass(part) and not isinstance(part, type) and _is_expr(part):
            return self.expr(part)  # type: ignore[arg-type]
        return part

    def _type(self, type: ir.Type, parts: Iterable[ir.Expr | ir.Dist]) -> ir.Type:
        """The type of what has new parts: its axes are theirs."""
        parts = tuple(parts)
        return self._moved(type, (axis for part in parts for axis in part.type.plates), parts)

    def _moved(self, type: ir.Type, axes: Iterable[str], parts: Iterable[ir.Expr | ir.Dist]) -> ir.Type:
        stage = max([Stage.PARAM, *(part.type.stage for part in parts)])
        return replace(type, plates=self.sort(axes), stage=stage)


def _all_rows(base: ir.Expr, plate: str, size: Size) -> ir.Expr:
    type = base.type
    left = tuple(name for name in type.plates if name != plate)
    return ir.AllRows(base, plate, replace(type, event=(size, *type.event), plates=left))


def _is_expr(node: object) -> bool:
    return hasattr(node, "type") and not isinstance(node, ir.Latent | ir.Dist)


def _children(node: Any) -> Iterable[ir.Expr]:
    """The expressions right below a node."""
    stack = [getattr(node, field.name) for field in fields(node) if field.name != "type"]
    while stack:
        part = stack.pop()
        if isinstance(part, ir.Dist):
            stack.extend((*part.arguments, *part.parts))
        elif isinstance(part, tuple):
            stack.extend(part)
        elif isinstance(part, ir.Range):
            stack.extend(bound for bound in (part.low, part.high) if bound is not None)
        elif is_dataclass(part) and _is_expr(part):
            yield part  # type: ignore[misc]
