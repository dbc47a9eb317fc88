"""Matrix types: triangles, correlation and covariance matrices."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from guidedsl.runtime.constraint_base import (
    EXP_LIMITS,
    Structured,
    log_sigmoid_slope,
    tolerance,
)
from guidedsl.runtime.errors import ParamError
from guidedsl.runtime.factors import cholesky


class _Triangular(Structured):
    """A matrix type whose free coordinates are a lower triangle, row by row, with or without the diagonal."""

    event_dim = 2
    _diagonal: ClassVar[bool] = True

    def _free_size(self, size: int) -> int:
        return size * (size + 1) // 2 if self._diagonal else size * (size - 1) // 2

    def _places(self, free: Tensor) -> tuple[int, Tensor, Tensor]:
        """K, and row and column of each free coordinate."""
        count = free.shape[-1] if free.dim() else -1
        root = math.isqrt(8 * count + 1) if count >= 0 else 0
        size = (root - 1) // 2 if self._diagonal else (root + 1) // 2
        if size < 1 or self._free_size(size) != count:
            raise ParamError(f"{self}: no square matrix has {count} unconstrained coordinates.")
        rows, columns = torch.tril_indices(size, size, 0 if self._diagonal else -1, device=free.device)
        return size, rows, columns

    def _packed(self, matrix: Tensor) -> tuple[Tensor, Tensor]:
        """The entries of the triangle, row by row, and which of them are on the diagonal."""
        size = matrix.shape[-1]
        rows, columns = torch.tril_indices(size, size, 0 if self._diagonal else -1, device=matrix.device)
        return matrix[..., rows, columns], rows == columns


def _matrix(entries: Tensor, size: int, rows: Tensor, columns: Tensor) -> Tensor:
    """A size x size matrix with `entries` at (rows, columns) and 0 elsewhere."""
    flat = entries.new_zeros((*entries.shape[:-1], size * size))
    filled = flat.index_copy(-1, rows * size + columns, entries)
    return filled.reshape(*entries.shape[:-1], size, size)


class LowerCholesky(_Triangular):
    """Lower triangular with a positive diagonal; the diagonal is stored by its log."""

    name = notation = "lower_cholesky"
    meaning = "finite and lower triangular, with a diagonal greater than 0"
    transforms = ("log_diagonal",)

    def check(self, value: Tensor) -> Tensor:
        self._event_shape(value.shape)
        return _is_lower(value) & (value.diagonal(dim1=-2, dim2=-1) > 0).all(-1)

    def push(self, free: Tensor) -> tuple[Tensor, Tensor]:
        size, rows, columns = self._places(free)
        logs = free.clamp(*EXP_LIMITS[free.dtype])
        on_diagonal = rows == columns
        entries = torch.where(on_diagonal, logs.exp(), free)
        return _matrix(entries, size, rows, columns), (logs * on_diagonal).sum(-1)

    def free(self, value: Tensor) -> Tensor:
        entries, on_diagonal = self._packed(value)
        return torch.where(on_diagonal, entries.where(on_diagonal, 1.0).log(), entries)


class UnitLowerCholesky(_Triangular):
    """Lower triangular with diagonal 1; the rest is stored as it is."""

    name = notation = "unit_lower_cholesky"
    meaning = "finite and lower triangular, with diagonal 1"
    transforms = ("identity",)
    _diagonal = False

    def check(self, value: Tensor) -> Tensor:
        self._event_shape(value.shape)
        return _is_lower(value) & (value.diagonal(dim1=-2, dim2=-1) == 1).all(-1)

    def push(self, free: Tensor) -> tuple[Tensor, Tensor]:
        size, rows, columns = self._places(free)
        eye = torch.eye(size, dtype=free.dtype, device=free.device)
        return _matrix(free, size, rows, columns) + eye, free.new_zeros(free.shape[:-1])

    def free(self, value: Tensor) -> Tensor:
        return self._packed(value)[0]


class CorrCholesky(_Triangular):
    """Cholesky factor of a correlation matrix, from partial correlations tanh(free) (LKJ 2009, as Stan)."""

    name = notation = "corr_cholesky"
    meaning = "lower triangular, with rows of norm 1 and a diagonal greater than 0"
    transforms = ("tanh",)
    _diagonal = False

    def check(self, value: Tensor) -> Tensor:
        self._event_shape(value.shape)
        norms = (value.square().sum(-1) - 1).abs() <= tolerance(value.dtype)
        return _is_lower(value) & norms.all(-1) & (value.diagonal(dim1=-2, dim2=-1) > 0).all(-1)

    def push(self, free: Tensor) -> tuple[Tensor, Tensor]:
        factor, _, log_det = self._factor(free)
        return factor, log_det

    def free(self, value: Tensor) -> Tensor:
        # tanh(t) = L / (norm of the row from here on) is sinh(t) = L / (norm of the row after), without cancellation.
        squares = value.square().flip(-1).cumsum(-1).flip(-1)
        after = functional.pad(squares[..., 1:], (0, 1))
        entries, _ = self._packed(value)
        return torch.asinh(entries / self._packed(after)[0].sqrt())

    def _factor(self, free: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The factor, the log of its diagonal, and log |det| to the strictly lower entries."""
        size, rows, columns = self._places(free)
        # log sqrt(1 - tanh(t)^2), which stays finite where tanh rounds to 1.
        log_rest = log_sigmoid_slope(2 * free) / 2 + math.log(2)
        taken = _matrix(log_rest, size, rows, columns).cumsum(-1)[..., :-1]
        log_left = functional.pad(taken, (1, 0))
        partial = _matrix(free.tanh(), size, rows, columns) + torch.eye(size, dtype=free.dtype, device=free.device)
        factor = partial * log_left.clamp_min(EXP_LIMITS[free.dtype][0]).exp()
        log_det = 2 * log_rest.sum(-1) + log_left.tril(-1).sum((-2, -1))
        return factor, log_left.diagonal(dim1=-2, dim2=-1), log_det


