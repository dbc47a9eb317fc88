"""Log q of draws with the parameters held: the gradient that sticking the landing takes.

A guide runs twice. The first time its draws are kept; the second time, with no parameter requiring a gradient, each
family scores the draw that it made, at arguments that follow from the other draws. What is left of the gradient of
log q is what goes through the draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from guidedsl.runtime.errors import InferenceError
from guidedsl.runtime.scripted import DrawFunction, Scripted

if TYPE_CHECKING:
    from guidedsl.runtime.model import Draw
    from guidedsl.runtime.noise import Noise
    from guidedsl.runtime.params import ParamStore


class _Keeping(Scripted):
    """Families draw from its noise, and it keeps what they drew."""

    def __init__(self, noise: Noise) -> None:
        self.noise = noise
        self.dtype, self.device = noise.dtype, noise.device
        self.kept: list[Tensor] = []

    def draw(self, family: Any, draw: DrawFunction, args: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
        """What the family draws."""
        value, log_q = draw(self.noise, *args)
        self.kept.append(value)
        return value, log_q

    def __getattr__(self, name: str) -> Any:
        raise InferenceError(
            f"ELBO(stl=True) needs draws that can be scored again; this guide draws noise.{name} outside of any "
            "distribution of guidedsl (a flow, or code of its own): use stl=False"
        )


class _Scoring(_Keeping):
    """Hands the kept draws out again, scored by the families that made them."""

    def __init__(self, kept: _Keeping) -> None:
        super().__init__(kept.noise)
        self._waiting = iter(kept.kept)

    def draw(self, family: Any, draw: DrawFunction, args: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
        """The kept draw, and its density at these arguments."""
        value = next(self._waiting)
        return value, family.log_prob(value, *args[1:])


@contextmanager
def _held(store: ParamStore) -> Iterator[None]:
    leaves = list(store.trainable().values())
    for leaf in leaves:
        leaf.requires_grad_(False)
    try:
        yield
    finally:
        for leaf in leaves:
            leaf.requires_grad_(True)


def held_log_q(
    guide: Callable[..., Draw[Any]], data: Any, particles: tuple[int, ...], store: ParamStore, noise: Noise
) -> tuple[Draw[Any], Tensor]:
    """A draw of the guide, and its log q, [particles...], whose gradient goes through the draws alone.

    Raises InferenceError for a guide that draws outside of the families of `distributions`.
    """
    keeping: Any = _Keeping(noise)
    draw = guide(data, particles=particles, store=store, noise=keeping)
    with _held(store), torch.enable_grad():
        log_q = guide(data, particles=particles, store=store, noise=_Scoring(keeping)).log_q
    return draw, log_q
