"""The param store: registration, plates, assignment, state, files, scopes, modules."""

from __future__ import annotations

import copy
import gc
import io
import json
import math
import os
import pickle
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributions import constraints as torch_constraints

from guidedsl.runtime import constraints, param_files
from guidedsl.runtime.constraints import Constraint
from guidedsl.runtime.default_store import clear_param_store, get_param_store, module, param
from guidedsl.runtime.errors import DataError, ParamError
from guidedsl.runtime.params import ParamStore
from guidedsl.runtime.plates import Plate


@pytest.fixture
def store() -> ParamStore:
    return ParamStore()


@pytest.fixture(autouse=True)
def _clean_global_store() -> Iterator[None]:
    clear_param_store()
    yield
    clear_param_store()


def rows(*indices: int) -> Tensor:
    return torch.tensor(indices)


LEARNABLE = [
    (constraints.real, ()),
    (constraints.positive, (2,)),
    (constraints.positive.via("softplus"), (2,)),
    (constraints.nonnegative, ()),
    (constraints.unit, (2, 3)),
    (constraints.interval(-1, 3), (2,)),
    (constraints.greater_than(2), (2,)),
    (constraints.less_than(torch.tensor([1.0, 2.0])), (2,)),
    (constraints.simplex, (2, 3)),
    (constraints.ordered, (3,)),
    (constraints.positive_ordered, (3,)),
    (constraints.zero_sum, (3,)),
    (constraints.lower_cholesky, (3, 3)),
    (constraints.unit_lower_cholesky, (3, 3)),
    (constraints.corr_cholesky, (3, 3)),
    (constraints.corr, (2, 3, 3)),
    (constraints.cov, (3, 3)),
]
every_constraint = pytest.mark.parametrize(("constraint", "shape"), LEARNABLE, ids=[str(c) for c, _ in LEARNABLE])


def filled() -> ParamStore:
    """A store with a parameter of every type, at values that are not round."""
    store = ParamStore()
    generator = torch.Generator().manual_seed(0)
    for number, (constraint, shape) in enumerate(LEARNABLE):
        dtype = torch.float64 if number % 2 else torch.float32
        free = torch.randn(constraint.free_shape(shape), generator=generator, dtype=dtype)
        store.param(f"G.p{number}", constraint.constrain(free), constraint)
    return store


def same(one: ParamStore, other: ParamStore) -> bool:
    """Bit for bit."""
    mine, theirs = dict(one.named_parameters()), dict(other.named_parameters())
    alike = all(mine[name].dtype == theirs[name].dtype and torch.equal(mine[name], theirs[name]) for name in mine)
    return list(mine) == list(theirs) and alike and [one.describe(n) for n in one] == [other.describe(n) for n in other]


# Registering


def test_real_is_its_own_leaf(store: ParamStore) -> None:
    x = store.param("x", 1.5)
    assert x.unconstrained() is x
    assert x.requires_grad
    assert x.is_leaf
    assert store.param("x", 1.5) is x


def test_positive_one_is_stored_as_zero(store: ParamStore) -> None:
    scale = store.param("scale", 1, constraints.positive)
    assert scale.item() == 1.0
    assert scale.unconstrained().item() == 0.0
    assert scale.dtype == torch.get_default_dtype()
    scale.backward()
    assert scale.unconstrained().grad.item() == 1.0


