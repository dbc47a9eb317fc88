"""When a stochastic fit takes smaller steps, and when it ends.

A schedule gives the step size, and says after each window of steps what is next: another window, or an outcome. Its own
state is numbers and tensors, so that a checkpoint can hold it.

`ByPosterior`: the first phase ends when its iterates are stationary, when the two halves of a window agree by a split
R-hat of each parameter (Dhaka et al. 2020; Welandawe et al. 2022, section 3). Each later phase takes smaller steps over
a longer window. The average over a window is its phase's answer; the fit has converged when the next phase gives the
same posterior.

`ByLoss`: the weights of nets and flows have no one optimum, for many settings are the same function, and iterates drift
among them. What can settle is the loss. Steps of one size lower it until what they gain is lost in their own noise;
that it no longer falls is tested on the means of two halves of a window with their standard errors, and the step size
then lowered (as Lang, Zhang and Xiao 2019 do with another statistic; Pflug 1990). The fit has converged when smaller
steps over a longer window no longer lower the mean loss by more than chance, or by more than matters: means that are t
posterior sds off cost t²/2 nats a coordinate, with t the tolerance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from torch import Tensor

from guidedsl.runtime.moments import Moments, movement
from guidedsl.runtime.windows import Gain, Window

FIRST_LR = 0.1
LR_FACTOR = 0.25
PHASES = 5
FIRST_WINDOW = 200
LONGEST_WINDOW = 3200
MIXED = 1.2
NET_LR = 0.003
LOSS_PHASES = 3
LOSS_LONGEST_WINDOW = 1600
LOSS_WINDOWS = 8
"""Windows of steps of the first size, at most."""

Verdict = tuple[bool, str]
"""Whether a fit converged, and why or why not."""


class Schedule(Protocol):
    """What a stochastic fit asks. `length` is that of the next window."""

    length: int

    def rate(self, step: int) -> float:
        """The learning rate after so many steps."""

    def ended(self, window: Window, write: Callable[[Tensor], None]) -> Verdict | None:
        """Takes a window that is full; the verdict where it was the last. `write` sets the parameters [n]."""

    def get_state(self) -> dict[str, Any]:
        """What changes along the way, as a tree for a checkpoint."""

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Takes what `get_state` gave."""


class GivenSteps:
    """Exactly `steps` steps: half of them at `lr`, then decaying to a tenth of it; the last quarter averaged."""

    def __init__(self, steps: int, lr: float | None, by_loss: bool) -> None:
        self.steps, self._lr, self._by_loss = steps, 0.01 if lr is None else lr, by_loss
        self._tail = max(steps // 4, 1)
        self._last = False
        self.length = steps - self._tail

    def rate(self, step: int) -> float:
        late = max(0.0, (step - self.steps / 2) / max(self.steps / 2, 1))
        decayed: float = self._lr * 0.1**late
        return decayed

    def ended(self, window: Window, write: Callable[[Tensor], None]) -> Verdict | None:
        if not self._last:
            self._last, self.length = True, self._tail
            return None
        write(window.mean())
        if self._by_loss:
            gain = window.gain()
            falls = gain.matters()
            said = "still fell" if falls else "no longer fell"
            return not falls, f"the loss {said} in the last {self._tail} of {self.steps} steps ({gain})"
        r_hat = window.r_hat()
        settled = r_hat < MIXED
        said = "stationary" if settled else "not stationary: take more steps"
        return settled, f"the last {self._tail} of {self.steps} iterates are {said} (R-hat {r_hat:.3g})"

    def get_state(self) -> dict[str, Any]:
        return {"length": self.length, "last": self._last}

    def set_state(self, state: Mapping[str, Any]) -> None:
        self.length, self._last = state["length"], state["last"]


class ByPosterior:
    """Phases of ever smaller steps until one changes the posterior by less than the tolerance.

    `moments` gives those of the latents at the parameters as they are, on the noise of a seed.
    """

    def __init__(self, lr: float | None, tolerance: float, moments: Callable[[int], Moments], seed: int) -> None:
        self.length = FIRST_WINDOW
        self._rate = FIRST_LR if lr is None else lr
        self._tolerance, self._moments, self._seed = tolerance, moments, seed
        self._phase = 0
        self._stationary = False
        self._before: Moments | None = None

    def rate(self, step: int) -> float:
        return self._rate

    def ended(self, window: Window, write: Callable[[Tensor], None]) -> Verdict | None:
        if self._before is None:
            self._stationary = window.r_hat() < MIXED
            if not self._stationary and window.length < LONGEST_WINDOW:
                self.length = 2 * window.length
                return None
            write(window.mean())
            self._before = self._moments(self._seed)
        else:
            write(window.mean())
            after = self._moments(self._seed)
            moved, self._before = movement(self._before, after), after
            if moved < self._tolerance or self._phase == PHASES:
                return self._verdict(moved)
        self._phase += 1
        self._rate *= LR_FACTOR
        self.length = min(2 * window.length, 2 * LONGEST_WINDOW)
        return None

    def _verdict(self, moved: float) -> Verdict:
        found = f"steps of {self._rate:.2g} moved means and sds by at most {moved:.2g} sd"
        if moved >= self._tolerance:
            return False, f"{found}, more than the tolerance {self._tolerance:g}"
        if not self._stationary:
            return False, f"{found}, but larger steps never became stationary"
        return True, found

    def get_state(self) -> dict[str, Any]:
        return {
            "length": self.length,
            "rate": self._rate,
            "phase": self._phase,
            "stationary": self._stationary,
            "seed": self._seed,
            "before": None if self._before is None else tuple(self._before),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        self.length, self._rate, self._phase = state["length"], state["rate"], state["phase"]
        self._stationary, self._seed = state["stationary"], state["seed"]
        self._before = None if state["before"] is None else Moments(*state["before"])


class ByLoss:
    """Windows until the loss no longer falls, then smaller steps until they no longer lower it.

    `least` is the gain in nats below which nothing is gained.
    """

    def __init__(self, lr: float, least: float) -> None:
        self.length = FIRST_WINDOW
        self._rate, self._least = lr, least
        self._phase = self._windows = 0
        self._before: list[float] = []

    def rate(self, step: int) -> float:
        return self._rate

    def ended(self, window: Window, write: Callable[[Tensor], None]) -> Verdict | None:
        if self._phase == 0:
            self._windows += 1
            if window.gain().matters(self._least) and self._windows < LOSS_WINDOWS:
                self.length = min(2 * window.length, LOSS_LONGEST_WINDOW)
                return None
        else:
            gain = window.gain_over(self._before)
            if not gain.matters(self._least) or self._phase == LOSS_PHASES:
                write(window.mean())
                return self._verdict(gain, window.length)
        self._phase += 1
        self._rate *= LR_FACTOR
        self._before = list(window.later_losses)
        self.length = min(2 * window.length, 2 * LOSS_LONGEST_WINDOW)
        return None

    def _verdict(self, gain: Gain, length: int) -> Verdict:
        found = f"{length} steps of {self._rate:.2g} lowered the loss by {gain}"
        if gain.matters(self._least):
            return False, f"{found}, and more steps would lower it further: steps=… sets how many"
        if gain.matters():
            return True, f"{found}, too little to matter"
        return True, f"{found}, which is no more than chance"

    def get_state(self) -> dict[str, Any]:
        return {
            "length": self.length,
            "rate": self._rate,
            "phase": self._phase,
            "windows": self._windows,
            "before": self._before,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        self.length, self._rate, self._phase = state["length"], state["rate"], state["phase"]
        self._windows, self._before = state["windows"], list(state["before"])
