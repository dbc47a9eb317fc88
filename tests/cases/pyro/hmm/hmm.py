"""A hidden Markov model: a state for each step, and a number that depends on it."""

import pyro
import pyro.distributions as dist
import torch
from pyro.ops.indexing import Vindex


def model(sequence):
    move = pyro.sample("move", dist.Dirichlet(torch.eye(3) * 4 + 1).to_event(1))
    level = pyro.sample("level", dist.Normal(torch.tensor([-2.0, 0.0, 2.0]), 1.0).to_event(1))
    noise = pyro.sample("noise", dist.LogNormal(-0.5, 0.5))
    state = 0
    for t in pyro.markov(range(len(sequence))):
        state = pyro.sample(f"state_{t}", dist.Categorical(Vindex(move)[..., state, :]))
        pyro.sample(f"seen_{t}", dist.Normal(Vindex(level)[..., state], noise), obs=sequence[t])