@every_constraint
def test_every_constraint_reads_what_was_given(
    store: ParamStore, constraint: Constraint, shape: tuple[int, ...]
) -> None:
    free = torch.randn(constraint.free_shape(shape), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    init = constraint.constrain(free)
    value = store.param("x", init, constraint)
    torch.testing.assert_close(value, init)
    assert value.unconstrained() is store.leaves()["x"]
    assert value.unconstrained().shape == constraint.free_shape(shape)
    assert value.requires_grad
    new = constraint.constrain(-free)
    store["x"] = new
    assert bool(constraint.check(store["x"]).all())
    torch.testing.assert_close(store["x"], new)
    with torch.no_grad():
        for extreme in (-1e4, 1e4):
            value.unconstrained().fill_(extreme)
            assert bool(constraint.check(store["x"]).all())


@every_constraint
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@settings(max_examples=40)
@given(data=st.data())
def test_any_coordinates_give_a_value_inside(
    data: st.DataObject, dtype: torch.dtype, constraint: Constraint, shape: tuple[int, ...]
) -> None:
    """Whatever an optimiser does, as long as the squares of the coordinates are finite too."""
    store = ParamStore()
    leaf = store.param("x", constraint.default(shape, dtype), constraint).unconstrained()
    numbers = st.floats(-(2.0**59), 2.0**59, width=32)
    free = data.draw(st.lists(numbers, min_size=leaf.numel(), max_size=leaf.numel()))
    with torch.no_grad():
        leaf.copy_(torch.tensor(free, dtype=dtype).reshape(leaf.shape))
    assert bool(constraint.check(store["x"]).all())


@every_constraint
def test_the_callers_tensor_is_never_aliased(store: ParamStore, constraint: Constraint, shape: tuple[int, ...]) -> None:
    init = constraint.default(shape)
    before = init.clone()
    leaf = store.param("x", init, constraint).unconstrained()
    with torch.no_grad():
        leaf.add_(1)
    assert torch.equal(init, before)
    kept = leaf.detach().clone()
    init.zero_()
    assert torch.equal(leaf, kept)
    assert not init.requires_grad


def test_inits(store: ParamStore) -> None:
    assert store.param("int", 3).dtype == torch.float32
    assert store.param("ints", torch.tensor([1, 2])).tolist() == [1.0, 2.0]
    assert store.param("bools", torch.tensor([True, False])).dtype == torch.float32
    assert store.param("double", torch.ones(2, dtype=torch.float64)).dtype == torch.float64
    assert store.param("number from a callable", lambda: 2).item() == 2.0
    assert store.param("leaf", nn.Parameter(torch.ones(2))).tolist() == [1.0, 1.0]
    expanded = store.param("expanded", torch.zeros(()).expand(3))
    with torch.no_grad():
        expanded[0] = 1.0
    assert expanded.tolist() == [1.0, 0.0, 0.0]


def test_a_callable_runs_only_if_the_name_is_absent(store: ParamStore) -> None:
    calls = []

    def init() -> Tensor:
        calls.append(1)
        return torch.ones(2)

    for _ in range(3):
        store.param("x", init, constraints.positive)
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("init", "constraint", "message"),
    [
        (-1, constraints.positive, "-1.* is not positive.*greater than 0"),
        (0, constraints.positive, "0.* is not positive"),
        (0, constraints.nonnegative, "boundary of nonnegative"),
        (torch.tensor([2.0, 1.0]), constraints.ordered, r"\[2.0, 1.0\] is not ordered.*strictly increasing"),
        (torch.tensor([1.0, 2.0, 3.0]), constraints.simplex, r"\[1.0, 2.0, 3.0\] is not simplex.*sum 1"),
        (torch.tensor([1.0, 0.0]), constraints.simplex, "boundary of simplex"),
        (1.5, constraints.unit, "1.5 is not unit.*between 0 and 1"),
        (1, constraints.unit, "1.0 is on the boundary of unit"),
        (5, constraints.interval(0, 2), r"5.0 is not interval\(0, 2\)"),
        (torch.ones(2, 2), constraints.lower_cholesky, "not lower_cholesky.*lower triangular"),
        (torch.ones(2, 2), constraints.cov, "boundary of cov"),
        (torch.tensor([[1.0, 2.0], [2.0, 1.0]]), constraints.cov, "not cov"),
        (torch.tensor([1.0, 0.1, -2.0]), constraints.positive, r"-2.0 at \[2\] is not positive"),
        (torch.tensor([[0.0, 1.0], [1.0, 0.0]]), constraints.ordered, r"\[1.0, 0.0\] at \[1\] is not ordered"),
        (-torch.ones(9, 9), constraints.lower_cholesky, r"of shape \[9, 9\] is not lower_cholesky"),
        (math.nan, constraints.real, "nan is not finite"),
        (math.inf, constraints.positive, "inf is not finite"),
        (1e300, constraints.real, "not finite as torch.float32"),
        (10**400, constraints.real, "too large"),
        (torch.tensor([1.0, math.nan]), constraints.real, r"nan at \[1\]"),
        (lambda: -1.0, constraints.positive, "is not positive"),
        (torch.tensor(1j), constraints.real, "complex"),
        ([1.0], constraints.real, "a number, a tensor, or a callable"),
        ("1", constraints.real, "a number, a tensor, or a callable"),
        (torch.ones(3), constraints.cov, "at least 2 axes"),
        (torch.ones(2, 3), constraints.cov, "square"),
        (1.0, constraints.boolean, "has no bijection"),
        (torch.tensor([1.0, 0.0]), constraints.unit_vector, "has no bijection"),
        (1.0, "positive", "not a constraint"),
    ],
)
def test_a_bad_init_is_refused_and_leaves_nothing(store: ParamStore, init: Any, constraint: Any, message: str) -> None:
    version = store.version
    with pytest.raises(ParamError, match=r"(?s)'tau'.*" + message):
        store.param("tau", init, constraint)
    assert "tau" not in store
    assert len(store) == 0
    assert store.version == version
    assert not store.get_state()["params"]


def test_an_init_that_raises_leaves_nothing(store: ParamStore) -> None:
    def init() -> Tensor:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine") as caught:
        store.param("x", init)
    assert caught.value.__notes__ == ["in the init of parameter 'x'"]
    assert len(store) == 0
    with pytest.raises(ParamError, match="registers the same name"):
        store.param("x", lambda: store.param("x", 1.0))


def test_no_init_for_a_new_name(store: ParamStore) -> None:
    store.param("theta_loc", 0.0)
    with pytest.raises(ParamError, match="did you mean 'theta_loc'"):
        store.param("theta_locc")
    with pytest.raises(KeyError, match="no parameter 'x'"):
        store["x"]


@pytest.mark.parametrize("name", ["", "a\nb", "\ud800", "__metadata__", 3, None])
def test_bad_names(store: ParamStore, name: Any) -> None:
    with pytest.raises(ParamError, match="name of a parameter"):
        store.param(name, 1.0)


@pytest.mark.parametrize("event_dim", [-1, 3, 0, True, 1.0])
def test_bad_event_dims(store: ParamStore, event_dim: Any) -> None:
    with pytest.raises(ParamError, match=r"'x'.*event_dim"):
        store.param("x", torch.full((2, 2), 0.5), constraints.simplex, event_dim)
    assert len(store) == 0


def test_event_dim_defaults_to_the_constraints_own(store: ParamStore) -> None:
    store.param("x", torch.ones(2, 3))
    store.param("p", torch.full((2, 2), 0.5), constraints.simplex)
    store.param("v", torch.ones(2, 3), torch_constraints.real_vector)
    store.param("w", torch.ones(2, 3), torch_constraints.independent(torch_constraints.positive, 2))
    assert [store.entry(name).event_dim for name in store] == [0, 1, 1, 2]
    assert store.entry("w").constraint == constraints.positive
    assert store.param("w", torch.ones(2, 3), torch_constraints.independent(torch_constraints.positive, 2)).shape == (
        2,
        3,
    )


def test_registering_in_inference_mode(store: ParamStore) -> None:
    with torch.inference_mode():
        store.param("x", torch.ones(2), constraints.positive)
    (store["x"].sum()).backward()
    assert store.leaves()["x"].grad is not None


# Registering again


