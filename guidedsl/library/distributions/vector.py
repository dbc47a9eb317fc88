"""Families on vectors."""

from __future__ import annotations

from guidedsl.library.distributions.rows import Distribution, form, means

ROWS: tuple[Distribution, ...] = (
    Distribution(
        name="MultivariateNormal",
        forms=(
            form("MultivariateNormal", loc="real[K]", scale_tril="lower_cholesky[K]").in_pyro(
                "MultivariateNormal({loc}, scale_tril={scale_tril})"
            ),
            form("MultivariateNormalCovariance", loc="real[K]", covariance="cov[K]").in_pyro(
                "MultivariateNormal({loc}, covariance_matrix={covariance})"
            ),
            form("MultivariateNormalPrecision", loc="real[K]", precision="cov[K]").in_pyro(
                "MultivariateNormal({loc}, precision_matrix={precision})"
            ),
            form(
                "MultivariateNormalUnit", loc="real[K]", scale="positive[K]", unit_tril="unit_lower_cholesky[K]"
            ).in_pyro("MultivariateNormal({loc}, scale_tril={scale_}[..., None] * {unit_tril_})"),
        ),
        support="real[K]",
        reparameterised=True,
        has_mass=False,
        doc="Multivariate normal by mean and covariance: its Cholesky factor, itself, its inverse, or scales and a "
        "unit-diagonal factor.",
        pyro="MultivariateNormal",
        knows=means("entropy mean variance distance factor"),
        asks=means("entropy mean factor"),
    ),
    Distribution(
        name="LowRankMultivariateNormal",
        forms=(form("LowRankMultivariateNormal", loc="real[K]", factor="real[K, R]", diag="positive[K]"),),
        support="real[K]",
        reparameterised=True,
        has_mass=False,
        doc="Multivariate normal with covariance factor factorᵀ + diag(diag); diag are variances.",
        pyro="LowRankMultivariateNormal",
        knows=means("entropy mean variance distance factor"),
    ),
    Distribution(
        name="MultivariateStudentT",
        forms=(form("MultivariateStudentT", df="positive", loc="real[K]", scale_tril="lower_cholesky[K]"),),
        support="real[K]",
        reparameterised=True,
        has_mass=False,
        doc="Multivariate Student's t by degrees of freedom, location and the scale matrix's Cholesky factor.",
        pyro="MultivariateStudentT",
    ),
    Distribution(
        name="GaussianRandomWalk",
        forms=(form("GaussianRandomWalk", scale="positive"),),
        support="real[T]",
        reparameterised=True,
        has_mass=False,
        doc="T positions of a walk from 0 with Normal(0, scale) steps, the first step included.",
        pyro="",
        asks=means("entropy mean factor"),
    ),
    Distribution(
        name="Dirichlet",
        forms=(form("Dirichlet", concentration="positive[K]"),),
        support="simplex[K]",
        reparameterised=True,
        has_mass=False,
        doc="Dirichlet with mean concentration / sum(concentration).",
        pyro="Dirichlet",
        knows=means("entropy log"),
        asks=means("entropy log"),
    ),
    Distribution(
        name="LogisticNormal",
        forms=(form("LogisticNormal", loc="real[K - 1]", scale="positive[K - 1]"),),
        support="simplex[K]",
        reparameterised=True,
        has_mass=False,
        doc="K shares whose K - 1 stick-breaking logits are Normal(loc, scale); all means 1 / K where loc is 0.",
        pyro="LogisticNormal",
    ),
    Distribution(
        name="RelaxedOneHotCategorical",
        forms=(
            form("RelaxedOneHotCategorical", temperature="positive", probs="simplex[K]").in_pyro(
                "RelaxedOneHotCategorical(torch.as_tensor({temperature}), {probs})"
            ),
            form("RelaxedOneHotCategoricalLogits", temperature="positive", logits="real[K]").in_pyro(
                "RelaxedOneHotCategorical(torch.as_tensor({temperature}), logits={logits})"
            ),
        ),
        support="simplex[K]",
        reparameterised=True,
        has_mass=False,
        doc="A OneHotCategorical made continuous; the lower the temperature, the nearer to it.",
        pyro="RelaxedOneHotCategorical",
        pyro_single="temperature",
    ),
    Distribution(
        name="ProjectedNormal",
        forms=(form("ProjectedNormal", loc="real[K]"),),
        support="unit_vector[K]",
        reparameterised=True,
        has_mass=False,
        doc="Direction of a draw of Normal(loc, 1) in K dimensions; uniform on the sphere where loc is 0.",
        pyro="ProjectedNormal",
    ),
    Distribution(
        name="VonMisesFisher",
        forms=(form("VonMisesFisher", loc="unit_vector[K]", concentration="positive"),),
        support="unit_vector[K]",
        reparameterised=False,
        has_mass=False,
        doc="Directions around loc: density on the sphere proportional to exp(concentration * dot(loc, x)).",
        pyro="",
    ),
    Distribution(
        name="ZeroSumNormal",
        forms=(
            form("ZeroSumNormal", scale="positive"),
            form("ZeroSumNormalLoc", loc="zero_sum[K]", scale="positive"),
        ),
        support="zero_sum[K]",
        reparameterised=True,
        has_mass=False,
        doc="K Normal(0, scale) given that they sum to 0, with density in K - 1 dimensions; or moved to loc.",
        pyro="",
    ),
)
