"""One program on both targets: the generated Pyro module gets the data, params, rows and draws of the torch module.

The torch guide draws, and each draw is noted. Handlers of Pyro then answer `pyro.param` with the values of our store,
still attached to its leaves, `pyro.plate` with our rows, and every random site with the draw of the same statement.
What is pushed from unconstrained coordinates, and the densities with their scales, masks and plates, are Pyro's own.
"""

from __future__ import annotations

import inspect
import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any
from unittest import mock

import pyro
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO
from pyro.infer.enum import get_importance_trace
from pyro.poutine.messenger import Messenger
from torch import Tensor

from guidedsl.backend.names import local_name
from guidedsl.runtime import Guide, ParamStore
from guidedsl.runtime import distributions as families
from guidedsl.runtime.metadata import attribute_of
from guidedsl.runtime.noise import Noise, RecordedNoise

POINT = "Point"
NORMALS = frozenset({"Normal", "MultivariateNormal", "MultivariateNormalUnit", "MultivariateNormalCovariance"})
"""Families whose draws are made of standard normals in the same way here and in Pyro."""


INVALID = "to satisfy the constraint"
"""What Pyro says of an argument of a distribution that is none."""


class Differs(AssertionError):
    """The two targets do not agree, or one of them fails."""


@dataclass
class Recorder:
    """Stands for the runtime's `distributions` in a generated module, and notes each draw of a statement."""

    draws: list[tuple[str, Tensor]] = field(default_factory=list)

    def __getattr__(self, name: str) -> _Family:
        return _Family(getattr(families, name), name, self.draws)


@dataclass
class _Family:
    inner: Any
    name: str
    draws: list[tuple[str, Tensor]]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def draw(self, *arguments: Any, **options: Any) -> tuple[Tensor, Tensor]:
        value, log_q = self.inner.draw(*arguments, **options)
        self.draws.append((self.name, value))
        return value, log_q

    def sample(self, noise: Noise, shape: Any, parts: Any, *arguments: Any, **options: Any) -> Tensor:
        """A draw made of those of its parts, which were noted before."""
        value: Tensor = self.inner.sample(noise, shape, parts, *arguments, **options)
        del self.draws[len(self.draws) - (len(parts) if isinstance(parts, tuple) else 1) :]
        self.draws.append((self.name, value))
        return value


@dataclass(frozen=True)
class Ours:
    """A pass of the torch target: its draws in order, what it gives, and its params."""

    latents: dict[str, Tensor]
    draws: tuple[tuple[str, Tensor], ...]
    log_p: Tensor
    log_q: Tensor
    store: ParamStore
    rows: dict[str, Tensor]
    steps: dict[str, int]
    """The axis of the first event dim of each latent that has one: that of the steps, where a scan declares it."""
    normals: list[Tensor] | None
    """The standard normals of the draws, or None where there was other noise."""

    @property
    def farthest(self) -> float:
        """The largest of the unconstrained coordinates that were drawn."""
        known = [id(value) for value in self.latents.values()]
        free = [value for _, value in self.draws if id(value) not in known and value.numel()]
        return max((float(value.detach().abs().max()) for value in free), default=0.0)

    @property
    def elbo(self) -> Tensor:
        return (self.log_p - self.log_q).sum()


def run_ours(
    module: ModuleType, guide: Guide, data: Any, seed: int, particles: tuple[int, ...] = (), spread: float = 0.2
) -> Ours:
    """A pass of the torch target at params away from their initial values, where many gradients vanish."""
    store = ParamStore()
    generator = torch.Generator().manual_seed(seed)
    noise = RecordedNoise(generator, data.dtype, data.device)
    batch = data.subsample(data.noise(generator))
    guide(batch, store=store, noise=data.noise(generator))
    if guide.model.simulate is not None:
        guide.model(batch, guide(batch, store=store, noise=data.noise(generator)).latents, store=store)
    with torch.no_grad():
        for leaf in store.trainable().values():
            leaf += spread * torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype)
    recorder = Recorder()
    with mock.patch.object(module, "dist", recorder, create=True):  # which a module without distributions lacks
        draw = guide(batch, particles=particles, store=store, noise=noise)
        draws = tuple(recorder.draws)
    rows = {}
    for spec in data.schema.plates:
        plate = getattr(batch, attribute_of(spec.name))
        rows[spec.name] = torch.arange(plate.size) if plate.rows is None else plate.rows
    log_p = torch.zeros(particles, dtype=data.dtype)
    if guide.model.simulate is not None:  # else its density is not in the program
        log_p = guide.model(batch, draw.latents, store=store).expand(particles)
    names = [site.name for site in guide.model.sites]
    normals = noise.normals if noise.only_normal and {name for name, _ in draws} <= NORMALS | {POINT} else None
    return Ours(
        latents={name: value for name, value in zip(names, draw.latents, strict=True) if value is not None},
        draws=draws,
        log_p=log_p,
        log_q=draw.log_q.expand(particles),
        store=store,
        rows=rows,
        steps={site.name: -len(site.event) for site in guide.model.sites if site.event},
        normals=normals,
    )


