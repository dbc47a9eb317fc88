"""Interfaces to Pyro models: the density is that of the written model, whatever plates, batches, params and sums."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.ops.indexing import Vindex
from torch import nn

import guidedsl
from guidedsl.modules import load_source
from guidedsl.runtime.classes import class_probabilities
from guidedsl.runtime.errors import GuidedslError, InferenceError, ParamError
from guidedsl.runtime.pyro_models.density import evaluator
from guidedsl.source import Source

numbers = itertools.count()
Make = Callable[..., Any]


def build(text: str) -> Any:
    return load_source(Source("p.guide", text), f"pyro_guide_{next(numbers)}")


@pytest.fixture
def interface() -> Iterator[Make]:
    """Builds a program whose `NAME` stands for the Python function given."""
    name = f"pyro_densities_{next(numbers)}"
    module = ModuleType(name)
    sys.modules[name] = module

    def make(function: object, text: str) -> Any:
        vars(module)["model"] = function
        return build(text.replace("NAME", f"{name}:model"))

    yield make
    del sys.modules[name]
    pyro.clear_param_store()


SCHOOLS = """
model Schools {head} {{
  dim J
  latent mu  : real {mu}
  latent tau : positive {tau}
  plate schools[J] {batch} {{
    data     sigma : positive
    latent   theta : real {theta}
    observed y     : real {y}
  }}
}}
guide G for Schools {{ auto mean_field for rest }}
"""
WRITTEN = {
    "head": "",
    "mu": "~ Normal(0, 5)",
    "tau": "~ HalfCauchy(5)",
    "theta": "~ Normal(mu, tau)",
    "y": "~ Normal(theta, sigma)",
    "batch": "",
}
BARE = dict.fromkeys(WRITTEN, "") | {"head": 'from pyro "NAME"'}
DATA = {"sigma": [15.0, 10.0, 16.0, 11.0], "y": [28.0, 8.0, -3.0, 7.0]}


def schools(sigma: Any, y: Any) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("schools", len(y)):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
        pyro.sample("y", dist.Normal(theta, sigma), obs=y)


def in_batches(sigma: Any, y: Any) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("schools", len(y), subsample_size=2) as rows:
        theta = pyro.sample("theta", dist.Normal(mu, tau))
        pyro.sample("y", dist.Normal(theta, sigma[rows]), obs=y[rows])


def subsampling(sigma: Any, y: Any) -> None:
    """The same by `pyro.subsample`."""
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("schools", len(y), subsample_size=2):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
        own = pyro.subsample(sigma, event_dim=0)
        pyro.sample("y", dist.Normal(theta, own), obs=pyro.subsample(y, event_dim=0))


def branching(sigma: Any, y: Any) -> None:
    """What vmap cannot do."""
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    assert mu < 1e6
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("schools", len(y)):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
        pyro.sample("y", dist.Normal(theta, sigma), obs=y)


def unconditioned(sigma: Any) -> None:
    """A model without data of its own: the observed site gets ours."""
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("schools", len(sigma)):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
        pyro.sample("y", dist.Normal(theta, sigma))


def scores(module: Any, particles: tuple[int, ...], seed: int = 0, dtype: torch.dtype = torch.float64) -> Any:
    """log p − log q, and its gradient with respect to each parameter, at one set of draws and rows."""
    data = module.Schools.data(DATA, dtype=dtype)
    noise, store = data.noise(torch.Generator().manual_seed(seed)), guidedsl.ParamStore()
    batch = data.subsample(noise)
    draw = module.G(batch, particles=particles, store=store, noise=noise)
    elbo = module.Schools(batch, draw.latents, store=store) - draw.log_q
    leaves = dict(store.named_parameters())
    return elbo.detach(), torch.autograd.grad(elbo.sum(), [leaves[name] for name in sorted(leaves)])


@pytest.mark.parametrize("function", [schools, branching, unconditioned])
@pytest.mark.parametrize("particles", [(), (5,), (2, 3)])
def test_the_elbo_and_its_gradient_are_those_of_the_written_model(
    interface: Make, function: object, particles: tuple[int, ...]
) -> None:
    module = interface(function, SCHOOLS.format(**BARE))
    (ours, gradients), (theirs, wanted) = scores(module, particles), scores(build(SCHOOLS.format(**WRITTEN)), particles)
    assert ours.shape == particles
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-10)
    torch.testing.assert_close(gradients, wanted, rtol=1e-10, atol=1e-10)
    if particles:
        assert evaluator(module.Schools)._over[()].vectorised is (function is not branching)


def test_single_precision_is_single(interface: Make) -> None:
    module = interface(schools, SCHOOLS.format(**BARE))
    (ours, _), (theirs, _) = (
        scores(one, (4,), dtype=torch.float32) for one in (module, build(SCHOOLS.format(**WRITTEN)))
    )
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("function", [in_batches, subsampling])
@pytest.mark.parametrize("seed", range(4))
def test_the_plate_has_the_rows_of_the_step_and_counts_once(interface: Make, function: object, seed: int) -> None:
    batch = {"batch": "subsample(2)"}
    module = interface(function, SCHOOLS.format(**BARE | batch))
    written = build(SCHOOLS.format(**WRITTEN | batch))
    ours, theirs = scores(module, (3,), seed), scores(written, (3,), seed)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("function", [in_batches, subsampling])
def test_all_rows_of_a_subsampled_plate_are_all_rows(interface: Make, function: object) -> None:
    """As for the ELBO of a fit, whose draws have every row."""
    module = interface(function, SCHOOLS.format(**BARE | {"batch": "subsample(2)"}))
    written = build(SCHOOLS.format(**WRITTEN))
    data, other = module.Schools.data(DATA), written.Schools.data(DATA)
    draw = written.G(other, particles=(3,), store=guidedsl.ParamStore())
    latents = module.SchoolsLatents(*draw.latents)
    torch.testing.assert_close(module.Schools(data.full, latents), written.Schools(other, draw.latents))


def test_rows_that_the_caller_feeds(interface: Make) -> None:
    """Under `minibatch` the arrays are the batch, and the plate is scaled to all rows."""
    texts = [SCHOOLS.format(**one | {"batch": "minibatch(2)"}) for one in (BARE, WRITTEN)]
    texts = [
        text.replace("auto mean_field for rest", "auto mean_field for mu, tau plate schools { theta ~ Normal(0, 1) }")
        for text in texts
    ]
    module, written = interface(schools, texts[0]), build(texts[1])
    fed = {name: values[:2] for name, values in DATA.items()}
    z = [torch.tensor(v, dtype=torch.float64) for v in (0.3, 1.2, [0.5, -1.0])]
    ours = module.Schools(module.Schools.data(fed, J=10), module.SchoolsLatents(*z))
    theirs = written.Schools(written.Schools.data(fed, J=10), written.SchoolsLatents(*z))
    torch.testing.assert_close(ours, theirs)


def test_torchs_random_state_and_pyros_store_stay(interface: Make) -> None:
    module = interface(schools, SCHOOLS.format(**BARE))
    before = torch.get_rng_state()
    scores(module, (3,))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_default_dtype() == torch.float32
    assert not pyro.get_param_store()


def test_a_fit_is_that_of_the_written_model(interface: Make) -> None:
    """Two optimisations in floating point, of the same noise: equal to a thousandth of the ELBO's own error."""
    fits = [
        module.G.fit(module.Schools.data(DATA), seed=1, steps=40)
        for module in (interface(schools, SCHOOLS.format(**BARE)), build(SCHOOLS.format(**WRITTEN)))
    ]
    assert fits[0].elbo == pytest.approx(fits[1].elbo, abs=1e-6)


