"""Fitting on fixed noise: the first thing that `fit` tries.

A deterministic loss can be handed to a quasi-Newton method, which needs no step size and follows the narrow valleys of
correlated posteriors, where stochastic gradients crawl. The noise is then drawn anew, more of it, until the posterior's
means and sds no longer depend on the draw.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from guidedsl.runtime.fixed_noise import (
    FixedNoiseLoss,
    FlatParameters,
    NoiseShape,
    matched_normals,
    mode_search_mask,
    noise_shape,
)
from guidedsl.runtime.lbfgs import Minimum, Pair, minimise
from guidedsl.runtime.model import Guide
from guidedsl.runtime.moments import Moments, latent_moments, movement, shift

if TYPE_CHECKING:
    from guidedsl.runtime.params import ParamStore

FEWEST_PARTICLES = 32
CHEAP_PASS = 1e5
"""Numbers in one array of one evaluation below which more of them cost next to nothing."""
CHEAP_PARTICLES = 512
MOST_PARAMETERS = 50_000
MOST_JOINT_COORDINATES = 500
OTHER_PARAMETERS = 100
"""Parameters of a model, and coefficients in a written guide, beside those of a normal over its coordinates."""
LARGEST_PASS = 2e7
"""Numbers in one array of one evaluation (particles × entries) above which stochastic gradients are cheaper."""
LARGEST_ROUND = 8e7
"""The same for the later rounds, which begin next to their optimum."""
LARGEST_SUBSAMPLED_PASS = 2e6
"""The first of these where a plate is subsampled: below it all rows are taken, which costs less than the noise of
batches."""
CHUNK = 1e6
ROUNDS = 6
GROWTH = (2, 4)
"""A round has so many times the draws of the one before: the smaller where that promises to be enough."""
REPLICATES = 4
GAIN = 1e-3
"""A minimisation ends where the ELBO rises by less than this times the squared tolerance: a mean that is t posterior
sds off costs t²/2."""


@dataclass(frozen=True)
class Outcome:
    """How an optimisation ended. `reason` is for a person; `iterations` counts evaluations of the loss."""

    converged: bool
    reason: str
    iterations: int


@dataclass(frozen=True)
class Plan:
    """A fixed-noise fit that can be run: what the guide draws, and how much noise to begin with."""

    shape: NoiseShape
    flat: FlatParameters
    particles: int
    entries: int

    @property
    def chunk(self) -> int:
        """Particles a pass."""
        return max(1, int(CHUNK / self.entries))


def _entries(guide: Guide, data: Any, store: ParamStore, generator: torch.Generator) -> int:
    """Numbers a particle in the largest array of an evaluation, by what autograd keeps for the way back."""
    particles, largest = 3, 1

    def kept(value: Tensor) -> Tensor:
        nonlocal largest
        if value.dim() and value.shape[0] == particles:
            largest = max(largest, value.numel() // particles)
        return value

    with torch.autograd.graph.saved_tensors_hooks(kept, lambda value: value):
        draw = guide(data, particles=(particles,), store=store, noise=data.noise(generator))
        guide.model(data, draw.latents, store=store)
    return largest


def plan(guide: Guide, data: Any, store: ParamStore, generator: torch.Generator) -> Plan | str:
    """How to fit the guide on fixed noise, or why that cannot be done. Creates the guide's parameters."""
    shape = noise_shape(guide, data, store, generator)
    flat = FlatParameters(list(store.trainable().values()))
    if isinstance(shape, str):
        return shape
    if data.whole is not None:
        return "the data is one batch of a subsampled plate"
    if not flat.leaves:
        return "there is no parameter to learn"
    if len(flat) > MOST_PARAMETERS:
        return f"{len(flat)} parameters are too many for a quasi-Newton method"
    if len(flat) > shape.coordinates * (shape.coordinates + 3) + OTHER_PARAMETERS:
        # More than a normal has, of whatever covariance: nets, which would learn the draws by heart.
        return f"{len(flat)} parameters for {shape.coordinates} coordinates would be fitted to the draws themselves"
    if shape.coordinates == 0:
        return "the guide draws nothing"
    entries = max(shape.coordinates, _entries(guide, data, store, generator))
    particles = max(FEWEST_PARTICLES, min(CHEAP_PARTICLES, int(CHEAP_PASS / entries)))
    if len(flat) > 3 * shape.coordinates:
        # Covariances are learned: with fewer pairs than coordinates some direction sees no noise, and the loss has no
        # bound there (Giordano et al. 2023, section 4.3).
        if shape.coordinates > MOST_JOINT_COORDINATES:
            return f"{shape.coordinates} correlated coordinates are too many for fixed noise"
        particles = max(particles, 2 * shape.coordinates + 16)
    if particles * entries > (LARGEST_SUBSAMPLED_PASS if data.batches.rows else LARGEST_PASS):
        return "the data is too large to pass over with many particles"
    return Plan(shape, flat, particles, entries)


