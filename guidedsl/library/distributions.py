"""The registry of distributions: the only place of the compiler that knows them by name."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Argument:
    """One argument of a distribution.

    `type` is written as in a `.guide` file, with letters for event dims that must agree: `real`, `positive`,
    `real[K]`, `lower_cholesky[K]`, `real[K, R]`.
    """

    name: str
    type: str
    default: float | None = None


@dataclass(frozen=True)
class Form:
    """One parameterisation: its arguments in order and the runtime class that computes with them."""

    arguments: tuple[Argument, ...]
    runtime: str


@dataclass(frozen=True)
class Distribution:
    """A family.

    `support` is written like a type and may name arguments and event dims: `real`, `interval(low, high)`,
    `int(0, total)`, `int(0, K - 1)`, `simplex[K]`. Positional arguments belong to the first form; names pick the form.
    A family that is `tabulated` has the log probabilities of all its values at once, as `log_table`.
    """

    name: str
    forms: tuple[Form, ...]
    support: str
    reparameterised: bool
    has_mass: bool
    doc: str
    pyro: str
    guide_only: bool = False
    model_only: bool = False
    scale_on_log: str | None = None
    tabulated: bool = False


def _form(runtime: str, /, **types: str | tuple[str, float]) -> Form:
    """A form by its runtime class and its arguments, each a type or a type with a default."""
    arguments = (Argument(name, of) if isinstance(of, str) else Argument(name, *of) for name, of in types.items())
    return Form(tuple(arguments), runtime)


_REAL_LINE: tuple[Distribution, ...] = (
    Distribution(
        name="Normal",
        forms=(_form("Normal", loc="real", scale="positive"),),
        support="real",
        reparameterised=True,
        has_mass=True,
        doc="Normal by mean and standard deviation.",
        pyro="Normal",
    ),
    Distribution(
        name="Cauchy",
        forms=(_form("Cauchy", loc="real", scale="positive"),),
        support="real",
        reparameterised=True,
        has_mass=True,
        doc="Cauchy by median and half width at half maximum.",
        pyro="Cauchy",
    ),
    Distribution(
        name="StudentT",
        forms=(_form("StudentT", df="positive", loc=("real", 0.0), scale=("positive", 1.0)),),
        support="real",
        reparameterised=True,
        has_mass=True,
        doc="Student's t with df degrees of freedom, moved to loc and scaled by scale (not its standard deviation).",
        pyro="StudentT",
    ),
    Distribution(
        name="Laplace",
        forms=(_form("Laplace", loc="real", scale="positive"),),
        support="real",
        reparameterised=True,
        has_mass=True,
        doc="Double exponential by mean and mean absolute deviation.",
        pyro="Laplace",
    ),
    Distribution(
        name="AsymmetricLaplace",
        forms=(_form("AsymmetricLaplace", loc="real", scale="positive", asymmetry="positive"),),
        support="real",
        reparameterised=True,
        has_mass=False,
        doc="Exponential tails of mean scale * asymmetry left of loc and scale / asymmetry right of it.",
        pyro="AsymmetricLaplace",
    ),
    Distribution(
        name="SoftLaplace",
        forms=(_form("SoftLaplace", loc="real", scale="positive"),),
        support="real",
        reparameterised=True,
        has_mass=True,
        doc="Hyperbolic secant law, a Laplace smooth at loc: density 1 / (pi scale cosh((x - loc) / scale)).",
        pyro="SoftLaplace",
    ),
    Distribution(
        name="Logistic",
        forms=(_form("Logistic", loc="real", scale="positive"),),
        support="real",
        reparameterised=True,
        has_mass=True,
        doc="Logistic by mean and scale: its distribution function is inv_logit((x - loc) / scale).",
        pyro="Logistic",
    ),
    Distribution(
        name="Gumbel",
        forms=(_form("Gumbel", loc="real", scale="positive"),),
        support="real",
        reparameterised=True,
        has_mass=True,
        doc="Gumbel of largest values by mode and scale.",
        pyro="Gumbel",
    ),
    Distribution(
        name="Point",
        forms=(_form("Point", value="real"),),
        support="real",
        reparameterised=True,
        has_mass=False,
        doc="All mass at one value, as `auto map` uses it; log density 0 an element.",
        pyro="Delta",
        guide_only=True,
    ),
)

_POSITIVE: tuple[Distribution, ...] = (
    Distribution(
        name="LogNormal",
        forms=(_form("LogNormal", loc="real", scale="positive"),),
        support="positive",
        reparameterised=True,
        has_mass=True,
        doc="exp of a normal by that normal's mean and standard deviation.",
        pyro="LogNormal",
        scale_on_log="scale",
    ),
    Distribution(
        name="HalfNormal",
        forms=(_form("HalfNormal", scale="positive"),),
        support="positive",
        reparameterised=True,
        has_mass=True,
        doc="Absolute value of a Normal(0, scale).",
        pyro="HalfNormal",
    ),
    Distribution(
        name="HalfCauchy",
        forms=(_form("HalfCauchy", scale="positive"),),
        support="positive",
        reparameterised=True,
        has_mass=True,
        doc="Absolute value of a Cauchy(0, scale); scale is the median.",
        pyro="HalfCauchy",
    ),
    Distribution(
        name="HalfStudentT",
        forms=(_form("HalfStudentT", df="positive", scale="positive"),),
        support="positive",
        reparameterised=True,
        has_mass=True,
        doc="Absolute value of a StudentT(df, 0, scale).",
        pyro="",
    ),
    Distribution(
        name="Exponential",
        forms=(_form("Exponential", rate="positive"),),
        support="positive",
        reparameterised=True,
        has_mass=True,
        doc="Exponential with mean 1 / rate.",
        pyro="Exponential",
    ),
    Distribution(
        name="Gamma",
        forms=(
            _form("Gamma", concentration="positive", rate="positive"),
            _form("GammaScale", concentration="positive", scale="positive"),
        ),
        support="positive",
        reparameterised=True,
        has_mass=True,
        doc="Gamma with mean concentration / rate, or concentration * scale.",
        pyro="Gamma",
    ),
    Distribution(
        name="InverseGamma",
        forms=(_form("InverseGamma", concentration="positive", rate="positive"),),
        support="positive",
        reparameterised=True,
        has_mass=True,
        doc="1 / x of a Gamma(concentration, rate): mean rate / (concentration - 1).",
        pyro="InverseGamma",
    ),
    Distribution(
        name="Chi2",
        forms=(_form("Chi2", df="positive"),),
        support="positive",
        reparameterised=True,
        has_mass=True,
        doc="Chi-square with df degrees of freedom: Gamma(df / 2, 1 / 2).",
        pyro="Chi2",
    ),
    Distribution(
        name="Weibull",
        forms=(_form("Weibull", scale="positive", concentration="positive"),),
        support="positive",
        reparameterised=True,
        has_mass=True,
        doc="Weibull with survival function exp(-(x / scale)^concentration).",
        pyro="Weibull",
    ),
    Distribution(
        name="Pareto",
        forms=(_form("Pareto", scale="positive", alpha="positive"),),
        support="greater_than(scale)",
        reparameterised=True,
        has_mass=True,
        doc="Pareto with survival function (scale / x)^alpha above scale.",
        pyro="Pareto",
    ),
)

_BOUNDED: tuple[Distribution, ...] = (
    Distribution(
        name="Beta",
        forms=(_form("Beta", concentration1="positive", concentration0="positive"),),
        support="unit",
        reparameterised=True,
        has_mass=True,
        doc="Beta with mean concentration1 / (concentration1 + concentration0).",
        pyro="Beta",
    ),
    Distribution(
        name="Kumaraswamy",
        forms=(_form("Kumaraswamy", concentration1="positive", concentration0="positive"),),
        support="unit",
        reparameterised=True,
        has_mass=True,
        doc="Distribution function 1 - (1 - x^concentration1)^concentration0.",
        pyro="Kumaraswamy",
    ),
    Distribution(
        name="LogitNormal",
        forms=(_form("LogitNormal", loc="real", scale="positive"),),
        support="unit",
        reparameterised=True,
        has_mass=True,
        doc="inv_logit of a normal by that normal's mean and standard deviation.",
        pyro="",
        scale_on_log="scale",
    ),
    Distribution(
        name="Uniform",
        forms=(_form("Uniform", low="real", high="real"),),
        support="interval(low, high)",
        reparameterised=True,
        has_mass=True,
        doc="Constant density between low and high.",
        pyro="Uniform",
    ),
    Distribution(
        name="TruncatedNormal",
        forms=(_form("TruncatedNormal", loc="real", scale="positive", low="real", high="real"),),
        support="interval(low, high)",
        reparameterised=True,
        has_mass=False,
        doc="Normal(loc, scale) given that it lies between low and high.",
        pyro="",
    ),
    Distribution(
        name="VonMises",
        forms=(_form("VonMises", loc="real", concentration="positive"),),
        support=f"interval({-math.pi!r}, {math.pi!r})",
        reparameterised=False,
        has_mass=False,
        doc="On the circle, from -pi to pi: density proportional to exp(concentration * cos(x - loc)).",
        pyro="VonMises",
    ),
)

_DISCRETE: tuple[Distribution, ...] = (
    Distribution(
        name="Bernoulli",
        forms=(
            _form("Bernoulli", probs="unit"),
            _form("BernoulliLogits", logits="real"),
        ),
        support="bool",
        reparameterised=False,
        has_mass=False,
        doc="True with probability probs, or inv_logit(logits).",
        pyro="Bernoulli",
    ),
    Distribution(
        name="Binomial",
        forms=(
            _form("Binomial", total="count", probs="unit"),
            _form("BinomialLogits", total="count", logits="real"),
        ),
        support="int(0, total)",
        reparameterised=False,
        has_mass=False,
        doc="Successes in total trials of probability probs, or inv_logit(logits).",
        pyro="Binomial",
    ),
    Distribution(
        name="BetaBinomial",
        forms=(_form("BetaBinomial", concentration1="positive", concentration0="positive", total="count"),),
        support="int(0, total)",
        reparameterised=False,
        has_mass=False,
        doc="Successes in total trials whose common probability is Beta(concentration1, concentration0).",
        pyro="BetaBinomial",
    ),
    Distribution(
        name="Geometric",
        forms=(
            _form("Geometric", probs="unit"),
            _form("GeometricLogits", logits="real"),
        ),
        support="count",
        reparameterised=False,
        has_mass=False,
        doc="Failures (0, 1, …) before the first success of probability probs, or inv_logit(logits).",
        pyro="Geometric",
    ),
    Distribution(
        name="Poisson",
        forms=(
            _form("Poisson", rate="positive"),
            _form("PoissonLog", log_rate="real"),
        ),
        support="count",
        reparameterised=False,
        has_mass=False,
        doc="Poisson with mean rate, or exp(log_rate).",
        pyro="Poisson",
    ),
    Distribution(
        name="NegativeBinomial",
        forms=(
            _form("NegativeBinomial", total="positive", probs="unit"),
            _form("NegativeBinomialLogits", total="positive", logits="real"),
            _form("NegativeBinomialMean", mean="positive", dispersion="positive"),
            _form("NegativeBinomialLogMean", log_mean="real", dispersion="positive"),
        ),
        support="count",
        reparameterised=False,
        has_mass=False,
        doc="Successes of probability probs before total failures; or by mean, variance mean + mean² / dispersion.",
        pyro="NegativeBinomial",
    ),
    Distribution(
        name="ZeroInflatedPoisson",
        forms=(_form("ZeroInflatedPoisson", gate="unit", rate="positive"),),
        support="count",
        reparameterised=False,
        has_mass=False,
        doc="0 with probability gate, else Poisson(rate).",
        pyro="ZeroInflatedPoisson",
    ),
    Distribution(
        name="ZeroInflatedNegativeBinomial",
        forms=(
            _form("ZeroInflatedNegativeBinomial", gate="unit", total="positive", probs="unit"),
            _form("ZeroInflatedNegativeBinomialLogits", gate="unit", total="positive", logits="real"),
        ),
        support="count",
        reparameterised=False,
        has_mass=False,
        doc="0 with probability gate, else NegativeBinomial(total, probs).",
        pyro="ZeroInflatedNegativeBinomial",
    ),
    Distribution(
        name="DiscreteUniform",
        forms=(_form("DiscreteUniform", low="int", high="int"),),
        support="int(low, high)",
        reparameterised=False,
        has_mass=False,
        doc="Each whole number from low to high, both included.",
        pyro="",
    ),
    Distribution(
        name="Categorical",
        forms=(
            _form("Categorical", probs="simplex[K]"),
            _form("CategoricalLogits", logits="real[K]"),
        ),
        support="int(0, K - 1)",
        reparameterised=False,
        has_mass=False,
        doc="Index k with probability probs[k], or softmax(logits)[k].",
        pyro="Categorical",
        tabulated=True,
    ),
    Distribution(
        name="OrderedLogistic",
        forms=(_form("OrderedLogistic", predictor="real", cutpoints="ordered[K]"),),
        support="int(0, K)",
        reparameterised=False,
        has_mass=False,
        doc="Index of the interval between the cutpoints that a Logistic(predictor, 1) falls into.",
        pyro="OrderedLogistic",
        tabulated=True,
    ),
    Distribution(
        name="OneHotCategorical",
        forms=(
            _form("OneHotCategorical", probs="simplex[K]"),
            _form("OneHotCategoricalLogits", logits="real[K]"),
        ),
        support="one_hot[K]",
        reparameterised=False,
        has_mass=False,
        doc="One 1 among zeros, at k with probability probs[k], or softmax(logits)[k].",
        pyro="OneHotCategorical",
    ),
    Distribution(
        name="Multinomial",
        forms=(
            _form("Multinomial", total="count", probs="simplex[K]"),
            _form("MultinomialLogits", total="count", logits="real[K]"),
        ),
        support="count[K]",
        reparameterised=False,
        has_mass=False,
        doc="Counts of total independent Categorical draws.",
        pyro="Multinomial",
    ),
)

_VECTOR: tuple[Distribution, ...] = (
    Distribution(
        name="MultivariateNormal",
        forms=(
            _form("MultivariateNormal", loc="real[K]", scale_tril="lower_cholesky[K]"),
            _form("MultivariateNormalCovariance", loc="real[K]", covariance="cov[K]"),
            _form("MultivariateNormalPrecision", loc="real[K]", precision="cov[K]"),
            _form("MultivariateNormalUnit", loc="real[K]", scale="positive[K]", unit_tril="unit_lower_cholesky[K]"),
        ),
        support="real[K]",
        reparameterised=True,
        has_mass=False,
        doc="Multivariate normal by mean and covariance: its Cholesky factor, itself, its inverse, or scales and a "
        "unit-diagonal factor.",
        pyro="MultivariateNormal",
    ),
    Distribution(
        name="LowRankMultivariateNormal",
        forms=(_form("LowRankMultivariateNormal", loc="real[K]", factor="real[K, R]", diag="positive[K]"),),
        support="real[K]",
        reparameterised=True,
        has_mass=False,
        doc="Multivariate normal with covariance factor factorᵀ + diag(diag); diag are variances.",
        pyro="LowRankMultivariateNormal",
    ),
    Distribution(
        name="MultivariateStudentT",
        forms=(_form("MultivariateStudentT", df="positive", loc="real[K]", scale_tril="lower_cholesky[K]"),),
        support="real[K]",
        reparameterised=True,
        has_mass=False,
        doc="Multivariate Student's t by degrees of freedom, location and the scale matrix's Cholesky factor.",
        pyro="MultivariateStudentT",
    ),
    Distribution(
        name="GaussianRandomWalk",
        forms=(_form("GaussianRandomWalk", scale="positive"),),
        support="real[T]",
        reparameterised=True,
        has_mass=False,
        doc="T positions of a walk from 0 with Normal(0, scale) steps, the first step included.",
        pyro="",
    ),
    Distribution(
        name="Dirichlet",
        forms=(_form("Dirichlet", concentration="positive[K]"),),
        support="simplex[K]",
        reparameterised=True,
        has_mass=False,
        doc="Dirichlet with mean concentration / sum(concentration).",
        pyro="Dirichlet",
    ),
)

_MATRIX: tuple[Distribution, ...] = (
    Distribution(
        name="LKJCholesky",
        forms=(_form("LKJCholesky", concentration="positive"),),
        support="corr_cholesky[K]",
        reparameterised=True,
        has_mass=False,
        doc="Cholesky factor of a correlation matrix R with density proportional to det(R)^(concentration - 1).",
        pyro="LKJCholesky",
    ),
    Distribution(
        name="LKJ",
        forms=(_form("LKJ", concentration="positive"),),
        support="corr[K]",
        reparameterised=True,
        has_mass=False,
        doc="Correlation matrix R with density proportional to det(R)^(concentration - 1).",
        pyro="LKJ",
    ),
    Distribution(
        name="Wishart",
        forms=(
            _form("Wishart", df="greater_than(K - 1)", scale_tril="lower_cholesky[K]"),
            _form("WishartCovariance", df="greater_than(K - 1)", covariance="cov[K]"),
        ),
        support="cov[K]",
        reparameterised=True,
        has_mass=False,
        doc="Wishart with mean df * covariance, by the covariance or its Cholesky factor.",
        pyro="Wishart",
    ),
)

_ROWS: tuple[Distribution, ...] = (*_REAL_LINE, *_POSITIVE, *_BOUNDED, *_DISCRETE, *_VECTOR, *_MATRIX)

DISTRIBUTIONS: dict[str, Distribution] = {row.name: row for row in _ROWS}
