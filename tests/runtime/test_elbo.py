"""The ELBO and its gradients: against Pyro on the same noise, closed forms, and full batches."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import pyro
import pyro.distributions as pyro_dist
import pytest
import torch
from pyro.infer import Trace_ELBO
from runtime.handwritten import eight_schools_guide as schools
from runtime.handwritten import subsampled_guide as effects
from torch import Tensor
from torch.distributions import constraints as torch_constraints

from guidedsl.runtime import Draw, Noise, ParamStore, get_param_store
from guidedsl.runtime import distributions as dist
from guidedsl.runtime.elbo import ELBO
from guidedsl.runtime.errors import InferenceError
from guidedsl.runtime.noise import RecordedNoise

Y = [28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0]
SIGMA = [15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0]


def schools_data() -> Any:
    return schools.EightSchools.data(y=Y, sigma=SIGMA)


def spread(store: ParamStore, seed: int = 5) -> None:
    """Moves every leaf off its initial value, so that no gradient is special."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, leaf in store.named_parameters():
            leaf += 0.3 * torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype)


def pyro_model(y: Tensor, sigma: Tensor) -> None:
    zero = torch.zeros((), dtype=torch.float64)
    mu = pyro.sample("mu", pyro_dist.Normal(zero, 5.0))
    tau = pyro.sample("tau", pyro_dist.HalfCauchy(zero + 5.0))
    with pyro.plate("schools", 8):
        z = pyro.sample("z", pyro_dist.Normal(zero, 1.0))
        pyro.sample("y", pyro_dist.Normal(mu + tau * z, sigma), obs=y)


def pyro_guide(y: Tensor, sigma: Tensor, values: dict[str, Tensor]) -> None:
    def param(name: str) -> Tensor:
        constraint = torch_constraints.positive if name.endswith("scale") else torch_constraints.real
        return pyro.param(name, values[f"MeanField.{name}"].detach().clone(), constraint=constraint)

    pyro.sample("mu", pyro_dist.Normal(param("mu_loc"), param("mu_scale")))
    pyro.sample("tau", pyro_dist.LogNormal(param("tau_loc"), param("tau_scale")))
    with pyro.plate("schools", 8):
        pyro.sample("z", pyro_dist.Normal(param("z_loc"), param("z_scale")))


def test_loss_and_gradient_equal_pyros_on_the_same_noise() -> None:
    data, store = schools_data(), ParamStore()
    schools.mean_field(data, store=store)
    spread(store)
    generator = torch.Generator().manual_seed(11)
    loss = ELBO()(schools.EightSchools, schools.MeanField, data, store, data.noise(generator))
    gradients = dict(zip(store, torch.autograd.grad(loss.objective, list(store.trainable().values())), strict=True))

    pyro.clear_param_store()
    values = dict(store.items())
    with torch.random.fork_rng():
        torch.manual_seed(11)
        theirs = Trace_ELBO().differentiable_loss(
            lambda: pyro_model(data.y, data.sigma), lambda: pyro_guide(data.y, data.sigma, values)
        )
    torch.testing.assert_close(loss.value, theirs, rtol=1e-10, atol=1e-10)
    theirs.backward()
    for name, leaf in pyro.get_param_store().named_parameters():
        torch.testing.assert_close(gradients[f"MeanField.{name}"], leaf.grad, rtol=1e-9, atol=1e-10)
    pyro.clear_param_store()


def test_particles_are_a_mean_of_single_particles() -> None:
    data, store = schools_data(), ParamStore()
    schools.mean_field(data, store=store)
    noise = RecordedNoise(torch.Generator().manual_seed(2), data.dtype)
    many = ELBO(num_particles=7)(schools.EightSchools, schools.MeanField, data, store, noise).value
    single = []
    for particle in range(7):
        one = RecordedNoise(None, data.dtype)
        schools.mean_field(data, store=store, noise=one)
        replayed = one.replay([normal[particle] for normal in noise.normals])
        single.append(ELBO()(schools.EightSchools, schools.MeanField, data, store, replayed).value)
    torch.testing.assert_close(many, torch.stack(single).mean())


def conjugate_elbo(loc: Tensor, scale: Tensor, y: Tensor) -> Tensor:
    """ELBO of N(loc, scale) for mu ~ N(0, 1), y ~ N(mu, 1)."""
    expected = -0.5 * (loc**2 + scale**2) - 0.5 * ((y - loc) ** 2 + scale**2).sum()
    return expected - 0.5 * (1 + len(y)) * math.log(2 * math.pi) + scale.log() + 0.5 * math.log(2 * math.pi * math.e)


class Scalar(NamedTuple):
    mu: Tensor


class PlainData(NamedTuple):
    """Enough of a `Data` for plain functions."""

    y: Tensor
    dtype: torch.dtype = torch.float64
    device: torch.device = torch.device("cpu")

    def noise(self, generator: torch.Generator | None = None) -> Noise:
        return Noise(generator, self.dtype, self.device)

    def subsample(self, noise: Noise) -> PlainData:
        return self