def test_reading_again_gives_the_same_leaf(store: ParamStore) -> None:
    first = store.param("x", torch.ones(2), constraints.positive, 0)
    again = store.param("x", torch.zeros(2), constraints.positive, 0)
    assert again.unconstrained() is first.unconstrained()
    assert again.tolist() == [1.0, 1.0]
    assert store.param("x").tolist() == [1.0, 1.0]
    assert store.param("x", lambda: torch.ones(9), torch_constraints.positive).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("init", "options", "both"),
    [
        (torch.ones(2), {"constraint": constraints.unit}, ("positive", "unit")),
        (torch.ones(2), {}, ("positive", "real")),
        (None, {"constraint": constraints.unit}, ("positive", "unit")),
        (torch.ones(2), {"constraint": constraints.positive.via("softplus")}, ("positive", "positive via softplus")),
        (torch.ones(2), {"constraint": constraints.positive, "event_dim": 0}, ("event_dim 1", "with 0")),
        (None, {"event_dim": 0}, ("event_dim 1", "with 0")),
        (torch.ones(3), {"constraint": constraints.positive}, (r"\[2\]", r"\[3\]")),
        (1.0, {"constraint": constraints.positive}, (r"\[2\]", r"\[\]")),
        (torch.ones(2), {"constraint": constraints.positive, "lr": 0.1}, ("0.5", "0.1")),
        (torch.ones(2), {"constraint": constraints.positive, "frozen": True}, ("learnable", "frozen")),
        (None, {"lr": 0.0}, ("0.5", "0.0")),
    ],
)
def test_a_second_registration_that_differs(store: ParamStore, init: Any, options: Any, both: tuple[str, str]) -> None:
    store.param("x", torch.ones(2), constraints.positive, 1, lr=0.5)
    state = store.get_state()
    with pytest.raises(ParamError, match=f"'x'.*{both[0]}.*{both[1]}"):
        store.param("x", init, **options)
    assert store.get_state()["params"] == state["params"]


def test_setdefault_keeps_the_old_value(store: ParamStore) -> None:
    store.setdefault("x", torch.ones(2), constraints.positive)
    assert store.setdefault("x", torch.full((2,), 5.0), constraints.positive).tolist() == [1.0, 1.0]
    with pytest.raises(ParamError):
        store.setdefault("x", torch.ones(2))


def test_learning_rates(store: ParamStore) -> None:
    store.param("x", 1.0, lr=0.1)
    assert store.param("x", 1.0).item() == 1.0
    assert store.lr("x") == 0.1
    frozen = store.param("zero", 1.0, lr=0)
    assert not frozen.requires_grad
    assert store.param("zero", 1.0, lr=0) is frozen
    assert not store.param("still", 1.0, constraints.positive, frozen=True).requires_grad
    assert list(store.trainable()) == ["x"]
    assert list(store.leaves()) == ["x", "zero", "still"]
    for lr in (-1.0, math.nan, math.inf, "0.1", True):
        with pytest.raises(ParamError, match=r"'y'.*lr"):
            store.param("y", 1.0, lr=lr)  # type: ignore[arg-type]


# Plates


def test_rows_of_a_subsampled_plate(store: ParamStore) -> None:
    init = torch.arange(10.0)
    part = Plate("rows", 10, rows(3, 1, 4, 1, 5))
    value = store.param("x", init, plates=(part,))
    assert value.tolist() == [3.0, 1.0, 4.0, 1.0, 5.0]
    leaf = store.leaves()["x"]
    assert value.unconstrained() is leaf
    assert leaf.shape == (10,)
    value.sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.tolist() == [0, 2, 0, 1, 1, 1, 0, 0, 0, 0]
    assert store.param("x").tolist() == init.tolist()
    assert store.param("x", plates=(Plate("rows", 10),)) is leaf


def test_scalars_and_size_one_are_shared(store: ParamStore) -> None:
    part = Plate("rows", 10, rows(0, 1, 2, 3, 4))
    assert store.param("scalar", 2.0, plates=(part,)).shape == ()
    assert store.param("one", torch.ones(1), plates=(part,)).shape == (1,)
    assert store.param("vector", torch.ones(3), event_dim=1, plates=(part,)).shape == (3,)
    assert store.param("row", torch.ones(1, 3), event_dim=1, plates=(part,)).shape == (1, 3)


@pytest.mark.parametrize("shape", [(5,), (3, 5), (11,), (10, 3)])
def test_other_sizes_are_refused(store: ParamStore, shape: tuple[int, ...]) -> None:
    part = Plate("rows", 10, rows(0, 1, 2, 3, 4))
    for plate in (part, Plate("rows", 10)):
        with pytest.raises(ParamError, match=f"'x'.*size {shape[-1]} on dim -1.*'rows'.*size 10"):
            store.param("x", torch.ones(shape), plates=(plate,))
        assert len(store) == 0
    store.param("x", torch.ones(shape))
    with pytest.raises(ParamError, match=r"'x'.*'rows'"):
        store.param("x", plates=(part,))


def test_a_minibatchs_shape_is_named(store: ParamStore) -> None:
    with pytest.raises(ParamError, match=r"one batch.*make it 10 long"):
        store.param("x", torch.ones(5), plates=(Plate("rows", 10, rows(0, 1, 2, 3, 4)),))


def test_event_dims_stand_right_of_the_plate(store: ParamStore) -> None:
    init = torch.arange(30.0).reshape(10, 3)
    part = Plate("rows", 10, rows(9, 0, 2, 3, 4))
    value = store.param("x", init, event_dim=1, plates=(part,))
    assert value.shape == (5, 3)
    assert torch.equal(value, init[part.rows])


def test_two_nested_subsampled_plates(store: ParamStore) -> None:
    init = torch.rand(4, 6, 2)
    outer, inner = Plate("outer", 4, rows(3, 0)), Plate("inner", 6, rows(5, 1, 2))
    value = store.param("x", init, event_dim=1, plates=(outer, inner))
    assert torch.equal(value, init[[3, 0]][:, [5, 1, 2]])
    assert torch.equal(store.param("x", plates=(outer, Plate("inner", 6))), init[[3, 0]])
    shared = store.param("shared", torch.rand(4, 1, 2), event_dim=1, plates=(outer, inner))
    assert shared.shape == (2, 1, 2)


