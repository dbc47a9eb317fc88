"""A step of SVI, in every tool at hand: steady state, a cold start, memory, and the loss that all must agree on.

Tools take turns, block by block, each in a process of its own. For each work and tool:

- a step: the median over blocks, microseconds;
- start: seconds from a cold process to the end of its first block, compilation included;
- to 1,000, 10,000 and 100,000 steps: start plus steps at the median (computed, not run);
- memory: the largest resident size of the process;
- loss: the mean of 100 estimates at the end, the same for all within its noise, or the row is marked.

    python benchmarks/steps.py [--works eight_schools ...] [--tools "guidedsl eager" Pyro ...] [--rounds 7]

NumPyro is a peer where it can be imported: pip install "guidedsl[bench]".
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).parent
TOOLS = ("guidedsl eager", "guidedsl compiled", "Pyro", "PyTorch by hand", "NumPyro update", "NumPyro scan")
WORKS = {
    "eight_schools": ("eight_schools", {}),
    "logistic": ("logistic", {}),
    "logistic_batch": ("logistic_batch", {}),
    "many_sites": ("many_sites", {}),
    "full_rank": ("full_rank", {}),
    "vae": ("vae", {}),
    "vector_1e3": ("vector", {"BENCH_LENGTH": "1000"}),
    "vector_1e5": ("vector", {"BENCH_LENGTH": "100000"}),
    "vector_1e6": ("vector", {"BENCH_LENGTH": "1000000"}),
}
SECONDS = 0.5
"""About how long a block takes."""


@dataclass
class Run:
    """A tool at work in its process."""

    tool: str
    process: subprocess.Popen[str]
    start: float = 0.0
    steps: int = 1
    times: list[float] = field(default_factory=list)

    def ask(self, line: str) -> dict[str, float]:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return self.answer()

    def answer(self) -> dict[str, float]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.tool} ended: {self.process.wait()}")
        found: dict[str, float] = json.loads(line)
        return found

    def block(self) -> float:
        """Microseconds a step over one block."""
        return self.ask(str(self.steps))["seconds"] / self.steps * 1e6


def started(tool: str, module: str, variables: dict[str, str], first: int) -> Run:
    """A tool that has done its first block."""
    command = [sys.executable, str(HERE / "_worker.py"), tool, module, str(first)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **variables}
    )
    run = Run(tool, process)
    run.start = run.answer()["seconds"]
    return run


def measured(work: str, tools: list[str], rounds: int) -> list[tuple[str, float, float, float, float]]:
    """Tool, microseconds a step, seconds to start, loss and megabytes, for one work."""
    module, variables = WORKS[work]
    runs = []
    by_hand = "lean_loss" in (HERE / "works" / f"{module}.py").read_text(encoding="utf-8")
    for tool in (tool for tool in tools if by_hand or tool != "PyTorch by hand"):
        run = started(tool, module, variables, first=100)
        for _ in range(2):
            run.block()  # a scan compiles once for each number of steps
            once = run.block()
            run.steps = max(5, min(5000, int(SECONDS / once * 1e6)))
        run.block()
        runs.append(run)
    for _ in range(rounds):
        for run in runs:
            run.times.append(run.block())
    rows = []
    for run in runs:
        end = run.ask("loss")
        rows.append((run.tool, statistics.median(run.times), run.start, end["loss"], end["megabytes"]))
        run.process.stdin.close()  # type: ignore[union-attr]
        run.process.wait()
    return rows


def show(work: str, rows: list[tuple[str, float, float, float, float]]) -> None:
    peers = [row for row in rows if not row[0].startswith("guidedsl")]
    best = min((step for _, step, *_ in peers), default=None)
    print(f"\n{work}")
    print(
        f"{'':<20}{'µs a step':>11}{'best peer / it':>16}{'start s':>9}"
        f"{'1e3 s':>8}{'1e4 s':>8}{'1e5 s':>8}{'MB':>7}{'loss':>12}"
    )
    for tool, step, start, loss, memory in rows:
        ratio = f"{best / step:.2f}" if best is not None and tool.startswith("guidedsl") else ""
        ends = "".join(f"{start + step * n / 1e6:>8.1f}" for n in (1e3, 1e4, 1e5))
        print(f"{tool:<20}{step:>11.1f}{ratio:>16}{start:>9.1f}{ends}{memory:>7.0f}{loss:>12.2f}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--works", nargs="+", choices=list(WORKS), default=list(WORKS))
    parser.add_argument("--tools", nargs="+", choices=TOOLS, default=list(TOOLS))
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    tools = [tool for tool in options.tools if not tool.startswith("NumPyro") or find_spec("numpyro") is not None]
    for work in options.works:
        show(work, measured(work, tools, options.rounds))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
