"""The learned parameters of a store as one vector, which they stay looks at."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class Packed:
    """Leaves side by side in one buffer. They stay the same tensors under the same names; only their memory moves."""

    def __init__(self) -> None:
        self._buffer = torch.empty(0)
        self._named: Mapping[str, Tensor] = {}
        self._leaves: list[Tensor] = []
        self._pointers: list[int] = []

    def of(self, leaves: Mapping[str, Tensor]) -> Tensor | None:
        """The numbers of all leaves, [n]: one buffer for the same leaves. None where they differ in type or device.

        Leaves that were given other memory since are moved back, with the numbers that they have there. The mapping is
        not to change later.
        """
        if leaves is self._named and list(map(Tensor.data_ptr, self._leaves)) == self._pointers:
            return self._buffer
        found = list(leaves.values())
        if len({(leaf.dtype, leaf.device) for leaf in found}) != 1:
            return None
        numbers = torch.cat([leaf.detach().reshape(-1) for leaf in found])
        if leaves is self._named and _alike(numbers, self._buffer):
            self._buffer.copy_(numbers)
        else:
            self._buffer = numbers
        parts = self._buffer.split([leaf.numel() for leaf in found])
        for leaf, part in zip(found, parts, strict=True):
            leaf.data = part.view(leaf.shape)
        self._named, self._leaves, self._pointers = leaves, found, [leaf.data_ptr() for leaf in found]
        return self._buffer


def _alike(a: Tensor, b: Tensor) -> bool:
    return (a.shape, a.dtype, a.device) == (b.shape, b.dtype, b.device)
