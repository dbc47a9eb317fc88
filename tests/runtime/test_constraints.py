"""Constraints against torch.distributions, autograd's jacobians and their own promises."""

from __future__ import annotations

import copy
import json
import math
import pickle
from dataclasses import FrozenInstanceError

import pyro.distributions.constraints as pyro_constraints
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd.functional import jacobian
from torch.distributions import LKJCholesky, transforms
from torch.distributions import constraints as torch_constraints

from guidedsl.runtime import constraints
from guidedsl.runtime.constraints import Constraint, as_constraint, from_json
from guidedsl.runtime.errors import ParamError

DTYPES = (torch.float64, torch.float32)
LEARNABLE = (
    constraints.real,
    constraints.positive,
    constraints.positive.via("softplus"),
    constraints.nonnegative,
    constraints.nonnegative.via("softplus"),
    constraints.unit,
    constraints.interval(-1, 3),
    constraints.interval(0.1, 0.3),
    constraints.interval(1e6, 1e6 + 1),
    constraints.interval(torch.tensor(0.5), 2.0),
    constraints.greater_than(2),
    constraints.greater_than(-0.1).via("softplus"),
    constraints.greater_than(torch.tensor(1e8)),
    constraints.less_than(0.7),
    constraints.less_than(-1e8).via("softplus"),
    constraints.simplex,
    constraints.ordered,
    constraints.positive_ordered,
    constraints.zero_sum,
    constraints.lower_cholesky,
    constraints.unit_lower_cholesky,
    constraints.corr_cholesky,
    constraints.corr,
    constraints.cov,
)
CHECK_ONLY = (
    constraints.unit_vector,
    constraints.boolean,
    constraints.count,
    constraints.integer,
    constraints.integer_interval(-1, 4),
    constraints.one_hot,
)
STRICTLY_LOWER = ("unit_lower_cholesky", "corr_cholesky", "corr")

learnable = pytest.mark.parametrize("constraint", LEARNABLE, ids=str)
sizes = pytest.mark.parametrize("size", [1, 2, 3, 6])
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=["float64", "float32"])


def value_shape(constraint: Constraint, size: int) -> tuple[int, ...]:
    return (size,) * constraint.event_dim


def free_like(
    constraint: Constraint, size: int, dtype: torch.dtype, batch: tuple[int, ...] = (), seed: int = 0
) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = constraint.free_shape((*batch, *value_shape(constraint, size)))
    return torch.randn(shape, generator=generator, dtype=dtype)


def coordinates(constraint: Constraint, value: Tensor) -> Tensor:
    """As many entries of one value as it has degrees of freedom, in which the density is taken."""
    if constraint.name == "simplex":
        return value[:-1]
    if constraint.name == "zero_sum":
        # An orthonormal basis of the plane, made another way.
        basis = torch.linalg.svd(torch.ones(1, len(value), dtype=value.dtype)).Vh[1:]
        return basis @ value
    if constraint.event_dim == 2:
        rows, columns = torch.tril_indices(len(value), len(value), -1 if constraint.name in STRICTLY_LOWER else 0)
        return value[rows, columns]
    return value.reshape(-1)


@learnable
@sizes
@dtypes
def test_push_has_the_log_determinant_of_the_jacobian(constraint: Constraint, size: int, dtype: torch.dtype) -> None:
    free = free_like(constraint, size, dtype)
    value, log_det = constraint.push(free)
    assert value.shape == value_shape(constraint, size)
    assert value.dtype == log_det.dtype == dtype
    assert log_det.shape == ()
    count = free.numel()
    if count == 0:
        assert float(log_det) == 0.0
        return
    matrix = jacobian(lambda f: coordinates(constraint, constraint.constrain(f)), free.double())
    expected = torch.linalg.slogdet(matrix.reshape(count, count)).logabsdet
    tolerance = 1e-9 if dtype == torch.float64 else 1e-4
    torch.testing.assert_close(log_det.double(), expected, rtol=tolerance, atol=tolerance)


