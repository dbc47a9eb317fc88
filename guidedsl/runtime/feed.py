"""What `fit` feeds a guide of a minibatched model: batches of bound data, or batches that the caller makes.

A feed stands where data stands in a stochastic fit: `subsample` gives the next batch. The density of a batch is scaled
by size over rows, so that every batch estimates the loss on all rows.
"""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from guidedsl.runtime.arrays import ArrayProblem, array
from guidedsl.runtime.constraint_base import shorten
from guidedsl.runtime.data import Data
from guidedsl.runtime.errors import InferenceError
from guidedsl.runtime.metadata import attribute_of
from guidedsl.runtime.noise import Noise
from guidedsl.runtime.posterior import site_shape
from guidedsl.runtime.sizes import bare_name

if TYPE_CHECKING:
    from guidedsl.runtime.model import Guide, Model
    from guidedsl.runtime.params import ParamStore

PASS_PARTICLES = 16
"""Draws for each row in a pass over all of them."""
PASS_NUMBERS = 1e6
"""Numbers in one array of one step of a pass."""


@dataclass(frozen=True)
class Bind:
    """How a caller's batch becomes data of the model."""

    model: Model
    dims: Mapping[str, object]
    dtype: torch.dtype | None
    device: torch.device | str | None

    def __call__(self, batch: object, position: int) -> Data:
        """A batch, bound. Raises `InferenceError` for what is neither a mapping nor data, `DataError` as binding."""
        if isinstance(batch, Data):
            return batch.to(self.device, self.dtype)
        if not isinstance(batch, Mapping):
            fields = ", ".join(f'"{entry.name}": …' for entry in self.model.fields if entry.role != "derived")
            raise InferenceError(
                f"batch {position} is a {type(batch).__name__}; {self.model.name} takes batches as dicts from field "
                f"names to arrays, {{{fields}}}, or as its data"
            )
        bound: Data = self.model.data(batch, dtype=self.dtype, device=self.device, **self.dims)
        return bound


