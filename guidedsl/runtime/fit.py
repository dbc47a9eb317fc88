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
from guidedsl.runtime.diagnostics import khat_line, log_weights, pareto_k, stats_installed
from guidedsl.runtime.errors import InferenceError
from guidedsl.runtime.feed import (
    BatchFeed,
    Bind,
    Feed,
    RowFeed,
    elbo_of_a_pass,
    fed_note,
    fed_plates,
    feed_of,
    unknown_options,
)
from guidedsl.runtime.fit_checkpoint import FitCheckpoint, buffers, check_every, data_digest, restore_buffers
from guidedsl.runtime.journal import Tree
from guidedsl.runtime.laplace import LaplaceFit
from guidedsl.runtime.metadata import attribute_of
from guidedsl.runtime.model import Guide, find_guide
from guidedsl.runtime.nets import register
from guidedsl.runtime.params import ParamStore
from guidedsl.runtime.posterior import Summary, quantiles, rows_of, sample
from guidedsl.runtime.predictive import log_likelihood, predictive
from guidedsl.runtime.progress import Progress
from guidedsl.runtime.stochastic import StochasticFit

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from guidedsl.runtime.data import Data

ELBO_DRAWS = 1000
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

    def quantiles(
        self, q: Sequence[float] = (0.05, 0.5, 0.95), num_draws: int = 4000, *, seed: int | None = None
    ) -> dict[str, Tensor]:
        """Posterior quantiles of latents and lets, [len(q), plates..., event...], from draws."""
        return {
            name: quantiles(values, q).to(self.data.dtype) for name, values in self.sample(num_draws, seed=seed).items()
        }

    def predictive(
        self,
        n: int = 1000,
        *,
        data: Data | Mapping[str, object] | None = None,
        new: Sequence[str] = (),
        seed: int | None = None,
        **sizes: int,
    ) -> dict[str, Tensor]:
        """`n` draws of what the model observes, given the posterior: [n, plates..., event...] by name.

        `data` takes the place of what was fitted; it needs no observed fields. Where it has them all and the guide can
        be called on it, latents are the guide's for this data; otherwise those of the fit. A plate of another size than
        in the fit has new rows, as has one that `new` names: the latents in it are drawn from their priors, given the
        others. `sizes` are dims that `data` does not tell, by default those of the fit. Where a `when` excuses an
        observation it is drawn all the same. Raises `InferenceError` for what cannot be drawn, saying why.
        """
        return predictive(self, n, data, new, sizes, self._generator(seed))

    def log_likelihood(self, n: int = 1000, *, seed: int | None = None) -> dict[str, Tensor]:
        """The log density of each observation at `n` draws of the posterior, by site: [n, plates...].

        A site of a scan has its steps as a last axis, each given the steps before. The entries of an event are one
        observation. What a `when` excuses is 0. With latents that are summed out: given a draw of these.
        """
        return log_likelihood(self, n, self._generator(seed))

    def class_probabilities(self, num_draws: int = 1000, *, seed: int | None = None) -> dict[str, Tensor]:
        """P(c = k | data) of every latent that is summed out, by name: [plates..., classes], averaged over draws."""
        return class_probabilities(self.guide, self.data.full, self.store, num_draws, self._generator(seed))

    def summary(self, num_draws: int = 4000, *, seed: int | None = None, sites: Sequence[str] | None = None) -> Summary:
        """Mean, sd and 5, 50, 95 % quantiles of every scalar, from draws; of latents that are summed out, the
        probability of each class. `sites` names the latents and lets to show; by default all are there, of long ones
        the first rows."""
        probabilities = self.class_probabilities(min(num_draws, CLASS_DRAWS), seed=seed)
        model = self.guide.model
        tables = tuple(
            ClassTable.of(site, probabilities[site.name]) for site in model.sites if site.name in probabilities
        )
        heading = f"{self.heading()}\n{khat_line(self.khat())}" if self.khat_applies else self.heading()
        rows = rows_of(self.sample(num_draws, seed=seed))
        lets = tuple(site.name for site in model.quantity_sites)
        table = Summary(heading, rows, tables, lets, fed_note(self.guide, self.store, empty=not rows))
        return table if sites is None else table.only(sites)

    @property
    def khat_applies(self) -> bool:
        """Whether the importance weights of draws can be computed: not where rows are fed in batches."""
        return not fed_plates(self.guide.model)

    def khat(self) -> float | None:
        """The Pareto k-hat of the importance weights of draws, above 0.7 where the guide is far from the posterior.

        None without the extra `stats`, NaN where it has no meaning, as for a point estimate.
        """
        if not self.khat_applies:
            raise InferenceError(f"no k-hat of {self.guide.model.name}: its rows are fed in batches")
        if not stats_installed():
            return None
        return pareto_k(log_weights(self.guide, self.data.full, self.store, self._generator(None)))

    def to_arviz(self, n: int = 1000, *, seed: int | None = None) -> Any:
        """A DataTree of ArviZ with `n` draws as one chain: posterior, posterior_predictive, log_likelihood and
        observed_data, the plates as dims. Needs the extra `stats`: raises `InferenceError` without."""
        from guidedsl.runtime.arviz import to_arviz

        return to_arviz(self, n, seed)

    def heading(self) -> str:
        """What was fitted, how well, and whether to believe it."""
        converged = "converged" if self.converged else "NOT converged"
        constant = " up to a constant" if self.guide.model.up_to_a_constant else ""
        return (
            f"{self.guide.name} for {self.guide.model.name}: ELBO {self.elbo:.2f} ± {self.elbo_error:.2g}{constant}, "
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
    values = log_weights(guide, data, store, generator, ELBO_DRAWS)
    return float(values.mean()), float(values.std() / math.sqrt(len(values)))


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

    `data` is what the guide is looked at on; steps are taken on the batches of `feed` where there is one. `saved` is
    the state of a run that was cut off, which this one goes on from.
    """

    def __init__(
        self,
        guide: Guide,
        data: Any,
        store: ParamStore,
        generator: torch.Generator,
        tolerance: float,
        feed: Feed | None = None,
        checkpoint: FitCheckpoint | None = None,
        saved: Mapping[str, Any] | None = None,
    ) -> None:
        self.guide, self.data, self.store, self.feed = guide, data, store, feed
        self.generator, self.tolerance = generator, tolerance
        self.history: list[tuple[int, float]] = []
        self.steps = 0
        self.began = time.perf_counter()
        self._checkpoint, self._saved = checkpoint, saved
        if saved is not None:
            self.began -= saved["seconds"]
            restore_buffers(store, saved["buffers"])

    @property
    def seconds(self) -> float:
        """Since the fit was begun, without the time between a kill and going on."""
        return time.perf_counter() - self.began

    def _keep(self, method: str) -> Callable[[Callable[[], Tree]], None]:
        """What a method offers its state to."""
        checkpoint, earlier = self._checkpoint, self.steps
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

    def outcome(
        self, report: Callable[[int, float], None], steps: int | None, lr: float | None, num_particles: int | None
    ) -> Outcome:
        """Fit by the method that suits the guide, the data and what the caller asks for."""
        found: Outcome | str = "steps, lr or num_particles was given"
        if self.guide.laplace is not None:
            found = self.laplace(report)
        elif steps is None and lr is None and num_particles is None:
            found = self.fixed_noise(report)
        if isinstance(found, Outcome):
            return found
        return self.stochastic(report, steps, lr, num_particles)

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
        fit = FixedNoiseFit(self.guide, data, self.store, plan, self.generator, self.tolerance, report, keep)
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

    def stochastic(
        self, report: Callable[[int, float], None], steps: int | None, lr: float | None, particles: int | None
    ) -> Outcome:
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
            particles=particles,
            tolerance=self.tolerance,
            report=report,
            feed=self.feed,
            keep=self._keep("stochastic"),
        )
        if self._saved is not None:
            fit.set_state(self._saved["fit"])
        try:
            outcome = fit.run(fit.schedule(steps, lr))
        except KeyboardInterrupt:
            outcome = Outcome(False, "interrupted", fit.steps)
        self.history, self.steps = fit.history, self.steps + fit.steps
        return outcome


def _checked(
    steps: int | None, lr: float | None, tolerance: float, num_particles: int | None, checkpoint_every: float
) -> None:
    if steps is not None and steps < 1:
        raise InferenceError(f"fit(steps={steps}): at least one step is needed")
    if lr is not None and not (math.isfinite(lr) and lr > 0):
        raise InferenceError(f"fit(lr={lr}): the learning rate must be positive")
    if not tolerance > 0:
        raise InferenceError(f"fit(tolerance={tolerance}): must be positive; 0.05 is a twentieth of a posterior sd")
    if num_particles is not None and num_particles < 1:
        raise InferenceError(f"fit(num_particles={num_particles}): at least one is needed")
    check_every(checkpoint_every)


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
    checkpoint: str | Path | None = None,
    checkpoint_every: float = 60.0,
    resume: bool = False,
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
    `fit(loader, N=60_000)`. Where such data is small and in memory, all rows are taken at once like any other's.

    `checkpoint` is a file that holds the fit's state while it runs, written anew every `checkpoint_every` seconds and
    removed when the fit ends by itself. With `resume` the fit goes on from there, and ends as if it had never been cut
    off, bit for bit. Raises `InferenceError` for the checkpoint of another fit, `ParamError` for a damaged one, both
    with nothing changed. A Laplace approximation is quickly begun anew, and has none.
    """
    found = _fitted(guide, steps, lr, tolerance, num_particles, checkpoint_every)
    problem = unknown_options(sizes, found.model, inspect.signature(fit).parameters)
    if problem is not None:
        raise InferenceError(problem)
    source = feed_of(found, data, Bind(found.model, sizes, dtype, device))
    feed = source if isinstance(source, Feed) else None
    bound: Any = feed.reference if feed is not None else source
    options = {"seed": seed, "steps": steps, "lr": lr, "tolerance": tolerance, "num_particles": num_particles}
    keeper = (
        None if checkpoint is None else FitCheckpoint(checkpoint, checkpoint_every, _program(found, source, options))
    )
    if resume and keeper is None:
        raise InferenceError("fit(resume=True): from which file? checkpoint=… says it")
    saved = keeper.read() if keeper is not None and resume else None
    own = bound.generator
    generator = torch.Generator(bound.device)
    generator.manual_seed(seed)
    bound = bound.with_generator(generator)
    store = ParamStore() if store is None else store
    register(store, nets or {}, found.nets, bound, found.name)
    with closing(Progress(found.name, steps, progress)) as bar:
        _check_start(found, bound, store, generator)
        run = _Run(found, bound, store, generator, tolerance, feed, keeper, saved)
        outcome = run.outcome(bar, steps, lr, num_particles)
        if feed is None:
            elbo, error = estimate_elbo(found, bound.full, store, generator)
        else:
            elbo, error = elbo_of_a_pass(found, feed, store, generator)
    if keeper is not None and outcome.reason != "interrupted":
        keeper.remove()
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
        seconds=run.seconds,
        seed=seed,
        history=run.history,
    )


