"""Families on correlation matrices, their factors, and covariances. Shapes: [..., K, K], one log density a matrix."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from guidedsl.runtime.distributions.multivariate import log_diagonal_sum
from guidedsl.runtime.distributions.special import LOG_2, LOG_PI, Value, lgamma
from guidedsl.runtime.factors import cholesky
from guidedsl.runtime.noise import Noise, Shape


def _multivariate_lgamma(a: Value, dim: int) -> Value:
    """log Γ_dim(a) (DLMF 35.3.4)."""
    constant = dim * (dim - 1) / 4.0 * LOG_PI
    if isinstance(a, Tensor):
        steps = 0.5 * torch.arange(dim, dtype=a.dtype, device=a.device)
        return (a[..., None] - steps).lgamma().sum(-1) + constant
    return sum(math.lgamma(a - 0.5 * j) for j in range(dim)) + constant


def _lkj_log_norm(concentration: Value, size: int) -> Value:
    """log of the integral of det^(concentration - 1) over correlation matrices (Lewandowski et al. 2009, eq. 16)."""
    free = size - 1
    alpha = concentration + 0.5 * free
    return 0.5 * free * LOG_PI + _multivariate_lgamma(alpha - 0.5, free) - free * lgamma(alpha)


def _onion(noise: Noise, shape: Shape, concentration: Value) -> tuple[Tensor, Tensor]:
    """(L, log diagonal of L without its first 1) for L Lᵀ ~ LKJ: [..., K, K], [..., K - 1].

    Row i's direction is uniform on the sphere, its squared length below the diagonal Beta (Lewandowski et al. 2009,
    section 3.2, on Cholesky factors).
    """
    *batch, size, _ = shape
    row = torch.arange(1.0, size, dtype=noise.dtype, device=noise.device)
    eta = concentration[..., None] if isinstance(concentration, Tensor) else concentration
    rows = (*batch, size - 1)
    logit = noise.log_gamma(0.5 * row, rows) - noise.log_gamma(eta + 0.5 * (size - 1 - row), rows)
    normal = noise.normal((*batch, size - 1, size)).tril()
    below = (0.5 * F.logsigmoid(logit)).exp() / torch.linalg.vector_norm(normal, dim=-1)
    log_diagonal = 0.5 * F.logsigmoid(-logit)
    diagonal = torch.diag_embed(log_diagonal.exp(), offset=1)[..., :-1, :]
    first = torch.zeros((*batch, 1, size), dtype=noise.dtype, device=noise.device)
    first[..., 0] = 1.0
    return torch.cat((first, normal * below[..., None] + diagonal), dim=-2), log_diagonal


def _cholesky_log_density(log_diagonal: Tensor, concentration: Value) -> Tensor:
    """Of the factor, by the logarithms of its diagonal from the second on (torch and Stan's lkj_corr_cholesky)."""
    free = log_diagonal.shape[-1]
    powers = torch.arange(free - 1, -1, -1, dtype=log_diagonal.dtype, device=log_diagonal.device)
    eta = concentration[..., None] if isinstance(concentration, Tensor) else concentration
    return ((2.0 * eta - 2.0 + powers) * log_diagonal).sum(-1) - _lkj_log_norm(concentration, free + 1)


class LKJCholesky:
    """Cholesky factor of a correlation matrix with density proportional to det^(concentration - 1)."""

    @staticmethod
    def log_prob(x: Tensor, concentration: Value) -> Tensor:
        return _cholesky_log_density(x.diagonal(dim1=-2, dim2=-1)[..., 1:].log(), concentration)

    @staticmethod
    def draw(noise: Noise, shape: Shape, concentration: Value) -> tuple[Tensor, Tensor]:
        tril, log_diagonal = _onion(noise, shape, concentration)
        return tril, _cholesky_log_density(log_diagonal, concentration)


class LKJ:
    """Correlation matrix with density proportional to det^(concentration - 1)."""

    @staticmethod
    def log_prob(x: Tensor, concentration: Value) -> Tensor:
        log_det = 2.0 * log_diagonal_sum(cholesky(x))
        return (concentration - 1.0) * log_det - _lkj_log_norm(concentration, x.shape[-1])

    @staticmethod
    def draw(noise: Noise, shape: Shape, concentration: Value) -> tuple[Tensor, Tensor]:
        tril, log_diagonal = _onion(noise, shape, concentration)
        log_q = (concentration - 1.0) * 2.0 * log_diagonal.sum(-1) - _lkj_log_norm(concentration, shape[-1])
        return tril @ tril.mT, log_q


class Wishart:
    """Sum of `df` outer products of Normal(0, scale_tril scale_trilᵀ) vectors; df > K - 1, mean df times that scale."""

    @staticmethod
    def log_prob(x: Tensor, df: Value, scale_tril: Tensor) -> Tensor:
        tril = cholesky(x)
        standard = torch.linalg.solve_triangular(scale_tril, tril, upper=False)
        trace = standard.square().sum((-2, -1))
        return _wishart_log_density(log_diagonal_sum(tril), trace, log_diagonal_sum(scale_tril), df, x.shape[-1])

    @staticmethod
    def draw(noise: Noise, shape: Shape, df: Value, scale_tril: Tensor) -> tuple[Tensor, Tensor]:
        squares, standard = _bartlett(noise, shape, df)
        tril = scale_tril @ standard
        log_scale = log_diagonal_sum(scale_tril)
        log_det = log_scale + 0.5 * squares.log().sum(-1)
        trace = standard.square().sum((-2, -1))
        return tril @ tril.mT, _wishart_log_density(log_det, trace, log_scale, df, shape[-1])


def _bartlett(noise: Noise, shape: Shape, df: Value) -> tuple[Tensor, Tensor]:
    """Bartlett's triangle A, for which A Aᵀ is a standard Wishart: normals, and on its diagonal roots of chi-squares.

    The chi-squares [..., K] and the triangle [..., K, K].
    """
    column = torch.arange(shape[-1], dtype=noise.dtype, device=noise.device)
    degrees = (df[..., None] if isinstance(df, Tensor) else df) - column
    squares = 2.0 * noise.gamma(0.5 * degrees, shape[:-1])
    return squares, noise.normal(shape).tril(-1) + torch.diag_embed(squares.sqrt())


def _wishart_log_density(log_det: Tensor, trace: Tensor, log_scale: Tensor, df: Value, size: int) -> Tensor:
    """By Σ log diagonals of the factors of x and of the scale, and tr(scale⁻¹ x) (Anderson 2003, theorem 7.2.2)."""
    norm = df * (log_scale + 0.5 * size * LOG_2) + _multivariate_lgamma(df / 2.0, size)
    return (df - size - 1.0) * log_det - 0.5 * trace - norm


class WishartCovariance:
    """As Wishart, by scale matrix `covariance`."""

    @staticmethod
    def log_prob(x: Tensor, df: Value, covariance: Tensor) -> Tensor:
        return Wishart.log_prob(x, df, cholesky(covariance))

    @staticmethod
    def draw(noise: Noise, shape: Shape, df: Value, covariance: Tensor) -> tuple[Tensor, Tensor]:
        return Wishart.draw(noise, shape, df, cholesky(covariance))


class InverseWishart:
    """x⁻¹ is Wishart with df and the inverse of scale_tril scale_trilᵀ; df > K - 1."""

    @staticmethod
    def log_prob(x: Tensor, df: Value, scale_tril: Tensor) -> Tensor:
        tril = cholesky(x)
        standard = torch.linalg.solve_triangular(tril, scale_tril, upper=False)
        trace = standard.square().sum((-2, -1))
        return _inverse_log_density(log_diagonal_sum(tril), trace, log_diagonal_sum(scale_tril), df, x.shape[-1])

    @staticmethod
    def draw(noise: Noise, shape: Shape, df: Value, scale_tril: Tensor) -> tuple[Tensor, Tensor]:
        """By Bartlett's triangle A of the inverse: x = B Bᵀ with B = scale_tril A⁻ᵀ."""
        squares, standard = _bartlett(noise, shape, df)
        root = torch.linalg.solve_triangular(standard, scale_tril.mT, upper=False)
        log_scale = log_diagonal_sum(scale_tril)
        log_det = log_scale - 0.5 * squares.log().sum(-1)
        trace = standard.square().sum((-2, -1))
        return root.mT @ root, _inverse_log_density(log_det, trace, log_scale, df, shape[-1])


def _inverse_log_density(log_det: Tensor, trace: Tensor, log_scale: Tensor, df: Value, size: int) -> Tensor:
    """By Σ log diagonals of the factors of x and of the scale, and tr(scale x⁻¹) (Gelman et al. 2013, appendix A)."""
    norm = df * (0.5 * size * LOG_2 - log_scale) + _multivariate_lgamma(df / 2.0, size)
    return -(df + size + 1.0) * log_det - 0.5 * trace - norm


class InverseWishartScale:
    """As InverseWishart, by the matrix `scale`."""

    @staticmethod
    def log_prob(x: Tensor, df: Value, scale: Tensor) -> Tensor:
        return InverseWishart.log_prob(x, df, cholesky(scale))

    @staticmethod
    def draw(noise: Noise, shape: Shape, df: Value, scale: Tensor) -> tuple[Tensor, Tensor]:
        return InverseWishart.draw(noise, shape, df, cholesky(scale))
