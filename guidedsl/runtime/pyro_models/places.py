"""Lines of the user's Python: where a statement of a Pyro model stands, and where one failed."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from dataclasses import dataclass
from types import FrameType, TracebackType

import pyro
import torch

import guidedsl

_NOT_THE_USERS = (
    *(os.path.dirname(os.path.abspath(module.__file__ or "")) + os.sep for module in (pyro, torch, guidedsl)),
    *(os.path.abspath(module.__file__ or "") for module in (contextlib, functools)),
)


@dataclass(frozen=True)
class Place:
    """A line of a Python file."""

    file: str
    line: int

    def __str__(self) -> str:
        """The file as from the working directory, where it is in it."""
        below = self.file.startswith(os.getcwd() + os.sep)
        return f"{os.path.relpath(self.file) if below else self.file}:{self.line}"


def _users(file: str) -> bool:
    return not file.startswith(("<frozen", "<string", *_NOT_THE_USERS))


def place_here() -> Place | None:
    """The innermost line of the user's that is being run."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and not _users(os.path.abspath(frame.f_code.co_filename)):
        frame = frame.f_back
    return None if frame is None else Place(os.path.abspath(frame.f_code.co_filename), frame.f_lineno)


def place_of(traceback: TracebackType | None) -> Place | None:
    """The innermost line of the user's on the way to an error."""
    found = None
    while traceback is not None:
        file = os.path.abspath(traceback.tb_frame.f_code.co_filename)
        if _users(file):
            found = Place(file, traceback.tb_lineno)
        traceback = traceback.tb_next
    return found