def _program(guide: Guide, source: Feed | Data, options: Mapping[str, object]) -> dict[str, object]:
    """What a checkpoint belongs to: the program, the data and the options of a fit. Of batches that a caller makes the
    sizes are all that is known."""
    bound = source.reference if isinstance(source, Feed) else source
    data = source.data if isinstance(source, RowFeed) else source
    return {
        "model": guide.model.name,
        "guide": guide.name,
        "source_sha256": guide.model.source_sha256,
        **options,
        "sizes": {dim.name: getattr(bound, attribute_of(dim.name)) for dim in guide.model.dims},
        "device": bound.device.type,
        "dtype": str(bound.dtype),
        "data": "batches" if isinstance(data, BatchFeed) else data_digest(data),
    }


def _fitted(
    guide: Any,
    steps: int | None,
    lr: float | None,
    tolerance: float,
    num_particles: int | None,
    checkpoint_every: float,
) -> Guide:
    """The guide of a generated module, whose options are what it can be fitted with."""
    found = find_guide(guide)
    if not isinstance(found, Guide):
        raise InferenceError(f"fit needs a Guide of a generated module, got {found!r}; use SVI for plain functions")
    _checked(steps, lr, tolerance, num_particles, checkpoint_every)
    if found.laplace is not None and not (steps is None and lr is None and num_particles is None):
        raise InferenceError(
            f"{found.name} is a Laplace approximation, which has no steps, learning rate or particles: leave them out"
        )
    return found
