"""Diagnostics as text for people, as JSON for programs, and as annotations for GitHub."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from guidedsl.cli.excerpts import render_text
from guidedsl.diagnostics import Diagnostic, Label, Severity
from guidedsl.source import Source

__all__ = ["FORMATS", "Finding", "Format", "render_github", "render_json", "render_text", "summary_line"]

Format = Literal["text", "json", "github"]
FORMATS: tuple[Format, ...] = ("text", "json", "github")


@dataclass(frozen=True)
class Finding:
    """A diagnostic with the source that it is about; without a source, an error that no line of a program caused."""

    message: str
    source: Source | None = None
    diagnostic: Diagnostic | None = None

    @property
    def severity(self) -> Severity:
        return "error" if self.diagnostic is None else self.diagnostic.severity


def render_json(findings: Iterable[Finding]) -> str:
    """One array with one object a finding. Lines and columns count from 1, ends are exclusive."""
    import json  # not needed for text

    return json.dumps([_object(finding) for finding in findings], indent=2) + "\n"


def _object(finding: Finding) -> dict[str, object]:
    diagnostic, source = finding.diagnostic, finding.source
    if diagnostic is None or source is None:
        names = ("file", "line", "column", "end_line", "end_column", "label", "secondary", "hint")
        return {"code": None, "severity": "error", "message": finding.message, **dict.fromkeys(names)}
    second = diagnostic.secondary
    return {
        "code": diagnostic.code,
        "severity": diagnostic.severity,
        "message": diagnostic.message,
        "file": source.name,
        **_place(source, diagnostic.primary),
        "secondary": None if second is None else _place(source, second),
        "hint": diagnostic.hint,
    }


def _place(source: Source, label: Label) -> dict[str, object]:
    elsewhere = label.source
    end = (elsewhere or source).span(label.span.end, label.span.end)
    return ({} if elsewhere is None else {"file": elsewhere.name}) | {
        "line": label.span.line,
        "column": label.span.column,
        "end_line": end.line,
        "end_column": end.column,
        "label": label.text,
    }


def render_github(finding: Finding) -> str:
    """One workflow command, which GitHub shows beside the line."""
    diagnostic, source = finding.diagnostic, finding.source
    if diagnostic is None or source is None:
        return f"::error::{_escaped(finding.message)}\n"
    span = diagnostic.primary.span
    end = source.span(span.end, span.end)
    fields: dict[str, object] = {"file": source.name, "line": span.line, "endLine": end.line, "col": span.column}
    if end.line == span.line:  # GitHub refuses columns that span lines
        fields["endColumn"] = end.column
    fields["title"] = diagnostic.code
    properties = ",".join(f"{key}={_escaped(str(value), ':,')}" for key, value in fields.items())
    hint = f"\nhint: {diagnostic.hint}" if diagnostic.hint else ""
    return f"::{diagnostic.severity} {properties}::{_escaped(diagnostic.message + hint)}\n"


def _escaped(text: str, more: str = "") -> str:
    for char in "%\r\n" + more:
        text = text.replace(char, f"%{ord(char):02X}")
    return text


def summary_line(findings: Sequence[Finding]) -> str:
    """`2 errors, 1 warning in radon.guide`; nothing where no finding is about a program."""
    about = [finding for finding in findings if finding.source is not None]
    files = list(dict.fromkeys(finding.source.name for finding in about if finding.source is not None))
    if not files:
        return ""
    counts = []
    for severity in ("error", "warning"):
        count = sum(finding.severity == severity for finding in about)
        if count:
            counts.append(counted(count, severity))
    return f"{', '.join(counts)} in {files[0] if len(files) == 1 else counted(len(files), 'file')}"


def counted(number: int, noun: str) -> str:
    """`1 error`, `2 errors`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
