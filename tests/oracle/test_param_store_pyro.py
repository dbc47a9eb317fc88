"""The param store beside Pyro's: equal where Pyro is right, and both behaviours where this one is stricter.

Each test of the second kind shows what Pyro does as well, so that a change there is noticed here.
"""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyro
import pytest
import torch
from pyro.params.param_store import ParamStoreDict
from torch import Tensor, nn
from torch.distributions import constraints as torch_constraints

from guidedsl.runtime import Plate, constraints
from guidedsl.runtime.errors import ParamError
from guidedsl.runtime.params import ParamStore

Store = Any
MAKERS = [ParamStore, ParamStoreDict]

CONSTRAINTS = [
    (torch_constraints.real, torch.tensor([0.5, -2.0])),
    (torch_constraints.positive, torch.tensor([0.5, 3.0])),
    (torch_constraints.unit_interval, torch.tensor([0.25, 0.9])),
    (torch_constraints.interval(-1.0, 3.0), torch.tensor([0.25, 0.9])),
    (torch_constraints.greater_than(2.0), torch.tensor([2.5, 9.0])),
    (torch_constraints.less_than(2.0), torch.tensor([1.5, -9.0])),
    (torch_constraints.simplex, torch.tensor([0.2, 0.3, 0.5])),
    (torch_constraints.lower_cholesky, torch.tensor([[1.0, 0.0], [0.5, 2.0]])),
    (torch_constraints.corr_cholesky, torch.tensor([[1.0, 0.0], [0.6, 0.8]])),
    (torch_constraints.positive_definite, torch.tensor([[2.0, 0.5], [0.5, 1.0]])),
]
every_constraint = pytest.mark.parametrize(("constraint", "value"), CONSTRAINTS, ids=[str(c) for c, _ in CONSTRAINTS])
both = pytest.mark.parametrize("make", MAKERS)


@pytest.fixture(autouse=True)
def _clean_pyro() -> Iterator[None]:
    pyro.clear_param_store()
    yield
    pyro.clear_param_store()


def result(call: Callable[[], object]) -> object:
    """What a call gives, comparable: numbers, or the kind of error."""
    try:
        found = call()
    except KeyError:
        return KeyError
    return found.tolist() if isinstance(found, Tensor) else found


# The same


SEQUENCE: list[tuple[str, Callable[[Store], object]]] = [
    ("a new parameter", lambda s: s.setdefault("x", torch.tensor([1.0, 2.0]))),
    ("a positive one", lambda s: s.setdefault("scale", torch.tensor(1.0), torch_constraints.positive)),
    ("is stored as 0", lambda s: s["scale"].unconstrained()),
    ("a real one is its own leaf", lambda s: s["x"].unconstrained() is s["x"]),
    ("needs a gradient", lambda s: (s["x"].requires_grad, s["scale"].requires_grad, s["x"].is_leaf)),
    ("setdefault keeps", lambda s: s.setdefault("x", torch.tensor([7.0, 8.0]))),
    ("a callable runs if absent", lambda s: s.setdefault("called", lambda: torch.tensor(4.0))),
    ("and only then", lambda s: s.setdefault("called", lambda: pytest.fail("called again"))),
    ("assignment", lambda s: s.__setitem__("x", torch.tensor([3.0, 4.0]))),
    ("reads back", lambda s: s["x"]),
    ("assignment keeps the constraint", lambda s: s.__setitem__("scale", torch.tensor(1.0).exp())),
    ("in its coordinates", lambda s: s["scale"].unconstrained()),
    ("assignment of a new name", lambda s: s.__setitem__("fresh", torch.tensor(-1.0))),
    ("makes it real", lambda s: s["fresh"].unconstrained()),
    ("names", lambda s: list(s)),
    ("keys", lambda s: list(s.keys())),
    ("values", lambda s: [v.tolist() for v in s.values()]),
    ("items", lambda s: [(name, v.tolist()) for name, v in s.items()]),
    ("leaves", lambda s: [(name, leaf.tolist()) for name, leaf in s.named_parameters()]),
    ("length", len),
    ("truth", bool),
    ("contains", lambda s: ("x" in s, "y" in s)),
    ("match from the beginning", lambda s: {k: v.tolist() for k, v in s.match("s|f").items()}),
    ("match nothing", lambda s: s.match("cale")),
    ("the name of a real value", lambda s: s.param_name(s["x"])),
    ("the name of a leaf", lambda s: s.param_name(s["scale"].unconstrained())),
    ("the name of anything else", lambda s: s.param_name(torch.zeros(()))),
    ("a missing one", lambda s: s["missing"]),
    ("deleting a missing one", lambda s: s.__delitem__("missing")),
    ("deletion", lambda s: s.__delitem__("x")),
    ("is gone", lambda s: ("x" in s, len(s))),
    ("made again", lambda s: s.setdefault("x", torch.tensor(0.5), torch_constraints.unit_interval)),
    ("with its new constraint", lambda s: s["x"].unconstrained()),
    ("clear", lambda s: s.clear()),
    ("empty", lambda s: (len(s), bool(s), list(s.items()))),
]


