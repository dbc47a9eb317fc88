"""What other languages and libraries call our types and distributions, for the hints of those who come from there."""

from __future__ import annotations

TYPES = {
    "vector": "real[P]",
    "row_vector": "real[P]",
    "real_vector": "real[P]",
    "matrix": "real[N, P]",
    "array": "real[N]",
    "tensor": "real[N]",
    "list": "real[N]",
    "float": "real",
    "double": "real",
    "number": "real",
    "scalar": "real",
    "complex": "real[2]",
    "integer": "int",
    "boolean": "bool",
    "natural": "count",
    "nonnegative_integer": "count",
    "probability": "unit",
    "unit_interval": "unit",
    "categorical": "index(K)",
    "one_hot_vector": "one_hot[K]",
    "sum_to_zero_vector": "zero_sum[K]",
    "cov_matrix": "cov[K]",
    "positive_definite": "cov[K]",
    "corr_matrix": "corr[K]",
    "cholesky_factor_cov": "lower_cholesky[K]",
    "cholesky_factor_corr": "corr_cholesky[K]",
}

DISTRIBUTIONS = {
    "gaussian": "Normal",
    "doubleexponential": "Laplace",
    "chisquare": "Chi2",
    "invgamma": "InverseGamma",
    "invwishart": "InverseWishart",
    "halft": "HalfStudentT",
    "multinormal": "MultivariateNormal",
    "multinormalcholesky": "MultivariateNormal",
    "multinormalprec": "MultivariateNormal",
    "mvnormal": "MultivariateNormal",
    "multistudentt": "MultivariateStudentT",
    "mvstudentt": "MultivariateStudentT",
    "negbinomial": "NegativeBinomial",
    "negbinomial2": "NegativeBinomial",
    "bernoullilogit": "Bernoulli",
    "binomiallogit": "Binomial",
    "categoricallogit": "Categorical",
    "poissonlog": "Poisson",
    "discreterange": "DiscreteUniform",
    "lkjcorr": "LKJ",
    "lkjcorrcholesky": "LKJCholesky",
    "unif": "Uniform",
    "expon": "Exponential",
}
"""By their names without underscores, in small letters."""


def plain(name: str) -> str:
    """A distribution's name as `DISTRIBUTIONS` has it: `student_t` and `StudentTDistribution` are `studentt`."""
    return name.lower().replace("_", "").removesuffix("distribution").removesuffix("rng")
