"""A regression whose intercepts and slopes vary by group, on rows that a step takes some of."""

import pyro
import pyro.distributions as dist
import torch


def model(group, x, y, G):
    mean = pyro.sample("mean", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    spread = pyro.sample("spread", dist.HalfNormal(torch.ones(2)).to_event(1))
    sigma = pyro.sample("sigma", dist.HalfNormal(1.0))
    with pyro.plate("groups", G):
        beta = pyro.sample("beta", dist.Normal(mean, spread).to_event(1))
    with pyro.plate("data", len(y), subsample_size=20) as rows:
        own = beta[group[rows]]
        pyro.sample("y", dist.Normal(own[:, 0] + own[:, 1] * x[rows], sigma), obs=y[rows])
