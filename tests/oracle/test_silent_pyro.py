"""What Pyro does today with the mistakes of docs/coming-from-pyro.md, "What goes wrong silently": each is run here."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoNormal
from torch.distributions import constraints


@pytest.fixture(autouse=True)
def store() -> Iterator[None]:
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    with pyro.validation_enabled(True):
        yield
    pyro.clear_param_store()


def loss(model: Callable[..., Any], guide: Callable[..., Any], elbo: Any = Trace_ELBO, n: int = 2000) -> float:
    """The loss, averaged over many draws."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(elbo(num_particles=n).loss(model, guide))


def steps(svi: SVI, number: int) -> None:
    for _ in range(number):
        svi.step()


@pytest.mark.parametrize(
    ("constraint", "value", "found"),
    [
        (constraints.positive, -1.0, "nan"),
        (constraints.positive, 0.0, "0.0"),
        (constraints.unit_interval, 1.5, "0.9999998"),
        (constraints.interval(0.0, 2.0), 5.0, "1.9999997"),
    ],
)
def test_1_a_bad_initial_value_is_taken(constraint: Any, value: float, found: str) -> None:
    assert str(pyro.param("w", torch.tensor(value), constraint=constraint).item()).startswith(found)


@pytest.mark.parametrize(
    ("constraint", "value", "found"),
    [
        (dist.constraints.ordered_vector, [3.0, 1.0, 2.0], [3.0, math.nan, math.nan]),
        (constraints.simplex, [1.0, 2.0, 3.0], [1 / 6, 2 / 6, 3 / 6]),
        (constraints.lower_cholesky, [[1.0, 5.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]),
    ],
)
def test_1_a_bad_initial_structure_is_taken(constraint: Any, value: Any, found: Any) -> None:
    kept = pyro.param("w", torch.tensor(value), constraint=constraint)
    torch.testing.assert_close(kept.detach(), torch.tensor(found), equal_nan=True)


def test_2_a_param_of_a_batchs_shape_is_shared_by_all_batches() -> None:
    for _ in range(2):
        with pyro.plate("rows", 20, subsample_size=5):
            pyro.param("m", torch.zeros(5))
    assert pyro.param("m").shape == (5,)


def test_3_a_plate_of_two_sizes() -> None:
    """Scaled by 100 in the model and by 1 in the guide, whose laws are the same: the loss should be 0."""

    def model() -> None:
        with pyro.plate("rows", 1000, subsample_size=10):
            pyro.sample("z", dist.Normal(0.0, 1.0))

    def guide() -> None:
        with pyro.plate("rows", 10):
            pyro.sample("z", dist.Normal(0.0, 1.0))

    assert abs(loss(model, guide, n=200)) > 1000


def test_4_plates_of_equal_size_may_be_swapped() -> None:
    def model() -> None:
        with pyro.plate("a", 3, dim=-1), pyro.plate("b", 3, dim=-2):
            pyro.sample("z", dist.Normal(0.0, 1.0))

    def guide() -> None:
        with pyro.plate("a", 3, dim=-2), pyro.plate("b", 3, dim=-1):
            pyro.sample("z", dist.Normal(0.0, 1.0))

    assert loss(model, guide, n=10) == pytest.approx(0.0, abs=1e-5)


def test_5_the_second_param_of_a_name_is_ignored() -> None:
    pyro.param("w", torch.tensor(-1.0))
    assert pyro.param("w", torch.tensor(2.0), constraint=constraints.positive).item() == -1.0


def test_6_a_guide_beyond_the_support_works_until_a_bad_draw() -> None:
    def model() -> None:
        pyro.sample("z", dist.Gamma(3.0, 1.0))

    def guide() -> None:
        pyro.sample("z", dist.Normal(3.0, 1.0))

    svi = SVI(model, guide, pyro.optim.Adam({}), Trace_ELBO())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        steps(svi, 10)
        with pytest.raises(ValueError, match="to be within the support"):
            steps(svi, 3000)


def test_6_a_narrower_guide_is_not_reported() -> None:
    def model() -> None:
        pyro.sample("z", dist.Gamma(3.0, 1.0))

    def guide() -> None:
        pyro.sample("z", dist.Beta(2.0, 2.0))

    assert math.isfinite(loss(model, guide, n=100))


@pytest.mark.parametrize(("elbo", "loc", "scale"), [(TraceMeanField_ELBO, 0.443, 0.707), (Trace_ELBO, 0.932, 0.577)])
def test_7_the_mean_field_elbo_drops_the_jacobian_of_an_autoguide(elbo: Any, loc: float, scale: float) -> None:
    """The closed KL of a Delta leaves out its log density, which is where the Jacobian of a transformed site stands.

    Right is ln 3 − 1/6 = 0.932 and 3^−½ = 0.577. The mean of the last 400 steps with 50 draws each is within 0.03.
    """

    def model() -> None:
        pyro.sample("z", dist.Gamma(3.0, 1.0))

    guide = AutoNormal(model, init_scale=0.5)
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.02}), elbo(num_particles=50, vectorize_particles=True))
    found = []
    for _ in range(800):
        svi.step()
        found.append((guide.locs.z.item(), guide.scales.z.item()))
    last = torch.tensor(found[-400:]).mean(0).tolist()
    assert last == pytest.approx([loc, scale], abs=0.03)