@learnable
@sizes
@dtypes
def test_free_inverts_constrain(constraint: Constraint, size: int, dtype: torch.dtype) -> None:
    if max((abs(float(bound)) for bound in constraint.bounds), default=0) > 1e5 and dtype == torch.float32:
        dtype = torch.float64  # float32 has no digits left for the distance to such a bound
    free = free_like(constraint, size, dtype, batch=(2, 3), seed=1)
    value = constraint.constrain(free)
    tolerance = {torch.float64: 1e-6, torch.float32: 2e-3}[dtype]
    torch.testing.assert_close(constraint.free(value), free, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(constraint.constrain(constraint.free(value)), value, rtol=tolerance, atol=tolerance)


@learnable
@sizes
def test_batches_are_independent(constraint: Constraint, size: int) -> None:
    free = free_like(constraint, size, torch.float64, batch=(2, 3))
    value, log_det = constraint.push(free)
    assert value.shape == (2, 3, *value_shape(constraint, size))
    assert log_det.shape == constraint.check(value).shape == (2, 3)
    assert torch.equal(value, constraint.constrain(free))
    for i in range(2):
        for j in range(3):
            one, one_log_det = constraint.push(free[i, j])
            torch.testing.assert_close(value[i, j], one)
            torch.testing.assert_close(log_det[i, j], one_log_det)


@learnable
@dtypes
@pytest.mark.parametrize("extreme", [30.0, 100.0, 800.0, 1e4])
def test_any_finite_coordinates_give_a_value_inside(constraint: Constraint, dtype: torch.dtype, extreme: float) -> None:
    for size in (1, 2, 5):
        shape = constraint.free_shape((64, *value_shape(constraint, size)))
        signs = torch.randint(-1, 2, shape, generator=torch.Generator().manual_seed(size)).to(dtype)
        free = torch.cat((signs, torch.ones_like(signs[:1]), -torch.ones_like(signs[:1]))) * extreme
        free.requires_grad_()
        value, log_det = constraint.push(free)
        assert bool(constraint.check(value).all())
        assert bool(log_det.isfinite().all())
        gradient = torch.autograd.grad(value.clamp(-1, 1).sum() + log_det.sum(), free)[0]
        assert bool(gradient.isfinite().all())


@learnable
@given(data=st.data())
def test_any_finite_coordinates_property(constraint: Constraint, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 4))
    *_, count = (1, *constraint.free_shape(value_shape(constraint, size)))
    width, dtype = data.draw(st.sampled_from([(32, torch.float32), (64, torch.float64)]))
    numbers = st.floats(-1e4, 1e4, width=width)
    free = torch.tensor(data.draw(st.lists(numbers, min_size=count, max_size=count)), dtype=dtype)
    free = free.reshape(constraint.free_shape(value_shape(constraint, size)))
    value, log_det = constraint.push(free)
    assert bool(constraint.check(value))
    assert bool(log_det.isfinite())


@pytest.mark.parametrize("name", ["positive", "nonnegative", "unit", "interval", "greater_than", "less_than"])
@dtypes
def test_scalars_stay_strictly_inside(name: str, dtype: torch.dtype) -> None:
    free = torch.tensor([-1e4, -40.0, -20.0, 20.0, 40.0, 1e4], dtype=dtype)
    bounds = {"interval": (0.1, 0.3), "greater_than": (0.1,), "less_than": (0.1,)}.get(name)
    made = getattr(constraints, name)
    value = (made(*bounds) if bounds else made).constrain(free)
    low = torch.tensor({"interval": 0.1, "greater_than": 0.1, "less_than": -math.inf}.get(name, 0.0), dtype=dtype)
    high = torch.tensor({"unit": 1.0, "interval": 0.3, "less_than": 0.1}.get(name, math.inf), dtype=dtype)
    assert bool((value > low).all())
    assert bool((value < high).all())


@dtypes
def test_a_large_simplex_sums_to_one(dtype: torch.dtype) -> None:
    free = free_like(constraints.simplex, 5000, dtype) * 3
    assert bool(constraints.simplex.check(constraints.simplex.constrain(free)))


