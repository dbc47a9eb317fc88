"""Optimisers: beside torch's and Pyro's on the same gradients, settings by name, clipping, schedules, their state."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from pyro.optim.clipped_adam import ClippedAdam as PyroClippedAdam
from torch import Tensor
from torch.optim import lr_scheduler

from guidedsl.runtime import ParamStore, constraints, optim
from guidedsl.runtime.errors import InferenceError
from guidedsl.runtime.optim_settings import clipped

SHAPES = {"G.loc": (3,), "G.scale": (2, 2), "G.w": ()}
Make = Callable[[], optim.Optimiser]


def filled(dtype: torch.dtype = torch.float64, **own: Any) -> ParamStore:
    store = ParamStore()
    generator = torch.Generator().manual_seed(0)
    for name, shape in SHAPES.items():
        store.param(name, torch.randn(shape, generator=generator, dtype=dtype), **own.get(name[2:], {}))
    return store


def gradients(store: ParamStore, count: int, seed: int = 1, size: float = 1.0) -> list[list[Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        [size * torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype) for leaf in store.trainable().values()]
        for _ in range(count)
    ]


def take(store: ParamStore, optimiser: optim.Optimiser, steps: Sequence[Sequence[Tensor | None]]) -> None:
    trainable = store.trainable()
    names, leaves = list(trainable), list(trainable.values())
    for step in steps:
        optimiser.step(store, names, leaves, step)


def values(store: ParamStore) -> dict[str, Tensor]:
    return {name: leaf.detach().clone() for name, leaf in store.named_parameters()}


def moved(before: dict[str, Tensor], store: ParamStore) -> dict[str, float]:
    return {name: float((leaf - before[name]).abs().max()) for name, leaf in values(store).items()}


def by_torch(optimiser_class: Any, steps: Sequence[Sequence[Tensor]], **options: Any) -> list[Tensor]:
    """Where a torch optimiser takes the same leaves with the same gradients."""
    leaves = [leaf.detach().clone().requires_grad_() for leaf in filled().leaves().values()]
    theirs = optimiser_class(leaves, **options)
    for step in steps:
        for leaf, gradient in zip(leaves, step, strict=True):
            leaf.grad = gradient.clone()
        theirs.step()
    return [leaf.detach() for leaf in leaves]


CLASSES: list[tuple[Any, dict[str, Any]]] = [
    (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    (torch.optim.RMSprop, {"lr": 0.01, "centered": True}),
    (torch.optim.Adagrad, {"lr": 0.1}),
    (torch.optim.Adadelta, {"lr": 0.5}),
    (torch.optim.AdamW, {"lr": 0.01, "amsgrad": True}),
    (torch.optim.Adamax, {"lr": 0.01}),
    (torch.optim.NAdam, {"lr": 0.01}),
    (torch.optim.RAdam, {"lr": 0.01}),
    (torch.optim.Rprop, {"lr": 0.01}),
    (torch.optim.ASGD, {"lr": 0.01}),
    (torch.optim.Adafactor, {"lr": 0.01}),
    (PyroClippedAdam, {"lr": 0.01, "clip_norm": 0.5, "lrd": 0.9}),
]
every_class = pytest.mark.parametrize(("optimiser_class", "options"), CLASSES, ids=[c.__name__ for c, _ in CLASSES])


@every_class
def test_any_torch_optimiser_goes_where_it_goes_by_itself(optimiser_class: Any, options: dict[str, Any]) -> None:
    store = filled()
    steps = gradients(store, 12)
    take(store, optim.Torch(optimiser_class, **options), steps)
    for leaf, theirs in zip(values(store).values(), by_torch(optimiser_class, steps, **options), strict=True):
        torch.testing.assert_close(leaf, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("threshold", [0, 10**9], ids=["fused", "plain"])
def test_adam_is_torchs(monkeypatch: pytest.MonkeyPatch, threshold: int) -> None:
    monkeypatch.setattr(optim, "FUSED_FROM", threshold)
    store = filled()
    steps = gradients(store, 12)
    take(store, optim.Adam(lr=0.03, betas=(0.8, 0.99), eps=1e-6), steps)
    theirs = by_torch(torch.optim.Adam, steps, lr=0.03, betas=(0.8, 0.99), eps=1e-6)
    for leaf, other in zip(values(store).values(), theirs, strict=True):
        torch.testing.assert_close(leaf, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("decay", [1.0, 0.9])
def test_clipped_adam_is_pyros(decay: float) -> None:
    store = filled()
    steps = gradients(store, 12, size=3.0)
    take(store, optim.ClippedAdam(lr=0.05, clip_value=1.5, lr_decay=decay), steps)
    theirs = by_torch(PyroClippedAdam, steps, lr=0.05, clip_norm=1.5, lrd=decay)
    for leaf, other in zip(values(store).values(), theirs, strict=True):
        # Pyro multiplies the root of the second moment's correction into the step, and so scales eps too
        torch.testing.assert_close(leaf, other, rtol=1e-6, atol=1e-7)


def test_pyros_clip_norm_is_a_parameters_own() -> None:
    """`PyroOptim(…, clip_args={"clip_norm": c})` clips each parameter alone; here the norm is that of all together."""
    found = clipped([torch.tensor([3.0]), torch.tensor([4.0]), None], 1.0, None)
    assert [None if g is None else g.item() for g in found] == pytest.approx([0.6, 0.8, None])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_clipping_gives_the_bound(dtype: torch.dtype) -> None:
    steps = [gradient.to(dtype) for gradient in gradients(filled(), 1, size=10.0)[0]]
    joint = clipped(steps, 2.0, None)
    norm = float(torch.cat([g.reshape(-1) for g in joint if g is not None]).norm())
    assert norm == pytest.approx(2.0, rel=1e-6)
    assert all(float(g.abs().max()) <= 1.5 for g in clipped(steps, None, 1.5) if g is not None)
    loose = clipped(steps, 1e9, 1e9)
    assert all(torch.equal(a, b) for a, b in zip(loose, steps, strict=True) if a is not None)
    assert float(clipped([torch.zeros(2)], 1.0, None)[0].abs().max()) == 0.0  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "make",
    [
        lambda: optim.Adam(clip_norm=0.1),
        lambda: optim.Adam(clip_value=0.1),
        lambda: optim.Torch(torch.optim.SGD, lr=1.0, clip_norm=0.1),
        lambda: optim.Torch(PyroClippedAdam, lr=0.1),
        lambda: optim.Adam(),
    ],
)
@pytest.mark.parametrize("threshold", [0, 10**9], ids=["fused", "plain"])
def test_gradients_that_autograd_shares(monkeypatch: pytest.MonkeyPatch, make: Make, threshold: int) -> None:
    """One tensor for two leaves, and one number expanded: writing into either would move the wrong thing, or fail."""
    monkeypatch.setattr(optim, "FUSED_FROM", threshold)
    results = []
    for copied in (False, True):
        store = ParamStore()
        x, y = store.param("x", torch.zeros(3)), store.param("y", torch.zeros(3))
        found = torch.autograd.grad((x + y).sum(), [x, y])
        assert found[0].stride() == (0,)
        shared = torch.autograd.grad(((x + y) * torch.tensor([3.0, 4.0, 5.0])).sum(), [x, y])
        steps = [list(found), list(shared)]
        take(store, make(), [[g.clone() for g in step] for step in steps] if copied else steps)
        results.append(values(store))
    for name in results[0]:
        torch.testing.assert_close(results[0][name], results[1][name], rtol=0, atol=0)


# Settings of single parameters


@pytest.mark.parametrize(
    "make",
    [
        lambda settings: optim.Adam(lr=0.1, settings=settings),
        lambda settings: optim.Torch(torch.optim.Adam, lr=0.1, settings=settings),
        lambda settings: optim.ClippedAdam(lr=0.1, settings=settings),
    ],
)
@pytest.mark.parametrize("function", [False, True])
def test_settings_by_name(make: Callable[[Any], optim.Optimiser], function: bool) -> None:
    """Adam's first step moves each number by its learning rate."""
    store = filled(scale={"lr": 0.02}, w={"lr": 0.03})
    named = {"G.loc": {"lr": 0.5}, "G.scale": {"lr": 0.25}}
    optimiser = make((lambda name: named.get(name)) if function else named)
    before = values(store)
    take(store, optimiser, gradients(store, 1))
    assert moved(before, store) == pytest.approx({"G.loc": 0.5, "G.scale": 0.25, "G.w": 0.03}, rel=1e-6)
    optimiser.set_lr(0.01)  # a tenth, and so of every rate
    before = values(store)
    take(store, optimiser, gradients(store, 1))
    assert moved(before, store) == pytest.approx({"G.loc": 0.05, "G.scale": 0.025, "G.w": 0.003}, rel=0.4)


