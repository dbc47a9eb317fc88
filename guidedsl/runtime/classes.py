"""Probabilities of the classes of latents that are summed out, and the table of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from guidedsl.runtime.errors import InferenceError
from guidedsl.runtime.metadata import Site, attribute_of
from guidedsl.runtime.model import Guide, Model
from guidedsl.runtime.noise import Noise
from guidedsl.runtime.sizes import evaluate

if TYPE_CHECKING:
    from guidedsl.runtime.params import ParamStore

CHUNK = 4e6
"""Numbers in one array of one pass."""
ROWS_SHOWN = 20


def class_count(site: Site, data: Any) -> int:
    """How many values a latent has that can be summed out."""
    assert site.classes is not None
    return int(evaluate(site.classes, _dims(data)))


def _dims(data: Any) -> dict[str, int]:
    return {dim.name: getattr(data, attribute_of(dim.name)) for dim in data.schema.dims}


def _tilt_shape(site: Site, data: Any) -> tuple[int, ...]:
    """[internal plates..., steps of its scan, classes]."""
    plates = site.plates if site.order is None else tuple(site.plates[axis] for axis in site.order)
    rows = (getattr(data, attribute_of(name)).length for name in plates)
    return (*rows, *(evaluate(size, _dims(data)) for size in site.steps), class_count(site, data))


def class_probabilities(
    guide: Guide, data: Any, store: ParamStore, n: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """P(c = k | z, data) averaged over `n` draws of the other latents z: [plates..., classes] by name, in float64.

    For one draw it is the gradient of log p(z, data) in log weights added to the classes, so it is exact, through any
    order of summation (Darwiche 2003; for a chain, the forward-backward recursion). `data` with all rows.
    """
    if n < 1:
        raise InferenceError(f"class_probabilities({n}): at least one draw is needed")
    shapes = {site.name: _tilt_shape(site, data) for site in guide.model.sites if site.classes is not None}
    entries = sum(torch.Size(shape).numel() for shape in shapes.values())
    chunk = max(1, int(CHUNK / max(entries, 1)))
    noise = data.noise(generator)
    totals: dict[str, Tensor] = {}
    for start in range(0, n if shapes else 0, chunk):
        for name, gradient in _one_pass(guide, data, store, min(chunk, n - start), noise, shapes).items():
            totals[name] = totals.get(name, 0) + gradient
    return {site.name: _to_written(site, totals[site.name] / n) for site in guide.model.sites if site.name in totals}


def _one_pass(
    guide: Guide, data: Any, store: ParamStore, count: int, noise: Noise, shapes: dict[str, tuple[int, ...]]
) -> dict[str, Tensor]:
    """The probabilities summed over `count` draws."""
    with torch.no_grad():
        latents = guide(data, particles=(count,), store=store, noise=noise).latents
    summed = [site.name for site, value in zip(guide.model.sites, latents, strict=True) if value is None]
    if not summed:
        return {}
    tilt = {name: data.new_zeros((count, *shapes[name])) for name in summed}
    found = _probabilities(guide.model, data, latents, store, tilt)
    return {name: gradient.sum(0, dtype=torch.float64) for name, gradient in found.items()}


def draw_classes(model: Model, data: Any, latents: Any, store: ParamStore, noise: Noise) -> Any:
    """The latents with a draw of those that are summed out, given the others: exact.

    One site after another, those in few plates first, each given the ones before; of a scan one step after another. The
    rows of a site are independent given what stands outside of their plates.
    """
    count = next(value.shape[0] for value in latents if value is not None)
    values = dict(zip((site.name for site in model.sites), latents, strict=True))
    summed = sorted((site for site in model.sites if values[site.name] is None), key=lambda site: len(site.plates))
    tilt = {site.name: data.new_zeros((count, *_tilt_shape(site, data))) for site in summed}
    for site in summed:
        steps = range(tilt[site.name].shape[-2]) if site.steps else (None,)
        for step in steps:
            probabilities = _probabilities(model, data, latents, store, tilt)[site.name]
            at = (...,) if step is None else (..., step, slice(None))
            chosen = noise.categorical(probabilities[at].shape[:-1], probs=probabilities[at])
            picked = torch.nn.functional.one_hot(chosen, probabilities.shape[-1]).bool()
            tilt[site.name][at] = torch.where(picked, 0.0, -math.inf).to(data.dtype)
        certain = tilt[site.name]
        one_hot = site.constraint.event_dim > 0
        values[site.name] = certain.exp() if one_hot else certain.argmax(-1).to(data.dtype) + site.low
    return type(latents)(*values.values())


def _probabilities(
    model: Model, data: Any, latents: Any, store: ParamStore, tilt: dict[str, Tensor]
) -> dict[str, Tensor]:
    """P(c = k) for each draw and row, given the others and log weights."""
    weights = {name: value.detach().clone().requires_grad_() for name, value in tilt.items()}
    with torch.enable_grad():
        log_p = model(data, latents, store=store, tilt=weights)
        gradients = torch.autograd.grad(log_p.sum(), list(weights.values()))
    return dict(zip(weights, gradients, strict=True))


def _to_written(site: Site, probabilities: Tensor) -> Tensor:
    """[internal plates..., classes] with the plates as written."""
    if site.constraint.event_dim:
        return site.to_written(probabilities)
    return site.to_written(probabilities.movedim(-1, 0)).movedim(0, -1)


@dataclass(frozen=True)
class ClassTable:
    """Probabilities of one latent's classes: `rows` by label, as `c[3]`, one number for each of `values`."""

    name: str
    values: tuple[int, ...]
    rows: tuple[tuple[str, tuple[float, ...]], ...]

    @staticmethod
    def of(site: Site, probabilities: Tensor) -> ClassTable:
        """From probabilities [plates..., classes]."""
        *shape, classes = probabilities.shape
        flat = probabilities.reshape(-1, classes).tolist()
        indices = itertools.product(*map(range, shape))
        labels = (f"{site.name}[{', '.join(map(str, index))}]" if index else site.name for index in indices)
        values = tuple(range(site.low, site.low + classes))
        return ClassTable(
            site.name, values, tuple((label, tuple(row)) for label, row in zip(labels, flat, strict=True))
        )

    @property
    def shares(self) -> tuple[float, ...]:
        """The mean probability of each class over the rows."""
        columns = zip(*(row for _, row in self.rows), strict=True)
        return tuple(sum(column) / len(self.rows) for column in columns)

    def to_dict(self) -> dict[str, dict[str, float]]:
        """By row: the probability of each value, `P(0)`, `P(1)`, …"""
        return {label: {f"P({v})": p for v, p in zip(self.values, row, strict=True)} for label, row in self.rows}

    def lines(self) -> list[str]:
        """As text: a column a class, the first rows, and the mean over all."""
        shown: Sequence[tuple[str, tuple[float, ...]]] = self.rows[:ROWS_SHOWN]
        cells = [(f"P({self.name} = …)", *map(str, self.values))]
        cells += [(label, *(f"{p:.3f}" for p in row)) for label, row in shown]
        if len(self.rows) > 1:
            cells.append((f"mean of {len(self.rows)}", *(f"{p:.3f}" for p in self.shares)))
        widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
        lines = [
            "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
            for line in cells
        ]
        if len(self.rows) > len(shown):
            lines.append(f"… {len(self.rows) - len(shown)} more rows: fit.class_probabilities() has all")
        return [line.rstrip() for line in lines]