def test_zero_is_the_uniform_simplex() -> None:
    torch.testing.assert_close(constraints.simplex.constrain(torch.zeros(2, 4)), torch.full((2, 5), 0.2))


def torch_transform(constraint: Constraint) -> transforms.Transform:
    return {
        "positive": transforms.ExpTransform(),
        "positive via softplus": transforms.SoftplusTransform(),
        "unit": transforms.SigmoidTransform(),
        "interval(-1, 3)": transforms.ComposeTransform(
            [transforms.SigmoidTransform(), transforms.AffineTransform(-1.0, 4.0)]
        ),
        "simplex": transforms.StickBreakingTransform(),
        "corr_cholesky": transforms.CorrCholeskyTransform(),
    }[str(constraint)]


@pytest.mark.parametrize(
    "constraint",
    [
        constraints.positive,
        constraints.positive.via("softplus"),
        constraints.unit,
        constraints.interval(-1, 3),
        constraints.simplex,
        constraints.corr_cholesky,
    ],
    ids=str,
)
def test_torch_has_the_same_bijection(constraint: Constraint) -> None:
    free = free_like(constraint, 4, torch.float64, batch=(7,))
    transform = torch_transform(constraint)
    value, log_det = constraint.push(free)
    torch.testing.assert_close(value, transform(free))
    torch.testing.assert_close(log_det, transform.log_abs_det_jacobian(free, value))


@pytest.mark.parametrize("size", [2, 3, 5])
def test_corr_log_det_against_the_lkj_density(size: int) -> None:
    """Under LKJ(1) the matrix is uniform, so density(L) = constant / |d corr / d L|."""
    free = free_like(constraints.corr, size, torch.float64, batch=(6,))
    factor, to_factor = constraints.corr_cholesky.push(free)
    _, to_matrix = constraints.corr.push(free)
    density = LKJCholesky(size, torch.tensor(1.0, dtype=torch.float64)).log_prob(factor)
    constant = (density - (to_matrix - to_factor))[0]
    torch.testing.assert_close(density - (to_matrix - to_factor), constant.expand(6))


def test_zero_sum_is_an_isometry() -> None:
    free = free_like(constraints.zero_sum, 9, torch.float64, batch=(5,))
    value, log_det = constraints.zero_sum.push(free)
    torch.testing.assert_close(value.norm(dim=-1), free.norm(dim=-1))
    torch.testing.assert_close(value.sum(-1), torch.zeros(5, dtype=torch.float64))
    assert torch.equal(log_det, torch.zeros(5, dtype=torch.float64))


