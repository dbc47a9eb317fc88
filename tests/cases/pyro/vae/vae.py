"""A variational autoencoder's decoder: pictures from codes, through a net that is learned."""

import pyro
import pyro.distributions as dist
import torch
from torch import nn

torch.manual_seed(0)
decoder = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 6))


def model(x):
    pyro.module("decoder", decoder)
    with pyro.plate("images", len(x), subsample_size=10) as rows:
        z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
        pyro.sample("pixels", dist.Bernoulli(logits=decoder(z)).to_event(1), obs=x[rows])
