"""Names of a Pyro model as a `.guide` file can write them."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable


def plain(name: str) -> str:
    """`linear.weight` as `linear_weight`: what is no letter, digit or underscore cannot stand in a name."""
    return re.sub(r"\W", "_", name)


ROWS = "_rows"
"""What is put behind the name of a plate that something else has too, as an argument `users` and a plate of them."""


def as_written(name: str, declared: Container[str]) -> str:
    """What a program calls something of this name: the same, or `data_` for `data`, which is a reserved word; a plate
    also `data_rows`."""
    for candidate in (name, f"{name}_", f"{name}{ROWS}", plain(name)):
        if candidate in declared:
            return candidate
    return name


def numbered(name: str, names: Iterable[str]) -> list[str]:
    """The sites `x_0`, `x_1`, … (or `x0`, or from 1 on) that a loop makes of `x`, in order; [] where one is missing."""
    pattern = re.compile(re.escape(name) + r"_?(\d+)")
    found = {int(match[1]): other for other in names if (match := pattern.fullmatch(other)) is not None}
    first = min(found, default=0)
    wanted = range(first, first + len(found))
    return [found[number] for number in wanted] if first <= 1 and set(wanted) == set(found) else []
