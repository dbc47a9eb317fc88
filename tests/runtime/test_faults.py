"""What is said of a value that is not of its type: the first thing that is wrong with it, with numbers."""

from __future__ import annotations

import pytest
import torch

from guidedsl.runtime import constraints
from guidedsl.runtime.constraints import Constraint
from guidedsl.runtime.errors import InferenceError
from guidedsl.runtime.faults import fault
from guidedsl.runtime.functions import checked

FAULTS: list[tuple[Constraint, object, str]] = [
    (constraints.simplex, [0.5, 0.8], "its entries add up to 1.3"),
    (constraints.simplex, [1.5, -0.5], "entry 1 is -0.5"),
    (constraints.simplex, [float("nan"), 1.0], "entry 0 is nan"),
    (constraints.ordered, [0.0, 2.0, 1.0], "entry 2, 1, is not above entry 1, 2"),
    (constraints.positive_ordered, [-1.0, 2.0], "its first entry is -1"),
    (constraints.zero_sum, [1.0, 2.0], "its entries add up to 3"),
    (constraints.unit_vector, [3.0, 4.0], "its norm is 5"),
    (constraints.lower_cholesky, [[1.0, 0.5], [0.0, 1.0]], "entry 0, 1, above the diagonal, is 0.5"),
    (constraints.lower_cholesky, [[1.0, 0.0], [0.0, -1.0]], "entry 1 of its diagonal is -1"),
    (constraints.unit_lower_cholesky, [[1.0, 0.0], [0.0, 2.0]], "entry 1 of its diagonal is 2"),
    (constraints.corr_cholesky, [[1.0, 0.0], [3.0, 4.0]], "row 1 has norm 5"),
    (constraints.cov, [[1.0, 2.0], [2.0, 1.0]], "its smallest eigenvalue is -1, so it is not positive definite"),
    (constraints.cov, [[1.0, 0.5], [0.2, 1.0]], "entries 0, 1 and 1, 0 are 0.5 and 0.2"),
    (constraints.cov, [[0.0, 0.0], [0.0, 1.0]], "entry 0 of its diagonal is 0"),
    (constraints.corr, [[1.0, 0.0], [0.0, 2.0]], "entry 1 of its diagonal is 2"),
]


@pytest.mark.parametrize(("constraint", "value", "said"), FAULTS, ids=lambda part: str(part)[:40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_first_fault_is_named(constraint: Constraint, value: object, said: str, dtype: torch.dtype) -> None:
    event = torch.tensor(value, dtype=dtype)
    assert not bool(constraint.check(event))
    assert fault(constraint, event) == said


def test_an_asserted_let_says_which_of_its_rows_is_wrong() -> None:
    good = torch.eye(2, dtype=torch.float64)
    rows = torch.stack((good, good - 2))
    with pytest.raises(InferenceError, match=r"`K` is a matrix which is not cov: entry 0 of its diagonal is -1"):
        checked(rows, constraints.cov, "K")
    with pytest.raises(InferenceError, match=r"`s` is -1, which is not positive"):
        checked(torch.tensor([1.0, -1.0]), constraints.positive, "s")
    assert checked(good, constraints.cov, "K") is good
