"""Fit a net that maps readings to a posterior; compare it with the exact one, on groups that it has not seen too."""

import importlib
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).resolve().parent
MU, TAU, SIGMA, K = 1.0, 2.0, 1.5, 4


def build() -> Any:
    """The generated module, as any program would import it."""
    guidedsl = Path(sys.executable).with_name("guidedsl")
    subprocess.run([guidedsl, "build", HERE / "amortised.guide"], check=True)
    sys.path.insert(0, str(HERE))
    return importlib.import_module("amortised_guide")


def simulate(groups: int, seed: int) -> torch.Tensor:
    """Readings [groups, K] of the model itself."""
    generator = torch.Generator().manual_seed(seed)
    theta = MU + TAU * torch.randn(groups, 1, generator=generator)
    return theta + SIGMA * torch.randn(groups, K, generator=generator)


def exact(y: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Posterior means [groups] and the sd that all groups share."""
    precision = 1 / TAU**2 + K / SIGMA**2
    return (MU / TAU**2 + y.sum(-1) / SIGMA**2) / precision, precision**-0.5


def log_evidence(y: torch.Tensor) -> float:
    """Log p(y), which the ELBO cannot exceed: y is normal with covariance sigma² I + tau²."""
    covariance = SIGMA**2 * torch.eye(K) + TAU**2
    return float(torch.distributions.MultivariateNormal(torch.full((K,), MU), covariance).log_prob(y).sum())


def main() -> None:
    readings = build()
    seen, unseen = simulate(2000, 1), simulate(2000, 2)
    data = readings.Readings.data(y=seen, mu=MU, tau=TAU, sigma=SIGMA)
    print(f"log evidence {log_evidence(seen):.1f}, exact sd {exact(seen)[1]:.4f}")
    for name in ("Linear", "Amortised"):
        start = time.perf_counter()
        fit = getattr(readings, name).fit(data, seed=1)
        print(f"\n{fit}\n{time.perf_counter() - start:.1f} s, gap {log_evidence(seen) - fit.elbo:.2f} nats")
        net = fit.store.modules[f"{name}.posterior"]
        for what, y in (("seen", seen), ("unseen", unseen)):
            mean, sd = exact(y)
            with torch.no_grad():
                loc, scale = net(y)
            error = ((loc - mean) / sd).square().mean().sqrt()
            spread = math.exp((scale / sd).log().abs().mean())
            print(f"{what:7} groups: means off by {error:.3f} posterior sds (rms), sds by a factor {spread:.3f}")


if __name__ == "__main__":
    main()
