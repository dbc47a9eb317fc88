"""Small functions that a generated Pyro module holds copies of, where it calls them. Nothing imports this file."""

from __future__ import annotations

from collections.abc import Callable

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from guidedsl.runtime.functions import gather


def indicator(condition: Tensor | bool) -> Tensor:
    """A comparison as 0 and 1."""
    return torch.as_tensor(condition).to(torch.get_default_dtype())


def mixture(weights: dist.TorchDistribution, law: dist.TorchDistribution) -> dist.MixtureSameFamily:
    """A mixture whose weights have batch axes that its components lack: Pyro goes by those of the components."""
    batch = torch.broadcast_shapes(weights.batch_shape, law.batch_shape[:-1])
    return dist.MixtureSameFamily(weights.expand(batch), law.expand((*batch, law.batch_shape[-1])))


def one_axis(x: Tensor, rank: int, indices: tuple[Tensor | int, ...]) -> tuple[Tensor, Tensor]:
    """The axes that `indices` point into as one, and the positions along it."""
    split = x.ndim - rank - len(indices)
    position: Tensor | int = 0
    for size, index in zip(x.shape[split : split + len(indices)], indices, strict=True):
        position = position * size + index
    return x.flatten(split, split + len(indices) - 1), torch.as_tensor(position).long()


def take(x: Tensor, rank: int, *indices: Tensor | int) -> Tensor:
    """`x` [batch..., n..., event...] at rows `indices` [plates...], one for each n: [batch..., plates..., event...].

    `rank` counts the event axes. The batch axes of `x` that stand where those of the indices do have size 1, unless
    that is the size of the indices' own.
    """
    x, index = one_axis(x, rank, indices)
    while index.ndim and len(index) == 1:
        index = index[0]
    split = x.ndim - rank - 1
    kept, event = x.shape[: max(0, split - index.ndim)], x.shape[split + 1 :]
    return x.index_select(split, index.reshape(-1)).reshape(*kept, *index.shape, *event)


def gather_rows(x: Tensor, rank: int, *indices: Tensor | int) -> Tensor:
    """As `take`, where batch axes of `x` and axes of the indices stand in one place."""
    return gather(*one_axis(x, rank, indices), rank)


def into_plate(x: Tensor, axis: int, slot: int, rank: int) -> Tensor:
    """The event axis `axis` of `x`, which has `rank` of them, as the axis of the plate with dim -`slot`."""
    while x.ndim < rank + slot:
        x = x.unsqueeze(0)
    return x.transpose(-rank - slot, axis).squeeze(axis)


def checked(value: Tensor, constraint: torch.distributions.constraints.Constraint, name: str) -> Tensor:
    """`value`, which is declared to lie in `constraint`; a ValueError where it does not."""
    if not bool(constraint.check(value).all()):
        raise ValueError(f"`{name}` does not lie in {constraint}")
    return value


def push_positive_ordered(free: Tensor) -> tuple[Tensor, Tensor]:
    """An increasing vector of positive numbers from log differences [..., K], and its log-determinant."""
    return free.exp().cumsum(-1), free.sum(-1)


def push_zero_sum(free: Tensor) -> tuple[Tensor, Tensor]:
    """K numbers with sum 0 from K - 1 coordinates in the Helmert basis, an isometry."""
    size = free.shape[-1] + 1
    n = torch.arange(1, size, dtype=free.dtype, device=free.device)
    scaled = free / (n * (n + 1)).sqrt()
    later = scaled.flip(-1).cumsum(-1).flip(-1)
    first = torch.cat((later, torch.zeros_like(later[..., :1])), -1)
    last = torch.cat((torch.zeros_like(later[..., :1]), n * scaled), -1)
    return first - last, torch.zeros_like(free.sum(-1))


def triangle(entries: Tensor, diagonal: bool) -> Tensor:
    """A lower triangle from its entries, row by row, with or without the diagonal."""
    count = entries.shape[-1]
    size = int(((8 * count + 1) ** 0.5 + (-1 if diagonal else 1)) / 2 + 0.5)
    rows, columns = torch.tril_indices(size, size, 0 if diagonal else -1, device=entries.device)
    flat = entries.new_zeros((*entries.shape[:-1], size * size))
    return flat.index_copy(-1, rows * size + columns, entries).reshape(*entries.shape[:-1], size, size)


def push_lower_cholesky(free: Tensor) -> tuple[Tensor, Tensor]:
    """A triangle with a positive diagonal from its entries [..., K (K + 1) / 2], the diagonal's by their logs."""
    raw = triangle(free, True)
    logs = raw.diagonal(dim1=-2, dim2=-1)
    return raw.tril(-1) + torch.diag_embed(logs.exp()), logs.sum(-1)


def push_unit_lower_cholesky(free: Tensor) -> tuple[Tensor, Tensor]:
    """A triangle with ones on its diagonal from the entries below it."""
    below = triangle(free, False)
    return below + torch.eye(below.shape[-1], dtype=free.dtype), torch.zeros_like(free[..., :1].sum(-1))


def push_cov(free: Tensor) -> tuple[Tensor, Tensor]:
    """A positive definite matrix L Lᵀ from the coordinates of L, as `push_lower_cholesky` reads them."""
    factor, _ = push_lower_cholesky(free)
    logs = factor.diagonal(dim1=-2, dim2=-1).log()
    size = factor.shape[-1]
    powers = torch.arange(size + 1, 1, -1, dtype=free.dtype, device=free.device)
    return factor @ factor.mT, (powers * logs).sum(-1) + size * 0.6931471805599453


def push_corr_cholesky(free: Tensor) -> tuple[Tensor, Tensor]:
    """The cholesky factor of a correlation matrix from atanh of its partial correlations (LKJ 2009)."""
    partial = triangle(free.tanh(), False)
    log_rest = triangle(torch.log1p(-free.tanh().square()) / 2, False)
    log_left = log_rest.cumsum(-1).roll(1, -1)
    log_left = torch.cat((torch.zeros_like(log_left[..., :1]), log_left[..., 1:]), -1)
    factor = (partial + torch.eye(partial.shape[-1], dtype=free.dtype)) * log_left.exp()
    log_det = 2 * log_rest.sum((-2, -1)) + log_left.tril(-1).sum((-2, -1))
    return factor, log_det


def push_corr(free: Tensor) -> tuple[Tensor, Tensor]:
    """A correlation matrix L Lᵀ from the coordinates of L, as `push_corr_cholesky` reads them."""
    factor, log_det = push_corr_cholesky(free)
    logs = factor.diagonal(dim1=-2, dim2=-1).log()
    powers = torch.arange(factor.shape[-1] - 1, -1, -1, dtype=free.dtype, device=free.device)
    return factor @ factor.mT, log_det + (powers * logs).sum(-1)


def push(transform: torch.distributions.Transform, free: Tensor) -> tuple[Tensor, Tensor]:
    """The value of coordinates under a bijection, and its log-determinant; its bounds may have more batch axes."""
    value = transform(free)
    if not transform.domain.event_dim:
        free = free.expand_as(value)
    return value, transform.log_abs_det_jacobian(free, value)


NETS: dict[str, nn.Module] = {}


def net(name: str, make: Callable[[], nn.Module]) -> nn.Module:
    """A net, made on first use, its weights in Pyro's param store under `name`."""
    if name not in NETS:
        NETS[name] = make()
    made: nn.Module = pyro.module(name, NETS[name])
    return made