def test_the_same_calls_give_the_same_results() -> None:
    ours, theirs = ParamStore(), ParamStoreDict()
    for what, call in SEQUENCE:
        assert result(lambda: call(ours)) == result(lambda: call(theirs)), what  # noqa: B023


@every_constraint
def test_values_round_trip_under_every_constraint(constraint: Any, value: Tensor) -> None:
    stores = [make() for make in MAKERS]
    for store in stores:
        store.setdefault("x", value.clone(), constraint)
        torch.testing.assert_close(store["x"].detach(), value)
        (store["x"] * torch.arange(1.0, value.numel() + 1).square().reshape(value.shape)).sum().backward()
        assert store["x"].unconstrained().grad.abs().sum() > 0


def test_gradients_at_leaves_are_the_same_where_the_bijection_is() -> None:
    """exp and the logistic function; Pyro's bounded intervals, simplices and choleskys have other coordinates."""
    for constraint, value in CONSTRAINTS[:3]:
        found = []
        for make in MAKERS:
            store: Store = make()
            store.setdefault("x", value.clone(), constraint)
            store["x"].square().sum().backward()
            found.append((store["x"].unconstrained().detach(), store["x"].unconstrained().grad))
        torch.testing.assert_close(*(leaf for leaf, _ in found))
        torch.testing.assert_close(*(gradient for _, gradient in found))


@both
def test_scopes_isolate_values_and_constraints(make: Callable[[], Store]) -> None:
    store = make()
    leaf = store.setdefault("x", torch.tensor(1.0), torch_constraints.positive).unconstrained()
    with store.scope() as inner:
        assert len(store) == 0
        store.setdefault("x", torch.zeros(3))
        store.setdefault("y", torch.ones(()))
    assert list(store) == ["x"]
    assert store["x"].unconstrained() is leaf
    store["x"] = torch.tensor(2.0).exp()
    assert store["x"].unconstrained().item() == pytest.approx(2.0)
    with store.scope(inner):
        assert store["x"].tolist() == [0.0, 0.0, 0.0]
        store["y"] = torch.tensor(5.0)
    with store.scope(inner):
        assert store["y"].item() == 5.0

    def fail() -> None:
        with store.scope(inner):
            del store["y"]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with store.scope(inner):
        assert "y" in store
    assert list(store) == ["x"]


@both
def test_save_and_load_are_exact(make: Callable[[], Store], tmp_path: Path) -> None:
    store = make()
    for number, (constraint, value) in enumerate(CONSTRAINTS):
        store.setdefault(f"p{number}", value.clone(), constraint)
    store.save(str(tmp_path / "params"))
    for device in (None, "cpu", torch.device("cpu")):
        other = make()
        other.load(str(tmp_path / "params"), map_location=device)
        assert list(other) == list(store)
        for name in store:
            assert torch.equal(other[name], store[name])
            assert other[name].unconstrained().requires_grad


