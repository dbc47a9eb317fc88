"""Hierarchical logistic regression: 10,000 rows, 20 predictors, 100 groups, mean field; all rows, or 512 a step."""

from __future__ import annotations

from typing import Any

import numpy as np

ROWS, PREDICTORS, GROUPS = 10_000, 20, 100
BATCH: int | None = None


def spec(batch: int | None) -> str:
    rows = f"subsample({batch})" if batch else ""
    return f"""
model Logistic {{
  dim N, P, G
  latent tau  : positive ~ HalfNormal(1)
  latent beta : real[P] ~ Normal(0, 1)
  plate group[G] {{ latent a : real ~ Normal(0, tau) }}
  plate row[N] {rows} {{
    data g : index(group)
    data x : real[P]
    observed y : bool ~ Bernoulli(logits = a[g] + dot(x, beta))
  }}
}}
guide MeanField for Logistic {{
  param tau_loc : real = 0
  param tau_scale : positive = 0.1
  param beta_loc : real[P] = 0
  param beta_scale : positive[P] = 0.1
  tau ~ LogNormal(tau_loc, tau_scale)
  beta ~ Normal(beta_loc, beta_scale)
  plate group {{
    param a_loc : real = 0
    param a_scale : positive = 0.1
    a ~ Normal(a_loc, a_scale)
  }}
}}
"""


SPEC = spec(BATCH)
MODEL, GUIDE = "Logistic", "MeanField"


def fields() -> dict[str, Any]:
    draw = np.random.default_rng(0)
    x = draw.normal(size=(ROWS, PREDICTORS)).astype(np.float32)
    g = draw.integers(GROUPS, size=ROWS)
    logits = draw.normal(size=GROUPS)[g] + x @ draw.normal(size=PREDICTORS)
    y = (draw.random(ROWS) < 1 / (1 + np.exp(-logits))).astype(np.float32)
    return {"x": x, "g": g, "y": y, "G": GROUPS}


def pyro_pair(data: dict[str, Any], batch: int | None = BATCH) -> tuple[Any, Any]:
    import pyro
    import pyro.distributions as dist
    import torch
    from torch.distributions import constraints

    def model() -> None:
        tau = pyro.sample("tau", dist.HalfNormal(1.0))
        beta = pyro.sample("beta", dist.Normal(0.0, 1.0).expand([PREDICTORS]).to_event(1))
        with pyro.plate("group", GROUPS):
            a = pyro.sample("a", dist.Normal(0.0, tau))
        with pyro.plate("row", ROWS, subsample_size=batch) as rows:
            x, g, y = (data["x"], data["g"], data["y"]) if batch is None else (data[k][rows] for k in "xgy")
            pyro.sample("y", dist.Bernoulli(logits=a[g] + x @ beta), obs=y)

    def guide() -> None:
        tau_loc = pyro.param("tau_loc", torch.tensor(0.0))
        tau_scale = pyro.param("tau_scale", torch.tensor(0.1), constraint=constraints.positive)
        beta_loc = pyro.param("beta_loc", torch.zeros(PREDICTORS))
        beta_scale = pyro.param("beta_scale", torch.full((PREDICTORS,), 0.1), constraint=constraints.positive)
        a_loc = pyro.param("a_loc", torch.zeros(GROUPS))
        a_scale = pyro.param("a_scale", torch.full((GROUPS,), 0.1), constraint=constraints.positive)
        pyro.sample("tau", dist.LogNormal(tau_loc, tau_scale))
        pyro.sample("beta", dist.Normal(beta_loc, beta_scale).to_event(1))
        with pyro.plate("group", GROUPS):
            pyro.sample("a", dist.Normal(a_loc, a_scale))

    return model, guide


def numpyro_pair(data: dict[str, Any], batch: int | None = BATCH) -> tuple[Any, Any]:
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist
    from numpyro.distributions import constraints

    def model() -> None:
        tau = numpyro.sample("tau", dist.HalfNormal(1.0))
        beta = numpyro.sample("beta", dist.Normal(0.0, 1.0).expand([PREDICTORS]).to_event(1))
        with numpyro.plate("group", GROUPS):
            a = numpyro.sample("a", dist.Normal(0.0, tau))
        with numpyro.plate("row", ROWS, subsample_size=batch) as rows:
            x, g, y = (data["x"], data["g"], data["y"]) if batch is None else (data[k][rows] for k in "xgy")
            numpyro.sample("y", dist.Bernoulli(logits=a[g] + x @ beta), obs=y)

    def guide() -> None:
        tau_loc = numpyro.param("tau_loc", 0.0)
        tau_scale = numpyro.param("tau_scale", 0.1, constraint=constraints.positive)
        beta_loc = numpyro.param("beta_loc", jnp.zeros(PREDICTORS))
        beta_scale = numpyro.param("beta_scale", jnp.full(PREDICTORS, 0.1), constraint=constraints.positive)
        a_loc = numpyro.param("a_loc", jnp.zeros(GROUPS))
        a_scale = numpyro.param("a_scale", jnp.full(GROUPS, 0.1), constraint=constraints.positive)
        numpyro.sample("tau", dist.LogNormal(tau_loc, tau_scale))
        numpyro.sample("beta", dist.Normal(beta_loc, beta_scale).to_event(1))
        with numpyro.plate("group", GROUPS):
            numpyro.sample("a", dist.Normal(a_loc, a_scale))

    return model, guide


def lean_loss(data: dict[str, Any], batch: int | None = BATCH) -> tuple[list[Any], Any]:
    import math

    import torch
    import torch.nn.functional as F

    latents = 1 + PREDICTORS + GROUPS
    flat = torch.cat([torch.zeros(latents), torch.full((latents,), math.log(0.1))]).requires_grad_()
    scale = 1.0 if batch is None else ROWS / batch
    constants = 0.5 * math.log(2 / math.pi) - 0.5 * (PREDICTORS + GROUPS) * math.log(2 * math.pi)

    def loss() -> Any:
        noise = torch.randn(latents)
        loc, log_scale = flat[:latents], flat[latents:]
        z = loc + log_scale.exp() * noise
        log_tau, beta, a = z[0], z[1 : 1 + PREDICTORS], z[1 + PREDICTORS :]
        tau = log_tau.exp()
        x, g, y = data["x"], data["g"], data["y"]
        if batch is not None:
            rows = torch.randperm(ROWS)[:batch]
            x, g, y = x[rows], g[rows], y[rows]
        logits = torch.addmv(a[g], x, beta)
        log_q = -(log_scale + 0.5 * noise * noise).sum() - 0.5 * latents * math.log(2 * math.pi) - log_tau
        log_p = constants - 0.5 * tau * tau - 0.5 * (beta * beta).sum()
        log_p = log_p - 0.5 * (a / tau).square().sum() - GROUPS * log_tau
        return log_q - log_p + scale * F.binary_cross_entropy_with_logits(logits, y, reduction="sum")

    return [flat], loss
