"""The whole flow: text, syntax tree, typed program, module context, Python text."""

from __future__ import annotations

from dataclasses import dataclass

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


def check(source: Source) -> Checked:
    """Parse and check. Warnings that the text allows (`# allow W606`) are left out."""
    checked = check_file(source, parse(source))
    kept = tuple(d for d in checked.diagnostics if not _allowed(source, d))
    return Checked(checked.program, kept, checked.expansions)


def compile_source(source: Source) -> Compiled:
    """Text to Python text.

    Raises:
        CompileError: the program has errors.
    """
    checked = check(source)
    if any(d.severity == "error" for d in checked.diagnostics):
        raise CompileError(source, checked.diagnostics)
    return generated(checked)


def generated(checked: Checked) -> Compiled:
    """A program without errors as Python text."""
    from guidedsl.backend.context import module_context
    from guidedsl.backend.render import render_module

    program = checked.program
    return Compiled(program.source, program, checked.diagnostics, render_module(module_context(program)))


def _allowed(source: Source, diagnostic: Diagnostic) -> bool:
    """Whether the line of a warning says `# allow CODE`."""
    if diagnostic.severity == "error":
        return False
    line = source.lines[diagnostic.primary.span.line - 1]
    _, hash_sign, comment = line.partition("#")
    words = comment.replace(",", " ").split()
    return bool(hash_sign) and words[:1] == ["allow"] and diagnostic.code in words
