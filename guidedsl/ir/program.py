"""Models and guides as wholes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from guidedsl.ir.expressions import Callee, Expr, Stage
from guidedsl.ir.statements import (
    Dim,
    Field,
    GuideStatement,
    Latent,
    Let,
    ModelStatement,
    Param,
    Plate,
    Scan,
    Term,
    terms_of,
)
from guidedsl.ir.sums import Summed
from guidedsl.source import Source, Span


@dataclass(frozen=True)
class Model:
    name: str
    docstring: str | None
    interface: bool
    origin: str | None
    dims: tuple[Dim, ...]
    plates: tuple[Plate, ...]
    fields: tuple[Field, ...]
    latents: tuple[Latent, ...]
    statements: tuple[ModelStatement, ...]
    nets: tuple[Callee, ...]
    span: Span
    framework: str | None = None

    def plate(self, name: str) -> Plate:
        return next(plate for plate in self.plates if plate.name == name)

    @cached_property
    def terms(self) -> tuple[Term, ...]:
        """Every term of the log density, those of scans included."""
        return terms_of(self.statements)

    @cached_property
    def priors(self) -> dict[str, Term]:
        """The terms of sites, by name."""
        return {term.name: term for term in self.terms if term.name is not None}

    @cached_property
    def lets(self) -> dict[str, Expr]:
        """The values of the lets that stand in no scan, by name."""
        return {s.name: s.value for s in self.statements if isinstance(s, Let)}

    @cached_property
    def scans(self) -> dict[str, Scan]:
        """The scans that sites stand in, by the name of the site."""
        return {site: s for s in self.statements if isinstance(s, Scan) for site in s.sites}

    @cached_property
    def ranks(self) -> dict[str, int]:
        """How many latents stand before each, by name."""
        return {latent.name: n for n, latent in enumerate(self.latents)}

    @property
    def derived(self) -> tuple[Let, ...]:
        """The lets that read only data; they are computed once, when data is bound."""
        return tuple(s for s in self.statements if isinstance(s, Let) and s.value.type.stage <= Stage.DATA)


@dataclass(frozen=True)
class Laplace:
    """That a guide is a Laplace approximation, and the store's names of its location and of its factor."""

    loc: str
    scale_tril: str
    span: Span


@dataclass(frozen=True)
class Guide:
    name: str
    docstring: str | None
    model: Model
    statements: tuple[GuideStatement, ...]
    nets: tuple[Callee, ...]
    span: Span
    summed: Summed | None = None
    laplace: Laplace | None = None

    @property
    def params(self) -> tuple[Param, ...]:
        return tuple(s for s in self.statements if isinstance(s, Param))


@dataclass(frozen=True)
class Program:
    source: Source
    docstring: str | None
    models: tuple[Model, ...]
    guides: tuple[Guide, ...]
    externs: tuple[Callee, ...]
