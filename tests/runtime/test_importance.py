"""IWAE, the Rényi bound and sticking the landing: against Pyro, brute force, finite differences and closed forms."""

from __future__ import annotations

import importlib.util
import itertools
import json
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pyro
import pytest
import torch
from pyro.infer import RenyiELBO
from runtime.handwritten import eight_schools_guide as schools
from runtime.handwritten import subsampled_guide as effects
from runtime.test_elbo import PlainData, pyro_guide, pyro_model, schools_data, spread
from torch import Tensor

from guidedsl.runtime import Draw, Guide, Noise, ParamStore, get_param_store, importance, optim
from guidedsl.runtime import distributions as dist
from guidedsl.runtime.elbo import ELBO, Loss, Objective, gradients_of
from guidedsl.runtime.errors import InferenceError
from guidedsl.runtime.importance import IWAE, Renyi
from guidedsl.runtime.noise import RecordedNoise
from guidedsl.runtime.svi import SVI

PROGRAMS = Path(__file__).resolve().parent.parent / "cases" / "programs"


def at(loss: Objective, guide: Guide, data: Any, store: ParamStore, noise: Noise) -> Loss:
    return loss(guide.model, guide, data, store, noise)


def gradient(found: Loss, store: ParamStore) -> Tensor:
    leaves = list(store.trainable().values())
    parts = gradients_of(found.objective, leaves)
    return torch.cat(
        [
            (torch.zeros_like(leaf) if part is None else part).reshape(-1)
            for leaf, part in zip(leaves, parts, strict=True)
        ]
    )


def ready(guide: Guide, data: Any) -> ParamStore:
    store = ParamStore()
    guide(data, store=store)
    spread(store)
    return store


@pytest.mark.parametrize("particles", [2, 5])
@pytest.mark.parametrize("alpha", [0.0, 0.5, -0.5, 2.0])
def test_loss_and_gradient_equal_pyros_on_the_same_noise(alpha: float, particles: int) -> None:
    data = schools_data()
    store = ready(schools.MeanField, data)
    loss: Objective = Renyi(alpha, particles) if alpha else IWAE(particles)
    found = at(loss, schools.MeanField, data, store, data.noise(torch.Generator().manual_seed(11)))
    gradients = dict(zip(store, gradients_of(found.objective, list(store.trainable().values())), strict=True))

    pyro.clear_param_store()
    theirs = RenyiELBO(alpha=alpha, num_particles=particles, vectorize_particles=True, max_plate_nesting=1)
    values = dict(store.items())
    with torch.random.fork_rng():
        torch.manual_seed(11)
        value = theirs.loss_and_grads(
            lambda: pyro_model(data.y, data.sigma), lambda: pyro_guide(data.y, data.sigma, values)
        )
    assert found.value.item() == pytest.approx(value, rel=1e-10)
    for name, leaf in pyro.get_param_store().named_parameters():
        torch.testing.assert_close(gradients[f"MeanField.{name}"], leaf.grad, rtol=1e-9, atol=1e-10)
    pyro.clear_param_store()


LOSSES = [ELBO(), ELBO(3), ELBO(3, stl=True), IWAE(1), IWAE(4), Renyi(0.5, 4), Renyi(2.0, 3)]


@pytest.mark.parametrize("guide", [schools.MeanField, schools.FullRank], ids=lambda guide: guide.name)
@pytest.mark.parametrize("loss", [loss for loss in LOSSES if not getattr(loss, "stl", False)], ids=str)
def test_gradients_are_those_of_finite_differences(loss: Objective, guide: Guide) -> None:
    data = schools_data()
    store = ready(guide, data)
    noise = RecordedNoise(torch.Generator().manual_seed(2), data.dtype)
    found = gradient(at(loss, guide, data, store, noise), store)
    numbers = [(leaf, index) for leaf in store.trainable().values() for index in range(leaf.numel())]
    for position, (leaf, index) in enumerate(numbers[:20]):
        sides = []
        for step in (1e-6, -1e-6):
            with torch.no_grad():
                leaf.view(-1)[index] += step
                sides.append(at(loss, guide, data, store, noise.replay()).value.item())
                leaf.view(-1)[index] -= step
        # Central differences in float64: an error of 1e-12 from the step, 1e-9 from the rounding of losses near 50.
        assert (sides[0] - sides[1]) / 2e-6 == pytest.approx(float(found[position]), rel=1e-6, abs=1e-7)


