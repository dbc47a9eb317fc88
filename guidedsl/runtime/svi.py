"""Stochastic variational inference, a step at a time, for those who want the loop in their own hands."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from guidedsl.runtime.annealing import annealed, check_annealing
from guidedsl.runtime.checkpoint import read_checkpoint, write_checkpoint
from guidedsl.runtime.default_store import get_param_store
from guidedsl.runtime.elbo import ELBO, GuideFunction, Objective
from guidedsl.runtime.engine.block import Blocks
from guidedsl.runtime.engine.evaluate import Compiled, Eager
from guidedsl.runtime.errors import InferenceError, ParamError
from guidedsl.runtime.model import Guide, LogDensity, Model, find_guide, find_model
from guidedsl.runtime.noise import Noise
from guidedsl.runtime.nonfinite import explain_nonfinite
from guidedsl.runtime.optim import Adam, Optimiser
from guidedsl.runtime.param_files import device_of
from guidedsl.runtime.params import ParamStore

KIND = "SVI"
SVIEngine = Literal["eager", "autograd", "compiled"]


class SVI:
    """Minimises `loss` of a guide over the parameters in `store`.

    `model` and `guide` are a generated module's plain functions or its `Model` and `Guide`. Randomness comes from
    `generator`, from a new one seeded with `seed`, or from torch's global one if neither is given. A loss that is not
    finite raises `InferenceError`, which names the parameter or the `.guide` line, before any parameter has changed.
    `engine` "eager" is torch, operator by operator: those of the generated functions and of their gradients, recorded
    at the first step and replayed, in place and fused where they are alike. "autograd" runs the functions at every
    step, so that a debugger stops in them. "compiled" is, with `optim.Adam`, whole steps as C loops, or as a graph by
    torch.compile where loops cannot say it; that takes up to seconds to make, and gains most with `run`. Losses are
    the same to rounding. `steps` counts the steps taken, those before a `load` included. Over the first `kl_annealing`
    of them, not compiled, the weight of KL(q | prior) in the ELBO rises evenly to 1; what `step` returns is the ELBO
    all the while.
    """

    def __init__(
        self,
        model: Model | LogDensity,
        guide: Guide | GuideFunction,
        optim: Optimiser,
        loss: Objective | None = None,
        *,
        store: ParamStore | None = None,
        generator: torch.Generator | None = None,
        seed: int | None = None,
        kl_annealing: int = 0,
        engine: SVIEngine = "eager",
    ) -> None:
        if engine not in get_args(SVIEngine):
            raise InferenceError(f"SVI(engine={engine!r}): one of {', '.join(map(repr, get_args(SVIEngine)))}")
        if kl_annealing and engine == "compiled":
            raise InferenceError('SVI(kl_annealing=…): its weight changes at each step; take engine="eager"')
        if seed is not None and generator is not None:
            raise InferenceError("SVI takes a generator or a seed, not both")
        self.model = find_model(model)
        self.guide = find_guide(guide)
        self.optim = optim
        self.loss: Objective = ELBO() if loss is None else loss
        check_annealing("SVI", kl_annealing, self.loss, self.model)
        self.kl_annealing = kl_annealing
        self.store = get_param_store(store)
        self.generator = generator
        self.steps = 0
        self._seed = seed
        self._device = torch.device("cpu")
        self._version = -1
        self._names: list[str] = []
        self._leaves: list[Tensor] = []
        self._eager = Eager(self.model, self.guide, self.loss, self.store, replays=engine == "eager")
        self._evaluate: Eager | Compiled = Compiled(self._eager) if engine == "compiled" else self._eager
        self._blocks = Blocks(self._eager, optim) if engine == "compiled" and isinstance(optim, Adam) else None

    def _noise(self, data: Any) -> Noise:
        if self._seed is not None:
            # A generator lives on one device, which the first data tells.
            self.generator = torch.Generator(data.device)
            self.generator.manual_seed(self._seed)
            self._seed = None
        self._device = data.device
        noise: Noise = data.noise(self.generator)
        return noise

    def _noise_state(self, device: torch.device) -> torch.Tensor:
        if self.generator is not None:
            return self.generator.get_state()
        return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()

    def step(self, data: Any) -> float:
        """One step on one draw of rows and latents; the loss before it, for all rows (an unbiased estimate)."""
        self._check_guide()
        found = self._block(data, 1)
        return self._single(data, self._evaluate) if found is None else float(found[0])

    def _single(self, data: Any, evaluate: Eager | Compiled) -> float:
        noise = self._noise(data)
        before = self._noise_state(data.device)
        value, gradients, flat = evaluate(data, noise, annealed(self.loss, self.steps, self.kl_annealing))
        loss = value.item()
        if not math.isfinite(loss):
            self._explain(data, before, loss)
        if self._version != self.store.version:
            leaves = self.store.trainable()
            self._names, self._leaves = list(leaves), list(leaves.values())
            self._version = self.store.version
        if flat is not None and type(self.optim) is Adam:  # a subclass may have a step of its own
            self.optim.step_flat(self.store, self._names, self._leaves, gradients, *flat)
        elif self._leaves:
            self.optim.step(self.store, self._names, self._leaves, gradients)
        self.steps += 1
        return loss

    def _check_guide(self) -> None:
        if isinstance(self.guide, Guide) and self.guide.laplace is not None:
            raise InferenceError(
                f"{self.guide.name} is a Laplace approximation, which is found and not learned: call "
                f"{self.guide.name}.fit(data). To learn a normal step by step take `auto full_rank`"
            )

    def run(self, data: Any, steps: int) -> Tensor:
        """So many steps; the loss before each, [steps], on the CPU.

        With engine="compiled" and Adam, many steps are one call, on the noise of as many calls of `step`.
        """
        self._check_guide()
        losses: list[Tensor] = []
        left = steps
        while left:
            taken = self._block(data, left)
            if taken is None:
                # Eagerly, for a graph of a single step takes as long to make as one of many.
                losses.append(torch.tensor([self._single(data, self._eager)], dtype=torch.float64))
            else:
                losses.append(taken)
            left -= len(losses[-1])
        return torch.cat(losses) if losses else torch.zeros(0, dtype=torch.float64)

    def _block(self, data: Any, steps: int) -> Tensor | None:
        """The losses of a block of at most so many steps; None where one step has to be taken on its own."""
        if self._blocks is None or not isinstance(self.optim, Adam):
            return None
        noise = self._noise(data)
        count = self._blocks.takes(data, steps)
        found = self._blocks(data, noise, self.optim.rates(count)) if count else None
        if found is None or not len(found):
            return None
        self.steps += len(found)
        return found.to("cpu", torch.float64)

    def evaluate_loss(self, data: Any) -> float:
        """The loss at fresh draws, without a gradient or a step."""
        noise = self._noise(data)
        with torch.no_grad():
            value: Tensor = self.loss(self.model, self.guide, data.subsample(noise), self.store, noise).value
        return value.item()

    def _explain(self, data: Any, state: torch.Tensor, loss: float) -> None:
        generator = torch.Generator(data.device) if self.generator is None else self.generator

        def again() -> object:
            generator.set_state(state)
            return self._eager.estimate(data, data.noise(generator))

        with torch.no_grad():
            again()  # what a value of the model's own breaks is said as it is
        raise InferenceError(explain_nonfinite(again, self.model, self.guide, self.store, loss))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes all that a resumed run needs: parameters, the optimiser's state, the random state, the step count.

        One safetensors file with JSON, written atomically. Raises ParamError, with the old file untouched, if a
        parameter is not finite or a scheduler holds what is no plain data; OSError as the file system does.
        """
        bad = [name for name, leaf in self.store.named_parameters() if not bool(leaf.detach().isfinite().all())]
        if bad:
            raise ParamError(f"nothing was saved: {', '.join(map(repr, bad))} has NaN or infinite values.")
        tree = {
            "program": self._program(),
            "steps": self.steps,
            "kl_annealing": self.kl_annealing,
            "random": self._random_state(),
            "optim": self.optim.get_state(),
            "store": self.store.get_state(),
        }
        write_checkpoint(path, KIND, tree)

    def load(self, path: str | os.PathLike[str], map_location: str | torch.device | None = None) -> None:
        """Takes what `save` wrote, so that the next step is the one that the saved run would have taken.

        Parameters go to `map_location`, the CPU if None, or into the leaves that are there. The random state is taken
        on the kind of device that it was saved on; elsewhere this SVI's own seed or generator stays. If the saved run
        drew from torch's global generator, that is set. Raises ParamError for a damaged or foreign file and for
        parameters that do not fit, InferenceError for another program or optimiser, with nothing changed; OSError if
        the file cannot be read.
        """
        tree = read_checkpoint(path, KIND)
        name = os.fspath(path)
        self._check_program(tree["program"], name)
        if tree.get("kl_annealing", 0) != self.kl_annealing:
            raise InferenceError(
                f"{name!r} is a run with kl_annealing={tree['kl_annealing']}, this one has {self.kl_annealing}"
            )
        device = device_of(map_location)
        draw_on = self._random_taken(tree["random"], device, name)
        before = self.optim.get_state()
        self.optim.set_state(tree["optim"])
        try:
            self.store.set_state(tree["store"], map_location=device)
        except BaseException:
            self.optim.set_state(before)
            raise
        draw_on()
        self.steps = int(tree["steps"])

    def _program(self) -> dict[str, str | None]:
        owner = self.guide.model if isinstance(self.guide, Guide) else self.model
        model = owner if isinstance(owner, Model) else None
        return {
            "model": None if model is None else model.name,
            "guide": self.guide.name if isinstance(self.guide, Guide) else None,
            "source_sha256": None if model is None else model.source_sha256,
        }

    def _check_program(self, saved: Mapping[str, str | None], name: str) -> None:
        for key, own in self._program().items():
            other = saved.get(key)
            if own is not None and other is not None and own != other:
                hint = "build that version, or start anew" if key == "source_sha256" else f"load it with {other}"
                raise InferenceError(f"{name!r} is a run of {key} {other}, this one is of {own}: {hint}")

    def _random_state(self) -> dict[str, Any]:
        """Where the draws go on: a seed that no step has used yet, or the state of the generator."""
        if self._seed is not None:
            return {"seed": self._seed}
        shared = self.generator is None
        device = self._device if self.generator is None else self.generator.device
        return {"device": device.type, "global": shared, "state": self._noise_state(device)}

    def _random_taken(self, saved: Mapping[str, Any], device: torch.device, name: str) -> Callable[[], None]:
        """What sets the random state to a saved one, which is checked here."""
        if "seed" in saved:
            return lambda: self._draw_from(None, int(saved["seed"]))
        leaf = next(iter(self.store.leaves().values()), None)
        device = device if leaf is None else leaf.device
        if saved["device"] != device.type:
            return lambda: None
        generator = torch.Generator(device)
        try:
            generator.set_state(saved["state"])
        except (RuntimeError, TypeError) as error:
            raise ParamError(f"{name!r} holds no random state: {error}") from None
        if self.generator is not None and self.generator.device.type == device.type:
            own = self.generator  # the caller may hold it too
            return lambda: _set_state(own, saved["state"])
        if saved["global"] and self.generator is None and self._seed is None:
            return lambda: _set_global_state(device, saved["state"])
        return lambda: self._draw_from(generator, None)

    def _draw_from(self, generator: torch.Generator | None, seed: int | None) -> None:
        self.generator, self._seed = generator, seed


def _set_state(generator: torch.Generator, state: Tensor) -> None:
    generator.set_state(state)


def _set_global_state(device: torch.device, state: Tensor) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)
