"""One run of a Pyro model that records what it has: sites, plates, parameters, and the lines that declare them."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pyro
import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor

from guidedsl.runtime.constraints import Constraint
from guidedsl.runtime.errors import GuidedslError, InferenceError, ParamError
from guidedsl.runtime.pyro_models.handlers import PlateCall, chosen_rows, is_site
from guidedsl.runtime.pyro_models.importing import PyroFunction
from guidedsl.runtime.pyro_models.names import as_written
from guidedsl.runtime.pyro_models.places import Place, place_here, place_of
from guidedsl.runtime.pyro_models.supports import constraint_of


@dataclass(frozen=True)
class SeenSite:
    """A sample statement. `plates` are those that it stands in, by name, with their batch dims, the leftmost first.

    `batch` is the shape of its log density, `event` that of one value; `constraint` is None where the support is none
    that we know, `support` how Pyro names it. `value` is what is observed, or some value of a latent.
    """

    name: str
    observed: bool
    plates: tuple[tuple[str, int], ...]
    batch: tuple[int, ...]
    event: tuple[int, ...]
    constraint: Constraint | None
    support: str
    finite: bool
    value: Tensor
    place: Place | None

    @property
    def discrete(self) -> bool:
        """Whether its values are whole numbers, or truth values."""
        return self.constraint is not None and self.constraint.discrete

    @property
    def whole_event(self) -> tuple[int, ...]:
        """The event, with the batch dims that no plate explains where the site stands in none."""
        return self.event if self.plates else (*self.batch, *self.event)

    @property
    def unexplained(self) -> tuple[int, ...]:
        """The batch dims, as numbers from the right, that are of no plate, where the site stands in some."""
        own = {dim for _, dim in self.plates}
        dims = range(-len(self.batch), 0) if self.plates else ()
        return tuple(dim for dim in dims if dim not in own and self.batch[dim] != 1)


@dataclass(frozen=True)
class SeenPlate:
    """A plate. `size` is None where it has none, `subsample` the rows a step where they are fewer; `dim` is None where
    it is a loop over rows, or holds no site."""

    name: str
    size: int | None
    subsample: int | None
    dim: int | None
    loop: bool
    place: Place | None


@dataclass(frozen=True)
class Seen:
    """What a run of a model has, by name, in the order of the run."""

    sites: Mapping[str, SeenSite]
    plates: Mapping[str, SeenPlate]

    def renamed(self, sites: Container[str], plates: Container[str]) -> Seen:
        """The same with names as a program that declares these writes them."""
        found = {}
        for site in self.sites.values():
            around = tuple((as_written(plate, plates), dim) for plate, dim in site.plates)
            found[as_written(site.name, sites)] = replace(site, name=as_written(site.name, sites), plates=around)
        held = (replace(plate, name=as_written(plate.name, plates)) for plate in self.plates.values())
        return Seen(found, {plate.name: plate for plate in held})

    @property
    def nesting(self) -> int:
        """How many batch dims the plates take."""
        return max([0, *(-plate.dim for plate in self.plates.values() if plate.dim is not None)])

    @property
    def latents(self) -> tuple[SeenSite, ...]:
        """The sites that are not observed."""
        return tuple(site for site in self.sites.values() if not site.observed)


class Recorder(Messenger):
    """Records every site, and gives latents some value of theirs: the middle of the support where it has one."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[str, PlateCall] = {}
        self.frames: dict[str, Any] = {}
        self.sites: dict[str, SeenSite] = {}
        self._places: dict[str, Place | None] = {}

    def plate(self, call: PlateCall) -> None:
        """Notes a plate when it is made."""
        self.calls.setdefault(call.name, call)

    def _pyro_sample(self, message: Any) -> None:
        if not is_site(message):
            return
        self._places[message["name"]] = place_here()
        if not message["is_observed"] and message["value"] is None:
            message["value"] = _middle(message["fn"])

    def _pyro_post_sample(self, message: Any) -> None:
        if not is_site(message):
            return
        name, law = message["name"], message["fn"]
        frames = message["cond_indep_stack"]
        self.frames |= {frame.name: frame for frame in frames}
        if message["infer"].get("_deterministic") or type(law).__name__ == "Unit":
            return
        plates = sorted(((f.name, f.dim) for f in frames if f.dim is not None), key=lambda plate: plate[1])
        self.sites[name] = SeenSite(
            name,
            message["is_observed"],
            tuple(plates),
            tuple(law.batch_shape),
            tuple(law.event_shape),
            constraint_of(law),
            _shown(law),
            _finite(law),
            message["value"],
            self._places[name],
        )

    def seen(self) -> Seen:
        """All that was recorded. Factors and deterministic statements are no sites."""
        names = dict.fromkeys([*self.calls, *self.frames])
        return Seen(self.sites, {name: self._plate(name) for name in names})

    def _plate(self, name: str) -> SeenPlate:
        call, frame = self.calls.get(name), self.frames.get(name)
        if call is None:
            assert frame is not None
            call = PlateCall(name, frame.full_size, frame.size, None)  # made before the model was called
        size, rows = call.size, call.subsample
        fewer = rows if rows is not None and size is not None and rows < size else None
        dim = frame.dim if frame is not None else None
        loop = frame is not None and frame.dim is None
        return SeenPlate(name, size, fewer, dim, loop, call.place)


def _shown(law: Any) -> str:
    """The support as Pyro names it."""
    try:
        return str(law.support)
    except (NotImplementedError, AttributeError):
        return "unknown"


def _finite(law: Any) -> bool:
    """Whether Pyro can list its values."""
    try:
        return bool(getattr(law, "has_enumerate_support", False)) and not law.event_shape
    except (NotImplementedError, AttributeError):
        return False


def _middle(law: Any) -> Tensor:
    """A value in the middle of a law's support, or a draw where we know of none."""
    constraint = constraint_of(law)
    if constraint is not None and not constraint.discrete:
        try:
            return constraint.default(tuple(law.shape()))
        except ParamError:
            pass
    value: Tensor = law.sample()
    return value


@contextmanager
def as_data(dtype: torch.dtype, device: torch.device) -> Iterator[None]:
    """Within it new tensors are of this precision, on this device."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with ExitStack() as stack:
            if device.type != "cpu":
                stack.enter_context(device)
            yield
    finally:
        torch.set_default_dtype(before)


def called(function: PyroFunction, given: Mapping[str, object], who: str) -> object:
    """What the function returns. What it raises becomes an InferenceError with the line of the user's."""
    try:
        return function(**given)
    except GuidedslError:
        raise
    except Exception as error:
        raise failure(error, who) from error


def failure(error: Exception, who: str) -> InferenceError:
    """What a model raised, with the line where it did."""
    place = place_of(error.__traceback__)
    text = str(error).strip() or type(error).__name__
    return InferenceError(f"{who}{f', {place}' if place else ''}: {type(error).__name__}: {text}")


def probed(
    function: PyroFunction, given: Mapping[str, object], who: str, rows: Mapping[str, Any] | None, *around: Messenger
) -> Seen:
    """Runs the model once. `rows` as in `chosen_rows`; `around` are further handlers, the last the innermost.

    Raises InferenceError with the user's line for what the model raises.
    """
    recorder = Recorder()
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[]))
        stack.enter_context(torch.no_grad())
        stack.enter_context(pyro.validation_enabled(True))
        stack.enter_context(chosen_rows(rows, recorder.plate))
        for handler in (recorder, *around):
            stack.enter_context(handler)
        called(function, given, who)
    return recorder.seen()