@pytest.mark.parametrize("make", [optim.Adam, lambda **o: optim.Torch(torch.optim.SGD, **o)])
def test_rate_zero_freezes_only_that_parameter(make: Any) -> None:
    store = filled(w={"lr": 0})
    assert "G.w" not in store.trainable()
    before = values(store)
    take(store, make(lr=0.1, settings={"G.loc": {"lr": 0.0}}), gradients(store, 3))
    far = moved(before, store)
    assert far["G.loc"] == far["G.w"] == 0.0
    assert far["G.scale"] > 0.01


def test_other_options_by_name() -> None:
    store = filled()
    steps = gradients(store, 6)
    settings = {"G.loc": {"betas": (0.5, 0.9), "eps": 1e-3}}
    take(store, optim.Adam(lr=0.1, settings=settings), steps)
    theirs = by_torch(torch.optim.Adam, steps, lr=0.1, betas=(0.5, 0.9), eps=1e-3)
    torch.testing.assert_close(values(store)["G.loc"], theirs[0], rtol=1e-10, atol=1e-12)
    theirs = by_torch(torch.optim.Adam, steps, lr=0.1)
    torch.testing.assert_close(values(store)["G.scale"], theirs[1], rtol=1e-10, atol=1e-12)

    other = filled()
    take(other, optim.Torch(torch.optim.SGD, lr=0.1, settings={"G.loc": {"momentum": 0.9}}), steps)
    theirs = by_torch(torch.optim.SGD, steps, lr=0.1, momentum=0.9)
    torch.testing.assert_close(values(other)["G.loc"], theirs[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("make", [optim.Adam, lambda **o: optim.Torch(torch.optim.Adam, **o)])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"G.lock": {"lr": 0.1}}, "did you mean 'G.loc'"),
        ({"other": {"lr": 0.1}}, "the store has 'G.loc'"),
        ({"G.loc": {"rate": 0.1}}, "setting 'rate'.*lr"),
        ({"G.loc": 0.1}, "mapping"),
        ({"G.loc": {"lr": -0.1}}, "'G.loc'.*lr=-0.1"),
        (lambda name: {"lr": math.nan}, "lr=nan"),
    ],
)
def test_impossible_settings_by_name(make: Any, settings: Any, message: str) -> None:
    store = filled()
    before = values(store)
    with pytest.raises(InferenceError, match=message):
        take(store, make(lr=0.1, settings=settings), gradients(store, 1))
    assert max(moved(before, store).values()) == 0.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optim.Adam(lr=-1.0), "lr=-1"),
        (lambda: optim.Adam(lr=math.nan), "lr=nan"),
        (lambda: optim.Adam(betas=(1.0, 0.9)), "betas"),
        (lambda: optim.Adam(clip_norm=0.0), "clip_norm"),
        (lambda: optim.ClippedAdam(clip_value=-1.0), "clip_value"),
        (lambda: optim.ClippedAdam(lr_decay=0.0), "lr_decay"),
        (lambda: optim.Torch(torch.optim.SGD, clip_norm=-1.0), "SGD.*clip_norm"),
        (lambda: optim.Torch(torch.optim.LBFGS), r"LBFGS.*guidedsl\.fit"),
        (lambda: optim.Adam().set_lr(math.inf), "lr=inf"),
    ],
)
def test_impossible_optimisers(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InferenceError, match=message):
        make()


