"""Fitting on fixed noise: the first thing that `fit` tries.

A deterministic loss can be handed to a quasi-Newton method, which needs no step size and follows the narrow valleys of
correlated posteriors, where stochastic gradients crawl. The noise is then drawn anew, more of it, until the posterior's
means and sds no longer depend on the draw.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from guidedsl.runtime.fixed_noise import (
    FixedNoiseLoss,
    FlatParameters,
    NoiseShape,
    Replays,
    matched_normals,
    mode_search_mask,
    more_than_a_normal,
    noise_shape,
)
from guidedsl.runtime.journal import Journal, Tree, on_device
from guidedsl.runtime.lbfgs import Descent, Minimum, Objective, Pair, minimise
from guidedsl.runtime.model import Guide
from guidedsl.runtime.moments import Moments, latent_moments, movement, shift

if TYPE_CHECKING:
    from guidedsl.runtime.params import ParamStore

FEWEST_PARTICLES = 32
CHEAP_PASS = 1e5
"""Numbers in one array of one evaluation below which more of them cost next to nothing."""
CHEAP_PARTICLES = 512
MOST_PARAMETERS = 250_000
MOST_REMEMBERED = 5e6
"""Numbers in the steps that L-BFGS remembers: a hundred steps of so many parameters, or fewer steps of more."""
MOST_JOINT_COORDINATES = 500
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
    if more_than_a_normal(len(flat), shape.coordinates):  # it would learn the draws by heart
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
    """One fixed-noise fit: starts, then rounds of ever more noise.

    `keep` is offered its state at each iteration.
    """

    def __init__(
        self,
        guide: Guide,
        data: Any,
        store: ParamStore,
        plan: Plan,
        generator: torch.Generator,
        tolerance: float,
        report: Callable[[int, float], None],
        keep: Callable[[Callable[[], Tree]], None] = lambda state: None,
    ) -> None:
        self.guide, self.data, self.store = guide, data, store
        self._replays: Replays = {}
        self.plan, self.generator, self.tolerance, self.report = plan, generator, tolerance, report
        self.evaluations = 0
        self.best = self.latest = plan.flat.read()
        self.history: list[tuple[int, float]] = []
        self._keep = keep
        self._descent: Descent | None = None
        self._journal = Journal(generator, lambda: self._keep(self.get_state))

    def get_state(self) -> Tree:
        """All that the rest of the fit follows from."""
        return {
            "journal": self._journal.get_state(),
            "descent": None if self._descent is None else vars(self._descent),
            "evaluations": self.evaluations,
            "history": self.history,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Takes what `get_state` gave; `run` then goes on from there."""
        self._journal.set_state(on_device(state["journal"], self.best.device))
        descent = on_device(state["descent"], self.best.device)
        self._descent = None if descent is None else Descent(**descent)
        self.evaluations, self.history = state["evaluations"], state["history"]

    def _loss(self, particles: int, scale: float = 1.0) -> FixedNoiseLoss:
        plan = self.plan
        normals = matched_normals(particles, plan.shape.coordinates, self.generator, self.best) * scale
        return FixedNoiseLoss(
            self.guide, self.data, self.store, plan.flat, plan.shape, normals, plan.chunk, self._replays
        )

    def _descend(self, objective: Objective, x: Tensor, each: Callable[[Descent], None], **limits: Any) -> Minimum:
        """A minimisation that a checkpoint can be taken of; the one that the fit was cut off in goes on."""

        def reached(at: Descent) -> None:
            self._descent = at
            each(at)
            self._keep(self.get_state)

        found = minimise(objective, x if self._descent is None else self._descent, on_iteration=reached, **limits)
        self._descent = None
        self.evaluations += found.evaluations
        return found

    def _minimise(self, loss: FixedNoiseLoss, x: Tensor, iterations: int, pairs: Sequence[Pair] = ()) -> Minimum:
        base = self.evaluations

        def each(at: Descent) -> None:
            self.latest = at.x
            self.history.append((base + at.iteration, at.value))
            self.report(base + at.iteration, at.value)

        return self._descend(
            loss,
            x,
            each,
            max_iterations=iterations,
            max_evaluations=4 * iterations,
            value_tolerance=max(1e-12, 2 * torch.finfo(x.dtype).eps),
            gain_tolerance=GAIN * self.tolerance**2,
            memory=max(10, min(100, int(MOST_REMEMBERED / len(x)))),
            pairs=pairs,
        )

    def _mode(self, x: Tensor) -> Tree:
        """From x, the parameters of locations moved uphill at zero noise, the others as they are."""
        loss = self._loss(2, scale=0.0)
        mask = mode_search_mask(loss, x, self.generator)

        def masked(y: Tensor) -> tuple[float, Tensor]:
            value, gradient = loss(y)
            return value, gradient * mask

        found = self._descend(masked, x, lambda at: None, max_iterations=60, max_evaluations=240)
        return {"x": found.x}

    def _starts(self) -> list[Tensor]:
        """The initial values as declared, the way to the mode from there, and from a jittered copy."""
        x: Tensor = self._journal.do("start", lambda: {"x": self.best})["x"]
        jitter = torch.randn(x.shape, generator=self.generator, dtype=torch.float64, device=self.generator.device)
        moved = x + 0.5 * jitter.to(x.device, x.dtype)
        mode = self._journal.do("mode", lambda: self._mode(x))["x"]
        other = self._journal.do("another mode", lambda: self._mode(moved))["x"]
        return [x, mode, other]

    def _search(self) -> Minimum | None:
        """The best of short descents from several starts; None where no start has a finite loss."""
        loss = self._loss(self.plan.particles)

        def short(name: str, start: Tensor) -> Minimum:
            return Minimum(**self._journal.do(name, lambda: vars(self._minimise(loss, start, 40))))

        found = [short(f"descent {number}", start) for number, start in enumerate(self._starts())]
        finite = [minimum for minimum in found if math.isfinite(minimum.value)]
        if not finite:
            return None
        best = min(finite, key=lambda minimum: minimum.value)
        if best.settled:
            return best
        return Minimum(**self._journal.do("descent", lambda: vars(self._minimise(loss, best.x, 1500, best.pairs))))

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
        last = self._journal.fold("rounds", self._begin, self._round)
        if last["minimum"] is None:
            return "no starting point has a finite loss"
        self.plan.flat.write(last["best"])
        return self._outcome(Minimum(**last["minimum"]), last["error"], last["particles"])

    def _begin(self) -> Tree:
        """What the first round goes on from."""
        minimum = self._search()
        if minimum is None:
            return {"minimum": None}
        self.best = minimum.x
        seed = int(torch.randint(2**31, (), generator=self.generator, device=self.generator.device))
        particles = self.plan.particles
        return {
            "minimum": vars(minimum),
            "best": minimum.x,
            "seed": seed,
            "particles": particles,
            "moments": tuple(self._moments(minimum.x, seed)),
            "error": self._spread(minimum, particles, seed),
            "rounds": 0,
            "over": False,
        }

    def _round(self, before: Tree) -> Tree | None:
        """The next round, with more draws; None after the last."""
        if before["minimum"] is None or before["over"] or before["rounds"] == ROUNDS:
            return None
        self.best = self.latest = before["best"]
        particles, error, seed = before["particles"], before["error"], before["seed"]
        growth = self._growth(particles, error)
        if growth == 1:
            return None
        particles *= growth
        minimum = self._minimise(self._loss(particles), self.best, 1000, Minimum(**before["minimum"]).pairs)
        after = {**before, "minimum": vars(minimum), "particles": particles, "rounds": before["rounds"] + 1}
        if not math.isfinite(minimum.value):
            return {**after, "over": True}
        self.best = minimum.x
        moments = self._moments(self.best, seed)
        # Errors go with 1/sqrt(draws), and those of two rounds add up to the move between them.
        moved = movement(Moments(*before["moments"]), moments) / math.sqrt(1 + growth)
        error = max(moved, self._spread(minimum, particles, seed))
        over = error < self.tolerance and minimum.settled
        return {**after, "best": self.best, "moments": tuple(moments), "error": error, "over": over}

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
