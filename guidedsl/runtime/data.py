"""The data of a model, bound: sizes, plates and tensors, of one dtype on one device."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor

from guidedsl.runtime.metadata import Dim, Field, PlateSpec, Role, Schema, Site
from guidedsl.runtime.noise import Noise
from guidedsl.runtime.plates import Plate
from guidedsl.runtime.unread import Unread

__all__ = ["Data", "Dim", "Field", "PlateSpec", "Role", "Schema", "Site"]


@dataclass(frozen=True)
class Batches:
    """Which plates a step draws rows of, and which axes of which fields go with them.

    `rows`: (attribute of the plate, its name, its size, rows a step). `axes`: (attribute of the field, ((axis, position
    in `rows`), ...)).
    """

    rows: tuple[tuple[str, str, int, int], ...] = ()
    axes: tuple[tuple[str, tuple[tuple[int, int], ...]], ...] = ()

    def within(self, plates: Collection[str]) -> Batches:
        """The same for these plates alone."""
        kept = [position for position, row in enumerate(self.rows) if row[1] in plates]
        axes = (
            (attribute, tuple((axis, kept.index(plate)) for axis, plate in found if plate in kept))
            for attribute, found in self.axes
        )
        return Batches(tuple(self.rows[position] for position in kept), tuple(row for row in axes if row[1]))


@dataclass(frozen=True, kw_only=True, eq=False)
class Data:
    """Base of the generated data types.

    A subclass has, for each dim an int, for each plate a `Plate`, for each field a tensor: axes are the plates
    (outermost first), then the event dims. `missing` names the optional fields that the caller did not give.
    `generator` is what `noise()` and `new_normal` draw from: torch's global one where None.
    """

    dtype: torch.dtype
    device: torch.device
    schema: Schema = field(repr=False)
    missing: frozenset[str] = field(default=frozenset(), repr=False)
    generator: torch.Generator | None = field(default=None, repr=False)
    batches: Batches = field(default=Batches(), repr=False)
    whole: Self | None = field(default=None, repr=False)

    @property
    def full(self) -> Self:
        """The data with all rows of subsampled plates: itself unless this is a batch."""
        return self if self.whole is None else self.whole

    def new_full(self, shape: Sequence[int], value: float | Tensor) -> Tensor:
        """`shape`, each entry `value`, in the data's dtype and device. A tensor is broadcast, and copied."""
        if isinstance(value, Tensor):
            return value.detach().to(self.device, self.dtype).expand(tuple(shape)).clone()
        return torch.full(tuple(shape), float(value), dtype=self.dtype, device=self.device)

    def new_zeros(self, shape: Sequence[int]) -> Tensor:
        """`shape`, zeros."""
        return torch.zeros(tuple(shape), dtype=self.dtype, device=self.device)

    def new_tensor(self, values: object) -> Tensor:
        """Nested lists or an array as a tensor of the data's dtype and device; always a copy."""
        if isinstance(values, Tensor):
            return values.detach().to(self.device, self.dtype, copy=True)
        return torch.tensor(values, dtype=self.dtype, device=self.device)

    def new_eye(self, n: int) -> Tensor:
        """The identity, [n, n]."""
        return torch.eye(n, dtype=self.dtype, device=self.device)

    def new_normal(self, shape: Sequence[int], loc: float | Tensor = 0.0, scale: float | Tensor = 1.0) -> Tensor:
        """Independent normal draws, `shape`; for initial values of parameters."""
        return loc + scale * self.noise().normal(tuple(shape))

    def noise(self, generator: torch.Generator | None = None) -> Noise:
        """A source of randomness in the data's dtype and device."""
        return Noise(self.generator if generator is None else generator, self.dtype, self.device)

    def with_generator(self, generator: torch.Generator | None) -> Self:
        """The same data whose `noise()` and `new_normal` draw from `generator`."""
        return self._with({"generator": generator})

    def subsample(self, noise: Noise) -> Self:
        """One draw of rows for each subsampled plate, the same for model, guide and particles.

        Itself where no plate is subsampled, or where each batch would have all rows.
        """
        if not self.batches.rows or self.whole is not None:
            return self
        if self.unread:
            fed = {name: noise.distinct_rows(size, count) for name, size, count in self.minibatched}
            return self.fed(fed).subsample(noise)
        return self.at_rows([noise.distinct_rows(size, count) for _, _, size, count in self.batches.rows])

    def at_rows(self, rows: Sequence[Tensor]) -> Self:
        """The data at these rows of the subsampled plates, in the order of `batches`."""
        if not rows:
            return self
        named = {name: given for (_, name, _, _), given in zip(self.batches.rows, rows, strict=True)}
        return self._with({**self._at(self.batches, named), "whole": self})

    def with_fields(self, fields: Mapping[str, Tensor]) -> Self:
        """The data with other tensors, of the same shapes, under these attributes: fields, and the rows of plates."""
        changes: dict[str, Any] = {}
        for attribute, tensor in fields.items():
            old = getattr(self, attribute)
            changes[attribute] = Plate(old.name, old.size, tensor, old.dim) if isinstance(old, Plate) else tensor
        return self._with(changes)

    @property
    def minibatched(self) -> tuple[tuple[str, int, int], ...]:
        """The minibatched plates with all rows at hand: name, size, rows a batch."""
        rows = ((name, size, count) for _, name, size, count in self.batches.rows)
        return tuple(
            row for row in rows if (spec := self.schema.plate(row[0])) is not None and spec.minibatch is not None
        )

    @property
    def unread(self) -> bool:
        """Whether fields of minibatched plates are still where the caller has them."""
        return any(isinstance(getattr(self, attribute), Unread) for attribute, _ in self.batches.axes)

    def fed(self, rows: Mapping[str, Tensor]) -> Self:
        """The data as if just these rows of its minibatched plates (all of those, by name) had been bound.

        Raises `DataError` where rows that are read now do not fit the model.
        """
        batches = self.batches.within(rows)
        others = [name for _, name, _, _ in self.batches.rows if name not in rows]
        changes = self._at(batches, rows) | {"batches": self.batches.within(others)}
        if not self.unread:
            return self._with(changes)
        from guidedsl.runtime.binding import read_rows

        return read_rows(self._with(changes), rows)

    def _at(self, batches: Batches, rows: Mapping[str, Tensor]) -> dict[str, Any]:
        """The plates and fields of `batches`, by attribute, at these rows; what is unread stays so."""
        changes: dict[str, Any] = {
            attribute: Plate(name, size, rows=rows[name]) for attribute, name, size, _ in batches.rows
        }
        for attribute, axes in batches.axes:
            value: Tensor = getattr(self, attribute)
            if isinstance(value, Unread) or not value.numel():  # filled when rows are read
                continue
            for axis, plate in axes:
                value = value.index_select(axis, rows[batches.rows[plate][1]])
            changes[attribute] = value
        return changes

    def all_rows(self) -> Self:
        """The data of which every step sees all rows, whatever plates are subsampled."""
        return self.full._with({"batches": Batches()})

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """The data on another device, its floating fields in another dtype. Itself where nothing changes."""
        device = self.device if device is None else torch.device(device)
        dtype = self.dtype if dtype is None else dtype
        if device == self.device and dtype == self.dtype:
            return self
        changes: dict[str, Any] = {"device": device, "dtype": dtype}
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                changes[name] = value.to(device, dtype if value.is_floating_point() else None)
            elif isinstance(value, Plate) and value.rows is not None:
                changes[name] = Plate(value.name, value.size, rows=value.rows.to(device))
        if self.whole is not None:
            changes["whole"] = self.whole.to(device, dtype)
        return self._with(changes)

    def _with(self, changes: dict[str, Any]) -> Self:
        # dataclasses.replace runs __init__ over every field; a subsampled step calls this each time.
        copy = object.__new__(type(self))
        copy.__dict__.update(self.__dict__)
        copy.__dict__.update(changes)
        return copy