def test_a_wrong_option_of_a_torch_class_is_an_error_at_once() -> None:
    with pytest.raises(TypeError, match="momentun"):
        optim.Torch(torch.optim.SGD, lr=0.1, momentun=0.9)


def test_setting_the_rate_before_the_first_step() -> None:
    """Every parameter gets it, whichever is first."""
    store = filled(w={"lr": 0.4})
    optimiser = optim.Torch(torch.optim.SGD, lr=0.1)
    optimiser.set_lr(0.05)
    before = values(store)
    steps = [[torch.ones_like(leaf) for leaf in store.trainable().values()]]
    take(store, optimiser, steps)
    assert moved(before, store) == pytest.approx({"G.loc": 0.05, "G.scale": 0.05, "G.w": 0.2})


@pytest.mark.parametrize("make", [optim.Adam, lambda **o: optim.Torch(torch.optim.Adam, **o)])
def test_a_rate_of_zero_for_a_while(make: Any) -> None:
    store = filled(w={"lr": 0.2})
    optimiser = make(lr=0.1)
    optimiser.set_lr(0.0)
    before = values(store)
    take(store, optimiser, gradients(store, 1))
    assert max(moved(before, store).values()) == 0.0
    optimiser.set_lr(0.1)
    take(store, optimiser, gradients(store, 1))
    assert moved(before, store) == pytest.approx({"G.loc": 0.1, "G.scale": 0.1, "G.w": 0.2}, rel=1e-6)