def test_plates_with_a_dim(store: ParamStore) -> None:
    init = torch.rand(4, 6)
    outer, inner = Plate("outer", 4, rows(3, 0), dim=-2), Plate("inner", 6, rows(5, 1, 2), dim=-1)
    assert torch.equal(store.param("x", init, plates=(inner, outer)), init[[3, 0]][:, [5, 1, 2]])
    assert torch.equal(store.param("x", plates=(outer,)), init[[3, 0]])
    with pytest.raises(ParamError, match="both on dim -1"):
        store.param("x", plates=(Plate("a", 4), Plate("b", 6, dim=-1), Plate("c", 6)))


@every_constraint
def test_selecting_rows_commutes_with_the_constraint(
    store: ParamStore, constraint: Constraint, shape: tuple[int, ...]
) -> None:
    event_dim = len(shape)
    free = torch.randn(constraint.free_shape((6, *shape)), dtype=torch.float64)
    init = constraint.constrain(free)
    part = Plate("rows", 6, rows(5, 0, 0, 2))
    value = store.param("x", init, constraint, event_dim, plates=(part,))
    torch.testing.assert_close(value, init[part.rows])


def test_rows_go_with_their_bounds(store: ParamStore) -> None:
    low = torch.arange(6.0)
    part = Plate("rows", 6, rows(5, 0))
    assert store.param("x", low + 1, constraints.greater_than(low), 0, plates=(part,)).tolist() == [6.0, 1.0]


def test_rows_out_of_range(store: ParamStore) -> None:
    with pytest.raises(ParamError, match=r"'x'.*rows"):
        store.param("x", torch.ones(3), plates=(Plate("rows", 3, rows(0, 3)),))


def test_plate_properties() -> None:
    plate = Plate("rows", 10, rows(1, 2, 3, 4))
    assert (plate.length, plate.scale) == (4, 2.5)
    assert (Plate("rows", 10).length, Plate("rows", 10).scale) == (10, 1.0)
    assert Plate("empty", 0).scale == 1.0
    assert plate == Plate("rows", 10, rows(1, 2, 3, 4))
    assert plate != Plate("rows", 10, rows(1, 2, 3, 5))
    assert plate != Plate("rows", 10)
    assert hash(plate) == hash(Plate("rows", 10, rows(9)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": -1}, "size"),
        ({"size": 2.0}, "size"),
        ({"size": 3, "dim": 0}, "negative"),
        ({"size": 3, "rows": torch.tensor([0.0])}, "rows must be a 1-D"),
        ({"size": 3, "rows": torch.tensor(0)}, "rows must be a 1-D"),
        ({"size": 3, "rows": [0]}, "rows must be a 1-D"),
        ({"size": 3, "rows": torch.tensor([], dtype=torch.int64)}, "0 indices"),
        ({"size": 3, "rows": torch.tensor([0, 1, 2, 0])}, "4 indices"),
    ],
)
def test_impossible_plates(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=f"'rows'.*{message}"):
        Plate("rows", **options)


# As a mapping


def test_mapping(store: ParamStore) -> None:
    store.param("a.x", 1.0, constraints.positive)
    store.param("a.y", 2.0)
    store.param("b", 3.0)
    assert list(store) == list(store.keys()) == ["a.x", "a.y", "b"]
    assert len(store) == 3
    assert "b" in store
    assert "c" not in store
    assert [value.item() for value in store.values()] == [1.0, 2.0, 3.0]
    assert {name: value.item() for name, value in store.items()} == {"a.x": 1.0, "a.y": 2.0, "b": 3.0}
    assert {name: leaf.item() for name, leaf in store.named_parameters()} == {"a.x": 0.0, "a.y": 2.0, "b": 3.0}
    assert list(store.match("a\\..")) == ["a.x", "a.y"]
    with pytest.raises(ParamError, match="regular expression"):
        store.match("(")
    del store["b"]
    assert "b" not in store
    with pytest.raises(KeyError):
        del store["b"]
    store.clear()
    assert len(store) == 0


def test_assignment_keeps_the_leaf(store: ParamStore) -> None:
    store.param("scale", torch.ones(2), constraints.positive)
    leaf, version = store.leaves()["scale"], store.version
    adam = torch.optim.Adam([leaf])
    store["scale"].sum().backward()
    adam.step()
    store["scale"] = torch.tensor([2, 3])
    assert store.leaves()["scale"] is leaf
    assert leaf in adam.state
    assert store.version == version
    torch.testing.assert_close(store["scale"], torch.tensor([2.0, 3.0]))
    store["new"] = 4.0
    assert store.entry("new").constraint == constraints.real


def test_assigning_a_value_to_itself(store: ParamStore) -> None:
    store.param("x", torch.arange(3.0))
    store["x"] = store["x"]
    assert store["x"].tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.ones(3), r"\[2\].*\[3\]"),
        (1.0, r"\[2\].*\[\]"),
        (torch.tensor([1.0, -1.0]), r"-1.0 at \[1\] is not positive"),
        (torch.tensor([1.0, math.nan]), "not finite"),
        (torch.tensor([1.0, 1e300], dtype=torch.float64), "not finite as torch.float32"),
        (torch.tensor([1.0, 1e-300], dtype=torch.float64), "not positive"),
        ("1", "a number, a tensor"),
    ],
)
def test_a_bad_assignment_changes_nothing(store: ParamStore, value: Any, message: str) -> None:
    store.param("x", torch.tensor([1.0, 2.0]), constraints.positive)
    with pytest.raises(ParamError, match=f"'x'.*{message}"):
        store["x"] = value
    torch.testing.assert_close(store["x"], torch.tensor([1.0, 2.0]))


