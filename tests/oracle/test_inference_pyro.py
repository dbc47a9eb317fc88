"""Optimisers and losses where they are stricter than Pyro's, or differ: both behaviours, side by side."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import pyro
import pyro.distributions as pyro_dist
import pytest
import torch
from pyro.infer import RenyiELBO
from pyro.optim import Adam, ExponentialLR, PyroOptim
from torch import Tensor
from torch.optim import lr_scheduler

from guidedsl.runtime import Draw, Noise, ParamStore, get_param_store, optim
from guidedsl.runtime import distributions as dist
from guidedsl.runtime.importance import IWAE, Renyi


@pytest.fixture(autouse=True)
def _clean_pyro() -> Iterator[None]:
    pyro.clear_param_store()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
    pyro.clear_param_store()


def ours(optimiser: optim.Optimiser, store: ParamStore, *gradients: float) -> None:
    names, leaves = list(store.leaves()), list(store.leaves().values())
    optimiser.step(store, names, leaves, [torch.tensor(gradient) for gradient in gradients])


def test_clip_norm_is_of_all_parameters_together() -> None:
    """Pyro clips each parameter by itself, so the direction of the step changes."""
    leaves = [pyro.param(name, torch.tensor(0.0)) for name in "ab"]
    leaves[0].grad, leaves[1].grad = torch.tensor(3.0), torch.tensor(4.0)
    PyroOptim(torch.optim.SGD, {"lr": 1.0}, {"clip_norm": 1.0})(leaves)
    assert [leaf.item() for leaf in leaves] == pytest.approx([-1.0, -1.0], abs=1e-5)
    store = ParamStore()
    store.param("a", 0.0)
    store.param("b", 0.0)
    ours(optim.Torch(torch.optim.SGD, lr=1.0, clip_norm=1.0), store, 3.0, 4.0)
    assert [value.item() for value in store.values()] == pytest.approx([-0.6, -0.8])


def test_assignment_keeps_the_moments() -> None:
    """After an assignment Pyro starts a second optimiser at step 1, and keeps the first for ever."""
    leaf = pyro.param("a", torch.tensor(0.0))
    theirs = Adam({"lr": 0.1})
    leaf.grad = torch.tensor(1.0)
    theirs([leaf])
    pyro.get_param_store()["a"] = torch.tensor(0.0)
    leaf = pyro.param("a")
    leaf.grad = torch.tensor(1.0)
    theirs([leaf])
    assert [next(iter(o.state.values()))["step"].item() for o in theirs.optim_objs.values()] == [1.0, 1.0]
    store, adam = ParamStore(), optim.Adam(lr=0.1)
    store.param("a", 0.0)
    ours(adam, store, 1.0)
    store["a"] = 0.0
    ours(adam, store, 1.0)
    assert adam.get_state()["steps"] == {"a": 2}


def test_a_parameter_that_appears_later_joins_the_schedule() -> None:
    """In Pyro its own scheduler begins at the initial rate."""
    leaves = [pyro.param(name, torch.tensor(0.0)) for name in "ab"]
    theirs = ExponentialLR({"optimizer": torch.optim.SGD, "optim_args": {"lr": 1.0}, "gamma": 0.5})
    for leaf in leaves:
        leaf.grad = torch.tensor(1.0)
    theirs(leaves[:1])
    theirs.step()
    theirs(leaves)
    assert leaves[1].item() == -1.0
    store = ParamStore()
    schedule = optim.Scheduled(optim.Torch(torch.optim.SGD, lr=1.0), lr_scheduler.ExponentialLR, gamma=0.5)
    store.param("a", 0.0)
    ours(schedule, store, 1.0)
    schedule.advance()
    store.param("b", 0.0)
    ours(schedule, store, 1.0, 1.0)
    assert store["b"].item() == -0.5


# Importance weighted bounds


class Latents(NamedTuple):
    z: Tensor


def pyro_model() -> None:
    z = pyro.sample("z", pyro_dist.Bernoulli(0.3))
    pyro.sample("y", pyro_dist.Normal(2.0 * z, 1.0), obs=torch.tensor(1.2))


def pyro_guide() -> None:
    pyro.sample("z", pyro_dist.Bernoulli(logits=pyro.param("logit", torch.tensor(0.4))))


def model(data: Any, latents: Latents, *, store: ParamStore | None = None) -> Tensor:
    log_p = dist.Bernoulli.log_prob(latents.z, 0.3)
    return log_p + dist.Normal.log_prob(torch.tensor(1.2), 2.0 * latents.z, 1.0)


def guide(data: Any, *, particles: Any = (), store: ParamStore | None = None, noise: Any = None) -> Draw[Latents]:
    logit = get_param_store(store).param("logit", 0.4)
    z, log_q = dist.BernoulliLogits.draw(noise, particles, logit)
    return Draw(Latents(z), log_q, log_q)


class Given(Noise):
    """Hands out these Bernoulli draws."""

    def __init__(self, draws: Tensor) -> None:
        super().__init__()
        self.draws = draws

    def bernoulli(self, probs: Any, shape: Any = None) -> Tensor:
        return self.draws


def test_discrete_sites_have_a_gradient_under_importance_bounds() -> None:
    """The exact gradient, over all four pairs of draws, is 0.1157; Pyro's estimate is 0 at every draw."""
    theirs = RenyiELBO(alpha=0.0, num_particles=2)
    for _ in range(20):
        theirs.loss_and_grads(pyro_model, pyro_guide)
    leaf = pyro.get_param_store()["logit"].unconstrained()
    assert leaf.grad is None or leaf.grad.item() == 0.0

    store = ParamStore()
    exact, estimate = torch.zeros(()), 0.0
    for bits in itertools.product([0.0, 1.0], repeat=2):
        draws = torch.tensor(bits)
        found = IWAE(2)(model, guide, None, store, Given(draws))
        logit = store["logit"]
        probability = dist.BernoulliLogits.log_prob(draws, logit).sum().exp()
        estimate += float(probability.detach() * torch.autograd.grad(found.objective, logit)[0])
        log_w = model(None, Latents(draws)) - dist.BernoulliLogits.log_prob(draws, logit)
        exact = exact - probability * (torch.logsumexp(log_w, 0) - math.log(2.0))
    assert float(torch.autograd.grad(exact, logit)[0]) == pytest.approx(0.1157, abs=1e-4)
    assert estimate == pytest.approx(0.1157, abs=1e-4)