CROSSED = """
model M {head} {{
  latent m : real {m}
  plate a[3] {{ latent u : real {u} }}
  plate b[3] {{ latent v : real[2] {v} }}
  plate {order} {{ latent w : real {w}  observed y : real {y} }}
}}
guide G for M {{ auto mean_field for rest }}
"""


def crossed(y: Any) -> None:
    """Plates of one size, the outer one on dim -1 as Pyro chooses: only their names tell them apart."""
    a, b = pyro.plate("a", 3), pyro.plate("b", 3)
    m = pyro.sample("m", dist.Normal(0.0, 1.0))
    with a:
        u = pyro.sample("u", dist.Normal(m, 1.0))
        with b:
            w = pyro.sample("w", dist.Normal(u, 2.0))
    with b:
        v = pyro.sample("v", dist.Normal(m * torch.ones(2), 1.0).to_event(1))
    with a, b:
        pyro.sample("y", dist.Normal(w + v.sum(-1), 0.5), obs=y)


@pytest.mark.parametrize("order", ["b, a", "a, b"])
def test_dims_are_those_of_the_run(interface: Make, order: str) -> None:
    """`y` has its axes as the program writes them: [b, a], as Pyro has them, or the model reads the transpose."""
    law = {"m": "~ Normal(0, 1)", "u": "~ Normal(m, 1)", "v": "~ Normal(m, 1)", "w": "~ Normal(u, 2)"}
    law |= {"y": "~ Normal(w + sum(v), 0.5)", "head": "", "order": order}
    bare = dict.fromkeys(law, "") | {"head": 'from pyro "NAME"', "order": order}
    function = crossed if order == "b, a" else lambda y: crossed(y.T)
    module, written = interface(function, CROSSED.format(**bare)), build(CROSSED.format(**law))
    y = torch.arange(9.0).reshape(3, 3)
    data, other = module.M.data(y=y), written.M.data(y=y)
    draw = written.G(other, particles=(4,), store=guidedsl.ParamStore())
    ours = module.M(data, module.MLatents(*draw.latents))
    torch.testing.assert_close(ours, written.M(other, draw.latents), rtol=1e-10, atol=1e-10)