@both
def test_state_restores(make: Callable[[], Store]) -> None:
    store, other = make(), make()
    store.setdefault("scale", torch.tensor(2.0), torch_constraints.positive)
    other.set_state(store.get_state())
    assert other["scale"].item() == pytest.approx(2.0)
    other["scale"] = torch.tensor(1.0)
    assert other["scale"].unconstrained().item() == 0.0


PLATE_ROWS = torch.tensor([3, 1, 4, 0, 9])


def theirs_in_a_plate(init: Tensor, event_dim: int | None, constraint: Any = torch_constraints.real) -> Tensor:
    with pyro.plate("rows", 10, subsample=PLATE_ROWS):
        value: Tensor = pyro.param("w", init.clone(), constraint=constraint, event_dim=event_dim)
    return value


def ours_in_a_plate(init: Tensor, event_dim: int | None, constraint: Any = torch_constraints.real) -> Tensor:
    plates = (Plate("rows", 10, rows=PLATE_ROWS),)
    return ParamStore().param("w", init, constraint, event_dim, plates=plates)


@pytest.mark.parametrize(
    ("shape", "event_dim"),
    [((10,), 0), ((), 0), ((1,), 0), ((10, 3), 1), ((1, 3), 1), ((3,), 1), ((4, 10), 0), ((10, 2, 3), 2)],
)
def test_rows_of_a_subsampled_plate(shape: tuple[int, ...], event_dim: int) -> None:
    init = torch.arange(1.0, math.prod(shape) + 1).reshape(shape)
    assert torch.equal(ours_in_a_plate(init, event_dim), theirs_in_a_plate(init, event_dim))


def test_rows_of_a_constrained_parameter() -> None:
    init = torch.arange(1.0, 31.0).reshape(10, 3)
    init = init / init.sum(-1, keepdim=True)
    arguments = (init, 1, torch_constraints.simplex)
    torch.testing.assert_close(ours_in_a_plate(*arguments), theirs_in_a_plate(*arguments))


@pytest.mark.parametrize(("shape", "event_dim"), [((5,), 0), ((3, 5), 0), ((11,), 0), ((10, 3), 0), ((5, 3), 1)])
def test_sizes_that_no_plate_explains_are_refused(shape: tuple[int, ...], event_dim: int) -> None:
    with pytest.raises(ValueError, match="rows"):
        theirs_in_a_plate(torch.ones(shape), event_dim)
    with pytest.raises(ParamError, match="rows"):
        ours_in_a_plate(torch.ones(shape), event_dim)


def test_two_nested_subsampled_plates() -> None:
    init = torch.arange(48.0).reshape(4, 6, 2)
    outer, inner = torch.tensor([3, 0]), torch.tensor([5, 1, 2])
    with pyro.plate("outer", 4, subsample=outer, dim=-2), pyro.plate("inner", 6, subsample=inner, dim=-1):
        theirs = pyro.param("w", init.clone(), event_dim=1)
    plates = (Plate("outer", 4, rows=outer), Plate("inner", 6, rows=inner))
    ours = ParamStore().param("w", init, event_dim=1, plates=plates)
    assert ours.shape == (2, 3, 2)
    assert torch.equal(ours, theirs)


def test_gradients_reach_the_rows_that_were_seen() -> None:
    init = torch.arange(10.0)
    found = []
    for value in (ours_in_a_plate(init, 0), theirs_in_a_plate(init, 0)):
        (value * torch.arange(1.0, 6.0)).sum().backward()
    found.append(pyro.get_param_store()["w"].unconstrained().grad)
    store = ParamStore()
    value = store.param("w", init, event_dim=0, plates=(Plate("rows", 10, rows=PLATE_ROWS),))
    (value * torch.arange(1.0, 6.0)).sum().backward()
    found.append(store["w"].unconstrained().grad)
    assert torch.equal(*found)


def test_modules_share_their_parameters() -> None:
    theirs, ours = nn.Linear(2, 1), nn.Linear(2, 1)
    pyro.module("enc", theirs)
    store = ParamStore()
    store.module("enc", ours)
    assert list(pyro.get_param_store()) == ["enc$$$weight", "enc$$$bias"]
    assert list(store) == ["enc.weight", "enc.bias"]
    assert pyro.get_param_store()["enc$$$weight"] is theirs.weight
    assert store["enc.weight"] is ours.weight


