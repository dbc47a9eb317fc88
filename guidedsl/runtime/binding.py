"""Binding: a caller's arrays become the `Data` of a model, or one error that lists everything that does not fit."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from guidedsl.runtime.arrays import ArrayProblem, array, number_text, place, whole_number
from guidedsl.runtime.constraints import Constraint
from guidedsl.runtime.data import Batches, Data
from guidedsl.runtime.errors import DataError
from guidedsl.runtime.metadata import Dim, Field, PlateSpec, Schema, attribute_of
from guidedsl.runtime.plates import Plate
from guidedsl.runtime.sizes import SizeError, bare_name, evaluate, names
from guidedsl.runtime.unread import Unread, fed_axes, stays
from guidedsl.runtime.values import value_problems

_MAX_PROBLEMS = 50
BoundData = TypeVar("BoundData", bound=Data)


class Binding:
    """One binding on its way. Problems gather in `problems`; nothing is raised before `finish`."""

    def __init__(self, schema: Schema, dtype: torch.dtype, device: torch.device) -> None:
        self.schema = schema
        self.dtype = dtype
        self.device = device
        self.problems: list[str] = []
        self.raw: dict[str, Tensor | Unread] = {}
        self.dims: dict[str, int] = {}
        self.conflicting: set[str] = set()
        self.sources: dict[str, list[tuple[int, str]]] = {dim.name: [] for dim in schema.dims}
        self.batch: dict[str, tuple[int, str]] = {}

    # Arrays.

    def read(self, given: Mapping[str, object]) -> None:
        """Takes the arrays of the model's fields; what else was given is unused and accepted."""
        known = {entry.name for entry in self.schema.fields if entry.role != "derived"}
        known |= {dim.name for dim in self.schema.dims}
        extra = [name for name in given if name not in known]
        for entry in self.schema.fields:
            if entry.role == "derived":
                continue
            if given.get(entry.name) is None:
                if not entry.optional:
                    self.problems.append(self._missing(entry, extra))
                continue
            fed = fed_axes(entry, self.schema)
            raw = given[entry.name]
            value: Tensor | Unread
            try:
                if fed and stays(raw):
                    value = Unread(entry.name, raw, next(iter(fed)))
                else:
                    value = array(entry.name, raw)
            except ArrayProblem as problem:
                self.problems.append(str(problem))
                continue
            if value.ndim != len(entry.plates) + len(entry.event):
                self.problems.append(self._axes_problem(entry, value))
                continue
            self.raw[entry.name] = value

    def _missing(self, entry: Field, extra: list[str]) -> str:
        close = difflib.get_close_matches(entry.name, extra, n=1, cutoff=0.6)
        lower = [name for name in extra if name.lower() == entry.name.lower()]
        hint = next(iter([*lower, *close]), None)
        message = f"{entry.name} is missing: {self.schema.model} needs it, {describe_shape(entry)}"
        return f"{message}; `{hint}` was given: did you mean `{entry.name}`?" if hint else message

    def _axes_problem(self, entry: Field, value: Tensor | Unread) -> str:
        want = len(entry.plates) + len(entry.event)
        axes = f"{want} {'axis' if want == 1 else 'axes'}"
        if value.ndim == 0:
            return (
                f"{entry.name} is one number; expected {describe_shape(entry)}: nothing is broadcast, "
                "so repeat the number in an array"
            )
        if want == 0:
            return f"{entry.name} has shape {list(value.shape)}; expected one number"
        return f"{entry.name} has shape {list(value.shape)}; expected {axes}, {describe_shape(entry)}"

    # Sizes.

    def _axis_sizes(self, entry: Field) -> list[tuple[str, PlateSpec | None]]:
        """(size string, plate or None), an axis at a time, as written."""
        plates = [self.schema.plate(name) for name in entry.plates]
        return [
            *((plate.size, plate) for plate in plates if plate is not None),
            *((size, None) for size in entry.event),
        ]

    def bind_dims(self, caller: Mapping[str, object], given: Mapping[str, object]) -> None:
        """Finds every dim's size: caller, data field of its name, array shapes, default."""
        for dim in self.schema.dims:
            for values, source in ((caller, "the caller"), (given, f"the data field {dim.name}")):
                if values.get(dim.name) is None:
                    continue
                try:
                    self.sources[dim.name].append((whole_number(dim.name, values[dim.name]), source))
                except ArrayProblem as problem:
                    self.problems.append(str(problem))
                    self.conflicting.add(dim.name)
        for entry in self.schema.fields:
            value = self.raw.get(entry.name)
            if value is None:
                continue
            for axis, (size, plate) in enumerate(self._axis_sizes(entry)):
                length = value.shape[axis]
                source = entry.name if value.ndim == 1 else f"axis {axis} of {entry.name}"
                if plate is not None and plate.minibatch is not None:
                    self._bind_batch(plate, length, source)
                elif (name := bare_name(size)) in self.sources and name is not None:
                    self.sources[name].append((length, source))
        for dim in self.schema.dims:
            self._settle(dim, overridden=caller.get(dim.name) is not None)

    def _bind_batch(self, plate: PlateSpec, length: int, source: str) -> None:
        first = self.batch.setdefault(plate.name, (length, source))
        if first[0] != length:
            self.problems.append(
                f"the batch of plate {plate.name} has {first[0]} rows in {first[1]}, {length} in {source}; "
                "feed the same rows of every array"
            )

    def _settle(self, dim: Dim, overridden: bool) -> None:
        sources = list(self.sources[dim.name])
        if dim.default is not None and not overridden:
            sources.append((dim.default, "its default"))
        if dim.name in self.conflicting:
            return
        if not sources:
            self.conflicting.add(dim.name)
            self._unbound(dim)
            return
        distinct: dict[int, str] = {}
        for value, source in sources:
            distinct.setdefault(value, source)
        if len(distinct) > 1:
            self.conflicting.add(dim.name)
            listed = ", ".join(f"{value} from {source}" for value, source in distinct.items())
            mend = (
                f"{_given(dim.name)} overrides the default" if "its default" in distinct.values() else "mend the data"
            )
            self.problems.append(f"{dim.name} is {listed}; {mend}")
        self.dims[dim.name] = sources[0][0]

    def _unbound(self, dim: Dim) -> None:
        binders = [
            entry.name
            for entry in self.schema.fields
            if entry.role != "derived"
            for size, plate in self._axis_sizes(entry)
            if bare_name(size) == dim.name and (plate is None or plate.minibatch is None)
        ]
        optional = {entry.name for entry in self.schema.fields if entry.optional}
        if any(name not in self.raw and name not in optional for name in binders):
            return  # the arrays that would bind it are reported already
        fed = [
            plate.name for plate in self.schema.plates if plate.minibatch is not None and dim.name in names(plate.size)
        ]
        why = f"plate {fed[0]} is fed in batches, so no array tells its size" if fed else "no array's shape tells it"
        self.problems.append(f'dim {dim.name} is not known: {why}; put "{dim.name}" in the data, or {_given(dim.name)}')

    def _size(self, size: str) -> int | None:
        """The value of a size string, or None where one of its dims has no agreed value."""
        if any(name in self.conflicting for name in names(size)):
            return None
        return evaluate(size, self.dims)

    def check_shapes(self) -> None:
        """Every axis against its size. Drops the arrays that do not fit."""
        for spec in self.schema.plates:
            try:
                self._size(spec.size)
            except SizeError as error:
                self.problems.append(f"the size of plate {spec.name}: {error}")
                self.conflicting.update(names(spec.size))
        for entry in self.schema.fields:
            value = self.raw.get(entry.name)
            if value is None:
                continue
            expected: list[int | None] = []
            for size, plate in self._axis_sizes(entry):
                try:
                    rows = self._size(size)
                except SizeError as error:
                    self.problems.append(f"{entry.name}: {error}")
                    rows = None
                if plate is not None and plate.minibatch is not None:
                    length = self.batch[plate.name][0]
                    if rows is not None and length > rows:
                        self.problems.append(f"{entry.name} has {length} rows of plate {plate.name}, which has {rows}")
                    rows = None
                expected.append(rows)
            if any(rows is not None and rows != length for rows, length in zip(expected, value.shape, strict=True)):
                want = describe_shape(entry, self.schema, self.dims)
                hint = "; a size-1 axis is not broadcast" if 1 in value.shape else ""
                self.problems.append(f"{entry.name} has shape {list(value.shape)}; expected {want}{hint}")
                del self.raw[entry.name]

    # Values.

    def index_size(self, entry: Field) -> int | None:
        """How many positions an index field may point at; None for other fields or an unknown size."""
        if entry.index_of is None:
            return None
        plate = self.schema.plate(entry.index_of)
        return self._size(entry.index_of if plate is None else plate.size)

    def values(self) -> dict[str, Tensor | Unread]:
        """The fields in the data's dtype and in internal order, their values checked.

        Arrays that stay where they are come as they are, unless they are one batch of their plate.
        """
        found: dict[str, Tensor | Unread] = {}
        for entry in self.schema.fields:
            raw = self.raw.get(entry.name)
            if raw is None:
                continue
            if isinstance(raw, Unread):
                if all(self.batch[plate][0] == self._plate_size(plate) for plate in fed_axes(entry, self.schema)):
                    found[entry.name] = raw
                    continue
                raw = raw.take({})
            constraint = entry.constraint if isinstance(entry.constraint, Constraint) else None
            if entry.when is not None:  # what does not count is replaced before the others are checked
                constraint = None
            skip_nan = entry.nan_ok or entry.when is not None
            dtype = torch.int64 if entry.index_of is not None else self.dtype
            size = self.index_size(entry)
            base, target, role = entry.index_base, entry.index_of, entry.role
            bad = value_problems(entry.name, raw, dtype, constraint, skip_nan, base, size, target, role)
            self.problems += bad
            if not bad:
                value = raw.to(self.device, dtype, copy=True)
                if entry.index_base and entry.index_of is not None:
                    value -= entry.index_base
                found[entry.name] = entry.to_internal(value).contiguous()
        return found

    def _plate_size(self, name: str) -> int | None:
        spec = self.schema.plate(name)
        return None if spec is None else self._size(spec.size)

    def plates(self) -> dict[str, Plate]:
        """The plates: with rows where the arrays are one batch that the caller drew."""
        found: dict[str, Plate] = {}
        for plate in self.schema.plates:
            size = evaluate(plate.size, self.dims)
            length = self.batch[plate.name][0] if plate.name in self.batch else size
            rows = None if length == size else torch.arange(length, device=self.device)
            found[plate.name] = Plate(plate.name, size, rows=rows)
        return found

    def finish(self) -> None:
        """Raises `DataError` if anything was found wrong."""
        if self.problems:
            shown = list(dict.fromkeys(self.problems))
            if len(shown) > _MAX_PROBLEMS:
                shown = [*shown[:_MAX_PROBLEMS], f"and {len(shown) - _MAX_PROBLEMS} more problems"]
            raise DataError(tuple(shown))


