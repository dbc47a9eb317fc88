"""`fit`: a guide and data in, a posterior out, with nothing to tune."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from guidedsl.runtime import deterministic
from guidedsl.runtime.classes import ClassTable, class_probabilities
from guidedsl.runtime.deterministic import FixedNoiseFit, Outcome
from guidedsl.runtime.errors import InferenceError
from guidedsl.runtime.feed import Bind, Feed, elbo_of_a_pass, fed_plates, feed_of, unknown_options
from guidedsl.runtime.fixed_noise import FlatParameters
from guidedsl.runtime.laplace import LaplaceFit
from guidedsl.runtime.metadata import attribute_of
from guidedsl.runtime.model import Guide, find_guide
from guidedsl.runtime.nets import register
from guidedsl.runtime.params import ParamStore
from guidedsl.runtime.posterior import Summary, rows_of, sample
from guidedsl.runtime.progress import Progress
from guidedsl.runtime.stochastic import NET_PARTICLES, PARTICLES, StochasticFit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from guidedsl.runtime.data import Data

ELBO_DRAWS = 1000
ELBO_BUDGET = 2e8
CHUNK = 1e6
CLASS_DRAWS = 1000


@dataclass(eq=False)
class Fit:
    """A fitted guide.

    `elbo` is estimated on fresh noise with all rows, `elbo_error` its Monte Carlo standard error. `reason` says why the
    fit counts as converged, or why not. `history` has (step, loss) along the way.
    """

    guide: Guide
    data: Any
    store: ParamStore
    elbo: float
    elbo_error: float
    converged: bool
    reason: str
    steps: int
    seconds: float
    seed: int = 0
    history: list[tuple[int, float]] = field(default_factory=list, repr=False)

    def _generator(self, seed: int | None) -> torch.Generator:
        generator = torch.Generator(self.data.device)
        generator.manual_seed(self.seed + 1 if seed is None else seed)
        return generator

    def sample(self, n: int = 1000, *, data: object = None, seed: int | None = None) -> dict[str, Tensor]:
        """`n` draws of latents and of the model's lets by name, [n, plates..., event...]; the same at each call.

        Another `seed` gives other draws. `data`, a mapping from field names to arrays or bound data, takes the place of
        what was fitted, with the same sizes. What is in a minibatched plate is drawn for the rows of `data`, and left
        out where none is given.
        """
        model, used = self.guide.model, self.data
        if data is not None:
            dims = {dim.name: getattr(used, attribute_of(dim.name)) for dim in model.dims}
            used = Bind(model, dims, used.dtype, used.device)(data, 1)
        left_out = () if data is not None else fed_plates(model)
        return sample(self.guide, used.full, self.store, n, self._generator(seed), left_out)

    def mean(self, num_draws: int = 4000, *, seed: int | None = None) -> dict[str, Tensor]:
        """Posterior means of latents and lets, [plates..., event...], from draws."""
        return {name: values.to(self.data.dtype).mean(0) for name, values in self.sample(num_draws, seed=seed).items()}

    def class_probabilities(self, num_draws: int = 1000, *, seed: int | None = None) -> dict[str, Tensor]:
        """P(c = k | data) of every latent that is summed out, by name: [plates..., classes], averaged over draws."""
        return class_probabilities(self.guide, self.data.full, self.store, num_draws, self._generator(seed))

    def summary(self, num_draws: int = 4000, *, seed: int | None = None) -> Summary:
        """Mean, sd and 5, 50, 95 % quantiles of every scalar, from draws; of latents that are summed out, the
        probability of each class."""
        probabilities = self.class_probabilities(min(num_draws, CLASS_DRAWS), seed=seed)
        tables = tuple(
            ClassTable.of(site, probabilities[site.name])
            for site in self.guide.model.sites
            if site.name in probabilities
        )
        return Summary(self.heading(), rows_of(self.sample(num_draws, seed=seed)), tables)

    def heading(self) -> str:
        """What was fitted, how well, and whether to believe it."""
        converged = "converged" if self.converged else "NOT converged"
        return (
            f"{self.guide.name} for {self.guide.model.name}: ELBO {self.elbo:.2f} ± {self.elbo_error:.2g}, "
            f"{self.steps} steps, {self.seconds:.1f} s\n{converged}: {self.reason}"
        )

    def __str__(self) -> str:
        return self.heading()

    def save(self, path: str | Path) -> None:
        """Writes the parameters and what this fit says of itself, as safetensors; `Guide.load` reads it."""
        from guidedsl.runtime.fit_files import save

        save(self, path)


@torch.no_grad()
def estimate_elbo(guide: Guide, data: Any, store: ParamStore, generator: torch.Generator) -> tuple[float, float]:
    """The ELBO and its standard error on fresh noise, with all rows of `data`, in passes of bounded memory."""
    entries = max([1, *(value.numel() for value in vars(data).values() if isinstance(value, Tensor))])
    draws = int(min(ELBO_DRAWS, max(16, ELBO_BUDGET / entries)))
    chunk = max(1, int(CHUNK / entries))
    noise = data.noise(generator)
    parts: list[Tensor] = []
    for start in range(0, draws, chunk):
        draw = guide(data, particles=(min(chunk, draws - start),), store=store, noise=noise)
        parts.append((guide.model(data, draw.latents, store=store) - draw.log_q).to(torch.float64).reshape(-1))
    values = torch.cat(parts)
    return float(values.mean()), float(values.std() / math.sqrt(draws))


def _check_start(guide: Guide, data: Any, store: ParamStore, generator: torch.Generator) -> None:
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


class _Run:
    """One call of `fit`: which method, and what became of it.

    `data` is what the guide is looked at on; steps are taken on the batches of `feed` where there is one.
    """

    def __init__(
        self,
        guide: Guide,
        data: Any,
        store: ParamStore,
        generator: torch.Generator,
        tolerance: float,
        feed: Feed | None = None,
    ) -> None:
        self.guide, self.data, self.store, self.feed = guide, data, store, feed
        self.generator, self.tolerance = generator, tolerance
        self.history: list[tuple[int, float]] = []
        self.steps = 0

    def outcome(
        self, report: Callable[[int, float], None], steps: int | None, lr: float | None, num_particles: int | None
    ) -> Outcome:
        """Fit by the method that suits the guide, the data and what the caller asks for."""
        found: Outcome | str = "steps, lr or num_particles was given"
        if self.feed is not None:
            found = "the data is fed in batches"
        elif self.guide.laplace is not None:
            found = self.laplace(report)
        elif steps is None and lr is None and num_particles is None:
            found = self.fixed_noise(report)
        if isinstance(found, Outcome):
            return found
        usual = NET_PARTICLES if self.store.modules else PARTICLES
        return self.stochastic(report, steps, lr, usual if num_particles is None else num_particles)

    def fixed_noise(self, report: Callable[[int, float], None]) -> Outcome | str:
        """The fixed-noise fit, or why it is not the way for this guide."""
        plan = deterministic.plan(self.guide, self.data, self.store, self.generator)
        if isinstance(plan, str):
            return plan
        start = plan.flat.read()
        fit = FixedNoiseFit(self.guide, self.data, self.store, plan, self.generator, self.tolerance, report)
        try:
            outcome = fit.run()
        except KeyboardInterrupt:
            fit.interrupted()
            outcome = Outcome(False, "interrupted", fit.evaluations)
        self.history, self.steps = fit.history, fit.evaluations
        if isinstance(outcome, str):
            plan.flat.write(start)
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

    def stochastic(
        self, report: Callable[[int, float], None], steps: int | None, lr: float | None, particles: int
    ) -> Outcome:
        """The stochastic fit."""
        leaves = self.store.trainable()
        flat = FlatParameters(list(leaves.values()))
        if not flat.leaves:
            return Outcome(True, "there is no parameter to learn", 0)
        fit = StochasticFit(
            self.guide,
            self.data,
            self.store,
            flat,
            list(leaves),
            self.generator,
            particles=particles,
            tolerance=self.tolerance,
            report=report,
            feed=self.feed,
        )
        try:
            outcome = fit.adaptive(lr) if steps is None else fit.given(steps, lr)
        except KeyboardInterrupt:
            outcome = Outcome(False, "interrupted", fit.steps)
        self.history, self.steps = fit.history, self.steps + fit.steps
        return outcome


def _checked(steps: int | None, lr: float | None, tolerance: float, num_particles: int | None) -> None:
    if steps is not None and steps < 1:
        raise InferenceError(f"fit(steps={steps}): at least one step is needed")
    if lr is not None and not (math.isfinite(lr) and lr > 0):
        raise InferenceError(f"fit(lr={lr}): the learning rate must be positive")
    if not tolerance > 0:
        raise InferenceError(f"fit(tolerance={tolerance}): must be positive; 0.05 is a twentieth of a posterior sd")
    if num_particles is not None and num_particles < 1:
        raise InferenceError(f"fit(num_particles={num_particles}): at least one is needed")


def fit(
    guide: Guide | Callable[..., Any],
    data: Data | Mapping[str, object] | Iterable[object],
    *,
    seed: int = 0,
    steps: int | None = None,
    lr: float | None = None,
    tolerance: float = 0.05,
    num_particles: int | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    progress: bool | None = None,
    store: ParamStore | None = None,
    nets: Mapping[str, nn.Module] | None = None,
    **sizes: int,
) -> Fit:
    """Fits a guide, with nothing to tune.

    Where the guide draws normals alone and the data is of moderate size, a quasi-Newton method minimises the loss on
    fixed noise, renewed until means and sds are settled within `tolerance` posterior sds. Otherwise, and where `steps`,
    `lr` or `num_particles` is given, Adam in phases of ever smaller steps. `auto laplace` is neither: the mode and the
    curvature there. The parameters are in `store`, by default a new one. `nets` are the modules of nets that are passed
    in, by name; they are moved to the data's device and precision, and trained. The same seed gives the same result,
    bit for bit, and leaves torch's global random state as it was. Ctrl-C ends the fit with the best so far. Raises
    `InferenceError` where no start has a finite loss, and where a Laplace approximation finds no peak.

    A model with a minibatched plate is fed in batches: of bound data every row once an epoch, or what an iterable of
    mappings (or bound data) gives, gone through again and again, with the sizes of dims that a batch does not tell:
    `fit(loader, N=60_000)`.
    """
    found = _fitted(guide, steps, lr, tolerance, num_particles)
    problem = unknown_options(sizes, found.model, inspect.signature(fit).parameters)
    if problem is not None:
        raise InferenceError(problem)
    began = time.perf_counter()
    source = feed_of(found, data, Bind(found.model, sizes, dtype, device))
    feed = source if isinstance(source, Feed) else None
    bound: Any = feed.reference if feed is not None else source
    own = bound.generator
    generator = torch.Generator(bound.device)
    generator.manual_seed(seed)
    bound = bound.with_generator(generator)
    store = ParamStore() if store is None else store
    register(store, nets or {}, found.nets, bound, found.name)
    run = _Run(found, bound, store, generator, tolerance, feed)
    with closing(Progress(found.name, steps, progress)) as bar:
        _check_start(found, bound, store, generator)
        outcome = run.outcome(bar, steps, lr, num_particles)
        if feed is None:
            elbo, error = estimate_elbo(found, bound.full, store, generator)
        else:
            elbo, error = elbo_of_a_pass(found, feed, store, generator)
    converged, reason = outcome.converged, outcome.reason
    if not (math.isfinite(elbo) and math.isfinite(error)):
        converged, reason = False, f"the ELBO is not finite on fresh noise; {reason}"
    return Fit(
        guide=found,
        data=bound.with_generator(own),
        store=store,
        elbo=elbo,
        elbo_error=error,
        converged=converged,
        reason=reason,
        steps=run.steps,
        seconds=time.perf_counter() - began,
        seed=seed,
        history=run.history,
    )


def _fitted(guide: Any, steps: int | None, lr: float | None, tolerance: float, num_particles: int | None) -> Guide:
    """The guide of a generated module, whose options are what it can be fitted with."""
    found = find_guide(guide)
    if not isinstance(found, Guide):
        raise InferenceError(f"fit needs a Guide of a generated module, got {found!r}; use SVI for plain functions")
    _checked(steps, lr, tolerance, num_particles)
    if found.laplace is not None and not (steps is None and lr is None and num_particles is None):
        raise InferenceError(
            f"{found.name} is a Laplace approximation, which has no steps, learning rate or particles: leave them out"
        )
    return found
