"""The ELBO on noise drawn once: a deterministic function of the parameters (Giordano, Ingram and Broderick 2023).

The draws are matched to the moments of a standard normal, under which the expectation of a quadratic is exact: where
the posterior is Gaussian, so is the optimum. They are quasi-random, which in few dimensions takes a tenth of the draws
for the same error (Buchholz, Wenzel and Mandt 2018).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from guidedsl.runtime.elbo import gradients_of
from guidedsl.runtime.engine.evaluate import computing_at, filled, is_generated, replayed, tensors_of
from guidedsl.runtime.engine.replay.step import Replay
from guidedsl.runtime.errors import InferenceError
from guidedsl.runtime.functions import checks_deferred
from guidedsl.runtime.model import Draw, Guide, drawn
from guidedsl.runtime.noise import Noise, RecordedNoise, Shape

if TYPE_CHECKING:
    from guidedsl.runtime.params import ParamStore


class FixedNormals(Noise):
    """Hands out given normal draws, in order; any other kind of draw is an error."""

    def __init__(self, normals: Sequence[Tensor], dtype: torch.dtype, device: torch.device) -> None:
        super().__init__(None, dtype, device)
        self._waiting = iter(normals)

    def normal(self, shape: Shape) -> Tensor:
        found = next(self._waiting, None)
        if found is None or tuple(found.shape) != tuple(shape):
            raise InferenceError(
                f"the guide drew normals of shape {list(shape)} where it drew others before: a guide that changes its "
                "draws from step to step cannot be optimised on fixed noise; pass steps=…"
            )
        return found


@dataclass(frozen=True)
class NoiseShape:
    """What one pass of a guide draws, if that is normals alone: the shapes without the particle axis."""

    shapes: tuple[tuple[int, ...], ...]

    @property
    def coordinates(self) -> int:
        """How many normals a particle takes."""
        return sum(math.prod(shape) for shape in self.shapes)

    def split(self, normals: Tensor) -> list[Tensor]:
        """[particles, coordinates] as the guide's draws: [particles, *shape] each."""
        parts = normals.split([math.prod(shape) for shape in self.shapes], dim=1)
        return [part.reshape(-1, *shape) for part, shape in zip(parts, self.shapes, strict=True)]


def noise_shape(guide: Guide, data: Any, store: ParamStore, generator: torch.Generator) -> NoiseShape | str:
    """What a pass of the guide draws, or why it cannot run on fixed normals. Creates the guide's parameters."""
    noise = RecordedNoise(generator, data.dtype, data.device)
    with torch.no_grad():
        draw = guide(data, particles=(2,), store=store, noise=noise)
    if draw.score is not None:
        return "a site has no pathwise gradient"
    if not noise.only_normal:
        return "it draws more than normals"
    shapes = [tuple(normal.shape) for normal in noise.normals]
    if any(shape[:1] != (2,) for shape in shapes):
        return "particles share draws"
    return NoiseShape(tuple(shape[1:] for shape in shapes))


OTHER_PARAMETERS = 100
"""Parameters of a model, and coefficients in a written guide, beside those of a normal over its coordinates."""


def more_than_a_normal(parameters: int, coordinates: int) -> bool:
    """Whether a guide has more parameters than a normal of whatever covariance: those of nets and flows."""
    return parameters > coordinates * (coordinates + 3) + OTHER_PARAMETERS


MOST_QUASI_RANDOM = 1000
"""Coordinates beyond which quasi-random draws are no better than random ones, and slow to set up."""


def _normals(count: int, coordinates: int, generator: torch.Generator) -> Tensor:
    """Standard normals [count, coordinates] in double precision: a scrambled Sobol sequence (Owen 1998) if not many."""
    if not 0 < coordinates <= MOST_QUASI_RANDOM:
        return torch.randn((count, coordinates), generator=generator, dtype=torch.float64, device=generator.device)
    seed = int(torch.randint(2**31, (), generator=generator, device=generator.device))
    points = torch.quasirandom.SobolEngine(coordinates, scramble=True, seed=seed).draw(count, dtype=torch.float64)
    # A point at the edge of the cube would be infinite; one cell of the sequence has this width.
    normals: Tensor = torch.special.ndtri(points.clamp(2.0**-31, 1 - 2.0**-31))
    return normals.to(generator.device)