def test_one_particle_is_the_elbo() -> None:
    data = schools_data()
    store = ready(schools.MeanField, data)
    results = []
    for loss in (ELBO(), IWAE(1), Renyi(0.5, 1)):
        found = at(loss, schools.MeanField, data, store, data.noise(torch.Generator().manual_seed(3)))
        results.append((found.value, gradient(found, store)))
    for value, gradients in results[1:]:
        torch.testing.assert_close(value, results[0][0])
        torch.testing.assert_close(gradients, results[0][1])


def test_the_bounds_are_in_order() -> None:
    """On the same draws the bound falls with alpha, from IWAE to beneath the ELBO."""
    data = schools_data()
    store = ready(schools.MeanField, data)
    bounds = [
        -at(loss, schools.MeanField, data, store, data.noise(torch.Generator().manual_seed(3))).value.item()
        for loss in (Renyi(-1.0, 8), IWAE(8), Renyi(0.5, 8), ELBO(8), Renyi(2.0, 8))
    ]
    assert bounds == sorted(bounds, reverse=True)


def test_more_particles_come_nearer_to_the_evidence() -> None:
    """mu ~ N(0, 1), y ~ N(mu, 1): the evidence of y is N(0, I + 11ᵀ)."""
    y = torch.tensor([0.5, 1.5, -0.2], dtype=torch.float64)
    data, store = PlainData(y), ParamStore()
    evidence = torch.distributions.MultivariateNormal(torch.zeros_like(y), torch.eye(3).to(y) + 1).log_prob(y)
    noise = data.noise(torch.Generator().manual_seed(0))
    bounds = []
    for particles in (1, 10, 100):
        found = [IWAE(particles)(normal_model, wide_guide, data, store, noise).value.item() for _ in range(400)]
        bounds.append(-sum(found) / 400)
    assert bounds[0] < bounds[1] < bounds[2] < float(evidence) + 0.02
    assert bounds[2] == pytest.approx(float(evidence), abs=0.05)


class Scalar(NamedTuple):
    mu: Tensor


def normal_model(data: Any, latents: Any, *, store: ParamStore | None = None) -> Tensor:
    log_p = dist.Normal.log_prob(latents.mu, 0.0, 1.0)
    return log_p + dist.Normal.log_prob(data.y, latents.mu[..., None], 1.0).sum(-1)


def wide_guide(
    data: Any, *, particles: tuple[int, ...] = (), store: ParamStore | None = None, noise: Noise | None = None
) -> Draw[Scalar]:
    mu, log_q = dist.Normal.draw(noise or data.noise(), particles, torch.zeros((), dtype=torch.float64), 2.0)
    return Draw(Scalar(mu), log_q)


# Sites without a pathwise gradient


class Mixed(NamedTuple):
    z: Tensor
    x: Tensor


def mixed_model(data: Any, latents: Mixed, *, store: ParamStore | None = None) -> Tensor:
    z, x = latents
    log_p = dist.Bernoulli.log_prob(z, 0.3) + dist.Normal.log_prob(x, 2.0 * z, 1.0)
    return log_p + dist.Normal.log_prob(torch.tensor(1.2, dtype=torch.float64), x + z, 0.7)


