"""Pictures of a fit: what is drawn, with a stand-in for matplotlib and, where it is installed, with itself."""

from __future__ import annotations

import math
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import guidedsl
from guidedsl.modules import load_source
from guidedsl.runtime import plots
from guidedsl.runtime.errors import InferenceError
from guidedsl.runtime.fit import Fit
from guidedsl.runtime.plots import kernel_density
from guidedsl.source import Source

PROGRAM = """
model M {
  dim J
  latent mu : real ~ Normal(0, 5)
  latent n : count ~ Poisson(3)
  plate schools[J] { latent theta : positive ~ Gamma(2, 1) observed y : real ~ Normal(theta + mu + n, 1) }
  let twice = 2 * mu
}
guide G for M {
  auto mean_field for mu, theta
  param rate : positive = 3
  n ~ Poisson(rate)
}
"""
module: Any = load_source(Source("p.guide", PROGRAM), "plots_guide")


def fit(**changes: Any) -> Fit:
    data, store = module.M.data(y=[1.0, 2.0, 3.0]), guidedsl.ParamStore()
    module.G(data, store=store)
    history = [(10 * k, 1000.0 / k + 5) for k in range(1, 51)]
    options = {"elbo": -25.0, "elbo_error": 0.1, "steps": 500, "history": history} | changes
    return Fit(module.G, data, store, converged=True, reason="", seconds=0.0, **options)


class Figure:
    """What the plots ask of a figure, noted."""

    def __init__(self, figsize: Any, layout: str) -> None:
        self.size, self.axes, self.saved, self.note = figsize, [], [], ""

    def add_subplot(self, *place: Any) -> Any:
        self.axes.append(Axes())
        return self.axes[-1]

    def supxlabel(self, text: str, **_: Any) -> None:
        self.note = text

    def savefig(self, path: Any, dpi: int) -> None:
        self.saved.append(path)

    def get_size_inches(self) -> Any:
        return self.size

    def set_size_inches(self, *size: float) -> None:
        self.size = size

    def add_gridspec(self, rows: int, columns: int, **_: Any) -> Any:
        return Grid()


class Grid:
    def __getitem__(self, place: Any) -> Any:
        return place


