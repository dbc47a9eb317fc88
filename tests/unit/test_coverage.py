"""Everything that the registries hold stands in a program of the corpus, which names it, compiles it and runs it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from guidedsl import ir
from guidedsl.library.distributions import DISTRIBUTIONS
from guidedsl.library.functions import FUNCTIONS, SPECIAL
from guidedsl.library.supports import KINDS
from guidedsl.pipeline import check
from guidedsl.source import read_source
from guidedsl.syntax import ast
from guidedsl.syntax.parser import parse

PROGRAMS = Path(__file__).resolve().parent.parent / "cases" / "programs"


def _nodes(root: Any) -> Iterator[Any]:
    """Every node of a tree."""
    stack = [root]
    while stack:
        node = stack.pop()
        if isinstance(node, tuple):
            stack.extend(node)
        elif is_dataclass(node) and not isinstance(node, type):
            yield node
            stack.extend(getattr(node, field.name) for field in fields(node))


@cache
def _found() -> tuple[set[str], set[str], set[str]]:
    """The types and functions written, and the forms of distributions that calls are resolved to."""
    types: set[str] = set()
    functions: set[str] = set()
    forms: set[str] = set()
    for path in sorted(PROGRAMS.glob("*/model.guide")):
        source = read_source(path, "model.guide")
        for node in _nodes(parse(source).file):
            if isinstance(node, ast.TypeExpr):
                types.add(node.name.text)
            elif isinstance(node, ast.Call):
                functions.add(node.function.text)
        program = check(source).program
        for part in (*program.models, *program.guides) if program is not None else ():
            forms |= {node.form.runtime for node in _nodes(part.statements) if isinstance(node, ir.Dist)}
    return types, functions, forms


def test_every_type_is_in_a_program() -> None:
    assert set(KINDS) - _found()[0] == set()


def test_every_function_is_in_a_program() -> None:
    assert {*FUNCTIONS, *SPECIAL} - _found()[1] == set()


def test_every_form_of_a_distribution_is_in_a_program() -> None:
    assert {form.runtime for row in DISTRIBUTIONS.values() for form in row.forms} - _found()[2] == set()
