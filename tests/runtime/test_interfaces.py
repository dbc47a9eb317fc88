"""Interface models: a Python function's density is the written one's, scaled where rows are, looked at when called."""

from __future__ import annotations

import itertools
import math
import sys
import warnings
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
from torch.distributions import HalfCauchy, Normal

import guidedsl
from guidedsl.modules import load_source
from guidedsl.runtime.errors import GuidedslError, InferenceError
from guidedsl.runtime.interfaces import InterfaceWarning, _external
from guidedsl.source import Source

SCHOOLS = """
model Schools {head} {{
  dim J, K
  latent mu  : real {mu}
  latent tau : positive {tau}
  plate schools[J] {batch} {{
    data     sigma : positive
    latent   theta : real {theta}
    observed y     : real {y}
  }}
  latent w : real[K] {w}
}}
guide G for Schools {{ auto mean_field for rest }}
"""
WRITTEN = {
    "head": "",
    "mu": "~ Normal(0, 5)",
    "tau": "~ HalfCauchy(5)",
    "theta": "~ Normal(mu, tau)",
    "y": "~ Normal(theta, sigma)",
    "w": "~ Normal(mu, 1)",
}
DATA = {"sigma": [15.0, 10.0, 16.0, 11.0], "y": [28.0, 8.0, -3.0, 7.0], "K": 2}
FIVE = torch.tensor(5.0, dtype=torch.float64)
numbers = itertools.count()


def build(text: str) -> Any:
    return load_source(Source("p.guide", text), f"interfaces_guide_{next(numbers)}")


def written(batch: str = "") -> Any:
    return build(SCHOOLS.format(**WRITTEN, batch=batch))


Density = Callable[[Any, Any], object]


@pytest.fixture
def interface() -> Iterator[Callable[..., Any]]:
    """Builds the interface whose density is the function given."""
    name = f"densities_{next(numbers)}"
    module = ModuleType(name)

    def make(function: object, batch: str = "") -> Any:
        vars(module)["log_joint"] = function
        bare = dict.fromkeys(WRITTEN, "") | {"head": f'from "{name}:log_joint"'}
        return build(SCHOOLS.format(**bare, batch=batch))

    sys.modules[name] = module
    yield make
    del sys.modules[name]


def top(z: Any) -> torch.Tensor:
    log_p = Normal(0.0, FIVE).log_prob(z.mu) + HalfCauchy(FIVE).log_prob(z.tau)
    return log_p + Normal(z.mu, 1.0).log_prob(z.w).sum()


def rows(z: Any, data: Any) -> torch.Tensor:
    assert z.theta.shape == data.y.shape == (data.schools.length,)
    assert z.mu.shape == ()
    assert z.w.shape == (2,)
    return Normal(z.mu, z.tau).log_prob(z.theta) + Normal(z.theta, data.sigma).log_prob(data.y)


def scalar(z: Any, data: Any) -> torch.Tensor:
    return top(z) + rows(z, data).sum()


def by_plate(z: Any, data: Any) -> dict[str | None, torch.Tensor]:
    return {None: top(z), "schools": rows(z, data)}


def branching(z: Any, data: Any) -> torch.Tensor:
    """What vmap cannot do."""
    return scalar(z, data) if z.mu < 1e6 else scalar(z, data) * 2


def nameless(z: Any, data: Any) -> dict[str, torch.Tensor]:
    return {"": top(z), "schools": rows(z, data)}


def both(module: Any, particles: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    data = module.Schools.data(DATA)
    noise = data.noise(torch.Generator().manual_seed(seed))
    batch = data.subsample(noise)
    draw = module.G(batch, particles=particles, store=guidedsl.ParamStore(), noise=noise)
    log_p: torch.Tensor = module.Schools(batch, draw.latents)
    return log_p - draw.log_q


@pytest.mark.parametrize("function", [scalar, by_plate, branching, nameless])
@pytest.mark.parametrize("particles", [(), (5,), (2, 3)])
def test_the_elbo_is_that_of_the_written_model_on_the_same_noise(
    interface: Callable[..., Any], function: Density, particles: tuple[int, ...]
) -> None:
    module = interface(function)
    ours, theirs = both(module, particles), both(written(), particles)
    assert ours.shape == particles
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-10)
    if particles:
        assert _external(module.Schools).over_draws.vectorised is (function is not branching)


@pytest.mark.parametrize("seed", range(4))
def test_the_terms_of_a_plate_are_scaled(interface: Callable[..., Any], seed: int) -> None:
    batch = "subsample(2)"
    ours, theirs = both(interface(by_plate, batch), (3,), seed), both(written(batch), (3,), seed)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-10)


def test_the_terms_of_batches_average_to_those_of_all_rows(interface: Callable[..., Any]) -> None:
    """All six pairs of rows, each once: the mean is exact."""
    module = interface(by_plate, "subsample(2)")
    data = module.Schools.data(DATA)
    draw = written().G(written().Schools.data(DATA), store=guidedsl.ParamStore())
    latents = module.SchoolsLatents(*draw.latents)
    values = []
    for pair in itertools.combinations(range(4), 2):
        picked = torch.tensor(pair)
        plate = guidedsl.Plate("schools", 4, rows=picked)
        batch = data._with({"schools": plate, "y": data.y[picked], "sigma": data.sigma[picked], "whole": data})
        values.append(module.Schools(batch, latents._replace(theta=latents.theta[picked])))
    torch.testing.assert_close(torch.stack(values).mean(), module.Schools(data, latents))


