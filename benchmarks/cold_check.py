"""`guidedsl check` and `build` on a 100-line file, and importing what was built, from a cold process.

Beside `import torch`, interleaved; prints the median seconds of each and their ratios to it. The module imports it too.

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

GOALS = {"check": 0.25, "build": 0.5, "the module, beyond torch": 0.05}


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


def seconds(command: list[str], folder: str) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder)
    return time.perf_counter() - started


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=11)
    options = parser.parse_args()
    as_installed()
    guidedsl = [sys.executable, "-m", "guidedsl"]
    commands = {
        "check": [*guidedsl, "check", "hundred.guide"],
        "build": [*guidedsl, "build", "hundred.guide"],
        "the module, beyond torch": [sys.executable, "-c", "import hundred_guide"],
        "import torch": [sys.executable, "-c", "import torch"],
    }
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "hundred.guide").write_text(program(100))
        for command in commands.values():
            seconds(command, folder)
        runs = [{name: seconds(command, folder) for name, command in commands.items()} for _ in range(options.runs)]
    behind = False
    print(f"{'cold, 100 lines':<28}{'s':>8}{'ratio':>8}{'goal':>8}")
    for name in commands:
        ratio = statistics.median(run[name] / run["import torch"] for run in runs) - ("beyond" in name)
        goal = GOALS.get(name, 1.0)
        behind = behind or ratio > goal
        print(f"{name:<28}{statistics.median(run[name] for run in runs):>8.3f}{ratio:>8.2f}{goal:>8.2f}")
    return int(behind)


if __name__ == "__main__":
    raise SystemExit(main())
