"""From a graph to calls without arguments: every result has its place in memory, and every look at one is made."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from types import BuiltinFunctionType
from typing import Any

import torch
from torch import Tensor

from guidedsl.runtime.engine.record import Shape, Unrecordable
from guidedsl.runtime.engine.replay.batched import batched
from guidedsl.runtime.engine.replay.graph import (
    PLACING,
    Call,
    Given,
    Graph,
    Input,
    Node,
    Total,
    mapped,
    nodes_in,
    operator,
)
from guidedsl.runtime.engine.replay.groups import NUMBERS, Group, Unit, grouped, units_of
from guidedsl.runtime.engine.replay.launch import Thunk

COMPARISONS = frozenset({"eq", "ne", "lt", "le", "gt", "ge"})


class Bound:
    """A graph as calls, in their order: `prepare` once for the data, `step` at each step.

    The graph's first output is the loss, which is `value`; the others are gradients, and are written to the flat vector
    `gradient` side by side. `inputs` are rows and data. Raises Unrecordable for an operator that cannot be repeated.
    """

    def __init__(self, graph: Graph, inputs: Sequence[Tensor], gradient: Tensor) -> None:
        self.prepare: list[Thunk] = []
        self.step: list[Thunk] = []
        self._inputs = inputs
        self._groups = grouped(graph)
        self._memory = _Memory(gradient)
        self._values: dict[Node, Tensor] = {}
        self._stacks: dict[Group, Tensor] = {}
        self._picked: dict[object, Tensor] = {}
        self._several: dict[object, list[Tensor]] = {}
        loss, *slopes = graph.outputs
        homes = self._homes(slopes, gradient)
        units = units_of(graph, self._groups)
        readers = _counts(node for unit in units for node in unit.reads)
        self._readers = {**readers, **dict.fromkeys(graph.outputs, len(units) + 1)}  # outputs outlive all
        with torch.no_grad():
            for unit in units:
                self._bind(unit, homes)
                for node in unit.reads:
                    self._memory.read(self._values[node])
            for node, home in self._unwritten(slopes, gradient, homes):
                self._do(False, partial(home.copy_, self._values[node]))
        self.value = self._values[loss]

    def _do(self, fixed: bool, call: Thunk) -> None:
        call()
        (self.prepare if fixed else self.step).append(call)

    # Where gradients go

    def _homes(self, slopes: Sequence[Node], gradient: Tensor) -> dict[Node, Tensor]:
        """The parts of the flat gradient, each of the output that can be computed there."""
        homes: dict[Node, Tensor] = {}
        for node, home in _parts(slopes, gradient):
            computed = isinstance(node, Total) or (isinstance(node, Call) and not node.views and node.part is None)
            if computed and node not in homes:
                homes[node] = home
        return homes

    def _unwritten(
        self, slopes: Sequence[Node], gradient: Tensor, homes: dict[Node, Tensor]
    ) -> list[tuple[Node, Tensor]]:
        parts = _parts(slopes, gradient)
        return [(node, home) for node, home in parts if self._values[node].data_ptr() != home.data_ptr()]

    def _out(self, unit: Unit, homes: dict[Node, Tensor]) -> Tensor:
        """Memory for a unit's result: [members, *shape] of a group that one operator computes."""
        group, first = unit.group, unit.nodes[0]
        if not group.stacked:
            home = homes.get(first)
            return self._memory.take(first.shape, first.dtype, first.fixed) if home is None else home
        if group not in self._stacks:
            stack = self._stacks[group] = self._stack(group, [homes.get(node) for node in group.members])
            # Those of members that are computed later count from here on, lest their places are given away before.
            self._memory.wanted(stack, sum(self._readers.get(node, 0) for node in group.members))
        stack = self._stacks[group]
        return stack if group.together else stack[self._groups.positions[first]]

    def _stack(self, group: Group, homes: Sequence[Tensor | None]) -> Tensor:
        own = [home for home in homes if home is not None]
        first = group.first
        if len(own) == len(homes):
            step = _even([int(home.storage_offset()) for home in own])
            if step is not None and step >= first.numel:
                return own[0].as_strided((len(own), *first.shape), (step, *own[0].stride()))
        return self._memory.take((len(group.members), *first.shape), first.dtype, first.fixed)

    # Units

    def _bind(self, unit: Unit, homes: dict[Node, Tensor]) -> None:
        first = unit.nodes[0]
        if isinstance(first, Given | Input):
            tensors = [self._there(node) for node in unit.nodes]
            for node, tensor in zip(unit.nodes, tensors, strict=True):
                self._keep(node, tensor)
            if unit.group.together:
                self._stacks[unit.group] = self._beside(first, tensors)
            return
        if isinstance(first, Total):
            result = self._out(unit, homes)
            self._sum(first, result)
        else:
            assert isinstance(first, Call)
            result = self._called(unit, first, homes)
        if unit.group.together:
            self._stacks[unit.group] = result
            for node, part in zip(unit.nodes, result.unbind(), strict=True):
                self._keep(node, part)
        else:
            self._keep(first, result)

    def _there(self, node: Node) -> Tensor:
        if isinstance(node, Given):
            return node.tensor
        assert isinstance(node, Input)
        return self._inputs[node.place]

    def _keep(self, node: Node, value: Tensor) -> None:
        self._values[node] = value
        group = self._groups.of[node]
        if not group.stacked or isinstance(node, Given | Input) or (isinstance(node, Call) and node.views):
            self._memory.wanted(value, self._readers.get(node, 0))

    def _beside(self, first: Node, tensors: Sequence[Tensor]) -> Tensor:
        """Tensors as one, [members, *shape]: a look at them where they lie evenly, else a copy."""
        if isinstance(first, Given) and not first.fixed:
            step = _even([int(one.storage_offset()) for one in tensors])
            if step is not None:
                return tensors[0].as_strided((len(tensors), *first.shape), (step, *tensors[0].stride()))
        if isinstance(first, Given) and first.fixed:
            return torch.stack(list(tensors))
        out = self._memory.take((len(tensors), *first.shape), first.dtype, True)
        self._do(first.fixed, partial(torch.stack, list(tensors), out=out))
        return out

    def _called(self, unit: Unit, first: Call, homes: dict[Node, Tensor]) -> Tensor:
        if unit.group.together:
            args, stacked = self._columns(unit)
            function, args = batched(first, args, stacked, len(unit.nodes))
        else:
            function, args = first.function, mapped(first.args, self._value)
        kwargs = {name: mapped(value, self._value) for name, value in first.kwargs.items()}
        if first.views:
            return self._look(first, function, args, kwargs)
        if first.part is not None:
            return self._part(first, function, args, kwargs)
        out = self._out(unit, homes)
        self._do(first.fixed, _written(operator(first), function, args, kwargs, [out]))
        return out

    def _value(self, one: Any) -> Any:
        return self._values[one] if isinstance(one, Node) else one

    def _columns(self, unit: Unit) -> tuple[list[Any], list[bool]]:
        """The arguments of a group's operator, and which are stacked."""
        calls = [node for node in unit.nodes if isinstance(node, Call)]
        found, stacked = [], []
        for column in zip(*(call.args for call in calls), strict=True):
            arg, own = self._column(list(column), calls[0])
            found.append(arg)
            stacked.append(own)
        return found, stacked

    def _column(self, column: list[Any], like: Call) -> tuple[Any, bool]:
        first = column[0]
        if isinstance(first, Node):
            if all(one is first for one in column):
                return self._values[first], False
            common = self._groups.common(column)
            assert common is not None
            return self._members(*common), True
        if any(one != first for one in column):
            operand = like.args[0]
            device = self._values[operand].device if isinstance(operand, Node) else None
            return torch.tensor(column, dtype=like.dtype, device=device), True
        return first, False

    def _members(self, group: Group, places: Sequence[int]) -> Tensor:
        """Some of a group, [so many, *shape]."""
        stack = self._stacks[group]
        step = _even(places)
        if step is not None:
            some: Tensor = stack[places[0] : places[-1] + 1 : step]
            return some
        key = (group, tuple(places))
        if key not in self._picked:
            index = torch.tensor(places, device=stack.device)
            out = self._memory.take((len(places), *group.first.shape), group.first.dtype, True)
            self._do(group.fixed, partial(torch.index_select, stack, 0, index, out=out))
            self._picked[key] = out
        return self._picked[key]

    def _look(self, node: Call, function: Any, args: list[Any], kwargs: dict[str, Any]) -> Tensor:
        """Another look at the first argument, or at a copy where it does not lie so that there is one."""
        try:
            found: Any = function(*args, **kwargs)
        except RuntimeError:
            x: Tensor = args[0]
            straight = torch.empty(x.shape, dtype=x.dtype, device=x.device)
            self._do(node.fixed, partial(straight.copy_, x))
            found = function(straight, *args[1:], **kwargs)
        look: Tensor = found if node.part is None else found[node.part]
        return look

    def _part(self, node: Call, function: Any, args: list[Any], kwargs: dict[str, Any]) -> Tensor:
        """One of several results, which one call computes."""
        assert node.part is not None
        key = (function, *(id(one) for one in nodes_in([node.args, list(node.kwargs.values())])), repr(node.kwargs))
        key = (*key, repr(mapped(node.args, lambda one: None if isinstance(one, Node) else one)))
        if key not in self._several:
            outs = [torch.empty_like(one) for one in function(*args, **kwargs)]
            self._do(node.fixed, _written(operator(node), function, args, kwargs, outs))
            self._several[key] = outs
        return self._several[key][node.part]

    # Sums

    def _sum(self, node: Total, out: Tensor) -> None:
        if node.added:
            self._added(node, node.added, out)
        else:
            self._do(node.fixed, out.zero_)
        if node.subtracted:
            other = self._memory.take(node.shape, node.dtype, True)
            self._added(node, node.subtracted, other)
            self._do(node.fixed, partial(out.sub_, other))
        for one in node.placed:
            value, _, *where = one.args
            self._do(node.fixed, partial(PLACING[operator(one)](out, *where).add_, self._values[value]))

    def _added(self, node: Total, terms: Sequence[Node], out: Tensor) -> None:
        """The sum of terms: of a group's at once, then those of the groups."""
        by_group: dict[Group | Node, list[Node]] = {}
        for term in terms:
            group = self._groups.of[term]
            by_group.setdefault(group if group.stacked else term, []).append(term)
        sums: list[Tensor] = []
        for key, own in by_group.items():
            if isinstance(key, Node) or len(own) == 1:
                sums += [self._values[one] for one in own]
                continue
            places = sorted(self._groups.positions[one] for one in own)
            many = self._members(key, places)
            if len(by_group) == 1:
                self._do(node.fixed, partial(torch.sum, many, 0, out=out))
                return
            one = self._memory.take(node.shape, node.dtype, True)
            self._do(node.fixed, partial(torch.sum, many, 0, out=one))
            sums.append(one)
        if len(sums) == 1:
            self._do(node.fixed, partial(out.copy_, sums[0]))
            return
        self._do(node.fixed, partial(torch.add, sums[0], sums[1], out=out))
        for one in sums[2:]:
            self._do(node.fixed, partial(out.add_, one))


