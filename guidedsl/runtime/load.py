"""Data files: JSON objects and NPZ archives, as a dict from field name to array."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from guidedsl.runtime.errors import DataError

MAX_BYTES = 4 * 2**30


def _fail(path: Path, message: str) -> DataError:
    return DataError((f"{path}: {message}",))


def _load_json(path: Path) -> dict[str, object]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _fail(path, f"byte {error.start} is not UTF-8; save the file as UTF-8") from None
    repeated: list[str] = []

    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found: dict[str, object] = {}
        for name, value in pairs:
            if name in found:
                repeated.append(name)
            found[name] = value
        return found

    try:
        fields = json.loads(text, object_pairs_hook=once, parse_int=_integer)
    except json.JSONDecodeError as error:
        raise _fail(path, f"line {error.lineno}, column {error.colno}: not JSON: {error.msg}") from None
    except RecursionError:
        raise _fail(path, "nested too deep for data") from None
    if not isinstance(fields, dict):
        raise _fail(path, f'holds {_kind(fields)}; expected an object from field names to arrays, {{"y": [1, 2]}}')
    if repeated:
        raise _fail(path, f'the name "{repeated[0]}" occurs twice; keep one')
    return fields


def _integer(token: str) -> int | float:
    # int() refuses tokens of more than 4300 digits with a ValueError of its own; as a float that is just inf.
    return int(token) if len(token) < 4000 else float(token)


def _kind(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, list):
        return "an array"
    if isinstance(value, bool):
        return str(value).lower()
    return "a string" if isinstance(value, str) else "a number"


def _load_npz(path: Path) -> dict[str, object]:
    try:
        import numpy
    except ImportError:
        raise _fail(path, "reading .npz needs numpy: pip install numpy, or save the data as JSON") from None
    try:
        # numpy leaves a file that it opened itself to the garbage collector when the archive is damaged.
        with path.open("rb") as file:
            archive = numpy.load(file, allow_pickle=False)
            if not isinstance(archive, numpy.ndarray):
                return {name: archive[name] for name in archive.files}
    except Exception as error:  # a damaged header makes numpy raise almost anything, tokenize's errors included
        reason = "holds Python objects, which are never loaded" if "allow_pickle" in str(error) else f"{error}"
        raise _fail(path, f"not a readable NPZ archive: {reason}") from None
    raise _fail(path, "is one array (.npy), not an archive; save it with numpy.savez(path, y=y)")


_LOADERS: dict[str, Callable[[Path], dict[str, object]]] = {".json": _load_json, ".npz": _load_npz}


def load_fields(path: str | Path) -> dict[str, object]:
    """The fields in a `.json` or `.npz` file, by name; null is None, which binding takes as NaN.

    Raises `DataError` naming the file where it is missing, a folder, unreadable, malformed or of another kind.
    """
    path = Path(path)
    if "\0" in str(path):
        raise DataError((f"{str(path)!r}: a file name cannot hold a NUL",))
    if path.is_dir():
        raise _fail(path, "is a folder; name the data file in it")
    if not path.exists():
        raise _fail(path, "there is no such file")
    loader = _LOADERS.get(path.suffix.lower())
    if loader is None:
        raise _fail(path, f"unknown kind of data file `{path.suffix}`; use .json or .npz")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise _fail(path, f"is larger than {MAX_BYTES // 2**30} GiB; pass arrays from Python instead")
        return loader(path)
    except OSError as error:
        raise _fail(path, f"cannot be read: {error.strerror or error}") from None
