"""Automatic guides against closed forms: exact posteriors, log evidence, and modes with their curvature."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from guidedsl.modules import load_source
from guidedsl.runtime import Noise, ParamStore, deterministic
from guidedsl.runtime.errors import InferenceError
from guidedsl.runtime.optim import Adam
from guidedsl.runtime.svi import SVI
from guidedsl.source import Source

HIERARCHY = """
model M {
  dim G, N
  latent mu : real    ~ Normal(0, 3)
  latent c  : real[2] ~ Normal(mu, 1)
  plate group[G] {
    latent a : real    ~ Normal(mu, 2)
    latent v : real[2] ~ Normal(a, 0.5)
    observed w : real[2] ~ Normal(v, 0.7)
  }
  plate row[N] SUBSAMPLE {
    data g : index(group)
    latent e : real ~ Normal(a[g], 0.3)
    observed y : real ~ Normal(e, 0.4)
  }
}
guide G for M { FAMILY }
"""


def build(text: str, name: str = "oracle_autos") -> ModuleType:
    return load_source(Source("model.guide", text), name)


def hierarchy(family: str, subsample: str = "") -> tuple[ModuleType, dict[str, Any]]:
    """The model, and data in which each group has one row: its graph is then a tree, leaves at the data."""
    fields = {"G": 3, "w": [[0.4, 1.2], [-0.8, 0.3], [1.9, 1.4]], "g": [0, 1], "y": [0.9, -0.4]}
    return build(HIERARCHY.replace("FAMILY", family).replace("SUBSAMPLE", subsample)), fields


def log_evidence(fields: dict[str, Any]) -> float:
    """Of the hierarchy: all data are jointly normal, with the covariance of sums of independent normals."""
    rows = [("w", g) for g in range(3) for _ in range(2)] + [("y", g) for g in fields["g"]]
    y = torch.tensor([x for row in fields["w"] for x in row] + fields["y"], dtype=torch.float64)
    covariance = torch.full((8, 8), 9.0, dtype=torch.float64)
    for i, (_, first) in enumerate(rows):
        for j, (_, second) in enumerate(rows):
            covariance[i, j] += 4.0 if first == second else 0.0
    own = [0.25 + 0.49] * 6 + [0.09 + 0.16] * 2
    return float(MultivariateNormal(torch.zeros_like(y), covariance + torch.tensor(own).double().diag()).log_prob(y))


def test_laplace_is_exact_where_the_posterior_is_gaussian() -> None:
    module, fields = hierarchy("auto laplace for rest")
    fit = module.G.fit(module.M.data(fields), seed=1)
    assert fit.converged
    # log p - log q is then the evidence at every draw: what is left is rounding.
    assert fit.elbo == pytest.approx(log_evidence(fields), abs=1e-6)
    assert fit.elbo_error < 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_laplace_works_in_either_precision(dtype: torch.dtype) -> None:
    module, fields = hierarchy("auto laplace for rest")
    fit = module.G.fit(module.M.data(fields, dtype=dtype), seed=1)
    assert fit.store["G.joint_loc"].dtype == dtype
    assert fit.elbo == pytest.approx(log_evidence(fields), abs=1e-3 if dtype == torch.float32 else 1e-6)


TREE = """
model M {
  dim G
  latent mu : real ~ Normal(0, 3)
  plate group[G] {
    latent a : real    ~ Normal(mu, 2)
    latent v : real[2] ~ Normal(a, 0.5)
    observed w : real[2] ~ Normal(v, 0.7)
  }
}
guide G for M { FAMILY }
"""


def tree_evidence(w: Tensor) -> float:
    groups, n = w.shape[0], w.numel()
    same = torch.block_diag(*[torch.ones(2, 2, dtype=torch.float64)] * groups)
    covariance = 9.0 + 4.0 * same + (0.25 + 0.49) * torch.eye(n, dtype=torch.float64)
    return float(MultivariateNormal(torch.zeros(n).double(), covariance).log_prob(w.flatten().double()))


def test_structured_is_exact_where_the_posterior_is_a_gaussian_tree() -> None:
    """mu, a given mu, and v given a: what the prior's arrows say is all that the posterior has."""
    module = build(TREE.replace("FAMILY", "auto structured for rest"))
    w = torch.tensor([[0.4, 1.2], [-0.8, 0.3], [1.9, 1.4]])
    fit = module.G.fit(module.M.data(w=w), seed=1)
    assert fit.converged
    # On matched normals the expectation of a quadratic is exact; what is left is where the optimiser stopped.
    assert fit.elbo == pytest.approx(tree_evidence(w), abs=1e-4)
    mean_field = build(TREE.replace("FAMILY", "auto mean_field for rest"))
    assert mean_field.G.fit(mean_field.M.data(w=w), seed=1).elbo < fit.elbo - 0.5


