"""Fits of one model to the same data, side by side."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from guidedsl.runtime.diagnostics import WITHOUT_EXTRA, log_weights, pareto_k
from guidedsl.runtime.errors import InferenceError
from guidedsl.runtime.feed import fed_plates

if TYPE_CHECKING:
    from guidedsl.runtime.fit import Fit


@dataclass(frozen=True)
class Compared:
    """One fit. `difference` is its ELBO less the best one's, `difference_error` the standard error of that, from draws
    with the same noise; `khat` is None without the extra `stats`."""

    name: str
    elbo: float
    elbo_error: float
    difference: float
    difference_error: float
    khat: float | None
    converged: bool
    parameters: int
    seconds: float


@dataclass(frozen=True)
class Comparison:
    """Fits, the highest ELBO first. `str()` shows it."""

    rows: tuple[Compared, ...]
    up_to_a_constant: bool

    def __str__(self) -> str:
        header = ("", "ELBO", "±", "difference", "±", "k-hat", "converged", "parameters", "seconds")
        cells = [header, *(_cells(row) for row in self.rows)]
        widths = [max(len(line[column]) for line in cells) for column in range(len(header))]
        lines = [
            "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
            for line in cells
        ]
        if self.up_to_a_constant:
            lines.append("The density is known up to a constant, the same for all: the differences stand.")
        if any(row.khat is None for row in self.rows):
            lines.append(f"k-hat: {WITHOUT_EXTRA}")
        return "\n".join(line.rstrip() for line in lines)

    def to_dict(self) -> list[dict[str, Any]]:
        """A dict a fit, the best first."""
        return [dict(vars(row)) for row in self.rows]


def _cells(row: Compared) -> tuple[str, ...]:
    best = row.difference == 0.0
    khat = "" if row.khat is None else f"{row.khat:.2f}"
    return (
        row.name,
        f"{row.elbo:.2f}",
        f"{row.elbo_error:.2g}",
        "" if best else f"{row.difference:.2f}",
        "" if best else f"{row.difference_error:.2g}",
        khat,
        "yes" if row.converged else "NO",
        str(row.parameters),
        f"{row.seconds:.1f}",
    )


def compare(*fits: Fit, seed: int = 0, names: tuple[str, ...] | None = None) -> Comparison:
    """Compares fits of guides of one model to the same data: fresh estimates of the ELBO, on the same noise.

    `names` stand for the guides' own. Raises `InferenceError` for fits of different models, versions of the text, or
    data.
    """
    if len(fits) < 2:
        raise InferenceError(f"compare takes two fits or more, got {len(fits)}")
    shown = _names(fits) if names is None else names
    for fit, name in zip(fits[1:], shown[1:], strict=True):
        _check_same(fits[0], fit, shown[0], name)
    weights = [_weights(fit, seed) for fit in fits]
    means = [float(one.mean()) for one in weights]
    best = max(range(len(fits)), key=lambda place: means[place] if math.isfinite(means[place]) else -math.inf)
    order = sorted(range(len(fits)), key=lambda place: (place != best, -means[place]))
    rows = tuple(_row(fits[place], shown[place], weights[place], weights[best]) for place in order)
    return Comparison(rows, fits[0].guide.model.up_to_a_constant)


def _names(fits: tuple[Fit, ...]) -> tuple[str, ...]:
    """The guides' names, numbered where one guide was fitted more than once."""
    guides = [fit.guide.name for fit in fits]
    counts = {name: guides.count(name) for name in guides}
    return tuple(
        f"{name} {guides[: place + 1].count(name)}" if counts[name] > 1 else name for place, name in enumerate(guides)
    )


def _weights(fit: Fit, seed: int) -> Tensor:
    generator = torch.Generator(fit.data.device)
    generator.manual_seed(seed)
    return log_weights(fit.guide, fit.data.full, fit.store, generator)


def _row(fit: Fit, name: str, weights: Tensor, best: Tensor) -> Compared:
    def error(values: Tensor) -> float:
        return float(values.std() / math.sqrt(len(values)))

    difference = weights - best.to(weights.device)
    return Compared(
        name=name,
        elbo=float(weights.mean()),
        elbo_error=error(weights),
        difference=float(difference.mean()),
        difference_error=error(difference),
        khat=pareto_k(weights),
        converged=fit.converged,
        parameters=sum(leaf.numel() for leaf in fit.store.trainable().values()),
        seconds=fit.seconds,
    )


def _check_same(one: Fit, other: Fit, a: str, b: str) -> None:
    first, second = one.guide.model, other.guide.model
    if first.name != second.name:
        raise InferenceError(f"{a} is a fit of model {first.name}, {b} of {second.name}: their ELBOs do not compare")
    if first.source_sha256 != second.source_sha256:
        raise InferenceError(
            f"{a} and {b} are fits of different texts of {first.name} (sha256 {first.source_sha256[:12]}… of "
            f"{first.source}, {second.source_sha256[:12]}… of {second.source}): put both guides in one .guide file and "
            "fit again"
        )
    if fed_plates(first):
        raise InferenceError(f"{first.name} is fed in batches, which a fit does not keep: compare `fit.elbo` by hand")
    if data_sha256(one.data.full) != data_sha256(other.data.full):
        raise InferenceError(f"{a} and {b} are fits to different data: their ELBOs do not compare")


def data_sha256(data: Any) -> str:
    """The hash of what is bound: sizes and arrays in single precision, whatever that of the fit."""
    digest = hashlib.sha256()
    for name, value in sorted(vars(data).items()):
        if isinstance(value, Tensor):
            digest.update(f"{name} {list(value.shape)}".encode())
            digest.update(value.detach().cpu().to(torch.float32).contiguous().numpy().tobytes())
        elif isinstance(value, int):
            digest.update(f"{name} {value}".encode())
    return digest.hexdigest()
