"""Families on matrices."""

from __future__ import annotations

from guidedsl.library.distributions.rows import Distribution, form

ROWS: tuple[Distribution, ...] = (
    Distribution(
        name="LKJCholesky",
        forms=(form("LKJCholesky", concentration="positive").in_pyro("LKJCholesky({dim}, {concentration})"),),
        support="corr_cholesky[K]",
        reparameterised=True,
        has_mass=False,
        doc="Cholesky factor of a correlation matrix R with density proportional to det(R)^(concentration - 1).",
        pyro="LKJCholesky",
    ),
    Distribution(
        name="LKJ",
        forms=(
            form("LKJ", concentration="positive").in_pyro(
                "TransformedDistribution("
                "dist.LKJCholesky({dim}, {concentration}), [dist.transforms.CorrMatrixCholeskyTransform().inv])"
            ),
        ),
        support="corr[K]",
        reparameterised=True,
        has_mass=False,
        doc="Correlation matrix R with density proportional to det(R)^(concentration - 1).",
        pyro="LKJ",
    ),
    Distribution(
        name="Wishart",
        forms=(
            form("Wishart", df="greater_than(K - 1)", scale_tril="lower_cholesky[K]").in_pyro(
                "Wishart({df}, scale_tril={scale_tril})"
            ),
            form("WishartCovariance", df="greater_than(K - 1)", covariance="cov[K]").in_pyro(
                "Wishart({df}, covariance_matrix={covariance})"
            ),
        ),
        support="cov[K]",
        reparameterised=True,
        has_mass=False,
        doc="Wishart with mean df * covariance, by the covariance or its Cholesky factor.",
        pyro="Wishart",
    ),
)