def test_a_batch_makes_the_bound_no_bound() -> None:
    """Pyro raises each row's weight to the power N/B: its loss on batches falls below −log evidence."""
    y = torch.tensor([1.0, -2.0, 3.0, 0.5])

    def rows(subsample: Tensor | None) -> tuple[Any, Any]:
        def batched_model() -> None:
            with pyro.plate("rows", 4, subsample=subsample) as index:
                u = pyro.sample("u", pyro_dist.Normal(0.0, 1.0))
                pyro.sample("y", pyro_dist.Normal(u, 0.5), obs=y[index])

        def batched_guide() -> None:
            with pyro.plate("rows", 4, subsample=subsample) as index:
                pyro.sample("u", pyro_dist.Normal(torch.zeros(4)[index], 1.0))

        return batched_model, batched_guide

    theirs = RenyiELBO(alpha=0.0, num_particles=20, vectorize_particles=True, max_plate_nesting=1)

    def mean(subsample: Tensor | None) -> float:
        return sum(theirs.loss(*rows(subsample)) for _ in range(200)) / 200

    evidence = float(torch.distributions.Normal(0.0, math.sqrt(1.25)).log_prob(y).sum())
    batches = [mean(torch.tensor(pair)) for pair in itertools.combinations(range(4), 2)]
    assert mean(None) > -evidence
    assert sum(batches) / len(batches) < -evidence - 0.5


def test_orders_of_renyi() -> None:
    with pytest.raises(ValueError, match="alpha"):
        RenyiELBO(alpha=1)
    with pytest.raises(Exception, match="alpha=1"):
        Renyi(1, 2)
