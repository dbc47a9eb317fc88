"""What a generated module says about its model: dims, plates, data fields and sites, as plain values."""

from __future__ import annotations

import keyword
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor

    from guidedsl.runtime.constraints import Constraint

Role = Literal["data", "observed", "derived"]

RESERVED_ATTRIBUTES = frozenset(
    {
        "all_rows",
        "batches",
        "device",
        "dtype",
        "fed",
        "full",
        "generator",
        "minibatched",
        "missing",
        "new_eye",
        "new_full",
        "new_normal",
        "new_tensor",
        "new_zeros",
        "noise",
        "schema",
        "subsample",
        "to",
        "unread",
        "whole",
        "with_generator",
    }
)
"""Attributes that `Data` itself has. A declaration of such a name has `_` appended, as a Python keyword has."""


def attribute_of(name: str) -> str:
    """The attribute of a `Data` that holds the dim, plate or field `name`."""
    return f"{name}_" if keyword.iskeyword(name) or name in RESERVED_ATTRIBUTES else name


@dataclass(frozen=True)
class Dim:
    """A size, bound by the caller, a data field of its name, array shapes, or `default`, in this order."""

    name: str
    default: int | None = None


@dataclass(frozen=True)
class PlateSpec:
    """A plate. `size` is a size string; `subsample` and `minibatch` are rows a step (a number or a size string).

    The arrays of a `minibatch` plate may be one batch that the caller drew, shorter than `size`, or all rows, which
    `fit` then feeds in batches.
    """

    name: str
    size: str
    subsample: int | str | None = None
    minibatch: int | str | None = None


@dataclass(frozen=True)
class Field:
    """An array of the model's data.

    Its axes, as written in the `.guide` file: `plates` (names), then `event` (size strings). `order` permutes the
    plate axes to the generated code's order: internal axis i is written axis `order[i]`; event axes stay last.
    `index_of` (a plate or a size string) makes it an array of positions there, counted from `index_base` in the
    caller's data and from 0 inside. `optional` fields that the caller leaves out are in `Data.missing`, and `derive`
    fills them. `when` gives, from the bound data, the mask (internal order, a prefix of the axes) of the entries that
    enter the density: the others may be NaN and are replaced by a value inside the constraint. `nan_ok` accepts NaN
    anywhere. `total` gives what the entries along the last axis add up to. A constraint whose bounds depend on data is
    a function of the bound data.
    """

    name: str
    role: Role
    plates: tuple[str, ...]
    event: tuple[str, ...]
    constraint: Constraint | Callable[[Any], Constraint]
    optional: bool = False
    index_base: int = 0
    index_of: str | None = None
    order: tuple[int, ...] | None = None
    when: Callable[[Any], Tensor] | None = None
    nan_ok: bool = False
    total: Callable[[Any], Tensor | float] | None = None

    @property
    def attribute(self) -> str:
        """The attribute of `Data` that holds it."""
        return attribute_of(self.name)

    @property
    def internal_plates(self) -> tuple[str, ...]:
        """The plates in the order of the axes that generated code sees."""
        return self.plates if self.order is None else tuple(self.plates[axis] for axis in self.order)

    def to_internal(self, value: Tensor) -> Tensor:
        """`value` with its plate axes in the generated code's order."""
        if self.order is None:
            return value
        return value.permute(*self.order, *range(len(self.plates), value.ndim))


@dataclass(frozen=True)
class Site:
    """A latent or a quantity (a `let`) of the model: axes as in `Field`, after the particle axes.

    `classes` (a size string) and `low` are how many values a latent has that a guide may sum out, and the least. Where
    `moving`, its bounds are made of data or latents, and `constraint` says nothing of them.
    """

    name: str
    plates: tuple[str, ...]
    event: tuple[str, ...]
    constraint: Constraint
    order: tuple[int, ...] | None = None
    classes: str | None = None
    low: int = 0
    moving: bool = False

    @property
    def steps(self) -> tuple[str, ...]:
        """The event axes in front of the type's own: of a latent that is summed out, the steps of its scan."""
        return self.event[: len(self.event) - self.constraint.event_dim]

    @property
    def internal_plates(self) -> tuple[str, ...]:
        """The plates in the order of the axes that generated code sees."""
        return self.plates if self.order is None else tuple(self.plates[axis] for axis in self.order)

    def to_written(self, value: Tensor) -> Tensor:
        """`value` ([particles..., internal plates..., event...]) with its plate axes as written in the `.guide`."""
        if self.order is None:
            return value
        first = value.ndim - len(self.plates) - len(self.event)
        inverse = sorted(range(len(self.order)), key=lambda written: self.order[written])  # type: ignore[index]
        axes = (*range(first), *(first + axis for axis in inverse), *range(first + len(self.plates), value.ndim))
        return value.permute(*axes)


@dataclass(frozen=True)
class Schema:
    """All that binding needs to know of a model. `derive` fills the data-only lets of a bound `Data`."""

    model: str
    dims: tuple[Dim, ...]
    plates: tuple[PlateSpec, ...]
    fields: tuple[Field, ...]
    derive: Callable[[Any], Any] | None = None

    def plate(self, name: str) -> PlateSpec | None:
        """The plate of this name, or None."""
        return next((plate for plate in self.plates if plate.name == name), None)
