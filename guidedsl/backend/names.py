"""Names of the generated module: those of the `.guide` file, changed only where Python or the module needs it."""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Iterable

from guidedsl.runtime.metadata import attribute_of

MODULE_NAMES = frozenset(
    {"Data", "Dim", "Draw", "Extern", "Field", "Guide", "ImportedNet", "Mapping", "Model", "NamedTuple", "Noise"}
    | {"ParamStore", "PassedNet", "Plate", "PlateSpec", "Site", "Tensor", "Value", "annotations", "constraints"}
    | {"dataclass", "dist", "flow", "fn", "get_param_store", "math", "net", "nn", "replace", "torch", "LINES"}
    | set(dir(builtins))
)
"""What a generated module imports, or finds there."""
HIGH_END = "high_end"
"""The argument of a function that is the mass up to there."""
RESERVED_LOCALS = frozenset(
    {"data", "latents", "store", "noise", "particles", "param", "log_p", "log_q", "score", "net", "kl"}
    | {"tilt", "quantities", "given", HIGH_END}
    | {"torch", "math", "dist", "flow", "fn", "constraints", "replace", "Draw", "get_param_store"}
    | {"range", "tuple", "int", "dict", "abs", "round", "max", "min"}
)
_MODULE_METHOD_NAMES = RESERVED_LOCALS | {"self", "h", "nn", "out", "Tensor"}
_TUPLE_NAMES = frozenset({"count", "index", "Tensor"})


def data_attribute(name: str) -> str:
    """The attribute of the generated data class."""
    return attribute_of(name)


def local_name(name: str) -> str:
    """A variable of a generated function."""
    return _apart(name, RESERVED_LOCALS)


def extern_name(name: str) -> str:
    """The variable of the generated module that holds an extern."""
    return _apart(name, RESERVED_LOCALS | MODULE_NAMES)


def module_argument(name: str) -> str:
    """An argument of a method of a generated net."""
    return _apart(name, _MODULE_METHOD_NAMES)


def field_name(name: str) -> str:
    """A field of the generated latents tuple, which may not begin with `_`."""
    return _apart(f"latent{name}" if name.startswith("_") else name, _TUPLE_NAMES)


def _apart(name: str, taken: frozenset[str]) -> str:
    """`name`, with one more `_` where it is a taken word; one written with the `_` gets another, so none collide."""
    word = name.rstrip("_")
    return f"{name}_" if keyword.iskeyword(word) or word in taken else name


def snake_case(name: str) -> str:
    """`EightSchools` → `eight_schools`."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return words.lower()


class Locals:
    """Hands out variables of one generated function that no declared name is."""

    def __init__(self, taken: Iterable[str]) -> None:
        self.taken = {local_name(name) for name in taken}

    def fresh(self, wish: str) -> str:
        """The wish, numbered where it is taken."""
        name, number = wish, 1
        while name in self.taken or keyword.iskeyword(name) or name in RESERVED_LOCALS:
            number += 1
            name = f"{wish}{number}"
        self.taken.add(name)
        return name


def camel_case(name: str) -> str:
    """`image_encoder` → `ImageEncoder`."""
    words = "".join(word[:1].upper() + word[1:] for word in name.split("_"))
    return words if words[:1].isalpha() else f"Net{words}"


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
