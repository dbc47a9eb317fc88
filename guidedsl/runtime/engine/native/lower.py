"""From a graph of tensor operations to a program in loops."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from guidedsl.runtime.engine.native.operators import Operators
from guidedsl.runtime.engine.native.values import Literal, NotNative, Program, Stored, Value, c_type

_SHAPED_LIKE = ("full_like", "zeros_like", "ones_like", "empty_like", "new_zeros", "new_ones", "new_full", "new_empty")


class Lowered:
    """A graph's operations as a program: `outputs` in the graph's order, `constants` by the name of their pointer.

    `inputs` are the arrays of its arguments. Raises NotNative for what loops are not written for.
    """

    def __init__(self, graph: torch.fx.GraphModule, inputs: Sequence[Value]) -> None:
        self.program = Program()
        self.constants: dict[str, Tensor] = {}
        self.outputs: list[Value] = []
        self._module = graph
        self._operators = Operators(self.program)
        self._found: dict[torch.fx.Node, Any] = {}
        self._same: dict[object, Any] = {}
        self._given = iter(inputs)
        for node in graph.graph.nodes:
            self._take(node)

    def _take(self, node: torch.fx.Node) -> None:
        match node.op:
            case "placeholder":
                self._found[node] = next(self._given)
            case "get_attr":
                self._found[node] = getattr(self._module, str(node.target)).detach()
            case "output":
                self.outputs = [self._as_value(self._of(arg)) for arg in node.args[0]]  # type: ignore[union-attr]
            case _:
                self._found[node] = self._called(node)

    def _of(self, arg: Any) -> Any:
        """An argument with its nodes replaced by what they are: a value, a constant tensor or a list of either."""
        if isinstance(arg, torch.fx.Node):
            return self._found[arg]
        if isinstance(arg, (list, tuple)):
            return [self._of(one) for one in arg]
        return arg

    def _called(self, node: torch.fx.Node) -> Any:
        args = [self._of(arg) for arg in node.args]
        kwargs = {key: self._of(arg) for key, arg in node.kwargs.items()}
        if node.target is operator.getitem:
            return args[0][args[1]]
        like = str(node.target).split(".")[1:2]
        if like and like[0] in _SHAPED_LIKE and isinstance(args[0], Value):
            args[0] = torch.empty(args[0].shape, dtype=args[0].dtype)
        if not _has_value([args, kwargs]):
            return node.target(*args, **kwargs)  # type: ignore[operator]
        name = _name(node)
        key = (name, _key(args), _key(kwargs))
        if key not in self._same:
            self._same[key] = self._written(name, node, args, kwargs)
        return self._same[key]

    def _written(self, name: str, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
        meta = node.meta.get("val")
        if meta is None:
            raise NotNative(f"the operation {name}, of whose result nothing is known")
        given = [self._as_values(arg) for arg in args]
        named = {key: self._as_values(arg) for key, arg in kwargs.items()}
        if name in ("split_with_sizes", "split", "unbind"):
            return self._parts(name, meta, given[0], *given[1:], **named)
        return self._operators(name, meta if isinstance(meta, Tensor) else meta[0], given, named)

    def _parts(self, name: str, meta: Sequence[Tensor], x: Value, sizes: Any = None, dim: int = 0) -> list[Value]:
        if name == "unbind":
            dim = 0 if sizes is None else sizes
            found = [self._operators("select", one, [x, dim, n], {}) for n, one in enumerate(meta)]
        else:
            found, start = [], 0
            for one in meta:
                end = start + one.shape[dim]
                found.append(self._operators("slice", one, [x, dim, start, end], {}))
                start = end
        return found

    def _as_values(self, arg: Any) -> Any:
        if isinstance(arg, list):
            return [self._as_values(one) for one in arg]
        return self._as_value(arg) if isinstance(arg, Tensor) else arg

    def _as_value(self, found: Any) -> Value:
        if isinstance(found, Value):
            return found
        tensor: Tensor = found
        c_type(tensor.dtype)
        shape = tuple(tensor.shape)
        if tensor.numel() and bool((tensor == (first := tensor.reshape(-1)[0])).all()):
            return Literal(shape, tensor.dtype, first.item())
        name = f"c{len(self.constants)}"
        self.constants[name] = tensor.contiguous()
        return Stored(shape, tensor.dtype, name)


def _name(node: torch.fx.Node) -> str:
    """An operation's name in ATen; one that works in place is the plain one where nothing reads the old value later."""
    schema = getattr(node.target, "_schema", None)
    if schema is None or not schema.name.startswith("aten::"):
        raise NotNative(f"the operation {node.target}")
    name: str = schema.name.removeprefix("aten::")
    if not schema.is_mutable:
        return name
    changed = node.args[0]
    if not isinstance(changed, torch.fx.Node) or any(user is not node and not user < node for user in changed.users):
        raise NotNative(f"the operation {name}, whose operand is read later")
    return name.removesuffix("_")


def _has_value(tree: Any) -> bool:
    if isinstance(tree, dict):
        return _has_value(list(tree.values()))
    if isinstance(tree, (list, tuple)):
        return any(_has_value(one) for one in tree)
    return isinstance(tree, Value)


def _key(tree: Any) -> object:
    """What tells equal arguments."""
    if isinstance(tree, dict):
        return tuple((name, _key(one)) for name, one in sorted(tree.items()))
    if isinstance(tree, (list, tuple)):
        return tuple(_key(one) for one in tree)
    if isinstance(tree, (Value, Tensor)):
        return id(tree)
    return (type(tree), str(tree))
