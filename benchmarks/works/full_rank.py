"""Linear regression over 200 coefficients, full rank."""

from __future__ import annotations

from typing import Any

import numpy as np

ROWS, PREDICTORS = 1000, 200
SPEC = """
model Regression {
  dim N, P
  latent beta : real[P] ~ Normal(0, 1)
  plate row[N] {
    data x : real[P]
    observed y : real ~ Normal(dot(x, beta), 1)
  }
}
guide FullRank for Regression {
  param loc : real[P] = 0
  param scale : positive[P] = 0.1
  param tril : unit_lower_cholesky[P] = eye(P)
  beta ~ MultivariateNormal(loc, scale = scale, unit_tril = tril)
}
"""
MODEL, GUIDE = "Regression", "FullRank"
TOLERANCE = 0.05  # NumPyro learns another parameter for the factor


def fields() -> dict[str, Any]:
    draw = np.random.default_rng(0)
    x = draw.normal(size=(ROWS, PREDICTORS)).astype(np.float32)
    y = (x @ draw.normal(size=PREDICTORS) + draw.normal(size=ROWS)).astype(np.float32)
    return {"x": x, "y": y}


def pyro_pair(data: dict[str, Any]) -> tuple[Any, Any]:
    import pyro
    import pyro.distributions as dist
    import torch

    def model() -> None:
        beta = pyro.sample("beta", dist.Normal(0.0, 1.0).expand([PREDICTORS]).to_event(1))
        with pyro.plate("row", ROWS):
            pyro.sample("y", dist.Normal(data["x"] @ beta, 1.0), obs=data["y"])

    def guide() -> None:
        loc = pyro.param("loc", torch.zeros(PREDICTORS))
        scale = pyro.param("scale", torch.full((PREDICTORS,), 0.1), constraint=dist.constraints.positive)
        tril = pyro.param("tril", torch.eye(PREDICTORS), constraint=dist.constraints.unit_lower_cholesky)
        pyro.sample("beta", dist.MultivariateNormal(loc, scale_tril=scale[:, None] * tril))

    return model, guide


def numpyro_pair(data: dict[str, Any]) -> tuple[Any, Any]:
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist
    from numpyro.distributions import constraints

    def model() -> None:
        beta = numpyro.sample("beta", dist.Normal(0.0, 1.0).expand([PREDICTORS]).to_event(1))
        with numpyro.plate("row", ROWS):
            numpyro.sample("y", dist.Normal(data["x"] @ beta, 1.0), obs=data["y"])

    def guide() -> None:
        loc = numpyro.param("loc", jnp.zeros(PREDICTORS))
        tril = numpyro.param("tril", 0.1 * jnp.eye(PREDICTORS), constraint=constraints.scaled_unit_lower_cholesky)
        numpyro.sample("beta", dist.MultivariateNormal(loc, scale_tril=tril))

    return model, guide


def lean_loss(data: dict[str, Any]) -> tuple[list[Any], Any]:
    import math

    import torch

    below = torch.tril_indices(PREDICTORS, PREDICTORS, -1)
    start = [torch.zeros(PREDICTORS), torch.full((PREDICTORS,), math.log(0.1)), torch.zeros(below.shape[1])]
    flat = torch.cat(start).requires_grad_()
    x, y = data["x"], data["y"]

    def loss() -> Any:
        noise = torch.randn(PREDICTORS)
        loc, log_scale, tril = flat.split([PREDICTORS, PREDICTORS, below.shape[1]])
        factor = torch.zeros(PREDICTORS, PREDICTORS).index_put((below[0], below[1]), tril)
        beta = loc + log_scale.exp() * (noise + factor @ noise)
        log_q = -(log_scale + 0.5 * noise * noise).sum()
        log_p = -0.5 * (beta * beta).sum() - 0.5 * (y - x @ beta).square().sum()
        return log_q - log_p + 0.5 * ROWS * math.log(2 * math.pi)

    return [flat], loss
