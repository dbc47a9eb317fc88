"""Pictures of a fit: how the ELBO went, and the densities of its scalars. Drawn by matplotlib, the extra `plots`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from guidedsl.runtime.errors import InferenceError
from guidedsl.runtime.posterior import scalars_of

if TYPE_CHECKING:
    from guidedsl.runtime.fit import Fit

COLUMNS = 3
MOST_PANELS = 24
GRID = 256
OURS, THEIRS = "#1f5fa8", "#c44e00"


def _figure(width: float, height: float) -> Any:
    """An empty figure that needs no display. Raises InferenceError without the extra."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise InferenceError("plots need matplotlib: pip install guidedsl[plots]") from None
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def trace(fit: Fit) -> Any:
    """See `Fit.plot_trace`."""
    if not fit.history:
        raise InferenceError(f"no trace of {fit.guide.name}: a fit that was loaded does not know its way")
    figure = _figure(7.0, 4.0)
    _trace(figure.add_subplot(), fit)
    return figure


def _trace(axes: Any, fit: Fit) -> None:
    steps, elbos = [step for step, _ in fit.history], [-loss for _, loss in fit.history]
    axes.plot(steps, elbos, color=OURS, linewidth=1.0)
    if math.isfinite(fit.elbo):
        axes.axhline(fit.elbo, color=THEIRS, linewidth=1.0, label=f"at the end {fit.elbo:.2f} ± {fit.elbo_error:.2g}")
        axes.legend(frameon=False, loc="lower right")
    axes.set_ylim(*_without_the_start(elbos, fit.elbo))
    axes.set_xlabel("evaluations of the loss" if len(steps) > 1 and steps[1] - steps[0] != 10 else "step")
    axes.set_ylabel("ELBO")
    axes.set_title(f"{fit.guide.name} for {fit.guide.model.name}", loc="left")


