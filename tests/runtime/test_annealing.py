"""KL annealing: what is minimised, what is reported, and that a run goes on where it was left."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import guidedsl
from guidedsl.modules import load_source
from guidedsl.runtime import stochastic
from guidedsl.runtime.annealing import annealed
from guidedsl.runtime.elbo import ELBO
from guidedsl.runtime.errors import InferenceError
from guidedsl.runtime.fit_checkpoint import FitCheckpoint
from guidedsl.source import Source

PROGRAM = """
model M {
  dim N = 12
  latent m : real ~ Normal(0, 2)
  plate rows[N] subsample(5) {
    data seen : bool = 1
    latent   z : real[2] ~ Normal(m, 1)
    observed y : real[2] ~ Normal(z, 0.5) when seen
    observed c : count ~ Poisson(exp(m))
  }
  observed last : real ~ StudentT(4, m, 1)
}
guide G for M { auto mean_field for rest }
guide Score for M { auto mean_field for m plate rows { param a : real[2] = 0.1 z ~ Normal(a + m, 0.7) } }
model V {
  dim N
  net decoder(z: real) -> real = mlp(4)
  plate rows[N] minibatch(4) { latent z : real ~ Normal(0, 1) observed y : real ~ Normal(decoder(z), 0.3) }
}
guide A for V {
  net encoder(y: real) -> (loc: real, scale: positive) = mlp(4)
  plate rows { let (loc, scale) = encoder(y) z ~ Normal(loc, scale) }
}
model Mix {
  dim N
  plate rows[N] { latent c : index(2) ~ Categorical([0.3, 0.7]) observed y : real ~ Normal(c, 1) }
  latent m : real ~ Normal(0, 1)
}
guide Summed for Mix { auto enumerate for c auto mean_field for rest }
model Outside from "nowhere:density" { latent a : real }
guide O for Outside { auto mean_field for rest }
guide L for M2 { auto laplace for rest }
model M2 { latent a : real ~ Normal(0, 1) observed y : real ~ Normal(a, 1) }
"""
module: Any = load_source(Source("p.guide", PROGRAM), "annealing_guide")


def rows() -> Any:
    y = [[float(i), -float(i)] if i % 3 else [None, None] for i in range(12)]
    return module.M.data(y=y, seen=[int(i % 3 > 0) for i in range(12)], c=[i % 4 for i in range(12)], last=0.7)


def images(n: int = 16) -> Any:
    return module.V.data(y=torch.linspace(-1, 1, n), N=n)


def generator_of(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("particles", [1, 3])
@pytest.mark.parametrize("analytic", [False, True])
def test_the_weight_is_on_the_divergence_alone(particles: int, analytic: bool) -> None:
    """On a batch, masked, with an event, a site in no plate: against terms by hand. What is reported is the ELBO."""
    data, store = rows(), guidedsl.ParamStore()
    batch = data.subsample(data.noise(generator_of(1)))
    module.G(batch, store=store)
    plain = ELBO(particles, analytic_kl=analytic)
    weighted = ELBO(particles, analytic_kl=analytic, kl_weight=0.3)
    full = plain(module.M, module.G, batch, store, data.noise(generator_of(2)))
    found = weighted(module.M, module.G, batch, store, data.noise(generator_of(2)))
    assert torch.equal(found.value, full.value)
    draw = module.G(batch, particles=plain.particles, store=store, noise=data.noise(generator_of(2)))
    m, z = draw.latents
    normal, poisson = torch.distributions.Normal, torch.distributions.Poisson
    y = torch.where(batch.seen[:, None] > 0, batch.y, 0.0)
    seen = (normal(z, 0.5).log_prob(y) * batch.seen[:, None]).sum((-2, -1))
    counts = poisson(m.exp()[..., None]).log_prob(batch.c).sum(-1)
    likelihood = 12 / 5 * (seen + counts) + torch.distributions.StudentT(4.0, m, 1.0).log_prob(batch.last)
    torch.testing.assert_close(found.objective, 0.3 * full.value - 0.7 * likelihood.mean())


def test_full_weight_is_the_elbo_itself() -> None:
    data, store = rows(), guidedsl.ParamStore()
    found = ELBO(2, kl_weight=1.0)(module.M, module.G, data, store, data.noise(generator_of(2)))
    assert found.objective is found.value


def test_weights_rise_evenly() -> None:
    weights = [annealed(ELBO(), step, 4) for step in range(6)]
    assert [loss.kl_weight for loss in weights] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])  # type: ignore[attr-defined]
    assert annealed(ELBO(), 0, 0) == ELBO()


def svi_of(steps: int) -> guidedsl.SVI:
    return guidedsl.SVI(
        module.M, module.G, guidedsl.optim.Adam(lr=0.01), store=guidedsl.ParamStore(), seed=2, kl_annealing=steps
    )


def test_a_resumed_run_has_its_weights(tmp_path: Path) -> None:
    data, straight = rows(), svi_of(6)
    losses = [straight.step(data) for _ in range(9)]
    first = svi_of(6)
    assert [first.step(data) for _ in range(3)] == losses[:3]
    first.save(tmp_path / "run.safetensors")
    second = svi_of(6)
    second.load(tmp_path / "run.safetensors")
    assert [second.step(data) for _ in range(6)] == losses[3:]
    with pytest.raises(InferenceError, match="kl_annealing=6, this one has 0"):
        svi_of(0).load(tmp_path / "run.safetensors")
    plain = svi_of(0)
    assert plain.step(data) == losses[0]
    assert [plain.step(data) for _ in range(3)] != losses[1:4]


class Cut(BaseException):
    """Stands for a kill."""


@pytest.mark.parametrize("steps", [None, 400])
def test_a_fit_that_is_cut_off_while_it_is_annealed(
    steps: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"seed": 1, "steps": steps, "kl_annealing": 120, "dtype": torch.float64}
    straight = module.A.fit(images(), **options)
    path = tmp_path / "fit.checkpoint"
    offered = 0
    offer = FitCheckpoint.offer

    def cut(self: FitCheckpoint, state: Any) -> None:
        nonlocal offered
        offer(self, state)
        offered += 1
        if offered == 60:
            raise Cut

    with monkeypatch.context() as patched:
        patched.setattr(FitCheckpoint, "offer", cut)
        with pytest.raises(Cut):
            module.A.fit(images(), checkpoint=path, checkpoint_every=0.0, **options)
    with pytest.raises(InferenceError, match="kl_annealing is 120, not 0"):
        module.A.fit(images(), checkpoint=path, resume=True, **{**options, "kl_annealing": 0})
    resumed = module.A.fit(images(), checkpoint=path, resume=True, **options)
    assert resumed.steps == straight.steps
    assert (steps is None) or resumed.steps == steps
    assert resumed.elbo == straight.elbo
    for name, value in straight.store.items():
        assert torch.equal(value, resumed.store[name]), name


def test_no_window_is_judged_while_the_loss_is_annealed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a step count the schedule begins when annealing has ended."""
    seen: list[int] = []
    add = stochastic.Window.add

    def noted(self: Any, x: Tensor, loss: float) -> None:
        seen.append(1)
        add(self, x, loss)

    monkeypatch.setattr(stochastic.Window, "add", noted)
    fit = module.A.fit(images(), seed=1, kl_annealing=50, lr=0.01)
    assert fit.steps == len(seen) + 50
    assert math.isfinite(fit.elbo)


