"""Fitting by stochastic gradients: Adam in phases of ever smaller steps, with averaged iterates.

The first phase ends when its iterates are stationary: when the two halves of a window agree, by a split R-hat of each
parameter (Dhaka et al. 2020; Welandawe et al. 2022, section 3). Each later phase takes smaller steps over a longer
window. The average over a window is its phase's answer; the fit has converged when the next phase gives the same.

The weights of a net have no one optimum: many settings are the same function, and iterates drift among them. A guide or
model with nets is judged by its loss instead, window by window against its Monte Carlo error.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean, variance
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from guidedsl.runtime.deterministic import Outcome
from guidedsl.runtime.elbo import ELBO, gradients_of
from guidedsl.runtime.errors import InferenceError
from guidedsl.runtime.fixed_noise import FlatParameters
from guidedsl.runtime.model import Guide
from guidedsl.runtime.moments import latent_moments, movement
from guidedsl.runtime.nonfinite import explain_nonfinite
from guidedsl.runtime.optim import Adam

if TYPE_CHECKING:
    from guidedsl.runtime.feed import Feed
    from guidedsl.runtime.params import ParamStore

FIRST_LR = 0.1
LR_FACTOR = 0.25
PHASES = 5
FIRST_WINDOW = 200
LONGEST_WINDOW = 3200
PARTICLES = 4
NET_LR = 0.003
NET_PHASES = 3
NET_LONGEST_WINDOW = 1600
NET_PARTICLES = 1
SEEN = 2.0
"""A change of the mean loss is seen when it is this many of its standard errors."""
MIXED = 1.2
MOST_SKIPPED_IN_A_ROW = 20


@dataclass(frozen=True)
class Gain:
    """By how much a mean loss fell, and the standard error of that."""

    value: float
    error: float

    @property
    def seen(self) -> bool:
        """Whether it is more than chance."""
        return self.value > SEEN * self.error

    @staticmethod
    def between(before: list[float], after: list[float]) -> Gain:
        """From the losses of some steps to those of others; without two of each, more than can be told."""
        if len(before) < 2 or len(after) < 2:
            return Gain(math.inf, 0.0)
        error = math.sqrt(variance(before) / len(before) + variance(after) / len(after))
        return Gain(fmean(before) - fmean(after), error)

    def __str__(self) -> str:
        return f"{self.value:.2g} ± {self.error:.2g}"


class Window:
    """Running sums of the iterates of one window, its halves apart."""

    def __init__(self, flat: FlatParameters, length: int) -> None:
        x = flat.read()
        self.length = length
        self.taken = 0
        self._sums = [torch.zeros_like(x), torch.zeros_like(x)]
        self._squares = [torch.zeros_like(x), torch.zeros_like(x)]
        self._start = x
        self._losses: tuple[list[float], list[float]] = ([], [])

    def add(self, x: Tensor, loss: float) -> None:
        """Takes one iterate, and the loss on the way to it."""
        half = 0 if self.taken < self.length // 2 else 1
        offset = x - self._start  # sums of squares of the iterates themselves would cancel
        self._sums[half] += offset
        self._squares[half].addcmul_(offset, offset)
        if math.isfinite(loss):
            self._losses[half].append(loss)
        self.taken += 1

    def gain(self) -> Gain:
        """How much lower the loss is in the second half than in the first."""
        return Gain.between(*self._losses)

    def gain_over(self, before: Window) -> Gain:
        """How much lower the loss is than in the second half of the window before."""
        return Gain.between(before._losses[1], [loss for half in self._losses for loss in half])

    def mean(self) -> Tensor:
        """The average iterate."""
        return self._start + (self._sums[0] + self._sums[1]) / max(self.taken, 1)

    def r_hat(self) -> float:
        """Split R-hat of the window: its 95 % quantile over parameters. 1 where the halves agree."""
        n = self.length // 2
        if self.taken < self.length or n < 2:
            return math.inf
        means = torch.stack(self._sums) / n
        within = (torch.stack(self._squares) / n - means.square()).clamp_min(0).mean(0)
        between = means.var(0)
        moving = within > 0
        if not bool(moving.any()):
            return 1.0
        ratio = ((within[moving] + between[moving]) / within[moving]).sqrt()
        return float(ratio.sort().values[int(0.95 * (ratio.numel() - 1))])


class StochasticFit:
    """One stochastic fit: steps of Adam on a guide, skipping those that are not finite."""

    def __init__(
        self,
        guide: Guide,
        data: Any,
        store: ParamStore,
        flat: FlatParameters,
        names: list[str],
        generator: torch.Generator,
        *,
        particles: int,
        tolerance: float,
        report: Callable[[int, float], None],
        feed: Feed | None = None,
    ) -> None:
        """`data` is what convergence is judged on, and what steps are taken on unless a `feed` gives their batches."""
        self.guide, self.data, self.store, self.flat, self.names = guide, data, store, flat, names
        self.generator, self.tolerance, self.report = generator, tolerance, report
        self.source = data if feed is None else feed
        self.loss = ELBO(num_particles=particles)
        self.adam = Adam(lr=FIRST_LR)
        self.steps = 0
        self.skipped = 0
        self._skipped_in_a_row = 0
        self.history: list[tuple[int, float]] = []

    def _step(self) -> float:
        """One step; returns the loss before it. A step that is not finite is skipped and counted."""
        noise = self.source.noise(self.generator)
        batch = self.source.subsample(noise)
        state = self.generator.get_state()
        objective, value = self.loss(self.guide.model, self.guide, batch, self.store, noise)
        loss = value.item()
        gradients: tuple[Tensor | None, ...] = ()
        if math.isfinite(loss):
            gradients = gradients_of(objective, self.flat.leaves)
        self.steps += 1
        if gradients and all(bool(gradient.isfinite().all()) for gradient in gradients if gradient is not None):
            self.adam.step(self.store, self.names, self.flat.leaves, gradients)
            self._skipped_in_a_row = 0
        else:
            self._skip(batch, state, loss)
        if self.steps % 10 == 0:
            self.history.append((self.steps, loss))
            self.report(self.steps, loss)
        return loss

    def _skip(self, batch: Any, state: Tensor, loss: float) -> None:
        self.skipped += 1
        self._skipped_in_a_row += 1
        if self._skipped_in_a_row < MOST_SKIPPED_IN_A_ROW:
            return
        if math.isfinite(loss):
            raise InferenceError(
                f"the gradient was not finite in {MOST_SKIPPED_IN_A_ROW} steps in a row, though the loss is; look for "
                "sqrt, log or a division at the edge of its domain"
            )
        self.generator.set_state(state)
        noise = self.data.noise(self.generator)

        def again() -> object:
            return self.loss(self.guide.model, self.guide, batch, self.store, noise)

        raise InferenceError(explain_nonfinite(again, self.guide.model, self.guide, self.store, loss))

    def _window(self, length: int) -> Window:
        window = Window(self.flat, length)
        for _ in range(length):
            loss = self._step()
            window.add(self.flat.read(), loss)
        return window

    def _skips(self) -> str:
        return f"; {self.skipped} steps were not finite and skipped" if self.skipped else ""

    def given(self, steps: int, lr: float | None) -> Outcome:
        """Exactly `steps` steps: half of them at `lr`, then decaying to a tenth of it; the last quarter averaged."""
        rate = 0.01 if lr is None else lr
        self.adam.set_lr(rate)
        tail = max(steps // 4, 1)
        window: Window | None = None
        for step in range(steps):
            late = max(0.0, (step - steps / 2) / max(steps / 2, 1))
            self.adam.set_lr(rate * 0.1**late)
            if step == steps - tail:
                window = Window(self.flat, tail)
            loss = self._step()
            if window is not None:
                window.add(self.flat.read(), loss)
        if window is None:
            return Outcome(False, "no step was taken", 0)
        self.flat.write(window.mean())
        if self.store.modules:
            gain = window.gain()
            said = f"{'still fell' if gain.seen else 'no longer fell'} in the last {tail} of {steps} steps"
            return Outcome(not gain.seen, f"the loss {said} ({gain}){self._skips()}", steps)
        r_hat = window.r_hat()
        settled = r_hat < MIXED
        said = "stationary" if settled else "not stationary: take more steps"
        return Outcome(
            settled, f"the last {tail} of {steps} iterates are {said} (R-hat {r_hat:.3g}){self._skips()}", steps
        )

    def _first_phase(self) -> tuple[Window, bool]:
        """Windows of doubling length until one is stationary; the last, and whether it was."""
        length = FIRST_WINDOW
        while True:
            window = self._window(length)
            if window.r_hat() < MIXED or length >= LONGEST_WINDOW:
                return window, window.r_hat() < MIXED
            length *= 2

    def adaptive(self, lr: float | None) -> Outcome:
        """Phases of ever smaller steps until one changes the posterior by less than the tolerance."""
        if self.store.modules:
            return self._adaptive_by_loss(NET_LR if lr is None else lr)
        seed = int(torch.randint(2**31, (), generator=self.generator, device=self.generator.device))
        rate = FIRST_LR if lr is None else lr
        self.adam.set_lr(rate)
        window, stationary = self._first_phase()
        self.flat.write(window.mean())
        before = latent_moments(self.guide, self.data, self.store, seed)
        moved = math.inf
        for _ in range(PHASES):
            rate *= LR_FACTOR
            self.adam.set_lr(rate)
            window = self._window(min(2 * window.length, 2 * LONGEST_WINDOW))
            self.flat.write(window.mean())
            after = latent_moments(self.guide, self.data, self.store, seed)
            moved, before = movement(before, after), after
            if moved < self.tolerance:
                break
        found = f"steps of {rate:.2g} moved means and sds by at most {moved:.2g} sd"
        if moved >= self.tolerance:
            return Outcome(False, f"{found}, more than the tolerance {self.tolerance:g}{self._skips()}", self.steps)
        if not stationary:
            return Outcome(False, f"{found}, but larger steps never became stationary{self._skips()}", self.steps)
        return Outcome(True, found + self._skips(), self.steps)

    def _adaptive_by_loss(self, rate: float) -> Outcome:
        """The same for nets: windows until the loss no longer falls, then smaller steps until they no longer help."""
        self.adam.set_lr(rate)
        window = self._window(FIRST_WINDOW)
        while window.gain().seen and window.length < NET_LONGEST_WINDOW:
            window = self._window(2 * window.length)
        gain = window.gain()
        for _ in range(NET_PHASES):
            rate *= LR_FACTOR
            self.adam.set_lr(rate)
            before, window = window, self._window(min(2 * window.length, 2 * NET_LONGEST_WINDOW))
            gain = window.gain_over(before)
            if not gain.seen:
                break
        self.flat.write(window.mean())
        found = f"steps of {rate:.2g} lowered the loss by {gain}"
        return Outcome(not gain.seen, found + self._skips(), self.steps)
