"""Fit a Bayesian net to simulated data with a gap, and look at its uncertainty inside the gap and outside."""

import importlib
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

HERE = Path(__file__).resolve().parent
NOISE = 0.1
STEPS = 1500


def build() -> Any:
    """The generated module, as any program would import it."""
    guidedsl = Path(sys.executable).with_name("guidedsl")
    subprocess.run([guidedsl, "build", HERE / "bayesian_net.guide"], check=True)
    sys.path.insert(0, str(HERE))
    return importlib.import_module("bayesian_net_guide")


def truth(x: Tensor) -> Tensor:
    return torch.sin(3 * x)


def main() -> None:
    nets = build()
    generator = torch.Generator().manual_seed(0)
    seen = torch.cat((torch.linspace(-1.5, -0.4, 25), torch.linspace(0.4, 1.5, 25)))
    gap = torch.linspace(-0.3, 0.3, 13)
    beyond = torch.linspace(1.8, 3.0, 13)
    between = (seen[:-1] + seen[1:]) / 2
    held_out = {"between seen points": between[between.abs() > 0.4], "in the gap": gap, "beyond": beyond}
    x = torch.cat((seen, *held_out.values()))
    y = truth(x) + NOISE * torch.randn(len(x), generator=generator)
    known = torch.arange(len(x)) < len(seen)
    data = nets.BayesianNet.data(x=x[:, None], y=y.where(known, torch.nan), known=known.double())
    start = time.perf_counter()
    fit = nets.MeanField.fit(data, seed=1, steps=STEPS, lr=0.02)
    print(f"{fit}\n{time.perf_counter() - start:.1f} s, sigma {fit.mean()['sigma']:.3f} (true: {NOISE})")
    draws = fit.sample(4000)
    first = len(seen)
    for what, points in held_out.items():
        rows = slice(first, first + len(points))
        first += len(points)
        f = draws["f"][:, rows]
        error = (f.mean(0) - truth(points)).square().mean().sqrt()
        each = torch.distributions.Normal(f, draws["sigma"][:, None]).log_prob(y[rows])
        density = (each.logsumexp(0) - math.log(len(each))).mean()
        print(f"{what:20} sd of f {f.std(0).mean():.3f}   error of its mean {error:.3f}   log density {density:.2f}")


if __name__ == "__main__":
    main()
