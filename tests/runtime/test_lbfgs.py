"""The quasi-Newton method: hard valleys, walls of inf, and honest endings."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from guidedsl.runtime.lbfgs import Objective, minimise


def differentiated(function: object) -> Objective:
    def objective(x: Tensor) -> tuple[float, Tensor]:
        x = x.detach().requires_grad_()
        value = function(x)  # type: ignore[operator]
        (gradient,) = torch.autograd.grad(value, [x])
        return value.item(), gradient

    return objective


def zeros(n: int) -> Tensor:
    return torch.zeros(n, dtype=torch.float64)


def test_rosenbrock() -> None:
    f = differentiated(lambda x: (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum())
    found = minimise(f, zeros(10) - 1, value_tolerance=1e-14)
    assert found.settled
    torch.testing.assert_close(found.x, torch.ones(10, dtype=torch.float64), atol=1e-4, rtol=0)


def test_a_condition_number_of_ten_million() -> None:
    weights = torch.logspace(-3, 4, 30, dtype=torch.float64)
    found = minimise(differentiated(lambda x: (weights * (x - 1) ** 2).sum()), zeros(30), value_tolerance=1e-15)
    torch.testing.assert_close(found.x, torch.ones(30, dtype=torch.float64), atol=1e-2, rtol=0)


def test_what_was_learned_of_one_loss_serves_another_like_it() -> None:
    weights = torch.logspace(0, 1, 10, dtype=torch.float64)

    def around(middle: float) -> Objective:
        return differentiated(lambda x: (weights * (x - middle) ** 2).sum())

    first = minimise(around(1.0), zeros(10))
    # On a quadratic of which enough is known, one quasi-Newton step is most of the way of 0.1.
    _, gradient = around(1.1)(first.x)
    left = first.x + first.step(gradient) - 1.1
    assert float(left.abs().max()) < 0.3 * 0.1
    cold = minimise(around(1.1), first.x)
    warm = minimise(around(1.1), first.x, pairs=first.pairs)
    assert warm.settled
    assert warm.evaluations < cold.evaluations
    torch.testing.assert_close(warm.x, torch.full((10,), 1.1, dtype=torch.float64), atol=1e-3, rtol=0)


def test_a_wall_of_infinity_is_not_crossed() -> None:
    found = minimise(differentiated(lambda x: (1e4 * x - x.log()).sum()), zeros(3) + 100, value_tolerance=1e-14)
    torch.testing.assert_close(found.x, zeros(3) + 1e-4, rtol=1e-3, atol=0)


def test_a_start_that_is_not_finite() -> None:
    found = minimise(differentiated(lambda x: x.log().sum()), zeros(2) - 1)
    assert not found.settled
    assert math.isnan(found.value)


@pytest.mark.parametrize("limit", [{"max_iterations": 3}, {"max_evaluations": 5}])
def test_limits_are_admitted(limit: dict[str, int]) -> None:
    f = differentiated(lambda x: (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum())
    found = minimise(f, zeros(10) - 1, **limit)  # type: ignore[arg-type]
    assert not found.settled
    assert "not enough" in found.reason


def test_an_unbounded_loss_ends() -> None:
    found = minimise(differentiated(lambda x: -x.sum()), zeros(2), max_iterations=50)
    assert not math.isnan(found.value)
