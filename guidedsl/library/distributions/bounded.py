"""Families on intervals."""

from __future__ import annotations

import math

from guidedsl.library.distributions.rows import Distribution, form, means

ROWS: tuple[Distribution, ...] = (
    Distribution(
        name="Beta",
        forms=(
            form("Beta", concentration1="positive", concentration0="positive"),
            form("BetaMean", mean="unit", concentration="positive").in_pyro(
                "Beta({mean_} * {concentration_}, (1.0 - {mean_}) * {concentration_})"
            ),
        ),
        support="unit",
        reparameterised=True,
        has_mass=True,
        doc="Beta with mean concentration1 / (concentration1 + concentration0), or by mean and their sum.",
        pyro="Beta",
        knows=means("entropy log log1m"),
        asks=means("entropy log log1m"),
    ),
    Distribution(
        name="Kumaraswamy",
        forms=(form("Kumaraswamy", concentration1="positive", concentration0="positive"),),
        support="unit",
        reparameterised=True,
        has_mass=True,
        doc="Distribution function 1 - (1 - x^concentration1)^concentration0.",
        pyro="Kumaraswamy",
        pyro_cdf=True,
    ),
    Distribution(
        name="LogitNormal",
        forms=(
            form("LogitNormal", loc="real", scale="positive").in_pyro(
                "TransformedDistribution(dist.Normal({loc}, {scale}), [dist.transforms.SigmoidTransform()])"
            ),
        ),
        support="unit",
        reparameterised=True,
        has_mass=True,
        doc="inv_logit of a normal by that normal's mean and standard deviation.",
        pyro="TransformedDistribution",
        scale_on_log="scale",
        knows=means("logit_entropy logit logit_variance"),
        asks=means("logit_entropy logit logit_variance"),
    ),
    Distribution(
        name="Uniform",
        forms=(form("Uniform", low="real", high="real"),),
        support="interval(low, high)",
        reparameterised=True,
        has_mass=True,
        doc="Constant density between low and high.",
        pyro="Uniform",
        pyro_cdf=True,
        asks=means("entropy"),
    ),
    Distribution(
        name="TruncatedNormal",
        forms=(form("TruncatedNormal", loc="real", scale="positive", low="real", high="real"),),
        support="interval(low, high)",
        reparameterised=True,
        has_mass=False,
        doc="Normal(loc, scale) given that it lies between low and high.",
        pyro="",
    ),
    Distribution(
        name="VonMises",
        forms=(form("VonMises", loc="real", concentration="positive"),),
        support=f"interval({-math.pi!r}, {math.pi!r})",
        reparameterised=False,
        has_mass=False,
        doc="On the circle, from -pi to pi: density proportional to exp(concentration * cos(x - loc)).",
        pyro="VonMises",
    ),
    Distribution(
        name="ContinuousBernoulli",
        forms=(
            form("ContinuousBernoulli", probs="unit"),
            form("ContinuousBernoulliLogits", logits="real").in_pyro("ContinuousBernoulli(logits={logits})"),
        ),
        support="unit",
        reparameterised=True,
        has_mass=True,
        doc="Density proportional to probs^x (1 - probs)^(1 - x).",
        pyro="ContinuousBernoulli",
    ),
    Distribution(
        name="RelaxedBernoulli",
        forms=(
            form("RelaxedBernoulli", temperature="positive", probs="unit").in_pyro(
                "RelaxedBernoulli(torch.as_tensor({temperature}), {probs})"
            ),
            form("RelaxedBernoulliLogits", temperature="positive", logits="real").in_pyro(
                "RelaxedBernoulli(torch.as_tensor({temperature}), logits={logits})"
            ),
        ),
        support="unit",
        reparameterised=True,
        has_mass=False,
        doc="A Bernoulli made continuous; the lower the temperature, the nearer to it.",
        pyro="RelaxedBernoulli",
        pyro_single="temperature",
    ),
)