class Given(Messenger):
    """Answers params, rows of plates and (unless there are none) random sites of the guide with ours."""

    def __init__(self, ours: Ours, draws: bool = True) -> None:
        super().__init__()
        self.ours = ours
        self.waiting = [draw for draw in ours.draws if draw[0] != POINT] if draws else None
        self.inits: dict[str, Callable[[], Tensor] | Tensor] = {}

    def _pyro_param(self, msg: Any) -> None:
        name = msg["name"].replace("$$$", ".")
        init = msg["args"][1] if len(msg["args"]) > 1 else None
        if name not in self.ours.store and init is not None:
            return  # nothing that is computed here reads it
        stored = self.ours.store[name]
        if init is not None:
            self.inits[name] = init
            shape = (init() if callable(init) else init).shape
            if math.prod(shape) != stored.numel():
                raise Differs(f"the param {name} is {list(shape)} in Pyro, {list(stored.shape)} here")
            stored = stored.reshape(shape)
            stored.unconstrained = lambda: stored  # as any value of a param of Pyro has
        constraint = msg["kwargs"].get("constraint", torch.distributions.constraints.real)
        if not bool(constraint.check(stored.detach()).all()):
            raise Differs(f"our value of the param {name} is not in {constraint}")
        msg["value"], msg["done"] = stored, True

    def _pyro_sample(self, msg: Any) -> None:
        if type(msg["fn"]).__name__ == "_Subsample":
            msg["value"], msg["done"] = self.ours.rows[msg["name"]], True
        elif self.waiting is not None and not msg["is_observed"] and msg["value"] is None and not _is_delta(msg["fn"]):
            value, shape = self._value(msg["name"]), msg["fn"].shape()
            if math.prod(shape) != value.numel():
                raise Differs(f"{msg['name']} has the shape {list(shape)} in Pyro, {list(value.shape)} here")
            msg["value"], msg["done"] = value.reshape(shape), True

    def _value(self, site: str) -> Tensor:
        """A latent, a step of one, or what was drawn for something else: each site took one draw."""
        if not self.waiting:
            raise Differs(f"Pyro draws {site} behind our last draw")
        drawn = self.waiting.pop(0)[1]
        if site in self.ours.latents:
            return self.ours.latents[site]
        step = re.fullmatch(r"(\w+)_at_(\d+)", site)
        if step is not None and step[1] in self.ours.steps:
            return self.ours.latents[step[1]].select(self.ours.steps[step[1]], int(step[2]))
        return drawn


def _is_delta(distribution: Any) -> bool:
    while hasattr(distribution, "base_dist") and type(distribution).__name__ in ("Independent", "MaskedDistribution"):
        distribution = distribution.base_dist
    return type(distribution).__name__ == "Delta"


@dataclass(frozen=True)
class Theirs:
    """The Pyro module's two functions for a guide, and the arguments that they take.

    `model` is None where the density is not in the program.
    """

    model: Callable[..., None] | None
    guide: Callable[..., None]
    arguments: tuple[Any, ...]
    named: dict[str, Any]


