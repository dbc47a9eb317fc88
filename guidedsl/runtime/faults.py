"""What keeps a vector or a matrix from being of its type, in words."""

from __future__ import annotations

import torch
from torch import Tensor

from guidedsl.runtime.constraint_base import Constraint


def fault(constraint: Constraint, event: Tensor) -> str:
    """The first thing that is wrong with one event, [K] or [K, K], that `constraint.check` refuses."""
    event = event.detach().to(torch.float64)
    infinite = ~event.isfinite()
    if bool(infinite.any()):
        return f"entry {_place(infinite)} is {_first(event, infinite)}"
    match constraint.name:
        case "simplex":
            return _negative(event) or f"its entries add up to {event.sum():g}"
        case "positive_ordered" if bool(event[0] <= 0):
            return f"its first entry is {event[0]:g}"
        case "ordered" | "positive_ordered":
            at = int((event.diff() <= 0).nonzero()[0])
            return f"entry {at + 1}, {event[at + 1]:g}, is not above entry {at}, {event[at]:g}"
        case "zero_sum":
            return f"its entries add up to {event.sum():g}"
        case "unit_vector":
            return f"its norm is {event.norm():g}"
        case "lower_cholesky" | "unit_lower_cholesky" | "corr_cholesky":
            return _triangle(constraint, event)
        case "cov" | "corr":
            return _symmetric(constraint, event)
    return f"it is not {constraint.meaning}"


def _triangle(constraint: Constraint, event: Tensor) -> str:
    above = event.triu(1) != 0
    if bool(above.any()):
        return f"entry {_place(above)}, above the diagonal, is {_first(event, above)}"
    unit = constraint.name == "unit_lower_cholesky"
    diagonal = event.diagonal()
    wrong = (diagonal != 1) if unit else (diagonal <= 0)
    if bool(wrong.any()):
        return f"entry {_place(wrong)} of its diagonal is {_first(diagonal, wrong)}"
    norms = event.norm(dim=-1)
    return f"row {int((norms - 1).abs().argmax())} has norm {norms[(norms - 1).abs().argmax()]:g}"


def _symmetric(constraint: Constraint, event: Tensor) -> str:
    diagonal = event.diagonal()
    wrong = (diagonal - 1).abs() > 1e-5 if constraint.name == "corr" else diagonal <= 0
    if bool(wrong.any()):
        return f"entry {_place(wrong)} of its diagonal is {_first(diagonal, wrong)}"
    gaps = (event - event.mT).abs()
    row, column = divmod(int(gaps.argmax()), len(event))
    least = float(torch.linalg.eigvalsh((event + event.mT) / 2)[0])
    if float(gaps.max()) > 1e-5 * float(diagonal.max()):
        return f"entries {row}, {column} and {column}, {row} are {event[row, column]:g} and {event[column, row]:g}"
    return f"its smallest eigenvalue is {least:g}, so it is not positive definite"


def _negative(event: Tensor) -> str:
    below = event < 0
    return f"entry {_place(below)} is {_first(event, below)}" if bool(below.any()) else ""


def _place(wrong: Tensor) -> str:
    return ", ".join(str(position) for position in wrong.nonzero()[0].tolist())


def _first(event: Tensor, wrong: Tensor) -> str:
    return f"{float(event[wrong][0]):g}"
