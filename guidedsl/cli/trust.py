"""Code from outside that a program names: what `info` lists and `--no-extern` refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import click

from guidedsl import ir
from guidedsl.cli.session import FOUND, Session, Stop
from guidedsl.source import Span

AnyFunction = TypeVar("AnyFunction", bound=Callable[..., object])


@dataclass(frozen=True)
class Import:
    """Python code that runs with the program. `what` is how the text declares it: `extern f`, `net g`, `model M`."""

    what: str
    origin: str
    span: Span


def imports(program: ir.Program) -> tuple[Import, ...]:
    """Everything that a program imports, in the order of the text."""
    nets = [net for model in program.models for net in model.nets]
    nets += [net for guide in program.guides for net in guide.nets]
    found = [
        Import(f"{callee.what} {callee.name}", callee.origin, callee.span)
        for callee in (*program.externs, *nets)
        if callee.origin is not None
    ]
    found += [
        Import(f"model {model.name}", model.origin, model.span) for model in program.models if model.origin is not None
    ]
    return tuple(sorted(found, key=lambda one: one.span.start))


def no_extern_option() -> Callable[[AnyFunction], AnyFunction]:
    """The option --no-extern."""
    return click.option(
        "--no-extern", is_flag=True, help="Refuse a program that imports Python code: extern, net … from, model … from."
    )


def refuse_imports(program: ir.Program, session: Session) -> None:
    """Stops with 1 where a program names code from outside, saying where and what."""
    found = imports(program)
    for one in found:
        place = f"{program.source.name}:{one.span.line}:{one.span.column}"
        session.fail(f"{place}: `{one.what}` runs Python code from {one.origin!r}, which --no-extern refuses")
    if found:
        raise Stop(FOUND)