def matched_normals(particles: int, coordinates: int, generator: torch.Generator, like: Tensor) -> Tensor:
    """Antithetic standard normals, [particles, coordinates], with the first two moments of the distribution.

    Mean zero always. Where there are at least as many pairs as coordinates, the covariance is the identity; else each
    coordinate has variance one. `particles` is rounded up to an even number.
    """
    pairs = (particles + 1) // 2
    half = _normals(pairs, coordinates, generator)
    if pairs >= coordinates > 0:
        values, vectors = torch.linalg.eigh(half.T @ half / pairs)
        half = half @ (vectors * values.clamp_min(1e-12).rsqrt()) @ vectors.T
    else:
        half = half / half.square().mean(0).sqrt()
    return torch.cat([half, -half]).to(like.device, like.dtype)


class FlatParameters:
    """The leaves of a store that are optimised, as one vector [n]."""

    def __init__(self, leaves: Sequence[Tensor]) -> None:
        self.leaves = list(leaves)
        self._sizes = [leaf.numel() for leaf in self.leaves]
        self._pointers: list[int] = []
        self._looks: list[Tensor] = []

    def __len__(self) -> int:
        return sum(self._sizes)

    def _own(self) -> list[Tensor]:
        """The leaves without gradients, as vectors where they lie like that. Kept: looking at hundreds takes time."""
        pointers = [leaf.data_ptr() for leaf in self.leaves]
        if pointers != self._pointers:
            plain = [leaf.detach() for leaf in self.leaves]
            self._looks = [one.view(-1) if one.is_contiguous() else one for one in plain]
            self._pointers = pointers
        return self._looks

    def read(self) -> Tensor:
        """A copy of the leaves."""
        return torch.cat([one if one.dim() == 1 else one.reshape(-1) for one in self._own()])

    def write(self, x: Tensor) -> None:
        """Sets the leaves, in place."""
        own = self._own()
        parts = zip(x.split(self._sizes), own, strict=True)
        torch._foreach_copy_(own, [part if one.dim() == 1 else part.view(one.shape) for part, one in parts])

    def flatten(self, gradients: Sequence[Tensor | None]) -> Tensor:
        """Gradients of the leaves as one vector; None is zero."""
        return torch.cat(
            [
                torch.zeros_like(leaf).reshape(-1) if gradient is None else gradient.reshape(-1)
                for leaf, gradient in zip(self.leaves, gradients, strict=True)
            ]
        )


Replays = dict[tuple[int, int], Replay | None]
"""By the particles of a pass, and of the loss that it is part of."""


