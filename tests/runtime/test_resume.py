"""A fit that is cut off anywhere and resumed ends as if it had never been, bit for bit."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from runtime.handwritten import eight_schools_guide as schools
from runtime.handwritten import subsampled_guide as effects
from torch import Tensor, nn

from guidedsl.pipeline import compile_source
from guidedsl.runtime import ParamStore, deterministic, schedules, stochastic
from guidedsl.runtime.engine.block import Blocks
from guidedsl.runtime.engine.evaluate import Eager
from guidedsl.runtime.errors import GuidedslError, InferenceError, ParamError
from guidedsl.runtime.feed import BatchFeed, Bind
from guidedsl.runtime.fit import Fit
from guidedsl.runtime.fit_checkpoint import FitCheckpoint
from guidedsl.runtime.fixed_noise import FixedNoiseLoss, more_than_a_normal
from guidedsl.runtime.journal import Journal
from guidedsl.source import Source

Y = [28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0]
SIGMA = [15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0]

PROGRAM = """
model Line {
  dim N
  latent w : real ~ Normal(0, 1)
  plate obs[N] minibatch(8) {
    latent   u : real ~ Normal(0, 1)
    observed y : real ~ Normal(w + u, 0.5)
  }
}
guide Plain for Line {
  auto mean_field for w
  param a : real     = 0
  param b : positive = 1
  plate obs { u ~ Normal(a * (y - w), b) }
}
guide Amortised for Line {
  auto mean_field for w
  net encoder(y: real) -> (loc: real, scale: positive) = mlp(16, activation = tanh)
  plate obs {
    let (loc, scale) = encoder(y)
    u ~ Normal(loc, scale)
  }
}
guide Passed for Line {
  auto mean_field for w
  net encoder(y: real) -> real
  param b : positive = 1
  plate obs { u ~ Normal(encoder(y), b) }
}
model Mixture {
  dim N, K = 2
  latent m : ordered[K] ~ Normal(0, 3)
  latent p : simplex[K] ~ Dirichlet(2)
  plate row[N] {
    latent   c : index(K) ~ Categorical(p)
    observed y : real ~ Normal(m[c], 1)
  }
}
guide Summed for Mixture { auto enumerate for c auto full_rank for rest }
model Pair {
  latent a : real ~ Normal(0, 1)
  latent b : real ~ Normal(a * a, 0.3)
}
guide Flow for Pair { auto flow(affine, transforms = 2, hidden = 8) for rest }
"""


class Cut(BaseException):
    """Stands for a kill: nothing catches it."""


def build() -> Any:
    module = ModuleType("resume_guide")
    sys.modules[module.__name__] = module
    exec(compile(compile_source(Source("p.guide", PROGRAM)).python, "resume_guide.py", "exec"), vars(module))
    return module


built = build()


class Averaging(nn.Module):
    """A net with a buffer that changes as it is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(1, 1), nn.BatchNorm1d(1, momentum=0.1)

    def forward(self, y: Tensor) -> Tensor:
        out: Tensor = self.norm(self.linear(y[:, None]))[:, 0]
        return out


class Loader:
    """Batches in an order of its own that goes on from epoch to epoch, as that of a seeded DataLoader."""

    def __init__(self, y: Tensor) -> None:
        self.y, self.generator = y, torch.Generator().manual_seed(8)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        order = torch.randperm(len(self.y), generator=self.generator)
        return iter([{"y": self.y[rows]} for rows in order.split(8)])


def line(n: int = 30) -> Any:
    return built.Line.data(y=torch.randn(n, generator=torch.Generator().manual_seed(4)) + 1, N=n)


def passed_net() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return Averaging()


def fit_schools(**options: Any) -> Fit:
    return schools.MeanField.fit(schools.EightSchools.data(y=Y, sigma=SIGMA), seed=3, **options)


def fit_effects(**options: Any) -> Fit:
    data = effects.Effects.data(y=torch.arange(12.0), s=torch.ones(12))
    return effects.MeanField.fit(data, seed=3, num_particles=2, **options)