INSIDE = [
    (constraints.real, 3.0),
    (constraints.positive, 1e-30),
    (constraints.nonnegative, 0.0),
    (constraints.unit, 1.0),
    (constraints.interval(0, 2), 2.0),
    (constraints.greater_than(1), 1.5),
    (constraints.less_than(1), -4.0),
    (constraints.simplex, [0.5, 0.5, 0.0]),
    (constraints.simplex, [0.333333, 0.333333, 0.333333]),
    (constraints.ordered, [-1.0, 0.0, 5.0]),
    (constraints.positive_ordered, [0.1, 0.2]),
    (constraints.zero_sum, [1.0, 2.0, -3.0]),
    (constraints.unit_vector, [0.6, 0.8]),
    (constraints.lower_cholesky, [[1.0, 0.0], [3.0, 2.0]]),
    (constraints.unit_lower_cholesky, [[1.0, 0.0], [3.0, 1.0]]),
    (constraints.corr_cholesky, [[1.0, 0.0], [0.6, 0.8]]),
    (constraints.corr, [[1.0, 0.5], [0.5, 1.0]]),
    (constraints.cov, [[4.0, 1e-5], [1e-5, 1e-9]]),
    (constraints.boolean, 1.0),
    (constraints.count, 7.0),
    (constraints.integer, -7.0),
    (constraints.integer_interval(-1, 4), 4.0),
    (constraints.one_hot, [0.0, 1.0]),
]
OUTSIDE = [
    (constraints.real, math.nan),
    (constraints.real, math.inf),
    (constraints.positive, 0.0),
    (constraints.positive, math.inf),
    (constraints.nonnegative, -1e-9),
    (constraints.unit, 1.5),
    (constraints.unit, math.nan),
    (constraints.interval(0, 2), 5.0),
    (constraints.greater_than(1), 1.0),
    (constraints.less_than(1), 1.0),
    (constraints.simplex, [1.0, 2.0, 3.0]),
    (constraints.simplex, [1.5, -0.5]),
    (constraints.simplex, [math.nan, 1.0]),
    (constraints.ordered, [1.0, 0.0]),
    (constraints.ordered, [1.0, 1.0]),
    (constraints.ordered, [-math.inf, 1.0]),
    (constraints.positive_ordered, [0.0, 1.0]),
    (constraints.zero_sum, [1.0, 1.0]),
    (constraints.unit_vector, [1.0, 1.0]),
    (constraints.lower_cholesky, [[1.0, 0.5], [0.0, 1.0]]),
    (constraints.lower_cholesky, [[1.0, 0.0], [0.0, -1.0]]),
    (constraints.unit_lower_cholesky, [[1.0, 0.0], [0.0, 2.0]]),
    (constraints.corr_cholesky, [[1.0, 0.0], [0.6, 0.9]]),
    (constraints.corr, [[1.0, 1.5], [1.5, 1.0]]),
    (constraints.corr, [[2.0, 0.5], [0.5, 2.0]]),
    (constraints.cov, [[1.0, 2.0], [2.0, 1.0]]),
    (constraints.cov, [[1.0, 0.2], [0.1, 1.0]]),
    (constraints.cov, [[0.0, 0.0], [0.0, 0.0]]),
    (constraints.cov, [[math.nan, 0.0], [0.0, 1.0]]),
    (constraints.boolean, 0.5),
    (constraints.count, -1.0),
    (constraints.count, 0.5),
    (constraints.integer, math.inf),
    (constraints.integer_interval(-1, 4), 5.0),
    (constraints.one_hot, [1.0, 1.0]),
]


@dtypes
@pytest.mark.parametrize(("constraint", "value"), INSIDE, ids=str)
def test_check_accepts(constraint: Constraint, value: float, dtype: torch.dtype) -> None:
    assert bool(constraint.check(torch.tensor(value, dtype=dtype)))


@dtypes
@pytest.mark.parametrize(("constraint", "value"), OUTSIDE, ids=str)
def test_check_refuses(constraint: Constraint, value: float, dtype: torch.dtype) -> None:
    assert not bool(constraint.check(torch.tensor(value, dtype=dtype)))


def test_check_takes_integers() -> None:
    ones = torch.tensor([0, 1, 2])
    assert constraints.boolean.check(ones).tolist() == [True, True, False]
    assert constraints.integer_interval(1, 2).check(ones).tolist() == [False, True, True]
    assert constraints.positive.check(ones).tolist() == [False, True, True]
    assert constraints.interval(0.5, 3).check(ones).tolist() == [False, True, True]
    assert bool(constraints.cov.check(torch.eye(2, dtype=torch.int64)))


@pytest.mark.parametrize("constraint", [*LEARNABLE, *CHECK_ONLY], ids=str)
@dtypes
def test_default_is_inside(constraint: Constraint, dtype: torch.dtype) -> None:
    shape = (3, *value_shape(constraint, 4))
    value = constraint.default(shape, dtype)
    assert value.shape == shape
    assert value.dtype == dtype
    assert bool(constraint.check(value).all())


@pytest.mark.parametrize("constraint", [*LEARNABLE, *CHECK_ONLY], ids=str)
def test_default_is_that_of_the_type_under_every_bijection(constraint: Constraint) -> None:
    shape = value_shape(constraint, 4)
    value = constraint.default(shape, torch.float64)
    for transform in constraint.transforms:
        torch.testing.assert_close(constraint.via(transform).default(shape, torch.float64), value)


