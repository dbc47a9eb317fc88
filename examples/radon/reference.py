"""The reference posterior of radon.guide: a long NUTS run, checked against an exact method. Writes reference.json.

    python examples/radon/reference.py              # about twenty minutes on one core

1. Pyro's NUTS on the model as radon.guide states it: 4 chains, one after another, in double precision. The mean, sd and
   quantiles in reference.json are its, each with its Monte Carlo standard error, split R-hat and effective sample size.
2. Exact: given (sigma_alpha, sigma_y) the model is linear and Gaussian, so the posterior is a mixture of Gaussians over
   a grid of the two. It shares no code with the first, and is printed and stored beside it.
"""

import argparse
import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import MCMC, NUTS
from pyro.ops.stats import effective_sample_size, split_gelman_rubin
from torch import Tensor

HERE = Path(__file__).resolve().parent
SEED = 20240

Draws = dict[str, Tensor]  # scalar name → [chains, draws]


def load() -> dict[str, Tensor]:
    fields = json.loads((HERE / "radon.json").read_text(encoding="utf-8"))
    data = {name: torch.tensor(fields[name], dtype=torch.float64) for name in ("floor", "log_uranium", "log_radon")}
    return data | {"home": torch.tensor(fields["home"]), "counties": torch.tensor(fields["J"])}


# NUTS


def model(data: dict[str, Tensor]) -> None:
    mu_alpha = pyro.sample("mu_alpha", dist.Normal(0.0, 10.0))
    sigma_alpha = pyro.sample("sigma_alpha", dist.HalfNormal(1.0))
    beta_uranium = pyro.sample("beta_uranium", dist.Normal(0.0, 10.0))
    beta_floor = pyro.sample("beta_floor", dist.Normal(0.0, 10.0))
    sigma_y = pyro.sample("sigma_y", dist.HalfNormal(1.0))
    with pyro.plate("county", int(data["counties"])):
        r = pyro.sample("r", dist.Normal(0.0, 1.0))
    alpha = mu_alpha + sigma_alpha * r
    mean = alpha[data["home"]] + beta_uranium * data["log_uranium"] + beta_floor * data["floor"]
    with pyro.plate("house", len(mean)):
        pyro.sample("log_radon", dist.Normal(mean, sigma_y), obs=data["log_radon"])


def run_nuts(data: dict[str, Tensor], chains: int, warmup: int, draws: int) -> Draws:
    """`alpha[1]` and `r[1]` belong to the first county: names count from 1, as in the posterior's summaries."""
    kept: list[dict[str, Tensor]] = []
    for chain in range(chains):
        pyro.set_rng_seed(SEED + chain)
        kernel = NUTS(model, jit_compile=True, ignore_jit_warnings=True, target_accept_prob=0.9)
        mcmc = MCMC(kernel, num_samples=draws, warmup_steps=warmup, disable_progbar=True)
        mcmc.run(data)
        kept.append(mcmc.get_samples())
        print(f"chain {chain + 1}: divergences {len(mcmc.diagnostics()['divergences']['chain 0'])}", flush=True)
    stacked = {site: torch.stack([samples[site] for samples in kept]) for site in kept[0]}
    stacked["alpha"] = stacked["mu_alpha"][..., None] + stacked["sigma_alpha"][..., None] * stacked["r"]
    return {name: column for site, values in stacked.items() for name, column in scalars(site, values)}


def scalars(site: str, values: Tensor) -> list[tuple[str, Tensor]]:
    if values.dim() == 2:
        return [(site, values)]
    return [(f"{site}[{i + 1}]", values[..., i]) for i in range(values.shape[-1])]


def summarise(x: Tensor) -> dict[str, float]:
    """`x` is [chains, draws]. MCSE of the sd by the delta method on the squared deviations."""
    squared = (x - x.mean()) ** 2
    sd = x.std()
    ess = effective_sample_size(x)
    ess_squared = effective_sample_size(squared)
    q5, q50, q95 = torch.quantile(x.flatten(), torch.tensor([0.05, 0.5, 0.95], dtype=x.dtype)).tolist()
    return {
        "mean": x.mean().item(),
        "sd": sd.item(),
        "q5": q5,
        "q50": q50,
        "q95": q95,
        "mcse_mean": (sd / ess.sqrt()).item(),
        "mcse_sd": (squared.std() / (2 * sd) / ess_squared.sqrt()).item(),
        "rhat": split_gelman_rubin(x).item(),
        "ess": ess.item(),
    }


