"""Draws of what a model observes, from a posterior or from the priors, and the log density of each observation."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from guidedsl.runtime.binding import bind
from guidedsl.runtime.classes import draw_classes
from guidedsl.runtime.data import Data
from guidedsl.runtime.errors import InferenceError, ParamError
from guidedsl.runtime.feed import fed_plates
from guidedsl.runtime.metadata import Field, Schema, Site, attribute_of
from guidedsl.runtime.model import Guide, Model
from guidedsl.runtime.noise import Noise
from guidedsl.runtime.params import ParamStore
from guidedsl.runtime.posterior import site_shape
from guidedsl.runtime.sizes import bare_name

if TYPE_CHECKING:
    from guidedsl.runtime.fit import Fit

CHUNK = 4e6
"""Numbers in one array of one pass."""


def observed_fields(model: Model) -> tuple[Field, ...]:
    """What a model observes."""
    return tuple(entry for entry in model.fields if entry.role == "observed")


def _observed_sites(model: Model) -> dict[str, Site]:
    """The observed fields as sites: their axes."""
    fields = observed_fields(model)
    return {f.name: Site(f.name, f.plates, f.event, f.constraint, f.order) for f in fields}  # type: ignore[arg-type]


@dataclass(frozen=True)
class _Run:
    """Draws of a model's sites on `data`, the latents in `given(count, noise)` as they are there."""

    model: Model
    data: Any
    store: ParamStore
    generator: torch.Generator

    def chunk(self, sites: Collection[Site]) -> int:
        """How many draws at a time, so that memory is bounded by the result."""
        fields = [value.numel() for value in vars(self.data).values() if isinstance(value, Tensor)]
        return max(1, int(CHUNK / max([1, sum(math.prod(site_shape(site, self.data)) for site in sites), *fields])))

    def draws(
        self, n: int, sites: Sequence[Site], given: Callable[[int, Noise], Mapping[str, Tensor]]
    ) -> dict[str, Tensor]:
        """[n, plates..., event...] of these sites by name, as written."""
        chunk = self.chunk((*self.model.sites, *_observed_sites(self.model).values()))
        noise = self.data.noise(self.generator)
        base = {entry.name: entry.index_base for entry in self.model.fields if entry.index_of is not None}
        parts: dict[str, list[Tensor]] = {site.name: [] for site in sites}
        for start in range(0, n, chunk):
            count = min(chunk, n - start)
            known = given(count, noise)
            values = self.model.draw_sites(self.data, known, particles=(count,), store=self.store, noise=noise)
            for site in sites:
                value = site.to_written(values[site.name]).expand(count, *site_shape(site, self.data))
                parts[site.name].append(value + base[site.name] if base.get(site.name) else value)
        return {name: torch.cat(values) for name, values in parts.items()}


def _check_count(what: str, n: int) -> None:
    if n < 1:
        raise InferenceError(f"{what}(n={n}): at least one draw is needed")


def _check_simulates(model: Model) -> None:
    if model.simulate is None:
        where = f"its density is in {model.origin}" if model.origin else "it declares no density"
        raise InferenceError(f"{model.name} cannot be drawn from: {where}, not in the .guide file")


def _check_drawn(model: Model, what: str, names: Collection[str], instead: str) -> None:
    """Raises `InferenceError` for sites that are to be drawn and cannot be."""
    wrong = [f"`{name}` cannot be drawn: {model.not_drawn[name]}" for name in names if name in model.not_drawn]
    if wrong:
        raise InferenceError(f"no {what} of {model.name}: {'; '.join(wrong)}. {instead}")


# The prior


def prior_predictive(
    model: Model,
    data: Data | Mapping[str, object] | None,
    n: int,
    seed: int,
    store: ParamStore | None,
    dtype: torch.dtype | None,
    device: torch.device | str | None,
    sizes: Mapping[str, int],
) -> dict[str, Tensor]:
    """See `Model.prior_predictive`."""
    _check_count("prior_predictive", n)
    _check_simulates(model)
    sites = [*model.sites, *_observed_sites(model).values()]
    names = [site.name for site in sites]
    _check_drawn(model, "prior predictive draws", names, "Give it a proper prior, without a factor")
    bound = data if isinstance(data, Data) else _bound(model, data or {}, sizes, dtype or model.dtype, device)
    generator = torch.Generator(bound.device)
    generator.manual_seed(seed)
    full = bound.with_generator(generator).full
    run = _Run(model, full, ParamStore() if store is None else store, generator)
    return run.draws(n, sites, lambda count, noise: {})


