"""Effect handlers around a Pyro model: the rows of its plates, the values of its sites, its parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyro
from pyro.poutine.messenger import Messenger
from pyro.poutine.subsample_messenger import SubsampleMessenger, _Subsample
from torch import Tensor, nn

from guidedsl.runtime.nets import seeded
from guidedsl.runtime.params import ParamStore
from guidedsl.runtime.pyro_models.names import as_written
from guidedsl.runtime.pyro_models.places import Place, place_here

MODULE_DIVIDER = "$$$"


@dataclass(frozen=True)
class PlateCall:
    """What a model says when it makes a plate. `size` and `subsample` are None where it does not say them."""

    name: str
    size: int | None
    subsample: int | None
    place: Place | None


@dataclass(frozen=True)
class Rows:
    """The rows that a plate is to have: which of how many; all where `rows` is None."""

    size: int
    rows: Tensor | None

    @property
    def length(self) -> int:
        """How many they are."""
        return self.size if self.rows is None else len(self.rows)


@contextmanager
def chosen_rows(rows: Mapping[str, Rows] | None, seen: Callable[[PlateCall], None] | None = None) -> Iterator[None]:
    """Within it the plates that a model makes have these rows; all of their rows each where `rows` is None.

    A handler could answer which rows, and not how many: Pyro compares their number with the plate's own, and a step on
    all rows of a plate with a `subsample_size` has another.
    """
    original = SubsampleMessenger.__dict__["_subsample"]

    def subsample(
        name: str, size: int | None = None, subsample_size: int | None = None, subsample: Any = None, *device: Any
    ) -> Any:
        if seen is not None:
            given = len(subsample) if subsample is not None else None
            seen(PlateCall(name, size, subsample_size if given is None else given, place_here()))
        if rows is None and size is not None:
            subsample, subsample_size = None, None
        elif rows is not None and (written := as_written(name, rows)) in rows:
            size, subsample = rows[written].size, rows[written].rows
            subsample_size = None
        return original.__func__(name, size, subsample_size, subsample, *device)

    SubsampleMessenger._subsample = staticmethod(subsample)
    try:
        yield
    finally:
        SubsampleMessenger._subsample = original


def is_site(message: Any) -> bool:
    """Whether a message is one of `pyro.sample`, and not of a plate that chooses its rows."""
    return message["type"] == "sample" and not isinstance(message["fn"], _Subsample)


class Given(Messenger):
    """Gives sites their values. `value` is None for a site that it says nothing of."""

    def __init__(self, value: Callable[[Any], Tensor | None]) -> None:
        super().__init__()
        self._value = value

    def _pyro_sample(self, message: Any) -> None:
        if is_site(message):
            value = self._value(message)
            if value is not None:
                message["value"], message["is_observed"] = value, True


class Params(Messenger):
    """Keeps a model's `pyro.param` and the parameters of its modules in a store of ours, as `Ratings.name`.

    Pyro's own store stays as it was. A parameter of a module (`pyro.module`, a PyroModule) stays the module's, and is
    moved to the data's precision and device.
    """

    def __init__(self, owner: str, store: ParamStore, data: Any) -> None:
        super().__init__()
        self.owner, self.store, self.data = owner, store, data

    def _name(self, message: Any) -> str:
        return f"{self.owner}.{message['name'].replace(MODULE_DIVIDER, '.')}"

    def _pyro_param(self, message: Any) -> None:
        name, init = self._name(message), message["args"][1] if len(message["args"]) > 1 else None
        if isinstance(init, nn.Parameter):
            self._adopt(name, init)
            value: Tensor = init
        elif init is not None or self._ours(name, message["name"]):
            options = message["kwargs"]
            make = None if init is None else lambda: self._initial(init)
            value = self.store.param(name, make, options["constraint"], options["event_dim"])
        else:
            return  # a PyroParam, which Pyro makes of the module's own parameter
        message["value"], message["done"] = value, True

    def _pyro_post_param(self, message: Any) -> None:
        name = self._name(message)
        if name not in self.store or self.store.entry(name).leaf is not message["value"]:
            leaf = message["value"].unconstrained()
            if isinstance(leaf, nn.Parameter):
                self._adopt(name, leaf)

    def _ours(self, name: str, written: str) -> bool:
        """Whether a parameter that is only read is one of `pyro.param`, and not Pyro's own leaf."""
        leaf = dict(pyro.get_param_store().named_parameters()).get(written)
        return name in self.store and self.store.entry(name).leaf is not leaf

    def _initial(self, init: Any) -> Tensor:
        """The initial value in the data's precision; what is drawn for it follows from the data's generator."""
        value: Tensor = init if isinstance(init, Tensor) else seeded(init, self.data)
        return value.to(self.data.device, self.data.dtype) if value.is_floating_point() else value

    def _adopt(self, name: str, parameter: nn.Parameter) -> None:
        if parameter.dtype != self.data.dtype or parameter.device != self.data.device:
            parameter.data = parameter.data.to(self.data.device, self.data.dtype)
        self.store.adopt(name, parameter)
