"""Families made of others: their densities from those of their parts.

`log_prob` takes what the parts give instead of their arguments. K components are a tensor [..., K] or a tuple of K
values that broadcast.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from guidedsl.runtime.distributions.special import Value
from guidedsl.runtime.noise import Noise, Shape

Components = Tensor | tuple[Value, ...]


def _along_axis(components: Components, like: Tensor) -> Tensor:
    """[..., K]."""
    if isinstance(components, Tensor):
        return components
    tensors = [c if isinstance(c, Tensor) else like.new_tensor(c) for c in components]
    return torch.stack(torch.broadcast_tensors(*tensors), -1)


def _logsumexp(terms: Tensor) -> Tensor:
    """Over the last axis; -inf, with gradient 0, where all terms are."""
    none = (terms == -math.inf).all(-1)
    return terms.masked_fill(none[..., None], 0.0).logsumexp(-1).masked_fill(none, -math.inf)


def _choose(
    noise: Noise, shape: Shape, components: Components, rank: int, probs: Tensor | None, logits: Tensor | None
) -> Tensor:
    """One of K draws [..., K, event] by a categorical draw of `shape`; without a gradient."""
    index = noise.categorical(shape, probs=probs, logits=logits)
    if isinstance(components, tuple):
        components = torch.stack([torch.as_tensor(c) for c in components], -1 - rank)
    spread = index.reshape(*index.shape, 1, *(1,) * rank)
    at = len(index.shape)
    spread = spread.expand(*index.shape, 1, *components.shape[at + 1 :])
    return components.detach().gather(at, spread).squeeze(at)


class Mixture:
    """Component k with probability weights[k]."""

    @staticmethod
    def log_prob(components: Components, weights: Tensor) -> Tensor:
        """log Σ weights exp(components), of log densities or of log probabilities: [...]."""
        given = weights > 0.0
        log_weights = torch.where(given, torch.where(given, weights, 1.0).log(), -math.inf)
        return _logsumexp(log_weights + _along_axis(components, weights))

    @staticmethod
    def sample(noise: Noise, shape: Shape, components: Components, weights: Tensor, rank: int = 0) -> Tensor:
        """One of the components' draws, each of `rank` event dims; without a gradient."""
        return _choose(noise, shape, components, rank, weights, None)


class MixtureLogits:
    """Component k with probability softmax(logits)[k]."""

    @staticmethod
    def log_prob(components: Components, logits: Tensor) -> Tensor:
        """log Σ softmax(logits) exp(components), of log densities or of log probabilities: [...]."""
        return _logsumexp(logits.log_softmax(-1) + _along_axis(components, logits))

    @staticmethod
    def sample(noise: Noise, shape: Shape, components: Components, logits: Tensor, rank: int = 0) -> Tensor:
        """One of the components' draws, each of `rank` event dims; without a gradient."""
        return _choose(noise, shape, components, rank, None, logits)


class ZeroInflated:
    """0 with probability `gate`, else a draw of a law on counts."""

    @staticmethod
    def log_prob(x: Tensor, gate: Value, base: Tensor) -> Tensor:
        """`base` is the other law's log density at x."""
        gate = gate if isinstance(gate, Tensor) else base.new_tensor(gate)
        other = torch.log1p(-gate) + base
        return torch.where(x == 0, torch.logaddexp(gate.log(), other), other)

    @staticmethod
    def log_mass(low: Value, high: Value, gate: Value, base: Value) -> Tensor:
        """`base` is the other law's log P(low <= x <= high)."""
        like = next((v for v in (base, gate, low, high) if isinstance(v, Tensor)), torch.zeros((), dtype=torch.float64))
        gate, base = (v if isinstance(v, Tensor) else like.new_tensor(v) for v in (gate, base))
        low, high = (v if isinstance(v, Tensor) else like.new_tensor(v) for v in (low, high))
        return ZeroInflated.log_prob(((low > 0) | (high < 0)).to(base.dtype), gate, base)

    @staticmethod
    def sample(noise: Noise, shape: Shape, base: Tensor, gate: Value) -> Tensor:
        """`base` is the other law's draw."""
        return base.detach() * noise.bernoulli(1.0 - gate, shape)


class Truncated:
    """A law given that it lies between `low` and `high`."""

    @staticmethod
    def log_prob(x: Tensor, low: Value, high: Value, density: Tensor) -> Tensor:
        """`density`, which is normalised, where low <= x <= high, else -inf."""
        inside = (x >= low) & (x <= high)
        return torch.where(inside, density, -math.inf)

    @staticmethod
    def sample(
        noise: Noise,
        shape: Shape,
        log_below: Callable[[Tensor], Value],
        log_total: Value,
        low: Value,
        high: Value,
        whole: bool = False,
    ) -> Tensor:
        """The inverse of the distribution function at uniform noise; without a gradient.

        `log_below(x)` is log P(low <= X <= x) of the law that is truncated, `log_total` that up to `high`, `whole` that
        X is a whole number.
        """
        with torch.no_grad():
            u = noise.uniform(shape).double()
            log_p = u.log() + torch.as_tensor(log_total, dtype=u.dtype, device=u.device)
            return inverse(log_p, log_below, low, high, noise.dtype, whole)


@torch.no_grad()
def inverse(
    log_p: Tensor,
    log_below: Callable[[Tensor], Value],
    low: Value,
    high: Value,
    dtype: torch.dtype,
    whole: bool = False,
) -> Tensor:
    """The least x between `low` and `high` where `log_below(x)` reaches `log_p`, in float64; shaped like `log_p`.

    `whole` says that x is a whole number. Found by halving on a scale of sinh, on which every magnitude has its share.
    """
    first, last = (
        torch.as_tensor(end, dtype=log_p.dtype, device=log_p.device).expand(log_p.shape) for end in (low, high)
    )
    farthest = _FARTHEST_WHOLE if whole else _FARTHEST
    margin = 0.5 if whole else 0.0  # so that rounding takes no whole number to its neighbour
    left = (first - margin).asinh().clamp(-farthest, farthest)
    right = (last + margin).asinh().clamp(-farthest, farthest)
    for _ in range(_HALVINGS):
        if whole and bool((right.sinh().floor() - left.sinh().floor() <= 1.0).all()):
            break
        middle = 0.5 * (left + right)
        x = middle.sinh().floor() if whole else middle.sinh()
        mass = log_below(x.clamp(first, last).to(dtype))
        reached = (x >= first) & (torch.as_tensor(mass, dtype=log_p.dtype, device=log_p.device) >= log_p)
        left, right = torch.where(reached, left, middle), torch.where(reached, middle, right)
    x = right.sinh().floor() if whole else right.sinh()
    return x.clamp(first, last).to(dtype)


_HALVINGS = 64
_FARTHEST = 80.0
"""sinh of this is 3e34, within the range of every floating type but the half ones."""
_FARTHEST_WHOLE = 36.0
"""sinh of this is 2e15: whole numbers beyond are not told apart."""
