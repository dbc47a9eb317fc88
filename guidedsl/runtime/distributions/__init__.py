"""A class for each form of a distribution in the registry, with static methods and no state.

`log_prob(x, *args)`, `draw(noise, shape, *args)` → `(x, log_q)`, and where there is a distribution function
`log_mass(low, high, *args)` = log P(low < x < high), a number where all its arguments are numbers. Arguments are
tensors or Python numbers that broadcast from the right, event dims last: `particles..., plates..., event`. `shape`
includes the event dims; `log_q` has `shape` without them. It is written in the noise, so that nothing is inverted,
and its gradient is the whole one: through the sample and through the arguments.

Booleans, counts and other numbers are floating tensors of the noise's dtype; indices (Categorical,
OrderedLogistic, OrderedProbit) are int64, since they index. `log_prob` accepts either.

Nothing is validated. The type system keeps a sample inside the support, so `log_prob` is the plain formula there. It is
-inf outside only for families whose support depends on their arguments (Uniform, TruncatedNormal, DiscreteUniform,
Pareto), and there only of a bound that is a tensor, and so may come from a latent.
"""

from guidedsl.runtime.distributions.bounded import (
    Beta,
    BetaMean,
    Kumaraswamy,
    LogitNormal,
    TruncatedNormal,
    Uniform,
    VonMises,
)
from guidedsl.runtime.distributions.categorical import (
    Categorical,
    CategoricalLogits,
    Multinomial,
    MultinomialLogits,
    OneHotCategorical,
    OneHotCategoricalLogits,
    OrderedLogistic,
)
from guidedsl.runtime.distributions.composite import (
    Mixture,
    MixtureLogits,
    Truncated,
    ZeroInflated,
)
from guidedsl.runtime.distributions.constrained_vectors import (
    ProjectedNormal,
    VonMisesFisher,
    ZeroSumNormal,
    ZeroSumNormalLoc,
)
from guidedsl.runtime.distributions.continuous import (
    AsymmetricLaplace,
    Cauchy,
    ExponentiallyModifiedNormal,
    Gumbel,
    Laplace,
    Logistic,
    Normal,
    SkewNormal,
    SoftLaplace,
    StudentT,
)
from guidedsl.runtime.distributions.degenerate import (
    Point,
)
from guidedsl.runtime.distributions.discrete import (
    Bernoulli,
    BernoulliLogits,
    BetaBinomial,
    Binomial,
    BinomialLogits,
    DiscreteUniform,
    Geometric,
    GeometricLogits,
    NegativeBinomial,
    NegativeBinomialLogits,
    NegativeBinomialLogMean,
    NegativeBinomialMean,
    Poisson,
    PoissonLog,
    ZeroInflatedNegativeBinomial,
    ZeroInflatedNegativeBinomialLogits,
    ZeroInflatedPoisson,
)
from guidedsl.runtime.distributions.divergence import (
    kl_plus_log_prob,
)
from guidedsl.runtime.distributions.heavy_tailed import (
    FisherSnedecor,
    Frechet,
    GeneralizedPareto,
    InverseChi2,
    LogLogistic,
    Lomax,
    Rayleigh,
    ScaledInverseChi2,
)
from guidedsl.runtime.distributions.matrices import (
    LKJ,
    InverseWishart,
    InverseWishartScale,
    LKJCholesky,
    Wishart,
    WishartCovariance,
)
from guidedsl.runtime.distributions.multivariate import (
    GaussianRandomWalk,
    LowRankMultivariateNormal,
    MultivariateNormal,
    MultivariateNormalCovariance,
    MultivariateNormalPrecision,
    MultivariateNormalUnit,
    MultivariateStudentT,
)
from guidedsl.runtime.distributions.overdispersed import (
    BetaNegativeBinomial,
    DirichletMultinomial,
    GammaPoisson,
    Hypergeometric,
    OrderedProbit,
)
from guidedsl.runtime.distributions.positive import (
    Chi2,
    Exponential,
    Gamma,
    GammaScale,
    HalfCauchy,
    HalfNormal,
    HalfStudentT,
    InverseGamma,
    LogNormal,
    Pareto,
    Weibull,
)
from guidedsl.runtime.distributions.relaxed import (
    ContinuousBernoulli,
    ContinuousBernoulliLogits,
    RelaxedBernoulli,
    RelaxedBernoulliLogits,
    RelaxedOneHotCategorical,
    RelaxedOneHotCategoricalLogits,
)
from guidedsl.runtime.distributions.simplex import (
    Dirichlet,
    LogisticNormal,
)
from guidedsl.runtime.scripted import scriptable

__all__ = [
    "LKJ",
    "AsymmetricLaplace",
    "Bernoulli",
    "BernoulliLogits",
    "Beta",
    "BetaBinomial",
    "BetaMean",
    "BetaNegativeBinomial",
    "Binomial",
    "BinomialLogits",
    "Categorical",
    "CategoricalLogits",
    "Cauchy",
    "Chi2",
    "ContinuousBernoulli",
    "ContinuousBernoulliLogits",
    "Dirichlet",
    "DirichletMultinomial",
    "DiscreteUniform",
    "Exponential",
    "ExponentiallyModifiedNormal",
    "FisherSnedecor",
    "Frechet",
    "Gamma",
    "GammaPoisson",
    "GammaScale",
    "GaussianRandomWalk",
    "GeneralizedPareto",
    "Geometric",
    "GeometricLogits",
    "Gumbel",
    "HalfCauchy",
    "HalfNormal",
    "HalfStudentT",
    "Hypergeometric",
    "InverseChi2",
    "InverseGamma",
    "InverseWishart",
    "InverseWishartScale",
    "Kumaraswamy",
    "LKJCholesky",
    "Laplace",
    "LogLogistic",
    "LogNormal",
    "Logistic",
    "LogisticNormal",
    "LogitNormal",
    "Lomax",
    "LowRankMultivariateNormal",
    "Mixture",
    "MixtureLogits",
    "Multinomial",
    "MultinomialLogits",
    "MultivariateNormal",
    "MultivariateNormalCovariance",
    "MultivariateNormalPrecision",
    "MultivariateNormalUnit",
    "MultivariateStudentT",
    "NegativeBinomial",
    "NegativeBinomialLogMean",
    "NegativeBinomialLogits",
    "NegativeBinomialMean",
    "Normal",
    "OneHotCategorical",
    "OneHotCategoricalLogits",
    "OrderedLogistic",
    "OrderedProbit",
    "Pareto",
    "Point",
    "Poisson",
    "PoissonLog",
    "ProjectedNormal",
    "Rayleigh",
    "RelaxedBernoulli",
    "RelaxedBernoulliLogits",
    "RelaxedOneHotCategorical",
    "RelaxedOneHotCategoricalLogits",
    "ScaledInverseChi2",
    "SkewNormal",
    "SoftLaplace",
    "StudentT",
    "Truncated",
    "TruncatedNormal",
    "Uniform",
    "VonMises",
    "VonMisesFisher",
    "Weibull",
    "Wishart",
    "WishartCovariance",
    "ZeroInflated",
    "ZeroInflatedNegativeBinomial",
    "ZeroInflatedNegativeBinomialLogits",
    "ZeroInflatedPoisson",
    "ZeroSumNormal",
    "ZeroSumNormalLoc",
    "kl_plus_log_prob",
]

for _family in (globals()[_name] for _name in __all__):
    if "draw" in vars(_family):
        _family.draw = staticmethod(scriptable(_family))
