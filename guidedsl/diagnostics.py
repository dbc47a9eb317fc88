"""Diagnostics as data. How they are shown is `guidedsl.cli.render`'s business; what they say is `guidedsl.errors`'s."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from guidedsl.source import Source, Span

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Label:
    """A place in the text and what is to be said of it; in another text where there is a `source`."""

    span: Span
    text: str
    source: Source | None = None


@dataclass(frozen=True)
class Diagnostic:
    """One finding: a stable code, a message, where it is, the other place involved, and the edit that mends it."""

    code: str
    message: str
    primary: Label
    secondary: Label | None = None
    hint: str | None = None

    @property
    def severity(self) -> Severity:
        return "warning" if self.code.startswith("W") else "error"


class CompileError(Exception):
    """A program was refused. `str()` is the whole report, as `guidedsl check` prints it."""

    def __init__(self, source: Source, diagnostics: tuple[Diagnostic, ...]) -> None:
        self.source = source
        self.diagnostics = diagnostics
        super().__init__(source, diagnostics)

    def __str__(self) -> str:
        return "\n".join(f"{self.source.name}:{d.primary.span.line}: {d.code}: {d.message}" for d in self.diagnostics)
