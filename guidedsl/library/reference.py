"""The reference page of types, functions, distributions, nets and automatic guides, printed from the registries.

`python -m guidedsl.library.reference > docs/reference.md` writes it anew.
"""

from __future__ import annotations

from collections.abc import Iterator

from guidedsl.check.signatures import signature
from guidedsl.library.distributions import DISTRIBUTIONS
from guidedsl.library.families import FAMILIES
from guidedsl.library.functions import FUNCTIONS, SPECIAL
from guidedsl.library.makers import ACTIVATIONS, MAKERS
from guidedsl.library.supports import KINDS

_WITHIN = {"Uniform": "unit", "GaussianRandomWalk": "real[K]"}
"""Supports that agree though they are not written alike."""


def page() -> str:
    """The page as Markdown."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "# Reference"
    yield ""
    yield "Printed from the registries by `python -m guidedsl.library.reference`; see [language.md](language.md)"
    yield "for how these are used."
    yield ""
    yield from _types()
    yield from _distributions()
    yield from _functions()
    yield from _nets()
    yield from _families()


def _types() -> Iterator[str]:
    yield "## Types"
    yield ""
    yield "| type | values | a parameter starts at | transforms |"
    yield "|---|---|---|---|"
    for kind in KINDS.values():
        bounds = f"({', '.join(kind.bounds)})" if kind.bounds else "(plate)" if kind.name == "index" else ""
        dims = "[K]" if kind.rank else ""
        start = "" if kind.discrete else kind.initial
        yield f"| `{kind.name}{bounds}{dims}` | {kind.doc} | {start} | {', '.join(kind.transforms)} |"
    yield ""


def _distributions() -> Iterator[str]:
    yield "## Distributions"
    yield ""
    yield "*pathwise*: draws have a gradient; without it a guide uses the score function. *mass*: a type may restrict"
    yield "it with any arguments. *KL from*: the guides' families whose KL divergence from it has a closed form."
    yield ""
    yield "| forms | support | pathwise | mass | KL from | |"
    yield "|---|---|---|---|---|---|"
    for row in DISTRIBUTIONS.values():
        forms = "<br>".join(f"`{signature(row, form)}`" for form in row.forms)
        pathwise, mass = ("yes" if flag else "" for flag in (row.reparameterised, row.has_mass))
        support = f"`{row.support}`" if row.support else "of its parts"
        near = [other for other in DISTRIBUTIONS.values() if other.support in (row.support, _WITHIN.get(row.name))]
        closed = ", ".join(other.name for other in near if other.closed_kl(row))
        yield f"| {forms} | {support} | {pathwise} | {mass} | {closed} | {row.doc} |"
    yield ""


def _functions() -> Iterator[str]:
    yield "## Functions"
    yield ""
    yield "| function | |"
    yield "|---|---|"
    for function in (f for row in FUNCTIONS.values() for f in (row, *row.others)):
        parameters = ", ".join(function.signature[0] if function.signature else function.parameters)
        result = f" → {function.signature[1]}" if function.signature else ""
        axis = ", axis = k" if function.shape == "reduce" else ""
        yield f"| `{function.name}({parameters}{axis})`{result} | {function.doc} |"
    for text in SPECIAL.values():
        call, _, doc = text.partition(": ")
        yield f"| `{call}` | {doc} |"
    yield ""


def _nets() -> Iterator[str]:
    yield "## Nets"
    yield ""
    yield "What stands behind `=` in `net f(x: T) -> T2 = …`. The output is put into its type by softplus (positive,"
    yield "nonnegative), softmax (simplex) or the type's own bijection."
    yield ""
    yield "| maker | |"
    yield "|---|---|"
    for maker in MAKERS.values():
        yield f"| `{maker.usage}` | {maker.doc} |"
    yield ""
    yield "| activation | |"
    yield "|---|---|"
    for activation in ACTIVATIONS.values():
        yield f"| `{activation.name}` | {activation.doc} |"
    yield ""


def _families() -> Iterator[str]:
    yield "## Automatic guides"
    yield ""
    yield "| family | |"
    yield "|---|---|"
    for family in FAMILIES.values():
        shown = ", ".join(option.shown for option in family.options).replace("|", "or")
        options = f"({shown})" if shown else ""
        words = "; ".join(f"`{word}`: {doc}" for o in family.options for word, doc in (o.words or {}).items())
        yield f"| `{family.name}{options}` | {family.doc}{f'. {words}' if words else ''} |"


if __name__ == "__main__":
    print(page(), end="")