# The exact method


class Exact:
    """The posterior as a weighted mixture of Gaussians, one at each point (sigma_alpha, sigma_y) of a grid.

    At a point, b = (mu_alpha, beta_uranium, beta_floor, r) has precision P = X'X / sigma_y² + diag(1 / prior sd²), mean
    m = P⁻¹ X'y / sigma_y², and the point's weight is its prior times
    p(y | point) ∝ sigma_y^-N |P|^-½ exp(-½ (y'y / sigma_y² - m'Pm)).
    """

    def __init__(self, data: dict[str, Tensor], sigma_alpha: Tensor, sigma_y: Tensor) -> None:
        home, counties, y = data["home"], int(data["counties"]), data["log_radon"]
        ones = torch.ones_like(y)
        member = torch.nn.functional.one_hot(home, counties).to(y.dtype)
        self.point = torch.cartesian_prod(sigma_alpha, sigma_y)  # [points, 2]
        prior = torch.cat([torch.full((3,), 0.01, dtype=y.dtype), torch.ones(counties, dtype=y.dtype)])
        means, sds, alpha_means, alpha_sds, log_weights = [], [], [], [], []
        for s_alpha in sigma_alpha:
            x = torch.cat([torch.stack([ones, data["log_uranium"], data["floor"]], -1), s_alpha * member], -1)
            gram, xy = x.T @ x, x.T @ y
            to_alpha = torch.cat([torch.zeros(counties, 3, dtype=y.dtype), s_alpha * torch.eye(counties)], -1)
            to_alpha[:, 0] = 1.0
            for s_y in sigma_y:
                factor = torch.linalg.cholesky(gram / s_y**2 + torch.diag(prior))
                covariance = torch.cholesky_inverse(factor)
                mean = covariance @ xy / s_y**2
                log_weights.append(
                    -0.5 * (s_alpha**2 + s_y**2)
                    - len(y) * s_y.log()
                    - factor.diagonal().log().sum()
                    - 0.5 * (y @ y - mean @ xy) / s_y**2
                )
                means.append(mean)
                sds.append(covariance.diagonal().sqrt())
                alpha_means.append(to_alpha @ mean)
                alpha_sds.append((to_alpha @ covariance * to_alpha).sum(-1).sqrt())
        self.weight = torch.softmax(torch.stack(log_weights), 0)
        self.mean = torch.cat([torch.stack(means), torch.stack(alpha_means)], -1)
        self.sd = torch.cat([torch.stack(sds), torch.stack(alpha_sds)], -1)
        columns = ["mu_alpha", "beta_uranium", "beta_floor"]
        columns += [f"{site}[{i + 1}]" for site in ("r", "alpha") for i in range(counties)]
        self.column = {name: i for i, name in enumerate(columns)}

    def summarise(self, name: str) -> dict[str, float]:
        if name in ("sigma_alpha", "sigma_y"):
            return self._summarise_grid(self.point[:, int(name == "sigma_y")])
        mean, sd = self.mean[:, self.column[name]], self.sd[:, self.column[name]]
        centre = self.weight @ mean
        spread = (self.weight @ (sd**2 + (mean - centre) ** 2)).sqrt().item()

        def cdf(x: float) -> float:
            return float(self.weight @ torch.special.ndtr((x - mean) / sd))

        lo, hi = centre.item() - 8 * spread, centre.item() + 8 * spread
        q5, q50, q95 = (bisect(cdf, p, lo, hi) for p in (0.05, 0.5, 0.95))
        return {"mean": centre.item(), "sd": spread, "q5": q5, "q50": q50, "q95": q95}

    def _summarise_grid(self, x: Tensor) -> dict[str, float]:
        values = x.unique()
        mass = torch.stack([self.weight[x == value].sum() for value in values])
        centre = mass @ values
        half = (values[1] - values[0]) / 2

        def cdf(at: float) -> float:  # each grid point stands for its cell
            return float(mass @ ((at - values + half) / (2 * half)).clamp(0, 1))

        q5, q50, q95 = (bisect(cdf, p, 0.0, float(values[-1] + half)) for p in (0.05, 0.5, 0.95))
        return {
            "mean": centre.item(),
            "sd": (mass @ (values - centre) ** 2).sqrt().item(),
            "q5": q5,
            "q50": q50,
            "q95": q95,
        }


