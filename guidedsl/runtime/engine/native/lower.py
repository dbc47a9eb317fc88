"""From a step's operations to a program in loops, and what is computed once for all steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from guidedsl.runtime.engine.native.operators import Operators, known
from guidedsl.runtime.engine.native.values import NotNative, Program, Stored, Value, c_type
from guidedsl.runtime.engine.record import Operation, Recording, Result, results_in


class Lowered:
    """A recording as a program: `outputs` in its order.

    `varying` are the arrays of its inputs that are not fixed. `prepared` are the fixed results that the program reads,
    by the name of their pointer. Raises NotNative for what loops are not written for.
    """

    def __init__(self, recording: Recording, varying: Sequence[Value]) -> None:
        self.program = Program()
        self.prepared: dict[str, Result] = {}
        self._operators = Operators(self.program)
        self._found: dict[Result, Any] = {}
        self._same: dict[object, Any] = {}
        self._known_constants: dict[int, Value] = {}
        inputs = [result for result in recording.inputs if not result.fixed]
        self._found.update(zip(inputs, varying, strict=True))
        for operation in recording.operations:
            if not operation.fixed:
                self._write(operation)
        self.outputs: list[Value] = [self._of(output) for output in recording.outputs]

    def _write(self, operation: Operation) -> None:
        args = [self._of(arg) for arg in operation.args]
        kwargs = {name: self._of(arg) for name, arg in operation.kwargs.items()}
        key = (operation.name, _key(args), _key(kwargs))
        if key not in self._same:
            self._same[key] = self._written(operation, args, kwargs)
        found, results = self._same[key], operation.results
        if isinstance(results, list):
            self._found.update(zip(results, found, strict=False))  # a factor's pivots and the like are never read
        else:
            self._found[results] = found

    def _written(self, operation: Operation, args: list[Any], kwargs: dict[str, Any]) -> Any:
        name, results = operation.name, operation.results
        if name in ("split_with_sizes", "split", "unbind"):
            return self._parts(name, results, args[0], *args[1:], **kwargs)
        first = results[0] if isinstance(results, list) else results
        return self._operators(name, first.shape, first.dtype, args, kwargs)

    def _parts(self, name: str, parts: list[Result], x: Value, sizes: Any = None, dim: int = 0) -> list[Value]:
        if name == "unbind":
            dim = 0 if sizes is None else sizes
            chosen = [(one, "select", [x, dim, n]) for n, one in enumerate(parts)]
        else:
            chosen, start = [], 0
            for one in parts:
                end = start + one.shape[dim]
                chosen.append((one, "slice", [x, dim, start, end]))
                start = end
        return [self._operators(how, one.shape, one.dtype, given, {}) for one, how, given in chosen]

    def _of(self, arg: Any) -> Any:
        """An argument with values where it has results and constant tensors."""
        if isinstance(arg, (list, tuple)):
            return [self._of(one) for one in arg]
        if isinstance(arg, Tensor):
            if id(arg) not in self._known_constants:
                self._known_constants[id(arg)] = self.program.constant(arg)
            return self._known_constants[id(arg)]
        if not isinstance(arg, Result):
            return arg
        if arg not in self._found:
            if not arg.fixed:
                raise NotNative("a result that no loop computes")
            if arg.operation is not None and arg.operation.views and known(arg.operation.name):
                self._write(arg.operation)  # the array that it looks at may be large
            else:
                self._found[arg] = self._prepared(arg)
        return self._found[arg]

    def _prepared(self, result: Result) -> Value:
        name = f"d{len(self.prepared)}"
        c_type(result.dtype)
        self.prepared[name] = result
        return Stored(result.shape, result.dtype, name)


class Preparation:
    """Computes the fixed results that a program reads, anew for data with other numbers."""

    def __init__(self, recording: Recording, wanted: Sequence[Result]) -> None:
        self.wanted = wanted
        self.inputs = [result for result in recording.inputs if result.fixed]
        needed = set(wanted)
        self.operations: list[Operation] = []
        for operation in reversed(recording.operations):
            if operation.fixed and needed & set(results_in([operation.results])):
                needed |= set(results_in([operation.args, operation.kwargs]))
                self.operations.append(operation)
        self.operations.reverse()
        self._fields: list[tuple[Tensor, int]] = []
        self._made: list[Tensor] = []

    def __call__(self, fields: Sequence[Tensor]) -> list[Tensor]:
        """The arrays, each contiguous."""
        now = [(one, one._version) for one in fields]
        same = len(now) == len(self._fields) and all(
            a is b and n == m for (a, n), (b, m) in zip(now, self._fields, strict=True)
        )
        if not (same and self._made):
            found: dict[Result, Tensor] = dict(zip(self.inputs, fields, strict=True))
            with torch.no_grad():
                for operation in self.operations:
                    args, kwargs = _with(found, operation.args), _with(found, operation.kwargs)
                    if operation.changes:
                        args[0] = args[0].clone()
                    out = operation.function(*args, **kwargs)
                    results = operation.results if isinstance(operation.results, list) else [operation.results]
                    found.update(zip(results, out if isinstance(out, (list, tuple)) else [out], strict=True))
            self._made = [found[result].contiguous() for result in self.wanted]
            self._fields = now
        return self._made


def _with(found: dict[Result, Tensor], tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: _with(found, one) for name, one in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_with(found, one) for one in tree]
    return found[tree] if isinstance(tree, Result) else tree


def _key(tree: Any) -> object:
    """What tells equal arguments."""
    if isinstance(tree, dict):
        return tuple((name, _key(one)) for name, one in sorted(tree.items()))
    if isinstance(tree, (list, tuple)):
        return tuple(_key(one) for one in tree)
    if isinstance(tree, Value):
        return id(tree)
    return (type(tree), str(tree))