class RowFeed:
    """Batches of data that is bound with all rows: every row once an epoch, in an order drawn anew for each."""

    def __init__(self, data: Data, model: Model) -> None:
        self.data, self.model = data, model
        self.reference = usable(data)
        self._order: dict[str, Tensor] = {}

    def noise(self, generator: torch.Generator | None = None) -> Noise:
        """A source of randomness in the data's dtype and device."""
        return self.data.noise(generator)

    def subsample(self, noise: Noise) -> Data:
        """The next batch; its rows in order, which a file is read fastest in."""
        rows: dict[str, Tensor] = {}
        for name, size, count in self.data.minibatched:
            left = self._order.get(name)
            if left is None or not len(left):
                left = noise.permutation(size)
            rows[name], self._order[name] = left[:count].sort().values, left[count:]
        return self.data.fed(rows).subsample(noise)

    def get_state(self) -> dict[str, Any]:
        """The rows that this epoch has left, for a checkpoint."""
        return {"left": dict(self._order)}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Takes what `get_state` gave."""
        self._order = {name: rows.to(self.data.device) for name, rows in state["left"].items()}

    def once(self) -> Iterator[tuple[Data, float]]:
        """Every row once, in order, as many at a time as memory is meant for; each with its share of all rows."""
        length = self._rows_at_once()
        parts = [
            [(name, start, min(start + length, size), size) for start in range(0, size, length)]
            for name, size, _ in self.data.minibatched
        ]
        for part in itertools.product(*parts):
            share = math.prod((stop - start) / size for _, start, stop, size in part)
            yield self.data.fed({name: torch.arange(start, stop) for name, start, stop, _ in part}), share

    def _rows_at_once(self) -> int:
        """How many rows of each minibatched plate a step of a pass takes."""
        plates = [attribute_of(name) for name, _, _ in self.data.minibatched]
        rows = math.prod(getattr(self.reference, plate).length for plate in plates)
        sites = sum(math.prod(site_shape(site, self.reference)) for site in self.model.sites)
        fields = (value.numel() for value in vars(self.reference).values() if isinstance(value, Tensor))
        numbers = max(1, sites * PASS_PARTICLES, rows * PASS_PARTICLES, *fields)
        return max(1, int((PASS_NUMBERS * rows / numbers) ** (1 / len(plates))))


class BatchFeed:
    """Batches that an iterable gives, gone through again and again."""

    def __init__(self, batches: Iterable[object], bind: Bind) -> None:
        self._batches, self._bind = batches, bind
        self._iterator = iter(batches)
        self._again = self._iterator is not batches
        self._taken = 0
        self._epochs = 1
        self._share = 0.0
        first = self._next()
        if first is None:
            raise InferenceError("there is nothing to fit: the iterable gives no batch")
        self.reference = first
        self._first: Data | None = first

    def noise(self, generator: torch.Generator | None = None) -> Noise:
        """A source of randomness in the data's dtype and device."""
        return self.reference.noise(generator)

    def subsample(self, noise: Noise) -> Data:
        """The next batch, of the next epoch where this one is over. Raises `InferenceError` where there is none."""
        data, self._first = self._first or self._next(), None
        return (data or self._restart()).subsample(noise)

    def _next(self) -> Data | None:
        """The next batch of this epoch, or None after its last."""
        for batch in self._iterator:
            self._taken += 1
            data = self._bind(batch, self._taken)
            self._share += share_of(data)
            return data
        return None

    def _restart(self) -> Data:
        if self._share > 1.0 + 1e-9:
            sizes = ", ".join(f"{name} has {getattr(self.reference, attribute_of(name)).size}" for name in self._plates)
            raise InferenceError(
                f"the {self._taken} batches of an epoch have {self._share:.3g} times the rows of all, for {sizes}: "
                "pass the right size, which scales the density"
            )
        taken, self._taken, self._share = self._taken, 0, 0.0
        self._epochs += 1
        if self._again:
            self._iterator = iter(self._batches)
        data = self._next()
        if data is None:
            raise InferenceError(
                f"the batches ran dry after {taken}: what was passed can be gone through once; pass a list, a "
                "DataLoader, or an object whose __iter__ begins anew each time"
            )
        return data

    def get_state(self) -> dict[str, Any]:
        """How many epochs were begun, and how many batches of the last were taken, for a checkpoint."""
        return {"epochs": self._epochs, "taken": self._taken - (self._first is not None), "share": self._share}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes to where `get_state` was called, in an iterable that was not gone through yet.

        Epochs are begun as often as they were, for a loader that shuffles may draw its order then, and batches of the
        last passed over. Raises InferenceError where there are fewer.
        """
        for _ in range(self._epochs, state["epochs"] if self._again else 0):
            self._iterator = iter(self._batches)
            next(self._iterator, None)
            self._taken = 1
        for _ in range(self._taken, state["taken"]):
            if next(self._iterator, self) is self:
                raise InferenceError(f"the fit had taken {state['taken']} batches of an epoch, and there are fewer now")
        if state["taken"]:
            self._first = None
        self._epochs, self._taken, self._share = state["epochs"], state["taken"], state["share"]

    @property
    def _plates(self) -> tuple[str, ...]:
        return fed_plates(self._bind.model)

    def once(self) -> Iterator[tuple[Data, float]]:
        """One epoch, each batch with its share of all rows; the first batch alone where no epoch can begin."""
        total = 0.0
        for batch in self._batches if self._again else ():
            data = self._bind(batch, 1)
            total += share_of(data)
            yield data, share_of(data)
            if total >= 1.0:  # an iterable may have no end
                return
        if total == 0.0:
            yield self.reference, 1.0


Feed = RowFeed | BatchFeed


def fed_plates(model: Model) -> tuple[str, ...]:
    """The minibatched plates of a model."""
    return tuple(spec.name for spec in model.plates if spec.minibatch is not None)


def share_of(data: Data) -> float:
    """The rows of a batch as a share of all rows."""
    share = 1.0
    for spec in data.schema.plates:
        if spec.minibatch is not None:
            share /= getattr(data, attribute_of(spec.name)).scale
    return share


def feed_of(guide: Guide, data: object, bind: Bind) -> Feed | Data:
    """What a fit steps on: a feed where the model is fed in batches, else data as it is, bound.

    Raises `InferenceError` for data that no fit can be made of.
    """
    model = guide.model
    plates = fed_plates(model)
    if isinstance(data, Data) and bind.dims:
        raise InferenceError(
            f"the data is bound, and knows {', '.join(bind.dims)}: sizes go with batches of raw arrays"
        )
    if isinstance(data, Mapping):
        data = bind(data, 1)
    if isinstance(data, Data):
        bound = data.to(bind.device, bind.dtype)
        if bound.minibatched:
            return RowFeed(bound, model)
        if share_of(bound) < 1.0 and bound.whole is None:
            lengths = ", ".join(
                f"{plate.length} of {plate.size} rows of plate {plate.name}"
                for plate in (getattr(bound, attribute_of(name)) for name in plates)
            )
            raise InferenceError(
                f"the data is one batch, {lengths}: bind all rows, or pass an iterable of batches, such as a DataLoader"
            )
        return bound
    if not isinstance(data, Iterable):
        raise InferenceError(f"fit needs the data of {model.name}, {model.name}.data(…), got {shorten(data)}")
    if not plates:
        raise InferenceError(
            f"{model.name} has no minibatched plate, so it takes its data whole, {model.name}.data(…); got "
            f"{shorten(data)}"
        )
    return BatchFeed(data, bind)


def sizes_of_all_rows(model: Model, fields: Mapping[str, object]) -> dict[str, int]:
    """The sizes of minibatched plates that `fields` tell, where they hold all rows."""
    found: dict[str, int] = {}
    for entry in model.fields:
        for axis, name in enumerate(entry.plates):
            spec = next(spec for spec in model.plates if spec.name == name)
            dim = bare_name(spec.size)
            if spec.minibatch is None or dim is None or dim in fields or fields.get(entry.name) is None:
                continue
            try:
                shape = array(entry.name, fields[entry.name]).shape
            except ArrayProblem:  # binding says it
                continue
            if axis < len(shape):
                found.setdefault(dim, shape[axis])
    return found


def usable(data: Data) -> Data:
    """`data` as a guide can be called on it: a few rows of minibatched plates, and all of the others."""
    if data.minibatched:
        return data.fed({name: torch.arange(count) for name, _, count in data.minibatched})
    return data.full


@torch.no_grad()
def elbo_of_a_pass(guide: Guide, feed: Feed, store: ParamStore, generator: torch.Generator) -> tuple[float, float]:
    """The ELBO and its standard error from one pass over all rows.

    Each batch estimates the whole; weighted by their shares of the rows, the estimates add up to it.
    """
    total = mean = variance = 0.0
    for data, share in feed.once():
        noise = data.noise(generator)
        draw = guide(data, particles=(PASS_PARTICLES,), store=store, noise=noise)
        values = (guide.model(data, draw.latents, store=store) - draw.log_q).to(torch.float64)
        total += share
        mean += share * float(values.mean())
        variance += share**2 * float(values.var()) / PASS_PARTICLES
    return mean / total, math.sqrt(variance) / total


def unknown_options(given: Mapping[str, object], model: Model, known: Iterable[str]) -> str | None:
    """What is wrong with the names of `fit`'s further keywords, which are sizes; None where nothing is."""
    dims = [dim.name for dim in model.dims]
    wrong = [name for name in given if name not in dims]
    if not wrong:
        return None
    close = difflib.get_close_matches(wrong[0], [*known, *dims], n=1)
    hint = f"; did you mean `{close[0]}`?" if close else ""
    return f"fit has no option `{wrong[0]}`, and {model.name} no dim of that name{hint}"


def fed_note(guide: Guide, store: ParamStore, *, empty: bool) -> str:
    """What a summary says of latents and lets that it leaves out, in plates that are fed in batches; with `empty`, what
    was fitted instead."""
    model, plates = guide.model, set(fed_plates(guide.model))
    sites = [site for site in (*model.sites, *model.quantity_sites) if plates.intersection(site.plates)]
    if not sites:
        return ""
    names = ", ".join(site.name for site in sites)
    lines = [f"left out, being in plates that are fed in batches: {names}; fit.sample(data=batch) draws them"]
    if empty:
        numbers: dict[str, int] = {}
        for name, leaf in store.named_parameters():
            owner = ".".join(name.split(".")[:2])
            numbers[owner] = numbers.get(owner, 0) + leaf.numel()
        listed = ", ".join(f"{owner} ({count:,})" for owner, count in numbers.items())
        lines.insert(0, f"fitted, with how many numbers: {listed or 'nothing'}")
    return "\n".join(lines)
