"""A model with latents summed out."""

from __future__ import annotations

from dataclasses import dataclass

from guidedsl.ir.expressions import Expr, Var
from guidedsl.ir.statements import Latent, Let, Param, Scan, Term
from guidedsl.sizes import Size
from guidedsl.source import Span


@dataclass(frozen=True)
class Classes:
    """A finite discrete latent as an axis of the values `low`, `low` + 1, …, `size` of them.

    `step` is the axis of the scan that it is a site of. `carried` names the carry by which a step is handed the value
    of the one before: then this is the axis of that.
    """

    latent: Latent
    low: int
    size: Size
    step: str | None = None
    carried: str | None = None

    @property
    def name(self) -> str:
        return self.carried or self.latent.name

    @property
    def plates(self) -> tuple[str, ...]:
        """The plates that its value varies over, the steps of its scan among them."""
        return self.latent.plates if self.step is None else (*self.latent.plates, self.step)


@dataclass(frozen=True)
class SumOut:
    """log Σ exp, over the values of one latent, of the sum of all terms that read it.

    `axes` are the plates of the latent and every enumerated latent that the terms read, itself among them. A term is
    summed over those of its plates that are not among these. `message` is what is left: a value with the other axes.
    """

    classes: Classes
    terms: tuple[Term, ...]
    axes: tuple[str, ...]
    message: Var

    @property
    def plates(self) -> tuple[str, ...]:
        return self.classes.plates

    @property
    def span(self) -> Span:
        return self.classes.latent.span


@dataclass(frozen=True)
class Link:
    """A site of a scan that is handed on: its values, those that a step was handed, and the first of these.

    `start` is the site's prior at the first step where that is written apart, and reads nothing that was handed on.
    """

    site: Classes
    state: Classes
    init: Expr
    start: Expr | None


@dataclass(frozen=True)
class SumChain:
    """log Σ exp over all paths of one or more chains through a scan, of the sum of all terms that read them.

    `axes` are the plates, the enumerated latents that are constant along the scan, the states that a step is handed,
    the sites, and last the steps. `message` is what is left: a value with the plates and those latents.
    """

    links: tuple[Link, ...]
    terms: tuple[Term, ...]
    axes: tuple[str, ...]
    message: Var

    @property
    def plates(self) -> tuple[str, ...]:
        return self.links[0].site.latent.plates

    @property
    def span(self) -> Span:
        return self.links[0].site.latent.span


@dataclass(frozen=True)
class Summed:
    """A model with some latents summed out exactly, each an axis of its own to the right of the plates.

    Lets and terms that read one have its axis instead of its plates; `statements` ends with the sums. `axes` are all
    latents that are axes, and the states that steps are handed, in the order of axes.
    """

    classes: tuple[Classes, ...]
    axes: tuple[Classes, ...]
    statements: tuple[Let | Param | Term | Scan | SumOut | SumChain, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(classes.name for classes in self.classes)
