"""A recorded step as a graph of tensors: what is equal is there once, and long chains of additions are sums."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from guidedsl.runtime.engine.record import Operation, Recording, Result, Shape, Unrecordable

FEWEST = 8
"""Terms from which a chain of additions is a sum."""
PLACING: dict[str, Callable[..., Tensor]] = {"select_backward": torch.select, "slice_backward": torch.ops.aten.slice}
"""Operators that put a gradient among zeros, with the look at the zeros that they put it into."""


@dataclass(eq=False)
class Node:
    """A tensor of the step. `fixed` where it depends on the data alone."""

    shape: Shape
    dtype: torch.dtype
    fixed: bool

    @property
    def operands(self) -> list[Node]:
        """What it is computed of."""
        return []

    @property
    def numel(self) -> int:
        """How many numbers it has."""
        return torch.Size(self.shape).numel()


@dataclass(eq=False)
class Given(Node):
    """A tensor that is there: a look at the parameters or at the noise, whose numbers change in place, or a constant.

    Constants are `fixed`.
    """

    tensor: Tensor


@dataclass(eq=False)
class Input(Node):
    """Rows, or a tensor of the data, by its place among them."""

    place: int


@dataclass(eq=False)
class Call(Node):
    """An operator's result. `views` where that is another look at its first operand; `part` if it gives several."""

    function: Any
    args: Sequence[Any]
    kwargs: dict[str, Any]
    views: bool = False
    part: int | None = None

    @property
    def operands(self) -> list[Node]:
        return list(nodes_in([self.args, list(self.kwargs.values())]))


@dataclass(eq=False)
class Total(Node):
    """The sum of some nodes of its shape, less the sum of others.

    `placed` are the gradients of looks at a tensor that this is the gradient of, by the operator that puts each where
    it belongs among zeros; they are added there instead.
    """

    added: list[Node]
    subtracted: list[Node]
    placed: list[Call]

    @property
    def operands(self) -> list[Node]:
        return [*self.added, *self.subtracted, *(one.operands[0] for one in self.placed)]


@dataclass
class Graph:
    """Nodes in an order in which they can be computed, and the outputs."""

    nodes: list[Node] = field(default_factory=list)
    outputs: list[Node] = field(default_factory=list)


def nodes_in(tree: Any) -> Iterable[Node]:
    """The nodes in nested lists."""
    if isinstance(tree, Node):
        yield tree
    elif isinstance(tree, (list, tuple)):
        for one in tree:
            yield from nodes_in(one)


def mapped(tree: Any, change: Callable[[Any], Any]) -> Any:
    """Nested lists with their leaves changed."""
    if isinstance(tree, (list, tuple)):
        return [mapped(one, change) for one in tree]
    return change(tree)


def graph_of(recording: Recording, varying: Sequence[Tensor | None]) -> Graph:
    """The graph of a recording.

    `varying` are the tensors, whose numbers change in place, of the inputs that are not fixed, in their order; None
    for one that each step brings along. Raises Unrecordable for operators whose results depend on how tensors lie.
    """
    return _Reader(recording, varying).graph()


class _Reader:
    def __init__(self, recording: Recording, varying: Sequence[Tensor | None]) -> None:
        self._outputs = recording.outputs
        self._of: dict[Result, Node] = {}
        self._given: dict[object, Given] = {}
        self._same: dict[object, Node] = {}
        brought = 0
        tensors = iter(varying)
        for result in recording.inputs:
            tensor = None if result.fixed else next(tensors)
            if tensor is None:
                self._of[result] = Input(result.shape, result.dtype, result.fixed, brought)
                brought += 1
            else:
                self._of[result] = self._look(tensor)
        for operation in recording.operations:
            self._read(operation)

    def graph(self) -> Graph:
        outputs = [self._node(one) for one in self._outputs]
        return _summed(Graph(_ordered(outputs), outputs))

    def _look(self, tensor: Tensor, fixed: bool = False) -> Given:
        shape, where = tuple(tensor.shape), (tensor.untyped_storage()._cdata, tensor.storage_offset(), tensor.stride())
        key = (where, shape, tensor.dtype)
        if key not in self._given:
            self._given[key] = Given(shape, tensor.dtype, fixed, tensor)
        return self._given[key]

    def _node(self, arg: Any) -> Any:
        if isinstance(arg, Result):
            return self._of[arg]
        return self._look(arg.detach(), fixed=True) if isinstance(arg, Tensor) else arg

    def _read(self, operation: Operation) -> None:
        args = mapped(operation.args, self._node)
        kwargs = {name: mapped(value, self._node) for name, value in operation.kwargs.items()}
        function, views = _plain(operation.function), operation.views or operation.name == "_unsafe_view"
        if operation.name == "as_strided":
            raise Unrecordable("the operation as_strided, which is about how tensors lie")
        results = operation.results if isinstance(operation.results, list) else [operation.results]
        several = isinstance(operation.results, list)
        if views and isinstance(args[0], Given):
            looks = function(*mapped(args, lambda one: one.tensor if isinstance(one, Given) else one), **kwargs)
            for result, look in zip(results, looks if several else [looks], strict=True):
                self._of[result] = self._look(look, args[0].fixed)
            return
        for n, result in enumerate(results):
            part = n if several else None
            node = Call(result.shape, result.dtype, operation.fixed, function, args, kwargs, views, part)
            self._of[result] = self._same.setdefault(_key(node), _simplified(node))


