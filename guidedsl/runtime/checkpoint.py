"""The state of a run in one file: a tree of numbers, strings and tensors, as safetensors with JSON, never a pickle.

A tree is made of dicts, lists, tuples, tensors, strings, numbers, booleans and None; what comes back equals what went
in, bit for bit. Tensors stand in the file under their path in the tree, everything else in its JSON header.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from guidedsl.runtime.errors import ParamError
from guidedsl.runtime.param_files import read_file, write_file


def write_checkpoint(path: str | os.PathLike[str], kind: str, tree: Mapping[str, Any], *, nan_ok: bool = False) -> None:
    """Writes a tree, atomically. `kind` says whose it is.

    Raises ParamError for what is no tree, or for NaN in a tensor unless `nan_ok`, and OSError as the file system does.
    """
    tensors: dict[str, Tensor] = {}
    text = {key: _plain(value, key, tensors) for key, value in tree.items()}
    bad = [name for name, tensor in tensors.items() if tensor.is_floating_point() and bool(tensor.isnan().any())]
    if bad and not nan_ok:
        raise ParamError(f"nothing was saved: {', '.join(map(repr, bad))} has NaN; go back to an earlier checkpoint.")
    write_file(path, tensors, {"kind": kind, "tree": text})


def read_checkpoint(path: str | os.PathLike[str], kind: str) -> dict[str, Any]:
    """The tree that `write_checkpoint` wrote, its tensors on the CPU.

    Raises ParamError for a damaged or foreign file or one of another kind, OSError if it cannot be read.
    """
    tensors, header = read_file(path)
    name = os.fspath(path)
    if header.get("kind") != kind:
        found = f"a checkpoint of {header['kind']}" if "kind" in header else "parameters alone (see ParamStore.load)"
        raise ParamError(f"{name!r} holds {found}, not a checkpoint of {kind}.")
    try:
        return {key: _restored(value, tensors) for key, value in header["tree"].items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ParamError(f"{name!r} is damaged: {type(error).__name__} {error}") from None


def _plain(value: object, path: str, tensors: dict[str, Tensor]) -> Any:
    """A value as JSON, its tensors put aside. What JSON cannot say is a one-entry object whose key begins with `$`."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$float": str(value)}
    if isinstance(value, Tensor):
        name = path
        while name in tensors:  # two paths can read alike where a key holds a slash
            name += "'"
        tensors[name] = value
        return {"$tensor": name}
    if isinstance(value, list | tuple):
        items = [_plain(item, f"{path}/{position}", tensors) for position, item in enumerate(value)]
        return items if isinstance(value, list) else {"$tuple": items}
    if isinstance(value, Mapping):
        if all(isinstance(key, str) and not key.startswith("$") for key in value):
            return {key: _plain(item, f"{path}/{key}", tensors) for key, item in value.items()}
        keys = [_plain(key, path, tensors) for key in value]
        items = [_plain(item, f"{path}/{key}", tensors) for key, item in value.items()]
        return {"$items": [list(pair) for pair in zip(keys, items, strict=True)]}
    raise ParamError(
        f"{path!r} is a {type(value).__name__}, which a checkpoint cannot hold: only numbers, text, tensors"
    )


def _restored(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_restored(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    tag = next(iter(value), "") if len(value) == 1 else ""
    if tag == "$float":
        return float(value[tag])
    if tag == "$tensor":
        return tensors[value[tag]]
    if tag == "$tuple":
        return tuple(_restored(item, tensors) for item in value[tag])
    if tag == "$items":
        return {_restored(key, tensors): _restored(item, tensors) for key, item in value[tag]}
    return {key: _restored(item, tensors) for key, item in value.items()}