def _given(dim: str) -> str:
    """How a caller states a dim's size."""
    return f"--dim {dim}=… (from Python: {dim}=…)"


def describe_shape(entry: Field, schema: Schema | None = None, dims: Mapping[str, int] | None = None) -> str:
    """`[schools, K] with J = 8, K = 3`: a field's axes by name, and the sizes of its dims where known."""
    axes = f"[{', '.join([*entry.plates, *entry.event])}]" if entry.plates or entry.event else "one number"
    if schema is None or dims is None:
        return axes
    sizes = [plate.size for name in entry.plates if (plate := schema.plate(name)) is not None] + list(entry.event)
    used = dict.fromkeys(name for size in sizes for name in names(size))
    bound = ", ".join(f"{name} = {dims[name]}" for name in used if name in dims)
    return f"{axes} with {bound}" if bound else axes


def _batches(schema: Schema, plates: Mapping[str, Plate], dims: Mapping[str, int], unread: frozenset[str]) -> Batches:
    """What a step draws: the plates with all rows at hand whose declared batch is smaller, or that are unread."""
    rows: list[tuple[str, str, int, int]] = []
    position: dict[str, int] = {}
    for spec in schema.plates:
        plate = plates[spec.name]
        declared = spec.subsample if spec.subsample is not None else spec.minibatch
        if declared is None or plate.rows is not None:
            continue
        count = declared if isinstance(declared, int) else evaluate(declared, dims)
        if count < plate.size or spec.name in unread:
            position[spec.name] = len(rows)
            rows.append((attribute_of(spec.name), spec.name, plate.size, min(count, plate.size)))
    axes = tuple(
        (entry.attribute, tuple((axis, position[plate]) for axis, plate in found))
        for entry in schema.fields
        if (found := [(axis, plate) for axis, plate in enumerate(entry.internal_plates) if plate in position])
    )
    return Batches(tuple(rows), axes)


