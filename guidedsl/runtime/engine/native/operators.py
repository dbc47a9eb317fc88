"""How each tensor operation is written as loops: one entry an operation, by its name in ATen."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from guidedsl.runtime.engine.native.elementwise import COMPARISONS, ELEMENTWISE, POWERS, WHOLE
from guidedsl.runtime.engine.native.index import Index, Position, Shape, broadcast, offset, reshaped
from guidedsl.runtime.engine.native.values import (
    Computed,
    Literal,
    NotNative,
    Program,
    Read,
    Seen,
    Value,
    cast,
    literal,
    view,
)

_STORAGE = frozenset({"dtype", "layout", "device", "pin_memory", "memory_format", "non_blocking"})
"""Options that the type of the result tells, or that change no number."""


class Operators:
    """Writes operations into a program. A method is an operation; operands are values or Python numbers."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self._exponents: dict[Value, Value] = {}

    def __call__(self, name: str, shape: Shape, dtype: torch.dtype, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """The result of an operation, a value or a list of them, the first of this shape and type.

        Raises NotNative for an unknown one.
        """
        if name in ("add", "sub") and kwargs.get("alpha", 1) != 1:
            args = [args[0], self.elementwise(ELEMENTWISE["mul"], _shape(args[1]), dtype, [args[1], kwargs["alpha"]])]
        if name in WHOLE and not dtype.is_floating_point:
            return self.elementwise(WHOLE[name], shape, dtype, args)
        if name == "log" and args[0] in self._exponents:
            return self._exponents[args[0]]
        if name == "exp" and args[0].dtype is dtype:
            found = self.elementwise(ELEMENTWISE[name], shape, dtype, args)
            self._exponents[found] = args[0]
            return found
        if name in ELEMENTWISE and not kwargs.get("rounding_mode"):
            if not dtype.is_floating_point and "{f}" in ELEMENTWISE[name]:
                raise NotNative(f"{name} of whole numbers")
            found = self.elementwise(ELEMENTWISE[name], shape, dtype, args)
            if (
                name == "add"
                and not shape
                and all(isinstance(x, Value) and x.dtype is dtype and not x.shape for x in args)
            ):
                found.terms = tuple(args)
            return found
        if name in COMPARISONS:
            if dtype is not torch.bool:
                raise NotNative(f"{name} of numbers")
            return self.elementwise(COMPARISONS[name], shape, dtype, args, _common(args))
        kwargs = {key: value for key, value in kwargs.items() if key not in _STORAGE}
        method = getattr(self, f"op_{name}", None)
        if method is None:
            raise NotNative(f"the operation {name}")
        return method(shape, dtype, *args, **kwargs)

    def elementwise(
        self,
        template: str,
        shape: Shape,
        dtype: torch.dtype,
        args: Sequence[Any],
        of: torch.dtype | None = None,
    ) -> Computed:
        """A template over operands of the type `of`, the result's unless said otherwise."""
        operands = [_value(arg, dtype) for arg in args if arg is not None]
        kind = dtype if of is None else of
        c = {"f": "f" if kind is torch.float32 else "", "one": "1.0f" if kind is torch.float32 else "1.0"}
        c["log2"] = literal(math.log(2.0), kind)
        c["c"] = "float" if kind is torch.float32 else "double" if kind is torch.float64 else "long"

        def element(at: Position, read: Read) -> str:
            texts = [_text(x, broadcast(at, x.shape), read, kind) for x in operands]
            return template.format(*texts, **c)

        return self.program.compute(shape, dtype, element)

    # Elementwise, with rules of their own

    def op_pow(self, shape: Shape, dtype: torch.dtype, x: Any, power: Any) -> Value:
        if not isinstance(power, Value) and float(power) in POWERS and dtype.is_floating_point:
            return self.elementwise(POWERS[float(power)], shape, dtype, [x])
        if not dtype.is_floating_point:
            raise NotNative("powers of whole numbers")
        return self.elementwise("pow{f}({0}, {1})", shape, dtype, [x, power])

    def op_rsub(self, shape: Shape, dtype: torch.dtype, x: Any, y: Any, alpha: float = 1) -> Value:
        if alpha != 1:
            raise NotNative("rsub with a factor")
        return self.elementwise("({1} - {0})", shape, dtype, [x, y])

    def op_clamp(
        self, shape: Shape, dtype: torch.dtype, x: Value, low: Any = None, high: Any = None, **named: Any
    ) -> Value:
        low, high = named.get("min", low), named.get("max", high)
        if low is not None:
            x = self.elementwise("({0} < {1} ? {1} : {0})", shape, dtype, [x, low])
        if high is not None:
            x = self.elementwise("({0} > {1} ? {1} : {0})", shape, dtype, [x, high])
        return x

    def op_where(self, shape: Shape, dtype: torch.dtype, condition: Value, yes: Any, no: Any) -> Value:
        first, second = _value(yes, dtype), _value(no, dtype)

        def element(at: Position, read: Read) -> str:
            texts = [_text(x, broadcast(at, x.shape), read, dtype) for x in (first, second)]
            return f"({read(condition, broadcast(at, condition.shape))} ? {texts[0]} : {texts[1]})"

        return self.program.compute(shape, dtype, element)

    def op_masked_fill(self, shape: Shape, dtype: torch.dtype, x: Value, mask: Value, number: Any) -> Value:
        return self.op_where(shape, dtype, mask, number, x)

    def op_clamp_min(self, shape: Shape, dtype: torch.dtype, x: Value, low: Any) -> Value:
        return self.op_clamp(shape, dtype, x, low)

    def op_clamp_max(self, shape: Shape, dtype: torch.dtype, x: Value, high: Any) -> Value:
        return self.op_clamp(shape, dtype, x, None, high)

    def op_addcmul(self, shape: Shape, dtype: torch.dtype, x: Value, a: Value, b: Value, value: Any = 1) -> Value:
        template = "({0} + {1} * {2})" if value == 1 else "({0} + {3} * {1} * {2})"
        return self.elementwise(template, shape, dtype, [x, a, b, value])

    def op_log_sigmoid_forward(self, shape: Shape, dtype: torch.dtype, x: Value) -> list[Value]:
        found = self.elementwise("(({0} < 0 ? {0} : 0) - log1p{f}(exp{f}(-fabs{f}({0}))))", shape, dtype, [x])
        return [found, Literal(shape, dtype, 0)]

    def op_tril(self, shape: Shape, dtype: torch.dtype, x: Value, diagonal: int = 0) -> Value:
        return self._part(shape, dtype, x, lambda i, j: f"{j.text} <= {(i + diagonal).text}")

    def op_triu(self, shape: Shape, dtype: torch.dtype, x: Value, diagonal: int = 0) -> Value:
        return self._part(shape, dtype, x, lambda i, j: f"{j.text} >= {(i + diagonal).text}")

    def _part(self, shape: Shape, dtype: torch.dtype, x: Value, stays: Callable[[Index, Index], str]) -> Value:
        """The elements of a matrix that stay, and zeros."""
        return self.program.compute(
            shape, dtype, lambda at, read: f"({stays(at[-2], at[-1])} ? {_text(x, at, read, dtype)} : 0)"
        )

    def op_copy(self, shape: Shape, dtype: torch.dtype, x: Value, other: Value) -> Value:
        return self.elementwise("{0}", shape, dtype, [other])

    def op_polygamma(self, shape: Shape, dtype: torch.dtype, order: int, x: Value) -> Value:
        if order != 1:
            raise NotNative(f"polygamma of order {order}")
        return self.elementwise("trigamma{f}({0})", shape, dtype, [x])

    def op__to_copy(self, shape: Shape, dtype: torch.dtype, x: Value) -> Value:
        return self.elementwise("{0}", shape, dtype, [x])

    # Other ways to look at a value

    def op_view(self, shape: Shape, dtype: torch.dtype, x: Value, *size: Any) -> Value:
        return view(x, shape, lambda at: reshaped(at, shape, x.shape))

    op_reshape = op__unsafe_view = op_unsqueeze = op_squeeze = op_view

    def op_alias(self, shape: Shape, dtype: torch.dtype, x: Value) -> Value:
        return x

    op_clone = op_conj_physical = op_alias

    def op_expand(self, shape: Shape, dtype: torch.dtype, x: Value, *size: Any) -> Value:
        return view(x, shape, lambda at: broadcast(at, x.shape))

    def op_permute(self, shape: Shape, dtype: torch.dtype, x: Value, dims: Sequence[int]) -> Value:
        axes = [dim % len(shape) for dim in dims]

        def move(at: Position) -> Position:
            found = dict(zip(axes, at, strict=True))
            return tuple(found[axis] for axis in range(len(axes)))

        return view(x, shape, move)

    def op_transpose(self, shape: Shape, dtype: torch.dtype, x: Value, a: int, b: int) -> Value:
        axes = list(range(len(shape)))
        axes[a], axes[b] = axes[b], axes[a]
        return self.op_permute(shape, dtype, x, axes)

    def op_t(self, shape: Shape, dtype: torch.dtype, x: Value) -> Value:
        return self.op_permute(shape, dtype, x, range(len(shape) - 1, -1, -1))

    def op_select(self, shape: Shape, dtype: torch.dtype, x: Value, dim: int, index: int) -> Value:
        axis = dim % len(x.shape)
        fixed = Index() + index % x.shape[axis]
        return view(x, shape, lambda at: (*at[:axis], fixed, *at[axis:]))

    def op_slice(
        self,
        shape: Shape,
        dtype: torch.dtype,
        x: Value,
        dim: int = 0,
        start: Any = None,
        end: Any = None,
        step: int = 1,
    ) -> Value:
        axis = dim % len(x.shape)
        first = range(x.shape[axis])[slice(start, end, step)].start
        return view(x, shape, lambda at: (*at[:axis], at[axis] * step + first, *at[axis + 1 :]))

    def op_flip(self, shape: Shape, dtype: torch.dtype, x: Value, dims: Sequence[int]) -> Value:
        axes = {dim % len(shape) for dim in dims}
        return view(
            x,
            shape,
            lambda at: tuple(
                one * -1 + (size - 1) if axis in axes else one
                for axis, (one, size) in enumerate(zip(at, shape, strict=True))
            ),
        )

    def op_diagonal(
        self, shape: Shape, dtype: torch.dtype, x: Value, shift: int = 0, first: int = 0, second: int = 1
    ) -> Value:
        return view(x, shape, _on_diagonal(len(x.shape), shift, first, second))

    def op_index(self, shape: Shape, dtype: torch.dtype, x: Value, indices: Sequence[Value | None]) -> Value:
        first = next(axis for axis, index in enumerate(indices) if index is not None)
        given = [index for index in indices[first:] if index is not None]
        if len(given) != len(indices) - first or any(index.dtype is torch.bool for index in given):
            raise NotNative("an index by a mask, or with gaps")
        rank = max(len(index.shape) for index in given)

        def element(at: Position, read: Read) -> str:
            own = at[first : first + rank]
            places = [_place(index, own, x.shape[first + n], read) for n, index in enumerate(given)]
            return read(x, (*at[:first], *places, *at[first + rank :]))

        return Seen(shape, dtype, element)

    def op_index_select(self, shape: Shape, dtype: torch.dtype, x: Value, dim: int, index: Value) -> Value:
        axis = dim % len(x.shape)
        return self.op_index(shape, dtype, x, [*[None] * axis, index])

    def op_gather(self, shape: Shape, dtype: torch.dtype, x: Value, dim: int, index: Value) -> Value:
        axis = dim % len(x.shape)

        def element(at: Position, read: Read) -> str:
            place = _place(index, at, x.shape[axis], read)
            return read(x, (*at[:axis], place, *at[axis + 1 :]))

        return Seen(shape, dtype, element)

    def op_embedding(self, shape: Shape, dtype: torch.dtype, table: Value, index: Value, *options: Any) -> Value:
        return self.op_index(shape, dtype, table, [index])

    # Values put together

    def op_cat(self, shape: Shape, dtype: torch.dtype, parts: Sequence[Value], dim: int = 0) -> Value:
        axis = dim % len(shape)
        found: Value = Literal(shape, dtype, 0)
        start = 0
        for part in (part for part in parts if part.shape != (0,)):
            found = self._set(found, part, axis, start, 1)
            start += part.shape[axis]
        return found

    def op_stack(self, shape: Shape, dtype: torch.dtype, parts: Sequence[Value], dim: int = 0) -> Value:
        axis = dim % len(shape)
        wide = [self.op_view((*one.shape[:axis], 1, *one.shape[axis:]), dtype, one) for one in parts]
        return self.op_cat(shape, dtype, wide, axis)

    def _set(self, base: Value, part: Value, axis: int, start: int, step: int) -> Value:
        """`base` with a part of an axis set."""

        def place(at: Position, read: Read) -> Position:
            return (*at[:axis], at[axis] * step + start, *at[axis + 1 :])

        def element(at: Position, read: Read) -> str:
            return _text(part, at, read, base.dtype)

        return self.program.scatter(base, part.shape, place, element, adds=False)

    def op_slice_scatter(
        self,
        shape: Shape,
        dtype: torch.dtype,
        x: Value,
        part: Value,
        dim: int = 0,
        start: Any = None,
        end: Any = None,
        step: int = 1,
    ) -> Value:
        axis = dim % len(shape)
        return self._set(x, part, axis, range(shape[axis])[slice(start, end, step)].start, step)

    def op_select_scatter(self, shape: Shape, dtype: torch.dtype, x: Value, part: Value, dim: int, index: int) -> Value:
        axis = dim % len(shape)
        wide = self.op_view((*part.shape[:axis], 1, *part.shape[axis:]), dtype, part)
        return self._set(x, wide, axis, index % shape[axis], 1)

    def op_diagonal_scatter(
        self,
        shape: Shape,
        dtype: torch.dtype,
        x: Value,
        part: Value,
        shift: int = 0,
        first: int = 0,
        second: int = 1,
    ) -> Value:
        move = _on_diagonal(len(shape), shift, first, second)
        return self.program.scatter(
            x, part.shape, lambda at, read: move(at), lambda at, read: _text(part, at, read, dtype), adds=False
        )

    def op_slice_backward(
        self, shape: Shape, dtype: torch.dtype, x: Value, sizes: Any, dim: int, start: Any, end: Any, step: int
    ) -> Value:
        return self.op_slice_scatter(shape, dtype, Literal(shape, dtype, 0), x, dim, start, end, step)

    def op_select_backward(self, shape: Shape, dtype: torch.dtype, x: Value, sizes: Any, dim: int, index: int) -> Value:
        return self.op_select_scatter(shape, dtype, Literal(shape, dtype, 0), x, dim, index)

    def op_diagonal_backward(
        self, shape: Shape, dtype: torch.dtype, x: Value, sizes: Any, shift: int, first: int, second: int
    ) -> Value:
        return self.op_diagonal_scatter(shape, dtype, Literal(shape, dtype, 0), x, shift, first, second)

    def op_constant_pad_nd(
        self, shape: Shape, dtype: torch.dtype, x: Value, pads: Sequence[int], value: float = 0
    ) -> Value:
        starts = [0] * len(shape)
        for n in range(len(pads) // 2):
            axis = len(shape) - 1 - n
            before, after = pads[2 * n], pads[2 * n + 1]
            starts[axis] = max(before, 0)
            if min(before, after) < 0:
                cut = list(x.shape)
                cut[axis] += min(before, 0) + min(after, 0)
                x = self.op_slice(tuple(cut), dtype, x, axis, max(-before, 0), x.shape[axis] + min(after, 0))
        part = x

        def place(at: Position, read: Read) -> Position:
            return tuple(one + start for one, start in zip(at, starts, strict=True))

        base = Literal(shape, dtype, value)
        return self.program.scatter(base, part.shape, place, lambda at, read: _text(part, at, read, dtype), adds=False)

    def op_index_put(
        self,
        shape: Shape,
        dtype: torch.dtype,
        x: Value,
        indices: Sequence[Value | None],
        values: Value,
        accumulate: bool = False,
    ) -> Value:
        first = next(axis for axis, index in enumerate(indices) if index is not None)
        given = [index for index in indices[first:] if index is not None]
        if len(given) != len(indices) - first or any(index.dtype is torch.bool for index in given):
            raise NotNative("an index by a mask, or with gaps")
        own = torch.broadcast_shapes(*(index.shape for index in given))
        space = (*shape[:first], *own, *shape[first + len(given) :])

        def place(at: Position, read: Read) -> Position:
            at_index = at[first : first + len(own)]
            places = [_place(index, at_index, shape[first + n], read) for n, index in enumerate(given)]
            return (*at[:first], *places, *at[first + len(own) :])

        return self.program.scatter(
            x, space, place, lambda at, read: _text(values, broadcast(at, values.shape), read, dtype), accumulate
        )

    def op_index_add(self, shape: Shape, dtype: torch.dtype, x: Value, dim: int, index: Value, part: Value) -> Value:
        return self.op_index_put(shape, dtype, x, [*[None] * (dim % len(shape)), index], part, True)

    def op_index_copy(self, shape: Shape, dtype: torch.dtype, x: Value, dim: int, index: Value, part: Value) -> Value:
        return self.op_index_put(shape, dtype, x, [*[None] * (dim % len(shape)), index], part)

    def op_scatter_add(self, shape: Shape, dtype: torch.dtype, x: Value, dim: int, index: Value, part: Value) -> Value:
        return self._scattered(x, dim, index, part, adds=True)

    def op_scatter(self, shape: Shape, dtype: torch.dtype, x: Value, dim: int, index: Value, part: Any) -> Value:
        wide = part if isinstance(part, Value) else Literal(index.shape, dtype, part)
        return self._scattered(x, dim, index, wide, adds=False)

    def _scattered(self, x: Value, dim: int, index: Value, part: Value, adds: bool) -> Value:
        axis = dim % len(x.shape)

        def place(at: Position, read: Read) -> Position:
            return (*at[:axis], _place(index, at, x.shape[axis], read), *at[axis + 1 :])

        return self.program.scatter(x, index.shape, place, lambda at, read: _text(part, at, read, x.dtype), adds)

    # Reductions

    def _reduce(self, shape: Shape, dtype: torch.dtype, x: Value, dims: Any, combine: str) -> Value:
        rank = len(x.shape)
        given = [dims] if isinstance(dims, int) else dims
        kept = tuple(axis for axis in range(rank) if not _is_over(axis, given, rank))
        reduced = self.program.compute(
            tuple(x.shape[axis] for axis in kept),
            dtype,
            lambda at, read: _text(x, at, read, dtype),
            x.shape,
            combine=combine,
            kept=kept,
        )
        return self.op_view(shape, dtype, reduced)

    def op_sum(
        self, shape: Shape, dtype: torch.dtype, x: Value, dims: Any = None, keepdim: bool = False, **options: Any
    ) -> Value:
        return self._reduce(shape, dtype, x, dims, "sum")

    def op_mean(
        self, shape: Shape, dtype: torch.dtype, x: Value, dims: Any = None, keepdim: bool = False, **options: Any
    ) -> Value:
        total = self._reduce(shape, dtype, x, dims, "sum")
        return self.elementwise(ELEMENTWISE["div"], shape, dtype, [total, x.numel / max(math.prod(shape), 1)])

    def op_amax(self, shape: Shape, dtype: torch.dtype, x: Value, dims: Any = None, keepdim: bool = False) -> Value:
        return self._reduce(shape, dtype, x, dims, "max")

    def op_amin(self, shape: Shape, dtype: torch.dtype, x: Value, dims: Any = None, keepdim: bool = False) -> Value:
        return self._reduce(shape, dtype, x, dims, "min")

    def op_any(self, shape: Shape, dtype: torch.dtype, x: Value, dims: Any = None, keepdim: bool = False) -> Value:
        return self._reduce(shape, dtype, x, dims, "any")

    def op_all(self, shape: Shape, dtype: torch.dtype, x: Value, dims: Any = None, keepdim: bool = False) -> Value:
        return self._reduce(shape, dtype, x, dims, "all")

    def op_logsumexp(self, shape: Shape, dtype: torch.dtype, x: Value, dims: Any, keepdim: bool = False) -> Value:
        wide = tuple(1 if _is_over(axis, dims, len(x.shape)) else size for axis, size in enumerate(x.shape))
        most = self.elementwise("(isinf({0}) ? 0 : {0})", wide, dtype, [self._reduce(wide, dtype, x, dims, "max")])
        shares = self.elementwise("exp{f}({0} - {1})", x.shape, dtype, [x, most])
        total = self._reduce(wide, dtype, shares, dims, "sum")
        return self.op_view(shape, dtype, self.elementwise("({0} + log{f}({1}))", wide, dtype, [most, total]))

    def _shares(self, shape: Shape, dtype: torch.dtype, x: Value, dim: int, half: bool) -> tuple[Value, Value, Value]:
        """x − max x, its exponentials, and their sums along an axis."""
        if half or not shape:
            raise NotNative("a softmax that changes the type, or of one number")
        wide = tuple(1 if axis == dim % len(shape) else size for axis, size in enumerate(shape))
        most = self._reduce(wide, dtype, x, [dim], "max")
        less = self.elementwise("({0} - {1})", shape, dtype, [x, most])
        shares = self.elementwise("exp{f}({0})", shape, dtype, [less])
        return less, shares, self._reduce(wide, dtype, shares, [dim], "sum")

    def op__softmax(self, shape: Shape, dtype: torch.dtype, x: Value, dim: int, half: bool) -> Value:
        _, shares, total = self._shares(shape, dtype, x, dim, half)
        return self.elementwise("({0} / {1})", shape, dtype, [shares, total])

    def op__log_softmax(self, shape: Shape, dtype: torch.dtype, x: Value, dim: int, half: bool) -> Value:
        less, _, total = self._shares(shape, dtype, x, dim, half)
        return self.elementwise("({0} - log{f}({1}))", shape, dtype, [less, total])

    def op__softmax_backward_data(
        self, shape: Shape, dtype: torch.dtype, gradient: Value, out: Value, dim: int, kind: torch.dtype
    ) -> Value:
        wide = tuple(1 if axis == dim % len(shape) else size for axis, size in enumerate(shape))
        product = self.elementwise("({0} * {1})", shape, dtype, [gradient, out])
        total = self._reduce(wide, dtype, product, [dim], "sum")
        return self.elementwise("({0} * ({1} - {2}))", shape, dtype, [out, gradient, total])

    def op__log_softmax_backward_data(
        self, shape: Shape, dtype: torch.dtype, gradient: Value, out: Value, dim: int, kind: torch.dtype
    ) -> Value:
        wide = tuple(1 if axis == dim % len(shape) else size for axis, size in enumerate(shape))
        total = self._reduce(wide, dtype, gradient, [dim], "sum")
        return self.elementwise("({0} - exp{f}({1}) * {2})", shape, dtype, [gradient, out, total])

    def op_prod(self, shape: Shape, dtype: torch.dtype, x: Value, dims: Any = None, keepdim: bool = False) -> Value:
        return self._reduce(shape, dtype, x, dims, "product")

    def op_var(
        self, shape: Shape, dtype: torch.dtype, x: Value, dims: Any = None, correction: Any = 1, keepdim: bool = False
    ) -> Value:
        wide = tuple(1 if _is_over(axis, dims, len(x.shape)) else size for axis, size in enumerate(x.shape))
        count = x.numel / max(math.prod(shape), 1)
        total = self._reduce(wide, dtype, x, dims, "sum")
        away = self.elementwise("({0} - {1} / {2})", x.shape, dtype, [x, total, count])
        squares = self._reduce(shape, dtype, self.elementwise("({0} * {0})", x.shape, dtype, [away]), dims, "sum")
        least = count - (1 if correction is None else correction)
        return self.elementwise(ELEMENTWISE["div"], shape, dtype, [squares, max(least, 0)])

    def op_linalg_vector_norm(
        self, shape: Shape, dtype: torch.dtype, x: Value, order: float = 2, dims: Any = None, keepdim: bool = False
    ) -> Value:
        if order != 2:
            raise NotNative(f"the norm of order {order}")
        squares = self._reduce(shape, dtype, self.elementwise("({0} * {0})", x.shape, dtype, [x]), dims, "sum")
        return self.elementwise(ELEMENTWISE["sqrt"], shape, dtype, [squares])

    def op_cumsum(self, shape: Shape, dtype: torch.dtype, x: Value, dim: int) -> Value:
        if not shape:
            return x
        axis = dim % len(shape)
        order = (*(n for n in range(len(shape)) if n != axis), axis)
        return self.program.compute(
            shape,
            dtype,
            lambda at, read: _text(x, at, read, dtype),
            combine="running sum",
            kept=tuple(range(len(shape))),
            order=order,
        )

    # Factors of matrices, by the functions of the prelude

    def op_linalg_cholesky_ex(
        self, shape: Shape, dtype: torch.dtype, x: Value, upper: bool = False, check_errors: bool = False
    ) -> list[Value]:
        if upper or check_errors:
            raise NotNative("an upper Cholesky factor")
        k = shape[-1]
        factor = self.program.call(shape, dtype, [self._array(x, dtype)], f"cholesky_{{c}}({k}, {{0}}, {{out}});")
        corner = (*shape[:-2], 1, 1)
        at_corner = view(factor, corner, lambda at: at)
        failed = self.elementwise("({0} != {0})", corner, torch.int32, [at_corner], dtype)
        return [factor, self.op_view(shape[:-2], torch.int32, failed)]

    def op_linalg_solve_triangular(
        self,
        shape: Shape,
        dtype: torch.dtype,
        matrix: Value,
        sides: Value,
        upper: bool,
        left: bool = True,
        unitriangular: bool = False,
    ) -> Value:
        wide, k = shape[:-2], matrix.shape[-1]
        full_matrix = self.op_expand((*wide, k, k), dtype, matrix)
        full_sides = self.op_expand(shape, dtype, sides)
        unit = int(unitriangular)
        if left:
            return self._solved(shape, dtype, full_matrix, full_sides, int(upper), unit)
        turned = (*wide, shape[-1], shape[-2])  # X A = B is Aᵀ Xᵀ = Bᵀ
        across = self.op_transpose(full_matrix.shape, dtype, full_matrix, -1, -2)
        other = self.op_transpose(turned, dtype, full_sides, -1, -2)
        solved = self._solved(turned, dtype, across, other, int(not upper), unit)
        return self.op_transpose(shape, dtype, solved, -1, -2)

    def _solved(self, shape: Shape, dtype: torch.dtype, matrix: Value, sides: Value, upper: int, unit: int) -> Value:
        arrays = [self._array(matrix, dtype), self._array(sides, dtype)]
        call = f"solve_{{c}}({shape[-2]}, {shape[-1]}, {{0}}, {{1}}, {{out}}, {upper}, {unit});"
        return self.program.call(shape, dtype, arrays, call)

    def _array(self, x: Value, dtype: torch.dtype) -> Value:
        """A copy in an array of its own."""
        return self.program.compute(x.shape, dtype, lambda at, read: _text(x, at, read, dtype))

    # Products of matrices

    def _product(
        self, shape: Shape, dtype: torch.dtype, x: Value, y: Value, axes_x: Sequence[int], axes_y: Sequence[int]
    ) -> Value:
        """Σ over the last loop of x · y; the loops are the result's axes and then the one summed over."""
        inner = x.shape[axes_x.index(len(shape))]
        space = (*shape, inner)

        def element(at: Position, read: Read) -> str:
            a, b = (_text(v, tuple(at[n] for n in axes), read, dtype) for v, axes in ((x, axes_x), (y, axes_y)))
            return f"({a} * {b})"

        strides = _strides([(x, axes_x), (y, axes_y)], space)
        innermost = _innermost(strides, space)
        order = (*(axis for axis in range(len(space)) if axis != innermost), innermost)
        return self.program.compute(
            shape, dtype, element, space, combine="sum", kept=tuple(range(len(shape))), order=order
        )

    def _library(self, shape: Shape, dtype: torch.dtype, x: Value, y: Value) -> Value:
        """The products of matrices by torch's own library."""
        a, b = self._matrix(x, dtype), self._matrix(y, dtype)
        operands = ", ".join(f"{{{n}}} + {one.start}, {one.row}, {int(one.turned)}" for n, one in enumerate((a, b)))
        call = f"product_{{c}}({shape[-2]}, {shape[-1]}, {x.shape[-1]}, {operands}, {{out}});"
        return self.program.call(shape, dtype, [a.array, b.array], call)

    def _matrix(self, x: Value, dtype: torch.dtype) -> _Matrix:
        """The matrix where it lies, if the library can read it there, else a copy."""
        rows, columns = x.shape[-2:]
        at = tuple(Index() if size == 1 else Index.of(f"i{n}", size) for n, size in enumerate(x.shape))
        found = self.program.looked_at(x, at) if x.dtype is dtype and len(x.shape) == 2 else None
        if found is not None and not isinstance(found[0], Literal):
            array, there = found
            place = offset(there, array.shape)
            factors = dict(place.terms)
            down, along = factors.pop("i0", 0), factors.pop("i1", 0)
            start = Index((), place.const).text
            if not factors and (along == 1 or columns == 1) and (down >= columns or rows == 1):
                return _Matrix(array, start, max(down, columns), False)
            if not factors and (down == 1 or rows == 1) and (along >= rows or columns == 1):
                return _Matrix(array, start, max(along, rows), True)
        return _Matrix(self._array(x, dtype), "0", columns, False)

    def op_mm(self, shape: Shape, dtype: torch.dtype, x: Value, y: Value) -> Value:
        if math.prod((*shape, x.shape[-1])) > LARGEST_PRODUCT:
            return self._library(shape, dtype, x, y)
        return self._product(shape, dtype, x, y, (0, 2), (2, 1))

    def op_bmm(self, shape: Shape, dtype: torch.dtype, x: Value, y: Value) -> Value:
        if math.prod((*shape[1:], x.shape[-1])) > LARGEST_PRODUCT:
            return self._library(shape, dtype, x, y)
        return self._product(shape, dtype, x, y, (0, 1, 3), (0, 3, 2))

    def op_mv(self, shape: Shape, dtype: torch.dtype, x: Value, y: Value) -> Value:
        return self._product(shape, dtype, x, y, (0, 1), (1,))

    def op_dot(self, shape: Shape, dtype: torch.dtype, x: Value, y: Value) -> Value:
        return self._product(shape, dtype, x, y, (0,), (0,))

    op_vdot = op_dot

    def op_addmm(
        self, shape: Shape, dtype: torch.dtype, base: Value, x: Value, y: Value, beta: float = 1, alpha: float = 1
    ) -> Value:
        if (beta, alpha) != (1, 1):
            raise NotNative("addmm with factors")
        return self.elementwise(ELEMENTWISE["add"], shape, dtype, [base, self.op_mm(shape, dtype, x, y)])


@dataclass(frozen=True)
class _Matrix:
    """A matrix in an array: from `start`, a row, or a column where it is turned, every `row` elements."""

    array: Value
    start: str
    row: int
    turned: bool


def known(name: str) -> bool:
    """Whether there is an entry for an operation, of whatever operands."""
    listed = name in ELEMENTWISE or name in COMPARISONS or hasattr(Operators, f"op_{name}")
    return listed or name in ("split_with_sizes", "split", "unbind")


LARGEST_PRODUCT = 2_000_000
"""Multiplications of two matrices up to which plain loops are as fast as a library, whose calls cost something."""


def _strides(reads: Sequence[tuple[Value, Sequence[int]]], space: Shape) -> list[Index]:
    """Where the loops over a space read arrays."""
    found: list[Index] = []

    def read(value: Value, at: Position) -> str:
        if isinstance(value, Seen):
            return value.element(at, read)
        found.append(offset(at, value.shape))
        return "0"

    variables = tuple(Index.of(f"i{n}", size) for n, size in enumerate(space))
    for value, axes in reads:
        read(value, tuple(variables[axis] for axis in axes))
    return found


def _innermost(strides: Sequence[Index], space: Shape) -> int:
    """The longest axis along which a product of matrices reads one element after another; else what it sums over."""
    last = len(space) - 1
    written = offset([Index.of(f"i{n}", size) for n, size in enumerate(space[:-1])], space[:-1])
    smooth = [
        axis for axis in range(len(space)) if all(index.factor(f"i{axis}") in (0, 1) for index in (*strides, written))
    ]
    return max(smooth, key=lambda axis: space[axis], default=last)


def _place(index: Value, at: Position, size: int, read: Read) -> Index:
    """The row that an index tells, counted from the end where it is negative."""
    text = read(index, broadcast(at, index.shape))
    return Index.of(f"row({text}, {size})", size)


def _on_diagonal(rank: int, shift: int, first: int, second: int) -> Callable[[Position], Position]:
    """Where the element of a diagonal, whose last axis runs along it, lies among `rank` axes."""
    a, b = first % rank, second % rank

    def move(at: Position) -> Position:
        others = iter(at[:-1])
        on = {a: at[-1] + max(-shift, 0), b: at[-1] + max(shift, 0)}
        return tuple(on[axis] if axis in on else next(others) for axis in range(rank))

    return move


def _is_over(axis: int, dims: Any, rank: int) -> bool:
    """Whether a reduction is over an axis."""
    return not dims or axis in {int(dim) % rank for dim in dims}


def _shape(x: Any) -> Shape:
    return x.shape if isinstance(x, Value) else ()


def _value(x: Any, dtype: torch.dtype) -> Value:
    return x if isinstance(x, Value) else Literal((), dtype, x)


def _text(x: Value, at: Position, read: Read, dtype: torch.dtype) -> str:
    """An element as a number of a type."""
    return read(Literal((), dtype, x.number), ()) if isinstance(x, Literal) else cast(read(x, at), x.dtype, dtype)


def _common(args: Sequence[Any]) -> torch.dtype:
    """The type in which operands are compared."""
    kinds = [arg for arg in args if isinstance(arg, Value)]
    wide = [x.dtype for x in kinds if x.shape] or [x.dtype for x in kinds]
    found = wide[0]
    for dtype in wide[1:]:
        found = torch.promote_types(found, dtype)
    if any(isinstance(arg, float) for arg in args) and not found.is_floating_point:
        found = torch.float64
    return found
