"""Eight schools, centred, mean field (Rubin 1981): ten latents."""

from __future__ import annotations

from typing import Any

import numpy as np

Y = [28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0]
SIGMA = [15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0]
SPEC = """
model Schools {
  dim J
  latent mu  : real     ~ Normal(0, 5)
  latent tau : positive ~ HalfCauchy(5)
  plate schools[J] {
    data     sigma : positive
    latent   theta : real ~ Normal(mu, tau)
    observed y     : real ~ Normal(theta, sigma)
  }
}
guide MeanField for Schools {
  param mu_loc : real = 0
  param mu_scale : positive = 1
  param tau_loc : real = 0
  param tau_scale : positive = 0.5
  mu ~ Normal(mu_loc, mu_scale)
  tau ~ LogNormal(tau_loc, tau_scale)
  plate schools {
    param theta_loc : real = 0
    param theta_scale : positive = 1
    theta ~ Normal(theta_loc, theta_scale)
  }
}
"""
MODEL, GUIDE = "Schools", "MeanField"


def fields() -> dict[str, Any]:
    return {"y": np.array(Y, np.float32), "sigma": np.array(SIGMA, np.float32)}


def pyro_pair(data: dict[str, Any]) -> tuple[Any, Any]:
    import pyro
    import pyro.distributions as dist
    import torch
    from torch.distributions import constraints

    def model() -> None:
        mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
        tau = pyro.sample("tau", dist.HalfCauchy(5.0))
        with pyro.plate("schools", 8):
            theta = pyro.sample("theta", dist.Normal(mu, tau))
            pyro.sample("y", dist.Normal(theta, data["sigma"]), obs=data["y"])

    def guide() -> None:
        mu_loc = pyro.param("mu_loc", torch.tensor(0.0))
        mu_scale = pyro.param("mu_scale", torch.tensor(1.0), constraint=constraints.positive)
        tau_loc = pyro.param("tau_loc", torch.tensor(0.0))
        tau_scale = pyro.param("tau_scale", torch.tensor(0.5), constraint=constraints.positive)
        pyro.sample("mu", dist.Normal(mu_loc, mu_scale))
        pyro.sample("tau", dist.LogNormal(tau_loc, tau_scale))
        with pyro.plate("schools", 8):
            theta_loc = pyro.param("theta_loc", torch.zeros(8))
            theta_scale = pyro.param("theta_scale", torch.ones(8), constraint=constraints.positive)
            pyro.sample("theta", dist.Normal(theta_loc, theta_scale))

    return model, guide


def numpyro_pair(data: dict[str, Any]) -> tuple[Any, Any]:
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist
    from numpyro.distributions import constraints

    def model() -> None:
        mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
        tau = numpyro.sample("tau", dist.HalfCauchy(5.0))
        with numpyro.plate("schools", 8):
            theta = numpyro.sample("theta", dist.Normal(mu, tau))
            numpyro.sample("y", dist.Normal(theta, data["sigma"]), obs=data["y"])

    def guide() -> None:
        mu_loc = numpyro.param("mu_loc", 0.0)
        mu_scale = numpyro.param("mu_scale", 1.0, constraint=constraints.positive)
        tau_loc = numpyro.param("tau_loc", 0.0)
        tau_scale = numpyro.param("tau_scale", 0.5, constraint=constraints.positive)
        numpyro.sample("mu", dist.Normal(mu_loc, mu_scale))
        numpyro.sample("tau", dist.LogNormal(tau_loc, tau_scale))
        theta_loc = numpyro.param("theta_loc", jnp.zeros(8))
        theta_scale = numpyro.param("theta_scale", jnp.ones(8), constraint=constraints.positive)
        with numpyro.plate("schools", 8):
            numpyro.sample("theta", dist.Normal(theta_loc, theta_scale))

    return model, guide


def lean_loss(data: dict[str, Any]) -> tuple[list[Any], Any]:
    import math

    import torch

    flat = torch.tensor([0.0, 0.0] + [0.0] * 8 + [0.0, math.log(0.5)] + [0.0] * 8, requires_grad=True)
    y, sigma = data["y"], data["sigma"]
    at_data = torch.log(sigma).sum() + 4 * math.log(2 * math.pi)
    rest = math.log(2 / (5 * math.pi)) - math.log(5) - 0.5 * math.log(2 * math.pi) - 4 * math.log(2 * math.pi)

    def loss() -> Any:
        noise = torch.randn(10)
        loc, log_scale = flat[:10], flat[10:]
        z = loc + log_scale.exp() * noise
        mu, log_tau, theta = z[0], z[1], z[2:]
        tau = log_tau.exp()
        log_q = -(log_scale + 0.5 * noise * noise).sum() - 5 * math.log(2 * math.pi) - log_tau
        log_p = rest - 0.5 * (mu / 5) ** 2 - torch.log1p((tau / 5) ** 2)
        log_p = log_p - 0.5 * ((theta - mu) / tau).square().sum() - 8 * log_tau
        log_p = log_p - 0.5 * ((y - theta) / sigma).square().sum() - at_data
        return log_q - log_p

    return [flat], loss
