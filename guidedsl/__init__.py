"""guidedsl: variational guides, written down and checked.

The names below load torch on first use only, so that the compiler's commands start fast.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from os import PathLike
    from types import ModuleType

    from guidedsl.runtime import constraints, optim
    from guidedsl.runtime.compare import compare
    from guidedsl.runtime.default_store import clear_param_store, get_param_store, module, param
    from guidedsl.runtime.elbo import ELBO
    from guidedsl.runtime.errors import DataError, GuidedslError, InferenceError, ParamError
    from guidedsl.runtime.fit import Fit, fit
    from guidedsl.runtime.importance import IWAE, Renyi
    from guidedsl.runtime.noise import Noise
    from guidedsl.runtime.params import ParamStore
    from guidedsl.runtime.plates import Plate
    from guidedsl.runtime.svi import SVI

__version__ = "0.1.0"

# Read once, when torch is loaded. OpenMP's threads wait for one another by spinning, for milliseconds unless told
# otherwise: two programs on the same cores then keep each other from work, and both take twenty times as long.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

__all__ = [
    "ELBO",
    "IWAE",
    "SVI",
    "DataError",
    "Fit",
    "GuidedslError",
    "InferenceError",
    "Noise",
    "ParamError",
    "ParamStore",
    "Plate",
    "Renyi",
    "clear_param_store",
    "compare",
    "compile",
    "constraints",
    "fit",
    "get_param_store",
    "module",
    "optim",
    "param",
]

_MODULES = frozenset({"constraints", "optim"})
_HOMES = {
    "ELBO": "elbo",
    "IWAE": "importance",
    "SVI": "svi",
    "DataError": "errors",
    "Fit": "fit",
    "GuidedslError": "errors",
    "InferenceError": "errors",
    "Noise": "noise",
    "ParamError": "errors",
    "ParamStore": "params",
    "Plate": "plates",
    "Renyi": "importance",
    "clear_param_store": "default_store",
    "compare": "compare",
    "fit": "fit",
    "get_param_store": "default_store",
    "module": "default_store",
    "param": "default_store",
}


def compile(path: str | PathLike[str]) -> ModuleType:
    """The module generated from a `.guide` file, without a file of its own: its models and guides by name.

    `guidedsl check` shows the warnings about it.

    Raises:
        UnreadableSource: there is no such file, or it is not text.
        CompileError: the program has errors.
    """
    from pathlib import Path

    from guidedsl.modules import load_source
    from guidedsl.source import read_source

    return load_source(read_source(Path(path)))


def __getattr__(name: str) -> object:
    if name in _MODULES:
        value: object = import_module(f"guidedsl.runtime.{name}")
    elif name in _HOMES:
        value = getattr(import_module(f"guidedsl.runtime.{_HOMES[name]}"), name)
    else:
        raise AttributeError(f"module 'guidedsl' has no attribute '{name}'")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
