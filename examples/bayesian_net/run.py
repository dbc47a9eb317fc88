"""Fit a Bayesian net to the diabetes data, a fifth of its rows held out, and score the predictions for those."""

import importlib
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_diabetes
from sklearn.linear_model import BayesianRidge

HERE = Path(__file__).resolve().parent


def build() -> Any:
    """The generated module, as any program would import it."""
    guidedsl = Path(sys.executable).with_name("guidedsl")
    subprocess.run([guidedsl, "build", HERE / "bayesian_net.guide"], check=True)
    sys.path.insert(0, str(HERE))
    return importlib.import_module("bayesian_net_guide")


def standardised() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs and outputs in sds of the rows that are seen, and which those are."""
    x, y = load_diabetes(return_X_y=True)
    known = np.random.default_rng(0).random(len(y)) < 0.8
    x = (x - x[known].mean(0)) / x[known].std(0)
    return x, (y - y[known].mean()) / y[known].std(), known


def score(name: str, mean: torch.Tensor, log_density: torch.Tensor, y: torch.Tensor) -> None:
    rmse = float((mean - y).square().mean().sqrt())
    error = float(log_density.std() / math.sqrt(len(y)))
    print(f"{name:28} rmse {rmse:.3f}   log density a row {float(log_density.mean()):.3f} ± {error:.3f}")


def main() -> None:
    nets = build()
    x, y, known = standardised()
    held_out = torch.tensor(y[~known])
    data = nets.BayesianNet.data(x=x, y=np.where(known, y, np.nan), known=known.astype(float))
    print(f"{known.sum()} rows seen, {(~known).sum()} held out")
    for name in ("MeanField", "LowRank"):
        start = time.perf_counter()
        fit = getattr(nets, name).fit(data, seed=1)
        print(f"\n{fit}\n{time.perf_counter() - start:.1f} s")
        draws = fit.sample(4000)
        f, sigma = draws["f"][:, torch.tensor(~known)], draws["sigma"][:, None]
        each = torch.distributions.Normal(f, sigma).log_prob(held_out)
        score(name, f.mean(0), each.logsumexp(0) - math.log(len(each)), held_out)
    ridge = BayesianRidge().fit(x[known], y[known])
    mean, sd = (torch.tensor(value) for value in ridge.predict(x[~known], return_std=True))
    print()
    score("Bayesian linear regression", mean, torch.distributions.Normal(mean, sd).log_prob(held_out), held_out)


if __name__ == "__main__":
    main()