class _Memory:
    """Places for results, used again once nobody reads what is there: what was just read is at hand in the cache."""

    def __init__(self, like: Tensor) -> None:
        self._device = like.device
        self._readers: dict[int, int] = {}
        self._own: dict[int, Tensor] = {}
        self._free: dict[tuple[int, torch.dtype], list[Tensor]] = {}

    def take(self, shape: Shape, dtype: torch.dtype, lasting: bool) -> Tensor:
        """Memory for a result; a lasting one's is its own for good."""
        numel = torch.Size(shape).numel()
        if lasting:
            return torch.empty(shape, dtype=dtype, device=self._device)
        free = self._free.get((numel, dtype))
        flat = free.pop() if free else torch.empty(numel, dtype=dtype, device=self._device)
        self._own[_storage(flat)] = flat
        return flat.view(shape)

    def wanted(self, value: Tensor, readers: int) -> None:
        """So many will read this."""
        key = _storage(value)
        self._readers[key] = self._readers.get(key, 0) + readers

    def read(self, value: Tensor) -> None:
        """One of them has."""
        key = _storage(value)
        self._readers[key] -= 1
        if not self._readers[key] and key in self._own:
            flat = self._own.pop(key)
            self._free.setdefault((flat.numel(), flat.dtype), []).append(flat)


