"""Normalizing flows over real vectors, from noise to sample: one pass gives a draw and its log density.

The layers are zuko's (https://zuko.readthedocs.io), run in the direction in which they are cheap: the autoregressive
kinds as inverse autoregressive flows (Kingma et al. 2016), so that nothing is inverted. Their weights live in the param
store like any other parameter. A flow starts as the normal that the other automatic guides start from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from guidedsl.runtime import constraints
from guidedsl.runtime.default_store import get_param_store
from guidedsl.runtime.distributions.multivariate import half_squares
from guidedsl.runtime.errors import InferenceError

if TYPE_CHECKING:
    from guidedsl.runtime.data import Data
    from guidedsl.runtime.noise import Noise
    from guidedsl.runtime.params import ParamStore

START_SCALE = 0.1
WEIGHT_LR = 0.005
"""Nets want smaller steps than locations and scales."""

_KINDS = {"spline": "NSF", "affine": "MAF", "coupling": "RealNVP"}


class _Layers(nn.Module):
    """A flow's layers as a module from noise [..., K] to value [..., K] and log-determinant [...]."""

    def __init__(self, kind: str, size: int, transforms: int, hidden: int) -> None:
        super().__init__()
        try:
            flows = import_module("zuko.flows")
        except ImportError:
            raise InferenceError(
                "`auto flow` needs zuko, which is not installed: pip install guidedsl[flows]"
            ) from None
        made = getattr(flows, _KINDS[kind])(
            features=size, transforms=transforms, hidden_features=(hidden, hidden), activation=nn.SiLU
        )
        self.transform: nn.Module = made.transform
        for layer in cast(nn.ModuleList, made.transform.transforms):
            _start_as_identity(layer)

    def forward(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        return cast(tuple[Tensor, Tensor], self.transform().call_and_ladj(noise))


def _start_as_identity(layer: nn.Module) -> None:
    """Zeroes what the layer's transformation is made from: the last layer of its net, or its own parameters."""
    hyper = getattr(layer, "hyper", None)
    for parameter in (layer if hyper is None else hyper[-1]).parameters():
        nn.init.zeros_(parameter)


def _seeded(kind: str, size: int, transforms: int, hidden: int, seed: int) -> _Layers:
    # zuko draws initial weights from torch's global generator, which is left as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _Layers(kind, size, transforms, hidden)


@lru_cache(maxsize=64)
def _structure(kind: str, size: int, transforms: int, hidden: int, dtype: torch.dtype, device: torch.device) -> _Layers:
    """The layers without weights of their own: masks and order, to be called with the store's weights."""
    return _seeded(kind, size, transforms, hidden, 0).to(device, dtype).requires_grad_(False)


@dataclass(frozen=True, eq=False)
class Flow:
    """A flow with its weights: x = loc + scale * layers(noise), over [size]."""

    layers: nn.Module
    weights: Mapping[str, Tensor]
    loc: Tensor
    scale: Tensor

    def draw(self, noise: Noise, particles: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """A draw, [particles..., size], and its log density, [particles...]."""
        eps = noise.normal((*particles, *self.loc.shape))
        moved, log_det = functional_call(self.layers, dict(self.weights), (eps,))
        return self.loc + self.scale * moved, half_squares(eps, log_det + self.scale.log().sum())


def flow(
    name: str, kind: str, size: int, data: Data, store: ParamStore | None, *, transforms: int, hidden: int
) -> Flow:
    """The flow of `kind` over `size` coordinates whose parameters are `name.…` in the store; made on first use.

    `transforms` layers, each with a net of two hidden layers of `hidden` units. Initial weights follow from the data's
    generator. Raises `InferenceError` where zuko is not installed.
    """
    layers = _structure(kind, size, transforms, hidden, data.dtype, data.device)
    found = get_param_store(store)
    initial: dict[str, Tensor] = {}

    def start(local: str) -> Tensor:
        if not initial:
            seed = int(data.noise().integers(2**31, ()))
            initial.update(_seeded(kind, size, transforms, hidden, seed).to(data.device, data.dtype).named_parameters())
        return initial[local]

    def weight(local: str, parameter: Tensor) -> Tensor:
        def init() -> Tensor:
            return start(local)

        return found.param(f"{name}.{local}", init, event_dim=parameter.dim(), lr=WEIGHT_LR)

    loc = found.param(f"{name}.loc", lambda: data.new_full((size,), 0.0), event_dim=1)
    scale = found.param(
        f"{name}.scale", lambda: data.new_full((size,), START_SCALE), constraint=constraints.positive, event_dim=1
    )
    weights = {local: weight(local, parameter) for local, parameter in layers.named_parameters()}
    return Flow(layers, weights, loc, scale)
