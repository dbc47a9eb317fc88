"""Sparse regression: coefficients under a horseshoe, of which most are near zero."""

import pyro
import pyro.distributions as dist
import torch


def model(x, y):
    shrinkage = pyro.sample("shrinkage", dist.HalfCauchy(torch.tensor(1.0)))
    sigma = pyro.sample("sigma", dist.HalfNormal(1.0))
    with pyro.plate("features", x.shape[1]):
        local = pyro.sample("local", dist.HalfCauchy(torch.tensor(1.0)))
        beta = pyro.sample("beta", dist.Normal(0.0, local * shrinkage))
    with pyro.plate("rows", len(y)):
        pyro.sample("y", dist.Normal(x @ beta, sigma), obs=y)
