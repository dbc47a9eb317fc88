"""Operators that compute many results of equal shape at once, of operands with one more axis in front."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from guidedsl.runtime.engine.replay.graph import Call, Node, operator

Batched = Callable[[Call, list[Any], int], tuple[Any, list[Any]]]
"""The function and the arguments for so many results, of a node and its arguments, stacked where they differ."""


def _behind(dim: int) -> int:
    return dim if dim < 0 else dim + 1


def _rank(node: Call) -> int:
    first = node.args[0]
    assert isinstance(first, Node)
    return len(first.shape)


def _dims(node: Call, args: list[Any], count: int) -> tuple[Any, list[Any]]:
    """Of an operator with dims as its second argument, all where it has none."""
    given = args[1] if len(args) > 1 else None
    if isinstance(given, int):
        return node.function, [args[0], _behind(given), *args[2:]]
    dims = [_behind(dim) for dim in given] if given else list(range(1, _rank(node) + 1))
    return getattr(torch, operator(node)), [args[0], dims, *args[2:]]


def _sizes(node: Call, args: list[Any], count: int) -> tuple[Any, list[Any]]:
    x: Tensor = args[0]
    if operator(node) == "expand":
        x = x[(slice(None), *(None,) * (len(node.shape) - x.dim() + 1))]
        return torch.Tensor.expand, [x, [count, *node.shape]]
    return torch.Tensor.view, [x, [count, *node.shape]]


def _one_dim(node: Call, args: list[Any], count: int) -> tuple[Any, list[Any]]:
    return node.function, [args[0], _behind(args[1]), *args[2:]]


def _squeezed(node: Call, args: list[Any], count: int) -> tuple[Any, list[Any]]:
    return torch.Tensor.view, [args[0], [count, *node.shape]]


def _two_dims(node: Call, args: list[Any], count: int) -> tuple[Any, list[Any]]:
    dims = (-2, -1) if operator(node) == "t" else (_behind(args[1]), _behind(args[2]))
    return torch.transpose, [args[0], *dims]


def _permuted(node: Call, args: list[Any], count: int) -> tuple[Any, list[Any]]:
    rank = _rank(node)
    return torch.permute, [args[0], [0, *(dim % rank + 1 for dim in args[1])]]


BY_NAME: dict[str, Batched] = {
    **dict.fromkeys(("sum", "mean", "amax", "amin", "logsumexp", "cumsum", "_softmax", "_log_softmax"), _dims),
    **dict.fromkeys(("view", "_unsafe_view", "expand"), _sizes),
    **dict.fromkeys(("unsqueeze", "select", "slice"), _one_dim),
    "squeeze": _squeezed,
    **dict.fromkeys(("transpose", "t"), _two_dims),
    "permute": _permuted,
}


def is_batched(node: Call) -> bool:
    """Whether one operator computes many nodes like this."""
    name = operator(node)
    if name == "t":
        return _rank(node) == 2
    return node.part is None and (name in BY_NAME or torch.Tag.pointwise in node.function.tags)


def batched(node: Call, args: list[Any], stacked: list[bool], count: int) -> tuple[Any, list[Any]]:
    """The function and the arguments for `count` nodes like this one; `stacked` tells which arguments are."""
    how = BY_NAME.get(operator(node))
    if how is not None:
        return how(node, args, count)
    rank = len(node.shape)
    aligned = [_aligned(arg, rank) if own else arg for arg, own in zip(args, stacked, strict=True)]
    return node.function, aligned


def _aligned(x: Tensor, rank: int) -> Tensor:
    """[count, *shape] with axes in between, so that shapes are aligned from the right."""
    missing = rank - (x.dim() - 1)
    return x[(slice(None), *(None,) * missing)] if missing else x
