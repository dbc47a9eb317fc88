"""The log density of an interface, from its Pyro model."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor

from guidedsl.runtime.default_store import get_param_store
from guidedsl.runtime.errors import InferenceError
from guidedsl.runtime.interfaces import OverDraws, flattened, rank
from guidedsl.runtime.metadata import Site, attribute_of
from guidedsl.runtime.model import Model
from guidedsl.runtime.params import ParamStore
from guidedsl.runtime.pyro_models.differences import Difference, argument_problems, differences
from guidedsl.runtime.pyro_models.handlers import Given, Params, Rows, chosen_rows, is_site
from guidedsl.runtime.pyro_models.importing import arguments, imported_model, signature_of
from guidedsl.runtime.pyro_models.layout import Source, dims_of, on_dims, placed, sources
from guidedsl.runtime.pyro_models.probe import Seen, as_data, called, failure, probed
from guidedsl.runtime.pyro_models.summing import Summed, log_sum


def log_density(
    model: Model, data: Any, latents: Any, store: ParamStore | None, tilt: Mapping[str, Tensor] | None
) -> Tensor:
    """The log density of an interface to a Pyro model, [particles...]. A latent that is None is summed out by Pyro.

    Raises:
        GuidedslError: the model cannot be imported.
        InferenceError: it is not what the interface declares, or it raises.
    """
    return evaluator(model)(data, latents, get_param_store(store), tilt or {})


@cache
def evaluator(model: Model) -> PyroModel:
    """The Pyro model of an interface, imported on first use."""
    return PyroModel(model)


@dataclass(frozen=True)
class _Layout:
    """What a run of the model on data of these sizes has, and where draws go in it."""

    seen: Seen
    sources: Mapping[str, Source]


class PyroModel:
    """The function of one interface, and what was learned of it on its first call for data of each size."""

    def __init__(self, model: Model) -> None:
        assert model.origin is not None
        self.model = model
        self.function = imported_model(model.origin, model.name)
        self.signature = signature_of(self.function)
        self.who = f"{model.name}: {model.origin}"
        self._layouts: dict[object, _Layout] = {}
        self._over: dict[tuple[str, ...], OverDraws] = {}

    def __call__(self, data: Any, latents: Any, store: ParamStore, tilt: Mapping[str, Tensor]) -> Tensor:
        """The log density of draws, [particles...]; `tilt` as for `Model`."""
        pairs = list(zip(self.model.sites, latents, strict=True))
        known = [(site, z) for site, z in pairs if z is not None]
        summed = tuple(site.name for site, z in pairs if z is None)
        tilted = [site for site, z in pairs if z is None and site.name in tilt]
        tensors = [*(z for _, z in known), *(tilt[site.name] for site in tilted)]
        ranks = [*(rank(site) for site, _ in known), *(rank(site) + 1 for site in tilted)]
        particles, flat = flattened(tensors, ranks)
        with self._ready(data, store) as given:
            layout = self._layout(data, given)
            rows = self.rows(data)

            def one(*draw: Tensor) -> Tensor:
                values = dict(zip((site.name for site, _ in known), draw, strict=False))
                weights = {site.name: (site, w) for site, w in zip(tilted, draw[len(known) :], strict=True)}
                return self._one(data, layout, given, values, summed, weights)

            with chosen_rows(rows):
                if summed not in self._over:
                    self._first(data, layout, given, [z[0].detach() for z in flat], known, summed)
                    self._over[summed] = OverDraws()
                if not particles:
                    return one(*tensors)
                return self._over[summed](one, flat).reshape(particles)

    @contextmanager
    def _ready(self, data: Any, store: ParamStore) -> Iterator[dict[str, object]]:
        """Within it the model can be called with what this gives; params and precision are those of `data`."""
        given = arguments(self.model, self.signature, data)
        with (
            as_data(data.dtype, data.device),
            pyro.validation_enabled(False),
            Params(self.model.name, store, data),
        ):
            yield given

    def rows(self, data: Any) -> dict[str, Rows]:
        """The rows of each plate: those of the step among all that the function is given."""
        found: dict[str, Rows] = {}
        for spec in self.model.plates:
            name = attribute_of(spec.name)
            whole, step = getattr(data.full, name), getattr(data, name)
            fed = whole.rows is not None
            rows = torch.arange(whole.length, device=data.device) if fed else step.rows
            found[spec.name] = Rows(whole.size, rows)
        return found

    # The first call

    def compare(self, data: Any, store: ParamStore) -> tuple[Difference, ...]:
        """What the model has otherwise than declared. Raises InferenceError for what it raises."""
        wrong = argument_problems(self.model, self.signature)
        if wrong:
            return wrong
        with self._ready(data, store) as given:
            return differences(self.model, self._probe(data, given), self.signature, data)

    def _probe(self, data: Any, given: Mapping[str, object]) -> Seen:
        """A run on the model's own rows, so that it is compared before it is told others; fed rows are what it has."""
        fed = {spec.name for spec in self.model.plates if getattr(data.full, attribute_of(spec.name)).rows is not None}
        return probed(self.function, given, self.who, {name: r for name, r in self.rows(data).items() if name in fed})

    def _layout(self, data: Any, given: Mapping[str, object]) -> _Layout:
        """Where draws go, for data of these sizes. Raises InferenceError with all differences."""
        sizes = tuple(getattr(data, attribute_of(dim.name)) for dim in self.model.dims)
        key = sizes, tuple(rows.length for rows in self.rows(data).values())
        if key not in self._layouts:
            wrong = argument_problems(self.model, self.signature)
            seen = self._probe(data, given) if not wrong else Seen({}, {})
            self._refuse(wrong or differences(self.model, seen, self.signature, data))
            self._layouts[key] = _Layout(seen, sources(self.model, seen))
        return self._layouts[key]

    def _refuse(self, wrong: Sequence[Difference]) -> None:
        if not wrong:
            return
        lines = [f"{self.model.name} is not what {self.model.origin} has:"]
        for one in wrong:
            here = self.model.declared_at.get(one.name)
            mine = f"{self.model.source}:{here}: " if here is not None else ""
            theirs = f" ({one.place})" if one.place is not None else ""
            lines.append(f"  {mine}{one.message}{theirs}; {one.hint}")
        raise InferenceError("\n".join(lines))

    def _first(
        self,
        data: Any,
        layout: _Layout,
        given: Mapping[str, object],
        draw: Sequence[Tensor],
        known: Sequence[tuple[Site, Tensor]],
        summed: tuple[str, ...],
    ) -> None:
        """Looks at each site at the first draw. Raises InferenceError that names the one that cannot be evaluated."""
        if summed:
            return
        values = dict(zip((site.name for site, _ in known), draw, strict=False))
        with torch.no_grad(), pyro.validation_enabled(True), Given(self._value(data, layout, values)):
            trace = poutine.trace(lambda: called(self.function, given, self.who)).get_trace()
            for name, site in trace.nodes.items():
                if site["type"] == "sample" and is_site(site):
                    self._look(name, site, layout.seen)

    def _look(self, name: str, site: Any, seen: Seen) -> None:
        place = seen.sites[name].place if name in seen.sites else None
        where = f"{self.who}{f', {place}' if place is not None else ''}: `{name}`"
        try:
            log_p = site["fn"].log_prob(site["value"], *site["args"], **site["kwargs"])
        except Exception as error:
            raise InferenceError(f"{where} has no log density at the first draw: {error}") from error
        if not bool(torch.as_tensor(log_p).isfinite().all()):
            bad = log_p[~log_p.isfinite()].flatten()[0].item()
            raise InferenceError(f"{where} has log density {bad} at the first draw")

    # One draw

    def _value(self, data: Any, layout: _Layout, values: Mapping[str, Tensor]) -> Callable[[Any], Tensor | None]:
        observed = {field.name: field.attribute for field in self.model.fields if field.role == "observed"}

        def value(message: Any) -> Tensor | None:
            source = layout.sources.get(message["name"])
            if source is None:
                self._known(message)
                return None
            if source.name in observed:
                return placed(getattr(data, observed[source.name]), source, message)
            return placed(values[source.name], source, message) if source.name in values else None

        return value

    def _known(self, message: Any) -> None:
        """Refuses a latent that the first run did not have: nothing would give it a value but chance."""
        if not message["is_observed"] and message["value"] is None:
            raise InferenceError(
                f"{self.who} samples `{message['name']}` in this run, and did not in the first: a model whose sites "
                "depend on values is none that an interface can declare"
            )

    def _complete(self, layout: _Layout, sites: Container[str]) -> None:
        """Refuses a run without a site that the first run had: its latent would have no density."""
        missing = [name for name in layout.sources if name not in sites]
        if missing:
            raise InferenceError(
                f"{self.who} did not sample `{missing[0]}` in this run, as in the first: a model whose sites depend on "
                "values is none that an interface can declare"
            )

    def _one(
        self,
        data: Any,
        layout: _Layout,
        given: Mapping[str, object],
        values: Mapping[str, Tensor],
        summed: tuple[str, ...],
        weights: Mapping[str, tuple[Site, Tensor]],
    ) -> Tensor:
        """The log density of one draw, the terms of batches scaled."""

        def call() -> object:
            return called(self.function, given, self.who)

        total: Tensor | float
        with Given(self._value(data, layout, values)):
            if summed:
                names = frozenset(name for name, source in layout.sources.items() if source.name in summed)
                marked = Summed(names, lambda message: _weight(layout.sources[message["name"]], weights, message))
                total = self._summed(call, marked, layout, summed)
            else:
                trace = poutine.trace(call).get_trace()
                self._complete(layout, trace.nodes)
                total = trace.log_prob_sum()
        return torch.as_tensor(total, dtype=data.dtype, device=data.device)

    def _summed(self, call: Callable[[], object], marked: Summed, layout: _Layout, summed: tuple[str, ...]) -> Tensor:
        try:
            return log_sum(call, marked, layout.seen.nesting)
        except Exception as error:
            explained = error if isinstance(error, InferenceError) else failure(error, self.who)
            names = ", ".join(f"`{name}`" for name in summed)
            explained.add_note(
                f"Pyro sums {names} out by running the model with all values at once, along dims left of the plates: "
                "index with Vindex, write `...` for those dims, and steps in pyro.markov"
            )
            if explained is error:
                raise
            raise explained from error


def _weight(source: Source, weights: Mapping[str, tuple[Site, Tensor]], message: Any) -> tuple[Tensor, int] | None:
    """The log weights of a site's classes on Pyro's dims, [batch..., classes], and the least class."""
    if source.name not in weights:
        return None
    site, weight = weights[source.name]
    if source.step is not None:
        weight = weight.select(len(source.plates), source.step)
    dims = dims_of(message, source)
    return on_dims(weight, [dims[plate] for plate in source.plates]), site.low