def test_structured_reads_the_rows_that_an_index_picks() -> None:
    """Without the dependence of e on a[g] the posterior of the two could not be met."""
    module, fields = hierarchy("auto structured for rest")
    fit = module.G.fit(module.M.data(fields), seed=1)
    store = fit.store
    exact = 0.16 / (0.16 + 0.09)  # of e given a and y: precision-weighted
    assert torch.allclose(store["G.e_on_a_g"], torch.full((2,), exact, dtype=torch.float64), atol=2e-3)
    assert fit.elbo == pytest.approx(log_evidence(fields), abs=1e-3)


def test_structured_in_a_subsampled_plate_finds_the_same() -> None:
    whole, fields = hierarchy("auto structured for rest")
    batch, _ = hierarchy("auto structured for rest", "subsample(1)")
    expected = whole.G.fit(whole.M.data(fields), seed=1)
    fit = batch.G.fit(batch.M.data(fields), seed=1)
    assert fit.elbo == pytest.approx(expected.elbo, abs=1e-3)


GAMMA = """
model M {
  dim N
  latent rate : positive ~ Gamma(3, 2)
  plate row[N] { observed y : count ~ Poisson(rate) }
}
guide L for M { auto laplace for rest }
guide F for M { auto flow(FLOW) for rest }
"""
COUNTS = [2, 0, 3, 1, 4, 2]


def test_laplace_of_a_gamma_posterior_on_the_log_scale() -> None:
    """Gamma(a, b): the density of log x is a log x - b x, with its mode at log(a / b) and curvature a there."""
    module = build(GAMMA.replace("FLOW", "spline"))
    a, b = 3 + sum(COUNTS), 2 + len(COUNTS)
    fit = module.L.fit(module.M.data(y=COUNTS), seed=1)
    # A millionth of an sd is what the search promises.
    assert fit.store["L.joint_loc"].item() == pytest.approx(math.log(a / b), abs=1e-6 * a**-0.5)
    assert fit.store["L.joint_scale_tril"].item() == pytest.approx(a**-0.5, rel=1e-6)


POSITIVE = """
model M {
  dim N
  param shift : real = 0
  latent w : simplex[3] ~ Dirichlet(2)
  latent s : positive ~ LogNormal(0, 1)
  latent k : positive ~ Gamma(2, 1)
  latent u : interval(0, 2) ~ Normal(0.5, s)
  plate row[N] { observed y : real ~ Normal(w[0] * k + u + 0 * shift, s) }
}
guide L for M { auto laplace for rest }
"""


def test_laplace_against_a_numerical_hessian() -> None:
    """Types, a truncated prior whose constant has a first derivative only, and second differences of the density."""
    module = build(POSITIVE)
    data = module.M.data(y=[0.4, 1.1, 0.7, 1.6])
    fit = module.L.fit(data, seed=1)
    loc = fit.store["L.joint_loc"].detach()

    def density(free: Tensor) -> Tensor:
        store = ParamStore()
        module.L(data, store=store)
        store["L.joint_loc"] = free
        zero = Zeros(None, data.dtype, data.device)
        with torch.no_grad():
            draw = module.L(data, store=store, noise=zero)
            return module.M(data, draw.latents, store=store) - draw.log_q

    n, step = loc.numel(), 1e-4
    hessian = torch.zeros(n, n, dtype=torch.float64)
    eye = step * torch.eye(n, dtype=torch.float64)
    for i in range(n):
        assert abs(float(density(loc + eye[i]) - density(loc - eye[i]))) / (2 * step) < 1e-6
        for j in range(n):
            signs = [(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)]
            hessian[i, j] = sum(k * float(density(loc + a * eye[i] + b * eye[j])) for a, b, k in signs) / (4 * step**2)
    tril = fit.store["L.joint_scale_tril"].detach()
    # Second differences are right to eps / step² = 2e-8, relative to a density of order 10.
    assert torch.allclose(torch.linalg.inv(tril @ tril.mT), -hessian, atol=1e-5)


class Zeros(Noise):
    """Noise without any."""

    def normal(self, shape: Any) -> Tensor:
        return torch.zeros(tuple(shape), dtype=self.dtype, device=self.device)


FUNNEL = """
model M {
  dim J
  latent mu  : real     ~ Normal(0, 5)
  latent tau : positive ~ HalfCauchy(5)
  plate school[J] {
    data sigma : positive
    latent theta : real ~ Normal(mu, tau)
    observed y : real ~ Normal(theta, sigma)
  }
}
guide L for M { auto laplace for rest }
"""


def test_a_density_without_a_peak_is_refused_and_named() -> None:
    """The centred hierarchy's density rises without end as tau goes to 0."""
    module = build(FUNNEL)
    data = module.M.data(y=[28.0, 8, -3, 7, -1, 1, 18, 12], sigma=[15.0, 10, 16, 11, 9, 11, 10, 18])
    with pytest.raises(InferenceError, match=r"no peak.*`tau`.*non-centred"):
        module.L.fit(data, seed=1)


def test_laplace_is_not_learned_step_by_step() -> None:
    module = build(GAMMA.replace("FLOW", "spline"))
    data = module.M.data(y=COUNTS)
    with pytest.raises(InferenceError, match=r"L\.fit\(data\).*full_rank"):
        SVI(module.M, module.L, Adam(), store=ParamStore(), seed=1).step(data)
    with pytest.raises(InferenceError, match="no steps"):
        module.L.fit(data, steps=10)


