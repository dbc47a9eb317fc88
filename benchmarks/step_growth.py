"""How a step grows: with sites, the size of a plate, particles and the size of an event, eager and compiled.

Prints microseconds a step, the median of some blocks, and the exponent of growth between the two largest: 1 is linear.
Beside the size of a plate stands the machine's floor: drawing a step's normal numbers, and copying once each number
that Adam has to read and write.

    python benchmarks/step_growth.py [--axes sites plate particles event] [--plot docs/images/step_growth.svg]
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import guidedsl
from guidedsl.modules import load_source
from guidedsl.source import Source

SECONDS = 0.3
"""About how long a block takes."""
ROUNDS = 5

PLATE = """
model M {
  dim N
  latent mu : real ~ Normal(0, 1)
  plate row[N] {
    latent z : real ~ Normal(mu, 1)
    observed y : real ~ Normal(z, 1)
  }
}
guide G for M { auto mean_field for rest }
"""
EVENT = """
model M {
  dim N, K
  latent mu : real[K] ~ Normal(0, 1)
  plate row[N] { observed y : real[K] ~ Normal(mu, 1) }
}
guide G for M { auto mean_field for rest }
"""


def sites(count: int) -> str:
    lines = [f"  latent z{n} : real ~ Normal({f'z{n - 1}' if n else 1}, 1)" for n in range(count)]
    return "\n".join(["model M {", *lines, "}", "guide G for M { auto mean_field for rest }"])


Case = tuple[str, dict[str, Any], int]
AXES: dict[str, tuple[str, tuple[int, ...], Callable[[int], Case]]] = {
    "sites": ("scalar sites", (1, 10, 100, 500, 2000), lambda n: (sites(n), {}, 1)),
    "plate": ("rows of a plate", (100, 1000, 10_000, 100_000, 1_000_000), lambda n: (PLATE, {"y": torch.zeros(n)}, 1)),
    "particles": ("particles", (1, 4, 16, 64), lambda n: (PLATE, {"y": torch.zeros(1000)}, n)),
    "event": ("numbers of an event", (1, 8, 64, 512), lambda n: (EVENT, {"y": torch.zeros(100, n)}, 1)),
}


def stepped(case: Case, engine: str) -> float:
    """Microseconds a step."""
    text, fields, particles = case
    module = load_source(Source("growth.guide", text))
    data = module.M.data(**fields, dtype=torch.float32)
    loss = guidedsl.ELBO(num_particles=particles)
    svi = guidedsl.SVI(
        module.M,
        module.G,
        guidedsl.optim.Adam(lr=0.001),
        loss=loss,
        store=guidedsl.ParamStore(),
        seed=0,
        engine=engine,  # type: ignore[arg-type]
    )
    return timed(lambda steps: svi.run(data, steps))


def floor(rows: int) -> float:
    """Microseconds to draw a step's numbers and to move those of Adam: x, gradient and two moments of loc and scale."""
    noise, moved = torch.empty(rows), torch.zeros(4, 2 * rows)

    def block(steps: int) -> None:
        for _ in range(steps):
            noise.normal_()
            moved.add_(1.0)

    return timed(block)


def timed(block: Callable[[int], object]) -> float:
    """Microseconds a step, the median over blocks."""
    block(2)
    began = time.perf_counter()
    block(10)
    middle = time.perf_counter()
    block(20)
    more = time.perf_counter() - middle
    # A call has a cost of its own, which must not stand for that of its steps.
    once = max((more - (middle - began)) / 10, more / 1000)
    steps = max(5, min(1000, int(SECONDS / once)))
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        block(steps)
        times.append((time.perf_counter() - began) / steps * 1e6)
    return statistics.median(times)


def measured(axis: str) -> dict[str, list[float]]:
    label, sizes, case = AXES[axis]
    found = {engine: [stepped(case(size), engine) for size in sizes] for engine in ("eager", "compiled")}
    if axis == "plate":
        found["floor"] = [floor(size) for size in sizes]
    print(f"\n{label:<22}{''.join(f'{size:>12,}' for size in sizes)}{'exponent':>11}")
    for name, times in found.items():
        exponent = math.log(times[-1] / times[-2]) / math.log(sizes[-1] / sizes[-2])
        print(f"{name:<22}{''.join(f'{step:>12.1f}' for step in times)}{exponent:>11.2f}", flush=True)
    return found


def plot(found: dict[str, dict[str, list[float]]], path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, places = pyplot.subplots(1, len(found), figsize=(3.4 * len(found), 3.2), sharey=True, squeeze=False)
    styles = {"eager": ("C0", "-"), "compiled": ("C1", "-"), "floor": ("0.5", "--")}
    for place, (axis, series) in zip(places[0], found.items(), strict=True):
        label, sizes, _ = AXES[axis]
        for name, times in series.items():
            color, line = styles[name]
            place.loglog(sizes, times, marker="o", markersize=3, color=color, linestyle=line, label=name)
        place.set_xlabel(label)
        place.grid(alpha=0.3)
    places[0][0].set_ylabel("µs a step")
    next(p for p, a in zip(places[0], found, strict=True) if a == "plate" or len(found) == 1).legend(frameon=False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--axes", nargs="+", choices=list(AXES), default=list(AXES))
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(2)
    print("µs a step")
    found = {axis: measured(axis) for axis in options.axes}
    if options.plot is not None:
        plot(found, options.plot)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
