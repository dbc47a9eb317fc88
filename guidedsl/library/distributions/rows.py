"""What the registry says about a distribution."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Rule = Literal["mixture", "zero_inflated", "truncated"]


@dataclass(frozen=True)
class Argument:
    """One argument of a distribution.

    `type` is written as in a `.guide` file, with letters for event dims that must agree: `real`, `positive`,
    `real[K]`, `lower_cholesky[K]`, `real[K, R]`. Of type `distribution` it is a distribution itself; `distribution[K]`
    is one whose last event dim before its family's own is K, or a list of K.
    """

    name: str
    type: str
    default: float | None = None

    @property
    def is_distribution(self) -> bool:
        return self.type.startswith("distribution")


@dataclass(frozen=True)
class Form:
    """One parameterisation: its arguments in order and the runtime class that computes with them.

    `pyro` is the call of Pyro's class where that is not the family's with the same arguments in the same order: with
    `{name}` for an argument, `{name_}` for it in brackets where it needs them, `{dim}` for the size of the event.
    """

    arguments: tuple[Argument, ...]
    runtime: str
    pyro: str = ""

    @property
    def values(self) -> tuple[Argument, ...]:
        """The arguments that are values."""
        return tuple(argument for argument in self.arguments if not argument.is_distribution)

    def in_pyro(self, call: str) -> Form:
        """The form with its call of Pyro's class."""
        return replace(self, pyro=call)


@dataclass(frozen=True)
class Distribution:
    """A family.

    `support` is written like a type and may name arguments and event dims: `real`, `interval(low, high)`,
    `int(0, total)`, `int(0, K - 1)`, `simplex[K]`. Positional arguments belong to the first form; names pick the form.
    `pyro` names Pyro's class, empty where it has none; `pyro_cdf` says that it has a distribution function.
    A `symmetric` family has half of its mass on each side of its `loc`. `sums_to` is the argument that the entries of
    a draw add up to. A family of distributions has a `rule` instead of a support, which says how its support and
    density come from theirs. A family that is `tabulated` has the log probabilities of all its values at once, as
    `log_table`.

    `knows` are the expectations of a draw that have a closed form, `asks` those that the KL divergence from a guide's
    family to this one is made of, None where it has no closed form.
    """

    name: str
    forms: tuple[Form, ...]
    support: str
    reparameterised: bool
    has_mass: bool
    doc: str
    pyro: str
    guide_only: bool = False
    model_only: bool = False
    scale_on_log: str | None = None
    rule: Rule | None = None
    sums_to: str | None = None
    tabulated: bool = False
    pyro_cdf: bool = False
    pyro_single: str = ""
    symmetric: bool = False
    knows: frozenset[str] = frozenset()
    asks: frozenset[str] | None = None

    def closed_kl(self, prior: Distribution) -> bool:
        """Whether KL(this | prior) has a closed form."""
        return prior.asks is not None and prior.asks <= self.knows


def means(names: str) -> frozenset[str]:
    """Names of expectations, as `divergence` of the runtime has them."""
    return frozenset(names.split())


def form(runtime: str, /, **types: str | tuple[str, float]) -> Form:
    """A form by its runtime class and its arguments, each a type or a type with a default."""
    arguments = (Argument(name, of) if isinstance(of, str) else Argument(name, *of) for name, of in types.items())
    return Form(tuple(arguments), runtime)
