"""Factorisations that neither raise nor wait for the device where a matrix has none."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def cholesky(matrix: Tensor) -> Tensor:
    """The lower-triangular factors of matrices [..., K, K]; NaN where one is not positive definite in its precision."""
    result = torch.linalg.cholesky_ex(matrix)
    factor: Tensor = result.L
    failed: Tensor = result.info
    return factor.masked_fill((failed != 0)[..., None, None], math.nan)
