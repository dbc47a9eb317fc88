"""A step's operations on tensors, as torch ran them once."""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import TensorWeakRef

Shape = tuple[int, ...]

_PASSED_ON = frozenset({"detach", "alias", "lift_fresh", "contiguous"})
_BY_SHAPE = frozenset(
    {"full_like", "zeros_like", "ones_like", "empty_like", "new_zeros", "new_ones", "new_full", "new_empty"}
)


class Unrecordable(Exception):
    """The steps are not one sequence of operations that an engine has."""


@dataclass(eq=False)
class Result:
    """An input, or what an operation gave. `fixed` where it is the same at every step on the same data."""

    shape: Shape
    dtype: torch.dtype
    fixed: bool
    operation: Operation | None = None


@dataclass(eq=False)
class Operation:
    """An operation by its name in ATen; `args` and `kwargs` have results where tensors were, and constant tensors."""

    name: str
    function: Any
    args: Sequence[Any]
    kwargs: dict[str, Any]
    results: Any = None
    fixed: bool = field(init=False)
    """Whether it depends on the data alone."""

    def __post_init__(self) -> None:
        self.fixed = all(result.fixed for result in results_in([self.args, self.kwargs]))

    @property
    def views(self) -> bool:
        """Whether what it gives is another look at its operand."""
        return any(arg.alias_info and not arg.alias_info.is_write for arg in self.function._schema.arguments)

    @property
    def changes(self) -> bool:
        """Whether it works in place."""
        return bool(self.function._schema.is_mutable)


@dataclass
class Recording:
    """Operations in their order, and what the step gives: results or constant tensors."""

    inputs: list[Result] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    outputs: list[Result | Tensor] = field(default_factory=list)


def record(
    step: Callable[..., Sequence[Tensor]],
    varying: Sequence[Tensor],
    fixed: Sequence[Tensor],
    known: Callable[[str], bool] = lambda name: True,
) -> Recording:
    """What `step(*varying, *fixed)` does. `fixed` are the inputs that all steps on the same data share.

    Operations that are not `known` by their name in ATen are recorded as simpler ones where torch has them written.
    Raises Unrecordable for operations on numbers that only running the step tells: random draws, shapes that follow
    values, branches.
    """
    recorder = _Recorder(known)
    inputs = [tensor.detach() for tensor in (*varying, *fixed)]
    for n, tensor in enumerate(inputs):
        result = Result(tuple(tensor.shape), tensor.dtype, n >= len(varying))
        recorder.recording.inputs.append(result)
        recorder.mark(tensor, result)
    try:
        with uncollected(), recorder:
            outputs = step(*inputs)
    except Exception as error:
        refusal = _refusal(error)
        if refusal is None:
            raise
        raise refusal from None
    recorder.recording.outputs = [recorder.result_of(tensor) or tensor for tensor in outputs]
    return recorder.recording


