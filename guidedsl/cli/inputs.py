"""What `fit` and `summary` take from the command line, as values of the runtime."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from guidedsl.cli.names import pick
from guidedsl.cli.session import USAGE, Stop
from guidedsl.modules import module_name, run_module
from guidedsl.pipeline import Compiled

if TYPE_CHECKING:
    from guidedsl import ir
    from guidedsl.runtime.model import Guide, Model


def pick_guide(compiled: Compiled, name: str | None) -> ir.Guide:
    """The guide of this name, or the file's only one. Stops with 2, saying which there are."""
    guides = {guide.name: guide for guide in compiled.program.guides}
    return guides[pick(name, guides, "guide", compiled.source.name)]


def read_dims(written: Iterable[str], model: ir.Model) -> dict[str, int]:
    """`K=8` by dim. Stops with 2 for anything else, and for a dim that the model does not have."""
    dims: dict[str, int] = {}
    for text in written:
        name, equals, size = (part.strip() for part in text.partition("="))
        if not equals or not size.isdecimal() or len(size) > 18:
            raise Stop(USAGE, f"--dim {text} is not NAME=SIZE with a whole number", hint="--dim K=8")
        dims[pick(name, (dim.name for dim in model.dims), "dim", model.name)] = int(size)
    return dims


def pick_sites(written: Iterable[str], model: ir.Model) -> tuple[str, ...]:
    """The latents, lets and emits that a summary is to show. Stops with 2 for what it will not have."""
    from guidedsl import ir

    inside = (one for scan in model.statements if isinstance(scan, ir.Scan) for one in scan.emits)
    lets = [one for one in (*model.statements, *inside) if isinstance(one, ir.Let) and one not in model.derived]
    fed = {plate.name for plate in model.plates if plate.batching == "minibatch"}
    sites: list[ir.Latent | ir.Let] = [*model.latents, *lets]
    shown = [site.name for site in sites if fed.isdisjoint(site.plates)]
    return tuple(pick(name, shown, "site", f"the summary of {model.name}") for name in written)


def require_data(model: ir.Model, path: str | None) -> None:
    """Stops with 2 where the model needs data and no file is named, or where there is no such file."""
    needed = [field.name for field in model.fields if field.default is None]
    if needed and path is None:
        raise Stop(USAGE, f"{model.name} needs data for {', '.join(needed)}", hint="--data FILE.json or FILE.npz")
    if path is not None and not os.path.isfile(path):
        problem = "is a folder; name the data file in it" if os.path.isdir(path) else "there is no such file"
        raise Stop(USAGE, f"--data {path}: {problem}")


def runtime_guide(compiled: Compiled, name: str) -> Guide:
    """The guide as the generated module has it."""
    from guidedsl.runtime.model import Guide

    module = _run(compiled)
    return next(value for value in vars(module).values() if isinstance(value, Guide) and value.name == name)


def _run(compiled: Compiled) -> ModuleType:
    """The generated module; the Python code that its interfaces name is looked for beside the program first."""
    if any(model.origin is not None for model in compiled.program.models):
        look_in(Path(compiled.source.name).resolve().parent)
    return run_module(compiled.python, module_name(Path(compiled.source.name)))


def look_in(folder: Path) -> None:
    """Modules are looked for in this folder first."""
    if sys.path[:1] != [str(folder)]:
        sys.path.insert(0, str(folder))


def runtime_model(compiled: Compiled, name: str) -> Model:
    """The model as the generated module has it."""
    from guidedsl.runtime.model import Model

    module = _run(compiled)
    return next(value for value in vars(module).values() if isinstance(value, Model) and value.name == name)


def bind(model: Model, path: str | None, dims: Mapping[str, int], device: str | None, dtype: str | None) -> Any:
    """The data of a file, which has all rows, bound.

    Raises DataError, each problem naming the file; stops with 2 for a bad device.
    """
    import torch

    from guidedsl.runtime.errors import DataError
    from guidedsl.runtime.feed import sizes_of_all_rows
    from guidedsl.runtime.load import load_fields

    _check_device(device)
    fields = {} if path is None else load_fields(path)
    dims = sizes_of_all_rows(model, fields) | dict(dims)
    try:
        return model.data(fields, device=device, dtype=None if dtype is None else getattr(torch, dtype), **dims)
    except DataError as error:
        raise DataError(
            tuple(problem if path is None else f"{path}: {problem}" for problem in error.problems)
        ) from None


def _check_device(name: str | None) -> None:
    import torch

    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).split("\n", 1)[0]
        raise Stop(USAGE, f"--device {name}: there is no such device here ({reason})", hint="--device cpu") from None
