"""Compiled steps against eager ones: the same losses, parameters and errors, on the same draws.

torch.compile is the slow part, so that each test compiles as little as it can.
"""

from __future__ import annotations

import threading
from concurrent.futures import wait
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, NoReturn

import pytest
import torch
from torch import Tensor

from guidedsl.modules import load_source
from guidedsl.runtime import stochastic
from guidedsl.runtime.elbo import ELBO
from guidedsl.runtime.engine import block
from guidedsl.runtime.engine.block import STEPS, Blocks
from guidedsl.runtime.engine.evaluate import Eager, tensors_of, trace
from guidedsl.runtime.engine.native import block as native
from guidedsl.runtime.engine.native.values import NotNative
from guidedsl.runtime.engine.plan import PlannedNoise, planned
from guidedsl.runtime.errors import InferenceError
from guidedsl.runtime.load import load_fields
from guidedsl.runtime.noise import Noise
from guidedsl.runtime.optim import Adam
from guidedsl.runtime.params import ParamStore
from guidedsl.runtime.svi import SVI
from guidedsl.source import Source, read_source

# inductor imports a module of torch's that torch itself calls deprecated
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")

TESTS = Path(__file__).resolve().parent.parent
PROGRAMS = TESTS / "cases" / "programs"
ROWS = """
model Rows {
  dim N, P, G
  latent tau : positive ~ HalfNormal(1)
  latent beta : real[P] ~ Normal(0, 1)
  plate group[G] { latent a : real ~ Normal(0, tau) }
  plate row[N] subsample(8) {
    data g : index(group)
    data x : real[P]
    latent e : real ~ Normal(0, 1)
    observed y : bool ~ Bernoulli(logits = a[g] + dot(x, beta) + e)
  }
}
guide Local for Rows {
  param tau_loc : real = 0
  tau ~ LogNormal(tau_loc, 0.3)
  param l : real[P] = 0, lr = 0.003
  param s : positive[P] = 0.1
  beta ~ Normal(l, s)
  auto mean_field for rest
}
"""


def rows(dtype: torch.dtype = torch.float64) -> tuple[ModuleType, Any]:
    draw = torch.Generator().manual_seed(0)
    module = load_source(Source("rows.guide", ROWS), "engine_rows")
    x = torch.randn(40, 3, generator=draw)
    fields = {"x": x, "g": torch.arange(40) % 4, "y": (x.sum(1) > 0).float(), "G": 4}
    return module, module.Rows.data(**fields, dtype=dtype)


def svi(module: ModuleType, engine: Any, **options: Any) -> SVI:
    adam = Adam(lr=0.02, lr_decay=0.999, **options)
    return SVI(module.Rows, module.Local, adam, store=ParamStore(), seed=3, engine=engine)


def no_loops(*arguments: object) -> NoReturn:
    raise NotNative("anything")


