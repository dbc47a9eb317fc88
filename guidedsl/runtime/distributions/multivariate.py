"""Families on real vectors. Shapes: loc [..., K], matrices [..., K, K]; one log density a vector."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from guidedsl.runtime.distributions.continuous import student_log_norm
from guidedsl.runtime.distributions.special import LOG_SQRT_2PI, Value, affine, log, standardise
from guidedsl.runtime.factors import cholesky
from guidedsl.runtime.noise import Noise, Shape


def matvec(matrix: Tensor, v: Tensor) -> Tensor:
    """matrix [..., N, K] @ v [..., K], batches broadcast. One matrix product where the matrix has no batch."""
    if matrix.dim() == 2:
        return F.linear(v, matrix)
    return (matrix @ v[..., None]).squeeze(-1)


def solve_lower(tril: Tensor, v: Tensor, unit: bool = False) -> Tensor:
    """tril⁻¹ v for tril [..., K, K] and v [..., K], batches broadcast."""
    if v.dim() > 1 and (tril.dim() == 2 or tril.shape[-3] == 1):
        # one triangular solve with many right sides: as a batch it would copy the matrix for each
        if tril.dim() == 2:
            return _solve_columns(tril, v.reshape(-1, v.shape[-1]).mT, unit).mT.reshape(v.shape)
        return _solve_columns(tril.squeeze(-3), v.mT, unit).mT
    return _solve_columns(tril, v[..., None], unit).squeeze(-1)


def _solve_columns(tril: Tensor, columns: Tensor, unit: bool) -> Tensor:
    solved: Tensor = torch.linalg.solve_triangular(tril, columns, upper=False, unitriangular=unit)
    return solved


def log_diagonal_sum(matrix: Tensor) -> Tensor:
    """Σ log diagonal, of [..., K, K]: [...]."""
    return matrix.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def half_squares(eps: Tensor, offset: Tensor) -> Tensor:
    """-Σ eps²/2 - K log √2π - offset, over the last axis."""
    return torch.add(-LOG_SQRT_2PI * eps.shape[-1] - offset, torch.linalg.vecdot(eps, eps), alpha=-0.5)


class MultivariateNormal:
    """Mean `loc`, covariance scale_tril scale_trilᵀ."""

    @staticmethod
    def log_prob(x: Tensor, loc: Value, scale_tril: Tensor) -> Tensor:
        return half_squares(solve_lower(scale_tril, x - loc), log_diagonal_sum(scale_tril))

    @staticmethod
    def draw(noise: Noise, shape: Shape, loc: Value, scale_tril: Tensor) -> tuple[Tensor, Tensor]:
        eps = noise.normal(shape)
        plain = scale_tril.dim() == 2 and isinstance(loc, Tensor) and loc.dim() == 1
        x = F.linear(eps, scale_tril, loc) if plain else matvec(scale_tril, eps) + loc  # type: ignore[arg-type]
        return x, half_squares(eps, log_diagonal_sum(scale_tril))


class MultivariateNormalCovariance:
    """Mean `loc`, covariance `covariance`."""

    @staticmethod
    def log_prob(x: Tensor, loc: Value, covariance: Tensor) -> Tensor:
        return MultivariateNormal.log_prob(x, loc, cholesky(covariance))

    @staticmethod
    def draw(noise: Noise, shape: Shape, loc: Value, covariance: Tensor) -> tuple[Tensor, Tensor]:
        return MultivariateNormal.draw(noise, shape, loc, cholesky(covariance))


class MultivariateNormalPrecision:
    """Mean `loc`, inverse covariance `precision`."""

    @staticmethod
    def log_prob(x: Tensor, loc: Value, precision: Tensor) -> Tensor:
        tril = cholesky(precision)
        return half_squares(matvec(tril.mT, x - loc), -log_diagonal_sum(tril))

    @staticmethod
    def draw(noise: Noise, shape: Shape, loc: Value, precision: Tensor) -> tuple[Tensor, Tensor]:
        tril = cholesky(precision)
        eps = noise.normal(shape)
        moved = torch.linalg.solve_triangular(tril.mT, eps[..., None], upper=True).squeeze(-1)
        return moved + loc, half_squares(eps, -log_diagonal_sum(tril))


class MultivariateNormalUnit:
    """x = loc + scale * (unit_tril @ eps): no determinant, and finite where a plain factor's training blows up."""

    @staticmethod
    def log_prob(x: Tensor, loc: Value, scale: Value, unit_tril: Tensor) -> Tensor:
        eps = solve_lower(unit_tril, standardise(x, loc, scale), unit=True)
        return _scaled(eps, scale)

    @staticmethod
    def draw(noise: Noise, shape: Shape, loc: Value, scale: Value, unit_tril: Tensor) -> tuple[Tensor, Tensor]:
        eps = noise.normal(shape)
        return affine(loc, scale, matvec(unit_tril, eps)), _scaled(eps, scale)


