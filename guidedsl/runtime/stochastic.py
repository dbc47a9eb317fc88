"""Fitting by stochastic gradients: Adam in phases of ever smaller steps, with averaged iterates."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from guidedsl.runtime.annealing import annealed
from guidedsl.runtime.deterministic import Outcome
from guidedsl.runtime.elbo import ELBO
from guidedsl.runtime.engine.block import MOST_NUMBERS, Blocks
from guidedsl.runtime.engine.evaluate import Eager
from guidedsl.runtime.engine.record import Unrecordable
from guidedsl.runtime.errors import InferenceError
from guidedsl.runtime.fixed_noise import FlatParameters, more_than_a_normal
from guidedsl.runtime.journal import Tree, on_device
from guidedsl.runtime.metadata import attribute_of
from guidedsl.runtime.model import Guide
from guidedsl.runtime.moments import Moments, latent_moments
from guidedsl.runtime.nonfinite import explain_nonfinite
from guidedsl.runtime.optim import Adam
from guidedsl.runtime.posterior import site_shape
from guidedsl.runtime.schedules import FIRST_LR, NET_LR, ByLoss, ByPosterior, GivenSteps, Schedule
from guidedsl.runtime.windows import Window

if TYPE_CHECKING:
    from guidedsl.runtime.feed import Feed
    from guidedsl.runtime.fit_run import FitOptions
    from guidedsl.runtime.params import ParamStore

PARTICLES = 4
NET_PARTICLES = 1
FLOW_PARTICLES = 16
"""The layers of a flow over some latents cost next to nothing more for many draws than for one."""
MOST_SKIPPED_IN_A_ROW = 20
BLOCK = 100
"""Steps that compiled loops take in one call; calls end at multiples of it in a window, resumed or not."""
WORTH_COMPILING = 500
"""Given steps from which the seconds of compilation are won back."""


def _coordinates(guide: Guide, data: Any) -> int:
    """Numbers that the latents have in all, every row of every plate counted."""
    total = 0.0
    for site in guide.model.sites:
        rows = math.prod(plate.size / plate.length for plate in (getattr(data, attribute_of(p)) for p in site.plates))
        total += rows * math.prod(site_shape(site, data))
    return round(total)


def _read(loss: Tensor, gradients: Sequence[Tensor | None]) -> tuple[float, bool]:
    """The loss, and whether it and the gradients are finite: at once, for reading waits for the device."""
    flags = [loss.isfinite(), *(gradient.isfinite().all() for gradient in gradients if gradient is not None)]
    value, finite = torch.stack((loss.detach(), torch.stack(flags).all().to(loss.dtype))).tolist()
    return value, finite == 1.0


class StochasticFit:
    """One stochastic fit: steps of Adam on a guide, skipping those that are not finite.

    `data` is what convergence is judged on, and what steps are taken on unless a `feed` gives their batches. `keep` is
    offered the fit's state at each step.
    """

    def __init__(
        self,
        guide: Guide,
        data: Any,
        store: ParamStore,
        generator: torch.Generator,
        *,
        options: FitOptions,
        report: Callable[[int, float], None],
        feed: Feed | None = None,
        keep: Callable[[Callable[[], Tree]], None] = lambda state: None,
    ) -> None:
        self.guide, self.data, self.store = guide, data, store
        leaves = store.trainable()
        self.flat, self.names = FlatParameters(list(leaves.values())), list(leaves)
        self.generator, self.options, self.report, self._keep = generator, options, report, keep
        self.feed = feed
        self.source = data if feed is None else feed
        self.coordinates = _coordinates(guide, data)
        self.by_loss = bool(store.modules) or more_than_a_normal(len(self.flat), self.coordinates)
        usual = (NET_PARTICLES if store.modules else FLOW_PARTICLES) if self.by_loss else PARTICLES
        self.loss = ELBO(num_particles=usual if options.num_particles is None else options.num_particles)
        self.adam = Adam(lr=NET_LR if store.modules else FIRST_LR)
        self._blocks = self._compiled()
        # Steps beside a compilation are few: not worth a recording.
        self._eager = Eager(guide.model, guide, self.loss, store, replays=self._blocks is None)
        self.compiled_from: int | None = None
        self.steps = 0
        self.skipped = 0
        self._skipped_in_a_row = 0
        self.history: list[tuple[int, float]] = []
        self._saved: Mapping[str, Any] | None = None

    def _compiled(self) -> Blocks | None:
        """What takes many steps in one call, where that is wanted and can be."""
        options = self.options
        if options.engine == "eager":
            return None
        if options.engine == "auto" and options.steps is not None and options.steps < WORTH_COMPILING:
            return None
        eager = Eager(self.guide.model, self.guide, self.loss, self.store, replays=False)
        blocks = Blocks(eager, self.adam, native_only=True, beside=options.engine == "auto")
        try:
            if self.feed is not None:
                raise Unrecordable("data that is fed in batches")
            if options.kl_annealing:
                raise Unrecordable("a weight that is annealed")
            blocks.ready(self.data)
        except (Unrecordable, InferenceError) as error:
            if options.engine == "compiled":
                why = error if isinstance(error, InferenceError) else f'steps cannot be C loops: {error}; take "auto"'
                raise InferenceError(f'fit(engine="compiled"): {why}') from None
            return None
        return blocks

    def _ready(self) -> Blocks | None:
        """What takes many steps in one call, once it is there; the step from which it does is noted."""
        if self._blocks is not None and self.compiled_from is None:
            try:
                if not self._blocks.ready(self.data):
                    return None
            except Unrecordable:
                self._blocks = None
                return None
            self.compiled_from = self.steps
        return self._blocks

    def _take(self, schedule: Schedule, window: Window, unjudged: int) -> None:
        """The next steps: some in one call, or one by itself where they cannot, or where one is not finite."""
        blocks = self._ready()
        if blocks is not None:
            most = min(BLOCK - window.taken % BLOCK, window.length - window.taken)
            most = min(most, max(1, MOST_NUMBERS // len(self.flat)))
            rates = [schedule.rate(self.steps + n) for n in range(blocks.takes(self.data, most))]
            iterates = torch.empty(len(rates), len(self.flat), dtype=self.flat.leaves[0].dtype)
            found = blocks(self.data, self.data.noise(self.generator), rates, iterates).tolist()
            for loss in found:
                self._taken(loss)
            window.add_many(iterates[: len(found)], found)
            if len(found) == len(rates):
                self._skipped_in_a_row = 0
                return
        self.adam.set_lr(schedule.rate(self.steps))
        loss = self._step()
        if self.steps > unjudged:
            window.add(self.flat.read(), loss)

    def _taken(self, loss: float) -> None:
        """Counts a step."""
        self.steps += 1
        if self.steps % 10 == 0:
            self.history.append((self.steps, loss))
            self.report(self.steps, loss)

    def _step(self) -> float:
        """One step; returns the loss before it. A step that is not finite is skipped and counted."""
        noise = self.source.noise(self.generator)
        batch = self.data if self.feed is None else self.feed.subsample(noise)
        state = self.generator.get_state()
        weighted = annealed(self.loss, self.steps, self.options.kl_annealing)
        value, gradients, flat = self._eager(batch, noise, weighted)
        loss, finite = _read(value, gradients if flat is None else [flat.gradient])
        if finite:
            if flat is None:
                self.adam.step(self.store, self.names, self.flat.leaves, gradients)
            else:
                self.adam.step_flat(self.store, self.names, self.flat.leaves, gradients, *flat)
            self._skipped_in_a_row = 0
        else:
            self._skip(batch, state, loss)
        self._taken(loss)
        return loss

    def _skip(self, batch: Any, state: Tensor, loss: float) -> None:
        def again() -> object:
            self.generator.set_state(state)
            return self._eager.estimate(batch, self.data.noise(self.generator))

        after = self.generator.get_state()
        with torch.no_grad():
            again()  # what a value of the model's own breaks is said as it is, and at once
        self.generator.set_state(after)
        self.skipped += 1
        self._skipped_in_a_row += 1
        if self._skipped_in_a_row < MOST_SKIPPED_IN_A_ROW:
            return
        if math.isfinite(loss):
            raise InferenceError(
                f"the gradient was not finite in {MOST_SKIPPED_IN_A_ROW} steps in a row, though the loss is; look for "
                "sqrt, log or a division at the edge of its domain"
            )
        raise InferenceError(explain_nonfinite(again, self.guide.model, self.guide, self.store, loss))

    def schedule(self) -> Schedule:
        """So many steps, or else until they change nothing: no posterior, or with nets and flows no loss."""
        steps, lr, tolerance = self.options.steps, self.options.lr, self.options.tolerance
        if steps is not None:
            return GivenSteps(steps, lr, self.by_loss)
        if self.by_loss:
            return ByLoss(self.adam.lr if lr is None else lr, self.coordinates * tolerance**2 / 2)
        seed = int(torch.randint(2**31, (), generator=self.generator, device=self.generator.device))

        def moments(seed: int) -> Moments:
            return latent_moments(self.guide, self.data, self.store, seed)

        return ByPosterior(lr, tolerance, moments, seed)

    def run(self, schedule: Schedule) -> Outcome:
        """Steps, window by window, until the schedule has seen enough. Of its own accord it judges none while the loss
        is annealed."""
        unjudged = 0 if self.options.steps is not None else self.options.kl_annealing
        window = Window(self.flat.read(), schedule.length)
        if self._saved is not None:
            window = self._resumed(self._saved, schedule)

        def state() -> Tree:
            return self._state(schedule, window)

        while True:
            while not window.full:
                self._take(schedule, window, unjudged)
                self._keep(state)
            verdict = schedule.ended(window, self.flat.write)
            if verdict is not None:
                converged, reason = verdict
                skips = f"; {self.skipped} steps were not finite and skipped" if self.skipped else ""
                return Outcome(converged, reason + skips, self.steps)
            window = Window(self.flat.read(), schedule.length)

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Takes the state of a fit that was cut off, for `run` to go on from. Raises InferenceError for another's."""
        sizes = {name: list(leaf.shape) for name, leaf in self.store.trainable().items()}
        if state["parameters"] != sizes:
            raise InferenceError("the checkpoint has other parameters: pass the nets that the fit was begun with")
        if state["compiled_from"] is not None and self._blocks is None:
            raise InferenceError(
                "the checkpoint is of a fit whose steps were compiled, and here they cannot be: there is no compiler. "
                'engine="eager" from the start fits alike everywhere'
            )
        self._saved = state

    def _state(self, schedule: Schedule, window: Window) -> Tree:
        """All that the rest of the fit follows from."""
        return {
            "parameters": {name: list(leaf.shape) for name, leaf in self.store.trainable().items()},
            "compiled_from": self.compiled_from,
            "x": self.flat.read(),
            "adam": self.adam.get_state(),
            "generator": self.generator.get_state(),
            "feed": None if self.feed is None else self.feed.get_state(),
            "schedule": schedule.get_state(),
            "window": window.get_state(),
            "steps": self.steps,
            "skipped": (self.skipped, self._skipped_in_a_row),
            "history": self.history,
        }

    def _resumed(self, state: Mapping[str, Any], schedule: Schedule) -> Window:
        """The window that the fit was cut off in, everything else set to where it was."""
        numbers = on_device({key: state[key] for key in ("x", "adam", "schedule", "window")}, self.data.device)
        self.flat.write(numbers["x"])
        self.adam.set_state(numbers["adam"])
        schedule.set_state(numbers["schedule"])
        if self.feed is not None:
            self.feed.set_state(state["feed"])
        self.generator.set_state(state["generator"])
        self.steps, self.history, self.compiled_from = state["steps"], state["history"], state["compiled_from"]
        self.skipped, self._skipped_in_a_row = state["skipped"]
        return Window.of_state(numbers["window"])
