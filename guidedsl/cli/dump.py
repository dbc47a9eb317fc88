"""Trees of frozen data as indented text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

from guidedsl import ir
from guidedsl.library.distributions import Distribution, Form
from guidedsl.library.functions import Function
from guidedsl.library.supports import Kind, Support
from guidedsl.sizes import Size
from guidedsl.source import Source, Span
from guidedsl.syntax import ast

INDENT = "  "
WIDTH = 100


def dump(root: object) -> str:
    """A tree, a node a line; what fits on one line stands on one. Places are `@line:column`."""
    return "\n".join(_lines(root, 0))


def _lines(node: object, depth: int) -> Iterator[str]:
    pad = INDENT * depth
    short = _short(node)
    compound = isinstance(node, tuple | list | dict) or is_dataclass(node)
    if short is not None and (len(pad) + len(short) <= WIDTH or not compound):
        yield pad + short
        return
    if isinstance(node, tuple | list):
        for item in node:
            yield from _lines(item, depth)
        return
    yield pad + _head(node)
    for name, value in _fields(node):
        text = _short(value)
        if text is not None and len(pad) + len(name) + len(text) + 4 <= WIDTH:
            yield f"{pad}{INDENT}{name}: {text}"
        else:
            yield f"{pad}{INDENT}{name}:"
            yield from _lines(value, depth + 2)


def _head(node: object) -> str:
    span = getattr(node, "span", None)
    return type(node).__name__ + (f" @{span.line}:{span.column}" if isinstance(span, Span) else "")


def _fields(node: object) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        yield from ((str(key), value) for key, value in node.items())
        return
    if not is_dataclass(node) or isinstance(node, type):
        return
    for field in fields(node):
        value = getattr(node, field.name)
        if isinstance(value, Span) or value is None or value == ():
            continue
        if isinstance(value, ir.Model) and not isinstance(node, ir.Program):  # it is shown where it is declared
            value = value.name
        yield field.name, value


def _short(node: object) -> str | None:
    """A leaf, or a small node, on one line; None for anything larger."""
    if isinstance(node, Distribution | Function | Kind):
        return f"{type(node).__name__} {node.name}"
    if isinstance(node, Form):
        return "Form(" + ", ".join(argument.name for argument in node.arguments) + ")"
    if isinstance(node, Size | Support):
        return str(node)
    if isinstance(node, ast.Name):
        return f"{node.text} @{node.span.line}:{node.span.column}"
    if isinstance(node, Source):
        return f"{node.name} ({node.sha256[:12]})"
    if isinstance(node, Span):
        return f"@{node.line}:{node.column}"
    if isinstance(node, Enum):
        return node.name
    if node is None or isinstance(node, str | int | float | bool):
        return repr(node)
    if callable(node) and not is_dataclass(node):
        return str(getattr(node, "__qualname__", type(node).__name__))
    if isinstance(node, tuple | list):
        return _joined([_short(item) for item in node], "[", "]")
    if is_dataclass(node):
        parts = [(name, _short(value)) for name, value in _fields(node)]
        return _joined([None if text is None else f"{name}={text}" for name, text in parts], _head(node) + "(", ")")
    return None if isinstance(node, dict) else repr(node)


def _joined(parts: list[str | None], begin: str, end: str) -> str | None:
    texts = [part for part in parts if part is not None]
    text = begin + ", ".join(texts) + end
    return text if len(texts) == len(parts) and len(text) <= WIDTH else None