def fit_summed(**options: Any) -> Fit:
    y = torch.cat([torch.linspace(-3, -1, 8), torch.linspace(1, 3, 12)])
    return built.Summed.fit(built.Mixture.data(y=y), seed=2, **options)


FITS: dict[str, Callable[..., Fit]] = {
    "fixed noise": fit_schools,
    "enumerated": fit_summed,
    "given steps": lambda **options: fit_effects(steps=150, **options),
    "by posterior": lambda **options: fit_effects(engine="eager", **options),
    "by loss": lambda **options: built.Flow.fit(built.Pair.data(), seed=1, engine="eager", **options),
    "compiled, given steps": lambda **options: fit_effects(steps=150, engine="compiled", **options),
    "compiled late": lambda **options: fit_effects(steps=700, **options),
    "compiled, by posterior": lambda **options: fit_effects(engine="compiled", **options),
    "fed rows, nets": lambda **options: built.Amortised.fit(line(), seed=1, steps=120, **options),
    "fed batches": lambda **options: built.Plain.fit(Loader(line().y), N=30, seed=1, steps=120, **options),
    "passed nets": lambda **options: built.Passed.fit(
        line(), seed=1, steps=120, nets={"encoder": passed_net().double()}, **options
    ),
}


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of few steps: what is tested does not hang on their length."""
    monkeypatch.setattr(schedules, "FIRST_WINDOW", 10)
    monkeypatch.setattr(schedules, "LONGEST_WINDOW", 40)
    monkeypatch.setattr(schedules, "LOSS_LONGEST_WINDOW", 20)


class MadeLate(Blocks):
    """Loops that, where they may be made beside the fit, are there after 60 steps."""

    def ready(self, data: Any) -> bool:
        steps = max(self.adam.get_state()["steps"].values(), default=0)
        return (steps >= 60 or not self.beside) and super().ready(data)


FIXED_NOISE_LOSS = FixedNoiseLoss.__call__


def kill_after(evaluations: int, kill: Callable[[], None]) -> None:
    """Has `kill` called at the start of an evaluation of a loss or its gradient, or of a block of them."""
    left = evaluations
    real = FIXED_NOISE_LOSS

    def counted(self: FixedNoiseLoss, x: Tensor) -> tuple[float, Tensor]:
        count(1)
        return real(self, x)

    def count(steps: int) -> None:
        nonlocal left
        left -= steps
        if left < 0:
            kill()

    class Counted(MadeLate):
        def __call__(self, data: Any, noise: Any, rates: Any, iterates: Any = None) -> Tensor:
            count(len(rates))
            return super().__call__(data, noise, rates, iterates)

    class CountedEager(Eager):
        def __call__(self, data: Any, noise: Any, loss: Any = None) -> Any:
            count(1)
            return super().__call__(data, noise, loss)

    stochastic.Blocks, stochastic.Eager = Counted, CountedEager  # type: ignore[misc]
    FixedNoiseLoss.__call__ = counted  # type: ignore[method-assign]


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Cuts the fit off after so many evaluations."""

    def raising() -> None:
        raise Cut

    monkeypatch.setattr(FixedNoiseLoss, "__call__", FIXED_NOISE_LOSS)
    monkeypatch.setattr(stochastic, "Eager", Eager)
    monkeypatch.setattr(stochastic, "Blocks", MadeLate)
    monkeypatch.setattr(stochastic, "BLOCK", 20)
    return lambda evaluations: kill_after(evaluations, raising)


def result(fit: Fit) -> dict[str, Any]:
    leaves = {name: leaf.detach().tolist() for name, leaf in fit.store.named_parameters()}
    return {"leaves": leaves, "elbo": fit.elbo, "steps": fit.steps, "reason": fit.reason, "history": fit.history}


@pytest.mark.parametrize("name", list(FITS))
def test_cut_off_and_resumed(name: str, tmp_path: Path, cut: Callable[[int], None]) -> None:
    path = tmp_path / "checkpoint.safetensors"
    options: dict[str, Any] = {"checkpoint": path, "checkpoint_every": 0}
    whole = result(FITS[name](**options))
    assert not path.exists()
    moments, cuts = random.Random(name), 0
    for _ in range(100):
        # Longer each time, so that a descent that has to be begun anew is got over.
        cut(moments.randint(5, 40) + 25 * cuts)
        try:
            fit = FITS[name](**options, resume=path.exists())
        except Cut:
            cuts += 1
            continue
        break
    assert cuts > 1
    assert result(fit) == whole
    assert list(tmp_path.iterdir()) == []