def bisect(increasing: Callable[[float], float], target: float, lo: float, hi: float) -> float:
    for _ in range(50):
        middle = (lo + hi) / 2
        lo, hi = (middle, hi) if increasing(middle) < target else (lo, middle)
    return (lo + hi) / 2


def midpoints(low: float, high: float, cells: int) -> Tensor:
    width = (high - low) / cells
    return low + width * (torch.arange(cells, dtype=torch.float64) + 0.5)


# Both


def compare(nuts: dict[str, dict[str, float]], exact: dict[str, dict[str, float]]) -> float:
    """Print the top-level scalars side by side; return the largest z-score of any mean or sd."""
    worst = 0.0
    heads = ("NUTS mean", "exact", "mcse", "NUTS sd", "exact", "mcse", "R-hat", "ESS")
    print(
        " " * 14 + "".join(f"{head:>{width}}" for head, width in zip(heads, (12, 10, 9, 10, 10, 9, 9, 8), strict=True))
    )
    for name, row in nuts.items():
        other = exact[name]
        for moment in ("mean", "sd"):
            worst = max(worst, abs(row[moment] - other[moment]) / row[f"mcse_{moment}"])
        if "[" not in name:
            print(
                f"{name:14}{row['mean']:12.5f}{other['mean']:10.5f}{row['mcse_mean']:9.5f}"
                f"{row['sd']:10.5f}{other['sd']:10.5f}{row['mcse_sd']:9.5f}{row['rhat']:9.4f}{row['ess']:8.0f}"
            )
    return worst


def rounded(row: dict[str, float]) -> dict[str, float]:
    return {key: float(f"{value:.6g}") for key, value in row.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chains", type=int, default=4)
    parser.add_argument("--warmup", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=4000)
    parser.add_argument("--out", type=Path, default=HERE / "reference.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    warnings.simplefilter("ignore")  # torch.jit, which Pyro's NUTS compiles with, is deprecated
    data = load()

    grid = Exact(data, midpoints(0.0, 0.5, 200), midpoints(0.65, 0.87, 60))
    draws = run_nuts(data, options.chains, options.warmup, options.draws)
    names = sorted(draws, key=lambda name: "[" in name)  # the top-level scalars first
    nuts = {name: summarise(draws[name]) for name in names}
    exact = {name: grid.summarise(name) for name in names}
    worst = compare(nuts, exact)
    max_rhat = max(row["rhat"] for row in nuts.values())
    min_ess = min(row["ess"] for row in nuts.values())
    print(f"{len(names)} scalars: max R-hat {max_rhat:.4f}, min ESS {min_ess:.0f}")
    print(f"largest |NUTS - exact| among their means and sds: {worst:.2f} MCSE")
    if not (math.isfinite(worst) and max_rhat < 1.01):
        raise SystemExit("the chains do not agree: reference.json is left as it was")

    reference = {
        "model": "radon.guide",
        "method": (
            f"pyro {pyro.__version__} NUTS, {options.chains} chains, {options.warmup} warm-up and {options.draws} kept "
            "draws each, double precision; `exact`: Gaussian conditionals on a grid of the two sds"
        ),
        "max_rhat": round(max_rhat, 5),
        "min_ess": round(min_ess),
        "parameters": {name: rounded(nuts[name]) | {"exact": rounded(exact[name])} for name in names},
    }
    options.out.write_text(json.dumps(reference, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
