"""Finite discrete latents summed out exactly: a typed model in, the same model without them out."""

from __future__ import annotations

from guidedsl.check.enumeration.classes import classes_of
from guidedsl.check.enumeration.elimination import sum_out

__all__ = ["classes_of", "sum_out"]