def _without_the_start(elbos: Sequence[float], end: float) -> tuple[float, float]:
    """The range in which the better half lies, and some below: the first values may be so low that nothing else is to
    be seen."""
    shown = sorted(value for value in (*elbos, end) if math.isfinite(value)) or [0.0]
    high, middle = shown[-1], shown[len(shown) // 2]
    low = max(shown[0], high - 5.0 * (high - middle))
    margin = 0.05 * (high - low) or 0.05 * (1.0 + abs(high))
    return low - margin, high + margin


def densities(
    fit: Fit, names: Sequence[str] | None, reference: Mapping[str, Any] | None, num_draws: int, seed: int | None
) -> Any:
    """See `Fit.plot_densities`."""
    draws = fit.sample(num_draws, seed=seed)
    chosen = _chosen(draws, names)
    others = _reference(draws, reference or {})
    panels = list(islice(scalars_of(chosen), MOST_PANELS + 1))
    left_out = len(panels) > MOST_PANELS
    theirs = dict(scalars_of(others))
    figure = _panels(panels[:MOST_PANELS], theirs)
    if left_out:
        total = sum(math.prod(values.shape[1:]) for values in chosen.values())
        figure.supxlabel(f"the first {MOST_PANELS} of {total} scalars: names=… chooses others", fontsize=8)
    return figure


def _chosen(draws: Mapping[str, Tensor], names: Sequence[str] | None) -> dict[str, Tensor]:
    if names is None:
        return dict(draws)
    unknown = [name for name in names if name not in draws]
    if unknown or isinstance(names, str):
        raise InferenceError(f"plot_densities(names={names!r}): a list of some of {', '.join(draws)}")
    return {name: draws[name] for name in names}


def _reference(draws: Mapping[str, Tensor], given: Mapping[str, Any]) -> dict[str, Tensor]:
    """Draws of another method, [n, plates..., event...] by name."""
    found: dict[str, Tensor] = {}
    for name, values in given.items():
        if name not in draws:
            raise InferenceError(f"reference draws of {name!r}, which this fit has not: it has {', '.join(draws)}")
        value = torch.as_tensor(values, dtype=torch.float64)
        if value.ndim == 0 or value.shape[1:] != draws[name].shape[1:]:
            wanted = f"[n{''.join(f', {size}' for size in draws[name].shape[1:])}]"
            raise InferenceError(f"reference draws of {name!r} have shape {list(value.shape)}; expected {wanted}")
        found[name] = value
    return found


def _panels(ours: Sequence[tuple[str, Tensor]], theirs: Mapping[str, Tensor]) -> Any:
    rows, columns = math.ceil(len(ours) / COLUMNS), min(COLUMNS, len(ours))
    figure = _figure(3.2 * max(columns, 1), 2.1 * max(rows, 1))
    for place, (name, values) in enumerate(ours):
        axes = figure.add_subplot(rows, columns, place + 1)
        other = theirs.get(name)
        _draw(axes, values, OURS, "this fit")
        if other is not None:
            _draw(axes, other, THEIRS, "reference")
        axes.set_title(name, loc="left", fontsize=9)
        axes.set_yticks([])
        axes.tick_params(labelsize=7)
        for side in ("left", "right", "top"):
            axes.spines[side].set_visible(False)
        if place == 0 and theirs:
            axes.legend(frameon=False, fontsize=7)
    return figure


def _draw(axes: Any, values: Tensor, colour: str, label: str) -> None:
    """The density of draws, bars where they are whole numbers."""
    values = values.double().cpu()
    if bool((values == values.round()).all()):
        shares = values.unique(return_counts=True)
        axes.vlines(shares[0].numpy(), 0.0, (shares[1] / len(values)).numpy(), color=colour, linewidth=3, label=label)
        return
    x, density = kernel_density(values)
    axes.plot(x.numpy(), density.numpy(), color=colour, linewidth=1.2, label=label)
    axes.fill_between(x.numpy(), density.numpy(), color=colour, alpha=0.15, linewidth=0)


def kernel_density(values: Tensor) -> tuple[Tensor, Tensor]:
    """A Gaussian kernel's estimate of the density of draws [n]: a grid and the density there, [256] each.

    Silverman's width (1986, eq. 3.31), on draws between the quantiles 0.002 and 0.998: a far tail would leave nothing
    else to see. Draws that stop short at an end, such as positive ones near 0, are mirrored there.
    """
    ordered = values.sort().values
    count = len(ordered)
    low, high = ordered[int(0.002 * (count - 1))], ordered[math.ceil(0.998 * (count - 1))]
    quartiles = ordered[int(0.75 * (count - 1))] - ordered[int(0.25 * (count - 1))]
    spread = (
        float(torch.minimum(ordered.std(), quartiles / 1.34)) or float(ordered.std()) or 1e-3 * (1 + abs(float(low)))
    )
    width = 0.9 * spread * count**-0.2
    if float(low) > 0 and float(low) < width:
        low = torch.zeros_like(low)
    grid = torch.linspace(
        float(low) - (0 if float(low) == 0 else width), float(high) + width, GRID, dtype=torch.float64
    )
    inside = ordered[(ordered >= grid[0] - 4 * width) & (ordered <= grid[-1] + 4 * width)]
    seen = torch.cat((inside, -inside)) if float(grid[0]) == 0 else inside
    kernel = (-0.5 * ((grid[:, None] - seen) / width).square()).exp().sum(-1)
    return grid, kernel / (count * width * math.sqrt(2.0 * math.pi))


def save(fit: Fit, path: str | Path, reference: Mapping[str, Any] | None = None) -> None:
    """The trace, where the fit knows its way, above the densities, in one file; its ending says in which format.

    Raises InferenceError without the extra or for an ending that matplotlib does not know, OSError as the file system
    does.
    """
    figure = densities(fit, None, reference, 4000, None)
    if fit.history:
        width, height = figure.get_size_inches()
        figure.set_size_inches(max(width, 6.4), height + 2.6)
        axes = figure.axes
        rows = math.ceil(len(axes) / COLUMNS)
        columns = min(COLUMNS, len(axes))
        grid = figure.add_gridspec(rows + 1, max(columns, 1), height_ratios=[1.3, *[1.0] * rows])
        for place, one in enumerate(axes):
            one.set_subplotspec(grid[1 + place // columns, place % columns])
        _trace(figure.add_subplot(grid[0, :]), fit)
    try:
        figure.savefig(path, dpi=150)
    except ValueError as problem:
        raise InferenceError(f"{path}: {problem}") from None
