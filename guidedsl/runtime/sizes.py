"""Sizes as the metadata of a generated module writes them: arithmetic over dim names, as in `K * (K - 1) // 2`."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import lru_cache

MAX_LENGTH = 1000
MAX_SIZE = 2**62


class SizeError(ValueError):
    """A size string is not whole-number arithmetic, names an unbound dim, or gives a negative size."""


@lru_cache(maxsize=4096)
def _parse(size: str) -> ast.expr:
    if len(size) > MAX_LENGTH:
        raise SizeError(f"the size expression `{size[:40]}…` is longer than {MAX_LENGTH} characters")
    try:
        return ast.parse(size.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise SizeError(f"`{size}` is not a size: write arithmetic over dim names, such as `K - 1`") from error


def _evaluate(node: ast.expr, dims: Mapping[str, int], size: str) -> int:
    match node:
        case ast.Constant(value=int() as number) if not isinstance(number, bool):
            return number
        case ast.Name(id=name):
            if name not in dims:
                raise SizeError(f"`{size}` needs dim {name}, which nothing binds")
            return dims[name]
        case ast.BinOp(left=left, op=op, right=right):
            a, b = _evaluate(left, dims, size), _evaluate(right, dims, size)
            match op:
                case ast.Add():
                    value = a + b
                case ast.Sub():
                    value = a - b
                case ast.Mult():
                    value = a * b
                case ast.FloorDiv() if b > 0:
                    value = a // b
                case _:
                    raise SizeError(f"`{size}` is not a size: only + - * // on whole numbers")
            if abs(value) > MAX_SIZE:
                raise SizeError(f"`{size}` is larger than an array can be")
            return value
        case _:
            raise SizeError(f"`{size}` is not a size: only + - * // over dim names and whole numbers")


def evaluate(size: str, dims: Mapping[str, int]) -> int:
    """The value of `size` with `dims` bound.

    Raises `SizeError` for anything that is not whole-number arithmetic, an unbound dim, or a negative result.
    """
    value = _evaluate(_parse(size), dims, size)
    if value < 0:
        raise SizeError(f"`{size}` is {value}, and a size cannot be negative")
    return value


@lru_cache(maxsize=4096)
def names(size: str) -> tuple[str, ...]:
    """The dim names in `size`, in order of first appearance."""
    found = [node.id for node in ast.walk(_parse(size)) if isinstance(node, ast.Name)]
    return tuple(dict.fromkeys(found))


def bare_name(size: str) -> str | None:
    """The dim that an axis of this size binds: `size` itself where it is one name, else None."""
    node = _parse(size)
    return node.id if isinstance(node, ast.Name) else None
