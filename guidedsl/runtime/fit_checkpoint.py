"""A running fit on disk, so that a kill at any moment costs no more than the time since the last checkpoint."""

from __future__ import annotations

import hashlib
import math
import os
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from guidedsl.runtime.checkpoint import read_checkpoint, write_checkpoint
from guidedsl.runtime.errors import InferenceError
from guidedsl.runtime.unread import Unread

if TYPE_CHECKING:
    from guidedsl.runtime.data import Data
    from guidedsl.runtime.params import ParamStore

KIND = "a running fit"
FORMAT = 1
SAMPLED_ROWS = 256
"""Rows of an array on disk that tell it from another one."""


class FitCheckpoint:
    """The file of one fit, rewritten every `every` seconds.

    `program` says what is fitted to what and how: a file that says otherwise is refused.
    """

    def __init__(self, path: str | os.PathLike[str], every: float, program: Mapping[str, object]) -> None:
        self.path, self.every, self.program = Path(path), every, dict(program)
        if not self.path.parent.is_dir():
            raise InferenceError(f"fit(checkpoint={str(path)!r}): there is no folder {str(self.path.parent)!r}")
        self._written = time.monotonic()

    def offer(self, state: Callable[[], Mapping[str, Any]]) -> None:
        """Writes what `state` gives where it is time to. A disk that is full does not end the fit, it is warned of."""
        if time.monotonic() - self._written < self.every:
            return
        tree = {"format": FORMAT, "program": self.program, "state": state()}
        try:
            write_checkpoint(self.path, KIND, tree, nan_ok=True)
        except OSError as problem:
            reason = problem.strerror or str(problem)
            warnings.warn(f"the fit goes on without a new checkpoint: {self.path}: {reason}", stacklevel=2)
        self._written = time.monotonic()

    def read(self) -> dict[str, Any]:
        """The state in the file. Raises InferenceError for another fit's, ParamError for a damaged or foreign file."""
        if not self.path.exists():
            raise InferenceError(
                f"{str(self.path)!r} is not there: no fit to go on with. A fit writes it every {self.every:g} s and "
                "removes it when it ends; begin anew without `resume`"
            )
        tree = read_checkpoint(self.path, KIND)
        if tree.get("format") != FORMAT or not isinstance(tree.get("program"), dict):
            raise InferenceError(
                f"{str(self.path)!r} is of another version of guidedsl: go on with that, or begin anew"
            )
        for key, own in self.program.items():
            saved = tree["program"].get(key)
            if saved != own:
                what = "another" if key in ("data", "source_sha256") else f"{saved}, not {own}"
                label = {"source_sha256": "text of the program"}.get(key, key)
                raise InferenceError(
                    f"{str(self.path)!r} is the checkpoint of another fit, nothing was changed: its {label} is {what}. "
                    "Resume with what it was begun with, or begin anew"
                )
        state: dict[str, Any] = tree["state"]
        return state

    def remove(self) -> None:
        """Removes the file, and what a kill while writing left beside it."""
        for leftover in self.path.parent.glob(f".{self.path.name}.*.tmp"):
            leftover.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)


def buffers(store: ParamStore) -> dict[str, Tensor]:
    """What the modules of a store hold besides parameters, such as running means."""
    return {
        f"{name}.{local}": buffer for name, module in store.modules.items() for local, buffer in module.named_buffers()
    }


@torch.no_grad()
def restore_buffers(store: ParamStore, saved: Mapping[str, Tensor]) -> None:
    """Sets them, in place. Raises InferenceError, with nothing changed, where they are others."""
    own = buffers(store)
    shapes = {name: (tuple(value.shape), value.dtype) for name, value in own.items()}
    if shapes != {name: (tuple(value.shape), value.dtype) for name, value in saved.items()}:
        raise InferenceError(
            "the checkpoint is of other nets: their buffers differ; pass the nets that it was begun with"
        )
    for name, value in saved.items():
        own[name].copy_(value)


def data_digest(data: Data) -> str:
    """A hash of all that is bound, of arrays that stay on disk their shape and some of their rows."""
    digest = hashlib.sha256()
    for name, value in sorted(vars(data.full).items()):
        if isinstance(value, Tensor):
            _add(digest, name, value)
        elif isinstance(value, Unread):
            rows = min(SAMPLED_ROWS, value.shape[0])
            picked = torch.linspace(0, value.shape[0] - 1, rows, dtype=torch.float64).long()
            _add(digest, f"{name} {value.shape}", value.take({0: picked}))
        elif isinstance(value, int):
            digest.update(f"{name} {value}\n".encode())
    return digest.hexdigest()


def _add(digest: Any, name: str, value: Tensor) -> None:
    digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
    # Bytes as they are in memory, which any dtype has, and without a second copy of them.
    digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)


def check_every(every: float) -> None:
    """Raises InferenceError for what is no span of time."""
    if isinstance(every, bool) or not isinstance(every, int | float) or not (math.isfinite(every) and every >= 0):
        raise InferenceError(f"fit(checkpoint_every={every}): seconds between checkpoints, 0 or more")