@pytest.mark.parametrize("constraint", CHECK_ONLY, ids=str)
def test_check_only_types_have_no_bijection(constraint: Constraint) -> None:
    assert not constraint.has_bijection
    for call in (constraint.constrain, constraint.push, constraint.free):
        with pytest.raises(ParamError, match="has no bijection"):
            call(torch.zeros(2))
    with pytest.raises(ParamError, match="has no bijection"):
        constraint.free_shape((2,))


def test_free_shapes() -> None:
    assert constraints.real.free_shape((2, 3)) == (2, 3)
    assert constraints.simplex.free_shape((2, 3)) == (2, 2)
    assert constraints.ordered.free_shape((2, 3)) == (2, 3)
    assert constraints.zero_sum.free_shape((3,)) == (2,)
    assert constraints.lower_cholesky.free_shape((5, 3, 3)) == (5, 6)
    assert constraints.cov.free_shape((3, 3)) == (6,)
    assert constraints.corr.free_shape((5, 3, 3)) == (5, 3)
    assert constraints.corr_cholesky.free_shape((1, 1)) == (0,)


@pytest.mark.parametrize(
    ("constraint", "shape", "message"),
    [
        (constraints.simplex, (), "at least 1 axes"),
        (constraints.simplex, (2, 0), "at least one coordinate"),
        (constraints.cov, (3,), "at least 2 axes"),
        (constraints.cov, (3, 4), "square"),
    ],
)
def test_impossible_shapes(constraint: Constraint, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ParamError, match=message):
        constraint.free_shape(shape)
    with pytest.raises(ParamError, match=message):
        constraint.check(torch.zeros(shape))


def test_impossible_numbers_of_coordinates() -> None:
    with pytest.raises(ParamError, match="no square matrix has 2"):
        constraints.lower_cholesky.constrain(torch.zeros(2))
    with pytest.raises(ParamError, match="no square matrix has 2"):
        constraints.corr.constrain(torch.zeros(5, 2))
    with pytest.raises(ParamError, match="no square matrix"):
        constraints.cov.constrain(torch.tensor(0.0))


# Tensor bounds


def test_tensor_bounds_broadcast_and_are_differentiable() -> None:
    low = torch.tensor([0.0, 10.0], requires_grad=True)
    high = torch.tensor([[11.0], [20.0], [30.0]])
    constraint = constraints.interval(low, high)
    free = torch.zeros(4, 3, 2)
    value, log_det = constraint.push(free)
    torch.testing.assert_close(value[0], (low + high) / 2)
    assert log_det.shape == (4, 3, 2)
    torch.testing.assert_close(log_det[0, 1], (math.log(0.25) + (20 - low).log()))
    value[:, 1:].sum().backward()
    assert low.grad is not None
    torch.testing.assert_close(low.grad, torch.tensor([4.0, 4.0]))


def test_one_sided_tensor_bounds() -> None:
    bound = torch.tensor([[1.0], [5.0]])
    value, log_det = constraints.greater_than(bound).push(torch.zeros(3))
    assert value.shape == log_det.shape == (2, 3)
    torch.testing.assert_close(value, bound.expand(2, 3) + 1)
    below = constraints.less_than(bound).constrain(torch.zeros(3))
    torch.testing.assert_close(below, bound.expand(2, 3) - 1)
    assert constraints.greater_than(bound).check(torch.tensor([0.0, 3.0, 6.0])).tolist() == [
        [False, True, True],
        [False, False, True],
    ]