def fit_and_die(name: str, path: str, evaluations: int, out: str) -> None:
    """A fit in a process of its own, killed as a machine is when its power fails."""
    torch.set_num_threads(1)
    schedules.FIRST_WINDOW, schedules.LONGEST_WINDOW = 10, 40
    kill_after(evaluations, lambda: os.kill(os.getpid(), signal.SIGKILL))
    fit = FITS[name](checkpoint=path, checkpoint_every=0, resume=Path(path).exists(), progress=False)
    Path(out).write_text(json.dumps(result(fit)), encoding="utf-8")


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX")
@pytest.mark.parametrize(("name", "kills"), [("fixed noise", 2), ("given steps", 3)])
def test_killed_again_and_again(name: str, kills: int, tmp_path: Path) -> None:
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([__name__])
    path, out = tmp_path / "checkpoint.safetensors", tmp_path / "out.json"
    moments, killed = random.Random(11), 0
    while not out.exists():
        evaluations = moments.randint(3, 12) if killed < kills else 10**9
        process = processes.Process(target=fit_and_die, args=(name, str(path), evaluations, str(out)))
        process.start()
        process.join(100)
        killed += process.exitcode == -signal.SIGKILL
        assert process.exitcode in (0, -signal.SIGKILL)
    assert killed == kills
    torch_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    whole = result(FITS[name]())
    torch.set_num_threads(torch_threads)
    assert json.loads(out.read_text(encoding="utf-8")) == json.loads(json.dumps(whole))


# Files that are not what they should be


def interrupted(path: Path, cut: Callable[[int], None], name: str = "given steps") -> None:
    cut(20)
    with pytest.raises(Cut):
        FITS[name](checkpoint=path, checkpoint_every=0)
    cut(10**9)
    assert path.exists()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"seed": 4}, "its seed is 3, not 4"),
        ({"lr": 0.1}, "its lr is None, not 0.1"),
        ({"steps": 200}, "its steps is 150, not 200"),
        ({"tolerance": 0.1}, "its tolerance is 0.05, not 0.1"),
        ({"dtype": torch.float32}, "its dtype is torch.float64, not torch.float32"),
    ],
)
def test_other_options(changed: dict[str, Any], said: str, tmp_path: Path, cut: Callable[[int], None]) -> None:
    path = tmp_path / "c"
    interrupted(path, cut)
    data, store = effects.Effects.data(y=torch.arange(12.0), s=torch.ones(12)), ParamStore()
    options: dict[str, Any] = {"seed": 3, "num_particles": 2, "steps": 150, "checkpoint": path} | changed
    content = path.read_bytes()
    with pytest.raises(InferenceError, match=f"nothing was changed: {said}"):
        effects.MeanField.fit(data, store=store, resume=True, **options)
    assert len(store) == 0
    assert path.read_bytes() == content


def test_other_data_and_another_program(tmp_path: Path, cut: Callable[[int], None]) -> None:
    path = tmp_path / "c"
    interrupted(path, cut)
    options: dict[str, Any] = {"seed": 3, "num_particles": 2, "steps": 150, "checkpoint": path, "resume": True}
    data = effects.Effects.data(y=torch.arange(12.0) + 1e-9, s=torch.ones(12))
    with pytest.raises(InferenceError, match="its data is another"):
        effects.MeanField.fit(data, **options)
    with pytest.raises(InferenceError, match="its model is Effects, not EightSchools"):
        fit_schools(checkpoint=path, resume=True)
    model = replace(effects.MeanField.model, source_sha256="f" * 64)
    with pytest.raises(InferenceError, match="its text of the program is another"):
        replace(effects.MeanField, model=model).fit(
            effects.Effects.data(y=torch.arange(12.0), s=torch.ones(12)), **options
        )