class FixedBernoulli(Noise):
    """Bernoulli draws from a list, everything else at random."""

    def __init__(self, draws: Tensor, seed: int) -> None:
        super().__init__(torch.Generator().manual_seed(seed), torch.float64)
        self.draws = draws

    def bernoulli(self, probs: Any, shape: Any = None) -> Tensor:
        return self.draws


def mixed_guide(
    data: Any, *, particles: tuple[int, ...] = (), store: ParamStore | None = None, noise: Any = None
) -> Draw[Mixed]:
    param = get_param_store(store).param
    logit = param("logit", torch.tensor(0.4, dtype=torch.float64))
    shift = param("shift", torch.tensor([0.1, 1.3], dtype=torch.float64))
    log_scale = param("log_scale", torch.tensor(-0.2, dtype=torch.float64))
    z, log_q_z = dist.Bernoulli.draw(noise, particles, logit.sigmoid())
    x, log_q_x = dist.Normal.draw(noise, particles, shift[0] + (shift[1] - shift[0]) * z, log_scale.exp())
    return Draw(Mixed(z, x), log_q_z + log_q_x, log_q_z)


@pytest.mark.parametrize(
    "loss",
    [ELBO(), ELBO(2), ELBO(2, stl=True), IWAE(1), IWAE(2), IWAE(3), Renyi(0.5, 3), Renyi(-1.0, 2), Renyi(3.0, 2)],
    ids=str,
)
def test_score_function_gradients_are_unbiased(loss: Any) -> None:
    """Over all values of the discrete draws, weighted by their probability, at one fixed noise of the others.

    The exact gradient is that of the loss averaged over the discrete draws. With `stl` what is dropped has mean zero
    over the continuous noise too, so it is left out of the comparison there.
    """
    count, store = loss.num_particles, ParamStore()
    data = PlainData(torch.zeros(1, dtype=torch.float64))
    mixed_guide(data, store=store, noise=FixedBernoulli(torch.zeros((), dtype=torch.float64), 0))
    leaves = list(store.trainable().values())
    exact, estimated = torch.zeros(()), torch.zeros(4, dtype=torch.float64)
    shape = () if isinstance(loss, ELBO) and count == 1 else (count,)
    for bits in itertools.product([0.0, 1.0], repeat=count):
        draws = torch.tensor(bits, dtype=torch.float64).reshape(shape)
        found = loss(mixed_model, mixed_guide, data, store, FixedBernoulli(draws, 5))
        probability = dist.Bernoulli.log_prob(draws, store["logit"].sigmoid()).sum().exp()
        plain = ELBO(count) if isinstance(loss, ELBO) else loss
        exact = exact + probability * plain(mixed_model, mixed_guide, data, store, FixedBernoulli(draws, 5)).value
        estimated = estimated + probability.detach() * gradient(found, store)
    want = torch.cat([part.reshape(-1) for part in torch.autograd.grad(exact, leaves)])
    compared = slice(0, 1) if getattr(loss, "stl", False) else slice(None)
    torch.testing.assert_close(estimated[compared], want[compared], rtol=1e-9, atol=1e-10)


def test_the_control_variate_lowers_the_variance() -> None:
    data, store = PlainData(torch.zeros(1, dtype=torch.float64)), ParamStore()
    noise = data.noise(torch.Generator().manual_seed(0))
    mixed_guide(data, store=store, noise=noise)

    def variance(bare: bool) -> float:
        found = []
        for _ in range(600):
            result = IWAE(4)(mixed_model, mixed_guide, data, store, noise)
            if bare:
                draw = mixed_guide(data, particles=(4,), store=store, noise=noise)
                powers = mixed_model(data, draw.latents) - draw.log_q
                value = -importance._log_mean(powers)
                assert draw.score is not None
                result = Loss(value + (value.detach() * draw.score).sum(), value)
            found.append(gradient(result, store)[0])
        return float(torch.stack(found).var())

    assert variance(bare=False) < 0.5 * variance(bare=True)


