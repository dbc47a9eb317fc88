"""What pip does with a package that it installs, and what a checkout may lack."""

from __future__ import annotations

import compileall
from pathlib import Path


def as_installed() -> None:
    """Has guidedsl's modules compiled, so that a cold process finds them as it finds torch's."""
    compileall.compile_dir(Path(__file__).resolve().parent.parent / "guidedsl", quiet=1)
