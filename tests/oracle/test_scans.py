"""Scans against what they mean: loops over steps in plain torch, all paths of states, Kalman's filter.

The oracles take one particle at a time and one row at a time, with the distributions of torch.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.distributions as td
from torch import Tensor
from torch.overrides import TorchFunctionMode

from guidedsl.modules import load_source
from guidedsl.runtime import ParamStore
from guidedsl.source import Source, read_source

PROGRAMS = Path(__file__).resolve().parent.parent / "cases" / "programs"
PARTICLES = 3
TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-4}
"""Relative: sums of some dozens of terms of size one."""


@cache
def program(name: str) -> ModuleType:
    source = read_source(PROGRAMS / name / "model.guide", "model.guide")
    return load_source(source, f"scan_oracle_{name}")


def fields(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((PROGRAMS / name / "data.json").read_text())
    return found


def normal(x: Tensor, loc: Any, scale: Any) -> Tensor:
    loc, scale = (torch.as_tensor(value, dtype=x.dtype) for value in (loc, scale))
    return td.Normal(loc, scale).log_prob(x).sum()


def half(x: Tensor, density: Tensor) -> Tensor:
    """A density folded over zero."""
    return density.sum() + math.log(2.0) * x.numel()


Values = Any
"""One particle's latents, or a step's data, by name."""


def local_level(d: Values, z: Values) -> Tensor:
    total = normal(z.drift, 0.0, 1.0) + half(z.tau, normal(z.tau, 0, 1)) + half(z.sigma, normal(z.sigma, 0, 1))
    level = torch.zeros((), dtype=d.dtype)
    for t in range(d.T):
        total = total + normal(z.x[t], level + z.drift, z.tau) + normal(d.y[t], z.x[t], z.sigma)
        level = z.x[t]
    return total


def autoregression(d: Values, z: Values) -> Tensor:
    total = normal(z.alpha, 0, 1) + normal(z.beta, 0, 0.5) + half(z.sigma, normal(z.sigma, 0, 1)) - math.log(2.0)
    one, two = d.start[1], d.start[0]
    for t in range(d.T):
        total = total + normal(d.y[t], z.alpha + z.beta[0] * one + z.beta[1] * two, z.sigma)
        one, two = d.y[t], one
    state = torch.zeros((), dtype=d.dtype)
    for t in range(d.T):
        scale = 1 / (1 - z.phi**2).sqrt() if t == 0 else 1.0
        total = total + normal(z.x[t], z.phi * state, scale) + td.Poisson(z.x[t].exp()).log_prob(d.n[t])
        state = z.x[t]
    return total


def arma(d: Values, z: Values) -> Tensor:
    def truncated(x: Tensor) -> Tensor:
        wide = td.Normal(torch.zeros_like(x), 2.0)
        return wide.log_prob(x) - (wide.cdf(torch.ones_like(x)) - wide.cdf(-torch.ones_like(x))).log()

    total = (
        normal(z.mu, 0, 10)
        + truncated(z.phi)
        + truncated(z.theta)
        + td.HalfCauchy(torch.full_like(z.sigma, 2.5)).log_prob(z.sigma)
    )
    nu = z.mu + z.phi * z.mu
    err = d.y[0] - nu
    total = total + normal(d.y[0], nu, z.sigma)
    for t in range(1, d.T):
        nu = z.mu + z.phi * d.y[t - 1] + z.theta * err
        err = d.y[t] - nu
        total = total + normal(d.y[t], nu, z.sigma)
    return total


def garch(d: Values, z: Values) -> Tensor:
    sigma = d.first
    total = normal(d.y[0], z.mu, sigma)
    for t in range(1, d.T):
        sigma = (z.alpha0 + z.alpha1 * (d.y[t - 1] - z.mu) ** 2 + z.beta1 * sigma**2).sqrt()
        total = total + normal(d.y[t], z.mu, sigma)
    return total


def hmm(d: Values, z: Values) -> Tensor:
    """Every path of states on its own."""
    total = normal(z.mu, 0, 3) + td.Dirichlet(torch.ones(d.K, dtype=d.dtype)).log_prob(z.start)
    total = total + td.Dirichlet(torch.full((d.K,), 2.0, dtype=d.dtype)).log_prob(z.move).sum()
    paths = []
    for path in itertools.product(range(d.K), repeat=d.T):
        weight = z.start[path[0]].log()
        for t, state in enumerate(path):
            weight = weight + normal(d.y[t], z.mu[state], 1.0)
            weight = weight + (z.move[path[t - 1], state].log() if t else 0.0)
        paths.append(weight)
    return total + torch.logsumexp(torch.stack(paths), 0)


def panel(d: Values, z: Values) -> Tensor:
    total = normal(z.A, 0, 0.3) + half(z.noise_scale, normal(z.noise_scale, 0, 1))
    local = torch.zeros((), dtype=d.dtype)
    for i in range(d.unit.length):
        local = local + normal(z.z0[i], 0, 1)
        before = z.z0[i]
        for t in range(d.T):
            local = local + td.MultivariateNormal(z.A @ before, scale_tril=z.L).log_prob(z.x[i, t])
            if d.there[i, t]:
                local = local + normal(d.y[i, t], d.load @ z.x[i, t], z.noise_scale)
            before = z.x[i, t]
        local = local - 0.01 * (before**2).sum()
    return total + d.unit.scale * local


def statements(d: Values, z: Values, gain: float = 1.3) -> Tensor:
    total = normal(z.a, 0, 1) + normal(z.w, 0, 1) + normal(z.bump, 0, 1)
    out = torch.zeros(d.R, d.T, dtype=d.dtype)
    last = []
    for r in range(d.R):
        h, share = z.w[r], torch.full((d.K,), 1 / d.K, dtype=d.dtype)
        for t in range(d.T):
            inner = h + t / d.T + d.u[t] - d.u[t + 1] + d.grid[t, d.kind] * d.turn[d.kind, t] + z.bump[t]
            m = gain * torch.tanh(inner)
            total = total + td.StudentT(4.0, m, 1.0).log_prob(z.x[r, t])
            total = total + td.Dirichlet(1 + 5 * share).log_prob(z.p[r, t])
            mass = math.log(0.5 * (1 + math.erf(0.5 / math.sqrt(2.0))))
            total = total + normal(z.near[r, t], 1, 2) - mass
            if d.flag[t] and t > 0:
                total = total + td.Bernoulli(logits=z.x[r, t] + z.a).log_prob(d.c[r, t])
            total = total + normal(z.wide[r, t], m, 1.0) - 0.1 * z.near[r, t] - 0.1 * z.a**2
            out[r, t] = z.x[r, t] ** 2 + 0.01
            h, share = m + 0.1 * z.x[r, t], z.p[r, t]
        last.append(h)
    h2 = torch.stack(last).sum() + z.a
    for t in range(d.T - 1):
        m = out.mean() + h2 * d.u[t + 2]
        total = total + normal(d.d[t], m, 1.0)
        h2 = m
    return total


def steps(d: Values, z: Values) -> Tensor:
    total = normal(z.a, 0, 1)
    for row in range(2):
        share, on = torch.full((d.K,), 1 / d.K, dtype=d.dtype), torch.zeros((), dtype=d.dtype)
        for t in range(d.T):
            rate, mix, jump = z.rate[row, t], z.mix[row, t], z.jump[row, t]
            total = total + td.LogNormal(z.a, 1.0).log_prob(rate) + td.Dirichlet(1 + 3 * share).log_prob(mix)
            total = total + td.Bernoulli(logits=z.a + on).log_prob(jump)
            total = total + td.Poisson(rate * mix[1] + jump).log_prob(d.n[row, t])
            share, on = mix, jump
    return total + normal(z.after, z.rate.mean(), 1.0)


CASES: dict[str, tuple[str, str, Callable[..., Tensor]]] = {
    "scan_local_level": ("LocalLevel", "Markov", local_level),
    "scan_autoregression": ("Autoregression", "G", autoregression),
    "scan_arma": ("Arma", "FullRank", arma),
    "scan_garch": ("Garch", "MeanField", garch),
    "scan_hmm": ("Hmm", "G", hmm),
    "scan_panel": ("Panel", "G", panel),
    "scan_statements": ("Statements", "G", statements),
    "scan_guides": ("Steps", "Along", steps),
}


def one(latents: Any, particle: int) -> Any:
    return type(latents)(*(value[particle] for value in latents))


def scattered(store: ParamStore, seed: int = 3) -> None:
    """Move every parameter off its first value, so that nothing is hidden by zeros."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, leaf in store.named_parameters():
            leaf.add_(0.3 * torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", sorted(CASES))
def test_density_is_that_of_the_loop(name: str, dtype: torch.dtype) -> None:
    model_name, guide_name, oracle = CASES[name]
    module = program(name)
    model, guide = getattr(module, model_name), getattr(module, guide_name)
    data = model.data(fields(name), dtype=dtype)
    store = ParamStore()
    noise = data.noise(torch.Generator().manual_seed(1))
    batch = data.subsample(noise)
    guide(batch, store=store, noise=noise)
    scattered(store)
    with torch.no_grad():
        draw = guide(batch, particles=(PARTICLES,), store=store, noise=noise)
        if name == "scan_statements":
            model(batch, draw.latents, store=store)
            store["Statements.gain"] = torch.tensor(1.3, dtype=dtype)
        log_p = model(batch, draw.latents, store=store)
        for particle in range(PARTICLES):
            wanted = oracle(batch, one(draw.latents, particle))
            assert torch.allclose(log_p[particle], wanted, rtol=TOLERANCE[dtype]), name


def markov(d: Values, z: Values, p: Callable[[str], Tensor]) -> Tensor:
    before, total = torch.zeros((), dtype=d.dtype), torch.zeros((), dtype=d.dtype)
    for t in range(d.T):
        total = total + normal(z.x[t], p("a")[t] * before + p("b")[t], p("s")[t])
        before = z.x[t]
    return total


def panel_guide(d: Values, z: Values, p: Callable[[str], Tensor]) -> Tensor:
    total = torch.zeros((), dtype=d.dtype)
    for i, row in enumerate(d.unit.rows.tolist()):
        before = z.z0[i]
        total = total + normal(before, p("z0_loc")[row], p("z0_scale")[row])
        for t in range(d.T):
            total = total + normal(z.x[i, t], 0.5 * before + p("b")[row, t], p("s")[row])
            before = z.x[i, t]
    return d.unit.scale * total


@pytest.mark.parametrize(
    ("name", "oracle", "sites"),
    [("scan_local_level", markov, ("x",)), ("scan_panel", panel_guide, ("z0", "x"))],
)
def test_log_q_of_a_scan_is_that_of_the_loop(name: str, oracle: Callable[..., Tensor], sites: tuple[str, ...]) -> None:
    """The scan's own steps by a loop, the other sites by their families."""
    guide_name = CASES[name][1]
    guide = getattr(program(name), guide_name)
    data = guide.model.data(fields(name))
    store = ParamStore()
    noise = data.noise(torch.Generator().manual_seed(1))
    batch = data.subsample(noise)
    guide(batch, store=store, noise=noise)
    scattered(store)
    with torch.no_grad():
        draw = guide(batch, particles=(PARTICLES,), store=store, noise=noise)
        others = _mean_field_log_q(guide_name, draw.latents, store, leave_out=sites)
        for particle in range(PARTICLES):
            wanted = oracle(batch, one(draw.latents, particle), lambda param: store[f"{guide_name}.{param}"])
            assert torch.allclose(draw.log_q[particle], wanted + others[particle], rtol=1e-10)


def _mean_field_log_q(guide: str, latents: Any, store: ParamStore, leave_out: tuple[str, ...]) -> Tensor:
    """log q of the sites that `auto mean_field` samples, real, positive or lower-triangular."""
    total = torch.zeros(PARTICLES, dtype=torch.float64)
    for name, value in latents._asdict().items():
        if name in leave_out:
            continue
        loc, scale = store[f"{guide}.{name}_loc"], store[f"{guide}.{name}_scale"]
        free, log_det = value, torch.zeros(PARTICLES, dtype=torch.float64)
        if name in ("tau", "sigma", "noise_scale"):
            free, log_det = value.log(), value.log().reshape(PARTICLES, -1).sum(-1)
        if name == "L":
            k = value.shape[-1]
            rows, columns = torch.tril_indices(k, k)
            diagonal = rows == columns
            entries = value[..., rows, columns]
            free = torch.where(diagonal, entries.abs().log(), entries)
            log_det = value.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        total += td.Normal(loc, scale).log_prob(free).reshape(PARTICLES, -1).sum(-1) - log_det
    return total


LINEAR = """
model Linear {
  dim T
  scan t in T carry (level : real = 0) {
    latent x   : real ~ Normal(0.8 * level + 0.1, 0.5)
    observed y : real ~ Normal(x, 0.7) when there[t]
    next level = x
  }
}
guide Whole for Linear {
  param loc : real[T] = 0
  param L   : lower_cholesky[T] = eye(T)
  x ~ MultivariateNormal(loc, scale_tril = L)
}
guide Markov for Linear {
  param a : real[T]     = 0
  param b : real[T]     = 0
  param s : positive[T] = 1
  scan t in T carry (before : real = 0) {
    x ~ Normal(a[t] * before + b[t], s[t])
    next before = x
  }
}
""".replace("  dim T\n", "  dim T\n  data there : bool[T]\n", 1)
SEEN = [0.4, math.nan, 1.3, 0.2, -0.6, math.nan, 0.9]


@cache
def linear() -> ModuleType:
    return load_source(Source("linear.guide", LINEAR), "scan_oracle_linear")


def kalman(seen: list[float]) -> float:
    """The log evidence of the linear model (Kalman 1960): predict, weigh, correct."""
    mean, variance, total = 0.0, 0.0, 0.0
    for y in seen:
        mean, variance = 0.8 * mean + 0.1, 0.64 * variance + 0.25
        if not math.isnan(y):
            whole = variance + 0.49
            total -= 0.5 * ((y - mean) ** 2 / whole + math.log(2 * math.pi * whole))
            mean, variance = mean + variance / whole * (y - mean), variance * 0.49 / whole
    return total


def posterior(seen: list[float]) -> tuple[Tensor, Tensor]:
    """Mean and covariance of the whole path, by dense algebra."""
    T = len(seen)
    shift = torch.eye(T, dtype=torch.float64) - 0.8 * torch.diag(torch.ones(T - 1, dtype=torch.float64), -1)
    there = torch.tensor([0.0 if math.isnan(y) else 1.0 for y in seen], dtype=torch.float64)
    precision = shift.T @ shift / 0.25 + torch.diag(there) / 0.49
    y = torch.tensor([0.0 if math.isnan(y) else y for y in seen], dtype=torch.float64)
    pull = shift.T @ torch.full((T,), 0.1, dtype=torch.float64) / 0.25 + there * y / 0.49
    covariance = torch.linalg.inv(precision)
    return covariance @ pull, covariance


def test_the_exact_posterior_gives_the_evidence_at_every_draw() -> None:
    """log p(x, y) - log q(x) is log p(y) whatever x is, where q is the posterior: whole, and step by step."""
    module = linear()
    data = module.Linear.data({"y": SEEN, "there": [not math.isnan(y) for y in SEEN]})
    mean, covariance = posterior(SEEN)
    store = ParamStore()
    for guide in (module.Whole, module.Markov):
        guide(data, store=store)
    store["Whole.loc"], store["Whole.L"] = mean, torch.linalg.cholesky(covariance)
    before = covariance.diagonal(-1) / covariance.diagonal()[:-1]
    a = torch.cat((torch.zeros(1, dtype=torch.float64), before))
    variance = covariance.diagonal().clone()
    variance[1:] -= before * covariance.diagonal(-1)
    earlier = torch.cat((torch.zeros(1, dtype=torch.float64), mean[:-1]))
    store["Markov.a"], store["Markov.b"], store["Markov.s"] = a, mean - a * earlier, variance.sqrt()
    evidence = kalman(SEEN)
    for guide in (module.Whole, module.Markov):
        noise = data.noise(torch.Generator().manual_seed(2))
        draw = guide(data, particles=(20,), store=store, noise=noise)
        weights = module.Linear(data, draw.latents, store=store) - draw.log_q
        assert torch.allclose(weights, torch.full_like(weights, evidence), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["Whole", "Markov"])
def test_a_fit_reaches_the_evidence(name: str) -> None:
    """Within 1e-3 nats: the families hold the posterior, so that what is missing is the optimiser's."""
    module = linear()
    data = module.Linear.data({"y": SEEN, "there": [not math.isnan(y) for y in SEEN]})
    fit = getattr(module, name).fit(data, seed=1)
    noise = data.noise(torch.Generator().manual_seed(2))
    draw = getattr(module, name)(data, particles=(2000,), store=fit.store, noise=noise)
    elbo = (module.Linear(data, draw.latents, store=fit.store) - draw.log_q).mean().detach()
    assert math.isclose(float(elbo), kalman(SEEN), abs_tol=1e-3)


class _Count(TorchFunctionMode):
    """Counts calls of torch."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls += 1
        return func(*args, **(kwargs or {}))


def _calls(name: str, data: Any) -> tuple[int, int]:
    """Calls of torch in one evaluation of a guide and of its model."""
    model_name, guide_name, _ = CASES[name]
    module, store = program(name), ParamStore()
    guide, model = getattr(module, guide_name), getattr(module, model_name)
    draw = guide(data, store=store)
    model(data, draw.latents, store=store)
    counts = []
    for evaluate in (lambda: guide(data, store=store), lambda: model(data, draw.latents, store=store)):
        with _Count() as count:
            evaluate()
        counts.append(count.calls)
    return counts[0], counts[1]


def _series(name: str, length: int) -> Any:
    y = [math.sin(n) for n in range(length)]
    model = getattr(program(name), CASES[name][0])
    return model.data({**fields(name), "y": y})


@pytest.mark.parametrize("name", ["scan_local_level", "scan_arma", "scan_garch", "scan_hmm"])
def test_the_cost_is_linear_in_the_steps(name: str) -> None:
    counts = [_calls(name, _series(name, length)) for length in (10, 20, 40)]
    for guide_or_model in range(2):
        at10, at20, at40 = (count[guide_or_model] for count in counts)
        assert at40 - at20 == 2 * (at20 - at10)


def test_a_carry_that_is_a_site_needs_no_loop() -> None:
    """The density of a state-space model in centred form takes as many calls whatever the number of steps."""
    counts = {_calls("scan_local_level", _series("scan_local_level", length))[1] for length in (5, 50)}
    assert len(counts) == 1
