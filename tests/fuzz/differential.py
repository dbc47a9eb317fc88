"""Random programs on both targets. `python -m fuzz.differential 1000 --shrink` counts what they have."""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from unittest import mock

import torch
from fuzz.features import features, table
from fuzz.shrink import shrink
from fuzz.strategy import Program, seeded
from oracle.both_targets import Both, compare, guide_by_guide
from oracle.pyro_replay import Differs

from guidedsl.backend import render
from guidedsl.runtime.errors import GuidedslError
from guidedsl.source import Source

DTYPES = (torch.float64, torch.float32)
TRIES = 200


def program(seed: int) -> Program:
    """The program of a number; three of four take what Pyro has."""
    return seeded(seed, pyro=seed % 4 != 0)


def outcomes(
    text: str, data: Mapping[str, object], seed: int, only: str = "", dtypes: Sequence[torch.dtype] = DTYPES
) -> dict[str, str]:
    """What became of each guide: agree, far out, not finite, refused; else how the targets differ."""
    found: dict[str, str] = {}
    with mock.patch.object(render, "format_python", lambda python: python):
        for name, both in guide_by_guide(Source("fuzz.guide", text)):
            if only in ("", name):
                found[name] = _outcome(both, name, data, seed, dtypes)
    return found


def _outcome(both: Both, name: str, data: Mapping[str, object], seed: int, dtypes: Sequence[torch.dtype]) -> str:
    if both.theirs is None:
        return "refused"
    found = "agree"
    for dtype in dtypes:
        try:
            found = compare(both, both.guide(name), data, dtype, seed)
        except Differs as error:
            return f"{str(dtype).removeprefix('torch.')}: {error}"
        except GuidedslError as error:
            if dtype is torch.float32:  # a factorisation far out, in single precision
                return "far out"
            return f"our own target fails: {error}"
    return found


GOOD = frozenset({"agree", "far out", "not finite", "refused"})


def smaller(found: Program, seed: int, guide: str, problem: str) -> str:
    """The smallest program found with the same problem, by the first words that say it."""
    words = problem[:30]
    return shrink(found.text, lambda text: outcomes(text, found.data, seed, guide).get(guide, "")[:30] == words, TRIES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int, help="how many programs")
    parser.add_argument("--first", type=int, default=0, help="the number of the first one")
    parser.add_argument("--shrink", action="store_true", help="print a small program for each failure")
    options = parser.parse_args()
    torch.set_num_threads(1)
    begun, features_of, became = time.monotonic(), Counter[str](), Counter[str]()
    for seed in range(options.first, options.first + options.count):
        found = program(seed)
        features_of.update(features(found.text, found.data))
        for guide, outcome in outcomes(found.text, found.data, seed).items():
            became[outcome if outcome in GOOD else "differ"] += 1
            if outcome in GOOD:
                continue
            print(f"{seed} {guide}: {outcome.splitlines()[0][:300]}", flush=True)
            if options.shrink:
                text = smaller(found, seed, guide, outcome)
                print(text, json.dumps({name: value for name, value in found.data.items() if name in text}), flush=True)
    print(table(features_of))
    print(dict(became), f"in {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
