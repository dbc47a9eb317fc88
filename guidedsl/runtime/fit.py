"""`fit`: a guide and data in, a posterior out, with nothing to tune."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from guidedsl.runtime.classes import ClassTable, class_probabilities
from guidedsl.runtime.diagnostics import khat_line, log_weights, pareto_k, stats_installed
from guidedsl.runtime.errors import InferenceError
from guidedsl.runtime.feed import Bind, Feed, elbo_of_a_pass, fed_note, fed_plates, feed_of, unknown_options
from guidedsl.runtime.fit_checkpoint import FitCheckpoint, check_every
from guidedsl.runtime.fit_run import Engine, FitOptions, Run, check_start, program_of
from guidedsl.runtime.marginals import Quantiles, marginal_quantiles
from guidedsl.runtime.metadata import attribute_of
from guidedsl.runtime.model import Guide, find_guide
from guidedsl.runtime.nets import register
from guidedsl.runtime.params import ParamStore
from guidedsl.runtime.posterior import Summary, quantiles, rows_of, sample
from guidedsl.runtime.predictive import log_likelihood, predictive
from guidedsl.runtime.progress import Progress

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
    ) -> Quantiles:
        """Posterior quantiles of latents and lets, [len(q), plates..., event...].

        Those of latents whose marginal laws are known (`.exact` names them) are exact for q above 0 and below 1; all
        others are from draws.
        """
        left_out = fed_plates(self.guide.model)
        found = {name: quantiles(values, q) for name, values in self.sample(num_draws, seed=seed).items()}
        inside = [place for place, p in enumerate(q) if 0.0 < p < 1.0]
        if not inside:
            return Quantiles({name: value.to(self.data.dtype) for name, value in found.items()}, ())
        known = marginal_quantiles(
            self.guide, self.data.full, self.store, [q[place] for place in inside], self._generator(seed), left_out
        )
        for name, value in known.items():
            found[name][inside] = value.to(found[name].dtype)
        exact = tuple(known) if len(inside) == len(q) else ()
        return Quantiles({name: value.to(self.data.dtype) for name, value in found.items()}, exact)

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

    def plot_trace(self) -> Any:
        """A matplotlib Figure of the ELBO along the way. Needs the extra `plots`; `.savefig(path)` writes it.

        Raises `InferenceError` without the extra, and for a fit that was loaded, which does not know its way.
        """
        from guidedsl.runtime.plots import trace

        return trace(self)

    def plot_densities(
        self,
        names: Sequence[str] | None = None,
        *,
        reference: Mapping[str, Any] | None = None,
        num_draws: int = 4000,
        seed: int | None = None,
    ) -> Any:
        """A matplotlib Figure with the marginal density of each scalar of the latents and lets in `names`, by default
        of the first 24 of all. `reference` are draws of another method by name, [n, plates..., event...], drawn over
        them. Raises `InferenceError` without the extra `plots`, and for names or shapes that are not the fit's."""
        from guidedsl.runtime.plots import densities

        return densities(self, names, reference, num_draws, seed)

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


