"""200 scalar sites in a chain, each a normal around the one before, mean field."""

from __future__ import annotations

from typing import Any

SITES = 200


def _spec() -> str:
    lines = ["model Sites {", "  latent z0 : real ~ Normal(1, 1)"]
    lines += [f"  latent z{n} : real ~ Normal(z{n - 1}, 1)" for n in range(1, SITES)]
    lines += ["}", "guide MeanField for Sites {"]
    for n in range(SITES):
        lines += [f"  param l{n} : real = 0", f"  param s{n} : positive = 0.1"]
    lines += [f"  z{n} ~ Normal(l{n}, s{n})" for n in range(SITES)]
    return "\n".join([*lines, "}", ""])


SPEC = _spec()
MODEL, GUIDE = "Sites", "MeanField"


def fields() -> dict[str, Any]:
    return {}


def pyro_pair(data: dict[str, Any]) -> tuple[Any, Any]:
    import pyro
    import pyro.distributions as dist
    import torch
    from torch.distributions import constraints

    def model() -> None:
        z: Any = 1.0
        for n in range(SITES):
            z = pyro.sample(f"z{n}", dist.Normal(z, 1.0))

    def guide() -> None:
        for n in range(SITES):
            loc = pyro.param(f"l{n}", torch.tensor(0.0))
            scale = pyro.param(f"s{n}", torch.tensor(0.1), constraint=constraints.positive)
            pyro.sample(f"z{n}", dist.Normal(loc, scale))

    return model, guide


def numpyro_pair(data: dict[str, Any]) -> tuple[Any, Any]:
    import numpyro
    import numpyro.distributions as dist
    from numpyro.distributions import constraints

    def model() -> None:
        z: Any = 1.0
        for n in range(SITES):
            z = numpyro.sample(f"z{n}", dist.Normal(z, 1.0))

    def guide() -> None:
        for n in range(SITES):
            loc = numpyro.param(f"l{n}", 0.0)
            scale = numpyro.param(f"s{n}", 0.1, constraint=constraints.positive)
            numpyro.sample(f"z{n}", dist.Normal(loc, scale))

    return model, guide


def lean_loss(data: dict[str, Any]) -> tuple[list[Any], Any]:
    import math

    import torch

    flat = torch.cat([torch.zeros(SITES), torch.full((SITES,), math.log(0.1))]).requires_grad_()
    first = torch.ones(1)

    def loss() -> Any:
        noise = torch.randn(SITES)
        loc, log_scale = flat[:SITES], flat[SITES:]
        z = loc + log_scale.exp() * noise
        log_q = -(log_scale + 0.5 * noise * noise).sum()
        return log_q + 0.5 * (z - torch.cat([first, z[:-1]])).square().sum()

    return [flat], loss