def _storage(value: Tensor) -> int:
    return int(value.untyped_storage()._cdata)


def _counts(nodes: Any) -> dict[Node, int]:
    counts: dict[Node, int] = {}
    for node in nodes:
        counts[node] = counts.get(node, 0) + 1
    return counts


def _parts(slopes: Sequence[Node], gradient: Tensor) -> list[tuple[Node, Tensor]]:
    """The outputs with the parts of the flat gradient that are theirs."""
    cut = gradient.split([node.numel for node in slopes])
    return [(node, part.view(node.shape)) for node, part in zip(slopes, cut, strict=True)]


def _even(places: Sequence[int]) -> int | None:
    """The distance between places that follow one another evenly."""
    steps = {after - before for before, after in pairwise(places)}
    return steps.pop() if len(steps) == 1 and min(steps) > 0 else None


# Operators that write to given memory


def _written(name: str, function: Any, args: list[Any], kwargs: dict[str, Any], outs: Sequence[Tensor]) -> Thunk:
    """A call that computes into `outs`, one for each result."""
    name, args, kwargs = _quicker(name, args, kwargs, outs[0])
    shapes = [out.shape for out in outs]
    for writing, keywords in _into(name, len(outs)):
        call = partial(writing, *args, **kwargs, **dict(zip(keywords, outs, strict=True)))
        try:
            call()
        except (TypeError, RuntimeError, NotImplementedError):
            continue
        if [out.shape for out in outs] != shapes:
            raise Unrecordable(f"{function}, which gives another shape than it did")
        return call
    return partial(_copied, function, args, kwargs, outs)