class FixedNoiseLoss:
    """−ELBO of a guide on given normals [particles, coordinates], as a function of the flat parameters.

    Evaluated `chunk` particles at a time. A value that is not finite, or a factorisation that fails, is +inf. The
    operators of generated code are recorded at the first evaluation and replayed at the others; `replays` keeps them,
    for other losses of as many particles too.
    """

    def __init__(
        self,
        guide: Guide,
        data: Any,
        store: ParamStore,
        flat: FlatParameters,
        shape: NoiseShape,
        normals: Tensor,
        chunk: int,
        replays: Replays | None = None,
    ) -> None:
        self.guide, self.data, self.store, self.flat = guide, data, store, flat
        self.particles = normals.shape[0]
        self._chunks = [shape.split(part) for part in normals.split(chunk)]
        self._replays: Replays = {} if replays is None else replays

    def _draw(
        self, normals: Sequence[Tensor], data: Any = None, store: ParamStore | None = None
    ) -> tuple[Tensor, Draw[Any]]:
        data, store = self.data if data is None else data, self.store if store is None else store
        noise = FixedNormals(normals, data.dtype, data.device)
        draw = self.guide(data, particles=(normals[0].shape[0],), store=store, noise=noise)
        return self.guide.model(data, draw.latents, store=store), draw

    def draw_first(self) -> tuple[Tensor, Draw[Any]]:
        """log p and the draw on the first chunk of normals, at the parameters as they are."""
        return self._draw(self._chunks[0])

    def __call__(self, x: Tensor) -> tuple[float, Tensor]:
        """Value and gradient [n] at the parameters x [n]."""
        self.flat.write(x)
        value, gradient = 0.0, torch.zeros_like(x)
        try:
            for normals in self._chunks:
                part, slopes = self._at(normals)
                value += part.item()
                if not math.isfinite(value):
                    return math.inf, gradient
                gradient += slopes
        except InferenceError:
            # A factorisation that fails far out on a search line. The line search turns back from there; a mistake that
            # is there from the start surfaces in the plain evaluation that every fit begins with.
            return math.inf, gradient
        return value, gradient

    def _at(self, normals: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The share of these normals in the value and the gradient, at the parameters as they are."""
        x, particles = self.store.packed(), normals[0].shape[0]
        if x is not None and is_generated(self.guide.model, self.guide):
            own = [*tensors_of(self.data).values(), *self.store.frozen().values()]
            fields, key = [*normals, *own], (particles, self.particles)
            replay = self._replays.get(key)
            if key not in self._replays or (replay is not None and replay.x is not x):
                for other in [one for one in self._replays if one[1] != self.particles]:
                    del self._replays[other]  # a fit goes on to ever more particles
                replay = replayed(self.guide, self.store, _Step(self, len(normals)), x, (), (), fields)
                self._replays[key] = replay
            if replay is not None:
                with torch.no_grad():
                    return replay((), fields), replay.gradient
        loss = self._loss(*self._draw(normals))
        return loss.detach(), self.flat.flatten(gradients_of(loss, self.flat.leaves))

    def _loss(self, log_p: Tensor, draw: Draw[Any]) -> Tensor:
        # In double precision, for a line search compares sums that differ in their last digits.
        return (draw.log_q - log_p).sum(dtype=torch.float64) / self.particles

    def at(
        self, leaves: Sequence[Tensor], normals: Sequence[Tensor], fields: Sequence[Tensor]
    ) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        """The same elsewhere, on other data: the value, and the gradient at each leaf."""
        names = list(tensors_of(self.data))
        data = self.data.with_fields(dict(zip(names, fields, strict=False)))
        frozen = fields[len(names) :]
        with torch.enable_grad(), checks_deferred(), computing_at(self.store, leaves, frozen) as (store, own):
            loss = self._loss(*self._draw(normals, data, store))
            return loss.detach(), gradients_of(loss, own)


class _Step:
    """A share of a loss on fixed noise as a function of (leaves..., normals..., fields...)."""

    def __init__(self, loss: FixedNoiseLoss, normals: int) -> None:
        self.loss, self.leaves, self.normals = loss, len(loss.flat.leaves), normals
        self.unused: list[bool] = []

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        leaves, rest = inputs[: self.leaves], inputs[self.leaves :]
        value, gradients = self.loss.at(leaves, rest[: self.normals], rest[self.normals :])
        self.unused = [gradient is None for gradient in gradients]
        return value, *filled(gradients, leaves)


def mode_search_mask(loss: FixedNoiseLoss, x: Tensor, generator: torch.Generator) -> Tensor:
    """1.0 for the parameters [n] that move the latents at zero noise (locations), 0.0 for the others (scales).

    Found as the gradient of a random projection of the latents.
    """
    loss.flat.write(x)
    _, draw = loss._draw([torch.zeros_like(normal[:1]) for normal in loss._chunks[0]])
    total = torch.zeros((), dtype=x.dtype, device=x.device)
    for latent in drawn(draw.latents):
        if latent.is_floating_point():
            weights = torch.rand(latent.shape, generator=generator, dtype=torch.float64, device=generator.device) + 0.5
            total = total + (latent * weights.to(latent.device, latent.dtype)).sum()
    if not total.requires_grad:
        return torch.zeros_like(x)
    gradient = loss.flat.flatten(torch.autograd.grad(total, loss.flat.leaves, allow_unused=True))
    return (gradient != 0).to(x.dtype)
