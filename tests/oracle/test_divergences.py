"""KL divergences in closed form: every pair that the registry allows, and what programs make of them."""

from __future__ import annotations

import itertools
import math
import zlib
from typing import Any

import pyro
import pyro.distributions as pyro_dist
import pytest
import torch
from oracle.test_distributions import arguments_of
from pyro.infer import TraceMeanField_ELBO
from torch import Tensor

import guidedsl
from guidedsl.library.distributions import DISTRIBUTIONS, Form
from guidedsl.modules import load_source
from guidedsl.runtime import distributions as dist
from guidedsl.runtime.errors import InferenceError
from guidedsl.runtime.noise import Noise
from guidedsl.source import Source

K = 3
PAIRS = [
    pytest.param(q, p, id=f"{q.runtime}-{p.runtime}")
    for a, b in itertools.product(DISTRIBUTIONS.values(), repeat=2)
    if a.closed_kl(b) and (a.support == b.support or (b.name == "Uniform" and a.support == "unit"))
    for q, p in itertools.product(a.forms, b.forms)
]
ACROSS = [pytest.param(q, "Normal", id=q.runtime) for q in DISTRIBUTIONS["MultivariateNormal"].forms] + [
    pytest.param(DISTRIBUTIONS["Normal"].forms[0], p, id=p) for p in ("MultivariateNormal", "GaussianRandomWalk")
]


def family(name: str) -> Any:
    return getattr(dist, name)


def arguments(form: Form, generator: torch.Generator) -> list[Tensor]:
    if form.runtime == "Uniform":
        return [torch.tensor(0.0, dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64)]
    if form.runtime == "GaussianRandomWalk":
        return [torch.tensor(0.8, dtype=torch.float64)]
    return arguments_of(form, (), generator)


def event(form: Form) -> tuple[int, ...]:
    support = next(row for row in DISTRIBUTIONS.values() if form in row.forms).support
    return (K,) if "[" in support else ()


def monte_carlo(q: Form, q_args: list[Tensor], p: Form, p_args: list[Tensor], draws: int = 20_000) -> tuple[Any, ...]:
    """The estimate of the divergence, its error, and what the closed form gives at each draw less log p."""
    generator = torch.Generator().manual_seed(zlib.crc32(f"{q.runtime} {p.runtime}".encode()))
    x, log_q = family(q.runtime).draw(Noise(generator, torch.float64), (draws, *event(q)), *q_args)
    log_p = family(p.runtime).log_prob(x, *p_args)
    closed = dist.kl_plus_log_prob(x, family(q.runtime), tuple(q_args), family(p.runtime), tuple(p_args))
    difference = log_q - log_p
    return difference.mean(), difference.std() / math.sqrt(draws), closed - log_p


def test_there_are_enough_pairs() -> None:
    assert len(PAIRS) > 90
    assert len(TORCHS) > 15
    names = {row.name for row in DISTRIBUTIONS.values() if row.closed_kl(row)}
    assert names >= {"Normal", "LogNormal", "Gamma", "Beta", "Dirichlet", "Exponential", "MultivariateNormal"}
    assert names >= {"Bernoulli", "Categorical", "OneHotCategorical", "Laplace", "InverseGamma", "LogitNormal"}


@pytest.mark.parametrize(("q", "p"), PAIRS)
def test_a_closed_form_is_the_mean_of_the_log_ratio(q: Form, p: Form) -> None:
    """Within five standard errors of 20,000 draws: one pair in a million would be off by chance."""
    generator = torch.Generator().manual_seed(zlib.crc32(f"{q.runtime}-{p.runtime}".encode()))
    q_args, p_args = arguments(q, generator), arguments(p, generator)
    estimate, error, closed = monte_carlo(q, q_args, p, p_args)
    assert float(closed.std()) < 1e-9
    # identical laws have no error but that of rounding
    assert abs(float(closed.mean() - estimate)) < 5 * float(error) + 1e-9
    assert float(closed.mean()) > -1e-9