def test_particles_of_weight_zero() -> None:
    """A draw that the model rules out has weight 0: the bound and its gradient stay finite."""
    powers = torch.tensor([0.3, -math.inf, 1.0])
    assert bool(importance._without_each(powers).isfinite().any())
    assert not bool(importance._without_each(powers).isnan().any())


# Rows


class Rows(Noise):
    """The same normals for each row, whichever rows a step sees: `rows` of them, or all."""

    def __init__(self, normals: list[Tensor], size: int, rows: tuple[int, ...] | None) -> None:
        super().__init__(None, torch.float64)
        self.waiting, self.size, self.rows = iter(normals), size, rows

    def permutation(self, size: int) -> Tensor:
        assert self.rows is not None
        assert size == self.size
        return torch.tensor([*self.rows, *(row for row in range(size) if row not in self.rows)])

    def normal(self, shape: Any) -> Tensor:
        full = next(self.waiting)
        if self.rows is not None and full.shape[:1] == (self.size,):
            full = full[list(self.rows)]
        assert tuple(shape) == tuple(full.shape)
        return full


def program(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"importance_{name}", PROGRAMS / name / "expected.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded
    spec.loader.exec_module(loaded)
    return loaded


def subsampled(case: str) -> tuple[Guide, Any, int, int]:
    """A guide with a subsampled plate, its data, the plate's size and the rows that a step sees."""
    if case == "Effects":
        y = torch.randn(7, generator=torch.Generator().manual_seed(1)) + 2
        return effects.MeanField, effects.Effects.data(y=y, s=torch.linspace(0.5, 2, 7)), 7, 5
    module = program("subsample")
    data = module.Users.data(json.loads((PROGRAMS / "subsample" / "data.json").read_text()))
    return getattr(module, case), data, data.N, 3


@pytest.mark.parametrize("case", ["Effects", "Joint", "LowRank", "Hand", "MeanField"])
def test_gradients_over_all_batches_average_to_that_of_all_rows(case: str) -> None:
    guide, data, size, count = subsampled(case)
    store = ready(guide, data)
    recorded = RecordedNoise(torch.Generator().manual_seed(4), data.dtype)
    guide(data, store=store, noise=recorded)
    normals = recorded.normals

    def found(rows: tuple[int, ...] | None) -> tuple[Tensor, Tensor]:
        noise = Rows(normals, size, rows)
        batch = data if rows is None else data.subsample(noise)
        loss = at(ELBO(), guide, batch, store, noise)
        return loss.value.detach(), gradient(loss, store)

    batches = [found(rows) for rows in itertools.combinations(range(size), count)]
    assert len(batches) == math.comb(size, count) > 1
    for part, whole in enumerate(found(None)):
        torch.testing.assert_close(torch.stack([batch[part] for batch in batches]).mean(0), whole, rtol=1e-9, atol=1e-9)


def test_a_batch_is_refused_for_its_bound_is_biased(monkeypatch: pytest.MonkeyPatch) -> None:
    guide, data, size, count = subsampled("Effects")
    store = ready(guide, data)
    noise = data.noise(torch.Generator().manual_seed(0))
    for loss in (IWAE(8), Renyi(0.5, 8)):
        with pytest.raises(InferenceError, match=r"5 of the 7 rows of plate 'rows'.*Use the ELBO, or all rows"):
            at(loss, guide, data.subsample(noise), store, noise)

    monkeypatch.setattr(importance, "_check_rows", lambda *_: None)
    recorded = RecordedNoise(torch.Generator().manual_seed(4), data.dtype)
    guide(data, particles=(8,), store=store, noise=recorded)

    class Batches(Rows):
        def normal(self, shape: Any) -> Tensor:
            full = next(self.waiting)
            return full if full.ndim == 1 or self.rows is None else full[:, list(self.rows)]

    def value(rows: tuple[int, ...] | None) -> float:
        noise = Batches(recorded.normals, size, rows)
        return at(IWAE(8), guide, data if rows is None else data.subsample(noise), store, noise).value.item()

    batches = [value(rows) for rows in itertools.combinations(range(size), count)]
    assert sum(batches) / len(batches) < value(None) - 0.3  # the loss is too low: the bound is above that of all rows


def test_all_rows_of_a_subsampled_program() -> None:
    guide, data, _, _ = subsampled("Effects")
    run = SVI(guide.model, guide, optim.Adam(lr=0.05), loss=IWAE(4), store=ParamStore(), seed=0)
    with pytest.raises(InferenceError, match="all_rows"):
        run.step(data)
    losses = [run.step(data.all_rows()) for _ in range(200)]
    assert sum(losses[-20:]) < sum(losses[:20])
    noise = data.noise()
    batch = data.subsample(noise)
    assert batch.all_rows().rows.length == data.all_rows().subsample(noise).rows.length == 7
    assert data.subsample(noise).rows.length == 5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: IWAE(0), "IWAE.*at least one particle"),
        (lambda: Renyi(0.5, 0), "Renyi.*at least one particle"),
        (lambda: Renyi(1.0, 3), "at 1 it is the ELBO"),
        (lambda: Renyi(math.nan, 3), "alpha=nan"),
    ],
)
def test_impossible_bounds(make: Any, message: str) -> None:
    with pytest.raises(InferenceError, match=message):
        make()