def fit(
    guide: Guide | Callable[..., Any],
    data: Data | Mapping[str, object] | Iterable[object],
    *,
    seed: int = 0,
    steps: int | None = None,
    lr: float | None = None,
    tolerance: float = 0.05,
    num_particles: int | None = None,
    kl_annealing: int = 0,
    engine: Engine = "auto",
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
    `lr`, `num_particles` or `kl_annealing` is given, Adam in phases of ever smaller steps. `auto laplace` is neither:
    the mode and the curvature there. The parameters are in `store`, by default a new one. `nets` are the modules of
    nets that are passed in, by name; they are moved to the data's device and precision, and trained. The same seed
    gives the same result, bit for bit, and leaves torch's global random state as it was. Ctrl-C ends the fit with the
    best so far. Raises `InferenceError` where no start has a finite loss, and where a Laplace approximation finds no
    peak.

    Over the first `kl_annealing` steps the weight of KL(q | prior) rises to 1, so that nets learn to use their latents
    before the prior pulls on these; it is the ELBO that is reported and judged.

    `engine` is what takes Adam's steps: "eager" is torch, operation by operation; "compiled" is C loops made of the
    whole step, with the same losses to rounding, and an error where that cannot be; "auto" is compiled where it can be
    and pays. Loops that take seconds to make are then made beside the first, eager steps: results are the same to
    rounding, and with an explicit engine bit for bit.

    A model with a minibatched plate is fed in batches: of bound data every row once an epoch, or what an iterable of
    mappings (or bound data) gives, gone through again and again, with the sizes of dims that a batch does not tell:
    `fit(loader, N=60_000)`. Where such data is small and in memory, all rows are taken at once like any other's.

    `checkpoint` is a file that holds the fit's state while it runs, written anew every `checkpoint_every` seconds and
    removed when the fit ends by itself. With `resume` the fit goes on from there, and ends as if it had never been cut
    off, bit for bit. Raises `InferenceError` for the checkpoint of another fit, `ParamError` for a damaged one, both
    with nothing changed. A Laplace approximation is quickly begun anew, and has none.
    """
    options = FitOptions(seed, steps, lr, tolerance, num_particles, kl_annealing, engine)
    found = _fitted(guide, options, checkpoint_every, sizes)
    source = feed_of(found, data, Bind(found.model, sizes, dtype, device))
    feed = source if isinstance(source, Feed) else None
    bound: Any = feed.reference if feed is not None else source
    keeper, saved = _checkpoint(checkpoint, checkpoint_every, resume, lambda: program_of(found, source, options))
    store = ParamStore() if store is None else store
    generator = torch.Generator(bound.device)
    generator.manual_seed(seed)
    drawing = bound.with_generator(generator)
    register(store, nets or {}, found.nets, drawing, found.name)
    with closing(Progress(found.name, steps, progress)) as bar:
        check_start(found, drawing, store, generator)
        return _outcome(Run(found, drawing, store, generator, options, feed, keeper, saved), bound, bar)


def _outcome(run: Run, data: Any, report: Callable[[int, float], None]) -> Fit:
    """Runs it, and measures what it found on fresh noise."""
    outcome = run.outcome(report)
    if run.feed is None:
        elbo, error = estimate_elbo(run.guide, run.data.full, run.store, run.generator)
    else:
        elbo, error = elbo_of_a_pass(run.guide, run.feed, run.store, run.generator)
    if run.checkpoint is not None and outcome.reason != "interrupted":
        run.checkpoint.remove()
    converged, reason = outcome.converged, outcome.reason
    if not (math.isfinite(elbo) and math.isfinite(error)):
        converged, reason = False, f"the ELBO is not finite on fresh noise; {reason}"
    return Fit(
        guide=run.guide,
        data=data,
        store=run.store,
        elbo=elbo,
        elbo_error=error,
        converged=converged,
        reason=reason,
        steps=run.steps,
        seconds=run.seconds,
        seed=run.options.seed,
        history=run.history,
    )


def _fitted(guide: Any, options: FitOptions, checkpoint_every: float, sizes: Mapping[str, int]) -> Guide:
    """The guide of a generated module, whose options are what it can be fitted with."""
    found = find_guide(guide)
    if not isinstance(found, Guide):
        raise InferenceError(f"fit needs a Guide of a generated module, got {found!r}; use SVI for plain functions")
    options.check(found)
    check_every(checkpoint_every)
    problem = unknown_options(sizes, found.model, inspect.signature(fit).parameters)
    if problem is not None:
        raise InferenceError(problem)
    return found


def _checkpoint(
    path: str | Path | None, every: float, resume: bool, program: Callable[[], Mapping[str, object]]
) -> tuple[FitCheckpoint | None, dict[str, Any] | None]:
    """What keeps the state of the fit, and the state that it goes on from."""
    if path is None:
        if resume:
            raise InferenceError("fit(resume=True): from which file? checkpoint=… says it")
        return None, None
    keeper = FitCheckpoint(path, every, program())
    return keeper, keeper.read() if resume else None
