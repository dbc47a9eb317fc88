"""A fit that `fit --out DIR` kept, loaded with the data that it was fitted to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guidedsl.cli.fit_folder import PARAMS, RECORD, file_sha256, read
from guidedsl.cli.session import FOUND, USAGE, Stop

if TYPE_CHECKING:
    from guidedsl.pipeline import Compiled
    from guidedsl.runtime.fit import Fit


def record_of(folder: Path) -> dict[str, Any]:
    """The record in a folder whose parameters are the recorded ones. Stops with 2 or 1 where it is not so."""
    if not folder.is_dir():
        raise Stop(USAGE, f"{folder}: there is no such folder", hint="`guidedsl fit … --out DIR` makes one")
    record = read(folder)
    if not (folder / PARAMS).is_file():
        raise Stop(USAGE, f"{folder} holds no {PARAMS}")
    if file_sha256(folder / PARAMS) != record["params_sha256"]:
        both = f"{folder / RECORD} and {folder / PARAMS}"
        raise Stop(FOUND, f"{both} are not of one fit: one of them was replaced", hint="fit again")
    return record


def program_file(folder: Path, record: Mapping[str, Any], file: str | None = None) -> str:
    """Where the fit's `.guide` file is. Stops with 2 where the fit does not know it."""
    if file is not None:
        return file
    kept = record.get("file")
    if not isinstance(kept, str):
        raise Stop(USAGE, "this fit does not know its .guide file", hint="--guide-file FILE")
    return os.path.normpath(folder / kept)


def load_fit(folder: Path, record: Mapping[str, Any], compiled: Compiled) -> Fit:
    """The fit, with its data. Stops with 2 where the data is gone, with 1 where it is no longer what it was."""
    from guidedsl.cli.inputs import bind, pick_guide, runtime_guide

    guide = runtime_guide(compiled, pick_guide(compiled, record["guide"]).name)
    dims = {str(name): size for name, size in record["dims"].items() if isinstance(size, int)}
    dtype = {"float32": "float32", "float64": "float64"}.get(str(record["options"].get("dtype")))
    bound = bind(guide.model, _data_file(folder, record), dims, None, dtype)
    return guide.load(folder / PARAMS, bound)


def _data_file(folder: Path, record: Mapping[str, Any]) -> str | None:
    data = record.get("data")
    if not isinstance(data, dict) or not isinstance(data.get("file"), str):
        return None
    path = Path(os.path.normpath(folder / data["file"]))
    if not path.is_file():
        raise Stop(USAGE, f"the data of the fit in {folder}, {path}, is not there", hint="put it back where it was")
    if file_sha256(path) != data.get("sha256"):
        raise Stop(FOUND, f"{path} has changed since the fit in {folder}", hint="fit again")
    return str(path)