def test_8_a_scale_of_the_model_alone_is_ignored_by_the_analytic_kl() -> None:
    def model() -> None:
        with pyro.poutine.scale(scale=10.0):
            pyro.sample("z", dist.Normal(1.0, 1.0))

    def guide() -> None:
        pyro.sample("z", dist.Normal(0.0, 1.0))

    sampled, analytic = loss(model, guide, n=4_000), loss(model, guide, TraceMeanField_ELBO, n=1)
    assert analytic == pytest.approx(0.5)
    assert sampled == pytest.approx(10 * (math.log(2 * math.pi) / 2 + 1) - (math.log(2 * math.pi) / 2 + 0.5), abs=0.5)


def test_9_a_single_observation_is_stretched_over_the_plate() -> None:
    def model() -> None:
        with pyro.plate("rows", 5):
            pyro.sample("y", dist.Normal(0.0, 1.0), obs=torch.zeros(1))

    assert loss(model, lambda: None, n=1) == pytest.approx(5 * math.log(2 * math.pi) / 2)


def test_10_nan_is_saved_and_loaded(tmp_path: Any) -> None:
    pyro.param("w", torch.tensor(math.nan))
    pyro.get_param_store().save(str(tmp_path / "w"))
    pyro.clear_param_store()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.serialization.add_safe_globals([type(constraints.real)])
        pyro.get_param_store().load(str(tmp_path / "w"))
    assert math.isnan(pyro.param("w").item())


def test_11_a_guide_with_rows_of_its_own() -> None:
    """The guide's plate has another name, so it draws other rows: the model's `z` belongs to none of them."""
    rows: dict[str, Any] = {}

    def model() -> None:
        with pyro.plate("rows", 100, subsample_size=5) as rows["model"]:
            pyro.sample("z", dist.Normal(0.0, 1.0))

    def guide() -> None:
        with pyro.plate("users", 100, subsample_size=5) as rows["guide"]:
            pyro.sample("z", dist.Normal(0.0, 1.0))

    assert math.isfinite(loss(model, guide, n=1))
    assert not torch.equal(rows["model"], rows["guide"])


def test_12_a_site_that_the_guide_lacks_is_a_warning() -> None:
    def model() -> None:
        pyro.sample("a", dist.Normal(0.0, 1.0))
        pyro.sample("b", dist.Normal(0.0, 1.0))

    def guide() -> None:
        pyro.sample("a", dist.Normal(0.0, 1.0))

    with pytest.warns(UserWarning, match="Found vars in model but not guide: {'b'}"):
        Trace_ELBO().loss(model, guide)


def test_12_an_observed_site_in_the_guide() -> None:
    def model() -> None:
        pyro.sample("y", dist.Normal(0.0, 1.0), obs=torch.tensor(0.0))

    def guide() -> None:
        pyro.sample("y", dist.Normal(0.0, pyro.param("s", torch.tensor(1.0), constraint=constraints.positive)))

    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.1}), Trace_ELBO())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(200):
            svi.step()
    assert pyro.param("s").item() > 1e3