def _constraint(entry: Field, data: Data) -> Constraint:
    return entry.constraint if isinstance(entry.constraint, Constraint) else entry.constraint(data)


def _excuse_missing(binding: Binding, data: Data, changes: dict[str, Tensor]) -> None:
    """Replaces the entries that `when` excuses, and reports the NaNs that it does not."""
    for entry in binding.schema.fields:
        if entry.when is None:
            continue
        value: Tensor = getattr(data, entry.attribute)
        mask = entry.when(data).to(torch.bool)
        mask = mask.reshape((*mask.shape, *(1,) * (value.ndim - mask.ndim))).expand(value.shape)
        unexcused = (value.isnan() & mask).nonzero()
        if len(unexcused):
            where = place(entry.name, unexcused[0].tolist())
            binding.problems.append(f"{where} is missing (NaN), but its `when` says that it counts")
        inside = _constraint(entry, data).default(tuple(value.shape), dtype=value.dtype, device=value.device)
        changes[entry.attribute] = torch.where(mask, value, inside)


def _check_late(binding: Binding, data: Data) -> None:
    """Checks what needs bound data: derived fields, and constraints whose bounds are expressions of data."""
    for entry in binding.schema.fields:
        value: Tensor = getattr(data, entry.attribute)
        if entry.role == "derived":
            want = [getattr(data, attribute_of(name)).length for name in entry.internal_plates]
            want += [evaluate(size, binding.dims) for size in entry.event]
            if list(value.shape) != want:
                binding.problems.append(
                    f"{entry.name} has shape {list(value.shape)}; expected [{', '.join([*entry.plates, *entry.event])}]"
                    f" = {want}: this is a bug of guidedsl, please report it"
                )
                continue
        elif isinstance(entry.constraint, Constraint) and entry.when is None:
            continue
        constraint = _constraint(entry, data)
        size = binding.index_size(entry)
        skip_nan = entry.nan_ok or entry.when is not None
        binding.problems += value_problems(
            entry.name, value, value.dtype, constraint, skip_nan, 0, size, entry.index_of
        )