def _scaled(eps: Tensor, scale: Value) -> Tensor:
    log_scale = log(scale)
    if not isinstance(log_scale, Tensor):
        return half_squares(eps, eps.new_tensor(log_scale * eps.shape[-1]))
    if log_scale.dim() and log_scale.shape[-1] == eps.shape[-1]:
        return half_squares(eps, log_scale.sum(-1))
    return half_squares(eps, (log_scale.squeeze(-1) if log_scale.dim() else log_scale) * eps.shape[-1])


class LowRankMultivariateNormal:
    """Mean `loc`, covariance factor factorᵀ + diag(diag); factor [..., K, R], diag [..., K]."""

    @staticmethod
    def log_prob(x: Tensor, loc: Value, factor: Tensor, diag: Tensor) -> Tensor:
        # With y = D^-½ (x - loc) and A = D^-½ W, Woodbury gives yᵀ(I + AAᵀ)⁻¹y = min over u of |y - Au|² + |u|²: a sum
        # of squares does not cancel as yᵀy - yᵀA(I + AᵀA)⁻¹Aᵀy does.
        scale = diag.sqrt()
        a, y = factor / scale[..., None], (x - loc) / scale
        tril = capacitance(a)
        u = torch.cholesky_solve(matvec(a.mT, y)[..., None], tril).squeeze(-1)
        rest = y - matvec(a, u)
        squares = torch.linalg.vecdot(rest, rest) + torch.linalg.vecdot(u, u)
        offset = scale.log().sum(-1) + log_diagonal_sum(tril) + LOG_SQRT_2PI * x.shape[-1]
        return torch.add(-offset, squares, alpha=-0.5)

    @staticmethod
    def draw(noise: Noise, shape: Shape, loc: Value, factor: Tensor, diag: Tensor) -> tuple[Tensor, Tensor]:
        # As above with y = A e₁ + e₂. Completing the square leaves |e₁|² + |e₂|² - bᵀ(I + AᵀA)⁻¹b, b = Aᵀe₂ - e₁,
        # whose last term is a sum of R squared standard normals however large A is.
        scale = diag.sqrt()
        a = factor / scale[..., None]
        eps = noise.normal((*shape[:-1], factor.shape[-1]))
        own = noise.normal(shape)
        tril = capacitance(a)
        b = solve_lower(tril, matvec(a.mT, own) - eps)
        squares = torch.linalg.vecdot(own, own) + torch.linalg.vecdot(eps, eps) - torch.linalg.vecdot(b, b)
        offset = scale.log().sum(-1) + log_diagonal_sum(tril) + LOG_SQRT_2PI * shape[-1]
        return matvec(factor, eps) + affine(loc, scale, own), torch.add(-offset, squares, alpha=-0.5)


def capacitance(a: Tensor) -> Tensor:
    """Cholesky factor of I + aᵀa, for a [..., K, R]: [..., R, R]."""
    # always positive definite: without cholesky's check, which on a GPU waits
    tril: Tensor = torch.linalg.cholesky_ex(torch.eye(a.shape[-1], dtype=a.dtype, device=a.device) + a.mT @ a).L
    return tril


class MultivariateStudentT:
    """A StudentT's `df` shared by a vector: normal of factor scale_tril over one chi-square's root."""

    @staticmethod
    def log_prob(x: Tensor, df: Value, loc: Value, scale_tril: Tensor) -> Tensor:
        z = solve_lower(scale_tril, x - loc)
        square: Tensor = torch.linalg.vecdot(z, z)
        dim = x.shape[-1]
        power = (df + float(dim)) / 2.0
        norm = student_log_norm(df, dim) - log_diagonal_sum(scale_tril)
        return norm - (square / df).log1p() * power

    @staticmethod
    def draw(noise: Noise, shape: Shape, df: Value, loc: Value, scale_tril: Tensor) -> tuple[Tensor, Tensor]:
        eps = noise.normal(shape)
        halves = 0.5 / noise.gamma(df / 2.0, shape[:-1])
        dim = shape[-1]
        power = (df + float(dim)) / 2.0
        norm = student_log_norm(df, dim) - log_diagonal_sum(scale_tril)
        x = affine(loc, (df * halves).sqrt()[..., None], matvec(scale_tril, eps))
        return x, norm - power * (torch.linalg.vecdot(eps, eps) * halves).log1p()


class GaussianRandomWalk:
    """x [..., T]: steps Normal(0, scale) from 0, the first included."""

    @staticmethod
    def log_prob(x: Tensor, scale: Value) -> Tensor:
        steps = x.diff(dim=-1, prepend=torch.zeros_like(x[..., :1]))
        return _scaled(standardise(steps, 0.0, _column(scale)), _column(scale))

    @staticmethod
    def draw(noise: Noise, shape: Shape, scale: Value) -> tuple[Tensor, Tensor]:
        eps = noise.normal(shape)
        return eps.cumsum(-1) * _column(scale), _scaled(eps, _column(scale))


def _column(value: Value) -> Value:
    return value[..., None] if isinstance(value, Tensor) else value
