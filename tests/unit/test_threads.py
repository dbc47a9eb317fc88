"""What importing the package sets for programs that share a machine."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

OURS = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
SHOWN = "import guidedsl, os; print(os.environ.get('GOMP_SPINCOUNT'))"


@pytest.mark.parametrize(
    ("chosen", "then"),
    [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "None")],
)
def test_threads_spin_shortly_unless_told_otherwise(chosen: dict[str, str], then: str) -> None:
    others = {key: value for key, value in os.environ.items() if key not in OURS}
    run = subprocess.run([sys.executable, "-c", SHOWN], env=others | chosen, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == then
