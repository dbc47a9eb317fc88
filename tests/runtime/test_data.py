"""Binding: what is accepted, what is refused and in which words, and subsampling."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy
import pytest
import torch
from runtime.handwritten.eight_schools_guide import EightSchools
from runtime.handwritten.regression_guide import Regression
from runtime.handwritten.subsampled_guide import Effects
from torch import Tensor

from guidedsl.runtime import Data, Dim, Field, Model, Noise, Plate, PlateSpec, Site, constraints
from guidedsl.runtime.errors import DataError
from guidedsl.runtime.sizes import SizeError, evaluate

Y = [28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0]
SIGMA = [15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0]


def problems(model: Model, *args: Any, **fields: Any) -> tuple[str, ...]:
    with pytest.raises(DataError) as caught:
        model.data(*args, **fields)
    return caught.value.problems


def model_of(
    *fields: Field, dims: tuple[Dim, ...] = (), plates: tuple[PlateSpec, ...] = (), derive: Any = None
) -> Model:
    """A model of these fields, whose density is never asked for."""
    names = [(field.attribute, Tensor) for field in fields]
    names += [(dim.name, int) for dim in dims] + [(plate.name, Plate) for plate in plates]
    annotated = [(name, kind, dataclasses.field(kw_only=True)) for name, kind in names]
    data_type = dataclasses.make_dataclass("AnyData", annotated, bases=(Data,), frozen=True)

    def density(data: Any, latents: Any, *, store: Any = None) -> Tensor:
        raise NotImplementedError

    return Model(
        name="Any",
        data_type=data_type,
        latents_type=tuple,
        log_density=density,
        dims=dims,
        plates=plates,
        fields=fields,
        derive=derive,
    )


def real(name: str, plates: tuple[str, ...] = (), event: tuple[str, ...] = (), **more: Any) -> Field:
    return Field(name, "data", plates, event, more.pop("constraint", constraints.real), **more)


def test_binds_lists_arrays_and_tensors_alike() -> None:
    for convert in (list, tuple, numpy.array, torch.tensor, lambda values: numpy.array(values, dtype=numpy.float32)):
        data = EightSchools.data(y=convert(Y), sigma=convert(SIGMA))
        assert data.J == 8
        assert data.y.dtype == torch.float64
        assert data.y.tolist() == Y
        assert (data.schools.size, data.schools.length, data.schools.scale) == (8, 8, 1.0)


def test_integers_and_bools_become_floats() -> None:
    data = EightSchools.data(y=[True, False], sigma=[1, 2])
    assert data.y.tolist() == [1.0, 0.0]
    assert data.sigma.dtype == torch.float64


@pytest.mark.parametrize("convert", [torch.tensor, numpy.array])
def test_the_callers_arrays_are_not_aliased(convert: Any) -> None:
    y = convert(Y)
    data = EightSchools.data(y=y, sigma=SIGMA)
    y[0] = 99.0
    assert data.y[0] == 28.0
    data.sigma[0] = 1.0
    assert SIGMA[0] == 15.0


def test_dtype_and_device() -> None:
    data = EightSchools.data(y=Y, sigma=SIGMA, dtype=torch.float32)
    assert data.y.dtype == torch.float32
    assert data.new_full((2,), 3.0).dtype == torch.float32
    assert data.to(dtype=torch.float64).y.dtype == torch.float64
    assert data.to(dtype=torch.float32) is data
    assert "float" in problems(EightSchools, y=Y, sigma=SIGMA, dtype=torch.int64)[0]


def test_unused_fields_are_accepted() -> None:
    assert EightSchools.data({"y": Y, "sigma": SIGMA, "comment": "Rubin 1981"}).J == 8


def test_a_dim_from_two_arrays_that_disagree() -> None:
    assert problems(EightSchools, y=Y, sigma=[*SIGMA, 9.0]) == ("J is 9 from sigma, 8 from y; mend the data",)


def test_a_dim_from_the_data_field_of_its_name() -> None:
    assert EightSchools.data({"y": Y, "sigma": SIGMA, "J": 8}).J == 8
    found = problems(EightSchools, {"y": Y, "sigma": SIGMA, "J": 9})
    assert found[0].startswith("J is 9 from the data field J, 8 from sigma")
    assert problems(EightSchools, {"y": Y, "sigma": SIGMA, "J": 8.5}) == (
        "J = 8.5 is not a size; write a whole number, 0 or more",
    )


def test_only_the_caller_overrides_a_default() -> None:
    model = model_of(real("x", event=("K",)), dims=(Dim("K", default=3),))
    assert model.data(x=[1, 2, 3]).K == 3
    assert problems(model, x=[1, 2])[0].startswith("K is 2 from x, 3 from its default; --dim K=…")
    assert model.data(x=[1, 2], K=2).K == 2


def test_a_dim_that_nothing_binds() -> None:
    model = model_of(real("x", event=("K - 1",)), dims=(Dim("K"),))
    assert "dim K is not known" in problems(model, x=[1.0])[0]
    assert model.data(x=[1.0], K=2).K == 2
    assert problems(model, x=[1.0, 2.0], K=2) == ("x has shape [2]; expected [K - 1] with K = 2",)


def test_missing_fields_and_the_name_that_was_meant() -> None:
    found = problems(EightSchools, y=Y, sgima=SIGMA)
    assert found == ("sigma is missing: EightSchools needs it, [schools]; `sgima` was given: did you mean `sigma`?",)


_EXCUSE = "; to leave out what is missing: `data y_there : bool`, and `observed y : … when y_there`"


def test_every_problem_is_reported_at_once() -> None:
    found = problems(EightSchools, y=[1.0, float("nan"), 3.0], sigma=[1.0, 2.0, -1.0])
    assert found == ("sigma[2] = -1 is not positive", f"y[1] is missing (NaN or null){_EXCUSE}")


def test_a_value_outside_its_type_counts_the_others() -> None:
    assert problems(EightSchools, y=[1.0, 2.0], sigma=[0.0, -2.5]) == ("sigma[0] = 0 is not positive (1 more like it)",)


def test_infinities_and_overflow() -> None:
    assert problems(EightSchools, y=[1.0, float("inf")], sigma=[1.0, 1.0]) == ("y[1] = inf is not finite",)
    assert problems(EightSchools, y=[1.0, 1e300], sigma=[1.0, 1.0], dtype=torch.float32) == (
        "y[1] = 1e+300 is not finite in float32",
    )


def test_the_number_of_axes() -> None:
    assert "y has shape [1, 8]; expected 1 axis, [schools]" in problems(EightSchools, y=[Y], sigma=SIGMA)[0]
    assert "y is one number" in problems(EightSchools, y=1.0, sigma=SIGMA)[0]


def test_a_size_1_axis_is_never_broadcast() -> None:
    found = problems(Regression, x=[[1.0, 2.0]], y=[1.0, 2.0, 3.0])
    assert found == ("N is 1 from axis 0 of x, 3 from y; mend the data",)
    model = model_of(real("x", plates=("p",)), dims=(Dim("N"),), plates=(PlateSpec("p", "N"),))
    assert problems(model, x=[1.0], N=3)[0].startswith("N is 3 from the caller, 1 from x")


def test_shapes_are_named_by_dims() -> None:
    model = model_of(
        real("x", plates=("schools",), event=("K + 1",)), dims=(Dim("J"), Dim("K")), plates=(PlateSpec("schools", "J"),)
    )
    found = problems(model, x=[[1.0, 2.0], [3.0, 4.0]], K=3)
    assert found == ("x has shape [2, 2]; expected [schools, K + 1] with J = 2, K = 3",)


def test_ragged_lists_strings_and_objects_are_placed() -> None:
    assert "x is ragged: x[1] has 1 value, x[0] has 2 values" in problems(Regression, x=[[1, 2], [3]], y=[1, 2])[0]
    assert 'y[1] is the string "two"' in problems(EightSchools, y=[1, "two"], sigma=[1, 1])[0]
    assert "y[0] is a dict" in problems(EightSchools, y=[{}, 2], sigma=[1, 1])[0]
    assert "y is complex" in problems(EightSchools, y=torch.zeros(2, dtype=torch.complex64), sigma=[1, 1])[0]
    assert "too large" in problems(EightSchools, y=[10**400, 2], sigma=[1, 1])[0]
    assert "numpy dtype" in problems(EightSchools, y=numpy.array(["a", "b"]), sigma=[1, 1])[0]


def test_null_is_nan() -> None:
    assert problems(EightSchools, y=[None, 2], sigma=[1, 1]) == (f"y[0] is missing (NaN or null){_EXCUSE}",)


def indexed(base: int = 0) -> Model:
    return model_of(
        real("home", plates=("house",), index_of="county", index_base=base),
        dims=(Dim("N"), Dim("G")),
        plates=(PlateSpec("county", "G"), PlateSpec("house", "N")),
    )


def test_indices() -> None:
    home = indexed().data(home=[0, 2.0, 1], G=3).home
    assert home.dtype == torch.int64
    assert home.tolist() == [0, 2, 1]
    assert indexed(base=1).data(home=[1, 3], G=3).home.tolist() == [0, 2]


def test_indices_out_of_range() -> None:
    assert problems(indexed(), home=[0, -1], G=3)[0].startswith("home[1] = -1 is outside county, which has 3")
    found = problems(indexed(), home=[1, 2, 3], G=3)
    assert "if the data counts from 1, declare it index(county, base = 1)" in found[0]
    assert problems(indexed(base=1), home=[0, 1], G=3)[0].startswith("home[0] = 0 is outside county")
    assert "is not a whole number" in problems(indexed(), home=[0.5], G=3)[0]
    assert problems(indexed(), home=[None], G=3) == ("home[0] is missing (NaN or null)",)


def test_event_types_are_checked_by_row() -> None:
    model = model_of(
        real("p", plates=("rows",), event=("K",), constraint=constraints.simplex),
        dims=(Dim("N"), Dim("K")),
        plates=(PlateSpec("rows", "N"),),
    )
    found = problems(model, p=[[0.5, 0.5], [0.5, 0.4]])
    assert found[0].startswith("p[1] = [0.5, 0.4] is not nonnegative with sum 1")


def test_plate_axes_are_permuted_to_internal_order() -> None:
    field = real("x", plates=("a", "b"), event=("K",), order=(1, 0))
    model = model_of(field, dims=(Dim("A"), Dim("B"), Dim("K")), plates=(PlateSpec("b", "B"), PlateSpec("a", "A")))
    x = torch.arange(24.0).reshape(2, 3, 4)
    data = model.data(x=x)
    assert (data.A, data.B, data.K) == (2, 3, 4)
    assert torch.equal(data.x, x.permute(1, 0, 2).double())
    site = Site("x", plates=("a", "b"), event=("K",), constraint=constraints.real, order=(1, 0))
    assert torch.equal(site.to_written(data.x.expand(5, 3, 2, 4))[0], x.double())


def test_derived_fields_and_optional_ones() -> None:
    def derive(data: Any) -> Any:
        z = data.new_zeros((data.N,)) if "x" in data.missing else data.x * 2
        return dataclasses.replace(data, z=z)

    model = model_of(
        real("x", plates=("p",), optional=True),
        Field("z", "derived", ("p",), (), constraints.nonnegative),
        dims=(Dim("N"),),
        plates=(PlateSpec("p", "N"),),
        derive=derive,
    )
    assert model.data(x=[1.0, 2.0]).z.tolist() == [2.0, 4.0]
    assert model.data(N=2).z.tolist() == [0.0, 0.0]
    assert problems(model, x=[1.0, -2.0])[0].startswith("z[1] = -4 is not nonnegative")


def test_missing_data_under_when() -> None:
    model = model_of(
        real("seen", plates=("p",), constraint=constraints.boolean),
        real("y", plates=("p",), constraint=constraints.positive, when=lambda data: data.seen > 0),
        dims=(Dim("N"),),
        plates=(PlateSpec("p", "N"),),
    )
    data = model.data(seen=[1, 0, 1], y=[2.0, None, 3.0])
    assert bool((data.y > 0).all())
    assert data.y[[0, 2]].tolist() == [2.0, 3.0]
    assert "y[1] is missing (NaN), but its `when`" in problems(model, seen=[1, 1, 1], y=[2.0, None, 3.0])[0]


def test_reserved_and_keyword_names_get_an_underscore() -> None:
    model = model_of(real("lambda"), real("noise"))
    data = model.data({"lambda": 2.0, "noise": 3.0})
    assert (float(data.lambda_), float(data.noise_)) == (2.0, 3.0)
    assert isinstance(data.noise(), Noise)


def test_constructors() -> None:
    data = EightSchools.data(y=Y, sigma=SIGMA)
    assert data.new_zeros((2, 3)).shape == (2, 3)
    assert data.new_eye(2).tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert data.new_tensor([[1, 2]]).dtype == torch.float64
    source = torch.ones(2, dtype=torch.float64)
    assert data.new_tensor(source).data_ptr() != source.data_ptr()
    generator = torch.Generator().manual_seed(3)
    first = data.with_generator(generator).new_normal((4,), 1.0, 2.0)
    generator.manual_seed(3)
    assert torch.equal(first, 1.0 + 2.0 * data.noise(generator).normal((4,)))


def effects(n: int = 40) -> Any:
    return Effects.data(y=torch.arange(float(n)), s=torch.arange(float(n)) + 1)


def test_subsampling_draws_one_set_of_rows() -> None:
    data = effects()
    noise = data.noise(torch.Generator().manual_seed(0))
    batch = data.subsample(noise)
    assert batch.rows.length == 5
    assert batch.rows.scale == 8.0
    assert torch.equal(batch.y, data.y[batch.rows.rows])
    assert torch.equal(batch.s, data.s[batch.rows.rows])
    assert batch.full is data
    assert batch.subsample(noise) is batch
    assert data.full is data


@pytest.mark.parametrize("rows", [5, 4])
def test_a_batch_of_all_rows_is_the_data_itself(rows: int) -> None:
    data = effects(rows)
    assert data.subsample(data.noise()) is data
    assert EightSchools.data(y=Y, sigma=SIGMA).batches.rows == ()


def minibatched() -> Model:
    return model_of(real("x", plates=("images",)), dims=(Dim("N"),), plates=(PlateSpec("images", "N", minibatch=3),))


def test_a_fed_minibatch_needs_the_size() -> None:
    assert "plate images is fed in batches" in problems(minibatched(), x=[1.0, 2.0])[0]
    data = minibatched().data(x=[1.0, 2.0], N=10)
    assert (data.images.length, data.images.scale) == (2, 5.0)
    assert "has 3 rows of plate images, which has 2" in problems(minibatched(), x=[1.0, 2.0, 3.0], N=2)[0]


def test_a_minibatch_plate_given_whole_is_subsampled() -> None:
    data = minibatched().data(x=[1.0, 2.0, 3.0, 4.0], N=4)
    assert data.subsample(data.noise()).images.length == 3


@pytest.mark.parametrize(
    ("size", "value"), [("8", 8), ("K - 1", 4), ("2 * K", 10), ("P + K", 7), ("K * (K - 1) // 2", 10)]
)
def test_sizes(size: str, value: int) -> None:
    assert evaluate(size, {"K": 5, "P": 2}) == value


@pytest.mark.parametrize(
    "size", ["K - 9", "Q", "K ** 2", "f(K)", "K.real", "K / 2", "1.5", "True", "K // 0", "(", "9" * 2000]
)
def test_what_is_not_a_size(size: str) -> None:
    with pytest.raises(SizeError):
        evaluate(size, {"K": 5})