class Corr(CorrCholesky):
    """Correlation matrix L L^T, with L as in `corr_cholesky`; log_det to the strictly lower half."""

    name = notation = "corr"
    meaning = "symmetric and positive definite, with diagonal 1"

    def check(self, value: Tensor) -> Tensor:
        self._event_shape(value.shape)
        unit_diagonal = (value.diagonal(dim1=-2, dim2=-1) - 1).abs() <= tolerance(value.dtype)
        return unit_diagonal.all(-1) & _is_positive_definite(value)

    def push(self, free: Tensor) -> tuple[Tensor, Tensor]:
        factor, log_diagonal, log_det = self._factor(free)
        size = factor.shape[-1]
        powers = torch.arange(size - 1, -1, -1, dtype=free.dtype, device=free.device)
        return factor @ factor.mT, log_det + (powers * log_diagonal).sum(-1)

    def free(self, value: Tensor) -> Tensor:
        return super().free(cholesky(value))


class Cov(_Triangular):
    """Positive definite matrix L L^T, with L as in `lower_cholesky`; log_det to the lower half with diagonal."""

    name = notation = "cov"
    meaning = "symmetric and positive definite"
    transforms = ("log_diagonal",)

    def check(self, value: Tensor) -> Tensor:
        self._event_shape(value.shape)
        return _is_positive_definite(value)

    def push(self, free: Tensor) -> tuple[Tensor, Tensor]:
        size, rows, columns = self._places(free)
        low, high = EXP_LIMITS[free.dtype]
        # Half the range, for the squares on the diagonal of L L^T.
        logs = free.clamp(low / 2 + 1, high / 2 - 1)
        on_diagonal = rows == columns
        factor = _matrix(torch.where(on_diagonal, logs.exp(), free), size, rows, columns)
        # d vech(L L^T) / d vech(L) has determinant 2^K prod_i L_ii^(K - i), rows from 0; one more power for the log.
        log_det = (logs * on_diagonal * (size + 1 - rows)).sum(-1) + size * math.log(2)
        return factor @ factor.mT, log_det

    def free(self, value: Tensor) -> Tensor:
        entries, on_diagonal = self._packed(cholesky(value))
        return torch.where(on_diagonal, entries.where(on_diagonal, 1.0).log(), entries)


def _is_lower(value: Tensor) -> Tensor:
    return value.isfinite().all(-1).all(-1) & (value.triu(1) == 0).all(-1).all(-1)


def _is_positive_definite(value: Tensor) -> Tensor:
    """Symmetric and positive definite up to rounding: judged after scaling the diagonal to 1."""
    value = value if value.is_floating_point() else value.to(torch.get_default_dtype())
    diagonal = value.diagonal(dim1=-2, dim2=-1)
    usable = value.isfinite().all(-1).all(-1) & (diagonal > 0).all(-1)
    eye = torch.eye(value.shape[-1], dtype=value.dtype, device=value.device)
    safe = torch.where(usable[..., None, None], value, eye)
    deviation = safe.diagonal(dim1=-2, dim2=-1).sqrt()
    scaled = safe / deviation[..., None] / deviation[..., None, :]
    allowed = tolerance(value.dtype)
    symmetric = ((scaled - scaled.mT).abs() <= allowed).all(-1).all(-1)
    eigenvalues: Tensor = torch.linalg.eigvalsh(scaled)
    return usable & symmetric & (eigenvalues[..., 0] >= -allowed)
