"""Stochastic variational inference, a step at a time, for those who want the loop in their own hands."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from guidedsl.runtime.elbo import ELBO, GuideFunction, gradients_of
from guidedsl.runtime.errors import InferenceError
from guidedsl.runtime.model import Guide, LogDensity, Model, find_guide, find_model
from guidedsl.runtime.noise import Noise
from guidedsl.runtime.nonfinite import explain_nonfinite
from guidedsl.runtime.optim import Optimiser
from guidedsl.runtime.params import ParamStore, get_param_store


class SVI:
    """Minimises `loss` of a guide over the parameters in `store`.

    `model` and `guide` are a generated module's plain functions or its `Model` and `Guide`. Randomness comes from
    `generator`, from a new one seeded with `seed`, or from torch's global one if neither is given. A loss that is not
    finite raises `InferenceError`, which names the parameter or the `.guide` line, before any parameter has changed.
    """

    def __init__(
        self,
        model: Model | LogDensity,
        guide: Guide | GuideFunction,
        optim: Optimiser,
        loss: ELBO | None = None,
        *,
        store: ParamStore | None = None,
        generator: torch.Generator | None = None,
        seed: int | None = None,
    ) -> None:
        if seed is not None and generator is not None:
            raise InferenceError("SVI takes a generator or a seed, not both")
        self.model = find_model(model)
        self.guide = find_guide(guide)
        self.optim = optim
        self.loss = ELBO() if loss is None else loss
        self.store = get_param_store(store)
        self.generator = generator
        self._seed = seed
        self._version = -1
        self._names: list[str] = []
        self._leaves: list[Tensor] = []

    def _noise(self, data: Any) -> Noise:
        if self._seed is not None:
            # A generator lives on one device, which the first data tells.
            self.generator = torch.Generator(data.device)
            self.generator.manual_seed(self._seed)
            self._seed = None
        noise: Noise = data.noise(self.generator)
        return noise

    def _noise_state(self, device: torch.device) -> torch.Tensor:
        if self.generator is not None:
            return self.generator.get_state()
        return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()

    def step(self, data: Any) -> float:
        """One step on one draw of rows and latents; the loss before it, for all rows (an unbiased estimate)."""
        if isinstance(self.guide, Guide) and self.guide.laplace is not None:
            raise InferenceError(
                f"{self.guide.name} is a Laplace approximation, which is found and not learned: call "
                f"{self.guide.name}.fit(data). To learn a normal step by step take `auto full_rank`"
            )
        noise = self._noise(data)
        before = self._noise_state(data.device)
        batch = data.subsample(noise)
        objective, value = self.loss(self.model, self.guide, batch, self.store, noise)
        loss = value.item()
        if not math.isfinite(loss):
            self._explain(data, before, loss)
        if self._version != self.store.version:
            leaves = self.store.trainable()
            self._names, self._leaves = list(leaves), list(leaves.values())
            self._version = self.store.version
        if self._leaves:
            gradients = gradients_of(objective, self._leaves)
            self.optim.step(self.store, self._names, self._leaves, gradients)
        return loss

    def evaluate_loss(self, data: Any) -> float:
        """The loss at fresh draws, without a gradient or a step."""
        noise = self._noise(data)
        with torch.no_grad():
            value: Tensor = self.loss(self.model, self.guide, data.subsample(noise), self.store, noise).value
        return value.item()

    def _explain(self, data: Any, state: torch.Tensor, loss: float) -> None:
        generator = torch.Generator(data.device) if self.generator is None else self.generator
        generator.set_state(state)
        noise = data.noise(generator)

        def again() -> object:
            return self.loss(self.model, self.guide, data.subsample(noise), self.store, noise)

        raise InferenceError(explain_nonfinite(again, self.model, self.guide, self.store, loss))
