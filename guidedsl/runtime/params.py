"""The param store: named, constrained, learnable values.

A parameter is stored as unconstrained coordinates, its *leaf*, at full size: all rows of its plates. Reading gives the
constrained value, of a step's rows where a plate is subsampled. Anything that cannot be right is a `ParamError` that
names the parameter, and leaves the store as it was.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from types import MappingProxyType
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from guidedsl.runtime import constraints
from guidedsl.runtime.constraint_base import shorten
from guidedsl.runtime.errors import ParamError
from guidedsl.runtime.packing import Packed
from guidedsl.runtime.param_entries import (
    Entry,
    Leaf,
    check_lr,
    check_name,
    conflict,
    constraint_and_event_dim,
    is_name,
    loaded_entry,
    mismatches,
    module_entry,
    module_problem,
    new_leaf,
    overwrite,
    replace_parameter,
    value_of,
)
from guidedsl.runtime.param_files import FORMAT, device_of, read_file, read_records, write_file
from guidedsl.runtime.param_values import free_coordinates, initial_tensor, row_picks
from guidedsl.runtime.plates import Plate

__all__ = [
    "Entry",
    "Leaf",
    "ParamStore",
    "UnknownParamError",
]

Value: TypeAlias = Tensor | float
Init: TypeAlias = Value | Callable[[], Value]
AnyModule = TypeVar("AnyModule", bound=nn.Module)


class UnknownParamError(ParamError, KeyError):
    """No parameter has this name. A KeyError too, as for any mapping."""

    def __str__(self) -> str:
        return str(self.args[0])


class ParamStore:
    """Named parameters. A process may hold any number of stores; `get_param_store()` is the one used by default.

    As a mapping its values are constrained. `version` is a number that changes whenever a parameter is added, removed,
    frozen or given another leaf; assignment and loading into registered parameters keep it, and the leaves. `modules`
    are those registered by name, `nets` what generated code makes of them.
    """

    def __init__(self) -> None:
        self.version = 0
        self.modules: dict[str, nn.Module] = {}
        self.nets: dict[str, Any] = {}
        self._entries: dict[str, Entry] = {}
        self._leaves: tuple[dict[str, Tensor], ...] | None = None
        self._packed = Packed()

    # Registering and reading

    def param(
        self,
        name: str,
        init: Init | None = None,
        constraint: Any = constraints.real,
        event_dim: int | None = None,
        *,
        plates: Sequence[Plate] = (),
        lr: float | None = None,
        frozen: bool = False,
    ) -> Tensor:
        """The constrained value of parameter `name`, made from `init` on first use.

        `init` is a number, a tensor of full size (never aliased) or a callable that gives one and runs only if the name
        is absent. `event_dim` counts the dims from the right that are not rows of plates; None is the constraint's own.
        `plates` are those that it stands in, outermost first: their dims are the last before the event dims, and have
        the plate's full size, or 1 to share one value. Of a subsampled plate the plate's rows are returned. `lr` is the
        parameter's own learning rate (0 freezes it), `frozen` keeps it from being learned.

        The result has a method `unconstrained()` that returns the leaf; for `real` with all rows it is the leaf.
        Without an `init` an existing parameter is read, whatever its constraint. Raises ParamError for a value that is
        not finite or outside its constraint, for a size that no plate explains, and for a second registration that
        differs.
        """
        entry = self._entries.get(name)
        if entry is None:
            entry = self._register(name, init, constraint, event_dim, plates, lr, frozen)
        elif not (
            entry.claimed
            and constraint is entry.constraint
            and (event_dim is None or event_dim == entry.event_dim)
            and lr == entry.lr
            and frozen is entry.frozen
            and (init is None or callable(init))
        ):
            entry = self._register_again(entry, init, constraint, event_dim, plates, lr, frozen)
        return value_of(entry, plates)

    def setdefault(self, name: str, init: Init, constraint: Any = constraints.real) -> Tensor:
        """The value of parameter `name`, which keeps its old value if it exists. Raises as `param`."""
        return self.param(name, init, constraint)

    def module(self, name: str, nn_module: AnyModule) -> AnyModule:
        """Makes the parameters of a torch module those of this store, as `name.layer.weight`, and returns it.

        A parameter that the store has already, from a file or another module, replaces the module's. Buffers are not
        stored. Raises ParamError, with nothing changed, if a shape or type differs or a value is not finite.
        """
        own = {f"{name}.{local}": parameter for local, parameter in nn_module.named_parameters()}
        found = (module_problem(full, parameter, self._entries.get(full)) for full, parameter in own.items())
        problems = [problem for problem in found if problem is not None]
        if problems:
            raise ParamError("\n".join(problems))
        for full, parameter in own.items():
            entry = self._entries.get(full)
            if entry is not None and entry.leaf is parameter:
                continue
            if entry is None or not entry.claimed:
                self._adopt(full, parameter, entry)
            else:
                replace_parameter(nn_module, parameter, entry.leaf)
        self.modules[name] = nn_module
        self.nets.pop(name, None)
        return nn_module

    def adopt(self, name: str, parameter: nn.Parameter) -> None:
        """Makes one parameter that other code has and goes on using, as it is, one of this store.

        Values that a file brought for it are copied into it. Raises ParamError as `module`, and where another tensor
        has the name.
        """
        entry = self._entries.get(name)
        if entry is not None and entry.leaf is parameter:
            return
        problem = module_problem(name, parameter, entry)
        if problem is None and entry is not None and entry.claimed:
            problem = f"parameter {name!r} is another tensor than before: make its module once, outside of the model."
        if problem is not None:
            raise ParamError(problem)
        self._adopt(name, parameter, entry)

    def _adopt(self, name: str, parameter: nn.Parameter, entry: Entry | None) -> None:
        if entry is not None:
            overwrite(parameter, entry.leaf)
        self._entries[name] = module_entry(name, parameter)
        self._changed()

    def _register(
        self,
        name: str,
        init: Init | None,
        constraint: Any,
        event_dim: int | None,
        plates: Sequence[Plate],
        lr: float | None,
        frozen: bool,
    ) -> Entry:
        check_name(name)
        if init is None:
            raise self._unknown(name)
        constraint, event_dim = constraint_and_event_dim(name, constraint, event_dim)
        check_lr(name, lr)
        value = initial_tensor(name, init)
        if name in self._entries:
            raise ParamError(f"parameter {name!r}: its init registers the same name; give one of them another name.")
        free = free_coordinates(name, value, constraint, "initial value")
        shape = tuple(value.shape)
        if not constraint.event_dim <= event_dim <= len(shape):
            raise ParamError(
                f"parameter {name!r}: event_dim {event_dim} does not fit a {constraint} of shape {list(shape)}; "
                f"it counts dims from the right and is {constraint.event_dim} to {len(shape)}."
            )
        row_picks(name, shape, event_dim, plates)
        frozen = frozen or lr == 0
        entry = Entry(name, new_leaf(free, frozen), constraint, event_dim, shape, lr, frozen)
        self._entries[name] = entry
        self._changed()
        return entry

    def _register_again(
        self,
        entry: Entry,
        init: Init | None,
        constraint: Any,
        event_dim: int | None,
        plates: Sequence[Plate],
        lr: float | None,
        frozen: bool,
    ) -> Entry:
        name = entry.name
        if init is not None or constraint is not constraints.real:
            constraint, own_event_dim = constraint_and_event_dim(name, constraint, event_dim)
            if constraint != entry.constraint:
                raise conflict(name, "constraint", entry.constraint, constraint)
            if own_event_dim != entry.event_dim and (event_dim is not None or own_event_dim != constraint.event_dim):
                raise conflict(name, "event_dim", entry.event_dim, own_event_dim)
        elif event_dim is not None and event_dim != entry.event_dim:
            raise conflict(name, "event_dim", entry.event_dim, event_dim)
        if init is not None and not callable(init):
            shape = tuple(init.shape) if isinstance(init, Tensor) else ()
            if shape != entry.shape:
                raise conflict(name, "shape", list(entry.shape), list(shape))
        check_lr(name, lr)
        frozen = frozen or lr == 0
        if entry.claimed or init is None:
            if lr is not None and lr != entry.lr:
                raise conflict(name, "learning rate", entry.lr, lr)
            if frozen and not entry.frozen:
                raise conflict(name, "state", "learnable", "frozen")
            return entry
        row_picks(name, entry.shape, entry.event_dim, plates)
        # A file's learning rate and frozenness are what the program was; the program that runs now decides.
        claimed = replace(entry, lr=lr, frozen=frozen, claimed=True)
        claimed.leaf.requires_grad_(not frozen)
        self._entries[name] = claimed
        self._changed()
        return claimed

    # As a mapping

    def __getitem__(self, name: str) -> Tensor:
        return value_of(self.entry(name), ())

    def __setitem__(self, name: str, value: Value) -> None:
        """Gives a parameter a value, in place: the leaf stays, and with it the optimiser's state.

        A new name becomes a `real` parameter. Raises ParamError, with nothing changed, for another shape, a value that
        is not finite, or one outside the constraint.
        """
        entry = self._entries.get(name)
        if entry is None:
            self._register(name, value, constraints.real, None, (), None, False)
            return
        leaf = entry.leaf
        tensor = initial_tensor(name, value, leaf.dtype).to(leaf.device, leaf.dtype)
        if tuple(tensor.shape) != entry.shape:
            raise ParamError(
                f"parameter {name!r} has shape {list(entry.shape)}, the new value {list(tensor.shape)}; "
                f"assign one of its shape, or delete it first."
            )
        overwrite(leaf, free_coordinates(name, tensor, entry.constraint, "new value"))

    def __delitem__(self, name: str) -> None:
        del self._entries[self.entry(name).name]
        for module in [module for module in self.modules if name.startswith(f"{module}.")]:
            del self.modules[module]
            self.nets.pop(module, None)
        self._changed()

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def keys(self) -> KeysView[str]:
        """The names, in the order of registration."""
        return self._entries.keys()

    def values(self) -> Iterator[Tensor]:
        """The constrained values."""
        return (self[name] for name in self._entries)

    def items(self) -> Iterator[tuple[str, Tensor]]:
        """Names and constrained values."""
        return ((name, self[name]) for name in self._entries)

    def match(self, pattern: str) -> dict[str, Tensor]:
        """The constrained values of the names that the regular expression matches from their beginning."""
        try:
            compiled = re.compile(pattern)
        except re.error as error:
            raise ParamError(f"{pattern!r} is not a regular expression: {error}") from None
        return {name: self[name] for name in self._entries if compiled.match(name)}

    def clear(self) -> None:
        """Forgets all parameters."""
        self._entries, self.modules, self.nets = {}, {}, {}
        self._changed()

    # What an optimiser and `info` need

    def entry(self, name: str) -> Entry:
        """The parameter's leaf, constraint, event_dim, shape, lr and whether it is frozen. Raises UnknownParamError."""
        try:
            return self._entries[name]
        except (KeyError, TypeError):
            raise self._unknown(name) from None

    def describe(self, name: str) -> dict[str, Any]:
        """The same without the leaf, JSON-able. Raises UnknownParamError."""
        entry = self.entry(name)
        return {
            "name": name,
            "constraint": str(entry.constraint),
            "transform": entry.constraint.transform,
            "event_dim": entry.event_dim,
            "shape": list(entry.shape),
            "free_shape": list(entry.leaf.shape),
            "lr": entry.lr,
            "frozen": entry.frozen,
        }

    def lr(self, name: str) -> float | None:
        """The parameter's own learning rate, or None. Raises UnknownParamError."""
        return self.entry(name).lr

    def leaves(self) -> Mapping[str, Tensor]:
        """Leaf by name, in the order of registration. Read-only, and later registrations do not change it."""
        return MappingProxyType(self._by_name()[0])

    def trainable(self) -> Mapping[str, Tensor]:
        """Leaf by name without the frozen ones. Read-only, and later registrations do not change it."""
        return MappingProxyType(self._by_name()[1])

    def frozen(self) -> Mapping[str, Tensor]:
        """Leaf by name of the others. Read-only, as are those of `trainable`."""
        return MappingProxyType(self._by_name()[2])

    def _by_name(self) -> tuple[dict[str, Tensor], ...]:
        if self._leaves is None:
            entries = self._entries.values()
            kinds = (list(entries), [e for e in entries if not e.frozen], [e for e in entries if e.frozen])
            self._leaves = tuple({entry.name: entry.leaf for entry in some} for some in kinds)
        return self._leaves

    def packed(self) -> Tensor | None:
        """The unconstrained numbers of all trainable leaves, [n], which the leaves are looks at from now on: a change
        here is one there. None where leaves differ in type or device, or there are none."""
        trainable = self._by_name()[1]
        return self._packed.of(trainable) if trainable else None

    def named_parameters(self) -> ItemsView[str, Tensor]:
        """Names and leaves."""
        return self.leaves().items()

    def param_name(self, tensor: Tensor) -> str | None:
        """The name of a leaf, or of a value that `param` returned; None for any other tensor."""
        unconstrained = getattr(tensor, "unconstrained", None)
        leaf = tensor if unconstrained is None else unconstrained()
        return next((name for name, entry in self._entries.items() if entry.leaf is leaf), None)

    def with_leaves(self, leaves: Mapping[str, Tensor]) -> ParamStore:
        """A store that computes with these leaves, and has everything else in common with this one."""
        other = ParamStore()
        other.version, other.modules, other.nets = self.version, self.modules, self.nets
        other._entries = {
            name: replace(entry, leaf=leaves.get(name, entry.leaf)) for name, entry in self._entries.items()
        }
        return other

    # State and files

    def get_state(self) -> dict[str, Any]:
        """A copy of everything: `format`, `tensors` (unconstrained, by name) and `params` (JSON-able, by name)."""
        return {
            "format": FORMAT,
            "tensors": {name: entry.leaf.detach().clone() for name, entry in self._entries.items()},
            "params": self._records(),
        }

    def set_state(
        self, state: Mapping[str, Any], map_location: str | torch.device | None = None, strict: bool = True
    ) -> None:
        """Takes what `get_state` gave: all of it if the store is empty, else values for the very same parameters.

        `map_location` (the tensors' own device if None) and `strict` as in `load`. Raises ParamError, with nothing
        changed, listing all that does not fit.
        """
        if not isinstance(state, Mapping) or state.get("format") != FORMAT:
            raise ParamError(f"not a state of a ParamStore: {shorten(state)}; pass what get_state() gave.")
        tensors = state.get("tensors")
        tensors = tensors if isinstance(tensors, Mapping) else {}
        device = None if map_location is None else device_of(map_location)
        self._take(tensors, state.get("params"), "this state", strict, device)

    def save(self, path: str | os.PathLike[str], metadata: Mapping[str, Any] | None = None) -> None:
        """Writes all parameters, and JSON-able `metadata`, as a safetensors file; atomically.

        Raises ParamError, with the old file untouched, if a parameter is NaN or infinite or `metadata` is not JSON.
        """
        broken = [name for name, leaf in self.named_parameters() if not bool(leaf.detach().isfinite().all())]
        if broken:
            raise ParamError(
                f"nothing was saved: {', '.join(map(repr, broken))} has NaN or infinite values; "
                "go back to an earlier state, or delete it from the store."
            )
        header = {"params": self._records(), "metadata": dict(metadata or {})}
        write_file(path, self.leaves(), header)

    def load(
        self, path: str | os.PathLike[str], map_location: str | torch.device | None = None, strict: bool = True
    ) -> dict[str, Any]:
        """Reads a file that `save` wrote and returns its `metadata`.

        An empty store takes every parameter of the file, on device `map_location` (the CPU if None). Otherwise values
        are copied into the leaves, which stay on their devices, and the names must be the same; with `strict=False`
        parameters that the file lacks keep their value, and those that the store lacks are added. Raises ParamError,
        with nothing changed, for a damaged or foreign file, for NaN and inf, and for names, constraints or shapes that
        differ, all listed; OSError if the file cannot be read.
        """
        tensors, header = read_file(path)
        if "kind" in header:
            raise ParamError(f"{os.fspath(path)!r} is a checkpoint of {header['kind']}; read it with its own `load`.")
        self._take(tensors, header.get("params"), repr(os.fspath(path)), strict, device_of(map_location))
        metadata = header.get("metadata")
        return metadata if isinstance(metadata, dict) else {}

    @contextmanager
    def scope(self, state: dict[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        """Within it the store holds only `state` (nothing if None); afterwards what it held before, the same leaves.

        Gives a dict (`state`, if passed) that is filled with the scope's own state when the block ends without an
        error, so that a later scope can go on from it.
        """
        state = {} if state is None else state
        outer = self._entries, self.modules, self.nets
        self.clear()
        try:
            if state:
                self.set_state(state)
            yield state
            state.update(self.get_state())
        finally:
            self._entries, self.modules, self.nets = outer
            self._changed()

    def __deepcopy__(self, memo: dict[int, Any]) -> ParamStore:
        twin = ParamStore()
        twin._entries = {name: replace(entry, leaf=deepcopy(entry.leaf, memo)) for name, entry in self._entries.items()}
        return twin

    def __reduce__(self) -> str:
        raise ParamError("a ParamStore is not pickled, since a pickle runs code when read; save(path), or get_state().")

    def __repr__(self) -> str:
        return f"<ParamStore of {len(self)}: {', '.join(self._entries)}>"

    def _records(self) -> dict[str, Any]:
        return {name: entry.record().to_json() for name, entry in self._entries.items()}

    def _take(
        self, tensors: Mapping[str, Tensor], params: object, where: str, strict: bool, device: torch.device | None
    ) -> None:
        records, problems = read_records(tensors, params)
        compare = strict and bool(self._entries)
        if compare:
            problems += [f"{name!r} is missing there" for name in self._entries if name not in records]
        for name, record in records.items():
            entry = self._entries.get(name)
            if entry is not None:
                problems += mismatches(entry, record, tensors[name])
            elif compare:
                problems.append(f"{name!r} is unexpected: the store has no such parameter")
            elif not is_name(name):
                problems.append(f"{shorten(name)} is not a name of a parameter")
        if problems:
            raise ParamError(
                f"{where} does not fit, and nothing was changed:\n" + "\n".join(f"  {p}" for p in problems)
            )
        new = {
            name: loaded_entry(name, record, tensors[name], device)
            for name, record in records.items()
            if name not in self._entries
        }
        for name in records:
            if name not in new:
                overwrite(self._entries[name].leaf, tensors[name])
        if new:
            self._entries.update(new)
            self._changed()

    def _unknown(self, name: object) -> UnknownParamError:
        from difflib import get_close_matches

        close = get_close_matches(str(name), self._entries, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "pass init=… to make it."
        return UnknownParamError(f"there is no parameter {name!r}; {hint}")

    def _changed(self) -> None:
        self.version += 1
        self._leaves = None
