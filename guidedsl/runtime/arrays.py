"""Arrays from what a caller holds: nested lists, numbers, numpy arrays, torch tensors."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class ArrayProblem(ValueError):
    """A value that is not a rectangular array of numbers. The message begins with the field's name."""


def place(name: str, index: Sequence[int]) -> str:
    """`name[3, 1]`, or `name` for a scalar."""
    return f"{name}[{', '.join(map(str, index))}]" if index else name


def number_text(value: float) -> str:
    """A number as a person writes it: 3 for 3.0, nan and inf by name."""
    if math.isfinite(value) and value == int(value) and abs(value) < 1e15:
        return str(int(value))
    return f"{value:.6g}"


def _shape_of(name: str, value: object, index: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a nested sequence; raises `ArrayProblem` at the first place that breaks it."""
    if not isinstance(value, (list, tuple)):
        return ()
    shapes = [_shape_of(name, item, (*index, position)) for position, item in enumerate(value)]
    for position, shape in enumerate(shapes):
        if shape != shapes[0]:
            first, other = place(name, (*index, 0)), place(name, (*index, position))
            raise ArrayProblem(
                f"{name} is ragged: {other} has {_count(shape)}, {first} has {_count(shapes[0])}; "
                "make all rows of one length"
            )
    return (len(value), *(shapes[0] if shapes else ()))


def _count(shape: tuple[int, ...]) -> str:
    if not shape:
        return "one value"
    return f"{shape[0]} value{'' if shape[0] == 1 else 's'}" if len(shape) == 1 else f"shape {list(shape)}"


def _number(name: str, value: object, index: tuple[int, ...]) -> float:
    if value is None:
        return math.nan
    if isinstance(value, str):
        raise ArrayProblem(f'{place(name, index)} is the string "{value[:40]}"; write a number')
    if isinstance(value, (dict, set)):
        raise ArrayProblem(f"{place(name, index)} is a {type(value).__name__}; write a number or a list of numbers")
    try:
        return float(value)  # type: ignore[arg-type]
    except OverflowError:
        raise ArrayProblem(f"{place(name, index)} is too large for a floating-point number") from None
    except (TypeError, ValueError, RuntimeError):
        raise ArrayProblem(
            f"{place(name, index)} is of type {type(value).__name__}; write a number or a list of numbers"
        ) from None


def _flatten(name: str, value: object, index: tuple[int, ...], out: list[float]) -> None:
    if isinstance(value, (list, tuple)):
        for position, item in enumerate(value):
            _flatten(name, item, (*index, position), out)
    else:
        out.append(_number(name, value, index))


def _plain(value: Any) -> Any:
    """`value` with arrays inside lists written out as lists."""
    numpy = sys.modules.get("numpy")
    if isinstance(value, Tensor):
        return value.detach().tolist()
    if numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _nested(name: str, value: Any) -> Tensor:
    """A list, a number, or anything else, item by item, so that a problem can be placed."""
    try:
        value = _plain(value)
        shape = _shape_of(name, value, ())
        flat: list[float] = []
        _flatten(name, value, (), flat)
    except RecursionError:
        raise ArrayProblem(f"{name} is nested too deep to be an array") from None
    return torch.tensor(flat, dtype=torch.float64).reshape(shape)


def array(name: str, value: object) -> Tensor:
    """`value` as a tensor of numbers of its own shape; None is NaN.

    The result may share memory with a tensor or numpy array that came in: copy before keeping it. Raises
    `ArrayProblem` naming the field and the place for ragged lists, strings, complex numbers and foreign objects.
    """
    if isinstance(value, Tensor):
        if value.is_complex():
            raise ArrayProblem(f"{name} is complex; data is real")
        if value.layout != torch.strided:
            raise ArrayProblem(f"{name} is a sparse tensor; pass {name}.to_dense()")
        return value.detach()
    numpy = sys.modules.get("numpy")
    if numpy is not None and type(value).__module__ != "builtins":
        items = numpy.asarray(value)
        if items.dtype.kind in "fiub":
            kinds = {"f": numpy.float64, "i": numpy.int64, "u": numpy.int64, "b": numpy.bool_}
            return torch.from_numpy(numpy.array(items, dtype=kinds[items.dtype.kind]))
        if items.dtype.kind != "O":
            raise ArrayProblem(f"{name} has numpy dtype {items.dtype}; convert it to numbers")
        value = items.tolist()
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], (int, float, list, tuple)):
        # The quick way; whatever it refuses is walked item by item, which can say where the trouble is.
        try:
            return torch.tensor(value, dtype=torch.float64)
        except (TypeError, ValueError, RuntimeError, OverflowError):
            pass
    return _nested(name, value)


def whole_number(name: str, value: object) -> int:
    """`value` as a size. Raises `ArrayProblem` where it is not one non-negative whole number."""
    number = array(name, value)
    if number.ndim != 0:
        raise ArrayProblem(f"{name} is an array of shape {list(number.shape)}; a dim is one whole number")
    size = float(number)
    if not math.isfinite(size) or size != int(size) or size < 0:
        raise ArrayProblem(f"{name} = {number_text(size)} is not a size; write a whole number, 0 or more")
    return int(size)