def test_param_name(store: ParamStore) -> None:
    x = store.param("x", torch.ones(4), constraints.positive)
    y = store.param("y", 1.0)
    part = store.param("x", plates=(Plate("rows", 4, rows(1, 2)),))
    assert store.param_name(x) == store.param_name(part) == store.param_name(x.unconstrained()) == "x"
    assert store.param_name(y) == "y"
    assert store.param_name(torch.ones(4)) is None


def test_version_says_when_leaves_change(store: ParamStore) -> None:
    versions = [store.version]

    def changed() -> bool:
        versions.append(store.version)
        return versions[-1] != versions[-2]

    store.param("x", 1.0)
    assert changed()
    leaves = store.leaves()
    store.param("x", 1.0)
    store["x"] = 2.0
    store.set_state(store.get_state())
    assert not changed()
    assert store.leaves()["x"] is leaves["x"]
    del store["x"]
    assert changed()
    store.param("x", 1.0)
    assert changed()
    assert store.leaves()["x"] is not leaves["x"]
    with store.scope():
        assert changed()
    assert changed()
    assert len(set(versions)) == len(versions) - 1
    with pytest.raises(TypeError):
        store.leaves()["x"] = torch.ones(())  # type: ignore[index]


def test_describe(store: ParamStore) -> None:
    store.param("L", torch.eye(3).expand(5, 3, 3), constraints.lower_cholesky, lr=0.1)
    assert store.describe("L") == {
        "name": "L",
        "constraint": "lower_cholesky",
        "transform": "log_diagonal",
        "event_dim": 2,
        "shape": [5, 3, 3],
        "free_shape": [5, 6],
        "lr": 0.1,
        "frozen": False,
    }


def test_stores_are_independent() -> None:
    one, other = ParamStore(), ParamStore()
    param("x", 1.0, store=one)
    param("x", 2.0, store=other)
    param("x", 3.0)
    assert [s["x"].item() for s in (one, other, get_param_store())] == [1.0, 2.0, 3.0]
    assert get_param_store(one) is one
    assert get_param_store() is get_param_store(None)
    clear_param_store(one)
    assert (len(one), len(other), len(get_param_store())) == (0, 1, 1)


def test_nothing_outlives_the_store() -> None:
    store = ParamStore()
    value = store.param("x", torch.ones(2), constraints.positive)
    del store
    gc.collect()
    assert value.unconstrained().tolist() == [0.0, 0.0]


def test_values_and_stores_can_be_copied_and_pickled() -> None:
    store = filled()
    twin = copy.deepcopy(store)
    assert same(store, twin)
    assert all(twin.leaves()[name] is not leaf for name, leaf in store.named_parameters())
    assert type(pickle.loads(pickle.dumps(store.leaves()["G.p0"]))) is nn.Parameter
    buffer = io.BytesIO()
    torch.save(dict(store.named_parameters()), buffer)
    buffer.seek(0)
    assert len(torch.load(buffer, weights_only=True)) == len(store)


def test_a_guide_can_be_compiled(store: ParamStore) -> None:
    def loss(x: Tensor) -> Tensor:
        return (store.param("s", 1.0, constraints.positive) * x + store.param("m", 0.5)).sum()

    x = torch.ones(3)
    loss(x)
    compiled = torch.compile(loss, backend="eager")
    assert compiled(x).item() == loss(x).item()


# Scopes


def test_scopes_isolate_values_and_constraints(store: ParamStore) -> None:
    outer = store.param("x", 1.0, constraints.positive)
    with store.scope() as first:
        assert len(store) == 0
        store.param("x", torch.zeros(3))
        store.param("y", 5.0)
    assert list(store) == ["x"]
    assert store["x"].unconstrained() is outer.unconstrained()
    assert store.entry("x").constraint == constraints.positive
    with store.scope(first):
        assert store["x"].shape == (3,)
        store["y"] = 6.0
        with store.scope():
            assert len(store) == 0
        assert len(store) == 2
    with store.scope(first):
        assert store["y"].item() == 6.0


def test_a_scope_is_left_on_errors(store: ParamStore) -> None:
    store.param("x", 1.0)

    def fail() -> None:
        with store.scope():
            store.param("y", 1.0)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(store) == ["x"]
    with pytest.raises(ParamError), store.scope({"nonsense": 1}):
        pass
    assert list(store) == ["x"]


def test_the_global_store_can_be_scoped() -> None:
    param("x", 1.0)
    with get_param_store().scope():
        param("x", torch.ones(2), constraints.positive)
    assert param("x").item() == 1.0


# State


def test_state_round_trip() -> None:
    store, other = filled(), ParamStore()
    state = store.get_state()
    json.dumps(state["params"], allow_nan=False)
    other.set_state(state)
    assert same(store, other)
    with torch.no_grad():
        for leaf in store.leaves().values():
            leaf.add_(1)
    assert not same(store, other)
    leaves = dict(store.leaves())
    store.set_state(state)
    assert same(store, other)
    assert all(store.leaves()[name] is leaf for name, leaf in leaves.items())
    with torch.no_grad():
        other.leaves()["G.p0"].add_(1)
    assert torch.equal(state["tensors"]["G.p0"], store.leaves()["G.p0"])


@pytest.mark.parametrize("state", [{}, None, {"format": 2}, {"format": 1}, {"format": 1, "params": {"x": {}}}])
def test_a_bad_state_changes_nothing(store: ParamStore, state: Any) -> None:
    store.param("x", 1.0)
    with pytest.raises(ParamError):
        store.set_state(state)
    assert store["x"].item() == 1.0


# Files


def test_files_are_exact(tmp_path: Path) -> None:
    store, other = filled(), ParamStore()
    store.param("slow", 1.0, lr=0.01)
    store.param("still", 1.0, frozen=True)
    store.save(tmp_path / "a.safetensors", {"source_sha256": "…", "step": 3})
    assert other.load(tmp_path / "a.safetensors") == {"source_sha256": "…", "step": 3}
    assert same(store, other)
    assert not other.leaves()["still"].requires_grad
    assert other.lr("slow") == 0.01
    assert all(torch.equal(other[name], value) for name, value in store.items())
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


