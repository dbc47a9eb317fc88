"""How check and build grow with the program: generated programs of 100, 500 and 2,000 sites, in one process.

Each program mixes scalars, vectors, a simplex, nested plates, lets and several families, with a guide by `auto
mean_field` and one written out. Prints seconds of the processor (the least of some runs), microseconds a site, and the
exponent of growth from the smallest to the largest: 1 is linear. The goal is at most 1.1, without black, whose own
share stands beside.

    python benchmarks/growth.py [--sites 100 500 2000] [--runs 3] [--black-up-to 500]
"""

from __future__ import annotations

import argparse
import gc
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from guidedsl.backend import render
from guidedsl.pipeline import check, compile_source
from guidedsl.source import Source

GOAL = 1.1
BLOCK = 10
"""Sites in a block of the model."""

MODEL = """
  latent mu{i}  : real      ~ Normal(0, 5)
  latent tau{i} : positive  ~ HalfCauchy(2)
  latent p{i}   : unit      ~ Beta(2, 2)
  latent w{i}   : simplex[K] ~ Dirichlet(ones(K))
  latent b{i}   : real[K]   ~ Normal(0, tau{i})
  let s{i} = mu{i} + tau{i} * sum(w{i} * b{i})
  plate rows {{
    data     x{i} : real[K]
    latent   u{i} : real ~ Normal(s{i}, tau{i})
    observed y{i} : real ~ StudentT(4, u{i} + x{i} @ b{i}, 1)
    observed g{i} : bool ~ Bernoulli(p{i})
  }}
  plate rows, columns {{
    latent   v{i} : positive ~ Gamma(2, 1)
    observed c{i} : count ~ Poisson(v{i} * exp(u{i}))
  }}
"""

GUIDE = """
  param mu{i}_loc    : real     = 0
  param mu{i}_scale  : positive = 1
  param tau{i}_loc   : real     = 0
  param tau{i}_scale : positive = 0.5
  param p{i}_a       : positive = 2
  param p{i}_b       : positive = 2
  param w{i}_weights : positive[K] = 1
  param b{i}_loc     : real[K]  = 0
  param b{i}_scale   : positive[K] = 1
  mu{i}  ~ Normal(mu{i}_loc, mu{i}_scale)
  tau{i} ~ LogNormal(tau{i}_loc, tau{i}_scale)
  p{i}   ~ Beta(p{i}_a, p{i}_b)
  w{i}   ~ Dirichlet(w{i}_weights)
  b{i}   ~ Normal(b{i}_loc, b{i}_scale)
  plate rows {{
    param u{i}_loc   : real     = 0
    param u{i}_scale : positive = 1
    u{i} ~ Normal(mu{i} + u{i}_loc, u{i}_scale)
  }}
  plate rows, columns {{
    param v{i}_loc   : real     = 0
    param v{i}_scale : positive = 1
    v{i} ~ LogNormal(v{i}_loc, v{i}_scale)
  }}
"""


def program(sites: int) -> Source:
    """A file of so many sites, in blocks of ten, and two guides."""
    blocks = range(sites // BLOCK)
    model = "".join(MODEL.format(i=i) for i in blocks)
    guide = "".join(GUIDE.format(i=i) for i in blocks)
    return Source(
        "growth.guide",
        f"model Growth {{\n  dim N, M, K\n  plate rows[N] {{ plate columns[M] {{}} }}\n{model}}}\n\n"
        f"guide Auto for Growth {{ auto mean_field for rest }}\n\nguide Written for Growth {{{guide}}}\n",
    )


def seconds(work: Callable[[], object]) -> float:
    """Of the processor, with the garbage collector off, as timeit has it: its passes over all that lives grow on their
    own."""
    gc.collect()
    gc.disable()
    try:
        began = time.process_time()
        work()
        return time.process_time() - began
    finally:
        gc.enable()


def black_texts(source: Source) -> list[str]:
    """What a build gives black to lay out."""
    texts: list[str] = []
    with formatted_by(lambda text: texts.append(text) or text):
        compile_source(source)
    return texts


@contextmanager
def formatted_by(formatter: Callable[[str], str]) -> Iterator[None]:
    """Builds with another formatter in black's place."""
    before = render.format_python
    render.format_python = formatter
    try:
        yield
    finally:
        render.format_python = before


def measure(sites: int, runs: int, black: bool) -> dict[str, float]:
    """Seconds of each stage for a program of so many sites: the least of some runs, black's of one."""
    source = program(sites)
    with formatted_by(lambda text: text):
        build = min(seconds(lambda: compile_source(source)) for _ in range(runs))
    found = {"check": min(seconds(lambda: check(source)) for _ in range(runs)), "build without black": build}
    if black:
        texts = black_texts(source)
        found["black"] = seconds(lambda: [render.format_python(text) for text in texts])
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", nargs="+", type=int, default=[100, 500, 2000])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--black-up-to", type=int, default=500, help="sites for which black, which is slow, is timed")
    options = parser.parse_args()
    measure(BLOCK, 1, True)  # imports and tables
    found = {sites: measure(sites, options.runs, sites <= options.black_up_to) for sites in options.sites}
    print(f"{'':<20}" + "".join(f"{f'{sites} sites':>24}" for sites in found) + f"{'exponent':>10}")
    worst = 0.0
    for stage in found[min(found)]:
        timed = {sites: times[stage] for sites, times in found.items() if stage in times}
        cells = (f"{timed[n]:.3f} s, {timed[n] / n * 1e6:.0f} µs each" if n in timed else "not timed" for n in found)
        few, many = min(timed), max(timed)
        exponent = math.log(timed[many] / timed[few]) / math.log(many / few) if many > few else math.nan
        print(f"{stage:<20}" + "".join(f"{cell:>24}" for cell in cells) + f"{exponent:>10.2f}")
        if stage != "black":
            worst = max(worst, exponent)
    print(f"goal: an exponent of at most {GOAL} without black")
    return int(worst > GOAL)


if __name__ == "__main__":
    raise SystemExit(main())
