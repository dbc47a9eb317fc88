"""The hierarchical logistic regression with 512 of its rows a step."""

from __future__ import annotations

from typing import Any

import works.logistic as full

BATCH = 512
SPEC = full.spec(BATCH)
MODEL, GUIDE, fields = full.MODEL, full.GUIDE, full.fields


def pyro_pair(data: dict[str, Any]) -> tuple[Any, Any]:
    return full.pyro_pair(data, BATCH)


def numpyro_pair(data: dict[str, Any]) -> tuple[Any, Any]:
    return full.numpyro_pair(data, BATCH)


def lean_loss(data: dict[str, Any]) -> tuple[list[Any], Any]:
    return full.lean_loss(data, BATCH)