def _any_value(binding: Binding, entry: Field, data: Data) -> Tensor:
    """Some value of the field's type, for an observation that is not there."""
    shape = [getattr(data, attribute_of(name)).length for name in entry.internal_plates]
    shape += [evaluate(size, binding.dims) for size in entry.event]
    if entry.index_of is not None:
        return torch.zeros(shape, dtype=torch.int64, device=data.device)
    return _constraint(entry, data).default(tuple(shape), dtype=data.dtype, device=data.device)


def _check_totals(binding: Binding, data: Data) -> None:
    """Checks that the counts of each multinomial draw add up to its total."""
    for entry in binding.schema.fields:
        if entry.total is None or (entry.role == "observed" and entry.name in data.missing):
            continue
        value: Tensor = getattr(data, entry.attribute)
        total = torch.as_tensor(entry.total(data), dtype=value.dtype, device=value.device).expand(value.shape[:-1])
        wrong = value.sum(-1) != total
        if entry.when is not None:
            mask = entry.when(data).to(torch.bool)
            wrong &= mask.reshape((*mask.shape, *(1,) * (wrong.ndim - mask.ndim)))
        if bool(wrong.any()):
            at = wrong.nonzero()[0].tolist()
            found, wanted = (number_text(float(v[tuple(at)])) for v in (value.sum(-1), total))
            more = f" ({int(wrong.sum()) - 1} more like it)" if int(wrong.sum()) > 1 else ""
            binding.problems.append(f"{place(entry.name, at)} sums to {found}, but its total is {wanted}{more}")