class Axes:
    def __init__(self) -> None:
        self.lines: list[tuple[Any, Any]] = []
        self.bars: list[Any] = []
        self.title, self.limits, self.labels = "", (), []
        self.spines = {side: SimpleNamespace(set_visible=lambda shown: None) for side in ("left", "right", "top")}

    def plot(self, x: Any, y: Any, label: str = "", **_: Any) -> None:
        self.lines.append((x, y))
        self.labels.append(label)

    def axhline(self, y: float, label: str, **_: Any) -> None:
        self.labels.append(label)

    def vlines(self, x: Any, low: Any, high: Any, label: str, **_: Any) -> None:
        self.bars.append((x, high))
        self.labels.append(label)

    def set_title(self, title: str, **_: Any) -> None:
        self.title = title

    def set_ylim(self, *limits: float) -> None:
        self.limits = limits

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A matplotlib that notes what it is asked for."""
    canvas = SimpleNamespace(FigureCanvasAgg=lambda figure: None)
    monkeypatch.setitem(sys.modules, "matplotlib", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "matplotlib.backends", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", canvas)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", SimpleNamespace(Figure=Figure))


def test_a_trace_is_the_elbo_and_its_end(drawn: None) -> None:
    axes = fit().plot_trace().axes[0]
    steps, elbos = axes.lines[0]
    assert steps == [10 * k for k in range(1, 51)]
    assert elbos[0] == -1005.0
    assert "-25.00 ± 0.1" in axes.labels[1]
    # the first values are far below what is shown of the better half
    assert axes.limits[0] > -200
    assert axes.limits[1] > -25.0


def test_densities_of_every_scalar(drawn: None) -> None:
    found = fit().plot_densities()
    assert [axes.title for axes in found.axes] == ["mu", "n", "theta[0]", "theta[1]", "theta[2]", "twice"]
    counts, shares = found.axes[1].bars[0]
    assert counts.tolist() == sorted(set(counts.tolist()))
    assert shares.sum() == pytest.approx(1.0)
    assert found.axes[2].lines[0][0].min() >= 0.0


def test_reference_draws_stand_over_the_fits(drawn: None) -> None:
    reference = {"mu": torch.randn(500), "theta": torch.rand(300, 3).tolist()}
    found = fit().plot_densities(("mu", "theta"), reference=reference)
    assert [len(axes.lines) for axes in found.axes] == [2, 2, 2, 2]
    assert found.axes[0].labels == ["this fit", "reference"]


def test_the_first_of_many(drawn: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "MOST_PANELS", 4)
    found = fit().plot_densities()
    assert len(found.axes) == 4
    assert "the first 4 of 6" in found.note


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"names": ("mu", "sigma")}, "some of mu, n, theta, twice"),
        ({"names": "mu"}, "a list of some of"),
        ({"reference": {"sigma": [1.0]}}, "'sigma', which this fit has not"),
        ({"reference": {"theta": [[1.0, 2.0]]}}, r"shape \[1, 2\]; expected \[n, 3\]"),
        ({"reference": {"mu": 1.0}}, r"shape \[\]; expected \[n\]"),
    ],
)
def test_what_cannot_be_drawn(options: Any, message: str, drawn: None) -> None:
    with pytest.raises(InferenceError, match=message):
        fit().plot_densities(**options)


def test_a_loaded_fit_has_no_trace(drawn: None) -> None:
    with pytest.raises(InferenceError, match="does not know its way"):
        fit(history=[]).plot_trace()


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    for call in (fit().plot_trace, fit().plot_densities):
        with pytest.raises(InferenceError, match=r"pip install guidedsl\[plots\]"):
            call()


@pytest.mark.parametrize(
    ("draws", "density"),
    [
        (lambda g: torch.randn(20_000, generator=g), lambda x: (-0.5 * x * x).exp() / math.sqrt(2 * math.pi)),
        (lambda g: torch.empty(20_000).exponential_(generator=g), lambda x: (-x).exp()),
        (lambda g: 5 + 0.01 * torch.randn(20_000, generator=g),
         lambda x: (-0.5 * ((x - 5) / 0.01) ** 2).exp() / math.sqrt(2 * math.pi) / 0.01),
    ],
)  # fmt: skip
def test_kernel_density(draws: Any, density: Any) -> None:
    """Within a tenth of the peak, up to the edge of a law that stops short; all mass but a hundredth is in sight."""
    x, found = kernel_density(draws(torch.Generator().manual_seed(1)).double())
    expected: Tensor = density(x)
    assert float((found - expected).abs().max()) < 0.1 * float(expected.max())
    assert float(torch.trapezoid(found, x)) == pytest.approx(1.0, abs=0.01)


def test_one_number_again_and_again() -> None:
    x, found = kernel_density(torch.full((100,), 2.5, dtype=torch.float64))
    assert bool(found.isfinite().all())
    assert float(x[0]) < 2.5 < float(x[-1])


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="the extra `plots` is not installed")
@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
@pytest.mark.parametrize("history", [True, False])
def test_files(ending: str, history: bool, tmp_path: Path) -> None:
    path = tmp_path / f"fit.{ending}"
    plots.save(fit() if history else fit(history=[]), path)
    assert path.stat().st_size > 5000
    with pytest.raises(InferenceError, match=r"fit\.xyz"):
        plots.save(fit(), tmp_path / "fit.xyz")


def test_one_file_has_the_trace_above_the_densities(
    drawn: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, path, dpi: (kept.append(self), save(self, path, dpi)))
    plots.save(fit(), tmp_path / "fit.png")
    assert kept[0].saved == [tmp_path / "fit.png"]
    assert kept[0].axes[-1].title == "G for M"
    assert len(kept[0].axes) == 7