def _quicker(name: str, args: list[Any], kwargs: dict[str, Any], out: Tensor) -> tuple[str, list[Any], dict[str, Any]]:
    """The same with numbers as tensors, which torch takes in half the time, and squares as products."""
    if len(args) != 2 or kwargs or not isinstance(args[0], Tensor):
        return name, args, kwargs
    x, number = args
    if isinstance(number, (int, float)) and not isinstance(number, bool):
        if name == "pow" and number == 2:
            return "mul", [x, x], kwargs
        precise = x.dtype in (torch.float32, torch.float64)
        if precise and (out.dtype is x.dtype or name in COMPARISONS) and name in NUMBERS | COMPARISONS:
            number = torch.tensor(number, dtype=x.dtype, device=x.device)
    if name == "rsub" and isinstance(number, Tensor):
        return "sub", [number, x], kwargs
    return name, [x, number], kwargs


def _into(name: str, results: int) -> list[tuple[Any, list[str]]]:
    """Functions that compute the same into memory, with the keywords for it."""
    found: list[tuple[Any, list[str]]] = []
    builtin = getattr(torch, name, None)
    if results == 1 and isinstance(builtin, BuiltinFunctionType):
        found.append((builtin, ["out"]))
    packet = getattr(torch.ops.aten, name, None)
    for overload in [] if packet is None else packet.overloads():
        writing = getattr(packet, overload)
        outs = [arg.name for arg in writing._schema.arguments if arg.is_out]
        if len(outs) == results:
            found.append((writing, outs))
    return found


def _copied(function: Any, args: list[Any], kwargs: dict[str, Any], outs: Sequence[Tensor]) -> None:
    found = function(*args, **kwargs)
    for out, one in zip(outs, [found] if isinstance(found, Tensor) else found, strict=True):
        out.copy_(one)