RESERVED = """
model M from pyro "NAME" {
  dim N
  latent layer_weight : real
  plate data_rows[N] { observed data_ : real }
}
guide G for M { auto mean_field for rest }
"""


def reserved(data: Any) -> None:
    weight = pyro.sample("layer.weight", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(data)):
        pyro.sample("obs", dist.Normal(weight, 1.0), obs=data)


def test_names_that_a_program_cannot_write(interface: Make) -> None:
    module = interface(reserved, RESERVED)
    data = module.M.data({"data": [1.0, 2.0]})
    log_p = module.M(data, module.MLatents(torch.tensor(0.5, dtype=torch.float64)))
    normal = torch.distributions.Normal(0.0, 1.0).log_prob
    assert float(log_p) == pytest.approx(float(normal(torch.tensor([0.5, 0.5, 1.5])).sum()))


MASKED = """
model M {head} {{
  dim N
  latent mu : real {mu}
  plate rows[N] {{ data there : bool  observed y : real {y} }}
}}
guide G for M {{ auto laplace for mu }}
"""


def masked(there: Any, y: Any) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with pyro.plate("rows", len(y)), pyro.poutine.mask(mask=there):
        pyro.sample("y", dist.Normal(mu, 1.0), obs=y)


def test_data_of_type_bool_is_a_mask(interface: Make) -> None:
    """By the Laplace approximation, which takes second derivatives: exact here, N(0.5, 1/4) given 3 of 4 rows."""
    module = interface(masked, MASKED.format(head='from pyro "NAME"', mu="", y=""))
    fit = module.G.fit(module.M.data(there=[1, 1, 0, 1], y=[1.0, 0.0, 99.0, 1.0]))
    assert fit.store["G.joint_loc"].item() == pytest.approx(0.5)
    assert fit.store["G.joint_scale_tril"].item() == pytest.approx(0.5)


def test_a_model_whose_sites_depend_on_values_is_refused(interface: Make) -> None:
    def more(sigma: Any, y: Any) -> None:
        schools(sigma, y)
        if calls.pop():
            pyro.sample("extra", dist.Normal(0.0, 1.0))

    def fewer(sigma: Any, y: Any) -> None:
        if calls.pop():
            pyro.sample("mu", dist.Normal(0.0, 1.0))
        with pyro.plate("schools", len(y)):
            pyro.sample("theta", dist.Normal(0.0, 1.0))
            pyro.sample("y", dist.Normal(0.0, sigma), obs=y)
        pyro.sample("tau", dist.HalfCauchy(1.0))

    calls = [True, False]
    with pytest.raises(InferenceError, match="samples `extra` in this run, and did not in the first"):
        scores(interface(more, declared({})), ())
    calls = [False, False, True]
    with pytest.raises(InferenceError, match="did not sample `mu` in this run, as in the first"):
        scores(interface(fewer, declared({})), ())


