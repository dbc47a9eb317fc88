"""Parameters on disk: safetensors with JSON metadata, written atomically, read without trust.

A file holds the unconstrained coordinates of each parameter under its name, and under the metadata key `guidedsl` one
JSON object: `format`, `params` (a `Record` for each name) and whatever else the caller adds. The key `sha256` holds the
digest of all of it, so that a file that a disk or a network changed is refused. Reading runs no code.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from guidedsl.runtime import constraints
from guidedsl.runtime.constraint_base import Constraint, shorten
from guidedsl.runtime.errors import ParamError

FORMAT = 1

_KEY = "guidedsl"
_DIGEST = "sha256"
_FIELDS = {"constraint", "event_dim", "shape", "lr", "frozen"}


@dataclass(frozen=True, eq=False)
class Record:
    """What is known of a parameter besides its coordinates. `shape` is that of the constrained value, all rows."""

    constraint: Constraint
    event_dim: int
    shape: tuple[int, ...]
    lr: float | None
    frozen: bool

    def to_json(self) -> dict[str, Any]:
        """A JSON-able dict that `read_record` takes."""
        return {
            "constraint": self.constraint.to_json(),
            "event_dim": self.event_dim,
            "shape": list(self.shape),
            "lr": self.lr,
            "frozen": self.frozen,
        }


def read_record(name: str, record: object, free: object) -> Record:
    """The record of parameter `name`, checked, also against its coordinates. Raises ParamError, naming it."""
    problem = _record_problem(record) or _free_problem(free)
    if problem is not None:
        raise ParamError(f"{name!r}: {problem}")
    assert isinstance(record, Mapping)
    assert isinstance(free, Tensor)
    shape, event_dim = tuple(record["shape"]), record["event_dim"]
    try:
        constraint = constraints.from_json(record["constraint"])
        expected = constraint.free_shape(shape)
    except ParamError as error:
        raise ParamError(f"{name!r}: {error}") from None
    if expected != tuple(free.shape):
        raise ParamError(
            f"{name!r}: a {constraint} of shape {list(shape)} has coordinates of shape {list(expected)}, "
            f"not {list(free.shape)}"
        )
    if not constraint.event_dim <= event_dim <= len(shape):
        raise ParamError(f"{name!r}: event_dim {event_dim} does not fit a {constraint} of shape {list(shape)}")
    lr = None if record["lr"] is None else float(record["lr"])
    return Record(constraint, event_dim, shape, lr, record["frozen"])


def _record_problem(record: object) -> str | None:
    if not isinstance(record, Mapping) or set(record) != _FIELDS:
        return f"its metadata does not have the fields {', '.join(sorted(_FIELDS))}"
    shape, lr = record["shape"], record["lr"]
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        return "its shape is not a list of sizes"
    if type(record["event_dim"]) is not int:
        return "its event_dim is not a whole number"
    if not isinstance(record["frozen"], bool):
        return "its `frozen` is neither true nor false"
    if lr is not None and not (type(lr) in (int, float) and 0 <= lr <= sys.float_info.max):
        return "its learning rate is not a number from 0 on"
    return None


def _free_problem(free: object) -> str | None:
    if not isinstance(free, Tensor) or not free.is_floating_point():
        return "its coordinates are not a floating-point tensor"
    if not bool(free.isfinite().all()):
        return f"{int((~free.isfinite()).sum())} of its {free.numel()} coordinates are NaN or infinite"
    return None


def write_file(path: str | os.PathLike[str], tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Writes tensors and a JSON-able header. A kill or an error at any moment leaves the old file or the new one.

    Raises ParamError for a header that JSON cannot hold, and OSError as the file system does.
    """
    try:
        text = json.dumps({"format": FORMAT, **header}, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ParamError(f"the metadata for {os.fspath(path)!r} cannot be written as JSON: {error}") from None
    # Clones, for safetensors refuses tensors that share memory.
    copies = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    body = save(copies)
    start = 8 + int.from_bytes(body[:8], "little")
    digest = _digest(body[8:start], text)
    digest.update(memoryview(body)[start:])
    content = save(copies, metadata={_KEY: text, _DIGEST: digest.hexdigest()})
    target = Path(path).resolve()
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # elsewhere a folder cannot be opened, and the rename is as durable as it gets
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_file(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors, on the CPU, and the header that `write_file` wrote.

    Raises ParamError for a file that is not one of ours, truncated, or of a later format; OSError if it cannot be read.
    """
    name = os.fspath(path)
    with Path(path).open("rb"):  # so that a missing or unreadable file is an OSError that says so
        pass
    try:
        with safe_open(name, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            text = metadata.get(_KEY)
            # Clones, for the tensors may be views of the mapped file.
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, TypeError, RuntimeError, AttributeError, KeyError) as error:
        if _is_pickle(path):
            raise ParamError(
                f"{name!r} is a pickle, as torch.save and Pyro's store write them, which runs code when read and is "
                "not read here: load it where it comes from, and assign its values by name."
            ) from None
        raise ParamError(f"{name!r} is not a safetensors file, or it is damaged: {error}") from None
    header = _read_json(text)
    if header is None:
        raise ParamError(f"{name!r} was not written by guidedsl: it has no metadata of ours. See ParamStore.save.")
    if header.get("format") != FORMAT:
        found = shorten(header.get("format"))
        raise ParamError(f"{name!r} has format {found}; this version reads format {FORMAT}: use the one that wrote it.")
    if _digest_of_file(path, metadata[_KEY]) != metadata.get(_DIGEST):
        raise ParamError(f"{name!r} is damaged: its content is not what was written. Take another copy of it.")
    return tensors, header


def _digest(table: bytes, text: str) -> Any:
    """The digest of what a safetensors header says of its tensors and of our JSON; the tensors' bytes come after."""
    tensors = {name: entry for name, entry in json.loads(table).items() if name != "__metadata__"}
    return hashlib.sha256(f"{json.dumps(tensors, sort_keys=True)}\n{text}\n".encode())


def _digest_of_file(path: str | os.PathLike[str], text: str) -> str:
    with Path(path).open("rb") as file:
        digest = _digest(file.read(int.from_bytes(file.read(8), "little")), text)
        while part := file.read(1 << 20):
            digest.update(part)
    return str(digest.hexdigest())


def _is_pickle(path: str | os.PathLike[str]) -> bool:
    with Path(path).open("rb") as file:
        return file.read(4).startswith((b"PK\3\4", b"\x80\2", b"\x80\3", b"\x80\4", b"\x80\5"))


def _read_json(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        header = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None
    return header if isinstance(header, dict) else None


def _refuse_constant(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")


def read_records(tensors: Mapping[str, Tensor], params: object) -> tuple[dict[str, Record], list[str]]:
    """The records of a file or a state, in its order, and what is wrong with them, one message each."""
    if not isinstance(params, Mapping):
        return {}, ["it has no table of parameters"]
    records: dict[str, Record] = {}
    problems = [f"{name!r}: a tensor without metadata" for name in tensors if name not in params]
    for name, record in params.items():
        try:
            records[name] = read_record(name, record, tensors.get(name))
        except ParamError as error:
            problems.append(str(error))
    return records, problems


def device_of(map_location: str | torch.device | None) -> torch.device:
    """The device that loaded parameters go to. Raises ParamError for one that there is not."""
    try:
        device = torch.device("cpu" if map_location is None else map_location)
        torch.empty(0, device=device)
    except (RuntimeError, TypeError, AssertionError, NotImplementedError) as error:
        raise ParamError(f"map_location {map_location!r} is not a device of this machine: {error}") from None
    if device.type == "meta":
        raise ParamError("map_location 'meta' holds no values; name a real device.")
    return device