def test_annealed_fits_by_all_rows_become_stochastic() -> None:
    fit = module.G.fit(rows(), seed=1, steps=200, kl_annealing=100)
    assert fit.steps == 200


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: module.A.fit(images(), kl_annealing=-1), "kl_annealing=-1"),
        (lambda: module.A.fit(images(), kl_annealing=2.5), "kl_annealing=2.5"),
        (lambda: module.A.fit(images(), kl_annealing=True), "kl_annealing=True"),
        (lambda: module.A.fit(images(), steps=100, kl_annealing=90), "before the last quarter"),
        (lambda: module.O.fit(module.Outside.data(), kl_annealing=5), "not known apart"),
        (lambda: module.L.fit(module.M2.data(y=1.0), kl_annealing=5), "Laplace approximation"),
        (lambda: module.Summed.fit(module.Mix.data(y=[0.0, 1.0]), kl_annealing=5), "summed out"),
        (lambda: ELBO(kl_weight=1.5), "between 0 and 1"),
        (
            lambda: guidedsl.SVI(module.V, module.A, guidedsl.optim.Adam(), guidedsl.IWAE(2), kl_annealing=5),
            "IWAE has no KL divergence",
        ),
    ],
)
def test_what_cannot_be_annealed(call: Any, message: str) -> None:
    with pytest.raises(InferenceError, match=message):
        call()
