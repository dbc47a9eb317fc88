"""A fit kept in a folder: its parameters, and beside them what it was fitted from and what came out, as JSON."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guidedsl import __version__
from guidedsl.cli.files import write
from guidedsl.cli.session import FOUND, USAGE, Stop

if TYPE_CHECKING:
    from guidedsl.runtime.fit import Fit
    from guidedsl.runtime.posterior import Summary

FORMAT = 1
PARAMS = "params.safetensors"
RECORD = "fit.json"
MAX_BYTES = 2**30

_FIELDS: dict[str, type | tuple[type, ...]] = {
    "heading": str,
    "summary": list,
    "guide": str,
    "params_sha256": str,
    "dims": dict,
    "options": dict,
}
_ROW = ("mean", "sd", "q5", "q50", "q95")


def save(folder: Path, fit: Fit, summary: Summary, file: str, options: Mapping[str, Any]) -> None:
    """Writes both files, each whole or not at all. The record names the parameters by hash, so a mix is noticed."""
    model = fit.guide.model
    fit.save(folder / PARAMS)
    data = options["data"]
    record = {
        "format": FORMAT,
        "guidedsl": __version__,
        "file": None if file == "-" else _relative(file, folder),
        "source_sha256": model.source_sha256,
        "model": model.name,
        "guide": fit.guide.name,
        "data": None if data is None else {"file": _relative(data, folder), "sha256": file_sha256(Path(data))},
        "dims": options["dims"],
        "options": {
            "seed": options["seed"],
            "steps": options["steps"],
            "lr": options["lr"],
            "tolerance": options["tolerance"],
            "particles": options["particles"],
            "kl_annealing": options["kl_annealing"],
            "engine": options["engine"],
            "device": str(fit.data.device),
            "dtype": str(fit.data.dtype).removeprefix("torch."),
        },
        "converged": fit.converged,
        "reason": fit.reason,
        "elbo": _finite(fit.elbo),
        "elbo_error": _finite(fit.elbo_error),
        "steps": fit.steps,
        "seconds": fit.seconds,
        "params_sha256": file_sha256(folder / PARAMS),
        "heading": summary.heading,
        "summary": [{key: _finite(value) for key, value in asdict(row).items()} for row in summary.rows],
        "classes": [asdict(table) for table in summary.classes],
        "lets": list(summary.lets),
        "note": summary.note,
    }
    write(folder / RECORD, (json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def read(folder: Path) -> dict[str, Any]:
    """The record in a folder, checked. Stops with 2 where there is none, with 1 where it is not one of ours."""
    path = folder / RECORD
    try:
        if path.stat().st_size > MAX_BYTES:
            raise Stop(FOUND, f"{path} is larger than a fit can be")
        record = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise Stop(USAGE, f"{folder} holds no {RECORD}", hint=f"guidedsl fit … --out {folder} writes one") from None
    except OSError as problem:
        raise Stop(USAGE, f"{path} cannot be read: {problem.strerror or problem}") from None
    except (ValueError, RecursionError):
        raise Stop(FOUND, f"{path} is not JSON: it is damaged") from None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise Stop(FOUND, f"{path} is not a fit of this version of guidedsl ({__version__})", hint="fit again")
    missing = [name for name, kind in _FIELDS.items() if not isinstance(record.get(name), kind)]
    if missing:
        raise Stop(FOUND, f"{path} is damaged: {', '.join(missing)} missing or of a wrong kind", hint="fit again")
    return record


def summary_of(record: Mapping[str, Any], path: Path) -> Summary:
    """The table in a record. Stops with 1 where it is damaged."""
    from guidedsl.runtime.classes import ClassTable
    from guidedsl.runtime.posterior import Row, Summary

    try:
        rows = tuple(Row(str(row["name"]), *(_number(row[key]) for key in _ROW)) for row in record["summary"])
        tables = tuple(
            ClassTable(
                str(table["name"]),
                tuple(int(value) for value in table["values"]),
                tuple((str(label), tuple(_number(p) for p in row)) for label, row in table["rows"]),
            )
            for table in record.get("classes", ())
        )
    except (KeyError, TypeError, ValueError):
        raise Stop(FOUND, f"{path} is damaged: its summary cannot be read", hint="fit again") from None
    lets, note = record.get("lets", []), record.get("note", "")
    return Summary(record["heading"], rows, tables, tuple(str(name) for name in lets), str(note))


def file_sha256(path: Path) -> str:
    """The hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _relative(file: str, folder: Path) -> str:
    """A path as seen from the folder, so that both can be moved together."""
    try:
        return Path(os.path.relpath(file, folder)).as_posix()
    except ValueError:  # another drive
        return Path(file).resolve().as_posix()


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
