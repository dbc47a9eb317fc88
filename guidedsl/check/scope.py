"""What is visible where, and the collection of findings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from guidedsl import ir
from guidedsl.check.shapes import indexed_size
from guidedsl.diagnostics import Diagnostic
from guidedsl.library.supports import COUNT, Range, Support
from guidedsl.sizes import Size
from guidedsl.source import Source, Span
from guidedsl.syntax import ast


@dataclass
class Report:
    """Collects findings. Nothing is said of names in text that the parser had to skip, or whose declaration failed."""

    source: Source
    skipped: frozenset[str]
    found: list[Diagnostic] = field(default_factory=list)
    failed: set[str] = field(default_factory=set)
    doubtful: set[str] = field(default_factory=set)

    def add(self, diagnostic: Diagnostic, *about: str) -> None:
        known = self.skipped.isdisjoint(about) and self.failed.isdisjoint(about)
        if diagnostic.code.startswith(("E4", "W603")) and not self.doubtful.isdisjoint(about):
            return
        if known and diagnostic not in self.found:
            self.found.append(diagnostic)

    def fail(self, *names: str) -> None:
        """From here on nothing is said of these names: what is wrong with them has been reported."""
        self.failed.update(names)

    def within(self) -> Report:
        """For a part of the file: the same findings, and failed names of its own."""
        return Report(self.source, self.skipped, self.found, set(self.failed), set(self.doubtful))

    def doubt(self, name: str) -> None:
        """From here on nothing is said of the support of this name, which may not be the one that was meant."""
        self.doubtful.add(name)

    def text(self, span: Span) -> str:
        """The text at `span` on one line."""
        return " ".join(self.source.excerpt(span).split())


@dataclass(frozen=True)
class Symbol:
    """A declared value. `plates` are those that it was declared in, in the model's order."""

    name: str
    role: ir.Role
    type: ir.Type
    plates: tuple[str, ...]
    span: Span


@dataclass(frozen=True)
class Scope:
    """The names that a statement sees, and the plates that it stands in.

    `plates` are in the order of their declaration, which is the order of axes everywhere. `later` holds the names that
    are declared further down, with their place; None where nothing declares one and that has its own finding.
    `hidden` are the model's lets, which a guide does not see; `enumerated` its latents without a value there. `steps`
    is the size of the open scan, `of_step` what it has declared; `local` are the names that belong to the steps of a
    scan that is closed, with their place. `callees` are the nets and externs, `lets` the values of lets as they are
    written.
    """

    symbols: dict[str, Symbol]
    dims: dict[str, ir.Dim]
    plates: dict[str, ir.Plate]
    latents: dict[str, ir.Latent] = field(default_factory=dict)
    enclosing: tuple[str, ...] = ()
    in_guide: bool = False
    in_init: bool = False
    later: dict[str, Span | None] = field(default_factory=dict)
    hidden: dict[str, Span] = field(default_factory=dict)
    enumerated: dict[str, Span] = field(default_factory=dict)
    steps: Size | None = None
    of_step: frozenset[str] = frozenset()
    local: dict[str, Span] = field(default_factory=dict)
    callees: dict[str, ir.Callee] = field(default_factory=dict)
    lets: dict[str, ast.Expr] = field(default_factory=dict)

    def inside(self, names: Iterable[str]) -> Scope:
        return replace(self, enclosing=self.sort((*self.enclosing, *names)))

    def sort(self, names: Iterable[str]) -> tuple[str, ...]:
        """Plate names without repetition in the order of axes."""
        wanted = set(names)
        return tuple(name for name in self.plates if name in wanted)

    def positions(self, support: Support) -> Support:
        """An index as the integers that it stands for, so that it compares with a distribution's support."""
        if support.target is None:
            return support
        size = indexed_size(support.target, self.plates)
        last = (size - Size.of(1)).constant
        hull = COUNT if last is None else Range(0, last, True, True, integer=True)
        return Support("int", hull, ("0", str(size - Size.of(1))))

    def candidates(self) -> list[str]:
        return [*self.symbols, *self.dims]