# Stricter, on purpose: Pyro's behaviour first, then ours.


@pytest.mark.parametrize(
    ("init", "constraint", "becomes"),
    [
        (torch.tensor(-1.0), torch_constraints.positive, math.nan),
        (torch.tensor(0.0), torch_constraints.positive, 0.0),
        (torch.tensor([1.0, 2.0, 3.0]), torch_constraints.simplex, [1 / 6, 1 / 3, 1 / 2]),
        (torch.tensor(1.5), torch_constraints.unit_interval, 1.0),
        (torch.tensor(5.0), torch_constraints.interval(0.0, 2.0), 2.0),
        (torch.tensor([[1.0, 5.0], [0.5, 2.0]]), torch_constraints.lower_cholesky, [[1.0, 0.0], [0.5, 2.0]]),
        (torch.tensor(math.nan), torch_constraints.real, math.nan),
        (torch.tensor(math.inf), torch_constraints.real, math.inf),
    ],
)
def test_a_value_outside_its_constraint(init: Tensor, constraint: Any, becomes: Any) -> None:
    theirs, ours = ParamStoreDict(), ParamStore()
    found = theirs.setdefault("x", init.clone(), constraint)
    torch.testing.assert_close(found.detach(), torch.tensor(becomes), equal_nan=True, rtol=1e-5, atol=1e-6)
    with pytest.raises(ParamError, match="'x'"):
        ours.setdefault("x", init, constraint)
    assert len(ours) == 0


def test_an_assignment_outside_the_constraint() -> None:
    theirs, ours = ParamStoreDict(), ParamStore()
    for store in (theirs, ours):
        store.setdefault("x", torch.tensor(1.0), torch_constraints.positive)
    theirs["x"] = torch.tensor(-1.0)
    assert theirs["x"].isnan()
    with pytest.raises(ParamError, match=r"-1\.0 is not positive"):
        ours["x"] = torch.tensor(-1.0)
    assert ours["x"].item() == 1.0


def test_an_assignment_of_another_shape() -> None:
    theirs, ours = ParamStoreDict(), ParamStore()
    for store in (theirs, ours):
        store.setdefault("x", torch.ones(2))
    theirs["x"] = torch.ones(5)
    assert theirs["x"].shape == (5,)
    with pytest.raises(ParamError, match=r"\[2\].*\[5\]"):
        ours["x"] = torch.ones(5)


def test_unconstrained_values_far_out_stay_inside() -> None:
    theirs, ours = ParamStoreDict(), ParamStore()
    for store in (theirs, ours):
        value = store.setdefault("x", torch.tensor(1.0), torch_constraints.positive)
        with torch.no_grad():
            value.unconstrained().fill_(-1e4)
    assert theirs["x"].item() == 0.0
    assert ours["x"].item() > 0.0


def test_a_second_registration_that_differs() -> None:
    theirs, ours = ParamStoreDict(), ParamStore()
    for store in (theirs, ours):
        store.setdefault("x", torch.tensor(2.0), torch_constraints.positive)
    assert theirs.setdefault("x", torch.tensor(0.5), torch_constraints.unit_interval).item() == 2.0
    assert theirs.setdefault("x", torch.ones(3), torch_constraints.positive).shape == ()
    with pytest.raises(ParamError, match=r"positive.*unit"):
        ours.setdefault("x", torch.tensor(0.5), torch_constraints.unit_interval)
    with pytest.raises(ParamError, match=r"\[\].*\[3\]"):
        ours.setdefault("x", torch.ones(3), torch_constraints.positive)


def test_the_callers_tensor() -> None:
    theirs, ours = ParamStoreDict(), ParamStore()
    given, kept = torch.ones(2), torch.ones(2)
    assert theirs.setdefault("x", given) is given
    assert given.requires_grad
    assert ours.setdefault("x", kept) is not kept
    assert not kept.requires_grad


