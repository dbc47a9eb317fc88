"""One tool on one work, in a process of its own: blocks of steps on demand, so that tools can take turns.

Reads lines from stdin: a number of steps, or `loss`, or nothing to end. Writes one JSON line for each.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

STARTED = time.perf_counter()
DEVICE = os.environ.get("BENCH_DEVICE", "cpu")

sys.path.insert(0, str(Path(__file__).parent))
Block = Callable[[int], None]


def rate(work: Any) -> float:
    """The learning rate, for all tools."""
    return float(getattr(work, "RATE", 0.01))


def torch_at_work() -> Any:
    import torch

    torch.set_num_threads(2)
    if DEVICE != "cpu":
        torch.set_default_device(DEVICE)
    return torch


def waited() -> None:
    """Returns when the device is done."""
    if DEVICE != "cpu":
        import torch

        torch.cuda.synchronize()


def ours(work: Any, engine: str) -> tuple[Block, Callable[[], float]]:
    """The module that `guidedsl build` wrote, imported as a user would."""
    torch = torch_at_work()
    sys.path.insert(0, os.environ["BENCH_MODULES"])
    import bench_guide as module

    import guidedsl

    model, guide = getattr(module, work.MODEL), getattr(module, work.GUIDE)
    data = model.data(**work.fields(), dtype=torch.float32, device=DEVICE)
    optim = guidedsl.optim.Adam(lr=rate(work))
    svi = guidedsl.SVI(model, guide, optim, store=guidedsl.ParamStore(), seed=0, engine=engine)  # type: ignore[arg-type]

    def block(steps: int) -> None:
        svi.run(data, steps)

    return block, lambda: svi.evaluate_loss(data)


def pyro(work: Any) -> tuple[Block, Callable[[], float]]:
    torch = torch_at_work()
    import pyro as library
    from pyro.infer import SVI, Trace_ELBO
    from pyro.optim import Adam

    data = {k: torch.as_tensor(v, device=DEVICE) for k, v in work.fields().items() if hasattr(v, "shape")}
    model, guide = work.pyro_pair(data)
    library.enable_validation(False)
    library.set_rng_seed(0)
    svi = SVI(model, guide, Adam({"lr": rate(work)}), Trace_ELBO())

    def block(steps: int) -> None:
        for _ in range(steps):
            svi.step()

    return block, lambda: float(svi.evaluate_loss())


def lean(work: Any) -> tuple[Block, Callable[[], float]]:
    torch = torch_at_work()
    torch.manual_seed(0)
    data = {k: torch.as_tensor(v, device=DEVICE) for k, v in work.fields().items() if hasattr(v, "shape")}
    leaves, loss = work.lean_loss(data)
    optim = torch.optim.Adam(leaves, lr=rate(work), fused=True)

    def block(steps: int) -> None:
        for _ in range(steps):
            optim.zero_grad()
            loss().backward()
            optim.step()

    return block, lambda: float(loss().detach())


def numpyro(work: Any, scan: bool) -> tuple[Block, Callable[[], float]]:
    import jax
    import jax.numpy as jnp
    from numpyro.infer import SVI, Trace_ELBO
    from numpyro.optim import Adam

    data = {k: jnp.asarray(v) for k, v in work.fields().items() if hasattr(v, "shape")}
    model, guide = work.numpyro_pair(data)
    svi = SVI(model, guide, Adam(rate(work)), Trace_ELBO())
    state = [svi.init(jax.random.PRNGKey(0))]
    update = jax.jit(svi.update)
    compiled: dict[int, Any] = {}

    def scanned(steps: int) -> None:
        if steps not in compiled:
            compiled[steps] = jax.jit(lambda s: jax.lax.scan(lambda c, _: svi.update(c), s, None, length=steps))
        state[0], losses = compiled[steps](state[0])
        losses.block_until_ready()

    def looped(steps: int) -> None:
        for _ in range(steps):
            state[0], loss = update(state[0])
        loss.block_until_ready()

    evaluate = jax.jit(svi.evaluate)
    drawn = [0]

    def loss() -> float:
        drawn[0] += 1
        return float(evaluate(state[0]._replace(rng_key=jax.random.PRNGKey(drawn[0]))))

    return (scanned if scan else looped), loss


TOOLS: dict[str, Callable[[Any], tuple[Block, Callable[[], float]]]] = {
    "guidedsl eager": lambda work: ours(work, "eager"),
    "guidedsl compiled": lambda work: ours(work, "compiled"),
    "guidedsl again": lambda work: ours(work, "compiled"),
    "Pyro": pyro,
    "PyTorch by hand": lean,
    "NumPyro update": lambda work: numpyro(work, scan=False),
    "NumPyro scan": lambda work: numpyro(work, scan=True),
}


def timed(block: Block, steps: int) -> float:
    began = time.perf_counter()
    block(steps)
    waited()
    return time.perf_counter() - began


def estimate(loss: Callable[[], float]) -> dict[str, float]:
    """The mean of a hundred estimates, and its standard error."""
    losses = [loss() for _ in range(100)]
    mean = sum(losses) / len(losses)
    variance = sum((one - mean) ** 2 for one in losses) / (len(losses) - 1)
    return {"loss": mean, "error": (variance / len(losses)) ** 0.5}


def main() -> None:
    tool, work = sys.argv[1], import_module(f"works.{sys.argv[2]}")
    block, loss = TOOLS[tool](work)
    block(int(sys.argv[3]))
    waited()
    print(json.dumps({"seconds": time.perf_counter() - STARTED}), flush=True)
    for line in sys.stdin:
        if line.strip() == "loss":
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(json.dumps({**estimate(loss), "megabytes": memory}), flush=True)
        elif line.strip():
            print(json.dumps({"seconds": timed(block, int(line))}), flush=True)


if __name__ == "__main__":
    main()
