"""The only source of randomness of a guide.

Distributions turn the draws of a `Noise` into samples, so that equal noise gives equal samples. A `RecordedNoise` keeps
what was drawn and hands it back, for optimisation on fixed noise and for tests.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Shape = Sequence[int]


def _known(value: Tensor) -> Tensor:
    """0 for NaN, which torch refuses to draw with: the log density is NaN at any draw, and is explained there."""
    return value.nan_to_num(0.0, math.inf, -math.inf)


def _standard_gamma(concentration: Tensor, generator: torch.Generator | None) -> Tensor:
    # Private in torch, as is its derivative below: torch.distributions.Gamma uses both and takes no generator.
    return torch._standard_gamma(concentration, generator)


def _standard_gamma_grad(concentration: Tensor, value: Tensor) -> Tensor:
    return torch._standard_gamma_grad(concentration, value)


class Noise:
    """Random draws from one generator (torch's global one if None), in one dtype, on one device."""

    def __init__(
        self,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.generator = generator
        self.dtype = torch.get_default_dtype() if dtype is None else dtype
        self.device = torch.device(device)
        finfo = torch.finfo(self.dtype)
        self._tiny = float(finfo.tiny)
        self._half_eps = float(finfo.eps) / 2.0

    def get_state(self) -> Tensor:
        """Where the generator is."""
        if self.generator is not None:
            return self.generator.get_state()
        return torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else torch.get_rng_state()

    def set_state(self, state: Tensor) -> None:
        """Puts the generator where it was."""
        if self.generator is not None:
            self.generator.set_state(state)
        elif self.device.type == "cuda":
            torch.cuda.set_rng_state(state, self.device)
        else:
            torch.set_rng_state(state)

    def full(self, value: Tensor | float, shape: Shape | None) -> Tensor:
        """`value` as a tensor of `shape` (its own if None), of this noise's dtype and device."""
        if isinstance(value, Tensor):
            value = value.to(self.dtype)
            return value if shape is None else value.expand(tuple(shape))
        return torch.full(() if shape is None else tuple(shape), float(value), dtype=self.dtype, device=self.device)

    # Draws that everything else is made of; a recording keeps these.

    def fill(self, kind: str, room: Tensor) -> Tensor:
        """Draws of a kind, "normal", "uniform" or "exponential", into a tensor, which is returned."""
        if kind == "normal":
            return room.normal_(generator=self.generator)
        if kind == "exponential":
            return room.exponential_(1.0, generator=self.generator)
        room.uniform_(self._half_eps, 1.0, generator=self.generator)
        # float16 and bfloat16 may round up to 1
        return room if self.dtype.itemsize >= 4 else room.clamp_(max=1.0 - self._half_eps)

    def _room(self, shape: Shape) -> Tensor:
        return torch.empty(tuple(shape), dtype=self.dtype, device=self.device)

    def normal(self, shape: Shape) -> Tensor:
        """Standard normal, `shape`."""
        return self.fill("normal", self._room(shape))

    def uniform(self, shape: Shape) -> Tensor:
        """Uniform on the open interval (0, 1), `shape`; never nearer to an end than half an epsilon."""
        return self.fill("uniform", self._room(shape))

    def exponential(self, shape: Shape) -> Tensor:
        """Standard exponential, `shape`, positive."""
        return self.fill("exponential", self._room(shape))

    def gamma(self, concentration: Tensor | float, shape: Shape | None = None) -> Tensor:
        """Gamma(concentration, 1), `shape` (by default the concentration's), positive.

        The gradient with respect to the concentration is that of implicit reparameterisation (Figurnov et al. 2018).
        """
        return _standard_gamma(self.full(concentration, shape), self.generator).clamp(min=self._tiny)

    def bernoulli(self, probs: Tensor | float, shape: Shape | None = None) -> Tensor:
        """0.0 or 1.0."""
        return torch.bernoulli(_known(self.full(probs, shape).detach()), generator=self.generator)

    def poisson(self, rate: Tensor | float, shape: Shape | None = None) -> Tensor:
        """Poisson counts, floating."""
        return torch.poisson(_known(self.full(rate, shape).detach()), generator=self.generator)

    def binomial(self, total: Tensor | float, probs: Tensor | float, shape: Shape | None = None) -> Tensor:
        """Binomial counts, floating; `total` and `probs` broadcast to `shape`."""
        if shape is None:
            shape = (torch.as_tensor(total) + torch.as_tensor(probs)).shape
        total, probs = self.full(total, shape).detach(), self.full(probs, shape).detach()
        return torch.binomial(total, _known(probs), generator=self.generator)

    def integers(self, high: int, shape: Shape) -> Tensor:
        """Uniform on 0 … high - 1, int64, `shape`."""
        return torch.randint(high, tuple(shape), generator=self.generator, device=self.device)

    def permutation(self, size: int) -> Tensor:
        """A random order of 0 … size - 1, int64 [size]."""
        return torch.randperm(size, generator=self.generator, device=self.device)

    # Made of the above.

    def log_gamma(self, concentration: Tensor | float, shape: Shape | None = None) -> Tensor:
        """Logarithm of a Gamma(concentration, 1) draw, finite where the draw itself would underflow.

        Gamma(a) = Gamma(a + 1) U^(1/a) (Marsaglia and Tsang 2000, section 6).
        """
        a = self.full(concentration, shape)
        return self.gamma(a + 1.0).log() - self.exponential(a.shape) / a

    def dirichlet(self, concentration: Tensor, shape: Shape | None = None) -> Tensor:
        """A point of the open simplex, `shape` (by default the concentration's), from normalised gammas."""
        return self.log_gamma(concentration, shape).softmax(-1).clamp(min=self._tiny)

    def categorical(self, shape: Shape, *, probs: Tensor | None = None, logits: Tensor | None = None) -> Tensor:
        """Indices by the last axis of `probs` or `logits` (need not be normalised), int64, `shape`.

        The largest of probs / exponential noise, the Gumbel-max trick without logarithms.
        """
        weights = logits if probs is None else probs
        if weights is None:
            raise TypeError("categorical needs probs or logits")
        weights = weights.detach()
        noise = self.exponential((*shape, weights.shape[-1]))
        scores = weights - noise.log() if probs is None else weights / noise
        return scores.argmax(-1)

    def distinct_rows(self, size: int, count: int) -> Tensor:
        """`count` distinct rows of 0 … size - 1, each set equally likely, in no particular order: int64 [count]."""
        if count > size:
            raise ValueError(f"cannot draw {count} distinct rows from {size}")
        if 8 * count > size or size < 1024:
            return self.permutation(size)[:count]
        # A permutation costs as much as the plate is long. Given how many distinct values some independent rows have,
        # each set of that many is equally likely, and so is each of its random subsets.
        while True:
            rows: Tensor = torch.unique(self.integers(size, (count + count // 8 + 8,)))
            if rows.shape[0] >= count:
                return rows[self.permutation(rows.shape[0])[:count]]


@dataclass(frozen=True)
class Record:
    """One draw: which method of `Noise` made it, and what."""

    kind: str
    value: Tensor


class RecordedNoise(Noise):
    """A noise that remembers every draw, in order."""

    def __init__(
        self,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(generator, dtype, device)
        self.records: list[Record] = []

    @property
    def normals(self) -> list[Tensor]:
        """The standard-normal draws, in order."""
        return [record.value for record in self.records if record.kind == "normal"]

    @property
    def only_normal(self) -> bool:
        """Whether nothing but normals was drawn."""
        return all(record.kind == "normal" for record in self.records)

    def replay(self, normals: Sequence[Tensor] | None = None) -> ReplayedNoise:
        """A noise that hands back the recorded draws in order, or `normals` (of the same shapes) for its normals."""
        if normals is None:
            return ReplayedNoise(tuple(self.records), self.dtype, self.device)
        recorded = self.normals
        if [n.shape for n in normals] != [n.shape for n in recorded]:
            raise ValueError(
                f"recorded normals of shapes {[tuple(n.shape) for n in recorded]}, "
                f"got {[tuple(n.shape) for n in normals]}"
            )
        replaced = iter(normals)
        records = tuple(Record(r.kind, next(replaced)) if r.kind == "normal" else r for r in self.records)
        return ReplayedNoise(records, self.dtype, self.device)

    def _keep(self, kind: str, value: Tensor) -> Tensor:
        self.records.append(Record(kind, value.detach()))
        return value

    def normal(self, shape: Shape) -> Tensor:
        return self._keep("normal", super().normal(shape))

    def uniform(self, shape: Shape) -> Tensor:
        return self._keep("uniform", super().uniform(shape))

    def exponential(self, shape: Shape) -> Tensor:
        return self._keep("exponential", super().exponential(shape))

    def gamma(self, concentration: Tensor | float, shape: Shape | None = None) -> Tensor:
        return self._keep("gamma", super().gamma(concentration, shape))

    def bernoulli(self, probs: Tensor | float, shape: Shape | None = None) -> Tensor:
        return self._keep("bernoulli", super().bernoulli(probs, shape))

    def poisson(self, rate: Tensor | float, shape: Shape | None = None) -> Tensor:
        return self._keep("poisson", super().poisson(rate, shape))

    def binomial(self, total: Tensor | float, probs: Tensor | float, shape: Shape | None = None) -> Tensor:
        return self._keep("binomial", super().binomial(total, probs, shape))

    def integers(self, high: int, shape: Shape) -> Tensor:
        return self._keep("integers", super().integers(high, shape))

    def permutation(self, size: int) -> Tensor:
        return self._keep("permutation", super().permutation(size))


class ReplayedNoise(Noise):
    """Draws that were recorded, handed back in order; asking for others is an error.

    A replayed gamma draw keeps its gradient with respect to the concentration, taken at the recorded value.
    """

    def __init__(
        self, records: Sequence[Record], dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(None, dtype, device)
        self._records = records
        self._position = 0

    @property
    def exhausted(self) -> bool:
        """Whether every recorded draw was handed back."""
        return self._position == len(self._records)

    def _next(self, kind: str, shape: Shape | None = None) -> Tensor:
        asked = f"{kind}{tuple(shape) if shape is not None else ''}"
        if self.exhausted:
            raise ValueError(f"asked for {asked} after all {self._position} recorded draws")
        record = self._records[self._position]
        if record.kind != kind or (shape is not None and record.value.shape != tuple(shape)):
            raise ValueError(f"asked for {asked}, draw {self._position} is {record.kind}{tuple(record.value.shape)}")
        self._position += 1
        return record.value

    def normal(self, shape: Shape) -> Tensor:
        return self._next("normal", shape)

    def uniform(self, shape: Shape) -> Tensor:
        return self._next("uniform", shape)

    def exponential(self, shape: Shape) -> Tensor:
        return self._next("exponential", shape)

    def gamma(self, concentration: Tensor | float, shape: Shape | None = None) -> Tensor:
        a = self.full(concentration, shape)
        value = self._next("gamma", a.shape)
        if not a.requires_grad:
            return value
        fixed = a.detach()
        return torch.addcmul(value, a - fixed, _standard_gamma_grad(fixed, value))

    def bernoulli(self, probs: Tensor | float, shape: Shape | None = None) -> Tensor:
        return self._next("bernoulli", shape)

    def poisson(self, rate: Tensor | float, shape: Shape | None = None) -> Tensor:
        return self._next("poisson", shape)

    def binomial(self, total: Tensor | float, probs: Tensor | float, shape: Shape | None = None) -> Tensor:
        return self._next("binomial", shape)

    def integers(self, high: int, shape: Shape) -> Tensor:
        return self._next("integers", shape)

    def permutation(self, size: int) -> Tensor:
        return self._next("permutation", (size,))