def test_a_fit_of_an_interface_is_that_of_the_written_model(interface: Callable[..., Any]) -> None:
    fits = [module.G.fit(module.Schools.data(DATA), seed=1, steps=40) for module in (interface(scalar), written())]
    assert fits[0].elbo == pytest.approx(fits[1].elbo, abs=1e-6)


def unused(z: Any, data: Any) -> torch.Tensor:
    return (
        Normal(0.0, FIVE).log_prob(z.mu)
        + rows(z, data).sum()
        + HalfCauchy(FIVE).log_prob(z.tau)
        + 0 * z.w.detach().sum()
    )


def test_a_latent_without_a_gradient_is_named(interface: Callable[..., Any]) -> None:
    module = interface(unused)
    with pytest.warns(InterfaceWarning, match="no gradient with respect to `w`: it does not use it"):
        both(module, (3,))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        both(module, (3,))


def raising(z: Any, data: Any) -> torch.Tensor:
    return z.theta @ data.sigma[:3]


@pytest.mark.parametrize(
    ("function", "batch", "message"),
    [
        (lambda z, data: z.theta, "", r"returned shape \[4\]; expected one number"),
        (lambda z, data: None, "", "returned a NoneType; expected a number, or a dict"),
        (lambda z, data: {"schools": z.theta, None: z.w}, "", r"shape \[2\] under None; expected one number"),
        (lambda z, data: {"schools": z.mu}, "", r"shape \[\] under 'schools'; expected \[schools\] = \[4\]"),
        (lambda z, data: {"school": z.theta}, "", "no plate 'school'; did you mean 'schools'"),
        (lambda z, data: {"zzz": z.theta}, "", "the plates are schools; None is for what is in no plate"),
        (lambda z, data: {"schools": "no"}, "", "returned a str; expected a tensor under 'schools'"),
        (lambda z, data: scalar(z, data) / 0, "", "the log density hold -inf at the first draw, with mu: "),
        (lambda z, data: {"schools": z.theta * math.nan}, "", "the terms of plate schools hold nan"),
        (scalar, "subsample(2)", "one number, which cannot be scaled to all rows of plate schools"),
        (
            lambda z, data: {None: scalar(z, data)},
            "subsample(2)",
            "terms in no plate depend on `theta`, which is local to plate schools",
        ),
        (lambda z: z.mu, "", r"called with \(latents, data\), which it does not take: too many positional"),
        (3, "", "which is 3; it must be a function"),
    ],
)  # fmt: skip
def test_the_first_call_says_what_is_wrong(
    interface: Callable[..., Any], function: object, batch: str, message: str
) -> None:
    module = interface(function, batch)
    with pytest.raises(GuidedslError, match=message) as caught:
        both(module, (3,))
    assert "Schools" in str(caught.value)
    assert str(module.Schools.origin) in str(caught.value)


@pytest.mark.parametrize("particles", [(), (3,)])
def test_what_the_function_raises_keeps_its_traceback(
    interface: Callable[..., Any], particles: tuple[int, ...]
) -> None:
    with pytest.raises(InferenceError, match=r"p\.guide:2: ") as caught:
        both(interface(raising), particles)
    notes = "\n".join(caught.value.__notes__)
    assert "theta: [schools]" in notes
    assert "w: [K] with schools = 4, K = 2" in notes
    assert f"{__file__}:{raising.__code__.co_firstlineno + 1}" in notes
    assert caught.value.__cause__ is not None


def steps(svi: guidedsl.SVI, data: Any, number: int) -> None:
    for _ in range(number):
        svi.step(data)


def test_a_density_that_is_not_finite_later_is_explained(interface: Callable[..., Any]) -> None:
    """The watch over every operation looks at values, which vmap does not let it: the function is then looped."""
    module = interface(lambda z, data: scalar(z, data) + torch.where(z.mu > 0.2, math.nan, 0.0) * z.mu)
    data = module.Schools.data(DATA)
    svi = guidedsl.SVI(
        module.Schools, module.G, guidedsl.optim.Adam(lr=1e-3), guidedsl.ELBO(8), store=guidedsl.ParamStore(), seed=0
    )
    with pytest.raises(InferenceError, match=r"p\.guide:2: .*gives NaN from finite inputs, so the loss is nan"):
        steps(svi, data, 50)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ('from "nowhere_at_all:f"', "takes its density from nowhere_at_all:f, which cannot be imported"),
        ('from "math:nothing"', "which cannot be imported"),
        ('from "math"', 'write "module:function"'),
        ("", "is an interface without a density"),
    ],
)
def test_where_there_is_no_function(head: str, message: str) -> None:
    module = build(SCHOOLS.format(**dict.fromkeys(WRITTEN, "") | {"head": head}, batch=""))
    with pytest.raises(GuidedslError, match=message):
        both(module, ())