def test_bounds_must_broadcast_to_the_value() -> None:
    bound = torch.zeros(3)
    assert constraints.greater_than(bound).free_shape((2, 3)) == (2, 3)
    with pytest.raises(ParamError, match="does not broadcast"):
        constraints.greater_than(bound).free_shape((2,))
    with pytest.raises(ParamError, match="does not broadcast"):
        constraints.interval(0.0, bound).free_shape(())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: constraints.interval(1, 0), r"interval\(1, 0\) is empty.*swap"),
        (lambda: constraints.interval(1, 1), "empty"),
        (lambda: constraints.interval(-1e308, 1e308), "too wide"),
        (lambda: constraints.interval(math.nan, 1), "finite"),
        (lambda: constraints.greater_than(math.inf), "finite"),
        (lambda: constraints.less_than("0"), "number or a tensor"),
        (lambda: constraints.less_than(True), "number or a tensor"),
        (lambda: constraints.integer_interval(3, 2), "empty"),
        (lambda: constraints.integer_interval(0.5, 2), "whole numbers"),
        (lambda: constraints.integer_interval(0, 10**30), "64 bits"),
    ],
)
def test_impossible_bounds(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(ParamError, match=message):
        make()


# Values


def test_equality_is_by_value() -> None:
    assert constraints.interval(0, 2) == constraints.interval(0.0, 2.0)
    assert hash(constraints.interval(0, 2)) == hash(constraints.interval(0.0, 2.0))
    assert constraints.interval(0, 2) != constraints.interval(0, 3)
    assert constraints.positive.via("exp") == constraints.positive
    assert constraints.positive.via("softplus") == constraints.positive.via("softplus")
    assert constraints.positive.via("softplus") != constraints.positive
    assert constraints.positive != constraints.nonnegative
    assert constraints.corr != constraints.corr_cholesky
    assert constraints.real != "real"
    assert constraints.greater_than(torch.ones(2)) == constraints.greater_than(torch.ones(2))
    assert hash(constraints.greater_than(torch.ones(2))) == hash(constraints.greater_than(torch.ones(2)))
    assert constraints.greater_than(torch.ones(2)) != constraints.greater_than(torch.zeros(2))
    assert constraints.greater_than(torch.ones(2)) != constraints.greater_than(torch.ones(3))
    assert constraints.greater_than(torch.tensor(1.0)) != constraints.greater_than(1.0)
    assert len({*LEARNABLE, *LEARNABLE}) == len(LEARNABLE)


@pytest.mark.parametrize("constraint", [*LEARNABLE, *CHECK_ONLY], ids=str)
def test_copies_are_equal(constraint: Constraint) -> None:
    assert copy.deepcopy(constraint) == constraint
    assert pickle.loads(pickle.dumps(constraint)) == constraint


def test_constraints_are_immutable() -> None:
    with pytest.raises(FrozenInstanceError):
        constraints.positive.transform = "softplus"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("constraint", "text"),
    [
        (constraints.real, "real"),
        (constraints.positive.via("softplus"), "positive via softplus"),
        (constraints.interval(0, 2.5), "interval(0, 2.5)"),
        (constraints.greater_than(-1).via("softplus"), "greater_than(-1) via softplus"),
        (constraints.less_than(torch.tensor(3.0)), "less_than(3)"),
        (constraints.less_than(torch.ones(3)), "less_than(<[3]>)"),
        (constraints.boolean, "bool"),
        (constraints.integer, "int"),
        (constraints.integer_interval(0, 4), "int(0, 4)"),
        (constraints.one_hot, "one_hot"),
        (constraints.corr_cholesky, "corr_cholesky"),
    ],
)
def test_str_is_guide_notation(constraint: Constraint, text: str) -> None:
    assert str(constraint) == text


def test_unknown_transforms_list_the_choices() -> None:
    with pytest.raises(ParamError, match=r"'sofplus'.*'exp', 'softplus'"):
        constraints.positive.via("sofplus")
    with pytest.raises(ParamError, match="'logit'"):
        constraints.unit.via("exp")
    with pytest.raises(ParamError, match="no bijection"):
        constraints.boolean.via("exp")
    with pytest.raises(ParamError, match="empty string"):
        constraints.positive.via("")


# JSON


BOUNDED_BY_TENSORS = constraints.interval(torch.tensor([0.1, 0.2]), torch.tensor(3.0, dtype=torch.float64))


@pytest.mark.parametrize("constraint", [*LEARNABLE, *CHECK_ONLY, BOUNDED_BY_TENSORS], ids=str)
def test_json_round_trip(constraint: Constraint) -> None:
    assert from_json(json.loads(json.dumps(constraint.to_json(), allow_nan=False))) == constraint


