"""Names of the generated module: those of the `.guide` file, changed only where Python or the module needs it."""

from __future__ import annotations

import keyword
import re
from collections.abc import Container, Iterable

from guidedsl.runtime.metadata import attribute_of

RESERVED_LOCALS = frozenset(
    {"data", "latents", "store", "noise", "particles", "param", "log_p", "log_q", "score"}
    | {"torch", "math", "dist", "fn", "constraints", "replace", "Draw", "get_param_store"}
    | {"range", "tuple", "int", "dict", "abs", "round", "max", "min"}
)
_TUPLE_NAMES = frozenset({"count", "index", "Tensor"})


def data_attribute(name: str) -> str:
    """The attribute of the generated data class."""
    return attribute_of(name)


def local_name(name: str) -> str:
    """A variable of a generated function."""
    return _apart(name, RESERVED_LOCALS)


def field_name(name: str) -> str:
    """A field of the generated latents tuple, which may not begin with `_`."""
    return _apart(f"latent{name}" if name.startswith("_") else name, _TUPLE_NAMES)


def _apart(name: str, taken: frozenset[str]) -> str:
    """`name`, with one more `_` where it is a taken word; one written with the `_` gets another, so none collide."""
    word = name.rstrip("_")
    return f"{name}_" if keyword.iskeyword(word) or word in taken else name


def free_name(wish: str, taken: Container[str]) -> str:
    """`wish`, with a number behind it where that is taken."""
    name, number = wish, 1
    while name in taken:
        number += 1
        name = f"{wish}{number}"
    return name


def snake_case(name: str) -> str:
    """`EightSchools` → `eight_schools`."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return words.lower()


class Module:
    """Hands out names at the top level of a module, each once."""

    def __init__(self, taken: Iterable[str]) -> None:
        self.taken = set(taken)

    def take(self, *wishes: str) -> str:
        """The first wish that is free, or the last one with underscores."""
        for wish in wishes:
            if wish not in self.taken and not keyword.iskeyword(wish):
                self.taken.add(wish)
                return wish
        return self.take(f"{wishes[-1]}_")
