"""Mixed effects: successes by subject and item, whose effects cross."""

import pyro
import pyro.distributions as dist
import torch


def model(subject, item, treated, success):
    base = pyro.sample("base", dist.Normal(0.0, 1.5))
    effect = pyro.sample("effect", dist.Normal(0.0, 1.0))
    sd = pyro.sample("sd", dist.Exponential(torch.ones(2)).to_event(1))
    with pyro.plate("subjects", 12):
        ability = pyro.sample("ability", dist.Normal(0.0, sd[0]))
    with pyro.plate("items", 5):
        ease = pyro.sample("ease", dist.Normal(0.0, sd[1]))
    with pyro.plate("trials", len(success)):
        score = base + effect * treated + ability[subject] + ease[item]
        pyro.sample("success", dist.Bernoulli(logits=score), obs=success)