# Schedules

SCHEDULERS: list[tuple[Any, dict[str, Any]]] = [
    (lr_scheduler.StepLR, {"step_size": 3, "gamma": 0.5}),
    (lr_scheduler.MultiStepLR, {"milestones": [2, 2, 5], "gamma": 0.1}),
    (lr_scheduler.ExponentialLR, {"gamma": 0.9}),
    (lr_scheduler.CosineAnnealingLR, {"T_max": 8}),
    (lr_scheduler.CosineAnnealingWarmRestarts, {"T_0": 3}),
    (lr_scheduler.LinearLR, {"total_iters": 4}),
    (lr_scheduler.PolynomialLR, {"total_iters": 6, "power": 2.0}),
    (lr_scheduler.LambdaLR, {"lr_lambda": lambda epoch: 1.0 / (1 + epoch)}),
    (lr_scheduler.OneCycleLR, {"max_lr": 0.5, "total_steps": 12, "cycle_momentum": False}),
    (lr_scheduler.CyclicLR, {"base_lr": 0.01, "max_lr": 0.5, "step_size_up": 3, "cycle_momentum": False}),
]
every_scheduler = pytest.mark.parametrize(("scheduler", "options"), SCHEDULERS, ids=[s.__name__ for s, _ in SCHEDULERS])


def rates_of_torch(scheduler: Any, options: dict[str, Any], count: int) -> list[float]:
    inner = torch.optim.SGD([torch.zeros(())], lr=0.1)
    theirs = scheduler(inner, **options)
    found = [inner.param_groups[0]["lr"]]
    for _ in range(count):
        inner.step()
        theirs.step()
        found.append(inner.param_groups[0]["lr"])
    return found


@every_scheduler
@pytest.mark.parametrize("make", [optim.Adam, optim.ClippedAdam, lambda **o: optim.Torch(torch.optim.RMSprop, **o)])
def test_schedules_are_torchs_and_act_only_when_advanced(scheduler: Any, options: dict[str, Any], make: Any) -> None:
    store = filled(w={"lr": 0.02})
    schedule = optim.Scheduled(make(lr=0.1), scheduler, **options)
    found = [schedule.lr]
    for _ in range(10):
        take(store, schedule, gradients(store, 2))
        assert schedule.lr == found[-1]
        schedule.advance()
        found.append(schedule.lr)
    assert found == rates_of_torch(scheduler, options, 10)


@every_scheduler
def test_a_resumed_schedule_goes_on(scheduler: Any, options: dict[str, Any]) -> None:
    def make() -> optim.Scheduled:
        return optim.Scheduled(optim.Adam(lr=0.1), scheduler, **options)

    whole, first = make(), make()
    for _ in range(5):
        whole.advance()
        first.advance()
    resumed = make()
    resumed.set_state(first.get_state())
    assert resumed.lr == whole.lr
    for _ in range(5):
        whole.advance()
        resumed.advance()
        assert resumed.lr == whole.lr


def test_own_rates_keep_their_ratio_under_a_schedule() -> None:
    store = filled(w={"lr": 0.02})
    schedule = optim.Scheduled(optim.Torch(torch.optim.SGD, lr=0.1), lr_scheduler.StepLR, step_size=1, gamma=0.5)
    schedule.advance()
    before = values(store)
    take(store, schedule, [[torch.ones_like(leaf) for leaf in store.trainable().values()]])
    assert moved(before, store) == pytest.approx({"G.loc": 0.05, "G.scale": 0.05, "G.w": 0.01})


def test_a_schedule_that_follows_the_loss() -> None:
    schedule = optim.Scheduled(optim.Adam(lr=0.1), lr_scheduler.ReduceLROnPlateau, patience=1, factor=0.1)
    for loss in (5.0, 5.0, 5.0, 5.0):
        schedule.advance(loss)
    assert schedule.lr == pytest.approx(0.01)
    with pytest.raises(InferenceError, match=r"ReduceLROnPlateau follows the loss: advance\(loss\)"):
        schedule.advance()
    with pytest.raises(InferenceError, match=r"StepLR: advance\(\) alone"):
        optim.Scheduled(optim.Adam(), lr_scheduler.StepLR, step_size=1).advance(3.0)


