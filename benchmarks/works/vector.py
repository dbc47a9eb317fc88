"""Mean field over a vector of LENGTH latents, each observed once."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

LENGTH = int(os.environ.get("BENCH_LENGTH", "1000"))
SPEC = """
model Vector {
  dim N
  plate row[N] {
    latent z : real ~ Normal(0, 1)
    observed y : real ~ Normal(z, 1)
  }
}
guide MeanField for Vector {
  plate row {
    param loc : real = 0
    param scale : positive = 0.5
    z ~ Normal(loc, scale)
  }
}
"""
MODEL, GUIDE = "Vector", "MeanField"


def fields() -> dict[str, Any]:
    return {"y": np.random.default_rng(0).normal(size=LENGTH).astype(np.float32)}


def pyro_pair(data: dict[str, Any]) -> tuple[Any, Any]:
    import pyro
    import pyro.distributions as dist
    import torch

    def model() -> None:
        with pyro.plate("row", LENGTH):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("y", dist.Normal(z, 1.0), obs=data["y"])

    def guide() -> None:
        loc = pyro.param("loc", torch.zeros(LENGTH))
        scale = pyro.param("scale", torch.full((LENGTH,), 0.5), constraint=dist.constraints.positive)
        with pyro.plate("row", LENGTH):
            pyro.sample("z", dist.Normal(loc, scale))

    return model, guide


def numpyro_pair(data: dict[str, Any]) -> tuple[Any, Any]:
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist
    from numpyro.distributions import constraints

    def model() -> None:
        with numpyro.plate("row", LENGTH):
            z = numpyro.sample("z", dist.Normal(0.0, 1.0))
            numpyro.sample("y", dist.Normal(z, 1.0), obs=data["y"])

    def guide() -> None:
        loc = numpyro.param("loc", jnp.zeros(LENGTH))
        scale = numpyro.param("scale", jnp.full(LENGTH, 0.5), constraint=constraints.positive)
        with numpyro.plate("row", LENGTH):
            numpyro.sample("z", dist.Normal(loc, scale))

    return model, guide


def lean_loss(data: dict[str, Any]) -> tuple[list[Any], Any]:
    import math

    import torch

    flat = torch.cat([torch.zeros(LENGTH), torch.full((LENGTH,), math.log(0.5))]).requires_grad_()
    y = data["y"]

    def loss() -> Any:
        noise = torch.randn(LENGTH)
        loc, log_scale = flat[:LENGTH], flat[LENGTH:]
        z = loc + log_scale.exp() * noise
        log_q = -(log_scale + 0.5 * noise * noise).sum()
        log_p = -0.5 * (z * z + (y - z).square()).sum() - 0.5 * LENGTH * math.log(2 * math.pi)
        return log_q - log_p

    return [flat], loss