def _bound(
    model: Model,
    data: Mapping[str, object],
    sizes: Mapping[str, int],
    dtype: torch.dtype | None,
    device: torch.device | str | None,
) -> Any:
    """Data that may lack what is observed."""
    schema = Schema(model.name, model.dims, model.plates, model.fields, model.derive)
    return bind(schema, model.data_type, data, sizes, dtype, device, observed=False)


# The posterior


@dataclass(frozen=True)
class _Plan:
    """What is drawn from where: the latents `kept` from the guide on `source`, all else forward on `data`."""

    data: Any
    source: Any
    kept: tuple[str, ...]


def predictive(
    fit: Fit,
    n: int,
    data: Data | Mapping[str, object] | None,
    new: Collection[str],
    sizes: Mapping[str, int],
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """See `Fit.predictive`."""
    _check_count("predictive", n)
    model = fit.guide.model
    _check_simulates(model)
    unseen = fed_plates(model) if data is None else ()
    sites = [site for site in _observed_sites(model).values() if not set(site.plates).intersection(unseen)]
    if not sites:
        why = (
            f"what it observes is in {', '.join(unseen)}, fed in batches: pass data="
            if unseen
            else "it observes nothing"
        )
        raise InferenceError(f"no predictive draws of {model.name}: {why}")
    _check_drawn(model, "predictive draws", [site.name for site in sites], "Write its law behind `~`")
    plan = _plan(fit, data, new, sizes)
    run = _Run(model, plan.data, fit.store, generator)
    return run.draws(n, sites, lambda count, noise: _posterior(fit, plan, count, noise))


def _posterior(fit: Fit, plan: _Plan, count: int, noise: Noise) -> dict[str, Tensor]:
    """Draws of the latents that are kept, those that the guide sums out given the others."""
    with torch.no_grad():
        latents = fit.guide(plan.source, particles=(count,), store=fit.store, noise=noise).latents
    sites = fit.guide.model.sites
    if any(value is None and site.name in plan.kept for site, value in zip(sites, latents, strict=True)):
        latents = draw_classes(fit.guide.model, plan.source, latents, fit.store, noise)
    return {site.name: value for site, value in zip(sites, latents, strict=True) if site.name in plan.kept}


def _plan(fit: Fit, data: Data | Mapping[str, object] | None, new: Collection[str], sizes: Mapping[str, int]) -> _Plan:
    model, source = fit.guide.model, fit.data.full
    everything = tuple(site.name for site in model.sites)
    _check_plates(model, new)
    used = source
    if data is not None:
        bound = (
            data
            if isinstance(data, Data)
            else _bound(model, data, _sizes(fit, data, sizes), fit.data.dtype, fit.data.device)
        )
        used = bound.to(fit.data.device, fit.data.dtype).full
    elif sizes:
        raise InferenceError(f"predictive({', '.join(f'{name}={size}' for name, size in sizes.items())}) needs data=")
    unknown = [entry.name for entry in observed_fields(model) if entry.name in used.missing]
    if not new and (data is None or (not unknown and _takes(fit.guide, used, fit.store))):
        return _Plan(used, used, everything)
    changed = {*new, *(spec.name for spec in model.plates if _rows(used, spec.name) != _rows(source, spec.name))}
    changed |= set(fed_plates(model))
    kept = [site for site in model.sites if not changed.intersection(site.plates)]
    for site in kept:
        before, now = site_shape(site, source), site_shape(site, used)
        if before != now:
            raise InferenceError(
                f"`{site.name}` has shape {list(before)} in the fit and {list(now)} with this data: only rows of "
                "plates that have a prior of their own can be new"
            )
    drawn = [name for name in everything if name not in {site.name for site in kept}]
    rows = ", ".join(sorted(changed))
    _check_drawn(
        model,
        f"predictive draws for new rows of {rows}",
        drawn,
        "Pass data of the rows that were fitted, or fit these too",
    )
    for name in drawn:
        late = [other for other in model.readers.get(name, ()) if other not in drawn]
        if late:
            raise InferenceError(
                f"no predictive draws for new rows of {rows}: the prior of `{late[0]}`, which is known, reads "
                f"`{name}`, so its new rows do not follow their prior; fit again with them"
            )
    return _Plan(used, source, tuple(site.name for site in kept))


def _check_plates(model: Model, new: Collection[str]) -> None:
    if isinstance(new, str):
        raise InferenceError(f'new="{new}": a tuple of plates is meant, new=("{new}",)')
    known = [spec.name for spec in model.plates]
    wrong = [name for name in new if name not in known]
    if wrong:
        raise InferenceError(f"{model.name} has no plate `{wrong[0]}`; it has {', '.join(known) or 'none'}")


def _rows(data: Any, plate: str) -> int:
    length: int = getattr(data, attribute_of(plate)).length
    return length


def _sizes(fit: Fit, data: Mapping[str, object], sizes: Mapping[str, int]) -> dict[str, int]:
    """The sizes that the caller states, and of dims that no array of `data` tells, those of the fit."""
    model = fit.guide.model
    plates = {spec.name: spec for spec in model.plates}
    told = set(data) | set(sizes)
    for entry in model.fields:
        if data.get(entry.name) is not None:
            axes = [*(plates[name].size for name in entry.plates if plates[name].minibatch is None), *entry.event]
            told |= {name for size in axes if (name := bare_name(size)) is not None}
    left = {dim.name: getattr(fit.data, attribute_of(dim.name)) for dim in model.dims if dim.name not in told}
    return left | dict(sizes)


@torch.no_grad()
def _takes(guide: Guide, data: Any, store: ParamStore) -> bool:
    """Whether the fitted guide can be called on this data: not where a param has rows of other plates."""
    try:
        guide(data, particles=(1,), store=store, noise=data.noise(torch.Generator(data.device)))
    except ParamError:
        return False
    return True


# Each observation


def log_likelihood(fit: Fit, n: int, generator: torch.Generator) -> dict[str, Tensor]:
    """See `Fit.log_likelihood`."""
    _check_count("log_likelihood", n)
    model, data = fit.guide.model, fit.data.full
    if model.log_likelihood is None:
        _check_simulates(model)
        raise InferenceError(f"no log likelihood of {model.name}: it observes nothing")
    if fed_plates(model):
        raise InferenceError(
            f"no log likelihood of {model.name}: its rows are fed in batches; load the fit with the rows as its data"
        )
    sites = _observed_sites(model)
    chunk = _Run(model, data, fit.store, generator).chunk((*model.sites, *sites.values()))
    noise = data.noise(generator)
    everything = _Plan(data, data, tuple(site.name for site in model.sites))
    parts: dict[str, list[Tensor]] = {}
    for start in range(0, n, chunk):
        count = min(chunk, n - start)
        latents = model.latents_type(*_posterior(fit, everything, count, noise).values())
        with torch.no_grad():
            values = model.evaluate_log_likelihood(data, latents, store=fit.store)
        for name, value in values.items():
            parts.setdefault(name, []).append(_by_row(sites[name], value, data, count))
    return {name: torch.cat(values) for name, values in parts.items()}


def _by_row(site: Site, value: Tensor, data: Any, count: int) -> Tensor:
    """[count, plates..., steps...] with the plates as written; what depends on no latent is repeated."""
    rows = site_shape(site, data)[: len(site.plates)]
    axes = len(rows)
    if value.ndim == axes or (value.ndim == axes + 1 and value.shape[0] != count):
        value = value.expand(count, *value.shape)
    steps = site.event[:1] if value.ndim == axes + 2 else ()
    return Site(site.name, site.plates, steps, site.constraint, site.order).to_written(value)
