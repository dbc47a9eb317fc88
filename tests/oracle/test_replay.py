"""Replayed steps against autograd: programs of the corpus, and what fusing, reuse of memory and new data might break.

In double precision; sums may be taken in another order, and Adam divides by the size of a gradient, so that parameters
agree to 1e-8 where losses agree to 1e-10.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

import guidedsl
from guidedsl.modules import load_source
from guidedsl.runtime import Guide, ParamStore
from guidedsl.runtime.elbo import ELBO
from guidedsl.runtime.engine.evaluate import MOST_REPLAYS
from guidedsl.runtime.engine.record import Unrecordable, record
from guidedsl.runtime.engine.replay.bind import Bound
from guidedsl.runtime.engine.replay.graph import graph_of
from guidedsl.runtime.engine.replay.step import Replay
from guidedsl.source import Source, read_source

PROGRAMS = Path(__file__).parent.parent / "cases" / "programs"
FEW = (
    "enumerate_mixture",
    "externs",
    "functions_reduce",
    "gathers",
    "irt",
    "many_sites",
    "matmul",
    "missing",
    "nets_kinds",
    "odd_names",
    "scan_garch",
    "structured_subsampled",
    "subsample",
    "types_in_plates",
    "types_structured",
)
"""Programs that all runs try; ALL_GUIDES=1 tries every one."""
NOT_HERE = {"interface", "interface_summed", "laplace", "nets_passed"}
"""Their densities or nets are elsewhere, or they take no steps."""
AUTOGRAD = {
    "draws that depend on parameters": (
        *("aux Hierarchical", "bounded_families Each", "discrete_latents Sampled", "functions_elementwise G"),
        *("joint Rows", "latent_bounds ByRow", "matrix_families Each", "mixtures G", "more_families Each"),
        *("params_in_plates G", "positive_families Each", "real_line Each", "scan_guides Along", "scan_statements G"),
        *("shares_and_excesses G", "truncated_and_inflated G", "truncation G", "truncation H", "types_data G"),
        "vector_families Each",
    ),
    "code from outside": ("externs Mean", "nets_imported Amortised"),
    "an inverse that is checked at once": ("functions_linear_algebra G", "functions_more G"),
    "an index that is looked at at once": ("nets_kinds MeanField", "one_based Auto"),
    "a scatter in place of what may be read later": ("scan_nets Along",),
    "no parameters": ("flat E", "flat N_"),
}
"""Where eager steps go through autograd."""
PLAIN = {place for places in AUTOGRAD.values() for place in places}


def steps_of(guide: Guide, data: Any, engine: str) -> tuple[guidedsl.SVI, list[float], dict[str, Tensor]]:
    """Three steps, and the parameters after them."""
    torch.manual_seed(0)
    store, adam, loss = ParamStore(), guidedsl.optim.Adam(lr=0.01), ELBO(num_particles=2)
    svi = guidedsl.SVI(guide.model, guide, adam, loss, store=store, seed=1, engine=engine)  # type: ignore[arg-type]
    losses = [svi.step(data) for _ in range(3)]
    return svi, losses, {name: leaf.detach().clone() for name, leaf in store.named_parameters()}


def is_replayed(svi: guidedsl.SVI) -> bool:
    return any((svi._eager._replays or {}).values())


def programs() -> list[str]:
    found = sorted(path.parent.name for path in PROGRAMS.glob("*/data.json"))
    return [name for name in found if name not in NOT_HERE and ("ALL_GUIDES" in os.environ or name in FEW)]


@pytest.mark.parametrize("program", programs())
def test_programs(program: str) -> None:
    module = load_source(read_source(PROGRAMS / program / "model.guide"))
    fields = json.loads((PROGRAMS / program / "data.json").read_text(encoding="utf-8"))
    for guide in [one for one in vars(module).values() if isinstance(one, Guide)]:
        data = guide.model.data(fields.get(guide.model.name, fields), dtype=torch.float64)
        _, expected, leaves = steps_of(guide, data, "autograd")
        svi, found, own = steps_of(guide, data, "eager")
        assert is_replayed(svi) == (f"{program} {guide.name}" not in PLAIN)
        assert found == pytest.approx(expected, rel=1e-10)
        for leaf, value in leaves.items():
            torch.testing.assert_close(own[leaf], value, rtol=1e-8, atol=1e-8)


# Operators


SITES = """
model Chain {{
  latent z0 : real ~ Normal(1, 1)
{latents}
  observed o : real ~ Normal(z0, 1)
}}
guide MeanField for Chain {{
{params}
}}
"""


def chain(length: int) -> Any:
    """Scalar sites, each around the one before."""
    latents = "\n".join(f"  latent z{n} : real ~ Normal(z{n - 1}, 1)" for n in range(1, length))
    params = "\n".join(
        f"  param l{n} : real = 0\n  param s{n} : positive = 0.1\n  z{n} ~ Normal(l{n}, s{n})" for n in range(length)
    )
    return load_source(Source("chain.guide", SITES.format(latents=latents, params=params)), f"chain_{length}")


def calls(svi: guidedsl.SVI) -> int:
    (replay,) = (svi._eager._replays or {}).values()
    assert replay is not None
    return len(replay._bound.step)


def test_sites_that_are_alike_are_one() -> None:
    """However many they are, a step is as many operators, give or take those of the ends of the chain."""
    counts = []
    for length in (10, 40):
        module = chain(length)
        svi, found, _ = steps_of(module.MeanField, module.Chain.data(o=0.5), "eager")
        _, expected, _ = steps_of(module.MeanField, module.Chain.data(o=0.5), "autograd")
        assert found == pytest.approx(expected, rel=1e-10)
        counts.append(calls(svi))
    assert counts[1] <= counts[0] <= 70


def both(step: Step, x: Tensor, noise: Tensor, fields: list[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Loss and gradient, replayed and as they are."""
    replay = Replay(step, x, [x], [noise], [], fields)
    noise.normal_(generator=torch.Generator().manual_seed(5))
    x += 0.25
    value, gradient = step(x, noise, *fields)
    return replay([], fields), replay.gradient, value, gradient


