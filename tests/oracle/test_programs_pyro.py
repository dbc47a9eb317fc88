"""Whole programs against hand-written Pyro: ELBO and gradients on the same draws and parameters.

The generated guide draws; the Pyro guide is conditioned on its draws, and reads the same parameters. Both densities
then come from Pyro's traces, so plates, scales, event dims and Jacobians are Pyro's own.
"""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pyro
import pyro.distributions
import pytest
import torch
from pyro import poutine
from torch import Tensor

from guidedsl.modules import load_source
from guidedsl.runtime import ParamStore
from guidedsl.runtime.load import load_fields
from guidedsl.source import read_source

pd: Any = pyro.distributions  # partly typed

TESTS = Path(__file__).resolve().parent.parent
ROOT = TESTS.parent
TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-4}
"""Relative, of the ELBO and of the largest entry of a gradient."""


class Values:
    """Parameters of one guide and its draws, by name."""

    def __init__(self, store: ParamStore, guide: str, latents: Any) -> None:
        self._store, self._guide, self._latents = store, guide, latents

    def param(self, name: str) -> Tensor:
        return self._store[f"{self._guide}.{name}"]

    def __getattr__(self, name: str) -> Tensor:
        value: Tensor = getattr(self._latents, name)
        return value


@dataclass(frozen=True)
class Case:
    """A generated guide, and the same model and guide in Pyro.

    `draws` gives the values that the Pyro guide is conditioned on where these are not the latents themselves.
    """

    program: str
    guide: str
    model: Callable[[Any], None]
    pyro_guide: Callable[[Any, Values], None]
    draws: Callable[[Values], dict[str, Tensor]] | None = None


