"""Checks a syntax tree and gives it back typed. One file a concern; `check_file` is the way in."""

from __future__ import annotations

from dataclasses import dataclass

from guidedsl import errors, ir
from guidedsl.check.guides import GuideChecker
from guidedsl.check.models import ModelChecker, declare_dim
from guidedsl.check.scope import Report
from guidedsl.diagnostics import Diagnostic
from guidedsl.source import Source, Span
from guidedsl.syntax import ast
from guidedsl.syntax.parser import Parsed


@dataclass(frozen=True)
class Checked:
    """The typed program, whole only where no diagnostic is an error, and each `auto` with what it stands for."""

    program: ir.Program
    diagnostics: tuple[Diagnostic, ...]
    expansions: tuple[tuple[Span, str], ...]


def check_file(source: Source, parsed: Parsed) -> Checked:
    """Check every model, and every guide against its model. All independent errors are reported."""
    report = Report(source, parsed.skipped, list(parsed.diagnostics))
    file = parsed.file
    dims: dict[str, ir.Dim] = {}
    for item in file.items:
        if isinstance(item, ast.DimDecl):
            declare_dim(item, dims, report)
    seen: dict[str, Span] = {}
    checkers: dict[str, tuple[ir.Model, ModelChecker]] = {}
    guides: list[ir.Guide] = []
    expansions: list[tuple[Span, str]] = []
    for node in (*file.models, *file.guides):
        name = node.name.text
        if name in seen:
            report.add(errors.already_declared(name, node.name.span, seen[name]), name)
            continue
        seen[name] = node.name.span
        if isinstance(node, ast.Model):
            checker = ModelChecker(report, node, dims)
            checkers[name] = checker.run(), checker
        elif node.model.text in checkers:
            model, owner = checkers[node.model.text]
            guide = GuideChecker(report, node, model, owner.symbols)
            guides.append(guide.run())
            expansions.extend(guide.expansions)
        else:
            report.add(errors.not_declared(node.model.text, node.model.span, checkers, "model"), node.model.text)
    models = tuple(model for model, _ in checkers.values())
    found = sorted(report.found, key=lambda d: (d.primary.span.start, d.code))
    return Checked(ir.Program(source, file.docstring, models, tuple(guides)), tuple(found), tuple(expansions))
