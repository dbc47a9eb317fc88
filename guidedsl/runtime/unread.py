"""Arrays of minibatched plates that stay where they are, in a memory map or in the caller's own memory.

A field that is a memory map, or large, is not converted when all rows of a minibatched plate are bound: its place is
taken by an `Unread`, and the rows of each batch are read, converted and checked as they are fed.
"""

from __future__ import annotations

import sys
from typing import Any, NoReturn

import torch
from torch import Tensor

from guidedsl.runtime.arrays import array
from guidedsl.runtime.errors import DataError
from guidedsl.runtime.metadata import Field, Schema

LARGE = 2**24
"""Numbers in an array above which it is not copied, memory map or not: torch does not say which tensors are mapped."""


class Unread:
    """The rows of a field that were not read yet. Anything but reading a batch of them is a `DataError`."""

    def __init__(self, name: str, raw: Any, plate: str) -> None:
        self.name, self.raw, self.plate = name, raw, plate
        array(name, raw[:0])  # whether it is made of numbers at all

    @property
    def shape(self) -> tuple[int, ...]:
        """Its axes as the caller gave them."""
        return tuple(self.raw.shape)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def take(self, rows: dict[int, Tensor]) -> Tensor:
        """The rows at each axis of `rows`, read and copied, in the caller's order of axes."""
        value = self.raw
        for axis, picked in rows.items():
            index = picked.cpu() if isinstance(value, Tensor) else picked.cpu().numpy()
            value = value[(slice(None),) * axis + (index,)]
        return array(self.name, value)

    def _refuse(self) -> NoReturn:
        raise DataError(
            (
                f"{self.name} has all rows of the minibatched plate {self.plate}, which are read a batch at a time: "
                "take a batch, data.subsample(data.noise())",
            )
        )

    def __getitem__(self, index: object) -> Tensor:
        self._refuse()

    def __getattr__(self, attribute: str) -> Tensor:
        if attribute.startswith("__"):  # what Python itself asks for
            raise AttributeError(attribute)
        self._refuse()

    @classmethod
    def __torch_function__(cls, func: object, types: object, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        found = next(value for value in (*args, *(kwargs or {}).values()) if isinstance(value, Unread))
        found._refuse()


def stays(value: object) -> bool:
    """Whether an array is better left where it is: a memory map, or a large array on the CPU."""
    numpy = sys.modules.get("numpy")
    if isinstance(value, Tensor):
        return value.layout == torch.strided and value.device.type == "cpu" and value.numel() > LARGE
    if numpy is None or not isinstance(value, numpy.ndarray):
        return False
    base: Any = value
    while isinstance(base, numpy.ndarray):
        if isinstance(base, numpy.memmap):
            return True
        base = base.base
    return bool(value.size > LARGE)


def fed_axes(entry: Field, schema: Schema) -> dict[str, int]:
    """Which axes of a field, as the caller gives it, are rows of minibatched plates: axis by plate."""
    specs = ((axis, schema.plate(name)) for axis, name in enumerate(entry.plates))
    return {spec.name: axis for axis, spec in specs if spec is not None and spec.minibatch is not None}
