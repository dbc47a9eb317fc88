"""Latents summed out against brute force over all of their joint values.

The density at given classes is generated from the model as it is written, without enumeration; summing its exponential
over every assignment is the definition of what the other function computes.
"""

from __future__ import annotations

import itertools
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from guidedsl.modules import load_source
from guidedsl.runtime import Model, ParamStore, constraints
from guidedsl.runtime.classes import class_count
from guidedsl.runtime.default_store import clear_param_store
from guidedsl.source import Source

CLOSE = {"rtol": 1e-10, "atol": 1e-10}
"""Of log densities, their gradients and probabilities: float64, sums of a few hundred terms."""


def compiled(text: str, name: str = "enumeration_case") -> ModuleType:
    return load_source(Source("case.guide", text), name)


def model_of(module: ModuleType) -> Model:
    return next(value for value in vars(module).values() if isinstance(value, Model))


def drawn_by_guide(module: ModuleType, data: Any, seed: int) -> Any:
    """Latents of the guide Q at random params, with leaves to differentiate in."""
    store, noise = ParamStore(), data.noise(torch.Generator().manual_seed(seed))
    with torch.no_grad():
        latents = module.Q(data, store=store, noise=noise).latents
    return latents._replace(
        **{name: value.clone().requires_grad_() for name, value in latents._asdict().items() if value is not None}
    )


def assignments(model: Model, latents: Any, data: Any) -> tuple[list[str], list[dict[str, Tensor]]]:
    """Every joint value of the latents that are None, each at its internal shape."""
    names = [name for name, value in latents._asdict().items() if value is None]
    sites = {site.name: site for site in model.sites}
    every: list[list[Tensor]] = []
    for name in names:
        site = sites[name]
        plates = site.plates if site.order is None else tuple(site.plates[axis] for axis in site.order)
        shape = (*(getattr(data, plate).length for plate in plates), *(getattr(data, size) for size in site.steps))
        values = range(site.low, site.low + class_count(site, data))
        kind = torch.int64 if str(site.constraint) == "count" else data.dtype
        cells = itertools.product(values, repeat=torch.Size(shape).numel())
        found = [torch.tensor(cell, dtype=kind).reshape(shape) for cell in cells]
        if site.constraint.event_dim:
            found = [torch.nn.functional.one_hot(one.long(), len(values)).to(data.dtype) for one in found]
        every.append(found)
    return names, [dict(zip(names, choice, strict=True)) for choice in itertools.product(*every)]