def read_rows(data: BoundData, rows: Mapping[str, Tensor]) -> BoundData:
    """`data`, a batch but for its unread fields, with these at `rows` of their plates. Raises `DataError`."""
    schema = data.schema
    binding = Binding(schema, data.dtype, data.device)
    binding.dims = {dim.name: getattr(data, attribute_of(dim.name)) for dim in schema.dims}
    for entry in schema.fields:
        value = getattr(data, entry.attribute)
        if isinstance(value, Unread):
            binding.raw[entry.name] = value.take({axis: rows[plate] for plate, axis in fed_axes(entry, schema).items()})
    values = binding.values()
    try:
        binding.finish()
        changes = {entry.attribute: values[entry.name] for entry in schema.fields if entry.name in values}
        return complete(binding, data._with(changes))
    except DataError as error:
        raise DataError(tuple(_placed(problem, schema, rows) for problem in error.problems)) from None


def _placed(problem: str, schema: Schema, rows: Mapping[str, Tensor]) -> str:
    """`problem`, which counts rows in a batch, with the row of all data that it means."""
    found = re.match(r"(\w+)\[(\d+)", problem)
    entry = next((entry for entry in schema.fields if found is not None and entry.name == found[1]), None)
    if found is None or entry is None or entry.plates[0] not in rows:
        return f"in a batch: {problem}"
    row = int(rows[entry.plates[0]][int(found[2])])
    return f"{problem}: row {found[2]} of this batch is row {row} of plate {entry.plates[0]}"


def bind(
    schema: Schema,
    data_type: type[Data],
    given: Mapping[str, object],
    caller: Mapping[str, object],
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    *,
    observed: bool = True,
) -> Data:
    """The bound data of a model.

    `given`: fields by name, as read from a file; `caller`: fields and dims by name that the caller states, which
    override a dim's default. Without `observed`, observed fields may be missing: they hold some value of their type,
    and are in `Data.missing`. Default dtype: float64 on the CPU, else float32. Raises `DataError` with one message a
    problem.
    """
    device = torch.device("cpu" if device is None else device)
    dtype = (torch.float64 if device.type == "cpu" else torch.float32) if dtype is None else dtype
    if not dtype.is_floating_point:
        raise DataError((f"dtype is {dtype}; data needs a floating type such as torch.float64",))
    if not observed:
        kept = (replace(entry, optional=entry.optional or entry.role == "observed") for entry in schema.fields)
        schema = replace(schema, fields=tuple(kept))
    binding = Binding(schema, dtype, device)
    dims = {dim.name for dim in schema.dims}
    twice = sorted(name for name in given.keys() & caller.keys() if name not in dims)
    binding.problems += [f"{name} is given twice, in the data and by name" for name in twice]
    binding.read({**given, **caller})
    binding.bind_dims(caller, given)
    binding.check_shapes()
    values = binding.values()
    binding.finish()
    plates = binding.plates()
    absent = torch.empty(0, dtype=dtype, device=device)
    unread = frozenset(
        plate
        for entry in schema.fields
        if isinstance(values.get(entry.name), Unread)
        for plate in fed_axes(entry, schema)
    )
    fields: dict[str, Any] = {entry.attribute: values.get(entry.name, absent) for entry in schema.fields}
    fields |= {attribute_of(name): size for name, size in binding.dims.items()}
    fields |= {attribute_of(name): plate for name, plate in plates.items()}
    missing = frozenset(entry.name for entry in schema.fields if entry.optional and entry.name not in values)
    data = data_type(
        dtype=dtype,
        device=device,
        schema=schema,
        missing=missing,
        batches=_batches(schema, plates, binding.dims, unread),
        **fields,
    )
    return data if unread else complete(binding, data)


def complete(binding: Binding, data: BoundData) -> BoundData:
    """`data` with its derived fields and its excused entries filled, and checked. Raises `DataError`."""
    unseen = [entry for entry in data.schema.fields if entry.role == "observed" and entry.name in data.missing]
    if unseen:
        data = data._with({entry.attribute: _any_value(binding, entry, data) for entry in unseen})
    if data.schema.derive is not None:
        data = data.schema.derive(data)
    excused: dict[str, Tensor] = {}
    _excuse_missing(binding, data, excused)
    binding.finish()
    data = data._with(excused) if excused else data
    _check_late(binding, data)
    _check_totals(binding, data)
    binding.finish()
    return data
