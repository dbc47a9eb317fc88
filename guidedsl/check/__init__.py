"""Checks a syntax tree and gives it back typed. One file a concern; `check_file` is the way in."""

from __future__ import annotations

from dataclasses import dataclass

from guidedsl import errors, ir
from guidedsl.check.dims import declare_dim
from guidedsl.check.expressions import Expressions
from guidedsl.check.guides import GuideChecker
from guidedsl.check.missing import report_left_out
from guidedsl.check.models import ModelChecker
from guidedsl.check.nets import check_callee, report_unused
from guidedsl.check.scope import Report, Scope
from guidedsl.check.walk import called, references
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
    externs = _externs(file, dims, seen, report)
    checkers: dict[str, tuple[ir.Model, ModelChecker]] = {}
    for model_node in file.models:
        if _is_new(model_node.name, seen, report):
            checker = ModelChecker(report.within(), model_node, dims, externs)
            checkers[model_node.name.text] = checker.run(), checker
    guides: list[ir.Guide] = []
    expansions: list[tuple[Span, str]] = []
    for node in file.guides:
        if not _is_new(node.name, seen, report):
            continue
        if node.model.text not in checkers:
            report.add(errors.not_declared(node.model.text, node.model.span, checkers, "model"), node.model.text)
            continue
        model, owner = checkers[node.model.text]
        guide = GuideChecker(owner.report.within(), node, model, owner.symbols, owner.local, owner.callees)
        guides.append(guide.run())
        expansions.extend(guide.expansions)
    _unused_in_models(file, checkers)
    _left_out(file, checkers)
    report_unused(externs.values(), called(file), report)
    models = tuple(model for model, _ in checkers.values())
    found = sorted(report.found, key=lambda d: (d.primary.span.start, d.code))
    program = ir.Program(source, file.docstring, models, tuple(guides), tuple(externs.values()))
    return Checked(program, tuple(found), tuple(expansions))


def _is_new(name: ast.Name, seen: dict[str, Span], report: Report) -> bool:
    if name.text in seen:
        report.add(errors.already_declared(name.text, name.span, seen[name.text]), name.text)
        return False
    seen[name.text] = name.span
    return True


def _externs(file: ast.File, dims: dict[str, ir.Dim], seen: dict[str, Span], report: Report) -> dict[str, ir.Callee]:
    """The externs of the file, whose signatures may name the dims of any of its models."""
    local = (node for model in file.models for node in model.body if isinstance(node, ast.DimDecl))
    known = {node.name.text: ir.Dim(node.name.text, None, node.name.span) for node in local} | dims
    found: dict[str, ir.Callee] = {}
    for node in file.externs:
        if not _is_new(node.name, seen, report):
            continue
        callee = check_callee(node, None, Expressions(report, Scope({}, known, {})))
        if callee is None:
            report.fail(node.name.text)
        elif node.name.text in dims:
            first = dims[node.name.text].span
            report.add(errors.already_declared(node.name.text, node.name.span, first), node.name.text)
        else:
            found[node.name.text] = callee
    return found


def _unused_in_models(file: ast.File, checkers: dict[str, tuple[ir.Model, ModelChecker]]) -> None:
    """A model's params and nets may serve the model or any of its guides."""
    for model, checker in checkers.values():
        bodies = [checker.node.body, *(guide.body for guide in file.guides if guide.model.text == model.name)]
        read = references(tuple(bodies))
        for statement in model.statements:
            if isinstance(statement, ir.Param) and statement.name not in read:
                checker.report.add(errors.unused_param(statement.name, statement.span), statement.name)
        report_unused(model.nets, called(tuple(bodies)), checker.report)


def _left_out(file: ast.File, checkers: dict[str, tuple[ir.Model, ModelChecker]]) -> None:
    """What a model observes under a condition may be read by the model or any of its guides."""
    for model, checker in checkers.values():
        for body in (checker.node.body, *(guide.body for guide in file.guides if guide.model.text == model.name)):
            report_left_out(model, checker.node, body, checker.report)