def _plain(function: Any) -> Any:
    """An operator that works in place as the one that does not. Raises Unrecordable where there is none."""
    if not function._schema.is_mutable:
        return function
    name = function._schema.name.split("::")[1].removesuffix("_")
    packet = getattr(torch.ops.aten, name, None)
    plain = getattr(packet, function._schema.overload_name or "default", None)
    if plain is None or plain._schema.is_mutable:
        raise Unrecordable(f"the operation {function}, which works in place alone")
    return plain


def _key(node: Call) -> object:
    def leaf(one: Any) -> Any:
        return id(one) if isinstance(one, Node) else (type(one), one)

    def tupled(tree: Any) -> Any:
        return tuple(map(tupled, tree)) if isinstance(tree, (list, tuple)) else leaf(tree)

    named = tuple(sorted((name, tupled(value)) for name, value in node.kwargs.items()))
    return node.function, node.part, tupled(node.args), named


def _simplified(node: Call) -> Node:
    """An operand that the operator leaves as it is, or the node."""
    name = operator(node)
    if not node.args or not isinstance(node.args[0], Node):
        return node
    first, *others = node.args
    if node.views or name in ("expand", "sum"):
        same = first.shape == node.shape and first.dtype == node.dtype
        unmoved = name in ("view", "_unsafe_view", "expand", "slice", "sum", "reshape", "unsqueeze", "squeeze")
        return first if same and unmoved and node.part is None else node
    if node.kwargs or len(others) != 1 or name not in ("mul", "div", "pow"):
        return node
    pairs = [(first, others[0])] if name != "mul" else [(first, others[0]), (others[0], first)]
    for kept, factor in pairs:
        if isinstance(kept, Node) and (kept.shape, kept.dtype) == (node.shape, node.dtype) and _is_one(factor):
            return kept
    return node


def _is_one(factor: Any) -> bool:
    if isinstance(factor, Given) and factor.fixed:
        return bool((factor.tensor == 1).all())
    return not isinstance(factor, (Node, bool)) and factor == 1


def operator(node: Call) -> str:
    """Its name in ATen."""
    return str(node.function._schema.name.split("::")[1])


def _ordered(outputs: Sequence[Node]) -> list[Node]:
    """All that the outputs are computed of, operands first."""
    order: list[Node] = []
    seen: set[Node] = set()
    waiting: list[tuple[Node, bool]] = [(node, False) for node in reversed(outputs)]
    while waiting:
        node, done = waiting.pop()
        if done:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            waiting.append((node, True))
            waiting += [(operand, False) for operand in reversed(node.operands)]
    return order


# Sums


def _summed(graph: Graph) -> Graph:
    """The graph with long chains of additions and subtractions as totals."""
    uses: dict[Node, int] = {}
    for node in [*graph.outputs, *(operand for one in graph.nodes for operand in one.operands)]:
        uses[node] = uses.get(node, 0) + 1
    totals: dict[Node, Node] = {}
    inner: set[Node] = set()
    for node in reversed(graph.nodes):
        if node in inner or not _is_addition(node):
            continue
        added, subtracted, between = _terms(node, uses)
        placed = [one for one in added if isinstance(one, Call) and operator(one) in PLACING and uses[one] == 1]
        if len(added) + len(subtracted) >= FEWEST or len(placed) > 1:
            left = [one for one in added if one not in placed]
            totals[node] = Total(node.shape, node.dtype, node.fixed, left, subtracted, placed)
            inner |= between
    if not totals:
        return graph

    def now(one: Any) -> Any:
        return totals.get(one, one) if isinstance(one, Node) else one

    for node in [*graph.nodes, *totals.values()]:
        if isinstance(node, Call):
            node.args = mapped(node.args, now)
            node.kwargs = {name: mapped(value, now) for name, value in node.kwargs.items()}
        elif isinstance(node, Total):
            node.added, node.subtracted = mapped(node.added, now), mapped(node.subtracted, now)
            for one in node.placed:
                one.args = mapped(one.args, now)
    outputs = [now(output) for output in graph.outputs]
    return Graph(_ordered(outputs), outputs)


def _is_addition(node: Node) -> bool:
    """Whether a node is the sum or the difference of two nodes of its own shape."""
    if not isinstance(node, Call) or operator(node) not in ("add", "sub") or node.kwargs:
        return False
    return len(node.args) == 2 and all(
        isinstance(one, Node) and (one.shape, one.dtype) == (node.shape, node.dtype) for one in node.args
    )


def _terms(root: Node, uses: dict[Node, int]) -> tuple[list[Node], list[Node], set[Node]]:
    """What a chain adds, what it subtracts, and the sums in between, which nothing else reads."""
    terms: tuple[list[Node], list[Node]] = ([], [])
    between: set[Node] = set()
    waiting = [(root, 0)]
    while waiting:
        node, sign = waiting.pop()
        if node is root or (uses[node] == 1 and _is_addition(node)):
            assert isinstance(node, Call)
            between.add(node)
            left, right = node.args
            waiting += [(right, sign ^ (operator(node) == "sub")), (left, sign)]
        else:
            terms[sign].append(node)
    return *terms, between - {root}
