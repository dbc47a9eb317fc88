"""Families on indices (int64), and on vectors that count them. probs, logits: [..., K], K the categories."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from guidedsl.runtime.distributions.mass import log1mexp
from guidedsl.runtime.distributions.special import Value, broadcast_shape, floating, lgamma
from guidedsl.runtime.noise import Noise, Shape


def pick(table: Tensor, index: Tensor) -> Tensor:
    """table [..., K] at index [...], batches broadcast: [...]."""
    index = index.long()
    if table.dim() == 1:
        return table[index]
    rank = max(table.dim() - 1, index.dim())
    rows = (1,) * (rank + 1 - table.dim()) + table.shape[:-1]
    entries = (1,) * (rank - index.dim()) + index.shape
    if all(row == 1 or entry == 1 for row, entry in zip(rows, entries, strict=True)):
        # Every row at every index: the gradient is a table again, where that of a gather has one for each index.
        crossed = table.reshape(-1, table.shape[-1])[:, index.reshape(-1)].reshape(*rows, *entries)
        pairs = [axis for n in range(rank) for axis in (n, rank + n)]
        return crossed.permute(pairs).reshape([row * entry for row, entry in zip(rows, entries, strict=True)])
    shape = broadcast_shape(table.shape[:-1], index)
    picked = table.expand(*shape, table.shape[-1]).gather(-1, index.expand(shape)[..., None])
    return picked.squeeze(-1)


class Categorical:
    """Index k with probability probs[k]."""

    @staticmethod
    def log_prob(x: Tensor, probs: Tensor) -> Tensor:
        return pick(probs, x).log()

    @staticmethod
    def log_table(probs: Tensor) -> Tensor:
        """The log probability of every index, [..., K]. An impossible one has gradient 0."""
        possible = probs > 0
        return torch.where(possible, torch.where(possible, probs, 1.0).log(), -torch.inf)

    @staticmethod
    def draw(noise: Noise, shape: Shape, probs: Tensor) -> tuple[Tensor, Tensor]:
        x = noise.categorical(shape, probs=probs)
        return x, Categorical.log_prob(x, probs)


class CategoricalLogits:
    """Index k with probability softmax(logits)[k]."""

    @staticmethod
    def log_prob(x: Tensor, logits: Tensor) -> Tensor:
        return pick(logits.log_softmax(-1), x)

    @staticmethod
    def log_table(logits: Tensor) -> Tensor:
        """The log probability of every index, [..., K]."""
        return logits.log_softmax(-1)

    @staticmethod
    def draw(noise: Noise, shape: Shape, logits: Tensor) -> tuple[Tensor, Tensor]:
        x = noise.categorical(shape, logits=logits)
        return x, CategoricalLogits.log_prob(x, logits)


class OrderedLogistic:
    """Index of the interval between cutpoints [..., K] that a Logistic(predictor, 1) falls into: 0 … K."""

    @staticmethod
    def log_prob(x: Tensor, predictor: Value, cutpoints: Tensor) -> Tensor:
        return pick(OrderedLogistic.log_table(predictor, cutpoints), x)

    @staticmethod
    def draw(noise: Noise, shape: Shape, predictor: Value, cutpoints: Tensor) -> tuple[Tensor, Tensor]:
        log_probs = OrderedLogistic.log_table(predictor, cutpoints)
        x = noise.categorical(shape, logits=log_probs)
        return x.to(log_probs.dtype), pick(log_probs, x)

    @staticmethod
    def log_table(predictor: Value, cutpoints: Tensor) -> Tensor:
        """The log probability of every index, [..., K + 1].

        By σ(a) - σ(b) = σ(a) σ(-b) (1 - exp(b - a)), which keeps both tails.
        """
        above = cutpoints - (predictor[..., None] if isinstance(predictor, Tensor) else predictor)
        log_below = F.logsigmoid(above)
        gaps = log1mexp(cutpoints.diff(dim=-1))
        return F.pad(log_below, (0, 1)) + F.pad(log_below - above, (1, 0)) + F.pad(gaps, (1, 1))


class OneHotCategorical:
    """One 1 in a vector [..., K] of zeros, at k with probability probs[k]."""

    @staticmethod
    def log_prob(x: Tensor, probs: Tensor) -> Tensor:
        return torch.xlogy(floating(x, probs), probs).sum(-1)

    @staticmethod
    def draw(noise: Noise, shape: Shape, probs: Tensor) -> tuple[Tensor, Tensor]:
        index = noise.categorical(shape[:-1], probs=probs)
        return F.one_hot(index, shape[-1]).to(noise.dtype), Categorical.log_prob(index, probs)


class OneHotCategoricalLogits:
    """One 1 in a vector [..., K] of zeros, at k with probability softmax(logits)[k]."""

    @staticmethod
    def log_prob(x: Tensor, logits: Tensor) -> Tensor:
        return (floating(x, logits) * logits).sum(-1) - logits.logsumexp(-1)

    @staticmethod
    def draw(noise: Noise, shape: Shape, logits: Tensor) -> tuple[Tensor, Tensor]:
        index = noise.categorical(shape[:-1], logits=logits)
        return F.one_hot(index, shape[-1]).to(noise.dtype), CategoricalLogits.log_prob(index, logits)


class Multinomial:
    """Counts [..., K] of `total` independent Categorical(probs) draws."""

    @staticmethod
    def log_prob(x: Tensor, total: Value, probs: Tensor) -> Tensor:
        x = floating(x, probs)
        return lgamma(total + 1.0) - (x + 1.0).lgamma().sum(-1) + torch.xlogy(x, probs).sum(-1)

    @staticmethod
    def draw(noise: Noise, shape: Shape, total: Value, probs: Tensor) -> tuple[Tensor, Tensor]:
        """Each count in turn is binomial given those before it."""
        *batch, size = shape
        fixed = probs.detach()
        left = noise.full(total, batch).detach()
        tails = fixed.flip(-1).cumsum(-1).flip(-1)
        counts = []
        for k in range(size - 1):
            share = (fixed[..., k] / tails[..., k]).clamp(0.0, 1.0)
            counts.append(noise.binomial(left, share, batch))
            left = left - counts[-1]
        x = torch.stack((*counts, left), dim=-1)
        return x, Multinomial.log_prob(x, total, probs)


class MultinomialLogits:
    """Counts [..., K] of `total` independent Categorical(logits) draws."""

    @staticmethod
    def log_prob(x: Tensor, total: Value, logits: Tensor) -> Tensor:
        x = floating(x, logits)
        chosen = (x * logits).sum(-1) - total * logits.logsumexp(-1)
        return lgamma(total + 1.0) - (x + 1.0).lgamma().sum(-1) + chosen

    @staticmethod
    def draw(noise: Noise, shape: Shape, total: Value, logits: Tensor) -> tuple[Tensor, Tensor]:
        x, _ = Multinomial.draw(noise, shape, total, logits.detach().softmax(-1))
        return x, MultinomialLogits.log_prob(x, total, logits)