def normal_model(data: PlainData, latents: Scalar, *, store: ParamStore | None = None) -> Tensor:
    log_p = dist.Normal.log_prob(latents.mu, 0.0, 1.0)
    return log_p + dist.Normal.log_prob(data.y, latents.mu[..., None], 1.0).sum(-1)


def normal_guide(
    data: PlainData, *, particles: tuple[int, ...] = (), store: ParamStore | None = None, noise: Noise | None = None
) -> Draw[Scalar]:
    param = get_param_store(store).param
    loc = param("loc", torch.tensor(0.3, dtype=torch.float64))
    log_scale = param("log_scale", torch.tensor(-0.4, dtype=torch.float64))
    mu, log_q = dist.Normal.draw(noise or data.noise(), particles, loc, log_scale.exp())
    return Draw(Scalar(mu), log_q)


def score_guide(
    data: PlainData, *, particles: tuple[int, ...] = (), store: ParamStore | None = None, noise: Noise | None = None
) -> Draw[Scalar]:
    """The same distribution without a pathwise gradient."""
    draw = normal_guide(data, particles=particles, store=store, noise=noise)
    mu = draw.latents.mu.detach()
    param = get_param_store(store).param
    log_q = dist.Normal.log_prob(mu, param("loc"), param("log_scale").exp())
    return Draw(Scalar(mu), log_q, score=log_q)


@pytest.mark.parametrize("guide", [normal_guide, score_guide])
def test_conjugate_normal(guide: Any) -> None:
    """Value and gradient agree with the closed form, pathwise and by score function."""
    data, store = PlainData(torch.tensor([0.5, 1.5, -0.2], dtype=torch.float64)), ParamStore()
    guide(data, store=store)
    loc, log_scale = store.trainable().values()
    exact = conjugate_elbo(loc, log_scale.exp(), data.y)
    want = torch.autograd.grad(exact, [loc, log_scale])
    noise = data.noise(torch.Generator().manual_seed(0))
    loss = ELBO(num_particles=200_000)(normal_model, guide, data, store, noise)
    assert float(-loss.value.detach()) == pytest.approx(float(exact.detach()), abs=0.02)
    for got, expected in zip(torch.autograd.grad(loss.objective, [loc, log_scale]), want, strict=True):
        assert float(-got) == pytest.approx(float(expected), abs=0.05)


def test_leave_one_out_is_unbiased_and_less_noisy_than_none() -> None:
    data, store = PlainData(torch.tensor([0.5, 1.5, -0.2], dtype=torch.float64)), ParamStore()
    score_guide(data, store=store)
    leaves = list(store.trainable().values())
    generator = torch.Generator().manual_seed(0)

    def gradients(particles: int, repeats: int) -> Tensor:
        found = []
        for _ in range(repeats):
            loss = ELBO(num_particles=particles)(normal_model, score_guide, data, store, data.noise(generator))
            found.append(torch.stack(torch.autograd.grad(loss.objective, leaves)))
        return torch.stack(found)

    two, one = gradients(2, 3000), gradients(1, 3000)
    difference = two.mean(0) - one.mean(0)
    error = (two.var(0) / len(two) + one.var(0) / len(one)).sqrt()
    assert bool((difference.abs() < 4 * error).all())
    assert bool((two.var(0) < 0.5 * one.var(0)).all())


def test_subsampled_gradients_are_unbiased() -> None:
    n = 20
    generator = torch.Generator().manual_seed(1)
    y = torch.randn(n, generator=generator) + 2
    data, store = effects.Effects.data(y=y, s=torch.linspace(0.5, 2, n)), ParamStore()
    effects.mean_field(data, store=store)
    spread(store)
    leaves = list(store.trainable().values())
    loss = ELBO(num_particles=16)

    def gradient(batch: Any) -> tuple[Tensor, Tensor]:
        found = loss(effects.Effects, effects.MeanField, batch, store, batch.noise(generator))
        parts = torch.autograd.grad(found.objective, leaves)
        return found.value.detach(), torch.cat([part.reshape(-1) for part in parts])

    batches = [gradient(data.subsample(data.noise(generator))) for _ in range(1500)]
    whole = [gradient(data) for _ in range(300)]
    for part in (0, 1):
        some, all_rows = (torch.stack([found[part] for found in group]) for group in (batches, whole))
        error = (some.var(0) / len(some) + all_rows.var(0) / len(all_rows)).sqrt()
        assert bool(((some.mean(0) - all_rows.mean(0)).abs() < 4.5 * error + 1e-12).all())


def test_at_least_one_particle() -> None:
    with pytest.raises(InferenceError, match="at least one particle"):
        ELBO(num_particles=0)
