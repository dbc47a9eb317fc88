"""The exact posterior of the two sds of nile.guide, and its log evidence: Kalman's filter on a grid of them.

python exact.py
"""

from __future__ import annotations

import json
import math
from pathlib import Path

DRIFT = [0.01 + 0.02 * n for n in range(120)]
ERROR = [0.8 + 0.02 * n for n in range(70)]


def log_likelihood(flow: list[float | None], drift: float, error: float) -> float:
    """log p(flow | drift, error), the levels integrated out (Kalman 1960)."""
    mean, variance, total = 10.0, 25.0, 0.0
    for y in flow:
        variance += drift**2
        if y is None:
            continue
        whole = variance + error**2
        total -= 0.5 * ((y - mean) ** 2 / whole + math.log(2 * math.pi * whole))
        mean, variance = mean + variance / whole * (y - mean), variance * error**2 / whole
    return total


def half_normal(x: float, scale: float) -> float:
    return 0.5 * math.log(2 / math.pi) - math.log(scale) - 0.5 * (x / scale) ** 2


def main() -> None:
    flow = json.loads(Path(__file__).with_name("nile.json").read_text())["flow"]
    grid = [(d, e) for d in DRIFT for e in ERROR]
    logs = [log_likelihood(flow, d, e) + half_normal(d, 1) + half_normal(e, 3) for d, e in grid]
    most = max(logs)
    weights = [math.exp(value - most) for value in logs]
    total = sum(weights)
    print(f"log evidence {most + math.log(total * 0.02 * 0.02):.3f}")
    for name, axis in (("drift", 0), ("error", 1)):
        mean = sum(w * point[axis] for w, point in zip(weights, grid, strict=True)) / total
        square = sum(w * point[axis] ** 2 for w, point in zip(weights, grid, strict=True)) / total
        print(f"{name}: mean {mean:.3f}, sd {math.sqrt(square - mean**2):.3f}")


if __name__ == "__main__":
    main()
