"""One run of the command: its streams, how it reports, and what it has reported."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TextIO

from guidedsl.cli.excerpts import paint, printable
from guidedsl.cli.render import Finding, Format, render_github, render_json, render_text, summary_line
from guidedsl.diagnostics import Diagnostic
from guidedsl.source import Source

OK = 0
FOUND = 1
USAGE = 2
BUG = 70
INTERRUPTED = 130
PIPE_CLOSED = 141
TERMINATED = 143

MAX_SHOWN = 100
"""Findings of one file that are printed for a person to read."""


class Stop(Exception):
    """Ends the work on one file, or the command, with an exit code and what is to be said, if anything."""

    def __init__(self, code: int, *messages: str, hint: str | None = None) -> None:
        self.code, self.messages, self.hint = code, messages, hint
        super().__init__(*messages)


def shows_color(stream: TextIO) -> bool:
    """Whether colour may be written: on a terminal that has it, unless NO_COLOR is set (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class Session:
    """The streams of a run. Results go to stdout; findings, errors and progress to stderr."""

    def __init__(self, stdin: TextIO, stdout: TextIO, stderr: TextIO) -> None:
        self.stdin, self.stdout, self.stderr = stdin, stdout, stderr
        self.format: Format = "text"
        self.quiet = False
        self.findings: list[Finding] = []

    @property
    def color(self) -> bool:
        """Whether results may be coloured."""
        return shows_color(self.stdout)

    def say(self, text: str) -> None:
        """A line of the result."""
        self.stdout.write(text + "\n")

    def note(self, text: str) -> None:
        """A line beside the result: what was done. Not for programs, so it is left out of the other formats."""
        if self.format == "text":
            self.say(printable(text))

    def report(self, source: Source, diagnostics: Iterable[Diagnostic]) -> None:
        """Shows what the compiler found, errors alone where quiet: as text the first hundred, in other formats all."""
        kept = (diagnostic for diagnostic in diagnostics if not self.quiet or diagnostic.severity == "error")
        found = [Finding(diagnostic.message, source, diagnostic) for diagnostic in kept]
        self.findings += found
        if self.format == "github":
            self.stderr.writelines(render_github(finding) for finding in found)
        if self.format != "text":
            return
        color = shows_color(self.stderr)
        width = _columns() if self.stderr.isatty() else 120
        for finding in found[:MAX_SHOWN]:
            if finding.diagnostic is not None:
                self.stderr.write(render_text(source, finding.diagnostic, color=color, width=width) + "\n")
        if len(found) > MAX_SHOWN:
            self.stderr.write(f"… and {len(found) - MAX_SHOWN} more\n\n")

    def fail(self, message: str, hint: str | None = None) -> None:
        """Shows an error that is not about a place in a program."""
        finding = Finding(message if hint is None else f"{message}\nhint: {hint}")
        self.findings.append(finding)
        if self.format == "text":
            color = shows_color(self.stderr)
            self.stderr.write(f"{paint('error', 'error', color)}: {printable(message)}\n")
            if hint is not None:
                self.stderr.write(f"{paint('hint', 'hint', color)}: {printable(hint)}\n")
        elif self.format == "github":
            self.stderr.write(render_github(finding))

    def stopped(self, stop: Stop) -> int:
        """Says why work stopped."""
        for message in stop.messages:
            self.fail(message, stop.hint if message is stop.messages[-1] else None)
        return stop.code

    def each(self, names: Iterable[str], work: Callable[[str], int]) -> int:
        """Works on every file, whatever becomes of the others; the highest exit code."""
        worst = OK
        for name in names:
            try:
                worst = max(worst, work(name))
            except Stop as stop:
                worst = max(worst, self.stopped(stop))
        return worst

    def finish(self) -> None:
        """Writes what comes last: the count of findings, or all of them as JSON."""
        if self.format == "json":
            self.stderr.write(render_json(self.findings))
        elif self.format == "text" and (line := summary_line(self.findings)):
            self.stderr.write(printable(line) + "\n")


def _columns() -> int:
    from shutil import get_terminal_size  # with all its archive formats, which a check that is piped does without

    return get_terminal_size().columns