def test_a_laplace_fit_is_kept_like_any_other(tmp_path: Any) -> None:
    module = build(GAMMA.replace("FLOW", "spline"))
    data = module.M.data(y=COUNTS)
    fit = module.L.fit(data, seed=3)
    fit.save(tmp_path / "l.safetensors")
    again = module.L.load(tmp_path / "l.safetensors", data)
    assert torch.equal(again.sample(5)["rate"], fit.sample(5)["rate"])


@pytest.mark.parametrize("kind", ["spline", "affine", "coupling"])
def test_a_flow_has_the_density_that_it_says(kind: str) -> None:
    """Against the change of variables by a Jacobian of the draw itself, weights moved off their start."""
    from guidedsl.runtime.flows import flow

    data = build(GAMMA.replace("FLOW", kind)).M.data(y=COUNTS)
    store = ParamStore()
    flow("f", kind, 4, data, store, transforms=2, hidden=8)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for leaf in store.leaves().values():
            leaf.add_(0.3 * torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype))
    made = flow("f", kind, 4, data, store, transforms=2, hidden=8)
    eps = torch.randn(4, generator=generator, dtype=torch.float64)

    class Given(Zeros):
        def __init__(self, value: Tensor) -> None:
            super().__init__(None, torch.float64, "cpu")
            self.value = value

        def normal(self, shape: Any) -> Tensor:
            return self.value

    value, log_q = made.draw(Given(eps), ())
    jacobian = torch.autograd.functional.jacobian(lambda z: made.draw(Given(z), ())[0], eps)
    expected = -0.5 * float(eps @ eps) - 2 * math.log(2 * math.pi) - float(torch.linalg.slogdet(jacobian)[1])
    assert value.shape == (4,)
    assert log_q.item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_flow_starts_where_seeds_say_and_leaves_the_global_generator(dtype: torch.dtype) -> None:
    module = build(GAMMA.replace("FLOW", "affine, transforms = 2, hidden = 8"))
    data = module.M.data(y=COUNTS, dtype=dtype)
    state = torch.get_rng_state()
    first, second = (module.F.fit(data, seed=5, steps=20) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert {leaf.dtype for leaf in first.store.leaves().values()} == {dtype}
    assert all(torch.equal(first.store[name], second.store[name]) for name in first.store)


def test_a_flow_is_kept_and_loaded(tmp_path: Any) -> None:
    module = build(GAMMA.replace("FLOW", "spline, transforms = 2, hidden = 8"))
    data = module.M.data(y=COUNTS)
    fit = module.F.fit(data, seed=5, steps=20)
    fit.save(tmp_path / "f.safetensors")
    again = module.F.load(tmp_path / "f.safetensors", data)
    assert torch.equal(again.sample(50)["rate"], fit.sample(50)["rate"])


def test_a_spline_flow_meets_a_gamma_posterior() -> None:
    """A normal on the log scale misses the evidence by more than the flow does: there the skewness is."""
    module = build(
        GAMMA.replace("FLOW", "spline, transforms = 1, hidden = 8").replace("Gamma(3, 2)", "Gamma(0.5, 0.2)")
    )
    counts = [0, 1]
    a, b = 0.5 + sum(counts), 0.2 + len(counts)
    evidence = 0.5 * math.log(0.2) - math.lgamma(0.5) + math.lgamma(a) - a * math.log(b)
    fit = module.F.fit(module.M.data(y=counts), seed=1, steps=1500, lr=0.02, num_particles=16)
    normal = build(GAMMA.replace("FLOW", "affine").replace("Gamma(3, 2)", "Gamma(0.5, 0.2)"))
    laplace = normal.L.fit(normal.M.data(y=counts), seed=1)
    assert laplace.elbo < evidence - 0.03
    assert abs(fit.elbo - evidence) < 0.01


def test_a_missing_zuko_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from guidedsl.runtime import flows

    def absent(name: str) -> ModuleType:
        raise ImportError(name)

    flows._structure.cache_clear()
    monkeypatch.setattr(flows, "import_module", absent)
    module = build(GAMMA.replace("FLOW", "coupling"))
    with pytest.raises(InferenceError, match=r"pip install guidedsl\[flows\]"):
        module.F(module.M.data(y=COUNTS), store=ParamStore())


@pytest.mark.parametrize(
    ("family", "refused"),
    [("structured", False), ("full_rank", False), ("low_rank(2)", False), ("flow(affine, 1, 8)", True)],
)
def test_what_is_fitted_on_fixed_noise(family: str, refused: bool) -> None:
    """Normals are; nets would learn the draws by heart."""
    module = build(TREE.replace("FAMILY", f"auto {family} for rest"))
    data = module.M.data(w=[[0.4, 1.2], [-0.8, 0.3], [1.9, 1.4]])
    plan = deterministic.plan(module.G, data, ParamStore(), torch.Generator().manual_seed(1))
    assert isinstance(plan, str) == refused
    assert not refused or "fitted to the draws" in str(plan)