IN_TORCH = {"Normal", "LogNormal", "Gamma", "Beta", "Dirichlet", "Exponential", "Laplace", "Bernoulli", "Categorical"}
IN_TORCH |= {"Poisson", "Geometric", "MultivariateNormal", "HalfNormal", "OneHotCategorical"}
MIXED = {"LogNormal", "HalfNormal"}
"""Families that torch compares with their like alone; the mean of the log ratio above is the oracle for the others."""
TORCHS = [
    pair
    for pair in PAIRS
    for q, p in [pair.values]
    if {q.runtime, p.runtime} <= IN_TORCH and (q.runtime == p.runtime or not {q.runtime, p.runtime} & MIXED)
]


@pytest.mark.parametrize(("q", "p"), TORCHS)
def test_a_closed_form_equals_torchs(q: Form, p: Form) -> None:
    generator = torch.Generator().manual_seed(zlib.crc32(f"{q.runtime}={p.runtime}".encode()))
    q_args, p_args = arguments(q, generator), arguments(p, generator)

    def law(form: Form, values: list[Tensor]) -> Any:
        names = {"scale_tril": "scale_tril", "probs": "probs"}
        keys = {a.name: v for a, v in zip(form.arguments, values, strict=True) if a.name in names}
        rest = [v for a, v in zip(form.arguments, values, strict=True) if a.name not in names]
        return getattr(torch.distributions, form.runtime)(*rest, **keys)

    expected = torch.distributions.kl_divergence(law(q, q_args), law(p, p_args))
    _, _, closed = monte_carlo(q, q_args, p, p_args, draws=2)
    torch.testing.assert_close(closed, expected.expand(closed.shape), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(("q", "p"), PAIRS)
def test_gradients_of_closed_forms(q: Form, p: Form) -> None:
    """Of every argument, against finite differences: structured ones along directions inside their types."""
    generator = torch.Generator().manual_seed(3)
    q_args, p_args = arguments(q, generator), arguments(p, generator)
    x = family(q.runtime).draw(Noise(generator, torch.float64), event(q), *q_args)[0]

    def scaled(form: Form, values: list[Tensor], step: Tensor) -> list[Tensor]:
        """Each argument moved within its type as `step` moves from 0."""
        moved = []
        for argument, v in zip(form.arguments, values, strict=True):
            if argument.type == "simplex[K]":
                moved.append((v.log() + step * torch.arange(K)).softmax(-1))
            elif argument.type == "unit":
                moved.append((v.logit() + step).sigmoid())
            elif argument.type.startswith("unit_lower"):
                moved.append(torch.eye(K, dtype=torch.float64) + v.tril(-1) * (1.0 + step))
            else:
                moved.append(v * (1.0 + step))
        return moved

    def value_of(step: Tensor) -> Tensor:
        ours, theirs = scaled(q, q_args, step), scaled(p, p_args, 2.0 * step)
        found = dist.kl_plus_log_prob(x, family(q.runtime), tuple(ours), family(p.runtime), tuple(theirs))
        return found - family(p.runtime).log_prob(x, *theirs)

    step = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(value_of(step).sum(), step)
    h = 1e-5
    with torch.no_grad():
        numeric = (value_of(step + h).sum() - value_of(step - h).sum()) / (2 * h)
    assert float(gradient) == pytest.approx(float(numeric), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize(("q", "p"), ACROSS)
def test_vectors_against_numbers(q: Form, p: str) -> None:
    """A normal vector with a prior on each entry, and entries drawn alone with a prior on the vector; arguments that
    lack the event axis stand for every entry."""
    generator = torch.Generator().manual_seed(7)
    prior = next(form for row in DISTRIBUTIONS.values() for form in row.forms if form.runtime == p)
    q_args, p_args = arguments(q, generator), arguments(prior, generator)
    shape = (50_000, K)
    x, log_q = family(q.runtime).draw(Noise(generator, torch.float64), shape, *q_args)
    log_p = family(p).log_prob(x, *p_args)
    difference = (log_q if log_q.ndim == 1 else log_q.sum(-1)) - (log_p if log_p.ndim == 1 else log_p.sum(-1))
    closed = dist.kl_plus_log_prob(x, family(q.runtime), tuple(q_args), family(p), tuple(p_args))
    assert closed.shape == (50_000,)
    kl = closed - (log_p if log_p.ndim == 1 else log_p.sum(-1))
    assert abs(float(kl.mean() - difference.mean())) < 5 * float(difference.std()) / math.sqrt(50_000)


# Programs


def build(text: str) -> Any:
    return load_source(Source("program.guide", text), "divergences_guide")


def spread(store: guidedsl.ParamStore, seed: int = 5, by: float = 0.3) -> None:
    """Moves every leaf off its initial value, so that no term is special."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, leaf in store.named_parameters():
            leaf += by * torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype)


def generator_of(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


HIERARCHY = """
model M {
  dim N = 12
  param s : positive = 2
  latent mu  : real     ~ Normal(0, 2)
  latent tau : positive ~ Gamma(3, 1)
  latent p   : unit     ~ LogitNormal(0.3, 1.2)
  latent w   : simplex[3] ~ Dirichlet([1, 2, 3])
  let twice = tau * s
  plate rows[N] subsample(5) {
    data seen : bool = 1
    latent   theta : real    ~ Normal(mu, twice)
    latent   eta   : real[2] ~ MultivariateNormal([0, mu], scale_tril = [[1, 0], [0.5, 1]])
    latent   c     : bool    ~ Bernoulli(p)
    observed y     : real    ~ Normal(theta + sum(eta) + c, 1) when seen
    factor -0.1 * theta ^ 2
  }
}
guide G for M {
  param a : positive[3] = 1
  auto mean_field for tau, mu, p
  w ~ Dirichlet(a)
  plate rows {
    param logit : real = 0.3
    param m : real = 0
    theta ~ Normal(m + 0.4 * mu, 0.5)
    auto mean_field for eta
    c ~ Bernoulli(logits = logit)
  }
}
"""


def hierarchy() -> tuple[Any, Any, guidedsl.ParamStore]:
    module = build(HIERARCHY)
    y = [float(i) - 3.0 if i % 4 else None for i in range(12)]
    data = module.M.data(y=y, seen=[int(v is not None) for v in y])
    store = guidedsl.ParamStore()
    module.G(data, store=store)
    spread(store)
    return module, data, store


def test_sites_with_a_closed_form_are_known() -> None:
    module, _, _ = hierarchy()
    assert module.G.kl == ("mu", "tau", "p", "w", "theta", "eta", "c")


def test_the_loss_has_the_same_mean() -> None:
    """With batches, masks, a factor, a score function and what a prior reads drawn."""
    module, data, store = hierarchy()
    noise = data.noise(generator_of(1))
    found: dict[bool, list[Tensor]] = {False: [], True: []}
    with torch.no_grad():
        for analytic, values in found.items():
            loss = guidedsl.ELBO(num_particles=50, analytic_kl=analytic)
            values += [loss(module.M, module.G, data.subsample(noise), store, noise).value for _ in range(400)]
    sampled, closed = (torch.stack(found[key]) for key in (False, True))
    error = math.hypot(float(sampled.std()), float(closed.std())) / math.sqrt(400)
    assert abs(float(sampled.mean() - closed.mean())) < 5 * error


def test_the_gradient_has_the_same_mean() -> None:
    module, data, store = hierarchy()
    leaves = list(store.trainable().values())
    batch = data.subsample(data.noise(generator_of(2)))
    sums: dict[bool, list[Tensor]] = {}
    for analytic in (False, True):
        noise = data.noise(generator_of(3))
        loss = guidedsl.ELBO(num_particles=200, analytic_kl=analytic)
        rows = []
        for _ in range(150):
            objective, _ = loss(module.M, module.G, batch, store, noise)
            parts = torch.autograd.grad(objective, leaves, allow_unused=True)
            rows.append(
                torch.cat(
                    [torch.zeros(leaf.numel(), dtype=leaf.dtype) if g is None else g.reshape(-1)
                     for leaf, g in zip(leaves, parts, strict=True)]
                )
            )  # fmt: skip
        sums[analytic] = rows
    a, b = torch.stack(sums[False]), torch.stack(sums[True])
    error = (a.var(0) + b.var(0)).div(150).sqrt()
    away = (a.mean(0) - b.mean(0)).abs() / error.clamp_min(1e-12)
    assert float(away[(a.mean(0) - b.mean(0)).abs() > 1e-9].max()) < 5.0


def test_a_closed_form_has_less_noise() -> None:
    module, data, store = hierarchy()
    with torch.no_grad():
        draws = {
            kl: module.G(data.full, particles=(500,), store=store, noise=data.noise(generator_of(4)), kl=kl)
            for kl in (False, True)
        }
        log_p = module.M(data.full, draws[True].latents, store=store)
    spreads = {kl: float((draw.log_q - log_p).std()) for kl, draw in draws.items()}
    assert spreads[True] < spreads[False]


def test_7_the_jacobian_of_a_closed_form() -> None:
    """Gamma(3, 1) under a log-normal: loc ln 3 − 1/6 = 0.932, scale 3^−½ = 0.577, and not 0.443 and 0.707. There is no
    noise left in the loss, so that steps without any end at the optimum itself."""
    module = build(
        "model M { latent z : positive ~ Gamma(3, 1) } "
        "guide ByType for M { auto mean_field for rest } "
        "guide ByName for M { param a : real = 0 param b : positive = 1 z ~ LogNormal(a, b) }"
    )
    data = module.M.data()
    for guide, loc, scale in ((module.ByType, "z_loc", "z_scale"), (module.ByName, "a", "b")):
        store = guidedsl.ParamStore()
        optim = guidedsl.optim.Adam(lr=0.05, lr_decay=0.995)
        svi = guidedsl.SVI(module.M, guide, optim, guidedsl.ELBO(analytic_kl=True), store=store, seed=1)
        losses = [svi.step(data) for _ in range(1500)]
        assert store[f"{guide.name}.{loc}"].item() == pytest.approx(math.log(3) - 1 / 6, abs=1e-6)
        assert store[f"{guide.name}.{scale}"].item() == pytest.approx(3**-0.5, abs=1e-6)
        m, s = math.log(3) - 1 / 6, 3**-0.5
        entropy = m + math.log(s) + 0.5 * math.log(2 * math.pi * math.e)
        assert losses[-1] == pytest.approx(-entropy - (2 * m - math.exp(m + s * s / 2) - math.log(2)), abs=1e-9)


@pytest.mark.parametrize(
    "prior",
    ["Gamma(2, 3)", "Gamma(2, scale = 3)", "Exponential(2)", "Chi2(3)", "InverseGamma(3, 2)", "HalfNormal(2)",
     "LogNormal(0.2, 0.7)"],
)  # fmt: skip
def test_a_normal_pushed_onto_positive_numbers(prior: str) -> None:
    """By the mean of the log ratio of 200,000 draws."""
    module = build(f"model M {{ latent z : positive ~ {prior} }} guide G for M {{ auto mean_field for rest }}")
    assert module.G.kl == ("z",)
    data, store = module.M.data(), guidedsl.ParamStore()
    module.G(data, store=store)
    spread(store)
    with torch.no_grad():
        draws = module.G(data, particles=(200_000,), store=store, noise=data.noise(generator_of(6)))
        ratio = draws.log_q - module.M(data, draws.latents, store=store)
        one = module.G(data, store=store, noise=data.noise(generator_of(7)), kl=True)
        closed = one.log_q - module.M(data, one.latents, store=store)
    assert abs(float(ratio.mean() - closed)) < 5 * float(ratio.std()) / math.sqrt(200_000)


@pytest.mark.parametrize(
    ("model", "guide", "closed"),
    [
        # what a prior reads is drawn from the site: given that, the site's law is another one
        ("latent a : real ~ Normal(0, 1) latent b : real ~ Normal(a, 1)",
         "b ~ Normal(0, 1) a ~ Normal(b, 1)", ("a",)),
        ("latent a : real ~ Normal(0, 1) latent b : real ~ Normal(a, 1)",
         "a ~ Normal(0, 1) b ~ Normal(a, 1)", ("a", "b")),
        ("latent a : real ~ Normal(0, 1) latent b : real ~ Normal(a, 1)", "auto full_rank for rest", ()),
        # through a let, and through what lies between
        ("latent a : real ~ Normal(0, 1) let m = 2 * a latent b : real ~ Normal(m, 1) latent c : real ~ Normal(0, 1)",
         "b ~ Normal(0, 1) c ~ Normal(b, 1) let h = c + 1 a ~ Normal(h, 1)", ("a", "c")),
        ("latent a : real ~ Normal(0, 1)", "aux e : real ~ Normal(0, 1) a ~ Normal(e, 1)", ("a",)),
        # restricted, truncated, without a closed form, of another support
        ("latent a : positive ~ Normal(0, 1)", "auto mean_field for rest", ()),
        ("latent a : positive ~ HalfCauchy(1)", "auto mean_field for rest", ()),
        ("latent a : real ~ StudentT(3, 0, 1)", "auto mean_field for rest", ()),
        ("latent a : unit ~ Beta(2, 2)", "auto mean_field for rest", ()),
        ("latent a : nonnegative ~ Exponential(2)", "auto mean_field for rest", ("a",)),
        ("latent a : unit ~ Beta(2, 2)", "a ~ Beta(1, 3)", ("a",)),
        ("latent a : unit ~ Uniform(0, 1)", "a ~ Beta(1, 3)", ("a",)),
        ("latent a : unit ~ Uniform(0, 1)", "auto mean_field for rest", ()),
        ("latent a : positive ~ Flat", "auto mean_field for rest", ()),
        ("latent a : ordered[3] ~ Normal(0, 1)", "auto mean_field for rest", ()),
        ("latent a : positive ~ Truncated(Normal(0, 1), low = 0)", "auto mean_field for rest", ()),
    ],
)  # fmt: skip
def test_where_there_is_a_closed_form(model: str, guide: str, closed: tuple[str, ...]) -> None:
    module = build(f"model M {{ {model} }} guide G for M {{ {guide} }}")
    assert sorted(module.G.kl) == sorted(closed)


EIGHT = """
model M {
  dim J
  latent mu  : real     ~ Normal(0, 5)
  latent tau : positive ~ LogNormal(1, 0.7)
  plate schools[J] subsample(5) {
    data sigma : positive
    latent   theta : real ~ Normal(mu, tau)
    observed y     : real ~ Normal(theta, sigma) when sigma < 17
  }
}
guide G for M { auto mean_field for mu  param l : real = 0.3  param s : positive = 0.4
  tau ~ LogNormal(l, s)  auto mean_field for theta }
"""
Y = [28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0]
SIGMA = [15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0]


def test_loss_and_gradient_equal_pyros_on_the_same_noise() -> None:
    """TraceMeanField_ELBO on a batch of 5 of 8 schools, one of them masked: loss, and every gradient."""
    module = build(EIGHT)
    data = module.M.data(y=Y, sigma=SIGMA)
    batch = data.subsample(data.noise(generator_of(8)))
    rows, store = batch.schools.rows, guidedsl.ParamStore()
    module.G(data, store=store)
    spread(store)
    found = guidedsl.ELBO(analytic_kl=True)(module.M, module.G, batch, store, data.noise(generator_of(11)))
    gradients = dict(zip(store, torch.autograd.grad(found.objective, list(store.trainable().values())), strict=True))
    values = {name.removeprefix("G."): value.detach().clone() for name, value in store.items()}
    y, sigma = (torch.tensor(v, dtype=torch.float64) for v in (Y, SIGMA))
    zero = torch.zeros((), dtype=torch.float64)

    def model() -> None:
        mu = pyro.sample("mu", pyro_dist.Normal(zero, 5.0))
        tau = pyro.sample("tau", pyro_dist.LogNormal(zero + 1.0, 0.7))
        with pyro.plate("schools", 8, subsample=rows):
            theta = pyro.sample("theta", pyro_dist.Normal(mu, tau))
            with pyro.poutine.mask(mask=sigma[rows] < 17):
                pyro.sample("y", pyro_dist.Normal(theta, sigma[rows]), obs=y[rows])

    def param(name: str) -> Tensor:
        positive = name == "s" or name.endswith("scale")
        constraint = pyro_dist.constraints.positive if positive else pyro_dist.constraints.real
        return pyro.param(name, values[name], constraint=constraint, event_dim=0)

    def guide() -> None:
        pyro.sample("mu", pyro_dist.Normal(param("mu_loc"), param("mu_scale")))
        pyro.sample("tau", pyro_dist.LogNormal(param("l"), param("s")))
        with pyro.plate("schools", 8, subsample=rows):
            pyro.sample("theta", pyro_dist.Normal(param("theta_loc"), param("theta_scale")))

    pyro.clear_param_store()
    with torch.random.fork_rng():
        torch.manual_seed(11)
        theirs = TraceMeanField_ELBO().differentiable_loss(model, guide)
    torch.testing.assert_close(found.value, theirs, rtol=1e-10, atol=1e-10)
    theirs.backward()
    for name, leaf in pyro.get_param_store().named_parameters():
        torch.testing.assert_close(gradients[f"G.{name}"], leaf.grad, rtol=1e-9, atol=1e-10)
    pyro.clear_param_store()


def test_8_pyros_closed_form_forgets_a_scale_of_the_model_alone() -> None:
    """Pyro's loss has the KL at the guide's scale: with the model's density scaled 10 times it is the same KL."""
    zero = torch.zeros((), dtype=torch.float64)

    def model() -> None:
        pyro.sample("z", pyro_dist.Normal(zero, 1.0))

    def guide() -> None:
        pyro.sample("z", pyro_dist.Normal(zero + 1.0, 1.0))

    plain = TraceMeanField_ELBO().loss(model, guide)
    scaled = TraceMeanField_ELBO().loss(pyro.poutine.scale(model, scale=10.0), guide)
    assert plain == pytest.approx(scaled)


def test_a_prior_drawn_from_its_site_is_no_closed_form_though_pyro_takes_it() -> None:
    """q(b) q(a | b) with the prior p(b | a): Pyro warns and takes the KL at each a, whose mean is not the KL's."""
    zero = torch.zeros((), dtype=torch.float64)

    def model() -> None:
        a = pyro.sample("a", pyro_dist.Normal(zero, 1.0))
        pyro.sample("b", pyro_dist.Normal(a, 1.0))

    def guide() -> None:
        b = pyro.sample("b", pyro_dist.Normal(zero, 1.0))
        pyro.sample("a", pyro_dist.Normal(b, 1.0))

    pyro.set_rng_seed(0)
    with pytest.warns(UserWarning, match="mean field"):
        theirs = TraceMeanField_ELBO(num_particles=20_000, vectorize_particles=True).loss(model, guide)
    module = build(
        "model M { latent a : real ~ Normal(0, 1) latent b : real ~ Normal(a, 1) } "
        "guide G for M { b ~ Normal(0, 1) a ~ Normal(b, 1) }"
    )
    data, store = module.M.data(), guidedsl.ParamStore()
    loss = guidedsl.ELBO(num_particles=20_000, analytic_kl=True)
    ours = float(loss(module.M, module.G, data, store, data.noise(generator_of(1))).value)
    # E log q − log p: log q(a | b) and log p(b | a) are the same number, −½b² − ½ log 2π less −½a² − ½ log 2π is left
    assert ours == pytest.approx(0.5, abs=0.05)
    assert abs(theirs - 0.5) > 0.3


def test_a_net_in_the_prior() -> None:
    """The prior of one latent comes from a net of another: it is made where the closed form needs it."""
    module = build("""
    model M {
      dim N
      net up(h: real) -> (loc: real, scale: positive) = mlp(4)
      plate rows[N] minibatch(6) {
        latent h : real ~ Normal(0, 1)
        let (loc, scale) = up(h)
        latent z : real ~ Normal(loc, scale)
        observed y : real ~ Normal(z, 0.5)
      }
    }
    guide G for M {
      net down(y: real) -> (a: real, b: positive, c: real, d: positive) = mlp(4)
      plate rows { let (a, b, c, d) = down(y)  h ~ Normal(a, b)  z ~ Normal(c, d) }
    }
    """)
    assert module.G.kl == ("h", "z")
    data = module.M.data(y=[0.1, 0.2, -0.3, 0.5, 1.0, -1.0], N=60, dtype=torch.float64)
    store = guidedsl.ParamStore()
    with torch.no_grad():
        draw = module.G(data, particles=(40_000,), store=store, noise=data.noise(generator_of(1)), kl=True)
        plain = module.G(data, particles=(40_000,), store=store, noise=data.noise(generator_of(1)))
    difference = draw.log_q - plain.log_q
    assert abs(float(difference.mean())) < 5 * float(difference.std()) / math.sqrt(40_000)


def test_what_cannot_be_asked_for() -> None:
    with pytest.raises(InferenceError, match="stl=True, analytic_kl=True"):
        guidedsl.ELBO(stl=True, analytic_kl=True)
    module = build("model M { latent a : real ~ Cauchy(0, 1) } guide G for M { auto mean_field for rest }")
    data = module.M.data()
    svi = guidedsl.SVI(module.M, module.G, guidedsl.optim.Adam(), guidedsl.ELBO(analytic_kl=True), seed=1)
    with pytest.raises(InferenceError, match="no latent of M has a closed form"):
        svi.step(data)

    own = build("model M { latent a : real ~ Normal(0, 1) } guide G for M { auto mean_field for rest }")
    found = guidedsl.SVI(own.m, own.g, guidedsl.optim.Adam(), guidedsl.ELBO(analytic_kl=True), seed=1).step(
        own.M.data()
    )
    assert math.isfinite(found)
    other = guidedsl.SVI(
        lambda data, latents, store: -latents.a.square(),
        own.G,
        guidedsl.optim.Adam(),
        guidedsl.ELBO(analytic_kl=True),
        seed=1,
    )
    with pytest.raises(InferenceError, match="the density given is another one"):
        other.step(own.M.data())

    def plain(data: Any, *, particles: Any = (), store: Any = None, noise: Any = None) -> Any:
        return module.G(data, particles=particles, store=store, noise=noise)

    svi = guidedsl.SVI(module.M, plain, guidedsl.optim.Adam(), guidedsl.ELBO(analytic_kl=True), seed=1)
    with pytest.raises(InferenceError, match="generated module"):
        svi.step(data)


def test_what_pyro_does_without_a_closed_form() -> None:
    """It falls back to Monte Carlo and says nothing: a log-normal guide with a gamma prior, whose KL is known here."""
    one = torch.ones((), dtype=torch.float64)

    def model() -> None:
        pyro.sample("z", pyro_dist.Gamma(3 * one, one))

    def guide() -> None:
        base = pyro_dist.Normal(0.3 * one, 0.5)
        pyro.sample("z", pyro_dist.TransformedDistribution(base, [torch.distributions.ExpTransform()]))

    pyro.set_rng_seed(1)
    assert len({TraceMeanField_ELBO().loss(model, guide) for _ in range(5)}) == 5
    module = build("model M { latent z : positive ~ Gamma(3, 1) } guide G for M { z ~ LogNormal(0.3, 0.5) }")
    data, store = module.M.data(), guidedsl.ParamStore()
    loss = guidedsl.ELBO(analytic_kl=True)
    noise = data.noise(generator_of(1))
    values = [loss(module.M, module.G, data, store, noise).value.item() for _ in range(5)]
    assert values == pytest.approx([values[0]] * 5, abs=1e-12)


def test_pyros_annealed_loss_is_the_weighted_one() -> None:
    zero = torch.zeros((), dtype=torch.float64)

    def model(weight: float) -> None:
        with pyro.poutine.scale(scale=weight):
            z = pyro.sample("z", pyro_dist.Normal(zero, 1.0))
        pyro.sample("y", pyro_dist.Normal(z, 1.0), obs=zero + 2.0)

    def guide(weight: float) -> None:
        with pyro.poutine.scale(scale=weight):
            pyro.sample("z", pyro_dist.Normal(zero + 1.0, 0.5))

    losses = []
    for weight in (0.5, 1.0):
        pyro.set_rng_seed(2)
        losses.append(TraceMeanField_ELBO().loss(model, guide, weight))
    assert losses[0] != pytest.approx(losses[1], abs=1e-3)
    module = build(
        "model M { latent z : real ~ Normal(0, 1) observed y : real ~ Normal(z, 1) } "
        "guide G for M { z ~ Normal(1, 0.5) }"
    )
    data, store = module.M.data(y=2.0), guidedsl.ParamStore()
    found = [
        guidedsl.ELBO(analytic_kl=True, kl_weight=weight)(module.M, module.G, data, store, data.noise(generator_of(2)))
        for weight in (0.5, 1.0)
    ]
    assert found[0].value.item() == found[1].value.item() == pytest.approx(losses[1])
    assert found[0].objective.item() == pytest.approx(losses[0])


def test_pyros_quantiles_are_those_of_two_of_its_guides() -> None:
    def model() -> None:
        pyro.sample("z", pyro_dist.Normal(torch.zeros(2), 1.0).to_event(1))

    guide = pyro.infer.autoguide.AutoIAFNormal(model)
    guide()
    with pytest.raises(NotImplementedError):
        guide.quantiles([0.5])