@given(data=st.data())
def test_every_float_survives(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    numbers = st.floats(allow_nan=False, allow_infinity=False)
    values = torch.tensor(data.draw(st.lists(numbers, max_size=5)), dtype=torch.float64)
    name = data.draw(st.text(min_size=1, max_size=8).filter(lambda text: text.isprintable() and text != "__metadata__"))
    store, other = ParamStore(), ParamStore()
    store.param(name, values)
    path = tmp_path_factory.mktemp("files") / "a"
    store.save(path)
    other.load(path)
    assert torch.equal(other[name].view(torch.int64), values.view(torch.int64))


def test_loading_into_registered_parameters_keeps_the_leaves(tmp_path: Path) -> None:
    store = filled()
    store.save(tmp_path / "a")
    leaves, expected = dict(store.leaves()), copy.deepcopy(store)
    version = store.version
    with torch.no_grad():
        for leaf in leaves.values():
            leaf.mul_(-1)
    store.load(tmp_path / "a")
    assert same(store, expected)
    assert all(store.leaves()[name] is leaf for name, leaf in leaves.items())
    assert store.version == version


def test_strict_loading_lists_all_that_differs(store: ParamStore, tmp_path: Path) -> None:
    store.param("same", 1.0)
    store.param("gone", 1.0)
    store.param("shape", torch.ones(2))
    store.param("type", 1.0, constraints.positive)
    store.param("dims", torch.ones(2), event_dim=1)
    store.save(tmp_path / "a")
    other = ParamStore()
    other.param("same", 7.0)
    other.param("added", 7.0)
    other.param("shape", torch.ones(3))
    other.param("type", 0.5, constraints.unit)
    other.param("dims", torch.ones(2))
    before = other.get_state()
    with pytest.raises(ParamError) as caught:
        other.load(tmp_path / "a")
    message = str(caught.value)
    for part in (
        "'gone' is unexpected",
        "'added' is missing",
        "'shape': shape is [3] here, [2] there",
        "'type': constraint is unit here, positive there",
        "'dims': event_dim is 0 here, 1 there",
    ):
        assert part in message
    assert "'same'" not in message
    after = other.get_state()
    assert after["params"] == before["params"]
    assert all(torch.equal(after["tensors"][name], tensor) for name, tensor in before["tensors"].items())


def test_loading_what_fits(store: ParamStore, tmp_path: Path) -> None:
    store.param("x", 1.0)
    store.param("y", 2.0)
    store.save(tmp_path / "a")
    other = ParamStore()
    other.param("x", 7.0)
    other.param("z", 8.0)
    other.load(tmp_path / "a", strict=False)
    assert {name: value.item() for name, value in other.items()} == {"x": 1.0, "z": 8.0, "y": 2.0}
    third = ParamStore()
    third.param("x", torch.ones(2))
    with pytest.raises(ParamError, match="shape"):
        third.load(tmp_path / "a", strict=False)
    assert list(third) == ["x"]


def test_code_takes_over_what_was_loaded(store: ParamStore, tmp_path: Path) -> None:
    store.param("x", torch.ones(2), constraints.positive, frozen=True)
    store.param("y", 1.0, lr=0.5)
    store.save(tmp_path / "a")
    other = ParamStore()
    other.load(tmp_path / "a")
    with pytest.raises(ParamError, match=r"positive.*unit"):
        other.param("x", torch.ones(2), constraints.unit)
    with pytest.raises(ParamError, match="shape"):
        other.param("x", torch.ones(3), constraints.positive)
    with pytest.raises(ParamError, match="event_dim"):
        other.param("x", torch.ones(2), constraints.positive, 1)
    with pytest.raises(ParamError, match=r"'x'.*'rows'"):
        other.param("x", lambda: torch.ones(3), constraints.positive, plates=(Plate("rows", 3),))

    def never() -> Tensor:
        raise AssertionError("a loaded parameter is not initialised")

    assert not other["x"].requires_grad
    assert other.param("x", never, constraints.positive).requires_grad
    other.param("y", never, lr=0.1)
    assert other.lr("y") == 0.1
    with pytest.raises(ParamError, match=r"0\.1.*0\.2"):
        other.param("y", never, lr=0.2)


def test_map_location(store: ParamStore, tmp_path: Path) -> None:
    store.param("x", 1.0)
    store.save(tmp_path / "a")
    other = ParamStore()
    other.load(tmp_path / "a", map_location=torch.device("cpu"))
    assert other.leaves()["x"].device.type == "cpu"
    for nowhere in ("meta", "nowhere", "cuda:99", 1.5):
        with pytest.raises(ParamError, match="map_location"):
            ParamStore().load(tmp_path / "a", map_location=nowhere)  # type: ignore[arg-type]


def test_float64_files_go_into_float32_stores(tmp_path: Path) -> None:
    store, other = ParamStore(), ParamStore()
    store.param("x", torch.tensor(0.1, dtype=torch.float64))
    store.save(tmp_path / "a")
    other.param("x", torch.tensor(0.5))
    other.load(tmp_path / "a")
    assert other["x"].dtype == torch.float32
    assert other["x"].item() == torch.tensor(0.1).item()
    store["x"] = 0.1
    assert store["x"].item() == 0.1
    store["x"] = 1e300
    store.save(tmp_path / "a")
    with pytest.raises(ParamError, match=r"too large for torch\.float32"):
        other.load(tmp_path / "a")


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nan_and_inf_are_neither_saved_nor_loaded(store: ParamStore, tmp_path: Path, bad: float) -> None:
    path = tmp_path / "a"
    store.param("x", torch.ones(2))
    store.param("y", torch.ones(2))
    store.save(path)
    content = path.read_bytes()
    with torch.no_grad():
        store.leaves()["y"][1] = bad
    with pytest.raises(ParamError, match=r"'y'.*NaN or infinite"):
        store.save(path)
    assert path.read_bytes() == content
    records = {name: store.entry(name).record().to_json() for name in store}
    param_files.write_file(path, store.leaves(), {"params": records})
    for target in (ParamStore(), store):
        with pytest.raises(ParamError, match="'y': 1 of its 2 coordinates"):
            target.load(path)
    state = store.get_state()
    with pytest.raises(ParamError, match="'y'"):
        ParamStore().set_state(state)


def test_metadata_must_be_json(store: ParamStore, tmp_path: Path) -> None:
    nested: list[Any] = []
    nested.append(nested)
    for metadata in ({"a": object()}, {"a": math.nan}, {"a": nested}):
        with pytest.raises(ParamError, match="JSON"):
            store.save(tmp_path / "a", metadata)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("failing", ["replace", "fsync", "write"])
def test_a_failed_write_leaves_the_old_file(
    store: ParamStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    path = tmp_path / "a.safetensors"
    store.param("x", 1.0)
    store.save(path)
    content = path.read_bytes()
    store["x"] = 2.0

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        if failing == "write":
            # Something that was half written when the disk filled up.
            patch.setattr(param_files, "save", lambda *_, **__: HalfWritten())
            expected: type[BaseException] = TypeError
        else:
            patch.setattr(os, failing, fail)
            expected = OSError
        with pytest.raises(expected):
            store.save(path)
    assert path.read_bytes() == content
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    other = ParamStore()
    other.load(path)
    assert other["x"].item() == 1.0


class HalfWritten:
    """What a file cannot write."""


def test_a_kill_before_the_rename_leaves_the_old_file(
    store: ParamStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    store.param("x", 1.0)
    store.save(path)
    store["x"] = 2.0
    seen: list[float] = []
    replace = os.replace

    def look(source: Path, target: Path) -> None:
        # What another process, or the next one after a kill, finds at this moment and right after.
        for _ in range(2):
            other = ParamStore()
            other.load(path)
            seen.append(other["x"].item())
            if len(seen) == 1:
                replace(source, target)

    monkeypatch.setattr(os, "replace", look)
    store.save(path)
    assert seen == [1.0, 2.0]


def test_symbolic_links_are_followed(store: ParamStore, tmp_path: Path) -> None:
    store.param("x", 1.0)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    store.save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").is_file()


def test_missing_files_are_os_errors(store: ParamStore, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        store.load(tmp_path / "nothing")
    with pytest.raises(IsADirectoryError):
        store.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        store.save(tmp_path / "no folder" / "a")


def pack(header: bytes, body: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + body


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0",
        b"not a file of ours",
        pickle.dumps({"x": 1}),
        b"\xff" * 64,
        pack(b"{}"),
        pack(b'{"__metadata__": {"guidedsl": "{"}}'),
        pack(b'{"__metadata__": {"guidedsl": "[]"}}'),
        pack(b'{"__metadata__": {"guidedsl": "NaN"}}'),
        pack(b'{"__metadata__": {"guidedsl": "{}"}}'),
        pack(b'{"__metadata__": {"guidedsl": "{\\"format\\": 2}"}}'),
        pack(b'{"__metadata__": {"guidedsl": "{\\"format\\": 1}"}}'),
        pack(b'{"__metadata__": {"guidedsl": "' + b"[" * 100_000 + b'"}}'),
        pack(b'{"x": {"dtype": "F32", "shape": [1000000000000], "data_offsets": [0, 4000000000000]}}'),
        pack(b'{"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}', b"\0\0\0\0"),
    ],
)
def test_foreign_files(store: ParamStore, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    store.param("x", 1.0)
    for target in (store, ParamStore()):
        before = len(target)
        with pytest.raises(ParamError, match="a'"):
            target.load(path)
        assert len(target) == before


def test_a_file_cut_short_at_any_byte(tmp_path: Path) -> None:
    store = ParamStore()
    store.param("x", torch.ones(3), constraints.positive)
    path = tmp_path / "a"
    store.save(path)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(ParamError):
            ParamStore().load(path)


@pytest.mark.parametrize("kind", ["flipped", "cut", "longer"])
@settings(max_examples=50)
@given(data=st.data())
def test_a_damaged_file_is_one_error_or_the_same(
    data: st.DataObject, kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The same: a space of the header's padding may become another white space."""
    store = filled()
    path = tmp_path_factory.mktemp("files") / "a"
    store.save(path, {"step": 3})
    content = bytearray(path.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    if kind == "flipped":
        content[position] ^= data.draw(st.integers(1, 255))
    elif kind == "cut":
        del content[position : position + data.draw(st.integers(1, 40))]
    else:
        content[position:position] = data.draw(st.binary(min_size=1, max_size=40))
    path.write_bytes(content)
    empty, full = ParamStore(), filled()
    try:
        assert empty.load(path) == {"step": 3}
        full.load(path)
    except ParamError:
        assert len(empty) == 0
    else:
        assert same(empty, store)
    assert same(full, store)


def test_a_changed_number_is_noticed(store: ParamStore, tmp_path: Path) -> None:
    path = tmp_path / "a"
    store.param("x", torch.ones(2))
    store.save(path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ParamError, match="damaged: its content is not what was written"):
        ParamStore().load(path)


def test_a_safetensors_file_of_another_tool(store: ParamStore, tmp_path: Path) -> None:
    path = tmp_path / "a"
    save_file({"x": torch.ones(2)}, path, metadata={"format": "pt"})
    store.param("x", torch.zeros(2))
    for target in (store, ParamStore()):
        with pytest.raises(ParamError, match="was not written by guidedsl"):
            target.load(path)
    assert store["x"].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [3]},
        {"shape": "2"},
        {"shape": [2.0]},
        {"shape": [-2]},
        {"event_dim": 5},
        {"event_dim": "0"},
        {"event_dim": True},
        {"frozen": 1},
        {"lr": -1},
        {"lr": "fast"},
        {"lr": 10**400},
        {"constraint": {"type": "simplex", "transform": "stick_breaking"}},
        {"constraint": {"type": "boolean", "transform": ""}},
        {"constraint": {"type": "os.system", "transform": "rm"}},
        {"constraint": None},
        {"more": 1},
    ],
)
def test_wrong_metadata(store: ParamStore, tmp_path: Path, change: dict[str, Any]) -> None:
    store.param("x", torch.ones(2), constraints.positive)
    record = {**store.entry("x").record().to_json(), **change}
    path = tmp_path / "a"
    param_files.write_file(path, store.leaves(), {"params": {"x": record}})
    for target in (ParamStore(), store):
        with pytest.raises(ParamError, match="'x'"):
            target.load(path)


def test_tensors_and_metadata_must_have_the_same_names(store: ParamStore, tmp_path: Path) -> None:
    store.param("x", 1.0)
    record = store.entry("x").record().to_json()
    path = tmp_path / "a"
    param_files.write_file(path, {"x": torch.ones(()), "extra": torch.ones(2)}, {"params": {"x": record, "y": record}})
    with pytest.raises(ParamError, match=r"(?s)'extra': a tensor without metadata.*'y': its coordinates"):
        ParamStore().load(path)
    param_files.write_file(path, {"x": torch.ones((), dtype=torch.int64)}, {"params": {"x": record}})
    with pytest.raises(ParamError, match="floating-point"):
        ParamStore().load(path)
    param_files.write_file(path, {"a\nb": torch.ones(())}, {"params": {"a\nb": record}})
    with pytest.raises(ParamError, match="not a name"):
        ParamStore().load(path)


# Modules


def net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))


def test_a_modules_parameters_are_the_leaves(store: ParamStore) -> None:
    encoder = net()
    weight = encoder[0].weight
    assert store.module("enc", encoder) is encoder
    assert list(store) == ["enc.0.weight", "enc.0.bias", "enc.2.weight", "enc.2.bias"]
    assert store["enc.0.weight"] is encoder[0].weight is weight
    assert store["enc.0.weight"].unconstrained() is weight
    assert store.param_name(weight) == "enc.0.weight"
    assert store.entry("enc.0.weight").event_dim == 2
    version = store.version
    module("enc", encoder, store=store)
    assert store.version == version
    with torch.no_grad():
        store["enc.0.weight"].fill_(2.0)
    assert encoder(torch.zeros(5, 2)).shape == (5, 1)
    assert bool((encoder[0].weight == 2).all())
    buffer = io.BytesIO()
    torch.save(encoder, buffer)
    assert isinstance(copy.deepcopy(encoder)[0].weight, nn.Parameter)


def test_loading_updates_a_module_in_place(store: ParamStore, tmp_path: Path) -> None:
    first, second = net(1), net(2)
    store.module("enc", first)
    store.save(tmp_path / "a")
    other = ParamStore()
    other.module("enc", second)
    weight = second[0].weight
    other.load(tmp_path / "a")
    assert second[0].weight is weight
    assert torch.equal(weight, first[0].weight)


def test_a_module_takes_loaded_values(store: ParamStore, tmp_path: Path) -> None:
    first, second = net(1), net(2)
    store.module("enc", first)
    store.save(tmp_path / "a")
    other = ParamStore()
    other.load(tmp_path / "a")
    weight = second[0].weight
    other.module("enc", second)
    assert second[0].weight is weight is other.leaves()["enc.0.weight"]
    assert torch.equal(weight, first[0].weight)


def test_a_module_made_again_gets_the_stores_parameters(store: ParamStore) -> None:
    first, second = net(1), net(2)
    store.module("enc", first)
    store.module("enc", second)
    assert second[0].weight is first[0].weight
    assert list(second.parameters())[0] is store.leaves()["enc.0.weight"]  # noqa: RUF015


def test_tied_and_frozen_parameters(store: ParamStore) -> None:
    tied = nn.ModuleDict({"a": nn.Linear(2, 2, bias=False), "b": nn.Linear(2, 2, bias=False)})
    tied["b"].weight = tied["a"].weight
    tied["a"].weight.requires_grad_(False)
    store.module("tied", tied)
    assert list(store) == ["tied.a.weight"]
    assert store.entry("tied.a.weight").frozen
    again = nn.ModuleDict({"a": nn.Linear(2, 2, bias=False), "b": nn.Linear(2, 2, bias=False)})
    again["b"].weight = again["a"].weight
    store.module("tied", again)
    assert again["a"].weight is again["b"].weight is store.leaves()["tied.a.weight"]


def test_a_module_that_does_not_fit_changes_nothing(store: ParamStore) -> None:
    store.module("enc", net())
    state = store.get_state()
    wrong = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 7))
    weight = wrong[0].weight
    with pytest.raises(ParamError, match=r"'enc.2.weight'.*\[1, 3\].*\[7, 3\]"):
        store.module("enc", wrong)
    assert wrong[0].weight is weight
    with pytest.raises(ParamError, match=r"type torch\.float32"):
        store.module("enc", net().double())
    broken = net()
    with torch.no_grad():
        broken[0].bias.fill_(math.nan)
    with pytest.raises(ParamError, match=r"'new.0.bias'.*NaN"):
        store.module("new", broken)
    with pytest.raises(ParamError, match="lazy"):
        store.module("lazy", nn.LazyLinear(2))
    with pytest.raises(ParamError, match="name"):
        store.module("a\n", net())
    store.param("p.weight", torch.ones(1, 1), constraints.positive)
    with pytest.raises(ParamError, match="positive"):
        store.module("p", nn.Linear(1, 1))
    del store["p.weight"]
    assert store.get_state()["params"] == state["params"]