# Parameters

PARAMS = """
model M from pyro "NAME" {
  dim N
  plate rows[N] { data x : real[2]  latent z : real  observed y : real }
}
guide G for M { auto mean_field for rest }
"""
ROWS = {"x": [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], "y": [1.0, -1.0, 0.5]}


def with_params(net: nn.Module) -> Callable[[Any, Any], None]:
    def model(x: Any, y: Any) -> None:
        pyro.module("net", net)
        scale = pyro.param("scale", torch.tensor(0.7), constraint=dist.constraints.positive)
        with pyro.plate("rows", len(y)):
            shift = pyro.param("shift", lambda: torch.randn(len(y)), event_dim=0)
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("y", dist.Normal(net(x)[:, 0] + z + shift, scale), obs=y)

    return model


class Whole(pyro.nn.PyroModule):
    """A model that is a module, with a constrained parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = pyro.nn.PyroModule[nn.Linear](2, 1)
        self.scale = pyro.nn.PyroParam(torch.tensor(0.7), constraint=dist.constraints.positive)

    def forward(self, x: Any, y: Any) -> None:
        mean = self.linear(x)[:, 0]
        with pyro.plate("rows", len(y)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("y", dist.Normal(mean + z, self.scale), obs=y)


def test_params_of_the_model_are_learned_saved_and_loaded(interface: Make, tmp_path: Path) -> None:
    module = interface(with_params(nn.Linear(2, 1)), PARAMS)
    data = module.M.data(ROWS)
    fit = module.G.fit(data, steps=30, seed=1)
    names = {"M.net.weight", "M.net.bias", "M.scale", "M.shift"}
    assert names <= set(fit.store)
    assert fit.store["M.scale"].item() != pytest.approx(0.7, abs=1e-3)
    assert fit.store.entry("M.scale").constraint == guidedsl.constraints.positive
    fit.save(tmp_path / "fit.safetensors")
    other = interface(with_params(nn.Linear(2, 1)), PARAMS)
    again = other.G.load(tmp_path / "fit.safetensors", other.M.data(ROWS))
    z = other.MLatents(torch.zeros(3, dtype=torch.float64))
    torch.testing.assert_close(
        other.M(data, z, store=again.store), module.M(data, module.MLatents(*z), store=fit.store)
    )


def test_the_initial_value_of_a_param_follows_from_the_seed(interface: Make) -> None:
    values = []
    for _ in range(2):
        module = interface(with_params(nn.Linear(2, 1)), PARAMS)
        data = module.M.data(ROWS).with_generator(torch.Generator().manual_seed(3))
        store = guidedsl.ParamStore()
        module.M(data, module.MLatents(torch.zeros(3, dtype=torch.float64)), store=store)
        values.append(store["M.shift"])
    assert torch.equal(*values)
    assert values[0].dtype == torch.float64


def test_a_pyro_module_is_learned(interface: Make) -> None:
    whole = Whole()
    module = interface(whole, PARAMS)
    data, store = module.M.data(ROWS), guidedsl.ParamStore()
    svi = guidedsl.SVI(module.M, module.G, guidedsl.optim.Adam(lr=0.1), store=store, seed=0)
    before = whole.scale.item()
    for _ in range(5):
        svi.step(data)
    assert {"M.linear.weight", "M.linear.bias", "M.scale"} <= set(store)
    assert abs(whole.scale.item() - before) > 1e-2
    assert whole.linear.weight is store.entry("M.linear.weight").leaf


def test_a_module_made_anew_at_each_call_is_refused(interface: Make) -> None:
    """Its parameters would be new ones each time, and nothing would be learned."""

    def model(x: Any, y: Any) -> None:
        net = pyro.module("net", nn.Linear(2, 1))
        with pyro.plate("rows", len(y)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("y", dist.Normal(net(x)[:, 0] + z, 1.0), obs=y)

    module = interface(model, PARAMS)
    with pytest.raises(ParamError, match=r"'M\.net\.weight' is another tensor than before: make its module once"):
        module.M(module.M.data(ROWS), module.MLatents(torch.zeros(3, dtype=torch.float64)))


# Sums

MIXTURE = """
model M from pyro "NAME" {
  dim N
  latent mu : real[2]
  plate rows[N] BATCH { observed y : real  latent c : index(2) }
}
guide G for M { auto enumerate for c  auto mean_field for rest }
"""


def mixture(y: Any) -> None:
    mu = pyro.sample("mu", dist.Normal(torch.tensor([-1.0, 1.0]), 1.0).to_event(1))
    with pyro.plate("rows", len(y), subsample_size=2) as rows:
        c = pyro.sample("c", dist.Categorical(torch.tensor([0.3, 0.7])))
        pyro.sample("y", dist.Normal(Vindex(mu)[..., c], 0.5), obs=y[rows])


def normal(x: float, loc: float, scale: float) -> float:
    return math.exp(-(((x - loc) / scale) ** 2) / 2) / scale / math.sqrt(2 * math.pi)


@pytest.mark.parametrize("particles", [(), (3,)])
def test_a_summed_site_is_a_sum_over_its_values(interface: Make, particles: tuple[int, ...]) -> None:
    """By hand: each row of the batch a sum of two terms, three rows for each two."""
    module = interface(mixture, MIXTURE.replace("BATCH", "subsample(2)"))
    data = module.M.data(y=[0.5, -1.0, 2.0])
    noise = data.noise(torch.Generator().manual_seed(5))
    batch = data.subsample(noise)
    draw = module.G(batch, particles=particles, store=guidedsl.ParamStore(), noise=noise)
    assert draw.latents.c is None
    log_p = module.M(batch, draw.latents)
    for value, mu in zip(log_p.reshape(-1).tolist(), draw.latents.mu.reshape(-1, 2).tolist(), strict=True):
        prior = math.log(normal(mu[0], -1, 1) * normal(mu[1], 1, 1))
        rows = sum(math.log(0.3 * normal(y, mu[0], 0.5) + 0.7 * normal(y, mu[1], 0.5)) for y in batch.y.tolist())
        assert value == pytest.approx(prior + 1.5 * rows, rel=1e-10)


CHAIN = """
model M from pyro "NAME" {
  dim T
  data     seq   : real[T]
  latent   level : real[2]
  latent   state : index(2)[T]
}
guide G for M { auto enumerate for state  auto mean_field for rest }
"""
MOVE = torch.tensor([[0.8, 0.2], [0.4, 0.6]])


def chain(seq: Any) -> None:
    level = pyro.sample("level", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    state = 0
    for t in pyro.markov(range(len(seq))):
        state = pyro.sample(f"state_{t}", dist.Categorical(MOVE.to(seq.dtype)[state]))
        pyro.sample(f"seq_{t}", dist.Normal(Vindex(level)[..., state], 0.5), obs=seq[t])


def test_a_chain_is_a_sum_over_all_paths(interface: Make) -> None:
    """And the probability of a state is the share of the paths through it."""
    module, seq = interface(chain, CHAIN), [0.5, -1.0, 0.2, 1.0]
    data = module.M.data(seq=seq)
    levels = torch.tensor([[0.1, 0.9], [-1.0, 0.4]], dtype=torch.float64)
    log_p = module.M(data, module.MLatents(levels, None))
    for value, level in zip(log_p.tolist(), levels.tolist(), strict=True):
        paths = {}
        for path in itertools.product(range(2), repeat=4):
            steps = zip((0, *path), path, seq, strict=False)
            paths[path] = math.prod(float(MOVE[a, b]) * normal(y, level[b], 0.5) for a, b, y in steps)
        prior = math.log(normal(level[0], 0, 1) * normal(level[1], 0, 1))
        assert value == pytest.approx(prior + math.log(sum(paths.values())), rel=1e-6)  # MOVE is single precision
    tilt = {"state": torch.zeros(2, 4, 2, dtype=torch.float64, requires_grad=True)}
    found = torch.autograd.grad(module.M(data, module.MLatents(levels, None), tilt=tilt).sum(), tilt["state"])[0]
    for t in range(4):
        through = sum(weight for path, weight in paths.items() if path[t] == 1) / sum(paths.values())
        assert float(found[1, t, 1]) == pytest.approx(through, rel=1e-6)


def test_the_summary_has_the_probabilities_of_classes(interface: Make) -> None:
    module = interface(mixture, MIXTURE.replace("BATCH", "subsample(2)"))
    data = module.M.data(y=[0.5, -1.0, 2.0])
    found = class_probabilities(module.G, data, guidedsl.ParamStore(), 20, torch.Generator().manual_seed(0))["c"]
    torch.testing.assert_close(found.sum(-1), torch.ones(3, dtype=torch.float64))
    assert "P(c = …)" in str(module.G.fit(data, steps=2).summary())


SAMPLED = """
model M {head} {{
  dim N
  latent mu : real {mu}
  plate rows[N] {{
    latent   c : index(2) {c}
    latent   b : bool {b}
    observed y : count {y}
  }}
}}
guide G for M {{
  auto mean_field for mu
  plate rows {{
    c ~ Categorical([0.4, 0.6])  # allow W604
    b ~ Bernoulli(0.3)           # allow W604
  }}
}}
"""


def sampled(y: Any) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    rates = torch.stack([mu.exp(), 2 * mu.exp()])
    with pyro.plate("rows", len(y)):
        c = pyro.sample("c", dist.Categorical(torch.tensor([0.3, 0.7])))
        b = pyro.sample("b", dist.Bernoulli(torch.sigmoid(mu)))
        pyro.sample("y", dist.Poisson(rates[c] + b), obs=y)


def test_discrete_latents_that_the_guide_samples(interface: Make) -> None:
    """Positions arrive as integers, so that the model can index with them."""
    law = {"mu": "~ Normal(0, 1)", "c": "~ Categorical([0.3, 0.7])", "b": "~ Bernoulli(inv_logit(mu))"}
    law |= {"y": "~ Poisson(exp(mu) * (1 + c) + b)", "head": ""}
    bare = dict.fromkeys(law, "") | {"head": 'from pyro "NAME"'}
    module, written = interface(sampled, SAMPLED.format(**bare)), build(SAMPLED.format(**law))
    data, other = module.M.data(y=[1, 0, 3]), written.M.data(y=[1, 0, 3])
    draw = written.G(other, particles=(6,), store=guidedsl.ParamStore())
    ours = module.M(data, module.MLatents(*draw.latents))
    torch.testing.assert_close(ours, written.M(other, draw.latents), rtol=1e-6, atol=1e-6)  # 0.3 in single precision


# What is refused


def declared(changes: dict[str, str]) -> str:
    text = SCHOOLS.format(**BARE)
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return text


def loops(sigma: Any, y: Any) -> None:
    mu, tau = pyro.sample("mu", dist.Normal(0.0, 5.0)), pyro.sample("tau", dist.HalfCauchy(5.0))
    for i in pyro.plate("schools", len(y)):
        theta = pyro.sample(f"theta_{i}", dist.Normal(mu, tau))
        pyro.sample(f"y_{i}", dist.Normal(theta, sigma[i]), obs=y[i])


def stretched(sigma: Any, y: Any) -> None:
    mu, tau = pyro.sample("mu", dist.Normal(0.0, 5.0)), pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("schools", len(y)):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
        pyro.sample("y", dist.Normal(theta, sigma), obs=y[:1])


def unexplained(sigma: Any, y: Any) -> None:
    mu, tau = pyro.sample("mu", dist.Normal(0.0, 5.0)), pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("schools", len(y)):
        theta = pyro.sample("theta", dist.Normal(mu, tau).expand([2, 4]))
        pyro.sample("y", dist.Normal(theta.sum(0), sigma), obs=y)


def uneven(sigma: Any, y: Any) -> None:
    """Bounds that differ from row to row."""
    mu, tau = pyro.sample("mu", dist.Normal(0.0, 5.0)), pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("schools", len(y)):
        theta = pyro.sample("theta", dist.Uniform(torch.zeros(4), sigma))
        pyro.sample("y", dist.Normal(theta * mu, tau), obs=y)


def raises(sigma: Any, y: Any) -> None:
    pyro.sample("mu", dist.Normal(0.0, 5.0))
    raise KeyError("schools")


HERE = Path(__file__).name


@pytest.mark.parametrize(
    ("function", "changes", "message"),
    [
        (schools, {"mu  : real": "mu  : positive"}, rf"p\.guide:4: `mu` is positive here, and real in .*{HERE}:\d+\)"),
        (schools, {"theta : real": "theta : real[2]"}, r"`theta` has event shape \[2\] here, and \[\] in"),
        (schools, {"latent mu ": "latent mean "}, r"p\.guide:4: `mean` is a latent here"),
        (schools, {"  latent mu  : real \n": ""}, r"samples `mu`, which Schools does not declare .*`latent mu : r"),
        (lambda sigma: schools(sigma, sigma), {"observed y": "latent y"}, "`y` is a latent here, and observed in"),
        (schools, {"latent   theta : real": "} latent theta : real[J] plate schools {"}, "`theta` is in no plate here"),
        (schools, {"plate schools[J]": "plate school[J]"}, r"plate school is in no part of .*did you mean `schools`\?"),
        (in_batches, {}, "plate schools takes all rows here, and 2 rows a step in"),
        (schools, {"[J] ": "[J] subsample(2) "}, "plate schools takes 2 rows a step here, and all rows in"),
        (schools, {"data     sigma": "data     sd"}, r"`sd` is data here, and .*\(sigma, y\) has no such argument"),
        (schools, {"data     sigma : positive": ""}, "needs an argument `sigma`, which no data, observed or dim"),
        (lambda sigma, y: schools(sigma[:3], y[:3]), {}, "plate schools has J = 4 rows here, and 3 in"),
        (loops, {}, "plate schools is a loop in .*, with a site of its own for each row"),
        (stretched, {}, r"observes `y` of shape \[\] under a distribution of shape \[4\]"),
        (unexplained, {}, r"`theta` has a batch dim -2 of size 2 in .* that is of no plate"),
        (uneven, {}, r"`theta` is real here, and .* has it on Interval\(lower_bound=tensor"),
        (raises, {}, rf"Schools: .*, .*{HERE}:\d+: KeyError: 'schools'"),
        (3, {}, "which is 3: it must be a function"),
        (Whole, {}, "which is a class: name an instance of it"),
    ],
)  # fmt: skip
def test_a_difference_is_one_error_that_names_both_lines(
    interface: Make, function: object, changes: dict[str, str], message: str
) -> None:
    module = interface(function, declared(changes))
    data = module.Schools.data({**DATA, "sd": DATA["sigma"], "J": 4})
    with pytest.raises(GuidedslError, match=message):
        module.G.fit(data, steps=1)


def test_bounds_of_data_are_not_compared(interface: Make) -> None:
    module = interface(uneven, declared({"theta : real": "theta : interval(0, sigma)"}))
    assert math.isfinite(module.G.fit(module.Schools.data(DATA), steps=2).elbo)


def test_a_density_that_is_not_finite_names_its_site(interface: Make) -> None:
    def model(sigma: Any, y: Any) -> None:
        mu, tau = pyro.sample("mu", dist.Normal(0.0, 5.0)), pyro.sample("tau", dist.HalfCauchy(5.0))
        with pyro.plate("schools", len(y)):
            theta = pyro.sample("theta", dist.Normal(mu, tau))
            pyro.sample("y", dist.Normal(theta * math.inf, sigma, validate_args=False), obs=y)

    with pytest.raises(InferenceError, match=rf"{HERE}:\d+: `y` has .* at the first draw"):
        scores(interface(model, declared({})), (2,))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere_at_all:model", "cannot be imported: No module named 'nowhere_at_all'"),
        ("math:model", r"comes from math:model, and .*math.* has no `model`"),
        ("math", 'comes from "math"; write "module:function"'),
    ],
)
def test_where_there_is_no_model(path: str, message: str) -> None:
    module = build(SCHOOLS.format(**BARE).replace("NAME", path))
    with pytest.raises(GuidedslError, match=message):
        scores(module, ())


def test_without_pyro_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    module = build(SCHOOLS.format(**BARE).replace("NAME", "schools:model"))
    monkeypatch.setitem(sys.modules, "pyro", None)
    with pytest.raises(GuidedslError, match=r"Schools needs Pyro: pip install guidedsl\[pyro\]"):
        scores(module, ())
