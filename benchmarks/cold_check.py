"""`guidedsl check` on a 100-line file from a cold process, beside `import torch`, interleaved.

Prints the median seconds of each and their ratio. The goal is at most a quarter.

    python benchmarks/cold_check.py [--runs 11]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _bytecode import as_installed

GOAL = 0.25


def program(lines: int) -> str:
    """A model and a guide of about `lines` lines."""
    sites = (lines - 12) // 4
    model = "\n".join(f"  latent z{i} : real ~ Normal(0, {i + 1})" for i in range(sites))
    params = "\n".join(
        f"  param z{i}_loc   : real     = 0\n  param z{i}_scale : positive = 1\n  z{i} ~ Normal(z{i}_loc, z{i}_scale)"
        for i in range(sites)
    )
    total = " + ".join(f"z{i}" for i in range(sites))
    return (
        f"model M {{\n  dim N\n{model}\n  plate rows[N] {{\n    data x : real\n"
        f"    observed y : real ~ Normal(({total}) * x, 1)\n  }}\n}}\n\nguide G for M {{\n{params}\n}}\n"
    )


def seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=11)
    options = parser.parse_args()
    as_installed()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hundred.guide"
        path.write_text(program(100))
        check = [sys.executable, "-m", "guidedsl", "check", str(path)]
        torch = [sys.executable, "-c", "import torch"]
        for command in (check, torch):
            seconds(command)
        pairs = [(seconds(check), seconds(torch)) for _ in range(options.runs)]
    check_s, torch_s = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    print(f"{'guidedsl check, 100 lines, cold':<40} {check_s:>8.3f} s")
    print(f"{'import torch, cold':<40} {torch_s:>8.3f} s")
    print(f"{'ratio (goal: at most ' + format(GOAL, '.2f') + ')':<40} {ratio:>8.2f}")
    return int(ratio > GOAL)


if __name__ == "__main__":
    raise SystemExit(main())
