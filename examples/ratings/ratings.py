"""How people rate: a score for what a user sees, made of the user's own weights. It was there before guidedsl."""

import pyro
import pyro.distributions as dist
import torch


def model(x, y):
    """`x` [user, T, K]: what each user rated, by its K features; `y` [user, T]: the ratings."""
    K = x.shape[-1]
    mu = pyro.sample("mu", dist.Normal(torch.zeros(K), 1.0).to_event(1))
    tau = pyro.sample("tau", dist.HalfNormal(torch.ones(K)).to_event(1))
    with pyro.plate("user", len(y), subsample_size=32) as rows:
        u = pyro.sample("u", dist.Normal(mu, tau).to_event(1))
        score = (x[rows] * u.unsqueeze(-2)).sum(-1)
        pyro.sample("y", dist.Normal(score, 0.5).to_event(1), obs=y[rows])
