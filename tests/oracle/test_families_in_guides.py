"""The gradient of the whole ELBO for every family that can stand in a guide: by finite differences, and Pyro's.

A program for each form in the registry: one latent, drawn from the family at params of its arguments' types, with the
same family at other numbers as prior, and an observation that reads it.
"""

from __future__ import annotations

import json
import math
import zlib
from typing import Any

import pytest
import torch
from oracle.test_distributions import SIMPLE, oracle
from torch import Tensor

import guidedsl
from guidedsl.library.distributions import Distribution, Form
from guidedsl.modules import load_source
from guidedsl.runtime import ParamStore
from guidedsl.runtime.noise import RecordedNoise
from guidedsl.source import Source

K, R = 3, 2
INITS = {
    "real": "0.3",
    "positive": "1.4",
    "unit": "0.4",
    "real[K]": "[0.2, -0.4, 0.7]",
    "positive[K]": "[1.2, 0.8, 1.7]",
    "simplex[K]": "[0.2, 0.5, 0.3]",
    "zero_sum[K]": "[0.5, -0.2, -0.3]",
    "ordered[K]": "[-0.5, 0.2, 1.1]",
    "real[K, R]": "[[0.3, -0.2], [0.4, 0.1], [-0.6, 0.5]]",
    "lower_cholesky[K]": "[[1.1, 0, 0], [0.3, 0.8, 0], [-0.2, 0.4, 1.3]]",
    "unit_lower_cholesky[K]": "[[1, 0, 0], [0.3, 1, 0], [-0.2, 0.4, 1]]",
    "nonnegative": "0.4",
    "real[K - 1]": "[0.3, -0.2]",
    "positive[K - 1]": "[0.8, 1.3]",
    "cov[K]": "[[1.3, 0.2, 0.1], [0.2, 1.1, -0.3], [0.1, -0.3, 0.9]]",
}
NUMBERS = {"low": ("-1.5", "-2"), "high": ("1.5", "2")}
PRIORS = {"real": "0.1", "positive": "1.9", "unit": "0.6", "real[K]": "[0.1, 0, 0.2]", "positive[K]": "[1.5, 1, 2]"}
ORACLES_LACK = {"Point", "Uniform"}
"""A point has no density to compare; a uniform of a type's own ends has no params."""
FORMS = [
    pytest.param(row, form, id=form.runtime)
    for row in SIMPLE
    if not row.model_only and row.name not in ORACLES_LACK
    for form in row.forms
]
NOT_IN_A_GUIDE = {
    "Binomial", "BinomialLogits", "BetaBinomial", "NegativeBinomial", "NegativeBinomialLogits", "Multinomial",
    "MultinomialLogits", "Hypergeometric", "DirichletMultinomial", "DiscreteUniform", "BetaNegativeBinomial",
    "ZeroInflatedNegativeBinomial", "ZeroInflatedNegativeBinomialLogits", "Wishart", "WishartCovariance",
    "InverseWishart", "InverseWishartScale", "VonMisesFisher",
}  # fmt: skip
"""Those whose arguments are whole numbers, or more than their types say: a program of their own each."""


def latent_type(row: Distribution) -> str:
    support = row.support.replace("T]", "K]").replace("(low, high)", "(-1.5, 1.5)").replace("K - 1", "2")
    if "scale" in support:
        return "greater_than(1.4)"
    return support


def program(row: Distribution, form: Form) -> str:
    type = latent_type(row)
    params, arguments, prior = [], [], []
    for argument in form.arguments:
        of = argument.type.replace("K", "3").replace("R", "2")
        if argument.name in NUMBERS and row.support.startswith("interval(low"):
            arguments.append(NUMBERS[argument.name][0])
            prior.append(NUMBERS[argument.name][0])
        elif row.name == "Pareto" and argument.name == "scale":
            arguments.append("1.4")
            prior.append("1.4")
        else:
            params.append(f"param p_{argument.name} : {of} = {INITS[argument.type]}")
            arguments.append(f"p_{argument.name}")
            prior.append(PRIORS.get(argument.type, INITS[argument.type]))
    if form is not row.forms[0]:
        arguments = [f"{a.name} = {value}" for a, value in zip(form.arguments, arguments, strict=True)]
        prior = [f"{a.name} = {value}" for a, value in zip(form.arguments, prior, strict=True)]
    reads = "z" if "[" not in type else "sum(z)"
    return f"""
    model M {{
      dim K = 3
      latent z : {type.replace("K", "3")} ~ {row.name}({", ".join(prior)})
      observed y : real ~ Normal({reads}, 1.3)
    }}
    guide G for M {{
      {" ".join(params)}
      z ~ {row.name}({", ".join(arguments)})
    }}
    """