def test_schedules_in_a_row() -> None:
    def chained(inner: Any) -> Any:
        parts = [lr_scheduler.LinearLR(inner, total_iters=2), lr_scheduler.ExponentialLR(inner, gamma=0.5)]
        return lr_scheduler.SequentialLR(inner, parts, milestones=[2])

    schedule = optim.Scheduled(optim.Adam(lr=0.3), chained)
    found = [schedule.lr]
    for _ in range(4):
        schedule.advance()
        found.append(schedule.lr)
    assert found == pytest.approx([0.1, 0.2, 0.3, 0.15, 0.075])


def test_a_decay_goes_on_between_the_steps_of_a_schedule() -> None:
    store = filled()
    schedule = optim.Scheduled(optim.Adam(lr=0.8, lr_decay=0.5), lr_scheduler.StepLR, step_size=1, gamma=0.1)
    take(store, schedule, gradients(store, 1))
    schedule.advance()
    assert schedule.lr == pytest.approx(0.8 * 0.5 * 0.1)


def test_cycled_momentum_would_act_on_nothing() -> None:
    with pytest.raises(InferenceError, match="cycle_momentum=False"):
        optim.Scheduled(optim.Adam(lr=0.1), lr_scheduler.OneCycleLR, max_lr=0.5, total_steps=12)


# State

OPTIMISERS: list[Make] = [
    lambda: optim.Adam(lr=0.05),
    lambda: optim.Adam(lr=0.05, settings={"G.loc": {"lr": 0.2, "betas": (0.5, 0.9)}}),
    lambda: optim.ClippedAdam(lr=0.05, lr_decay=0.9),
    lambda: optim.Scheduled(optim.ClippedAdam(lr=0.05), lr_scheduler.ExponentialLR, gamma=0.9),
    *(lambda c=c, o=o: optim.Torch(c, **o) for c, o in CLASSES),  # type: ignore[misc]
]


@pytest.mark.parametrize("make", OPTIMISERS)
def test_a_resumed_optimiser_goes_on_bit_for_bit(make: Make) -> None:
    """The state taken before the end is not moved by the steps after it, nor lost where no step follows."""
    whole, resumed = filled(w={"lr": 0.1}), filled(w={"lr": 0.1})
    steps = gradients(whole, 10)
    optimiser = make()
    take(whole, optimiser, steps[:5])
    optimiser.set_lr(optimiser.lr * 0.5)
    state, leaves = optimiser.get_state(), whole.get_state()
    take(whole, optimiser, steps[5:])
    again, unused = make(), make()
    unused.set_state(state)
    again.set_state(unused.get_state())
    resumed.set_state(leaves)
    take(resumed, again, steps[5:])
    assert again.lr == optimiser.lr
    ours, theirs = values(whole), values(resumed)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("make", OPTIMISERS)
@pytest.mark.parametrize("state", [{}, {"class": "Lion"}, {"class": "Adam", "lr": 0.1}, {"class": "SGD", "lr": "a"}])
def test_a_state_of_something_else_changes_nothing(make: Make, state: Any) -> None:
    store, twin = filled(), filled()
    steps = gradients(store, 4)
    one, other = make(), make()
    take(store, one, steps[:2])
    take(twin, other, steps[:2])
    with pytest.raises(InferenceError, match="state"):
        one.set_state(state)
    take(store, one, steps[2:])
    take(twin, other, steps[2:])
    ours, theirs = values(store), values(twin)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("make", [optim.Adam, lambda **o: optim.Torch(torch.optim.Adam, **o)])
def test_parameters_that_come_and_go(make: Any) -> None:
    store = filled()
    optimiser = make(lr=0.1)
    take(store, optimiser, gradients(store, 3))
    del store["G.loc"]
    store.param("G.loc", torch.zeros(5, dtype=torch.float64))
    store.param("G.new", 1.0, constraints.positive)
    before = values(store)
    take(store, optimiser, gradients(store, 1))
    assert moved(before, store)["G.loc"] == pytest.approx(0.1, rel=1e-6)
    assert moved(before, store)["G.new"] == pytest.approx(0.1, rel=1e-6)


def test_a_gradient_of_none_leaves_its_leaf_alone() -> None:
    for make in OPTIMISERS:
        store = filled()
        before = values(store)
        _, *others = gradients(store, 1)[0]
        take(store, make(), [[None, *others]])
        assert moved(before, store)["G.loc"] == 0.0
        assert moved(before, store)["G.scale"] > 0.0
