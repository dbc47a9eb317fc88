"""One run of `fit`: what is asked of it, which method takes it, and what became of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from guidedsl.runtime import deterministic
from guidedsl.runtime.annealing import check_annealing
from guidedsl.runtime.deterministic import FixedNoiseFit, Outcome
from guidedsl.runtime.elbo import ELBO
from guidedsl.runtime.errors import InferenceError
from guidedsl.runtime.feed import BatchFeed, Feed, RowFeed
from guidedsl.runtime.fit_checkpoint import FitCheckpoint, buffers, data_digest, restore_buffers
from guidedsl.runtime.journal import Tree
from guidedsl.runtime.laplace import LaplaceFit
from guidedsl.runtime.metadata import attribute_of
from guidedsl.runtime.model import Guide
from guidedsl.runtime.params import ParamStore
from guidedsl.runtime.stochastic import StochasticFit

if TYPE_CHECKING:
    import torch

    from guidedsl.runtime.data import Data


Engine = Literal["auto", "eager", "compiled"]


@dataclass(frozen=True)
class FitOptions:
    """What a caller of `fit` asks for, as far as the result depends on it."""

    seed: int
    steps: int | None
    lr: float | None
    tolerance: float
    num_particles: int | None
    kl_annealing: int
    engine: Engine = "auto"

    @property
    def stochastic(self) -> bool:
        """Whether stochastic steps are asked for."""
        return self.steps is not None or self.lr is not None or self.num_particles is not None or self.kl_annealing > 0

    def check(self, guide: Guide) -> None:
        """Raises InferenceError for what no fit, or none of this guide, can be asked for."""
        if self.steps is not None and self.steps < 1:
            raise InferenceError(f"fit(steps={self.steps}): at least one step is needed")
        if self.lr is not None and not (math.isfinite(self.lr) and self.lr > 0):
            raise InferenceError(f"fit(lr={self.lr}): the learning rate must be positive")
        if not self.tolerance > 0:
            raise InferenceError(
                f"fit(tolerance={self.tolerance}): must be positive; 0.05 is a twentieth of a posterior sd"
            )
        if self.num_particles is not None and self.num_particles < 1:
            raise InferenceError(f"fit(num_particles={self.num_particles}): at least one is needed")
        if self.engine not in get_args(Engine):
            raise InferenceError(f"fit(engine={self.engine!r}): one of {', '.join(map(repr, get_args(Engine)))}")
        check_annealing("fit", self.kl_annealing, ELBO(), guide.model)
        if self.steps is not None and 4 * self.kl_annealing > 3 * self.steps:
            raise InferenceError(
                f"fit(steps={self.steps}, kl_annealing={self.kl_annealing}): it must end before the last quarter "
                "of the steps, which is averaged"
            )
        if guide.laplace is not None and self.stochastic:
            raise InferenceError(
                f"{guide.name} is a Laplace approximation, which has no steps, learning rate, particles or annealing: "
                "leave them out"
            )


def program_of(guide: Guide, source: Feed | Data, options: FitOptions) -> dict[str, object]:
    """What a checkpoint belongs to: the program, the data and the options of a fit. Of batches that a caller makes the
    sizes are all that is known."""
    bound = source.reference if isinstance(source, Feed) else source
    data = source.data if isinstance(source, RowFeed) else source
    return {
        "model": guide.model.name,
        "guide": guide.name,
        "source_sha256": guide.model.source_sha256,
        **asdict(options),
        "sizes": {dim.name: getattr(bound, attribute_of(dim.name)) for dim in guide.model.dims},
        "device": bound.device.type,
        "dtype": str(bound.dtype),
        "data": "batches" if isinstance(data, BatchFeed) else data_digest(data),
    }


def check_start(guide: Guide, data: Any, store: ParamStore, generator: torch.Generator) -> None:
    """One plain evaluation, so that a mistake in the model surfaces as itself. Raises what it raises."""
    noise = data.noise(generator)
    batch = data.subsample(noise)
    draw = guide(batch, particles=(8,), store=store, noise=noise)
    log_p = guide.model(batch, draw.latents, store=store)
    # A density that no latent enters, all being summed out, is one number for all particles.
    if log_p.shape not in ((8,), ()) or draw.log_q.shape != (8,):
        raise InferenceError(
            f"{guide.model.name} gives log p of shape {list(log_p.shape)} and {guide.name} log q of shape "
            f"{list(draw.log_q.shape)} for 8 particles; both must be [8]"
        )


class Run:
    """One call of `fit`: which method, and what became of it.

    `data` is what the guide is looked at on; steps are taken on the batches of `feed` where there is one. `saved` is
    the state of a run that was cut off, which this one goes on from.
    """

    def __init__(
        self,
        guide: Guide,
        data: Any,
        store: ParamStore,
        generator: torch.Generator,
        options: FitOptions,
        feed: Feed | None = None,
        checkpoint: FitCheckpoint | None = None,
        saved: Mapping[str, Any] | None = None,
    ) -> None:
        self.guide, self.data, self.store, self.feed = guide, data, store, feed
        self.generator, self.options = generator, options
        self.history: list[tuple[int, float]] = []
        self.steps = 0
        self.began = time.perf_counter()
        self.checkpoint, self._saved = checkpoint, saved
        if saved is not None:
            self.began -= saved["seconds"]
            restore_buffers(store, saved["buffers"])

    @property
    def seconds(self) -> float:
        """Since the fit was begun, without the time between a kill and going on."""
        return time.perf_counter() - self.began

    def _keep(self, method: str) -> Callable[[Callable[[], Tree]], None]:
        """What a method offers its state to."""
        checkpoint, earlier = self.checkpoint, self.steps
        if checkpoint is None:
            return lambda state: None

        def keep(state: Callable[[], Tree]) -> None:
            checkpoint.offer(
                lambda: {
                    "method": method,
                    "earlier_steps": earlier,
                    "seconds": self.seconds,
                    "buffers": buffers(self.store),
                    "fit": state(),
                }
            )

        return keep

    def outcome(self, report: Callable[[int, float], None]) -> Outcome:
        """Fit by the method that suits the guide, the data and what the caller asks for."""
        found: Outcome | str = "steps, lr, num_particles or kl_annealing was given"
        if self.guide.laplace is not None:
            found = self.laplace(report)
        elif not self.options.stochastic:
            found = self.fixed_noise(report)
        return found if isinstance(found, Outcome) else self.stochastic(report)

    def fixed_noise(self, report: Callable[[int, float], None]) -> Outcome | str:
        """The fixed-noise fit, or why it is not the way for this guide."""
        if self._saved is not None and self._saved["method"] != "fixed noise":
            return "it went on by stochastic steps"
        data = self.data
        if self.feed is not None:
            if not isinstance(self.feed, RowFeed) or self.feed.data.unread:
                return "the data is fed in batches"
            data = self.feed.data.with_generator(self.generator)
        plan = deterministic.plan(self.guide, data, self.store, self.generator)
        if isinstance(plan, str):
            return plan
        start = plan.flat.read()
        keep = self._keep("fixed noise")
        fit = FixedNoiseFit(self.guide, data, self.store, plan, self.generator, self.options.tolerance, report, keep)
        if self._saved is not None:
            fit.set_state(self._saved["fit"])
        try:
            outcome = fit.run()
        except KeyboardInterrupt:
            fit.interrupted()
            outcome = Outcome(False, "interrupted", fit.evaluations)
        self.history, self.steps = fit.history, fit.evaluations
        if isinstance(outcome, str):
            plan.flat.write(start)
            self._saved = None
        return outcome

    def laplace(self, report: Callable[[int, float], None]) -> Outcome:
        """The mode and the curvature there."""
        fit = LaplaceFit(self.guide, self.data, self.store, self.generator, report)
        try:
            return fit.run()
        except KeyboardInterrupt:
            return Outcome(False, "interrupted", fit.evaluations)
        finally:
            self.history, self.steps = fit.history, fit.evaluations

    def stochastic(self, report: Callable[[int, float], None]) -> Outcome:
        """The stochastic fit."""
        if not self.store.trainable():
            return Outcome(True, "there is no parameter to learn", 0)
        if self._saved is not None:
            self.steps = self._saved["earlier_steps"]
        fit = StochasticFit(
            self.guide,
            self.data,
            self.store,
            self.generator,
            options=self.options,
            report=report,
            feed=self.feed,
            keep=self._keep("stochastic"),
        )
        if self._saved is not None:
            fit.set_state(self._saved["fit"])
        try:
            outcome = fit.run(fit.schedule())
        except KeyboardInterrupt:
            outcome = Outcome(False, "interrupted", fit.steps)
        self.history, self.steps = fit.history, self.steps + fit.steps
        return outcome