# Sticking the landing


class Pair(NamedTuple):
    mu: Tensor
    u: Tensor


def pair_model(data: Any, latents: Pair, *, store: ParamStore | None = None) -> Tensor:
    mu, u = latents
    log_p = dist.Normal.log_prob(mu, 0.0, 1.0) + dist.Normal.log_prob(u, mu, 1.0)
    return log_p + dist.Normal.log_prob(data.y, u, 1.0)


def pair_guide(
    data: Any, *, particles: tuple[int, ...] = (), store: ParamStore | None = None, noise: Any = None
) -> Draw[Pair]:
    """u depends on mu, so that only the parameters may be held, not what follows from earlier draws."""

    def param(name: str, value: float) -> Tensor:
        return get_param_store(store).param(name, torch.tensor(value, dtype=torch.float64))

    mu, log_q_mu = dist.Normal.draw(noise, particles, param("m", 0.2), param("log_s", -0.3).exp())
    loc = param("a", 0.1) + param("b", 0.4) * mu
    u, log_q_u = dist.Normal.draw(noise, particles, loc, param("log_c", 0.2).exp())
    return Draw(Pair(mu, u), log_q_mu + log_q_u)


def test_at_the_posterior_every_single_gradient_is_zero() -> None:
    """mu ~ N(0, 1), u ~ N(mu, 1), y ~ N(u, 1): u | mu, y ~ N((mu + y)/2, 1/2) and mu | y ~ N(y/3, 2/3)."""
    data, store = PlainData(torch.tensor(0.9, dtype=torch.float64)), ParamStore()
    noise = data.noise(torch.Generator().manual_seed(0))
    pair_guide(data, store=store, noise=noise)
    exact = {"m": 0.3, "log_s": 0.5 * math.log(2 / 3), "a": 0.45, "b": 0.5, "log_c": 0.5 * math.log(0.5)}
    for name, value in exact.items():
        store[name] = value
    for particles in (1, 7):
        stuck = ELBO(particles, stl=True)(pair_model, pair_guide, data, store, noise)
        plain = ELBO(particles)(pair_model, pair_guide, data, store, noise)
        assert float(gradient(stuck, store).abs().max()) < 1e-12
        assert float(gradient(plain, store).abs().max()) > 0.01