@contextmanager
def uncollected() -> Iterator[None]:
    """Nothing is looked through for garbage: of the thousands of objects of a large program all are in use, and what a
    recording refuses must not hang on when they are found not to be."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _refusal(error: BaseException | None) -> Unrecordable | None:
    """The refusal behind an error, which a generated module reports as one of its own line."""
    while error is not None and not isinstance(error, Unrecordable):
        error = error.__cause__
    return error


class _Recorder(TorchDispatchMode):
    """Stands below autograd, so that a backward pass is recorded like what it differentiates."""

    def __init__(self, known: Callable[[str], bool]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._known = known
        self.recording = Recording()
        self._on_storage: dict[int, list[TensorWeakRef]] = {}
        self._constants: set[int] = set()

    def mark(self, tensor: Tensor, result: Result | None) -> None:
        """Notes on a tensor itself what it is the result of, for as long as there is the tensor."""
        tensor._guidedsl_result = (self, result)  # type: ignore[attr-defined]

    def result_of(self, tensor: Tensor) -> Result | None:
        """What a tensor is the result of; None for one that the step had from elsewhere."""
        recorder, result = getattr(tensor, "_guidedsl_result", (None, None))
        return result if recorder is self else None

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # dynamo would be imported, for a second and a half, only to be kept away

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = _name(function)
        found = map(self.result_of, tensors_in([args, kwargs]))
        operands = [operand for operand in found if operand is not None]
        if operands and not all(operand.fixed for operand in operands) and not self._writable(name):
            with self:
                simpler = _in_simpler(function, args, kwargs)
            if simpler is not NotImplemented:
                return simpler
        if _is_unknown(function, args, bool(operands)):
            raise Unrecordable(f"the operation {name}, whose result is not known ahead")
        changed = _changed(function, args)
        if changed is not None:
            self._check_change(changed, name)
        given = [self._reference(arg) for arg in args], {key: self._reference(arg) for key, arg in kwargs.items()}
        if changed is not None and self.result_of(changed) is None:
            given[0][0] = changed.clone()
        out = function(*args, **kwargs)
        for tensor in tensors_in([out]):
            self._on_storage.setdefault(_storage(tensor), []).append(TensorWeakRef(tensor))
        if not operands or name in _BY_SHAPE:
            return out
        if name in _PASSED_ON and out.dtype is args[0].dtype:
            self.mark(out, self.result_of(args[0]))
            return out
        operation = Operation(name, function, *given)
        operation.results = self._numbered(out, operation)
        self.recording.operations.append(operation)
        return out

    def _writable(self, name: str) -> bool:
        return self._known(name) or name in _PASSED_ON or name in _BY_SHAPE

    def _reference(self, arg: Any) -> Any:
        if isinstance(arg, (list, tuple)):
            return [self._reference(one) for one in arg]
        if not isinstance(arg, Tensor):
            return arg
        result = self.result_of(arg)
        if result is not None:
            return result
        self._constants.add(_storage(arg))
        return arg

    def _numbered(self, out: Any, operation: Operation) -> Any:
        if isinstance(out, (list, tuple)):
            return [self._numbered(one, operation) for one in out]
        if not isinstance(out, Tensor):
            raise Unrecordable(f"the operation {operation.name}, whose result is no tensor")
        result = Result(tuple(out.shape), out.dtype, operation.fixed, operation)
        self.mark(out, result)
        return result

    def _check_change(self, changed: Tensor, name: str) -> None:
        """A tensor may be changed in place where nobody reads the old numbers later."""
        storage = _storage(changed)
        others = [other() for other in self._on_storage.get(storage, ())]
        shared = any(one is not None and one is not changed and _storage(one) == storage for one in others)
        if shared or (self.result_of(changed) is None and storage in self._constants):
            raise Unrecordable(f"the operation {name} in place, whose operand is read later")


@functools.cache
def _name(function: Any) -> str:
    """An operation's name in ATen, of one that works in place that of the plain one."""
    space, name = function._schema.name.split("::")
    if function._schema.is_mutable:
        name = name.removesuffix("_")
    return str(name) if space == "aten" else f"{space}::{name}"


def _is_unknown(function: Any, args: Sequence[Any], on_results: bool) -> bool:
    """Whether running the step once does not tell what the operation gives: what kind of result, or of what shape."""
    tags = _tags(function)
    if torch.Tag.nondeterministic_seeded in tags:
        return True
    if torch.Tag.dynamic_output_shape in tags:
        masks = any(one.dtype is torch.bool for one in tensors_in([args[1:]]))
        return on_results and (masks or not _name(function).startswith("index"))
    return on_results and torch.Tag.data_dependent_output in tags


@functools.cache
def _tags(function: Any) -> frozenset[torch.Tag]:
    """An operation's tags, which torch makes a list of anew each time."""
    return frozenset(function.tags)


def _in_simpler(function: Any, args: Any, kwargs: Any) -> Any:
    """The result by simpler operations, where torch has them written."""
    from torch._decomp import decomposition_table

    if function in decomposition_table:
        return decomposition_table[function](*args, **kwargs)
    return function.decompose(*args, **kwargs)


def _changed(function: Any, args: Sequence[Any]) -> Tensor | None:
    """The tensor that an operation changes."""
    if not function._schema.is_mutable:
        return None
    writes = [n for n, arg in enumerate(function._schema.arguments) if arg.alias_info and arg.alias_info.is_write]
    if writes != [0]:
        raise Unrecordable(f"the operation {_name(function)} into given tensors")
    changed: Tensor = args[0]
    return changed


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def tensors_in(tree: Any) -> Iterator[Tensor]:
    """The tensors in nested lists and dicts."""
    return _leaves(tree, Tensor)


def results_in(tree: Any) -> Iterator[Result]:
    """The results in nested lists and dicts."""
    return _leaves(tree, Result)


def _leaves(tree: Any, kind: type) -> Iterator[Any]:
    waiting = [tree]
    while waiting:
        one = waiting.pop()
        if isinstance(one, kind):
            yield one
        elif isinstance(one, (list, tuple)):
            waiting += reversed(one)
        elif isinstance(one, dict):
            waiting += reversed(one.values())
