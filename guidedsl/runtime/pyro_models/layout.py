"""Where the draws of an interface go among the sites of its Pyro model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from guidedsl.runtime.metadata import Field, Site
from guidedsl.runtime.model import Model
from guidedsl.runtime.pyro_models.names import as_written, numbered
from guidedsl.runtime.pyro_models.probe import Seen


@dataclass(frozen=True)
class Source:
    """What a site of the Pyro model gets its value from: a declaration, or with `step` one entry of its first event
    axis, as the sites `x_0`, `x_1`, … of a loop do."""

    name: str
    plates: tuple[str, ...]
    step: int | None = None


def sources(model: Model, seen: Seen) -> dict[str, Source]:
    """By site of the Pyro model, where its value comes from: latents, and observed sites that it does not observe."""
    found: dict[str, Source] = {}
    declared: list[Site | Field] = [*model.sites, *(field for field in model.fields if field.role == "observed")]
    open_sites = {as_written(site.name, [one.name for one in declared]): site.name for site in seen.latents}
    for one in declared:
        plates = one.internal_plates
        if one.name in open_sites:
            found[open_sites[one.name]] = Source(one.name, plates)
        elif one.event and one.name not in seen.sites:
            steps = numbered(one.name, open_sites)
            found |= {open_sites[name]: Source(one.name, plates, step) for step, name in enumerate(steps)}
    return found


def on_dims(value: Tensor, dims: Sequence[int]) -> Tensor:
    """[plates..., event...] with the axis of each plate on its batch dim, counted from the right, and 1 between."""
    order = sorted(range(len(dims)), key=lambda axis: dims[axis])
    event = value.shape[len(dims) :]
    batch = [1] * -min(dims, default=0)
    for axis, dim in enumerate(dims):
        batch[dim] = value.shape[axis]
    return value.permute((*order, *range(len(dims), value.ndim))).reshape((*batch, *event))


def placed(value: Tensor, source: Source, message: Any) -> Tensor:
    """The value of a site: `value` is its declaration's, [internal plates..., event...], of one draw."""
    if source.step is not None:
        value = value.select(len(source.plates), source.step)
    dims = dims_of(message, source)
    value = on_dims(value, [dims[plate] for plate in source.plates])
    return value.long() if _positions(message["fn"]) else value


def _positions(law: Any) -> bool:
    """Whether a law's values are positions, which Pyro has as integers."""
    while hasattr(law, "base_dist"):
        law = law.base_dist
    return type(law).__name__ == "Categorical"


def dims_of(message: Any, source: Source) -> Mapping[str, int]:
    """The batch dims of the plates around a site, by their declared names."""
    frames = message["cond_indep_stack"]
    return {as_written(frame.name, source.plates): frame.dim for frame in frames if frame.dim is not None}