def test_the_gradient_is_unbiased() -> None:
    data, store = PlainData(torch.tensor(0.9, dtype=torch.float64)), ParamStore()
    noise = data.noise(torch.Generator().manual_seed(0))
    pair_guide(data, store=store, noise=noise)
    found = {}
    for stl in (False, True):
        loss = ELBO(8, stl=stl)
        draws = [gradient(loss(pair_model, pair_guide, data, store, noise), store) for _ in range(1000)]
        found[stl] = torch.stack(draws)
    error = sum(draws.var(0) / len(draws) for draws in found.values()) ** 0.5
    assert bool(((found[False].mean(0) - found[True].mean(0)).abs() < 4 * error).all())


NOT_SCORED = ("flows", "mixed_autos", "mixtures")
"""Programs with draws that no family makes in one piece, which sticking the landing refuses."""


@pytest.mark.parametrize("name", sorted(NOT_SCORED))
def test_draws_that_cannot_be_scored_again_are_refused(name: str) -> None:
    module = program(name)
    guides = [value for value in vars(module).values() if isinstance(value, Guide)]
    fields = json.loads((PROGRAMS / name / "data.json").read_text())
    refused = 0
    for guide in guides:
        data = guide.model.data(fields, dtype=torch.float64)
        try:
            at(ELBO(3, stl=True), guide, data, ParamStore(), data.noise(torch.Generator().manual_seed(1)))
        except InferenceError as error:
            refused += "use stl=False" in str(error)
    assert refused


OF_OTHERS = ("interface", "interface_summed", "nets_passed")
"""Programs with a density or a net that the caller brings."""
SCORED = sorted({path.parent.name for path in PROGRAMS.glob("*/data.json")} - {*NOT_SCORED, *OF_OTHERS})


@pytest.mark.parametrize("name", SCORED)
def test_the_loss_is_that_of_the_elbo_for_every_program(name: str) -> None:
    """Families score their own draws: on the same noise the value is the ELBO's, and gradients are finite."""
    module = program(name)
    guides = [value for value in vars(module).values() if isinstance(value, Guide)]
    fields = json.loads((PROGRAMS / name / "data.json").read_text())
    for guide in guides:
        data, store = guide.model.data(fields, dtype=torch.float64), ParamStore()
        noise = RecordedNoise(torch.Generator().manual_seed(1), data.dtype)
        first = data.noise(torch.Generator().manual_seed(2))
        batch = data.subsample(first)
        plain = at(ELBO(3), guide, batch, store, noise)
        stuck = at(ELBO(3, stl=True), guide, batch, store, noise.replay())
        torch.testing.assert_close(stuck.value, plain.value, rtol=1e-6, atol=1e-8)
        if store.trainable():
            assert bool(gradient(stuck, store).isfinite().all())
        assert all(leaf.requires_grad for leaf in store.trainable().values())


def test_frozen_parameters_stay_frozen() -> None:
    data, store = PlainData(torch.tensor(0.9, dtype=torch.float64)), ParamStore()
    store.param("m", torch.tensor(0.2, dtype=torch.float64), frozen=True)
    noise = data.noise(torch.Generator().manual_seed(0))
    ELBO(stl=True)(pair_model, frozen_guide, data, store, noise)
    assert not store["m"].requires_grad
    assert store["s"].requires_grad


def frozen_guide(
    data: Any, *, particles: tuple[int, ...] = (), store: ParamStore | None = None, noise: Any = None
) -> Draw[Pair]:
    param = get_param_store(store).param
    mu, log_q = dist.Normal.draw(noise, particles, param("m", frozen=True), param("s", lambda: 1.0))
    return Draw(Pair(mu, mu), log_q)


def test_draws_that_no_family_made() -> None:
    def guide(data: Any, *, particles: Any = (), store: Any = None, noise: Any = None) -> Draw[Scalar]:
        eps = noise.normal(particles)
        return Draw(Scalar(eps), -0.5 * eps.square())

    data = PlainData(torch.zeros(1, dtype=torch.float64))
    with pytest.raises(InferenceError, match=r"noise\.normal.*stl=False"):
        ELBO(stl=True)(normal_model, guide, data, ParamStore(), data.noise())
