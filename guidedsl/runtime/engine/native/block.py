"""Blocks of steps as a C function."""

from __future__ import annotations

import ctypes
import functools
import itertools
import math
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from guidedsl.runtime.engine.native.build import at_hand, built
from guidedsl.runtime.engine.native.index import offset
from guidedsl.runtime.engine.native.loops import Loops
from guidedsl.runtime.engine.native.lower import Lowered, Preparation
from guidedsl.runtime.engine.native.operators import known
from guidedsl.runtime.engine.native.roll import Output, roll
from guidedsl.runtime.engine.native.source import source
from guidedsl.runtime.engine.native.values import NotNative, Stored, Value, view
from guidedsl.runtime.engine.record import record, uncollected
from guidedsl.runtime.optim import Adam, LeafOptions

NOISE_COST = 100
"""Elements of loops for each normal number from which the thread that draws these leaves another one time."""


@dataclass
class NativeSteps:
    """Many steps as one call of C. `text` is its source, of which a thread may still be making the library."""

    text: str
    library: Future[ctypes.CDLL]
    room: Tensor
    gradient: Tensor
    constants: list[Tensor]
    preparation: Preparation

    @property
    def ready(self) -> bool:
        """Whether the library is there. Raises NotNative where it could not be made."""
        return self.library.done() and self.library.result() is not None

    def __call__(
        self,
        adam: Adam,
        leaves: Sequence[LeafOptions],
        before: int,
        x: Tensor,
        first: Tensor,
        second: Tensor,
        stepped: Sequence[Tensor],
        fields: Sequence[Tensor],
        rates: Tensor,
        iterates: Tensor | None,
    ) -> Tensor:
        """The losses, [steps taken]: all, or those before a loss or a gradient that is not finite.

        `leaves` tell Adam's steps up to a block, of which this call comes after `before` of its steps.
        `x` and both moments [n] are changed in place, by that many steps. `stepped` are the numbers and rows of each
        step, `rates` [steps] the learning rates; `iterates` [steps, n] takes the parameters after each.
        """
        given = [*stepped, *self.constants, *self.preparation(fields)]
        pointers = (ctypes.c_void_p * len(given))(*(tensor.data_ptr() for tensor in given))
        segments = _segments(leaves, before)
        flat = (ctypes.c_double * (6 * len(segments)))(*(number for segment in segments for number in segment))
        losses = torch.empty(len(rates), dtype=torch.float64)
        function = self.library.result().steps
        function.restype = ctypes.c_long
        taken: int = function(
            ctypes.c_long(len(rates)),
            *(ctypes.c_void_p(tensor.data_ptr()) for tensor in (x, first, second, self.gradient, rates)),
            ctypes.c_double(adam.clip_value or 0.0),
            ctypes.c_double(adam.clip_norm or 0.0),
            ctypes.c_long(len(segments)),
            flat,
            pointers,
            ctypes.c_void_p(self.room.data_ptr()),
            ctypes.c_void_p(losses.data_ptr()),
            ctypes.c_void_p(None if iterates is None else iterates.data_ptr()),
        )
        return losses[:taken]


def _segments(leaves: Sequence[LeafOptions], before: int) -> list[tuple[float, ...]]:
    """Where leaves of equal options end, and those options after so many steps more."""
    found: list[tuple[float, ...]] = []
    end = 0
    for (taken, *own), alike in itertools.groupby(leaves, key=lambda leaf: leaf[1:]):
        end += sum(leaf.size for leaf in alike)
        found.append((float(end), taken + before, *own))
    return found


@uncollected()
def native_steps(
    step: Callable[..., Sequence[Tensor]],
    leaves: Sequence[Tensor],
    numbers: Sequence[Tensor],
    rows: Sequence[Tensor],
    fields: Sequence[Tensor],
    beside: bool = False,
) -> NativeSteps:
    """The function of a step of (leaves, a step's numbers, its rows, data), which gives the loss and the gradients.

    With `beside` a library that takes long to make is made on a thread. Raises NotNative where the step does what loops
    are not written for, or no compiler is there.
    """
    if not leaves:
        raise NotNative("nothing to learn")
    dtype = leaves[0].dtype
    if any(leaf.dtype is not dtype or leaf.device.type != "cpu" for leaf in leaves) or not dtype.is_floating_point:
        raise NotNative("parameters of several types, or not on the CPU")
    recording = record(step, [*leaves, *numbers, *rows], fields, known)
    size = sum(leaf.numel() for leaf in leaves)
    x = Stored((size,), dtype, "x")
    inputs: list[Value] = []
    targets = [("&loss", 0)]
    start = 0
    for leaf in leaves:
        inputs.append(_part(x, start, tuple(leaf.shape)))
        targets.append(("g", start))
        start += leaf.numel()
    stepped = [Stored(tuple(one.shape), one.dtype, f"n{n}") for n, one in enumerate((*numbers, *rows))]
    lowered = Lowered(recording, [*inputs, *stepped])
    prepared = [Stored(one.shape, one.dtype, name) for name, one in lowered.prepared.items()]
    outputs = [Output(value, *target) for value, target in zip(lowered.outputs, targets, strict=True)]
    loops = Loops(lowered.program, roll(lowered.program, outputs))
    constants = [Stored(tuple(one.shape), one.dtype, name) for name, one in lowered.program.constants.items()]
    work = sum(math.prod(statement.space) for statement in loops.statements)
    lengths = [(one, math.prod(one.shape)) for one in stepped]
    drawn = sum(one.numel() for one in numbers)
    threads = max(1, torch.get_num_threads() - (NOISE_COST * drawn > work))  # another thread draws meanwhile
    text, room = source(loops, dtype, size, lengths, [*constants, *prepared], threads)
    library = _library(text, beside and not at_hand(text))
    scratch = torch.empty(max(room, 64), dtype=torch.uint8)
    preparation = Preparation(recording, list(lowered.prepared.values()))
    gradient = torch.empty(size, dtype=dtype)
    return NativeSteps(text, library, scratch, gradient, list(lowered.program.constants.values()), preparation)


def _library(text: str, beside: bool) -> Future[ctypes.CDLL]:
    def make() -> ctypes.CDLL:
        library = built(text)
        _lend_products(library, text)
        return library

    if beside:
        thread = ThreadPoolExecutor(1)
        found = thread.submit(make)
        thread.shutdown(wait=False)
    else:
        found = Future()
        found.set_result(make())
    return found


@functools.cache
def _torch_library() -> ctypes.CDLL:
    """The library that multiplies torch's own matrices."""
    found = next((Path(torch.__file__).parent / "lib").glob("libtorch_cpu.*"), None)
    if found is None:
        raise NotNative("torch's library is not where it used to be")
    return ctypes.CDLL(str(found))


def _lend_products(library: ctypes.CDLL, text: str) -> None:
    for c, symbol in (("float", "sgemm_"), ("double", "dgemm_")):
        if f"product_{c}(" in text:
            product = getattr(_torch_library(), symbol, None)
            if product is None:
                raise NotNative("torch has its products of matrices elsewhere")
            ctypes.c_void_p.in_dll(library, f"library_{c}").value = ctypes.cast(product, ctypes.c_void_p).value


def _part(x: Stored, start: int, shape: tuple[int, ...]) -> Value:
    return view(x, shape, lambda at: (offset(at, shape) + start,))