def test_damaged_and_foreign_files(tmp_path: Path, cut: Callable[[int], None]) -> None:
    path = tmp_path / "c"
    interrupted(path, cut)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ParamError, match="is damaged"):
        FITS["given steps"](checkpoint=path, resume=True)
    fit_schools(steps=2).save(path)
    with pytest.raises(ParamError, match="parameters alone"):
        FITS["given steps"](checkpoint=path, resume=True)


@pytest.mark.parametrize(
    "options", [{"resume": True}, {"checkpoint": "nowhere/c"}, {"checkpoint_every": -1}, {"checkpoint_every": math.nan}]
)
def test_options_that_cannot_be(options: dict[str, Any]) -> None:
    with pytest.raises(GuidedslError, match=r"fit\("):
        fit_schools(steps=2, **options)


def test_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(InferenceError, match="no fit to go on with"):
        fit_schools(steps=2, checkpoint=tmp_path / "c", resume=True)


def test_a_full_disk_does_not_end_the_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("guidedsl.runtime.fit_checkpoint.write_checkpoint", full)
    with pytest.warns(UserWarning, match="goes on without a new checkpoint.*No space left"):
        fit = fit_schools(steps=3, checkpoint=tmp_path / "c", checkpoint_every=0)
    assert fit.steps == 3


def test_a_checkpoint_is_written_every_so_many_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, written = 0.0, []
    monkeypatch.setattr("guidedsl.runtime.fit_checkpoint.time.monotonic", lambda: now)
    monkeypatch.setattr("guidedsl.runtime.fit_checkpoint.write_checkpoint", lambda *a, **k: written.append(now))
    checkpoint = FitCheckpoint(tmp_path / "c", 60.0, {})
    for second in range(0, 200, 7):
        now = float(second)
        checkpoint.offer(dict)
    assert written == [63.0, 126.0, 189.0]


def test_a_feed_goes_to_where_it_was() -> None:
    y = torch.arange(20.0)
    bind = Bind(built.Line, {"N": 20}, torch.float64, None)
    for taken in range(12):
        feed, other = BatchFeed(Loader(y), bind), BatchFeed(Loader(y), bind)
        noise = feed.noise()
        for _ in range(taken):
            feed.subsample(noise)
        other.set_state(feed.get_state())
        for _ in range(5):
            assert torch.equal(feed.subsample(noise).y, other.subsample(noise).y)


# Journals


def test_a_journal_does_no_work_twice() -> None:
    done: list[str] = []
    saved: list[dict[str, Any]] = []

    def program(journal: Journal, generator: torch.Generator) -> list[float]:
        def draw(name: str) -> dict[str, Any]:
            done.append(name)
            return {"x": float(torch.rand((), generator=generator))}

        def parts() -> dict[str, Any]:
            return {
                "x": journal.do("left", lambda: draw("left"))["x"] + journal.do("right", lambda: draw("right"))["x"]
            }

        def step(before: dict[str, Any]) -> dict[str, Any] | None:
            return (
                None
                if before["n"] == 3
                else {"n": before["n"] + 1, "x": before["x"] + draw(f"step {before['n']}")["x"]}
            )

        whole = journal.do("whole", parts)["x"]
        last = journal.fold("steps", lambda: {"n": 0, "x": 0.0}, step)["x"]
        return [whole, last, float(torch.rand((), generator=generator))]

    generator = torch.Generator().manual_seed(1)
    journal = Journal(generator, lambda: saved.append(journal.get_state()))
    expected = program(journal, generator)
    everything = list(done)
    assert list(saved[-1]) == ["whole", "steps"]
    for position, state in enumerate(saved):
        done.clear()
        generator = torch.Generator().manual_seed(1)
        again = Journal(generator, lambda: None)
        again.set_state(state)
        assert program(again, generator) == expected
        assert done == everything[len(everything) - len(done) :]
        assert len(done) < len(everything) or position == 0


def test_what_is_judged_by_its_loss() -> None:
    assert more_than_a_normal(1000, 10)
    assert not more_than_a_normal(65, 10)  # a full-rank normal
    data = built.Pair.data()
    plan = deterministic.plan(built.Flow, data, ParamStore(), torch.Generator())
    assert isinstance(plan, str)
