"""An eager step of eight schools: the generated guide against the same guide by hand in Pyro, interleaved.

Prints the median microseconds a step of each and their ratio. The goal is at least four times as fast.

    python benchmarks/eager_step.py [--blocks 20] [--steps 50]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pyro
import pyro.distributions as pd
import torch
from pyro.infer import SVI as PyroSVI
from pyro.infer import Trace_ELBO
from pyro.optim import Adam as PyroAdam
from torch.distributions import constraints

import guidedsl

SPEC = Path(__file__).parent.parent / "examples" / "eight_schools" / "eight_schools.guide"
Y = [28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0]
SIGMA = [15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0]
GOAL = 4.0


def generated_step() -> Callable[[], object]:
    module = guidedsl.compile(SPEC)
    data = module.EightSchools.data(y=Y, sigma=SIGMA, dtype=torch.float32)
    svi = guidedsl.SVI(
        module.EightSchools, module.MeanField, guidedsl.optim.Adam(lr=0.01), store=guidedsl.ParamStore(), seed=0
    )
    return lambda: svi.step(data)


def pyro_step() -> Callable[[], object]:
    y, sigma = torch.tensor(Y), torch.tensor(SIGMA)

    def model() -> None:
        mu = pyro.sample("mu", pd.Normal(0.0, 5.0))
        tau = pyro.sample("tau", pd.HalfCauchy(5.0))
        with pyro.plate("schools", 8):
            theta = pyro.sample("theta", pd.Normal(mu, tau))
            pyro.sample("y", pd.Normal(theta, sigma), obs=y)

    def guide() -> None:
        mu_loc = pyro.param("mu_loc", torch.tensor(0.0))
        mu_scale = pyro.param("mu_scale", torch.tensor(1.0), constraint=constraints.positive)
        tau_loc = pyro.param("tau_loc", torch.tensor(0.0))
        tau_scale = pyro.param("tau_scale", torch.tensor(0.5), constraint=constraints.positive)
        pyro.sample("mu", pd.Normal(mu_loc, mu_scale))
        pyro.sample("tau", pd.LogNormal(tau_loc, tau_scale))
        theta_loc = pyro.param("theta_loc", torch.zeros(8))
        theta_scale = pyro.param("theta_scale", torch.ones(8), constraint=constraints.positive)
        with pyro.plate("schools", 8):
            pyro.sample("theta", pd.Normal(theta_loc, theta_scale))

    pyro.clear_param_store()
    svi = PyroSVI(model, guide, PyroAdam({"lr": 0.01}), Trace_ELBO())
    return lambda: svi.step()


def block(step: Callable[[], object], steps: int) -> float:
    """Microseconds a step over one block."""
    started = time.perf_counter()
    for _ in range(steps):
        step()
    return (time.perf_counter() - started) / steps * 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=20)
    parser.add_argument("--steps", type=int, default=50)
    options = parser.parse_args()
    torch.manual_seed(0)
    ours, theirs = generated_step(), pyro_step()
    for step in (ours, theirs):
        block(step, 20)
    pairs = [(block(ours, options.steps), block(theirs, options.steps)) for _ in range(options.blocks)]
    ours_us, theirs_us = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(theirs / ours for ours, theirs in pairs)
    print(f"{'eight schools, mean field, float32':<40} {'µs a step':>10}")
    print(f"{'guidedsl, generated, eager':<40} {ours_us:>10.0f}")
    print(f"{'Pyro ' + pyro.__version__ + ', hand-written guide':<40} {theirs_us:>10.0f}")
    print(f"{'ratio (goal: at least ' + format(GOAL, '.0f') + ')':<40} {ratio:>10.1f}")
    return int(ratio < GOAL)


if __name__ == "__main__":
    raise SystemExit(main())