def theirs_of(
    model: Callable[..., None] | None,
    function: Callable[..., None],
    guide: Guide,
    data: Any,
    fields: Mapping[str, object],
) -> Theirs:
    """The Pyro functions with the data as a caller has it, in the given precision, and the sizes that they ask for."""
    arguments: dict[str, Any] = {}
    for spec in guide.model.fields:
        if spec.role == "derived" or fields.get(spec.name) is None:
            continue
        value = torch.as_tensor(_numbers(fields[spec.name]), dtype=data.dtype)
        arguments[spec.name] = value.long() if spec.index_of is not None else value
    sizes = {dim.name: getattr(data, attribute_of(dim.name)) for dim in guide.model.dims}
    placed: list[Any] = []
    named: dict[str, Any] = {}
    known = {local_name(name): value for name, value in {**arguments, **sizes}.items()}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY:
            named[parameter.name] = known[parameter.name]
        else:
            placed.append(known.get(parameter.name))
    return Theirs(model, function, tuple(placed), named)


def _numbers(value: Any) -> Any:
    """Nested lists with NaN for what a data file leaves open."""
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return math.nan if value is None else value


@dataclass(frozen=True)
class Replayed:
    """A pass of the Pyro target on our draws."""

    log_p: Tensor
    log_q: Tensor
    values: dict[str, Tensor]
    size: float
    """The sum of the absolute values of what is added up."""
    inits: dict[str, Callable[[], Tensor] | Tensor]


def replay(theirs: Theirs, ours: Ours, particles: int = 0, nesting: int = 0) -> Replayed:
    """Pyro's traces of guide and model, which it checks against each other as in a step of SVI."""
    handler = Given(ours)
    model, guide = theirs.model, theirs.guide
    if particles:
        wide = pyro.plate("particles", particles, dim=-nesting - 1)
        model, guide = wide(model) if model is not None else None, wide(guide)
        handler.ours.rows["particles"] = torch.arange(particles)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Such as those of a param that is local to the rows of data.
        warnings.filterwarnings("ignore", message="Found plate statements in guide but not model")
        with handler, nets_of(ours):
            if model is not None:
                traces = get_importance_trace("flat", math.inf, model, guide, theirs.arguments, theirs.named)
            else:
                trace = poutine.trace(guide).get_trace(*theirs.arguments, **theirs.named)
                trace.compute_log_prob()
                traces = poutine.Trace(), trace
    model_trace, guide_trace = traces
    if handler.waiting:
        raise Differs(f"Pyro's guide has {len(handler.waiting)} draws fewer than ours")
    values = {name: guide_trace.nodes[name]["value"] for name in ours.latents if name in guide_trace.nodes}
    terms = [node["log_prob_sum"] for trace in traces for node in trace.nodes.values() if "log_prob_sum" in node]
    size = sum(float(torch.as_tensor(term).detach().abs()) for term in terms)
    log_p, log_q = (torch.as_tensor(trace.log_prob_sum()) for trace in (model_trace, guide_trace))
    return Replayed(log_p, log_q, values, size, handler.inits)


@contextmanager
def nets_of(ours: Ours) -> Iterator[None]:
    """Nets of Pyro modules compute with our weights, still attached to them."""

    def module(name: str, net: torch.nn.Module) -> Callable[..., Any]:
        weights = {weight: ours.store[f"{name}.{weight}"] for weight, _ in net.named_parameters()}
        return lambda *inputs: torch.func.functional_call(net, weights, inputs)

    with mock.patch.object(pyro, "module", module):
        yield


@contextmanager
def given_normals(normals: list[Tensor]) -> Iterator[list[Tensor]]:
    """Pyro's normals are these, in order."""
    waiting = list(normals)

    def standard_normal(shape: Any, dtype: Any, device: Any) -> Tensor:
        value = waiting.pop(0)
        if value.numel() != math.prod(shape):
            raise Differs(f"Pyro draws normals of shape {list(shape)} where we draw {list(value.shape)}")
        return value.reshape(shape)

    places = ("torch.distributions.normal", "torch.distributions.multivariate_normal")
    with (
        mock.patch(f"{places[0]}._standard_normal", standard_normal),
        mock.patch(f"{places[1]}._standard_normal", standard_normal),
    ):
        yield waiting


def own_draws(theirs: Theirs, ours: Ours) -> dict[str, Tensor]:
    """What Pyro's guide draws from our standard normals."""
    assert ours.normals is not None
    with given_normals(ours.normals) as waiting, Given(ours, draws=False), nets_of(ours):
        trace = poutine.trace(theirs.guide).get_trace(*theirs.arguments, **theirs.named)
    if waiting:
        raise Differs(f"Pyro's guide draws {len(waiting)} normals fewer than ours")
    return {name: trace.nodes[name]["value"] for name in ours.latents if name in trace.nodes}


