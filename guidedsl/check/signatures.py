"""Reads the little type notation of the registries: `real`, `lower_cholesky[K]`, `int(0, K - 1)`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from guidedsl.library.distributions import Distribution, Form
from guidedsl.library.supports import KINDS
from guidedsl.sizes import Size

_NOTATION = re.compile(r"(?P<kind>\w+)(?:\((?P<bounds>[^)]*)\))?(?:\[(?P<dims>[^\]]*)\])?$")

_LETTER = re.compile(r"\b[A-Z]\b")


@dataclass(frozen=True)
class Notation:
    """A type as a registry writes it; a square kind's letter stands twice in `dims`."""

    kind: str
    bounds: tuple[str, ...]
    dims: tuple[str, ...]

    @property
    def letters(self) -> frozenset[str]:
        """The letters of its dims: K of `real[K - 1]`."""
        return frozenset(_LETTER.findall(" ".join(self.dims)))


@cache
def read(text: str) -> Notation:
    match = _NOTATION.match(text)
    assert match is not None, text
    dims = _split(match["dims"])
    if KINDS[match["kind"]].square:
        dims = (*dims, dims[-1])
    return Notation(match["kind"], _split(match["bounds"]), dims)


def _split(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",")) if text else ()


def signature(row: Distribution, form: Form, letters: Mapping[str, Size] | None = None) -> str:
    """`Normal(loc: real, scale: positive)`, with the sizes that `letters` stand for where they are known."""
    known = {letter: str(size) for letter, size in (letters or {}).items()}

    def written(type: str) -> str:
        return _LETTER.sub(lambda found: known.get(found[0], found[0]), type)

    return f"{row.name}({', '.join(f'{a.name}: {written(a.type)}' for a in form.arguments)})"


def signatures(row: Distribution) -> tuple[str, ...]:
    return tuple(signature(row, form) for form in row.forms)
