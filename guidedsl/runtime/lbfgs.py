"""Limited-memory BFGS with a strong-Wolfe line search that survives values which are not finite.

Nocedal and Wright, Numerical Optimization (2nd ed. 2006), algorithms 7.4, 7.5, 3.5 and 3.6. torch.optim.LBFGS is not
used: importing it costs a second, and it stops at the first inf.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

Objective = Callable[[Tensor], tuple[float, Tensor]]
Pair = tuple[Tensor, Tensor, float]
"""A step s, the change y of the gradient over it, and 1 / s·y."""

_SUFFICIENT = 1e-4
_CURVATURE = 0.9
_LONGEST = 1e10


@dataclass(frozen=True)
class Descent:
    """A minimisation between two iterations: all that the next one follows from.

    `recent` are the values of the last iterations, `pairs` what was learned of the curvature.
    """

    x: Tensor
    value: float
    gradient: Tensor
    pairs: tuple[Pair, ...]
    recent: tuple[float, ...]
    iteration: int
    evaluations: int


@dataclass(frozen=True)
class Minimum:
    """Where a minimisation ended. `settled`: by its tolerances, and not by a limit or a failure.

    `pairs` is what it learned of the curvature: a start for the minimisation of a loss much like this one.
    """

    x: Tensor
    value: float
    gradient: Tensor
    iterations: int
    evaluations: int
    settled: bool
    reason: str
    pairs: tuple[Pair, ...] = ()

    def step(self, gradient: Tensor) -> Tensor:
        """−H g: the quasi-Newton step for another gradient [n] at x, [n]."""
        return _direction(gradient, self.pairs)


class _Point(NamedTuple):
    """A point on the search line: step, value, slope along the line, gradient."""

    step: float
    value: float
    slope: float
    gradient: Tensor


class _Line:
    """An objective along one direction, counting its evaluations."""

    def __init__(self, objective: Objective, x: Tensor, direction: Tensor) -> None:
        self.objective, self.x, self.direction = objective, x, direction
        self.evaluations = 0

    def at(self, step: float) -> _Point:
        self.evaluations += 1
        value, gradient = self.objective(self.x + step * self.direction)
        slope = float(gradient.dot(self.direction))
        if not (math.isfinite(value) and math.isfinite(slope)):
            return _Point(step, math.inf, math.nan, gradient)
        return _Point(step, value, slope, gradient)


def _cubic(low: _Point, high: _Point) -> float:
    """The minimiser of the cubic through two points and slopes, kept well inside; bisection where there is none."""
    left, right = sorted((low.step, high.step))
    width = right - left
    if not (math.isfinite(high.value) and math.isfinite(high.slope)):
        return low.step + 0.1 * (high.step - low.step)
    d1 = low.slope + high.slope - 3 * (low.value - high.value) / (low.step - high.step)
    square = d1 * d1 - low.slope * high.slope
    if square < 0 or not math.isfinite(square):
        return 0.5 * (left + right)
    d2 = math.copysign(math.sqrt(square), high.step - low.step)
    denominator = high.slope - low.slope + 2 * d2
    if denominator == 0:
        return 0.5 * (left + right)
    step = high.step - (high.step - low.step) * (high.slope + d2 - d1) / denominator
    return min(max(step, left + 0.1 * width), right - 0.1 * width)


def _zoom(line: _Line, start: _Point, low: _Point, high: _Point, budget: int) -> _Point:
    """A step between `low` (the better end) and `high` that meets the strong Wolfe conditions, or the best seen."""
    for _ in range(budget):
        if abs(high.step - low.step) <= 1e-14 * max(1.0, abs(low.step)):
            break
        trial = line.at(_cubic(low, high))
        if trial.value > start.value + _SUFFICIENT * trial.step * start.slope or trial.value >= low.value:
            high = trial
            continue
        if abs(trial.slope) <= -_CURVATURE * start.slope:
            return trial
        if trial.slope * (high.step - low.step) >= 0:
            high = low
        low = trial
    return low


def _search(line: _Line, start: _Point, first: float, budget: int) -> _Point:
    """A strong-Wolfe step from `start`; `start` itself where none decreases the objective."""
    previous, step = start, first
    for _ in range(budget):
        trial = line.at(step)
        worse = trial.value > start.value + _SUFFICIENT * step * start.slope
        if worse or (previous.step > 0 and trial.value >= previous.value):
            return _zoom(line, start, previous, trial, budget)
        if abs(trial.slope) <= -_CURVATURE * start.slope:
            return trial
        if trial.slope >= 0:
            return _zoom(line, start, trial, previous, budget)
        previous, step = trial, min(step * 4.0, _LONGEST)
    return previous


def _direction(gradient: Tensor, pairs: Sequence[Pair]) -> Tensor:
    """−H g by the two-loop recursion."""
    q = gradient.clone()
    weights: list[float] = []
    for s, y, rho in reversed(pairs):
        weights.append(rho * float(s.dot(q)))
        q.add_(y, alpha=-weights[-1])
    if pairs:
        _, y, rho = pairs[-1]
        q.mul_(1.0 / (rho * float(y.dot(y))))
    for (s, y, rho), weight in zip(pairs, reversed(weights), strict=True):
        q.add_(s, alpha=weight - rho * float(y.dot(q)))
    return q.neg_()


def minimise(
    objective: Objective,
    start: Tensor | Descent,
    *,
    max_iterations: int = 500,
    max_evaluations: int = 2000,
    memory: int = 100,
    gradient_tolerance: float = 1e-5,
    value_tolerance: float = 1e-9,
    gain_tolerance: float = 0.0,
    patience: int = 5,
    pairs: Sequence[Pair] = (),
    on_iteration: Callable[[Descent], None] | None = None,
) -> Minimum:
    """Minimises `objective`, which gives value and gradient at a vector [n]; a value that is not finite is a wall.

    Ends when the largest entry of the gradient is below `gradient_tolerance`, or when `patience` iterations together
    decrease the value by less than `gain_tolerance` or `value_tolerance` · (1 + |value|). `start` must have a finite
    value, else the result is `start`, not settled. `pairs` begins the memory. `on_iteration` is told of each iteration
    where it ended; from there, as `start`, a minimisation goes on bit for bit as if it had not been left.
    """
    if isinstance(start, Tensor):
        value, gradient = objective(start)
        start = Descent(start, value, gradient, tuple(pairs), (value,), 0, 1)
    stops = _Stops(max_evaluations, gradient_tolerance, value_tolerance, gain_tolerance, patience)
    run = _Run(objective, start, memory, stops, on_iteration)
    if not (math.isfinite(run.value) and bool(run.gradient.isfinite().all())):
        return run.ended(0, False, "the start has no finite value and gradient")
    if start.iteration and (over := run.verdict(start.iteration)) is not None:
        return over
    for iteration in range(start.iteration + 1, max_iterations + 1):
        if (over := run.iterate(iteration)) is not None:
            return over
    return run.ended(max_iterations, False, f"{max_iterations} iterations were not enough")


class _Stops(NamedTuple):
    """When a minimisation ends, besides its number of iterations."""

    max_evaluations: int
    gradient_tolerance: float
    value_tolerance: float
    gain_tolerance: float
    patience: int


class _Run:
    """A minimisation on its way."""

    def __init__(
        self,
        objective: Objective,
        start: Descent,
        memory: int,
        stops: _Stops,
        on_iteration: Callable[[Descent], None] | None,
    ) -> None:
        self.objective, self.stops, self.on_iteration = objective, stops, on_iteration
        self.x, self.value, self.gradient, self.evaluations = start.x, start.value, start.gradient, start.evaluations
        self.known: deque[Pair] = deque(start.pairs, maxlen=memory)
        self.recent: deque[float] = deque(start.recent, maxlen=stops.patience + 1)

    def ended(self, iteration: int, settled: bool, reason: str) -> Minimum:
        """The result, after so many iterations."""
        return Minimum(
            self.x, self.value, self.gradient, iteration, self.evaluations, settled, reason, tuple(self.known)
        )

    def _flat(self, tolerance: float) -> float:
        """The decrease below which the value stands still."""
        return tolerance * (1.0 + abs(self.value))

    def verdict(self, iteration: int) -> Minimum | None:
        """The result, where the values of the last iterations or their cost end it."""
        least = max(self.stops.gain_tolerance, self._flat(self.stops.value_tolerance))
        if len(self.recent) > self.stops.patience and self.recent[0] - self.value <= least:
            return self.ended(iteration, True, "the loss no longer decreases")
        if self.evaluations >= self.stops.max_evaluations:
            return self.ended(iteration, False, f"{self.evaluations} evaluations were not enough")
        return None

    def iterate(self, iteration: int) -> Minimum | None:
        """One step along a search line; the result, where it was the last."""
        if float(self.gradient.abs().max()) <= self.stops.gradient_tolerance:
            return self.ended(iteration - 1, True, "the gradient vanishes")
        direction, slope = _descent(self.gradient, self.known)
        first = 1.0 if self.known else min(1.0, 1.0 / float(self.gradient.abs().sum()))
        line = _Line(self.objective, self.x, direction)
        found = _search(line, _Point(0.0, self.value, slope, self.gradient), first, 30)
        self.evaluations += line.evaluations
        if found.step == 0.0 or not bool(found.gradient.isfinite().all()):
            return self._stuck(iteration)
        step = found.step * direction
        _remember(self.known, step, found.gradient - self.gradient)
        self.x, self.value, self.gradient = self.x + step, found.value, found.gradient
        self.recent.append(self.value)
        if self.on_iteration is not None:
            at = self.x, self.value, self.gradient, tuple(self.known), tuple(self.recent)
            self.on_iteration(Descent(*at, iteration, self.evaluations))
        return self.verdict(iteration)

    def _stuck(self, iteration: int) -> Minimum | None:
        """Forgets the curvature; the result, where there was none to forget."""
        if self.known:
            self.known.clear()
            return None
        # Near the minimum rounding hides the last decreases.
        flat = len(self.recent) > 1 and self.recent[-2] - self.value <= self._flat(100 * self.stops.value_tolerance)
        return self.ended(iteration, flat, "no step decreases the loss")


def _descent(gradient: Tensor, known: deque[Pair]) -> tuple[Tensor, float]:
    """A direction in which the loss falls, and its slope; where the pairs give none they are forgotten."""
    direction = _direction(gradient, known)
    slope = float(gradient.dot(direction))
    if math.isfinite(slope) and slope < 0:
        return direction, slope
    known.clear()
    return -gradient, -float(gradient.dot(gradient))


def _remember(known: deque[Pair], step: Tensor, change: Tensor) -> None:
    """Add a step with the change of the gradient, if the loss is curved upward there."""
    curvature = float(step.dot(change))
    if curvature > 1e-12 * float(change.dot(change)):
        known.append((step, change, 1.0 / curvature))