class Step:
    """A function's value and gradient."""

    unused = (False,)

    def __init__(self, function: Any) -> None:
        self.function = function

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        with torch.enable_grad():
            x = inputs[0].detach().requires_grad_()
            value = self.function(x, *inputs[1:])
            (gradient,) = torch.autograd.grad(value, x)
        return value.detach(), gradient


FUNCTIONS: dict[str, Any] = {
    "a long sum with signs": lambda x, e, y: sum(((-1) ** n) * (x[n] * e[n]).exp() for n in range(12)) - y.sum(),
    "looks at every other": lambda x, e, y: (x[::2] * e[1::2]).sum() + (x.view(3, 4).T * e.view(4, 3)).square().sum(),
    "parts in another order": lambda x, e, y: sum((x[(5 * n) % 12] - e[n]) ** 2 * (n + 1) for n in range(12)),
    "an operand that all share": lambda x, e, y: sum((x[0] * x[n] + y[n]).sigmoid() for n in range(1, 12)),
    "numbers apart": lambda x, e, y: sum((x[n] * (0.5 + n) + n / 3.0).tanh() / (n + 1.0) for n in range(12)),
    "rows of a matrix": lambda x, e, y: sum((x.view(4, 3)[n] @ y.view(3, 4)[:, n]).exp() for n in range(4)),
    "softmax by rows": lambda x, e, y: sum(x.view(4, 3)[n].log_softmax(-1)[0] * e[n] for n in range(4)),
    "several results": lambda x, e, y: sum(x.view(4, 3)[n].max(0).values for n in range(4)) + x.sort().values[:3].sum(),
    "a factor": lambda x, e, y: torch.linalg.cholesky_ex(x.outer(x) + 3.0 * torch.eye(12, dtype=x.dtype))[0].sum(),
    "in place": lambda x, e, y: (x * 2.0).add_(e).mul_(y).sum(),
    "the same gradient twice": lambda x, e, y: (x[:6] + x[6:]).sum(),
    "transposed, then flat": lambda x, e, y: ((x.view(3, 4).T * 2.0).reshape(-1) * e).sum(),
    "a gather": lambda x, e, y: (x[(y.abs() * 5).long() % 12] * e).sum(),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_functions(name: str, dtype: torch.dtype) -> None:
    """At other parameters and other noise than were recorded. Sums may be taken in another order."""
    draw = torch.Generator().manual_seed(1)
    x, noise, y = (torch.randn(12, generator=draw, dtype=dtype) for _ in range(3))
    found, slope, value, gradient = both(Step(FUNCTIONS[name]), x, noise, [y])
    tolerance = 1e-12 if dtype is torch.float64 else 1e-5
    torch.testing.assert_close(found, value, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(slope, gradient, rtol=tolerance, atol=tolerance)


def test_what_follows_values_is_refused() -> None:
    x = torch.ones(3)

    def branching(x: Tensor) -> Tensor:
        return x.sum() if bool(x.sum() > 0) else -x.sum()

    with pytest.raises(Unrecordable, match="not known ahead"):
        Replay(Step(branching), x, [x], [], [], [])


# Data, parameters and code that change


PLATED = """
model Rows {
  dim N, P
  latent b : real[P] ~ Normal(0, 1)
  latent s : positive ~ HalfNormal(1)
  plate row[N] {
    data x : real[P]
    observed y : real ~ Normal(dot(x, b), s)
  }
}
guide MeanField for Rows {
  param loc : real[P] = 0
  param scale : positive[P] = 0.3, lr = 0.003
  param fixed : real = -1, frozen
  b ~ Normal(loc, scale)
  s ~ LogNormal(fixed, 0.2)
}
"""
Run = Callable[[guidedsl.SVI], list[float]]


def rows(seed: int, count: int = 7) -> tuple[ModuleType, Any]:
    module = load_source(Source("rows.guide", PLATED), "replayed_rows")
    draw = torch.Generator().manual_seed(seed)
    x, y = torch.randn(count, 3, generator=draw), torch.randn(count, generator=draw)
    return module, module.Rows.data(x=x, y=y, dtype=torch.float64)


def same(run: Run, optim: Callable[[], Any] = guidedsl.optim.Adam, replays: int = 1, engine: str = "eager") -> None:
    """What a run gives is what it gives under autograd; so many sizes of data are replayed."""
    module, _ = rows(0)
    found: dict[str, tuple[list[float], dict[str, Tensor]]] = {}
    engines = ("autograd", engine)
    for engine in engines:
        store = ParamStore()
        svi = guidedsl.SVI(module.Rows, module.MeanField, optim(), store=store, seed=2, engine=engine)  # type: ignore[arg-type]
        found[engine] = run(svi), {name: value.detach() for name, value in store.items()}
    assert sum(one is not None for one in (svi._eager._replays or {}).values()) == replays
    assert found[engine][0] == pytest.approx(found["autograd"][0], rel=1e-10)
    for name, value in found["autograd"][1].items():
        torch.testing.assert_close(found[engine][1][name], value, rtol=1e-8, atol=1e-8)


def test_other_data_of_the_size() -> None:
    """The first is read where it lies, and stays as it is when others come."""
    first, second = rows(0)[1], rows(1)[1]
    kept = first.y.clone()
    same(lambda svi: [svi.step(data) for data in (first, first, second, first, second, second)])
    assert torch.equal(first.y, kept)


def test_data_that_changes_in_place() -> None:
    def run(svi: guidedsl.SVI) -> list[float]:
        data, other = rows(0)[1], rows(1)[1]
        losses = [svi.step(data)]
        data.y.mul_(2.0)
        losses += [svi.step(data), svi.step(other)]
        other.y.mul_(3.0)
        data.x.add_(1.0)
        return [*losses, svi.step(other), svi.step(data)]

    same(run)


def test_data_of_several_sizes() -> None:
    sizes = [rows(0, count)[1] for count in (7, 5, 1)]
    same(lambda svi: [svi.step(data) for data in sizes * 2], replays=3)


def test_data_of_ever_other_sizes() -> None:
    """Recording all would take longer than autograd does."""
    sizes = [rows(0, count)[1] for count in range(1, 14)]
    same(lambda svi: [svi.step(data) for data in sizes * 2], replays=MOST_REPLAYS)


@pytest.mark.parametrize(("engine", "replays"), [("eager", 1), ("compiled", 0)])
def test_parameters_that_are_changed_from_outside(engine: str, replays: int) -> None:
    """Assigned, loaded, given other memory, or frozen ones that are assigned."""

    def run(svi: guidedsl.SVI) -> list[float]:
        data, store = rows(0)[1], svi.store
        losses = [svi.step(data), svi.step(data)]
        store["MeanField.loc"] = torch.tensor([0.5, -0.5, 0.1], dtype=torch.float64)
        losses.append(svi.step(data))
        store.set_state({**store.get_state()})
        leaf = store.leaves()["MeanField.scale"]
        leaf.data = leaf.detach() + 0.5
        losses.append(svi.step(data))
        store["MeanField.fixed"] = torch.tensor(0.5, dtype=torch.float64)
        return [*losses, svi.step(data), svi.step(data)]

    same(run, replays=replays, engine=engine)


def test_leaves_are_looks_at_one_buffer() -> None:
    module, data = rows(0)
    store = ParamStore()
    svi = guidedsl.SVI(module.Rows, module.MeanField, guidedsl.optim.Adam(), store=store, seed=2)
    svi.step(data)
    held = dict(store.leaves())
    svi.step(data)
    x = store.packed()
    assert x is not None
    assert x.tolist() == [*store.leaves()["MeanField.loc"], *store.leaves()["MeanField.scale"]]
    assert all(store.leaves()[name] is leaf for name, leaf in held.items())
    x.zero_()
    assert store["MeanField.scale"].tolist() == [1.0, 1.0, 1.0]


OPTIMISERS: dict[str, Callable[[], Any]] = {
    "clipped": lambda: guidedsl.optim.Adam(0.02, clip_norm=0.5, clip_value=0.3, lr_decay=0.9),
    "settings": lambda: guidedsl.optim.Adam(settings={"MeanField.loc": {"lr": 0.1, "betas": (0.8, 0.9)}}),
    "of torch": lambda: guidedsl.optim.Torch(torch.optim.SGD, lr=0.01, momentum=0.9),
}


@pytest.mark.parametrize("name", OPTIMISERS)
def test_optimisers(name: str) -> None:
    data = rows(0)[1]
    same(lambda svi: [svi.step(data) for _ in range(4)], OPTIMISERS[name])


def test_a_run_that_is_annealed_first() -> None:
    """The weight changes at each step, until it is one."""
    module, data = rows(0)
    losses = []
    for engine in ("autograd", "eager"):
        adam, store = guidedsl.optim.Adam(), ParamStore()
        svi = guidedsl.SVI(
            *(module.Rows, module.MeanField, adam), store=store, seed=2, kl_annealing=3, engine=engine  # type: ignore[arg-type]
        )
        losses.append([svi.step(data) for _ in range(6)])
    assert is_replayed(svi)
    assert losses[1] == pytest.approx(losses[0], rel=1e-10)


def test_autograd_calls_the_functions_at_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    module, data = rows(0)
    counts = []
    real = ELBO.__call__
    for engine in ("autograd", "eager"):
        called = []
        monkeypatch.setattr(
            ELBO, "__call__", lambda *given, log=called, **named: log.append(1) or real(*given, **named)
        )
        svi = guidedsl.SVI(module.Rows, module.MeanField, guidedsl.optim.Adam(), store=ParamStore(), engine=engine)  # type: ignore[arg-type]
        for _ in range(5):
            svi.step(data)
        counts.append(len(called))
    assert counts == [1 + 5, 1 + 1], "the plan of the noise, and then each step, or the recording"


def test_a_loss_that_is_not_finite_is_explained_alike() -> None:
    messages = []
    module, data = rows(0)
    for engine in ("autograd", "eager"):
        store = ParamStore()
        svi = guidedsl.SVI(module.Rows, module.MeanField, guidedsl.optim.Adam(), store=store, seed=0, engine=engine)  # type: ignore[arg-type]
        svi.step(data)
        store.leaves()["MeanField.loc"].data[1] = torch.nan
        with pytest.raises(guidedsl.InferenceError) as caught:
            svi.step(data)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert "MeanField.loc" in messages[0]


def test_large_results_share_memory() -> None:
    """As many numbers as are alive at once, not one array for each operator."""
    x, noise = torch.randn(10_000), torch.randn(10_000)

    def long(x: Tensor, e: Tensor) -> Tensor:
        for _ in range(50):
            x = (x * 0.5).tanh() + e
        return x.sum()

    with torch.no_grad():
        recording = record(lambda x, e: (long(x, e), e), [x, noise], [])
    bound = Bound(graph_of(recording, [x, noise]), [], torch.zeros(10_000))
    outs = {call.keywords["out"].data_ptr() for call in bound.step if "out" in getattr(call, "keywords", {})}
    assert len(bound.step) > 100
    assert len(outs) < 10
    torch.testing.assert_close(bound.value, long(x, noise))


def test_another_size_of_data_may_leave_other_parameters_unused() -> None:
    """One Adam goes on from one to the other; a parameter without a gradient stays where it is."""
    found = []
    for flat in (False, True):
        store, adam = ParamStore(), guidedsl.optim.Adam(0.1)
        for name in ("a", "b"):
            store.param(name, torch.zeros(2))
        x, gradient = store.packed(), torch.tensor([1.0, 2.0, 3.0, 4.0])
        assert x is not None
        names, leaves = list(store.trainable()), list(store.trainable().values())
        for first, second in ((gradient[:2], None), (gradient[:2], gradient[2:]), (None, gradient[2:])):
            if flat:
                adam.step_flat(store, names, leaves, [first, second], x, gradient)
            else:
                adam.step(store, names, leaves, [first, second])
        found.append(x.clone())
    torch.testing.assert_close(found[1], found[0])
