"""Fit the posteriors beside this file and compare each with its reference, in one table.

The data and the reference summaries are read in place, from the folder that GUIDEDSL_CASES names:

    GUIDEDSL_CASES=path/to/cases python examples/posteriors/compare.py [--seeds 1 2 3] [name ...]

The table is Markdown. The exit code is 1 if a fit that is judged says that it converged and misses its tolerances.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import guidedsl

HERE = Path(__file__).parent
GUIDES = {"full_rank": "FullRank", "mean_field": "MeanField"}


@dataclass(frozen=True)
class Scalar:
    """One scalar of a posterior beside its reference: the mean's error in reference sds, the ratio of sds."""

    name: str
    mean: float
    sd: float
    reference_mean: float
    reference_sd: float
    allowed_error: float
    allowed_ratio: tuple[float, float]

    @property
    def error(self) -> float:
        return abs(self.mean - self.reference_mean) / self.reference_sd

    @property
    def ratio(self) -> float:
        return self.sd / self.reference_sd

    @property
    def met(self) -> bool:
        return self.error < self.allowed_error and self.allowed_ratio[0] <= self.ratio <= self.allowed_ratio[1]


@dataclass(frozen=True)
class Comparison:
    """One fit: every scalar, the fraction of them that must meet the tolerance, and how the fit went."""

    case: str
    family: str
    seed: int
    scalars: tuple[Scalar, ...]
    required: float
    converged: bool
    steps: int
    seconds: float
    judged: bool

    @property
    def fraction(self) -> float:
        return sum(scalar.met for scalar in self.scalars) / len(self.scalars)

    @property
    def met(self) -> bool:
        return self.fraction >= self.required

    @property
    def misleading(self) -> bool:
        """Whether it claims what is not so."""
        return self.judged and self.converged and not self.met


def load(case: str) -> ModuleType:
    """The generated module of a case, built in memory."""
    return guidedsl.compile(HERE / case / "model.guide")


def zero_based(name: str) -> str:
    """`theta[1]` of a reference is `theta[0]` here."""
    return re.sub(r"\d+(?=[,\]])", lambda match: str(int(match[0]) - 1), name) if "[" in name else name


def compare(cases: Path, case: str, family: str, seed: int, module: ModuleType | None = None) -> Comparison:
    """Fit a case with nothing tuned and compare it with its reference."""
    folder = cases / case
    reference = json.loads((folder / "reference.json").read_text())["parameters"]
    tolerances = json.loads((folder / "tolerances.json").read_text())[family]
    guide = getattr(module or load(case), GUIDES[family])
    data = guide.model.data(json.loads((folder / "data.json").read_text()))
    started = time.perf_counter()
    fit = guide.fit(data, seed=seed)
    seconds = time.perf_counter() - started
    rows = {row.name: row for row in fit.summary(num_draws=20000).rows}
    scalars = tuple(
        _scalar(name, rows[zero_based(name)], values, tolerances, family) for name, values in reference.items()
    )
    required = tolerances["fraction_of_parameters_required"]
    judged = tolerances.get("judge", "yes") == "yes"
    return Comparison(case, family, seed, scalars, required, fit.converged, fit.steps, seconds, judged)


def _scalar(name: str, row: Any, reference: dict[str, float], tolerances: dict[str, Any], family: str) -> Scalar:
    if family == "full_rank":
        rule = {**tolerances["default"], **tolerances["exceptions"].get(name, {})}
        error, ratio = rule["max_abs_mean_diff_over_ref_sd"], tuple(rule["sd_ratio"])
    else:
        default = tolerances["default_max_abs_mean_diff_over_ref_sd"]
        error = tolerances["mean_exceptions"].get(name, default)
        expected = tolerances["expected_sd_ratio"].get(name, 1.0)
        slack = tolerances["sd_ratio_relative_tolerance"]
        ratio = (expected * (1 - slack), expected * (1 + slack))
    return Scalar(name, row.mean, row.sd, reference["mean"], reference["sd"], error, ratio)


COLUMNS = (
    ("posterior", 49, "<"),
    ("guide", 10, "<"),
    ("seed", 4, ">"),
    ("worst mean error, sd", 26, ">"),
    ("sd ratios", 11, "<"),
    ("tolerances", 13, "<"),
    ("converged", 9, "<"),
    ("steps", 5, ">"),
    ("seconds", 7, ">"),
)
RULE = "|".join(["", *("-" * (width + 1) + (":" if side == ">" else "-") for _, width, side in COLUMNS), ""])


def row_of(cells: Sequence[object]) -> str:
    padded = (f" {cell!s:{side}{width}} " for cell, (_, width, side) in zip(cells, COLUMNS, strict=True))
    return "|".join(["", *padded, ""])


HEADER = row_of([title for title, _, _ in COLUMNS])


def line(result: Comparison) -> str:
    """One row of the table."""
    worst = max(result.scalars, key=lambda scalar: scalar.error)
    ratios = [scalar.ratio for scalar in result.scalars]
    verdict = "met" if result.met else "**not met**" if result.judged else "not judged"
    if result.fraction < 1:
        verdict += f" {result.fraction:.0%}"
    return row_of(
        (
            result.case,
            result.family,
            result.seed,
            f"{zero_based(worst.name)} {worst.error:.3f}",
            f"{min(ratios):.2f} – {max(ratios):.2f}",
            verdict,
            "yes" if result.converged else "no",
            result.steps,
            f"{result.seconds:.1f}",
        )
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="posteriors to fit (all by default)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--family", choices=sorted(GUIDES), action="append")
    options = parser.parse_args()
    if "GUIDEDSL_CASES" not in os.environ:
        parser.error("set GUIDEDSL_CASES to the folder that holds the cases")
    cases = Path(os.environ["GUIDEDSL_CASES"])
    names = options.names or sorted(path.parent.name for path in cases.glob("*/tolerances.json"))
    written = [name for name in names if (HERE / name / "model.guide").exists()]
    print(HEADER, RULE, sep="\n")
    misleading = 0
    for name in written:
        module = load(name)
        for family in options.family or sorted(GUIDES):
            for seed in options.seeds:
                result = compare(cases, name, family, seed, module)
                print(line(result), flush=True)
                misleading += result.misleading
    for name in sorted(set(names) - set(written)):
        print(f"\n{name}: no model.guide here", file=sys.stderr)
    if misleading:
        print(f"\n{misleading} fits say that they converged and miss their tolerances", file=sys.stderr)
    return int(misleading > 0)


if __name__ == "__main__":
    raise SystemExit(main())
