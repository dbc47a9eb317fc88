"""Python text with what is needed to put it together: how tightly it binds, and indices at its end."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from guidedsl.ir import Stage

COMPARE, SUM, PRODUCT, UNARY, POWER, ATOM = range(6)
_INDEX = re.compile(r"(?<=\w)\[\.\.\., (?P<items>[^\[\]()]*)\]$")
_CHUNK = 40
"""Longer sums are bracketed in groups, which keeps Python's and black's own recursion shallow."""


@dataclass(frozen=True)
class Code:
    """Python text and how tightly its outermost operator binds."""

    text: str
    level: int = ATOM

    def at(self, level: int) -> str:
        """The text, bracketed unless it binds at least as tightly as `level`."""
        return self.text if self.level >= level else f"({self.text})"


def indexed(code: Code, items: list[str]) -> Code:
    """`code[..., items]`, in one pair of brackets with an index that stands there already."""
    while items and items[0] == ":":
        items = items[1:]
    if not items:
        return code
    taken = sum(item != "None" for item in items)
    match = _INDEX.search(code.text) if code.level == ATOM else None
    if match is not None:
        before = match["items"].split(", ")
        kept = before[: len(before) - taken]
        if before[len(before) - taken :] == [":"] * taken and "" not in before:
            items = [*kept, *items]
            code = Code(code.text[: match.start()])
    return Code(f"{code.at(ATOM)}[..., {', '.join(items)}]")


def new_axes(slots: Sequence[bool], stage: Stage) -> list[str]:
    """The index that puts an axis of size 1 in every empty slot; none to the left where no particle axis may be."""
    items = [":" if full else "None" for full in slots]
    if stage < Stage.LATENT:
        while items and items[0] == "None":
            items.pop(0)
    return items if "None" in items else []


def axes(count: int) -> str:
    return "-1" if count == 1 else f"({', '.join(str(-k) for k in range(count, 0, -1))})"


def added(total: str, code: Code) -> str:
    """A term added to a running total."""
    if code.text.startswith("-"):
        return f"{total} - {code.text[1:]}"
    return f"{total} + {code.text}"


def summed(code: Code, count: int) -> Code:
    """`code` summed over its last `count` axes."""
    return code if count == 0 else Code(f"{code.at(ATOM)}.sum({axes(count)})")


def number(value: float, *, whole: bool = False) -> str:
    """A number as Python text."""
    text = repr(int(value) if whole and math.isfinite(value) else float(value))
    return {"inf": "math.inf", "-inf": "-math.inf"}.get(text, text)


def chain(texts: list[str], operators: list[str]) -> str:
    """Operands and the operators before them; a long chain in bracketed groups, signs on the operands."""
    if len(texts) <= _CHUNK or "/" in operators:
        text = texts[0]
        for operator, operand in zip(operators[1:], texts[1:], strict=True):
            text = f"{text} {operator} {operand}"
        return text
    joiner = "*" if operators[-1] == "*" else "+"
    signed = [f"-{text}" if op == "-" else text for op, text in zip(operators, texts, strict=True)]
    starts = range(0, len(signed), _CHUNK)
    groups = [f"({f' {joiner} '.join(signed[start : start + _CHUNK])})" for start in starts]
    return chain(groups, [joiner] * len(groups))
