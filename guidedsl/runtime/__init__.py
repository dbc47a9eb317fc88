"""What generated modules import. Names load on first use, so that one runtime module can be imported alone."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from guidedsl.runtime import constraints, distributions
    from guidedsl.runtime.data import Data, Dim, Field, PlateSpec, Site
    from guidedsl.runtime.default_store import get_param_store, param
    from guidedsl.runtime.flows import flow
    from guidedsl.runtime.model import Draw, Guide, Model
    from guidedsl.runtime.nets import Extern, ImportedNet, PassedNet, Value, net
    from guidedsl.runtime.noise import Noise
    from guidedsl.runtime.params import ParamStore
    from guidedsl.runtime.plates import Plate

__all__ = [
    "Data",
    "Dim",
    "Draw",
    "Extern",
    "Field",
    "Guide",
    "ImportedNet",
    "Model",
    "Noise",
    "ParamStore",
    "PassedNet",
    "Plate",
    "PlateSpec",
    "Site",
    "Value",
    "constraints",
    "distributions",
    "flow",
    "get_param_store",
    "net",
    "param",
]

_HOMES = {
    "Data": "data",
    "Dim": "data",
    "Draw": "model",
    "Extern": "nets",
    "Field": "data",
    "Guide": "model",
    "ImportedNet": "nets",
    "Model": "model",
    "Noise": "noise",
    "ParamStore": "params",
    "PassedNet": "nets",
    "Plate": "plates",
    "PlateSpec": "data",
    "Site": "data",
    "Value": "nets",
    "flow": "flows",
    "get_param_store": "default_store",
    "net": "nets",
    "param": "default_store",
}
_MODULES = frozenset({"constraints", "distributions"})


def __getattr__(name: str) -> object:
    if name in _MODULES:
        value: object = import_module(f"guidedsl.runtime.{name}")
    elif name in _HOMES:
        value = getattr(import_module(f"guidedsl.runtime.{_HOMES[name]}"), name)
    else:
        raise AttributeError(f"module 'guidedsl.runtime' has no attribute '{name}'")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