@pytest.mark.parametrize(
    "record",
    [
        None,
        "positive",
        {},
        {"type": "positive"},
        {"type": "positive", "transform": "exp", "more": 1},
        {"type": "positive", "transform": "eval"},
        {"type": "positive", "transform": ""},
        {"type": "positive", "transform": None},
        {"type": ["positive"], "transform": "exp"},
        {"type": "__import__", "transform": ""},
        {"type": "interval", "transform": "logit"},
        {"type": "interval", "transform": "logit", "low": 2, "high": 1},
        {"type": "interval", "transform": "logit", "low": "0", "high": 1},
        {"type": "interval", "transform": "logit", "low": True, "high": 2},
        {"type": "greater_than", "transform": "exp", "low": 10**400},
        {"type": "greater_than", "transform": "exp", "low": math.nan},
        {"type": "greater_than", "transform": "exp", "low": {"dtype": "float32", "shape": [2], "values": [1.0]}},
        {"type": "greater_than", "transform": "exp", "low": {"dtype": "object", "shape": [1], "values": [1.0]}},
        {"type": "greater_than", "transform": "exp", "low": {"dtype": "float32", "shape": [-1], "values": [1.0]}},
        {"type": "greater_than", "transform": "exp", "low": {"dtype": "float32", "shape": [0, 10**30], "values": []}},
        {"type": "greater_than", "transform": "exp", "low": {"dtype": "float32", "shape": [1], "values": [math.inf]}},
        {"type": "integer_interval", "transform": "", "low": 0.5, "high": 3},
        {
            "type": "integer_interval",
            "transform": "",
            "low": {"dtype": "float32", "shape": [], "values": [1.0]},
            "high": 3,
        },
    ],
)
def test_json_is_strict(record: object) -> None:
    with pytest.raises(ParamError):
        from_json(record)


# Constraints of torch and Pyro


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (torch_constraints.real, constraints.real),
        (torch_constraints.real_vector, constraints.real),
        (torch_constraints.positive, constraints.positive),
        (torch_constraints.nonnegative, constraints.nonnegative),
        (torch_constraints.unit_interval, constraints.unit),
        (torch_constraints.interval(0.0, 2.0), constraints.interval(0, 2)),
        (torch_constraints.half_open_interval(0.0, 2.0), constraints.interval(0, 2)),
        (torch_constraints.greater_than(1.0), constraints.greater_than(1)),
        (torch_constraints.greater_than_eq(1.0), constraints.greater_than(1)),
        (torch_constraints.less_than(1.0), constraints.less_than(1)),
        (torch_constraints.greater_than(torch.ones(2)), constraints.greater_than(torch.ones(2))),
        (torch_constraints.simplex, constraints.simplex),
        (torch_constraints.lower_cholesky, constraints.lower_cholesky),
        (torch_constraints.corr_cholesky, constraints.corr_cholesky),
        (torch_constraints.positive_definite, constraints.cov),
        (torch_constraints.independent(torch_constraints.positive, 2), constraints.positive),
        (torch_constraints.boolean, constraints.boolean),
        (torch_constraints.nonnegative_integer, constraints.count),
        (torch_constraints.integer_interval(0, 3), constraints.integer_interval(0, 3)),
        (torch_constraints.one_hot, constraints.one_hot),
        (pyro_constraints.ordered_vector, constraints.ordered),
        (pyro_constraints.positive_ordered_vector, constraints.positive_ordered),
        (pyro_constraints.softplus_positive, constraints.positive.via("softplus")),
        (pyro_constraints.unit_lower_cholesky, constraints.unit_lower_cholesky),
        (pyro_constraints.corr_matrix, constraints.corr),
        (pyro_constraints.sphere, constraints.unit_vector),
        (constraints.cov, constraints.cov),
    ],
    ids=str,
)
def test_as_constraint(theirs: object, ours: Constraint) -> None:
    assert as_constraint(theirs) == ours


@pytest.mark.parametrize("unknown", ["positive", None, torch_constraints.square, torch_constraints.dependent])
def test_as_constraint_names_ours(unknown: object) -> None:
    with pytest.raises(ParamError, match="positive_ordered"):
        as_constraint(unknown)