class FixedNoiseFit:
    """One fixed-noise fit: starts, then rounds of ever more noise."""

    def __init__(
        self,
        guide: Guide,
        data: Any,
        store: ParamStore,
        plan: Plan,
        generator: torch.Generator,
        tolerance: float,
        report: Callable[[int, float], None],
    ) -> None:
        self.guide, self.data, self.store = guide, data, store
        self.plan, self.generator, self.tolerance, self.report = plan, generator, tolerance, report
        self.evaluations = 0
        self.best = self.latest = plan.flat.read()
        self.history: list[tuple[int, float]] = []

    def _loss(self, particles: int, scale: float = 1.0) -> FixedNoiseLoss:
        plan = self.plan
        normals = matched_normals(particles, plan.shape.coordinates, self.generator, self.best) * scale
        return FixedNoiseLoss(self.guide, self.data, self.store, plan.flat, plan.shape, normals, plan.chunk)

    def _minimise(self, loss: FixedNoiseLoss, x: Tensor, iterations: int, pairs: Sequence[Pair] = ()) -> Minimum:
        base = self.evaluations

        def each(iteration: int, value: float, at: Tensor) -> None:
            self.latest = at
            self.history.append((base + iteration, value))
            self.report(base + iteration, value)

        found = minimise(
            loss,
            x,
            max_iterations=iterations,
            max_evaluations=4 * iterations,
            value_tolerance=max(1e-12, 2 * torch.finfo(x.dtype).eps),
            gain_tolerance=GAIN * self.tolerance**2,
            pairs=pairs,
            on_iteration=each,
        )
        self.evaluations += found.evaluations
        return found

    def _mode(self, x: Tensor) -> Tensor:
        """From x, the parameters of locations moved uphill at zero noise, the others as they are."""
        loss = self._loss(2, scale=0.0)
        mask = mode_search_mask(loss, x, self.generator)

        def masked(y: Tensor) -> tuple[float, Tensor]:
            value, gradient = loss(y)
            return value, gradient * mask

        found = minimise(masked, x, max_iterations=60, max_evaluations=240)
        self.evaluations += found.evaluations
        return found.x

    def _starts(self) -> list[Tensor]:
        """The initial values as declared, the way to the mode from there, and from a jittered copy."""
        x = self.best
        jitter = torch.randn(x.shape, generator=self.generator, dtype=torch.float64, device=self.generator.device)
        moved = x + 0.5 * jitter.to(x.device, x.dtype)
        return [x, self._mode(x), self._mode(moved)]

    def _begin(self) -> Minimum | None:
        """The best of short descents from several starts; None where no start has a finite loss."""
        loss = self._loss(self.plan.particles)
        found = [self._minimise(loss, start, 40) for start in self._starts()]
        finite = [minimum for minimum in found if math.isfinite(minimum.value)]
        if not finite:
            return None
        best = min(finite, key=lambda minimum: minimum.value)
        return best if best.settled else self._minimise(loss, best.x, 1500, best.pairs)

    def _moments(self, x: Tensor, seed: int) -> Moments:
        self.plan.flat.write(x)
        return latent_moments(self.guide, self.data, self.store, seed)

    def _spread(self, minimum: Minimum, particles: int, seed: int) -> float:
        """By how much the optimum depends on the draw: its error for `particles` draws, in sds.

        At fresh noise the optimum is about a quasi-Newton step away, and two independent errors make up that distance.
        """
        here = self._moments(minimum.x, seed)
        if here.mean.numel() == 0:
            return 0.0
        squares = torch.zeros(2 * here.mean.numel(), dtype=here.mean.dtype, device=here.mean.device)
        for _ in range(REPLICATES):
            value, gradient = self._loss(particles)(minimum.x)
            self.evaluations += 1
            if not math.isfinite(value):
                return math.inf
            there = self._moments(minimum.x + minimum.step(gradient), seed)
            squares += shift(here, there).square()
        error = float((squares / (2 * REPLICATES)).max().sqrt())
        return error if math.isfinite(error) else math.inf

    def _growth(self, particles: int, error: float) -> int:
        """How many times more draws to take next; 1 where there is no room for more."""
        room = [few for few in GROWTH if few * particles * self.plan.entries <= LARGEST_ROUND]
        return next((few for few in room if error < 0.8 * self.tolerance * math.sqrt(few)), max(room, default=1))

    def run(self) -> Outcome | str:
        """Fits; the store holds the result. A string says why this is not the way for this guide."""
        minimum = self._begin()
        if minimum is None:
            return "no starting point has a finite loss"
        seed = int(torch.randint(2**31, (), generator=self.generator, device=self.generator.device))
        self.best = minimum.x
        particles = self.plan.particles
        before, error = self._moments(self.best, seed), self._spread(minimum, particles, seed)
        for _ in range(ROUNDS):
            growth = self._growth(particles, error)
            if growth == 1:
                break
            particles *= growth
            minimum = self._minimise(self._loss(particles), self.best, 1000, minimum.pairs)
            if not math.isfinite(minimum.value):
                break
            self.best = minimum.x
            after = self._moments(self.best, seed)
            # Errors go with 1/sqrt(draws), and those of two rounds add up to the move between them.
            moved, before = movement(before, after) / math.sqrt(1 + growth), after
            error = max(moved, self._spread(minimum, particles, seed))
            if error < self.tolerance and minimum.settled:
                break
        self.plan.flat.write(self.best)
        return self._outcome(minimum, error, particles)

    def interrupted(self) -> None:
        """Leaves the store at the last completed iteration."""
        self.plan.flat.write(self.latest)

    def _outcome(self, minimum: Minimum, error: float, particles: int) -> Outcome:
        if not math.isfinite(error):
            return Outcome(
                minimum.settled, f"quasi-Newton on {particles} fixed draws: {minimum.reason}", self.evaluations
            )
        found = f"means and sds are within {error:.2g} sd of the optimum's, judged by new noise of {particles} draws"
        if error >= self.tolerance:
            return Outcome(False, f"{found}, more than the tolerance {self.tolerance:g}", self.evaluations)
        if not minimum.settled:
            return Outcome(False, f"{found}, but {minimum.reason}", self.evaluations)
        return Outcome(True, found, self.evaluations)