@cache
def module(program: str) -> ModuleType:
    path = ROOT / program
    name = f"pyro_oracle_{path.parent.name}"
    if path.is_file():
        return load_source(read_source(path, path.name), name)
    spec = importlib.util.spec_from_file_location(name, TESTS / "cases" / "programs" / program / "expected.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded
    spec.loader.exec_module(loaded)
    return loaded


def fields(program: str) -> Mapping[str, object]:
    path = ROOT / program
    if path.is_file():
        stem = "radon.json" if path.stem == "radon" else "data.json"
        return load_fields(path.with_name(stem))
    found: dict[str, object] = json.loads((TESTS / "cases" / "programs" / program / "data.json").read_text())
    return found


def normal(name: str, loc: Any, scale: Any, event: int = 0) -> Tensor:
    value: Tensor = pyro.sample(name, pd.Normal(loc, scale).to_event(event))
    return value


def block(name: str, distribution: Any) -> Tensor:
    value: Tensor = pyro.sample(name, distribution, infer={"is_auxiliary": True})
    return value


def fixed(name: str, value: Tensor, log_det: Tensor | float = 0.0, event: int = 0) -> None:
    """A latent that is a function of a block."""
    density = torch.as_tensor(log_det, dtype=value.dtype)
    shape = value.shape[: value.ndim - event]
    pyro.sample(name, pd.Delta(value, log_density=-density.expand(shape), event_dim=event))


def mean_field(v: Values, name: str, *, positive: bool = False, event: int = 0) -> None:
    family = pd.LogNormal if positive else pd.Normal
    pyro.sample(name, family(v.param(f"{name}_loc"), v.param(f"{name}_scale")).to_event(event))


def full_rank(v: Values, prefix: str) -> Any:
    loc, scale, tril = (v.param(f"{prefix}_{part}") for part in ("loc", "scale", "tril"))
    return pd.MultivariateNormal(loc, scale_tril=scale[..., None] * tril)


def low_rank(v: Values, prefix: str) -> Any:
    return pd.LowRankMultivariateNormal(
        v.param(f"{prefix}_loc"), v.param(f"{prefix}_factor"), v.param(f"{prefix}_diag")
    )


# Eight schools


def schools(d: Any) -> None:
    mu = normal("mu", 0.0, 5.0)
    tau = pyro.sample("tau", pd.HalfCauchy(torch.tensor(5.0, dtype=d.dtype)))
    with pyro.plate("schools", d.J):
        theta = normal("theta", mu, tau)
        pyro.sample("y", pd.Normal(theta, d.sigma), obs=d.y)


def schools_hand(d: Any, v: Values) -> None:
    normal("mu", v.param("mu_loc"), v.param("mu_scale"))
    pyro.sample("tau", pd.LogNormal(v.param("tau_loc"), v.param("tau_scale")))
    with pyro.plate("schools", d.J):
        normal("theta", v.param("theta_loc"), v.param("theta_scale"))


def schools_full(d: Any, v: Values) -> None:
    free = block("block", full_rank(v, "joint"))
    fixed("mu", free[0])
    fixed("tau", free[1].exp(), free[1])
    with pyro.plate("schools", d.J):
        fixed("theta", free[2:])


def non_centred(d: Any) -> None:
    mu = normal("mu", 0.0, 5.0)
    tau = pyro.sample("tau", pd.HalfCauchy(torch.tensor(5.0, dtype=d.dtype)))
    with pyro.plate("schools", d.J):
        z = normal("z", torch.zeros_like(mu), 1.0)
        pyro.sample("y", pd.Normal(mu + tau * z, d.sigma), obs=d.y)


def non_centred_mean_field(d: Any, v: Values) -> None:
    mean_field(v, "mu")
    mean_field(v, "tau", positive=True)
    with pyro.plate("schools", d.J):
        mean_field(v, "z")


# Radon


def radon(d: Any) -> None:
    mu = normal("mu_alpha", 0.0, 10.0)
    sigma_alpha = pyro.sample("sigma_alpha", pd.HalfNormal(torch.tensor(1.0, dtype=d.dtype)))
    uranium = normal("beta_uranium", 0.0, 10.0)
    floor = normal("beta_floor", 0.0, 10.0)
    sigma_y = pyro.sample("sigma_y", pd.HalfNormal(torch.tensor(1.0, dtype=d.dtype)))
    with pyro.plate("county", d.J):
        r = normal("r", torch.zeros_like(mu), 1.0)
    alpha = mu + sigma_alpha * r
    with pyro.plate("house", d.N):
        mean = alpha[d.home] + uranium * d.log_uranium + floor * d.floor
        pyro.sample("log_radon", pd.Normal(mean, sigma_y), obs=d.log_radon)


def radon_mixed(d: Any, v: Values) -> None:
    free = block("block", full_rank(v, "joint"))
    fixed("mu_alpha", free[0])
    fixed("sigma_alpha", free[1].exp(), free[1])
    fixed("beta_uranium", free[2])
    fixed("beta_floor", free[3])
    fixed("sigma_y", free[4].exp(), free[4])
    with pyro.plate("county", d.J):
        mean_field(v, "r")


def radon_structured(d: Any, v: Values) -> None:
    mu = normal("mu_alpha", v.param("mu_loc"), v.param("mu_scale"))
    normal("beta_uranium", v.param("uranium_loc"), v.param("uranium_scale"))
    normal("beta_floor", v.param("floor_loc"), v.param("floor_scale"))
    pyro.sample("sigma_alpha", pd.LogNormal(v.param("spread_loc"), v.param("spread_scale")))
    pyro.sample("sigma_y", pd.LogNormal(v.param("noise_loc"), v.param("noise_scale")))
    with pyro.plate("county", d.J):
        normal("r", v.param("r_loc") + v.param("r_lean") * (mu - v.param("mu_loc")), v.param("r_scale"))


# Logistic regression


def logistic(d: Any) -> None:
    zero = torch.zeros((), dtype=d.dtype)
    intercept = pyro.sample("intercept", pd.StudentT(zero + 4, zero, zero + 2.5))
    beta = normal("beta", torch.zeros(d.P, dtype=d.dtype), 2.5, 1)
    spread = pyro.sample("spread", pd.HalfCauchy(zero + 1))
    with pyro.plate("group", d.G):
        shift = normal("shift", zero, spread)
    with pyro.plate("obs", d.N):
        pyro.sample("y", pd.Bernoulli(logits=intercept + d.x @ beta + shift[d.g]), obs=d.y)


def logistic_mean_field(d: Any, v: Values) -> None:
    mean_field(v, "intercept")
    mean_field(v, "beta", event=1)
    mean_field(v, "spread", positive=True)
    with pyro.plate("group", d.G):
        mean_field(v, "shift")


def logistic_blocks(d: Any, v: Values) -> None:
    free = block("block", full_rank(v, "joint"))
    fixed("intercept", free[0])
    fixed("beta", free[1:-1], event=1)
    fixed("spread", free[-1].exp(), free[-1])
    shift = block("shifts", low_rank(v, "joint2"))
    with pyro.plate("group", d.G):
        fixed("shift", shift)


# Item response: crossed plates


def irt(d: Any) -> None:
    mu = normal("mu", 0.0, torch.tensor(3.0, dtype=d.dtype))
    spread = pyro.sample("spread", pd.HalfCauchy(torch.tensor(2.0, dtype=d.dtype)))
    persons, items = pyro.plate("person", d.J, dim=-2), pyro.plate("item", d.I, dim=-1)
    with persons:
        ability = normal("ability", torch.zeros_like(mu), 1.0)
    with items:
        difficulty = normal("difficulty", mu, spread)
        discrimination = pyro.sample("discrimination", pd.LogNormal(torch.zeros_like(mu), 0.5))
    with persons, items:
        # The arrays come in as written: [item, person].
        correct = d.correct if d.correct.shape == (d.J, d.I) else d.correct.mT
        pyro.sample("correct", pd.Bernoulli(logits=discrimination * (ability - difficulty)), obs=correct)


def irt_items(d: Any, v: Values) -> None:
    mean_field(v, "mu")
    mean_field(v, "spread", positive=True)
    with pyro.plate("person", d.J, dim=-2):
        pyro.sample("ability", pd.Normal(v.param("ability_loc")[:, None], v.param("ability_scale")[:, None]))
    with pyro.plate("item", d.I, dim=-1):
        free = block("block", full_rank(v, "joint2"))
        fixed("difficulty", free[:, 0])
        fixed("discrimination", free[:, 1].exp(), free[:, 1])


# Nested plates


def nested(d: Any) -> None:
    zero = torch.zeros((), dtype=d.dtype)
    mu = normal("mu", zero, 1.0)
    sd = pyro.sample("sd", pd.HalfNormal(zero + 1))
    with pyro.plate("school", d.S, dim=-3):
        a = normal("a", mu, sd)
        with pyro.plate("class", d.C, dim=-2):
            b = normal("b", a[..., None].expand(d.S, d.C, 1, 2), sd, 1)
            with pyro.plate("pupil", d.P, dim=-1):
                mean = b[..., 0] + b[..., 1] * d.x
                pyro.sample("y", pd.Normal(mean, sd * d.size[..., None]), obs=d.y)


def nested_hand(d: Any, v: Values) -> None:
    m = v.param("m")
    mu = normal("mu", m, torch.ones_like(m))
    sd = pyro.sample("sd", pd.LogNormal(m, 0.2))
    with pyro.plate("school", d.S, dim=-3):
        a = normal("a", v.param("a0")[:, None, None] + mu, sd)
        with pyro.plate("class", d.C, dim=-2):
            normal("b", v.param("b0")[:, :, None] + a[..., None], sd, 1)


# Local latents in a subsampled plate


def users(d: Any) -> None:
    zero = torch.zeros((), dtype=d.dtype)
    mu = normal("mu", torch.zeros(d.K, dtype=d.dtype), 1.0, 1)
    tau = pyro.sample("tau", pd.HalfNormal(torch.ones(d.K, dtype=d.dtype)).to_event(1))
    items = pyro.plate("item", d.M, dim=-2)
    rows = pyro.plate("user", d.N, subsample=d.user.rows, dim=-1)
    with items:
        v = normal("v", torch.zeros(d.M, 1, d.K, dtype=d.dtype), 1.0, 1)
    with rows:
        u = normal("u", mu, tau, 1)
        s = pyro.sample("s", pd.LogNormal(zero, 1.0))
        with items:
            y = d.y if d.y.shape[0] == d.M and d.y.shape[1] == d.user.length else d.y.mT
            pyro.sample("y", pd.Normal((u * v).sum(-1) + d.age, s), obs=y)
        z_mean = (u * v[:, 0][d.best]).sum(-1) + d.full.age.mean()
        pyro.sample("z", pd.Normal(z_mean, s), obs=d.z)


def _globals(d: Any, free: Tensor) -> None:
    k = d.K
    fixed("mu", free[:k], event=1)
    fixed("tau", free[k : 2 * k].exp(), free[k : 2 * k].sum(-1), event=1)


def _locals(d: Any, family: Any) -> None:
    with pyro.plate("user", d.N, subsample=d.user.rows, dim=-1):
        free = block("locals", family)
        fixed("u", free[:, : d.K], event=1)
        fixed("s", free[:, d.K].exp(), free[:, d.K])


def _of_rows(family: Callable[[Values, str], Any], d: Any, v: Values, prefix: str) -> Any:
    class Rows(Values):
        def param(self, name: str) -> Tensor:
            return v.param(name)[d.user.rows]

    return family(Rows(v._store, v._guide, v._latents), prefix)


def users_joint(d: Any, v: Values) -> None:
    _globals(d, block("block", full_rank(v, "joint")))
    with pyro.plate("item", d.M, dim=-2):
        loc, scale = v.param("v_loc")[:, None], v.param("v_scale")[:, None]
        normal("v", loc, scale, 1)
    _locals(d, _of_rows(full_rank, d, v, "joint3"))


def users_low_rank(d: Any, v: Values) -> None:
    free = block("block", low_rank(v, "joint"))
    _globals(d, free)
    with pyro.plate("item", d.M, dim=-2):
        fixed("v", free[2 * d.K :].reshape(d.M, 1, d.K), event=1)
    _locals(d, _of_rows(low_rank, d, v, "joint2"))


def _same(v: Values, *names: str) -> dict[str, Tensor]:
    return {name: getattr(v, name) for name in names}


CASES = [
    Case("examples/eight_schools/eight_schools.guide", "MeanField", schools, schools_hand),
    Case(
        "examples/eight_schools/eight_schools.guide",
        "FullRank",
        schools,
        schools_full,
        lambda v: {"block": torch.cat([v.mu[None], v.tau.log()[None], v.theta])},
    ),
    Case("examples/eight_schools/eight_schools.guide", "NonCentredMeanField", non_centred, non_centred_mean_field),
    Case(
        "examples/radon/radon.guide",
        "Mixed",
        radon,
        radon_mixed,
        lambda v: {
            "block": torch.stack([v.mu_alpha, v.sigma_alpha.log(), v.beta_uranium, v.beta_floor, v.sigma_y.log()]),
            "r": v.r,
        },
    ),
    Case("examples/radon/radon.guide", "Structured", radon, radon_structured),
    Case("logistic", "MeanField", logistic, logistic_mean_field),
    Case(
        "logistic",
        "Blocks",
        logistic,
        logistic_blocks,
        lambda v: {"block": torch.cat([v.intercept[None], v.beta, v.spread.log()[None]]), "shifts": v.shift},
    ),
    Case(
        "irt",
        "Items",
        irt,
        irt_items,
        lambda v: _same(v, "mu", "spread")
        | {
            "ability": v.ability[:, None],
            "block": torch.stack([v.difficulty, v.discrimination.log()], -1),
        },
    ),
    Case(
        "nested_plates",
        "Hand",
        nested,
        nested_hand,
        lambda v: _same(v, "mu", "sd") | {"a": v.a[:, None, None], "b": v.b[:, :, None]},
    ),
    Case(
        "subsample",
        "Joint",
        users,
        users_joint,
        lambda v: {
            "block": torch.cat([v.mu, v.tau.log()]),
            "v": v.v[:, None],
            "locals": torch.cat([v.u, v.s.log()[:, None]], -1),
        },
    ),
    Case(
        "subsample",
        "LowRank",
        users,
        users_low_rank,
        lambda v: {
            "block": torch.cat([v.mu, v.tau.log(), v.v.flatten()]),
            "locals": torch.cat([v.u, v.s.log()[:, None]], -1),
        },
    ),
]


@pytest.fixture
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Pyro makes numbers into tensors of torch's default type."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    yield
    torch.set_default_dtype(before)


@pytest.mark.usefixtures("default_dtype")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{Path(case.program).stem}-{case.guide}")
def test_elbo_and_gradients(case: Case, dtype: torch.dtype) -> None:
    guide = getattr(module(case.program), case.guide)
    data = guide.model.data(fields(case.program), dtype=dtype)
    store = ParamStore()
    generator = torch.Generator().manual_seed(3)
    noise = data.noise(generator)
    batch = data.subsample(noise)
    guide(batch, store=store, noise=noise)
    with torch.no_grad():  # away from the initial values, where many gradients vanish
        for leaf in store.trainable().values():
            leaf += 0.3 * torch.randn(leaf.shape, generator=generator, dtype=dtype)
    draw = guide(batch, store=store, noise=noise)
    ours = guide.model(batch, draw.latents, store=store) - draw.log_q

    values = Values(store, case.guide, draw.latents)
    conditions = case.draws(values) if case.draws is not None else draw.latents._asdict()
    guide_trace = poutine.trace(poutine.condition(case.pyro_guide, data=conditions)).get_trace(batch, values)
    found: dict[str, Any] = {name: guide_trace.nodes[name]["value"] for name in draw.latents._fields}
    model_trace = poutine.trace(poutine.condition(case.model, data=found)).get_trace(batch)
    theirs: Any = model_trace.log_prob_sum() - guide_trace.log_prob_sum()

    tolerance = TOLERANCE[dtype]
    assert math.isclose(ours.item(), theirs.item(), rel_tol=tolerance)
    leaves = store.trainable()
    mine = torch.autograd.grad(ours, list(leaves.values()), retain_graph=True)
    reference = torch.autograd.grad(theirs, list(leaves.values()))
    for name, a, b in zip(leaves, mine, reference, strict=True):
        assert float((a - b).abs().max()) <= tolerance * max(1.0, float(b.abs().max())), name