def test_numbers_and_integers() -> None:
    theirs, ours = ParamStoreDict(), ParamStore()
    with pytest.raises(AttributeError):
        theirs.setdefault("x", 1.0)
    with pytest.raises(RuntimeError, match="floating point"):
        theirs.setdefault("y", torch.tensor(1))
    assert ours.setdefault("x", 1.0).item() == ours.setdefault("y", torch.tensor(1)).item() == 1.0


def test_an_init_that_fails_leaves_nothing() -> None:
    def fail() -> Tensor:
        raise ZeroDivisionError

    theirs, ours = ParamStoreDict(), ParamStore()
    for store in (theirs, ours):
        with pytest.raises(ZeroDivisionError):
            store.setdefault("x", fail, torch_constraints.positive)
        store["x"] = torch.tensor(1.0)
    assert theirs["x"].unconstrained().item() == 0.0, "the constraint of the failed call stayed"
    assert ours["x"].unconstrained().item() == 1.0


def test_assignment_keeps_the_leaf_and_so_the_optimisers_state() -> None:
    theirs, ours = ParamStoreDict(), ParamStore()
    leaves = []
    for store in (theirs, ours):
        leaves.append(store.setdefault("x", torch.ones(2)).unconstrained())
        store["x"] = torch.zeros(2)
    assert theirs["x"].unconstrained() is not leaves[0]
    assert theirs.param_name(leaves[0]) == "x", "an orphan still has the name"
    assert ours["x"].unconstrained() is leaves[1]


def test_the_name_of_a_constrained_value() -> None:
    for store, name in ((ParamStoreDict(), None), (ParamStore(), "x")):
        value = store.setdefault("x", torch.tensor(1.0), torch_constraints.positive)
        assert store.param_name(value) == name


def test_a_state_is_a_copy() -> None:
    theirs, ours = ParamStoreDict(), ParamStore()
    states = []
    for store in (theirs, ours):
        value = store.setdefault("x", torch.zeros(2))
        states.append(store.get_state())
        with torch.no_grad():
            value += 1
    assert states[0]["params"]["x"].tolist() == [1.0, 1.0]
    assert states[1]["tensors"]["x"].tolist() == [0.0, 0.0]


def test_a_state_or_a_file_of_another_program(tmp_path: Path) -> None:
    for make in MAKERS:
        first: Store = make()
        first.setdefault("x", torch.ones(2))
        first.save(str(tmp_path / make.__name__))
    theirs, ours = ParamStoreDict(), ParamStore()
    for store in (theirs, ours):
        store.setdefault("x", torch.ones(3), torch_constraints.positive)
        store.setdefault("y", torch.ones(()))
    theirs.load(str(tmp_path / "ParamStoreDict"))
    assert theirs["x"].shape == (2,)
    assert list(theirs) == ["x", "y"], "merged, with another shape and constraint"
    with pytest.raises(ParamError, match=r"(?s)'y' is missing.*constraint.*shape"):
        ours.load(tmp_path / "ParamStore")
    assert ours["x"].shape == (3,)


def test_nan_in_files(tmp_path: Path) -> None:
    for store in (ParamStoreDict(), ParamStore()):
        store.setdefault("x", torch.ones(2))
        with torch.no_grad():
            store["x"].unconstrained()[1] = math.nan
        if isinstance(store, ParamStoreDict):
            store.save(str(tmp_path / "nan"))
            store.load(str(tmp_path / "nan"))
            assert store["x"].isnan().any()
        else:
            with pytest.raises(ParamError, match="NaN"):
                store.save(tmp_path / "nan2")
            assert not (tmp_path / "nan2").exists()


def test_files_are_no_pickles(tmp_path: Path) -> None:
    theirs = ParamStoreDict()
    theirs.setdefault("x", torch.ones(2))
    theirs.save(str(tmp_path / "pyro"))
    (tmp_path / "plain").write_bytes(pickle.dumps({"x": 1}))
    for name in ("pyro", "plain"):
        store = ParamStore()
        with pytest.raises(ParamError, match="is a pickle"):
            store.load(tmp_path / name)
        assert len(store) == 0


