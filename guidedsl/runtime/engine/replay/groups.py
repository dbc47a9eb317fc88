"""What a step computes alike, many times, found so that one operator computes it for all.

Nodes are alike whose operators are the same and whose operands are alike, down to the parameters, the noise and the
data, numbers and places apart. Nodes that are alike never depend on one another: they are equally many operators away
from what is given.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from guidedsl.runtime.engine.replay.batched import is_batched
from guidedsl.runtime.engine.replay.graph import Call, Given, Graph, Input, Node, Total, nodes_in, operator

SMALL = 4096
"""Numbers of a node up to which it is one of a group."""
NUMBERS = frozenset({"add", "sub", "mul", "div", "rsub"})
"""Operators of which nodes with different numbers are alike."""


@dataclass(eq=False)
class Group:
    """Nodes that are alike, in an order, to lie beside one another.

    `stacked` tells whether they are one tensor [members, *shape], `together` whether one operator computes that.
    """

    members: list[Node]
    depth: int
    stacked: bool = False
    together: bool = False

    @property
    def fixed(self) -> bool:
        """Whether they depend on the data alone."""
        return self.members[0].fixed

    @property
    def first(self) -> Node:
        """One of them."""
        return self.members[0]


@dataclass
class Groups:
    """The groups of a graph, and where each node is."""

    of: dict[Node, Group] = field(default_factory=dict)
    positions: dict[Node, int] = field(default_factory=dict)

    def common(self, nodes: Sequence[Node]) -> tuple[Group, list[int]] | None:
        """The group that lies beside one another and has all these nodes, and which they are of it."""
        group = self.of[nodes[0]]
        if not group.stacked or any(self.of[node] is not group for node in nodes):
            return None
        return group, [self.positions[node] for node in nodes]


@dataclass(eq=False)
class Unit:
    """What is computed at once: a group, or one node of it."""

    group: Group
    nodes: list[Node]

    @property
    def reads(self) -> set[Node]:
        """Nodes that have to be there."""
        return {operand for node in self.nodes for operand in node.operands}


def grouped(graph: Graph) -> Groups:
    """The groups of a graph's nodes."""
    signatures: dict[object, int] = {}
    depths: dict[Node, int] = {}
    found: dict[int, Group] = {}
    of: dict[Node, int] = {}
    for node in graph.nodes:
        depths[node] = 1 + max((depths[operand] for operand in node.operands), default=-1)
        of[node] = signatures.setdefault(_signature(node, of), len(signatures))
        found.setdefault(of[node], Group([], depths[node])).members.append(node)
    groups = Groups()
    for group in sorted(found.values(), key=lambda one: one.depth):
        _decide(group, groups)
        groups.of.update(dict.fromkeys(group.members, group))
        groups.positions.update((node, n) for n, node in enumerate(group.members))
    return groups


def _signature(node: Node, of: dict[Node, int]) -> object:
    if isinstance(node, Given):
        where = None if node.fixed else (node.tensor.untyped_storage()._cdata, node.tensor.stride())
        return "given", where, node.shape, node.dtype
    if isinstance(node, Input):
        return "input", node.shape, node.dtype, node.fixed
    if isinstance(node, Total):
        return (
            "total",
            *(tuple(of[one] for one in terms) for terms in (node.added, node.subtracted)),
            tuple(node.placed),
        )
    assert isinstance(node, Call)
    wild = operator(node) in NUMBERS and not node.kwargs

    def leaf(one: Any) -> object:
        if isinstance(one, Node):
            return "node", of[one]
        if wild and isinstance(one, (int, float)) and not isinstance(one, bool):
            return "number"
        return type(one), one

    def tupled(tree: Any) -> object:
        return tuple(map(tupled, tree)) if isinstance(tree, (list, tuple)) else leaf(tree)

    named = tuple(sorted((name, tupled(value)) for name, value in node.kwargs.items()))
    return node.function, node.part, tupled(node.args), named, node.shape, node.dtype, node.fixed


def _decide(group: Group, groups: Groups) -> None:
    """Orders a group's members, and decides how they are computed."""
    members, first = group.members, group.first
    if len(members) == 1 or first.numel > SMALL:
        return
    if isinstance(first, Given):
        if not first.fixed:
            members.sort(key=lambda one: one.tensor.storage_offset())  # type: ignore[attr-defined]
        group.stacked = group.together = True
    elif isinstance(first, Input):
        group.stacked = group.together = first.fixed
    elif isinstance(first, Call):
        members.sort(key=lambda one: [groups.positions[operand] for operand in one.operands])
        group.together = is_batched(first) and _is_aligned(members, groups)
        group.stacked = group.together or not (first.views or first.part is not None)
    else:
        group.stacked = True


def _is_aligned(members: Sequence[Node], groups: Groups) -> bool:
    """Whether each operand is the same for all members, or one of a group that lies beside one another; not all are."""
    calls = [one for one in members if isinstance(one, Call)]
    if any(True for _ in nodes_in(list(calls[0].kwargs.values()))):
        return False
    same = True
    for column in zip(*(one.args for one in calls), strict=True):
        if isinstance(column[0], Node):
            alike = all(one is column[0] for one in column)
            if not alike and groups.common(column) is None:
                return False
        elif any(True for _ in nodes_in(column[0])):
            return False
        else:
            alike = all(one == column[0] for one in column)
        same = same and alike
    return not same


def units_of(graph: Graph, groups: Groups) -> list[Unit]:
    """What is computed, in an order in which it can be, as near to the graph's own as groups allow."""
    units: list[Unit] = []
    of: dict[Node, Unit] = {}
    place: dict[Unit, int] = {}
    for n, node in enumerate(graph.nodes):
        group = groups.of[node]
        if node not in of:
            unit = Unit(group, group.members if group.together else [node])
            units.append(unit)
            of.update(dict.fromkeys(unit.nodes, unit))
        place[of[node]] = n  # that of the last
    before = {unit: {of[node] for node in unit.reads} for unit in units}
    after: dict[Unit, list[Unit]] = {}
    for unit, others in before.items():
        for other in others:
            after.setdefault(other, []).append(unit)
    waiting = [(place[unit], unit) for unit in units if not before[unit]]
    heapq.heapify(waiting)
    left = {unit: len(others) for unit, others in before.items()}
    order: list[Unit] = []
    while waiting:
        _, unit = heapq.heappop(waiting)
        order.append(unit)
        for other in after.get(unit, ()):
            left[other] -= 1
            if not left[other]:
                heapq.heappush(waiting, (place[other], other))
    return order
