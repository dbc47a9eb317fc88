"""What other libraries call things is found under our name."""

from __future__ import annotations

import pytest

from guidedsl import errors
from guidedsl.library import foreign
from guidedsl.library.distributions import DISTRIBUTIONS
from guidedsl.library.supports import KINDS
from guidedsl.source import Source

HERE = Source("p.guide", "x").span(0, 1)


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("normal", "Normal"),
        ("NormalDistribution", "Normal"),
        ("student_t", "StudentT"),
        ("lognormal", "LogNormal"),
        ("half_normal", "HalfNormal"),
        ("half_cauchy", "HalfCauchy"),
        ("inv_gamma", "InverseGamma"),
        ("neg_binomial_2", "NegativeBinomial"),
        ("ordered_logistic", "OrderedLogistic"),
        ("lkj_corr_cholesky", "LKJCholesky"),
        ("double_exponential", "Laplace"),
        ("normal_rng", "Normal"),
        ("Nromal", "Normal"),
    ],
)
def test_a_distribution_is_found(name: str, ours: str) -> None:
    assert errors.unknown_distribution(name, HERE, DISTRIBUTIONS).hint == f"did you mean `{ours}`?"


@pytest.mark.parametrize(
    ("name", "ours"),
    [("vector", "real[P]"), ("Tensor", "real[N]"), ("float", "real"), ("integer", "int"), ("cov_matrix", "cov[K]")],
)
def test_a_type_is_found(name: str, ours: str) -> None:
    hint = errors.unknown_type(name, HERE, KINDS).hint
    assert hint is not None
    assert hint.startswith(f"write `{ours}`")


def test_a_slip_is_a_slip() -> None:
    assert errors.unknown_type("postive", HERE, KINDS).hint == "did you mean `positive`?"
    assert errors.unknown_type("Real", HERE, KINDS).hint == "did you mean `real`?"


def test_what_is_named_exists() -> None:
    assert set(foreign.DISTRIBUTIONS.values()) <= set(DISTRIBUTIONS)
    assert all(foreign.plain(name) == name for name in foreign.DISTRIBUTIONS)
    kinds = {ours.partition("[")[0].partition("(")[0] for ours in foreign.TYPES.values()}
    assert kinds - {"zero_sum"} <= set(KINDS)
    assert not set(foreign.TYPES) & set(KINDS)