def test_what_can_be_pickled() -> None:
    theirs, ours = ParamStoreDict(), ParamStore()
    for store in (theirs, ours):
        store.setdefault("x", torch.tensor(1.0), torch_constraints.positive)
    with pytest.raises(TypeError, match="weakref"):
        pickle.dumps(theirs["x"])
    with pytest.raises(ParamError, match="not pickled"):
        pickle.dumps(ours)
    twin = copy.deepcopy(ours)
    twin["x"] = 2.0
    assert ours["x"].item() == 1.0
    assert twin["x"].unconstrained().requires_grad


def test_the_event_dims_that_are_not_said() -> None:
    """Pyro then takes all dims as event dims and the whole parameter; here they are the constraint's own."""
    init = torch.arange(10.0)
    assert theirs_in_a_plate(init, None).shape == (10,)
    assert torch.equal(ours_in_a_plate(init, None), init[PLATE_ROWS])


def test_a_batchs_shape_outside_of_a_subsampled_context() -> None:
    """Pyro's check needs `event_dim`; without it a batch's worth of values is shared by all batches."""
    assert theirs_in_a_plate(torch.ones(5), None).shape == (5,)
    with pytest.raises(ParamError, match="one batch"):
        ours_in_a_plate(torch.ones(5), None)


def test_a_module_made_again() -> None:
    """Pyro leaves the new module with parameters that are not the store's, unless update_module_params is given."""
    store = ParamStore()
    theirs, ours = (nn.Linear(2, 1), nn.Linear(2, 1)), (nn.Linear(2, 1), nn.Linear(2, 1))
    for their, our in zip(theirs, ours, strict=True):
        pyro.module("enc", their)
        store.module("enc", our)
    assert theirs[1].weight is not pyro.get_param_store()["enc$$$weight"]
    assert ours[1].weight is store["enc.weight"] is ours[0].weight


def test_frozen_parameters_of_modules() -> None:
    """Pyro leaves them out of the store, and so out of its files, with a warning."""
    theirs, ours, store = nn.Linear(2, 1), nn.Linear(2, 1), ParamStore()
    for net in (theirs, ours):
        net.bias.requires_grad_(False)
    with pytest.warns(UserWarning, match="not registered"):
        pyro.module("enc", theirs)
    store.module("enc", ours)
    assert "enc$$$bias" not in pyro.get_param_store()
    assert list(store.trainable()) == ["enc.weight"]
    assert "enc.bias" in store


def test_names_and_patterns() -> None:
    theirs, ours = ParamStoreDict(), ParamStore()
    assert theirs.setdefault(3, torch.ones(1)).shape == (1,)
    with pytest.raises(ParamError, match="name"):
        ours.setdefault(3, torch.ones(1))  # type: ignore[arg-type]
    with pytest.raises(ParamError, match="regular expression"):
        ours.match("(")


def test_map_location_is_a_device(tmp_path: Path) -> None:
    """Pyro's may be a function or a dict; on 'meta' it gives parameters without values."""
    for store in (ParamStoreDict(), ParamStore()):
        store.setdefault("x", torch.ones(2))
        store.save(str(tmp_path / type(store).__name__))
    theirs, ours = ParamStoreDict(), ParamStore()
    theirs.load(str(tmp_path / "ParamStoreDict"), map_location="meta")
    assert theirs["x"].is_meta
    for where in ("meta", {"cuda:0": "cpu"}):
        with pytest.raises(ParamError, match="map_location"):
            ours.load(tmp_path / "ParamStore", map_location=where)  # type: ignore[arg-type]


def test_a_frozen_parameter() -> None:
    """Pyro has no such thing; a learning rate of 0 is the nearest."""
    store = ParamStore()
    value = store.param("x", 1.0, constraints.positive, frozen=True)
    assert not value.unconstrained().requires_grad
    assert list(store.trainable()) == []
    assert list(store) == ["x"]