@pytest.mark.parametrize(("native", "piece"), [(True, block.PIECE), (True, 100), (False, 0)])
def test_a_compiled_run_has_the_losses_of_an_eager_one(
    native: bool, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block and a few steps more, with subsampling, gathers, a learning rate of its own, clipping and decay.

    The graph is traced and run as it is; what inductor makes of one is tested below, on a smaller model. The tolerance
    is for the rounding of 113 steps that build on each other.
    """
    monkeypatch.setattr(block, "PIECE", piece)
    if not native:
        monkeypatch.setattr(block, "native_steps", no_loops)
        monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    tolerance = 1e-10
    module, data = rows()
    steps = STEPS + 13
    runs = {engine: svi(module, engine, clip_norm=50.0, clip_value=30.0) for engine in ("eager", "compiled")}
    losses = {engine: run.run(data, steps) for engine, run in runs.items()}
    assert losses["eager"].shape == (steps,)
    torch.testing.assert_close(losses["compiled"], losses["eager"], rtol=tolerance, atol=tolerance)
    for name, value in runs["eager"].store.items():
        torch.testing.assert_close(runs["compiled"].store[name], value, rtol=tolerance, atol=tolerance)
    states = [run.optim.get_state() for run in runs.values()]
    assert states[0]["steps"] == states[1]["steps"]
    assert states[0]["lr"] == pytest.approx(states[1]["lr"], rel=1e-9)
    assert runs["compiled"].steps == steps


def test_a_compiled_step_is_an_eager_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """With nets, whose weights are inputs of the graph; the graph itself stands for what torch.compile makes of it."""
    monkeypatch.setattr(block, "native_steps", no_loops)
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    path = PROGRAMS / "nets_vae" / "model.guide"
    module = load_source(read_source(path, path.name), "engine_vae")
    data = module.VAE.data(**load_fields(path.with_name("data.json")))
    losses = []
    for engine in ("eager", "compiled"):
        torch.manual_seed(0)
        run = SVI(module.VAE, module.Amortised, Adam(0.01), store=ParamStore(), seed=1, engine=engine)  # type: ignore[arg-type]
        losses.append([run.step(data) for _ in range(5)])
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_the_plan_of_a_step_is_what_it_draws() -> None:
    module, data = rows()
    store = ParamStore()
    plan = planned(module.Rows, module.Local, ELBO(), data, store)
    assert plan.sizes == {"normal": 1 + 3 + 4 + 8}
    source = Noise(torch.Generator().manual_seed(1), data.dtype)
    numbers = torch.randn(16, generator=torch.Generator().manual_seed(1), dtype=data.dtype)
    noise = PlannedNoise(plan, source)
    parts = [noise.normal(shape) for _, shape in plan.draws]
    assert torch.equal(torch.cat([part.reshape(-1) for part in parts]), numbers)
    assert noise.normal((2,)).shape == (2,), "what is not planned is drawn on its own"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("particles", [1, 3])
def test_the_graph_has_the_gradient_of_autograd(particles: int, dtype: torch.dtype) -> None:
    module, data = rows(dtype)
    store = ParamStore()
    eager = Eager(module.Rows, module.Local, ELBO(num_particles=particles), store)
    generator = torch.Generator().manual_seed(5)
    plan = eager.plan(data)
    state = generator.get_state()
    noise = data.noise(generator)
    picked = [noise.distinct_rows(size, count) for _, _, size, count in data.batches.rows]
    inputs = [*store.trainable().values(), *plan.drawn(noise).values(), *picked, *tensors_of(data).values()]
    value, *gradients = trace(eager, data, inputs)(*inputs)
    generator.set_state(state)
    expected = eager(data, data.noise(generator))
    torch.testing.assert_close(value, expected.value)
    for found, wanted in zip(gradients, expected.gradients, strict=True):
        torch.testing.assert_close(found, torch.zeros_like(found) if wanted is None else wanted)


GAMMA = """
model Rate { latent r : positive ~ Gamma(3, 1) }
guide G for Rate { param a : positive = 2  r ~ Gamma(a, 1) }
"""
CHECKED = """
model Asserted {
  latent x : real ~ Normal(3, 1)
  let s : positive = x
  observed y : real ~ Normal(0, s)
}
guide G for Asserted { param m : real = 3  x ~ Normal(m, 0.01) }
"""


def test_what_cannot_be_compiled_says_why() -> None:
    module = load_source(Source("m.guide", GAMMA), "engine_refused")
    run = SVI(module.Rate, module.G, Adam(0.01), store=ParamStore(), seed=0, engine="compiled")
    with pytest.raises(InferenceError, match="gamma") as refused:
        run.run(module.Rate.data(), STEPS)
    assert 'engine="eager"' in str(refused.value)
    assert run.steps == 0


@pytest.mark.parametrize(("native", "piece"), [(True, block.PIECE), (True, 3), (False, 0)])
def test_a_check_at_run_time_is_made_in_compiled_steps(
    native: bool, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(block, "PIECE", piece)
    if not native:
        monkeypatch.setattr(block, "native_steps", no_loops)
        monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    module = load_source(Source("m.guide", CHECKED), "engine_checked")
    data = module.Asserted.data(y=1.0)
    raised, losses, values = [], [], []
    for engine in ("eager", "compiled"):
        store = ParamStore()
        run = SVI(module.Asserted, module.G, Adam(0.01), store=store, seed=0, engine=engine)  # type: ignore[arg-type]
        losses.append(run.run(data, STEPS))
        store["G.m"] = torch.tensor(-1.0, dtype=torch.float64)
        with pytest.raises(InferenceError, match=r"`s` is -\d.*, which is not positive") as refused:
            run.run(data, STEPS)
        raised.append(str(refused.value))
        values.append(store["G.m"])
    torch.testing.assert_close(losses[1], losses[0])
    assert raised[0] == raised[1]
    assert values[0] == values[1] == -1.0


def test_a_block_that_is_not_finite_is_taken_back_and_explained() -> None:
    """The error is that of the eager run: at the same step, in the same words, the parameters those before it."""
    text = """
    model Edge {
      latent x : real ~ Normal(0, 1)
      factor 20 * x + (4 - x) ^ 0.5
    }
    guide G for Edge { param m : real = 0  x ~ Normal(m, 0.1) }
    """
    module = load_source(Source("edge.guide", text), "engine_edge")
    seen = []
    for engine in ("eager", "compiled"):
        run = SVI(module.Edge, module.G, Adam(0.1), store=ParamStore(), seed=0, engine=engine)  # type: ignore[arg-type]
        with pytest.raises(InferenceError) as failed:
            run.run(module.Edge.data(), STEPS)
        seen.append((str(failed.value), run.steps, run.store["G.m"].item()))
    assert seen[0] == seen[1]
    assert 0 < seen[0][1] < STEPS


EDGE = """
model Edge {
  latent x : real ~ Normal(0, 1)
  factor (x + 0.9) ^ 0.5
}
guide G for Edge { param m : real = 0  param s : positive = 0.5  x ~ Normal(m, s) }
"""


def test_a_compiled_fit_is_an_eager_one_and_skips_the_same_steps() -> None:
    """With another tolerance than a run's: a skipped step is one where either engine has a NaN."""
    module = load_source(Source("edge.guide", EDGE), "engine_skips")
    fits = [
        module.G.fit(module.Edge.data(), seed=2, steps=250, num_particles=1, engine=engine)
        for engine in ("eager", "compiled")
    ]
    assert "steps were not finite and skipped" in fits[0].reason
    assert fits[1].reason.rpartition(";")[2] == fits[0].reason.rpartition(";")[2]
    assert fits[1].elbo == pytest.approx(fits[0].elbo, rel=1e-9, nan_ok=True)
    for (step, loss), (other, again) in zip(fits[0].history, fits[1].history, strict=True):
        assert (step, loss) == (other, pytest.approx(again, rel=1e-9, nan_ok=True))


def test_a_fit_that_cannot_be_compiled_says_why_or_goes_on() -> None:
    module = load_source(Source("m.guide", GAMMA), "engine_gamma")
    data = module.Rate.data()
    with pytest.raises(InferenceError, match=r'fit\(engine="compiled"\): .*gamma noise'):
        module.G.fit(data, seed=0, steps=20, engine="compiled")
    with pytest.raises(InferenceError, match="one of 'auto', 'eager', 'compiled'"):
        module.G.fit(data, seed=0, steps=20, engine="fast")
    assert module.G.fit(data, seed=0, steps=2000, num_particles=1).steps == 2000


MADE_LATE = 200
"""Steps that a fit takes until its loops are made."""


class MadeLate(Blocks):
    """Loops that are asked for so many times before they are made."""

    taken: ClassVar[list[int]] = []

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.asked = 0

    def ready(self, data: Any) -> bool:
        self.asked += 1
        if self.asked == MADE_LATE:
            MADE.set()
            wait([self._made(data).library])  # type: ignore[union-attr]
        return super().ready(data)

    def __call__(self, data: Any, noise: Noise, rates: Any, iterates: Tensor | None = None) -> Tensor:
        self.taken.append(len(rates))
        return super().__call__(data, noise, rates, iterates)


MADE = threading.Event()


@pytest.mark.parametrize("compiler", [True, False])
def test_a_fit_begins_while_its_loops_are_made(compiler: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where that takes long. It goes on eagerly where the C compiler then fails."""
    really = native.built

    def late(text: str) -> Any:
        assert MADE.wait(60)
        if not compiler:
            raise NotNative("no memory left for the compiler")
        return really(text)

    module = load_source(Source("edge.guide", EDGE.replace("(x + 0.9) ^ 0.5", "0.3 * x")), "engine_late")
    eager = module.G.fit(module.Edge.data(), seed=2, steps=700, engine="eager")
    MADE.clear()
    MadeLate.taken.clear()
    monkeypatch.setattr(native, "at_hand", lambda text: False)
    monkeypatch.setattr(native, "built", late)
    monkeypatch.setattr(stochastic, "Blocks", MadeLate)
    fit = module.G.fit(module.Edge.data(), seed=2, steps=700)
    assert sum(MadeLate.taken) == (700 - MADE_LATE + 2 if compiler else 0)
    assert fit.elbo == pytest.approx(eager.elbo, rel=1e-9)
    for (step, loss), (other, again) in zip(eager.history, fit.history, strict=True):
        assert (step, loss) == (other, pytest.approx(again, rel=1e-9))


def test_batches_of_another_whole_have_steps_of_their_own() -> None:
    """The size that a plate stands for is no tensor, and its scale is a number of the steps."""
    path = PROGRAMS / "minibatch" / "model.guide"
    module = load_source(read_source(path, path.name), "engine_minibatch")
    guide = module.Auto
    fields = load_fields(path.with_name("data.json"))
    losses = {}
    for engine in ("eager", "compiled"):
        run = SVI(guide.model, guide, Adam(0.01), store=ParamStore(), seed=1, engine=engine)  # type: ignore[arg-type]
        losses[engine] = [run.run(guide.model.data(**{**fields, "N": n}), STEPS) for n in (1000, 2000)]
    for compiled, eager in zip(losses["compiled"], losses["eager"], strict=True):
        torch.testing.assert_close(compiled, eager, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("engine", ["eager", "compiled"])
def test_parameters_of_two_types(engine: str) -> None:
    """They are not side by side in one buffer: autograd has them, and what cannot says so."""
    module, data = rows()
    store = ParamStore()
    store.param("Local.tau_loc", torch.tensor(0.0, dtype=torch.float32))
    run = SVI(module.Rows, module.Local, Adam(0.02), store=store, seed=3, engine=engine)  # type: ignore[arg-type]
    if engine == "compiled":
        with pytest.raises(InferenceError, match='all of one type and on one device; take engine="eager"'):
            run.run(data, 2)
    else:
        assert len(run.run(data, 2)) == 2
        assert store.leaves()["Local.tau_loc"].dtype == torch.float32
