"""The whole flow: text, syntax tree, typed program, module context, Python text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from guidedsl import ir
from guidedsl.check import Checked, check_file
from guidedsl.diagnostics import CompileError, Diagnostic
from guidedsl.source import Source
from guidedsl.syntax.parser import parse


@dataclass(frozen=True)
class Compiled:
    """What became of a source: the program, what was found, and (without errors) the generated module."""

    source: Source
    program: ir.Program
    diagnostics: tuple[Diagnostic, ...]
    python: str


Target = Literal["torch", "pyro"]


def check(source: Source, target: Target = "torch") -> Checked:
    """Parse and check, for a target too. Warnings that the text allows (`# allow W606`) are left out."""
    checked = check_file(source, parse(source))
    kept = tuple(d for d in checked.diagnostics if not _allowed(source, d))
    if target == "pyro" and not any(d.severity == "error" for d in kept):
        from guidedsl.backend.pyro.context import pyro_context

        kept = (*kept, *pyro_context(checked.program)[1])
    return Checked(checked.program, kept, checked.expansions)


def target_of(code: str) -> Target:
    """The target for which a program can have a finding of this code."""
    return "pyro" if code == "E701" else "torch"


def compile_source(source: Source, target: Target = "torch", laid_out: bool = True) -> Compiled:
    """Text to Python text for a target: the bundled runtime, or plain Pyro; `laid_out` is for text that is read.

    Raises:
        CompileError: the program has errors, or the target cannot express it.
    """
    checked = check(source)
    if any(d.severity == "error" for d in checked.diagnostics):
        raise CompileError(source, checked.diagnostics)
    return generated(checked, target, laid_out)


def generated(checked: Checked, target: Target = "torch", laid_out: bool = True) -> Compiled:
    """A program without errors as Python text. Raises CompileError where the target cannot express it."""
    from guidedsl.backend.context import module_context
    from guidedsl.backend.pyro.context import pyro_context
    from guidedsl.backend.render import render_module, render_pyro

    program = checked.program
    if target == "torch":
        return Compiled(program.source, program, checked.diagnostics, render_module(module_context(program), laid_out))
    context, refused = pyro_context(program)
    if refused:
        raise CompileError(program.source, (*checked.diagnostics, *refused))
    return Compiled(program.source, program, checked.diagnostics, render_pyro(context))


def _allowed(source: Source, diagnostic: Diagnostic) -> bool:
    """Whether the line of a warning says `# allow CODE`."""
    if diagnostic.severity == "error":
        return False
    line = source.lines[diagnostic.primary.span.line - 1]
    _, hash_sign, comment = line.partition("#")
    words = comment.replace(",", " ").split()
    return bool(hash_sign) and words[:1] == ["allow"] and diagnostic.code in words