# What must agree


def scale_of(ours: Ours, replayed: Replayed) -> float:
    """What rounding is relative to: terms of either sign may cancel in the sum."""
    return max(1.0, replayed.size, float(ours.log_p.detach().abs().sum()) + float(ours.log_q.detach().abs().sum()))


def compare_values(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], tolerance: float, what: str) -> None:
    for name, value in theirs.items():
        if ours[name].numel() != value.numel():
            raise Differs(f"{what} {name} has the shape {list(value.shape)} in Pyro, {list(ours[name].shape)} here")
        if not value.numel():
            continue
        own = ours[name].detach().reshape(value.shape).to(value.dtype)
        off = float((own - value.detach()).abs().max())
        if not off <= tolerance * max(1.0, float(own.abs().max())):
            raise Differs(f"{what} {name} is off by {off:.3g}")


def compare_elbo(ours: Ours, replayed: Replayed, tolerance: float, among: str = "") -> None:
    for what, a, b in (("log p", ours.log_p, replayed.log_p), ("log q", ours.log_q, replayed.log_q)):
        a, b = a.detach().sum(), b.detach().sum()
        off = float((a - b).abs())
        if not off <= tolerance * scale_of(ours, replayed) and not (torch.equal(a, b)):
            raise Differs(f"{among}{what} is {float(a):.12g} here, {float(b):.12g} in Pyro")


def gradients(value: Tensor, leaves: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The gradient with respect to each leaf, zero where it has none."""
    if not leaves:
        return {}
    found: tuple[Tensor | None, ...] = (None,) * len(leaves)
    if value.requires_grad:
        found = torch.autograd.grad(value, list(leaves.values()), retain_graph=True, allow_unused=True)
    return {
        name: torch.zeros_like(leaf) if gradient is None else gradient
        for (name, leaf), gradient in zip(leaves.items(), found, strict=True)
    }


def compare_gradients(ours: Ours, replayed: Replayed, tolerance: float) -> None:
    leaves = ours.store.trainable()
    # Of log p and of log q apart: in the ELBO what one lacks the other may lack too.
    for what, a, b in (("log p", ours.log_p, replayed.log_p), ("log q", ours.log_q, replayed.log_q)):
        mine, other = gradients(a.sum(), leaves), gradients(b.sum(), leaves)
        norm = math.sqrt(sum(float(g.double().square().sum()) for g in mine.values()))
        for name in (name for name, leaf in leaves.items() if leaf.numel()):
            off = float((mine[name] - other[name]).abs().max())
            if not off <= tolerance * max(1.0, norm):
                raise Differs(f"the gradient of {what} with respect to {name} is off by {off:.3g}, of norm {norm:.3g}")


def compare_inits(guide: Guide, data: Any, replayed: Replayed, tolerance: float) -> None:
    """Initial values that are not random are the same."""
    store = ParamStore()
    batch = data.subsample(data.noise(torch.Generator().manual_seed(0)))
    draw = guide(batch, store=store, noise=data.noise(torch.Generator().manual_seed(0)))
    if guide.model.simulate is not None:
        guide.model(batch, draw.latents, store=store)
    for name, init in replayed.inits.items():
        first, second = (torch.as_tensor(init() if callable(init) else init) for _ in range(2))
        if torch.equal(first, second):
            compare_values({name: store[name]}, {name: first}, tolerance, "the initial value of")


def step_alone(theirs: Theirs, ours: Ours) -> None:
    """A loss on Pyro's own draws, which finds draws of a shape that Pyro does not expect.

    A draw may be so far out that its value, or an argument made of it, is not in its type to the last digit, which says
    nothing.
    """
    try:
        _step(theirs, ours, 0)
    except ValueError as error:
        if not any(words in str(error) for words in ("within the support", INVALID)):
            raise


def _step(theirs: Theirs, ours: Ours, seed: int) -> None:
    with warnings.catch_warnings(), Given(ours, draws=False), nets_of(ours), torch.random.fork_rng():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        if theirs.model is None:
            theirs.guide(*theirs.arguments, **theirs.named)
        else:
            Trace_ELBO().loss(theirs.model, theirs.guide, *theirs.arguments, **theirs.named)
