"""Noise: seeds, ranges, recording and replay."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from guidedsl.runtime import distributions as dist
from guidedsl.runtime.noise import Noise, RecordedNoise

Draw = Callable[[Noise], Tensor]

DRAWS: dict[str, Draw] = {
    "normal": lambda n: n.normal((3, 4)),
    "uniform": lambda n: n.uniform((3, 4)),
    "exponential": lambda n: n.exponential((3, 4)),
    "gamma": lambda n: n.gamma(torch.tensor([0.5, 2.0]), (3, 2)),
    "log_gamma": lambda n: n.log_gamma(0.5, (3,)),
    "dirichlet": lambda n: n.dirichlet(torch.tensor([0.5, 2.0, 1.0]), (4, 3)),
    "bernoulli": lambda n: n.bernoulli(0.3, (3, 4)),
    "poisson": lambda n: n.poisson(torch.tensor([0.5, 20.0])),
    "binomial": lambda n: n.binomial(10.0, torch.tensor([0.2, 0.8]), (3, 2)),
    "categorical": lambda n: n.categorical((5,), probs=torch.tensor([0.2, 0.3, 0.5])),
    "categorical_logits": lambda n: n.categorical((5,), logits=torch.tensor([0.2, 0.3, 0.5])),
    "integers": lambda n: n.integers(7, (3, 4)),
    "permutation": lambda n: n.permutation(9),
    "distinct_rows": lambda n: n.distinct_rows(10_000, 12),
}
INTEGER = {"categorical", "categorical_logits", "integers", "permutation", "distinct_rows"}


@pytest.mark.parametrize("name", DRAWS)
def test_same_seed_same_draw(name: str) -> None:
    draw = DRAWS[name]
    first, second = (draw(Noise(torch.Generator().manual_seed(3))) for _ in range(2))
    assert torch.equal(first, second)
    state = torch.get_rng_state()
    draw(Noise(torch.Generator().manual_seed(3)))
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("name", DRAWS)
def test_without_a_generator_torchs_own(name: str) -> None:
    draw = DRAWS[name]
    torch.manual_seed(5)
    first = draw(Noise())
    torch.manual_seed(5)
    assert torch.equal(first, draw(Noise()))


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype(name: str, dtype: torch.dtype) -> None:
    drawn = DRAWS[name](Noise(torch.Generator().manual_seed(1), dtype))
    assert drawn.dtype == (torch.int64 if name in INTEGER else dtype)


def test_default_dtype_is_read_when_made() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        noise = Noise()
    finally:
        torch.set_default_dtype(torch.float32)
    assert noise.normal((2,)).dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_uniform_is_open(dtype: torch.dtype) -> None:
    u = Noise(torch.Generator().manual_seed(0), dtype).uniform((1_000_000,))
    assert bool(((u > 0) & (u < 1)).all())


def test_small_concentrations_stay_inside() -> None:
    noise = Noise(torch.Generator().manual_seed(0), torch.float32)
    assert bool((noise.gamma(1e-3, (10_000,)) > 0).all())
    logs = noise.log_gamma(1e-3, (10_000,))
    assert bool(logs.isfinite().all())
    # E log Gamma(a) is the digamma function: here about -1000, far below float32's smallest logarithm
    assert logs.mean().item() == pytest.approx(torch.special.digamma(torch.tensor(1e-3)).item(), rel=0.05)
    p = noise.dirichlet(torch.full((3,), 1e-2), (10_000, 3))
    assert bool(((p > 0) & p.isfinite()).all())


def test_gamma_and_dirichlet_have_gradients() -> None:
    noise = Noise(torch.Generator().manual_seed(0), torch.float64)
    a = torch.full((200_000,), 1.7, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(noise.gamma(a).sum(), a)
    assert gradient.mean().item() == pytest.approx(1.0, abs=0.01)  # the mean of Gamma(a) is a
    c = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(noise.dirichlet(c, (200_000, 3))[:, 0].mean(), c)
    total = 3.5
    exact = torch.tensor([total - 0.5, -0.5, -0.5], dtype=torch.float64) / total**2
    torch.testing.assert_close(gradient, exact, rtol=0.0, atol=0.005)


@pytest.mark.parametrize(("size", "count"), [(5, 5), (100, 7), (5000, 3), (5000, 0), (10_000, 512), (10_000, 9_000)])
def test_distinct_rows(size: int, count: int) -> None:
    noise = Noise(torch.Generator().manual_seed(0))
    for _ in range(20):
        rows = noise.distinct_rows(size, count)
        assert rows.shape == (count,)
        assert rows.dtype == torch.int64
        assert rows.unique().numel() == count
        assert count == 0 or (rows.min() >= 0 and rows.max() < size)


def test_distinct_rows_are_equally_likely() -> None:
    noise = Noise(torch.Generator().manual_seed(0))
    size, count, times = 2000, 100, 2000
    seen = torch.stack([noise.distinct_rows(size, count) for _ in range(times)]).flatten().bincount(minlength=size)
    expected = times * count / size
    chi_square = ((seen - expected).square() / (expected * (1.0 - count / size))).sum().item()
    assert abs(chi_square - (size - 1)) < 5.0 * (2.0 * size) ** 0.5


def test_too_many_rows() -> None:
    with pytest.raises(ValueError, match="6 distinct rows from 5"):
        Noise().distinct_rows(5, 6)


def test_replay_hands_back_every_draw() -> None:
    noise = RecordedNoise(torch.Generator().manual_seed(0))
    drawn = [draw(noise) for draw in DRAWS.values()]
    replay = noise.replay()
    for draw, value in zip(DRAWS.values(), drawn, strict=True):
        torch.testing.assert_close(draw(replay), value, rtol=0.0, atol=0.0)
    assert replay.exhausted
    with pytest.raises(ValueError, match="after all"):
        replay.normal((1,))


def test_recording_changes_nothing() -> None:
    for draw in DRAWS.values():
        plain, recorded = (draw(kind(torch.Generator().manual_seed(4))) for kind in (Noise, RecordedNoise))
        assert torch.equal(plain, recorded)


def test_replay_of_another_shape_or_kind() -> None:
    noise = RecordedNoise()
    noise.normal((2, 3))
    with pytest.raises(ValueError, match=r"asked for normal\(3, 2\), draw 0 is normal\(2, 3\)"):
        noise.replay().normal((3, 2))
    with pytest.raises(ValueError, match="asked for uniform"):
        noise.replay().uniform((2, 3))


def test_only_normal_and_replaced_normals() -> None:
    noise = RecordedNoise(torch.Generator().manual_seed(0))
    assert noise.only_normal
    noise.normal((2,))
    noise.normal((3, 1))
    assert noise.only_normal
    assert [tuple(n.shape) for n in noise.normals] == [(2,), (3, 1)]
    replaced = [torch.zeros(2), torch.ones(3, 1)]
    replay = noise.replay(replaced)
    assert torch.equal(replay.normal((2,)), replaced[0])
    assert torch.equal(replay.normal((3, 1)), replaced[1])
    u = noise.uniform((4,))
    assert not noise.only_normal
    replay = noise.replay(replaced)
    replay.normal((2,)), replay.normal((3, 1))
    assert torch.equal(replay.uniform((4,)), u)
    with pytest.raises(ValueError, match="recorded normals of shapes"):
        noise.replay([torch.zeros(2)])
    with pytest.raises(ValueError, match="recorded normals of shapes"):
        noise.replay([torch.zeros(2), torch.ones(3)])


def test_replayed_gamma_keeps_its_gradient() -> None:
    def pathwise(noise: Noise) -> tuple[Tensor, Tensor]:
        a = torch.tensor([0.6, 3.0], dtype=torch.float64, requires_grad=True)
        x, log_q = dist.Gamma.draw(noise, (5, 2), a, 2.0)
        (gradient,) = torch.autograd.grad((x + log_q).sum(), a)
        return x.detach(), gradient

    noise = RecordedNoise(torch.Generator().manual_seed(0), torch.float64)
    x, gradient = pathwise(noise)
    y, again = pathwise(noise.replay())
    assert torch.equal(x, y)
    torch.testing.assert_close(gradient, again)


def test_fixed_noise_makes_a_guide_deterministic() -> None:
    loc = torch.tensor(0.5, requires_grad=True)
    noise = RecordedNoise(torch.Generator().manual_seed(0))
    x, _ = dist.Normal.draw(noise, (8,), loc, 2.0)
    moved, _ = dist.Normal.draw(noise.replay(), (8,), loc.detach() + 1.0, 2.0)
    torch.testing.assert_close(moved - x.detach(), torch.ones(8))
