"""A step of SVI, in every tool at hand: steady state, wall time from a cold process, memory, and the loss.

Tools take turns, block by block, each in a process of its own. For each work and tool:

- a step: the median over blocks, microseconds;
- start: seconds from a cold process to the end of its first hundred steps, compilation included;
- to 1,000 steps: run, in hundreds, where that takes less than half a minute, and else from the median;
- to 10,000 and 100,000 steps: from there on at the median;
- memory: the largest resident size of the process;
- loss: the mean of 100 estimates after 1,000 steps, with the same starting values and learning rate everywhere. Tools
  whose loss is another than the others' end the run with an error.

Ours imports a built module, and compiles into an empty cache; "again" is a second process that finds it filled.

    python benchmarks/steps.py [--works eight_schools ...] [--tools "guidedsl eager" Pyro ...] [--rounds 7]
                               [--device cuda]

NumPyro is a peer where it can be imported: pip install "guidedsl[bench]".
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from _bytecode import as_installed

from guidedsl.pipeline import compile_source
from guidedsl.source import Source

HERE = Path(__file__).parent
OURS, AGAIN = "guidedsl compiled", "guidedsl again"
TOOLS = ("guidedsl eager", OURS, AGAIN, "Pyro", "PyTorch by hand", "NumPyro update", "NumPyro scan")
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
LONGEST = 30.0
"""Seconds that a tool gets for its first thousand steps, of which the first hundred may take longer."""
GIVEN_UP = 120.0
"""Seconds after which a tool that has not got so far is given up."""


@dataclass
class Run:
    """A tool at work in its process."""

    tool: str
    process: subprocess.Popen[str]
    start: float = 0.0
    thousand: float | None = None
    steps: int = 1
    times: list[float] = field(default_factory=list)
    end: dict[str, float] = field(default_factory=dict)

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

    @property
    def step(self) -> float:
        """Microseconds."""
        return statistics.median(self.times)

    def to(self, steps: float) -> float:
        """Seconds from a cold process to so many steps."""
        if self.thousand is None:
            return self.start + (steps - 100) * self.step / 1e6
        return self.thousand + (steps - 1000) * self.step / 1e6

    @property
    def figures(self) -> list[float]:
        return [self.step, self.start, self.to(1e3), self.to(1e4), self.to(1e5), self.end["megabytes"]]


def started(tool: str, module: str, variables: dict[str, str]) -> Run | None:
    """A tool that has done its first thousand steps, or as many as there is time for. None if it is given up."""
    command = [sys.executable, str(HERE / "_worker.py"), tool, module, "100"]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **variables},  # a module just built is not compiled yet
    )
    run = Run(tool, process)
    limit = threading.Timer(GIVEN_UP, process.kill)
    limit.start()
    try:
        return begun(run)
    except RuntimeError:
        if process.returncode != -signal.SIGKILL:
            raise
        print(f"{run.tool}: given up after {GIVEN_UP:.0f} s", flush=True)
        return None
    finally:
        limit.cancel()


def begun(run: Run) -> Run:
    """The same tool after its first thousand steps, and a block of the length that all others have."""
    run.start = run.answer()["seconds"]
    run.steps = 100
    spent, last = run.start, 0.0
    for _ in range(9):
        if spent + last > LONGEST:
            break
        last = run.ask("100")["seconds"]
        spent += last
    else:
        run.thousand = spent
        run.end = run.ask("loss")
    once = last / 100 or run.ask("5")["seconds"] / 5
    run.steps = max(5, min(5000, int(SECONDS / once)))
    run.block()  # a scan compiles once for each number of steps
    return run


def measured(work: str, tools: list[str], rounds: int, device: str) -> list[Run]:
    """The tools that have the work, timed."""
    module, variables = WORKS[work]
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        source = Source("bench.guide", import_module(f"works.{module}").SPEC)
        Path(folder, "bench_guide.py").write_text(compile_source(source).python, encoding="utf-8")
        given = {**variables, "BENCH_MODULES": folder, "GUIDEDSL_CACHE": f"{folder}/cache", "BENCH_DEVICE": device}
        for tool in tools:
            run = started(tool, module, given)
            if run is not None:
                runs.append(run)
        for _ in range(rounds):
            for run in runs:
                run.times.append(run.block())
        for run in runs:
            run.end = {**run.ask("loss"), **({"loss": run.end["loss"], "error": run.end["error"]} if run.end else {})}
            run.process.stdin.close()  # type: ignore[union-attr]
            run.process.wait()
    return runs


def apart(work: str, runs: list[Run]) -> list[str]:
    """The tools whose loss after 1,000 steps is not that of the others."""
    tolerance = float(getattr(import_module(f"works.{WORKS[work][0]}"), "TOLERANCE", 0.01))
    ran = [run for run in runs if run.thousand is not None]
    middle = statistics.median(run.end["loss"] for run in ran) if ran else 0.0
    return [
        run.tool
        for run in ran
        if abs(run.end["loss"] - middle) > 5 * max(other.end["error"] for other in ran) + tolerance * abs(middle)
    ]


def show(work: str, runs: list[Run]) -> dict[str, list[float]]:
    """Prints a work's table, and returns the ratios of the best peer's figures to ours."""
    print(f"\n{work}")
    print(f"{'':<20}{'µs a step':>11}{'start s':>9}{'1e3 s':>8}{'1e4 s':>8}{'1e5 s':>8}{'MB':>7}{'loss':>12}")
    for run in runs:
        step, start, *ends, memory = run.figures
        loss = f"{run.end['loss']:>12.2f}" if run.thousand is not None else f"{'':>12}"
        print(f"{run.tool:<20}{step:>11.1f}{start:>9.1f}{''.join(f'{end:>8.1f}' for end in ends)}{memory:>7.0f}{loss}")
    peers = [run.figures for run in runs if not run.tool.startswith("guidedsl")]
    ratios = {}
    for run in runs:
        if peers and run.tool.startswith("guidedsl"):
            ratios[run.tool] = [min(peer) / own for *peer, own in zip(*peers, run.figures, strict=True)]
            step, start, *ends, memory = (f"{ratio:.2f}" for ratio in ratios[run.tool])
            line = f"{step:>11}{start:>9}{''.join(f'{end:>8}' for end in ends)}{memory:>7}"
            print(f"{'peer / ' + run.tool.removeprefix('guidedsl '):<20}{line}")
    sys.stdout.flush()
    return ratios


def machine(device: str) -> str:
    """The processor, the card if one is at work, and the versions of the tools."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    except OSError:
        pass
    parts = [f"{name}, {os.cpu_count()} cores"]
    if device != "cpu":
        import torch

        parts.append(torch.cuda.get_device_name(device))
    for package in ("torch", "pyro-ppl", "numpyro", "jax"):
        with suppress(PackageNotFoundError):
            parts.append(f"{package} {version(package)}")
    return "; ".join([*parts, f"Python {platform.python_version()}, {platform.system()}"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--works", nargs="+", choices=list(WORKS), default=list(WORKS))
    parser.add_argument("--tools", nargs="+", choices=TOOLS, default=list(TOOLS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    as_installed()
    sys.path.insert(0, str(HERE))
    tools = [tool for tool in options.tools if not tool.startswith("NumPyro") or find_spec("numpyro") is not None]
    print(machine(options.device), flush=True)
    wrong, behind = [], []
    for work in options.works:
        runs = measured(work, tools, options.rounds, options.device)
        wrong += [f"{work}: {tool}" for tool in apart(work, runs)]
        names = ("a step", "the start", "1,000 steps", "10,000 steps", "100,000 steps", "memory")
        for ratio, name in zip(show(work, runs).get(OURS, []), names, strict=False):
            behind += [f"{work}, {name}: {ratio:.2f}"] if ratio < 1 else []
    print("\nnot ahead: " + ("; ".join(behind) or "nowhere"))
    if wrong:
        print(f"another loss: {'; '.join(wrong)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