def setting(row: Distribution, form: Form) -> tuple[Any, Any, ParamStore]:
    module = load_source(Source("program.guide", program(row, form)), "families_guide")
    return module, module.M.data(y=0.7), ParamStore()


def record(module: Any, data: Any, store: ParamStore, seed: int) -> RecordedNoise:
    noise = RecordedNoise(torch.Generator().manual_seed(seed), torch.float64)
    module.G(data, particles=(5,), store=store, noise=noise)
    return noise


@pytest.mark.parametrize(("row", "form"), FORMS)
def test_gradient_by_finite_differences(row: Distribution, form: Form) -> None:
    """Of the loss at noise that is held, along every coordinate of every param. A gamma's noise moves with its
    concentration, which no replay shows: there the recorded draw is held, and Pyro has to do (below)."""
    if form.runtime in NOT_IN_A_GUIDE or not row.reparameterised:
        assert not row.reparameterised or form.runtime in NOT_IN_A_GUIDE
        return
    module, data, store = setting(row, form)
    noise = record(module, data, store, zlib.crc32(form.runtime.encode()))
    kinds = {item.kind for item in noise.records}
    if "gamma" in kinds:
        return
    loss = guidedsl.ELBO(num_particles=5)

    def value() -> Tensor:
        return loss(module.M, module.G, data, store, noise.replay()).value

    leaves = list(store.trainable().values())
    gradients = torch.autograd.grad(value(), leaves)
    for leaf, gradient in zip(leaves, gradients, strict=True):
        flat = leaf.detach().view(-1)
        for place in range(flat.numel()):
            kept = float(flat[place])
            ends = []
            for step in (1e-5, -1e-5):
                flat[place] = kept + step
                ends.append(float(value().detach()))
            flat[place] = kept
            numeric = (ends[0] - ends[1]) / 2e-5
            assert float(gradient.reshape(-1)[place]) == pytest.approx(numeric, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(("row", "form"), FORMS)
def test_loss_and_gradient_are_those_of_pyros_densities(row: Distribution, form: Form) -> None:
    """At the same draws, through which the gradient goes, with torch's and Pyro's densities in the place of ours."""
    if form.runtime in NOT_IN_A_GUIDE:
        return
    module, data, store = setting(row, form)
    generator = torch.Generator().manual_seed(7)
    draw = module.G(data, particles=(5,), store=store, noise=data.noise(generator))
    names = [f"G.p_{argument.name}" for argument in form.arguments]

    def number(argument: Any, texts: dict[str, str]) -> Tensor:
        text = NUMBERS[argument.name][0] if argument.name in NUMBERS else texts.get(argument.type, "1.4")
        return torch.tensor(json.loads(text), dtype=torch.float64)

    pairs = list(zip(form.arguments, names, strict=True))
    ours = [store[name] if name in store else number(a, {}) for a, name in pairs]
    prior = [number(a, INITS | PRIORS if name in store else {}) for a, name in pairs]
    z = draw.latents.z
    total = z.reshape(5, -1).sum(-1).to(torch.float64)
    log_q = oracle(form, ours).log_prob(z)
    log_p = oracle(form, prior).log_prob(z)
    observed = torch.distributions.Normal(total, 1.3).log_prob(data.y)
    expected = (log_q - log_p - observed).mean()
    found = (draw.log_q - module.M(data, draw.latents, store=store)).mean()
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)
    leaves = list(store.trainable().values())
    mine = torch.autograd.grad(found, leaves, retain_graph=True)
    theirs = torch.autograd.grad(expected, leaves, retain_graph=True)
    for name, a, b in zip(store.trainable(), mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")
    if draw.score is not None:
        score = torch.autograd.grad(draw.score.sum(), leaves)
        whole = torch.autograd.grad(log_q.sum(), leaves)
        for a, b in zip(score, whole, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert math.isfinite(float(found.detach()))