def brute_force(model: Model, data: Any, latents: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """log Σ exp log p over all assignments, and P(c = k | rest) as [internal plates..., classes]."""
    names, choices = assignments(model, latents, data)
    log_p = torch.stack([model(data, latents._replace(**choice)) for choice in choices])
    weights = (log_p - log_p.logsumexp(0)).exp()
    sites = {site.name: site for site in model.sites}
    probabilities = {}
    for name in names:
        site = sites[name]
        values = torch.arange(site.low, site.low + class_count(site, data))
        one_hot = site.constraint.event_dim > 0
        found = [choice[name] if one_hot else choice[name][..., None] == values for choice in choices]
        hits = torch.stack(found).to(data.dtype)
        probabilities[name] = torch.tensordot(weights.detach(), hits, 1)
    return log_p.logsumexp(0), probabilities


def compare(text: str, fields: dict[str, object], seed: int = 1) -> None:
    clear_param_store()
    module = compiled(text)
    model = model_of(module)
    data = model.data(fields, dtype=torch.float64)
    latents = drawn_by_guide(module, data, seed)
    leaves = [value for value in latents if value is not None]
    expected, probabilities = brute_force(model, data, latents)
    tilt = {name: torch.zeros(p.shape, dtype=data.dtype, requires_grad=True) for name, p in probabilities.items()}
    got = model(data, latents, tilt=tilt)
    assert got.shape == ()
    torch.testing.assert_close(got, expected, **CLOSE)
    torch.testing.assert_close(model(data, latents), expected, **CLOSE)
    for want, have in zip(
        torch.autograd.grad(expected, leaves, allow_unused=True, retain_graph=True),
        torch.autograd.grad(got, leaves, allow_unused=True, retain_graph=True),
        strict=True,
    ):
        assert (want is None) == (have is None)
        if want is not None:
            torch.testing.assert_close(have, want, **CLOSE)
    for name, gradient in zip(tilt, torch.autograd.grad(got, list(tilt.values())), strict=True):
        torch.testing.assert_close(gradient, probabilities[name], **CLOSE)
    _particles(module, model, data)


def _particles(module: ModuleType, model: Model, data: Any) -> None:
    """Particles together are what each is alone."""
    noise = data.noise(torch.Generator().manual_seed(3))
    with torch.no_grad():
        latents = module.Q(data, particles=(3,), store=ParamStore(), noise=noise).latents
        together = model(data, latents)
        alone = [
            model(data, type(latents)(*(None if value is None else value[row] for value in latents)))
            for row in range(3)
        ]
    torch.testing.assert_close(together, torch.stack(alone), **CLOSE)


MIXTURE = """
model M {
  dim N, K = 3
  latent w : simplex[K] ~ Dirichlet(2)
  plate cluster[K] { latent mu : real ~ Normal(0, 3)  latent s : positive ~ HalfNormal(1) }
  plate obs[N] {
    latent c : index(cluster) ~ Categorical(w)
    observed y : real ~ Normal(mu[c], s[c])
  }
}
guide Q for M { auto enumerate for c  auto mean_field for rest }
"""

CASES = {
    "one_hot": (
        """
model M {
  dim N, K = 2, J = 2
  latent w   : simplex[K] ~ Dirichlet(2)
  latent mu  : real[K]    ~ Normal(0, 3)
  latent top : one_hot[K] ~ OneHotCategorical(w)
  plate group[J] {
    latent kind : one_hot[K] ~ OneHotCategorical(logits = mu + top)
    let centre = dot(kind, mu)
    plate obs[N] {
      latent   part : one_hot[K] ~ OneHotCategorical(0.5 * w + 0.5 * full(K, 1 / K))
      observed y    : real       ~ Normal(centre + 0.3 * dot(part, mu), 1)
    }
  }
}
guide Q for M { auto enumerate for top, kind, part  auto mean_field for rest }
""",
        {"y": [[0.3, 1.2], [2.0, 1.1]]},
    ),
    "nets": (
        """
model M {
  dim N, K = 3
  net decoder(c: index(K), x: real[2]) -> (loc: real, scale: positive) = mlp(4)
  latent w : simplex[K] ~ Dirichlet(2)
  plate obs[N] {
    data x : real[2]
    latent c : index(K) ~ Categorical(w)
    let (loc, scale) = decoder(c, x)
    observed y : real ~ Normal(loc, scale)
  }
}
guide Q for M { auto enumerate for c  auto mean_field for rest }
""",
        {"x": [[0.1, 0.4], [-1.0, 0.3]], "y": [0.3, -1.0]},
    ),
    "mixtures": (
        """
model M {
  dim N, G = 2
  latent share : simplex[G] ~ Dirichlet(1)
  plate group[G] {
    latent w  : simplex[2] ~ Dirichlet(1)
    latent mu : real[2] ~ Normal(0, 2)
  }
  plate obs[N] {
    latent c : index(group) ~ Categorical(share)
    observed y : real ~ mixture(w[c], Normal(mu[c], 1))
    observed n : count ~ ZeroInflated(w[c, 0], Truncated(Poisson(exp(mu[c, 1])), low = 1))
    observed q : positive ~ Truncated(Normal(mu[c, 0], 1), low = 0)
    observed v : real ~ mixture(where(c == 1, [0.3, 0.7], [0.5, 0.5]), [Normal(c, 1), Cauchy(0, 5)])
  }
}
guide Q for M { auto enumerate for c  auto mean_field for rest }
""",
        {"y": [0.3, -1.0], "n": [0, 2], "q": [0.4, 1.7], "v": [4.0, 0.2]},
    ),
    "scan_nets": (
        """
model M {
  dim N, T
  net decoder(s: index(2), z: real) -> (loc: real, scale: positive) = mlp(4)
  net jump(s: index(2), u: real) -> simplex[2] = mlp(3)
  plate row[N] {
    data stop : int(1, T)
    data u    : real[T]
    latent z : real ~ Normal(0, 1)
    scan t in T carry (before : index(2) = 0) {
      latent s : index(2) ~ Categorical(jump(before, u[t]))
      let (loc, scale) = decoder(s, z)
      observed y : real ~ Normal(loc, scale) when t < stop
      next before = s
    }
  }
}
guide Q for M { auto enumerate for s  auto mean_field for rest }
""",
        {"stop": [2, 3], "u": [[0.2, 1.0, -1.0], [0.0, 0.5, 1.5]], "y": [[0.3, -1.0, 0.1], [0.4, 1.0, -2.0]]},
    ),
    "mixture": (MIXTURE, {"y": [0.3, -1.0, 2.0, 0.1]}),
    "global_class": (
        """
model M {
  dim N
  latent on : bool ~ Bernoulli(0.3)
  latent k  : int(1, 3) ~ DiscreteUniform(1, 3)
  latent mu : real ~ Normal(0, 1)
  plate obs[N] { observed y : real ~ Normal(mu + k * where(on == 1, 1.5, -0.5), 1) }
  factor -0.1 * k * on
}
guide Q for M { auto enumerate for rest  auto mean_field for mu }
""",
        {"y": [0.3, -1.0, 2.0]},
    ),
    "nested_plates": (
        """
model M {
  dim D, W, K = 2, V = 3
  latent pi : simplex[K] ~ Dirichlet(1)
  plate topic[K] { latent theta : simplex[V] ~ Dirichlet(1) }
  plate doc[D] {
    latent z : index(topic) ~ Categorical(pi)
    plate word[W] {
      latent good : bool ~ Bernoulli(logits = 0.5 * z - 0.2)
      observed x : index(V) ~ Categorical(theta[z])
      observed y : real ~ Normal(good + z, 1)
      factor 0.3 * z
    }
  }
}
guide Q for M { plate doc { auto enumerate for z }  auto enumerate for good  auto mean_field for rest }
""",
        {"x": [[0, 2], [1, 1]], "y": [[0.1, 0.4], [1.0, 2.0]]},
    ),
    "coupled": (
        """
model M {
  dim N, K = 2, L = 3
  data q : simplex[K]
  latent a : real[K, L] ~ Normal(0, 1)
  latent p : simplex[K, L] ~ Dirichlet(1)
  latent b : real[L, K] ~ Normal(0, 1)
  plate obs[N] {
    data keep : bool
    latent u : index(K) ~ Categorical(q)
    latent v : index(L) ~ Categorical(p[u])
    let m = a[u, v] + b[v, u]
    observed y : real ~ Normal(m, 1 + 0.5 * u) when keep
  }
}
guide Q for M { auto mean_field for rest  auto enumerate for u, v }
""",
        {"q": [0.4, 0.6], "y": [0.3, None, 2.0], "keep": [1, 0, 1]},
    ),
    "no_observations": (
        """
model M {
  dim N, K = 3
  latent w : simplex[K] ~ Dirichlet(2)
  plate obs[N] { latent c : index(K) ~ Categorical(w) }
  plate other[2] { latent on : bool ~ Bernoulli(0.3) factor 0.5 }
}
guide Q for M { auto enumerate for rest  auto mean_field for rest }
""",
        {"N": 3},
    ),
    "chain": (
        """
model M {
  dim K = 2
  data q : simplex[K]
  latent t : simplex[K, K] ~ Dirichlet(1)
  latent e : real[K] ~ Normal(0, 1)
  data y : real[3]
  latent a : index(K) ~ Categorical(q)
  latent b : index(K) ~ Categorical(t[a])
  latent c : index(K) ~ Categorical(t[b])
  factor log_prob(Normal(e[a], 1), y[0]) + log_prob(Normal(e[b], 1), y[1])
  factor log_prob(Normal(e[c], 1), y[2])
  factor 0.3 * a * c
}
guide Q for M { auto enumerate for rest  auto mean_field for rest }
""",
        {"q": [0.4, 0.6], "y": [0.3, -1.0, 2.0]},
    ),
    "crossed_plates": (
        """
model M {
  dim I, J, K = 2
  data q : simplex[K]
  plate j[J] { latent beta : real ~ Normal(0, 1) }
  plate i[I] {
    latent c : index(K) ~ Categorical(q)
    latent mu : real ~ Normal(c, 1)
  }
  plate i, j { observed y : real ~ Normal(mu + beta * c, 1) }
  plate j, i { observed z : real[2] ~ Normal([mu, beta] * (1 + c), 1) }
}
guide Q for M { auto enumerate for c  auto mean_field for rest }
""",
        {"q": [0.4, 0.6], "y": [[0.3, 1.0, -1.0], [2.0, 0.1, 0.2]], "z": [[[0.3, 1.0]] * 2] * 3},
    ),
    "gathers": (
        """
model M {
  dim N, K = 2, L = 3
  data q : simplex[K]
  plate cluster[K], group[L] { latent b : real ~ Normal(0, 1) }
  plate obs[N] {
    data g : index(group)
    latent c : index(cluster) ~ Categorical(q)
    observed y : real ~ Normal(b[c, g], 1)
  }
}
guide Q for M { auto enumerate for c  auto mean_field for rest }
""",
        {"q": [0.4, 0.6], "y": [0.3, -1.0, 2.0], "g": [0, 2, 1]},
    ),
    "per_row_tables": (
        """
model M {
  dim N, K = 2
  plate obs[N] {
    data x : real[K]
    latent r : simplex[K] ~ Dirichlet(1)
    latent c : index(K) ~ Categorical(r)
    latent o : int(0, 2) ~ OrderedLogistic(c, [-1, 1])
    observed y : real[2] ~ MultivariateNormal([x[c], r[c]], scale_tril = eye(2))
    observed v : real ~ Normal(o, 1)
  }
}
guide Q for M { auto enumerate for c, o  auto mean_field for rest }
""",
        {"x": [[0.3, 1.0], [2.0, -1.0]], "y": [[0.1, 0.2], [1.0, 0.5]], "v": [0.2, 1.1]},
    ),
}


HMM = """
model M {
  dim T, K = 3
  data q : simplex[K]
  latent mu   : real[K]       ~ Normal(0, 1)
  latent move : simplex[K, K] ~ Dirichlet(1)
  scan t in T carry (state : index(K) = 0) {
    latent   s : index(K) ~ Categorical(PRIOR)
    observed y : real ~ Normal(mu[s], 1)
    next state = s
  }
}
guide Q for M { auto enumerate for s  auto mean_field for rest }
"""
SEEN = {"q": [0.2, 0.5, 0.3], "y": [0.3, -1.0, 2.0, 0.1, 0.5]}
CHAINS = {
    "first_step_apart": (HMM.replace("PRIOR", "where(t == 0, q, move[state])"), SEEN),
    "known_start": (HMM.replace("PRIOR", "move[state]"), SEEN),
    "moves_that_change": (HMM.replace("PRIOR", "logits = log(move[state]) + 0.1 * t * mu"), SEEN),
    "one_step": (HMM.replace("PRIOR", "where(t == 0, q, move[state])"), {**SEEN, "y": [0.3]}),
    "panel": (
        """
model M {
  dim N, T, K = 2
  latent mu   : real[K]       ~ Normal(0, 1)
  latent move : simplex[K, K] ~ Dirichlet(1)
  plate unit[N] {
    data   x     : real[T]
    data   begin : index(K)
    latent shift : real ~ Normal(0, 1)
    latent kind  : bool ~ Bernoulli(0.3)
    scan t in T carry (state : index(K) = begin) {
      latent   s : index(K) ~ Categorical(move[state])
      let m = mu[s] + shift * x[t]
      observed y : real ~ Normal(m, 1 + kind) when x[t] > 0
      factor 0.2 * s * state
      next state = s
    }
  }
}
guide Q for M { auto enumerate for s, kind  auto mean_field for rest }
""",
        {"begin": [1, 0], "x": [[0.1, -0.2, 1.0], [0.5, 1.0, 2.0]], "y": [[0.3, None, 2.0], [0.1, 0.5, 1.0]]},
    ),
    "factorial": (
        """
model M {
  dim T, K = 2
  latent mu : real[K, K] ~ Normal(0, 1)
  latent pa : simplex[K, K] ~ Dirichlet(1)
  latent pb : simplex[K, K] ~ Dirichlet(1)
  scan t in T carry (sa : index(K) = 0, sb : index(K) = 0) {
    latent a : index(K) ~ Categorical(pa[sa])
    latent b : index(K) ~ Categorical(pb[sb])
    observed y : real ~ Normal(mu[a, b], 1)
    next sa = a
    next sb = b
  }
}
guide Q for M { auto enumerate for a, b  auto mean_field for rest }
""",
        {"y": [0.3, -1.0, 2.0]},
    ),
    "coupled_factorial": (
        """
model M {
  dim T, K = 2
  data q : simplex[K]
  latent mu : real[K] ~ Normal(0, 1)
  latent pa : simplex[K, K] ~ Dirichlet(1)
  latent pb : simplex[K, K, K] ~ Dirichlet(1)
  scan t in T carry (sa : index(K) = 0, sb : index(K) = 1) {
    latent b : index(K) ~ Categorical(where(t == 0, q, pb[sa, sb]))
    latent a : index(K) ~ Categorical(where(t == 0, q, pa[sa]))
    observed y : real ~ Normal(mu[a] * mu[b], 1)
    next sa = a
    next sb = b
  }
}
guide Q for M { auto enumerate for a, b  auto mean_field for rest }
""",
        {"q": [0.4, 0.6], "y": [0.3, -1.0, 2.0]},
    ),
    "mixture_in_a_chain": (
        """
model M {
  dim T, K = 2, L = 2
  data q : simplex[K]
  latent mu   : real[K, L] ~ Normal(0, 1)
  latent w    : simplex[K, L] ~ Dirichlet(1)
  latent move : simplex[K, K] ~ Dirichlet(1)
  latent fast : bool ~ Bernoulli(0.4)
  latent rho  : unit ~ Beta(2, 2)
  scan t in T carry (state : index(K) = 0, h : real = 0) {
    let level = rho * h + 0.1
    latent   s : index(K) ~ Categorical(where(t == 0, q, move[state]))
    latent   u : index(L) ~ Categorical(w[s])
    observed y : real ~ Normal(mu[s, u] + fast * level, 1)
    next h = level + y
    next state = s
  }
}
guide Q for M { auto enumerate for s, u, fast  auto mean_field for rest }
""",
        {"q": [0.4, 0.6], "y": [0.3, -1.0, 2.0]},
    ),
    "no_chain": (
        """
model M {
  dim T, L = 2
  latent w  : simplex[L] ~ Dirichlet(1)
  latent mu : real[L] ~ Normal(0, 1)
  scan t in T carry (h : real = 0) {
    latent   u : index(L) ~ Categorical(w)
    observed y : real ~ Normal(mu[u] + 0.5 * h, 1)
    next h = y
  }
}
guide Q for M { auto enumerate for u  auto mean_field for rest }
""",
        {"y": [0.3, -1.0, 2.0]},
    ),
}


@pytest.mark.parametrize("case", CHAINS)
def test_chains(case: str) -> None:
    """Every path through the scan."""
    text, fields = CHAINS[case]
    compare(text, fields)


@pytest.mark.parametrize("case", CASES)
def test_brute_force(case: str) -> None:
    text, fields = CASES[case]
    compare(text, fields)


def test_impossible_classes_leave_finite_gradients() -> None:
    """A class of probability 0 has weight 0: value and gradients are those of the model without it."""
    text = """
model M {
  dim N, K = 3
  data can : real[K]
  latent r  : real[K] ~ Normal(0, 1)
  latent mu : real[K] ~ Normal(0, 1)
  plate obs[N] {
    let p : simplex[K] = exp(r) * can / sum(exp(r) * can)
    latent c : index(K) ~ Categorical(p)
    observed y : real ~ Uniform(mu[c], mu[c] + 2)
  }
}
guide Q for M { auto enumerate for c  auto mean_field for rest }
"""
    model = model_of(compiled(text))
    r = torch.tensor([0.1, 0.5, -0.3], dtype=torch.float64, requires_grad=True)
    mu = torch.tensor([0.0, 0.5, -3.0], dtype=torch.float64, requires_grad=True)
    latents = model.latents_type(r=r, mu=mu, c=None)
    y = [0.6, 1.5]
    got = model(model.data({"y": y, "can": [1.0, 0.0, 1.0]}), latents)
    only = torch.softmax(r[[0, 2]], 0)
    inside = torch.tensor([[0.5, 0.0], [0.5, 0.0]], dtype=torch.float64)
    prior = (-0.5 * torch.cat([r, mu]).square()).sum() - 3 * torch.log(torch.tensor(2 * torch.pi))
    expected = prior + (only * inside).sum(-1).log().sum()
    torch.testing.assert_close(got, expected, rtol=1e-7, atol=1e-7)  # the prior's constant is in float32
    for have, want in zip(torch.autograd.grad(got, (r, mu)), torch.autograd.grad(expected, (r, mu)), strict=True):
        torch.testing.assert_close(have, want, **CLOSE)


def test_single_precision() -> None:
    module = compiled(MIXTURE)
    model = model_of(module)
    values = []
    for dtype in (torch.float32, torch.float64):
        data = model.data({"y": [0.3, -1.0, 2.0, 0.1]}, dtype=dtype)
        latents = model.latents_type(
            *(torch.tensor(v, dtype=dtype) for v in ([0.2, 0.3, 0.5], [-1.0, 0.0, 1.0], [0.5, 1.0, 2.0])), None
        )
        values.append(model(data, latents))
        assert values[-1].dtype == dtype
    torch.testing.assert_close(values[0].double(), values[1], rtol=1e-5, atol=1e-5)  # 20 terms in single precision


def test_pyro_enumerates_the_same() -> None:
    """TraceEnum_ELBO on the generated guide's draws and params: the loss and its gradient."""
    import pyro
    from pyro import poutine
    from pyro.infer import TraceEnum_ELBO, config_enumerate

    pd: Any = pyro.distributions
    module = compiled(MIXTURE, "enumeration_pyro")
    model = model_of(module)
    data = model.data({"y": [0.3, -1.0, 2.0, 0.1]})
    store = ParamStore()
    draw = module.Q(data, store=store, noise=data.noise(torch.Generator().manual_seed(4)))
    loss = draw.log_q - model(data, draw.latents, store=store)
    leaves = store.trainable()
    gradients = torch.autograd.grad(loss, list(leaves.values()), retain_graph=True)

    def q(name: str) -> Tensor:
        return store[f"Q.{name}"]

    def guide() -> None:
        w, mu, s = (getattr(draw.latents, name) for name in ("w", "mu", "s"))
        free = constraints.simplex.free(w)
        log_det = constraints.simplex.push(free)[1]
        log_q = pd.Normal(q("w_loc"), q("w_scale")).log_prob(free).sum() - log_det
        pyro.sample("w", pd.Delta(w, log_density=log_q, event_dim=1))
        with pyro.plate("cluster", 3):
            pyro.sample("mu", pd.Delta(mu, log_density=pd.Normal(q("mu_loc"), q("mu_scale")).log_prob(mu)))
            pyro.sample("s", pd.Delta(s, log_density=pd.LogNormal(q("s_loc"), q("s_scale")).log_prob(s)))

    @config_enumerate
    def pyro_model() -> None:
        w = pyro.sample("w", pd.Dirichlet(torch.full((3,), 2.0, dtype=data.dtype)))
        zero, one = torch.zeros((), dtype=data.dtype), torch.ones((), dtype=data.dtype)
        with pyro.plate("cluster", 3):
            mu = pyro.sample("mu", pd.Normal(zero, 3 * one))
            s = pyro.sample("s", pd.HalfNormal(one))
        with pyro.plate("obs", 4):
            c = pyro.sample("c", pd.Categorical(w))
            pyro.sample("y", pd.Normal(mu[c], s[c]), obs=data.y)

    with poutine.block():
        expected = TraceEnum_ELBO(max_plate_nesting=1).differentiable_loss(pyro_model, guide)
    torch.testing.assert_close(loss, expected, **CLOSE)
    for have, want in zip(gradients, torch.autograd.grad(expected, list(leaves.values())), strict=True):
        torch.testing.assert_close(have, want, **CLOSE)
