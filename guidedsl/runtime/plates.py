"""A plate at run time: a name, a size, and the rows of it that a step looks at."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from guidedsl.runtime.errors import DataError

_ROW_TYPES = (torch.int64, torch.int32)


@dataclass(frozen=True, eq=False)
class Plate:
    """Independent rows: `size` of them, of which a step sees `rows` (a 1-D integer tensor), or all where None.

    `dim` is the batch dim that the plate stands on, counted from the right (-1 is the last); None where the order of
    `plates=(…)` says it. Raises DataError for an impossible plate. The values of `rows` are not read, so that making a
    plate never waits for the device.
    """

    name: str
    size: int
    rows: Tensor | None = None
    dim: int | None = None

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem is not None:
            raise DataError((f"plate {self.name!r}: {problem}",))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Plate) or (self.name, self.size, self.dim) != (other.name, other.size, other.dim):
            return False
        if self.rows is None or other.rows is None:
            return self.rows is other.rows
        return self.rows is other.rows or torch.equal(self.rows, other.rows)

    def __hash__(self) -> int:
        return hash((self.name, self.size, self.dim))

    def _problem(self) -> str | None:
        if isinstance(self.size, bool) or not isinstance(self.size, int) or self.size < 0:
            return f"the size must be a whole number from 0 on, got {self.size!r}: pass size=N."
        if self.dim is not None and (isinstance(self.dim, bool) or not isinstance(self.dim, int) or self.dim >= 0):
            return f"dim counts batch dims from the right, so it must be negative, got {self.dim!r}: -1 is the last."
        if self.rows is None:
            return None
        if not isinstance(self.rows, Tensor) or self.rows.dtype not in _ROW_TYPES or self.rows.dim() != 1:
            return f"rows must be a 1-D tensor of int64 indices, got {_describe(self.rows)}: see torch.randint."
        if not 0 < len(self.rows) <= self.size:
            return (
                f"rows has {len(self.rows)} indices, but the plate has {self.size} rows: give 1 to {self.size} of them."
            )
        return None

    @property
    def length(self) -> int:
        """The number of rows that a step sees."""
        return self.size if self.rows is None else self.rows.shape[0]

    @property
    def scale(self) -> float:
        """size / length: what the rows' terms are multiplied by, so that their sum estimates that of all rows."""
        return 1.0 if self.rows is None else self.size / self.rows.shape[0]


def _describe(rows: object) -> str:
    return f"{rows.dtype} of shape {list(rows.shape)}" if isinstance(rows, Tensor) else type(rows).__name__
