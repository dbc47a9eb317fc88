"""`--plot FILE`, of the commands that have a fit at hand."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from guidedsl.cli.session import FOUND, USAGE, Stop

if TYPE_CHECKING:
    from guidedsl.runtime.fit import Fit

ENDINGS = (".png", ".pdf", ".svg", ".jpg")


def check_plot(path: str | None) -> None:
    """Stops with 2, before any work, where no plot can be drawn or written there."""
    if path is None:
        return
    if Path(path).suffix.lower() not in ENDINGS:
        raise Stop(USAGE, f"--plot {path}: the ending says in which format", hint=f"one of {', '.join(ENDINGS)}")
    if not Path(path).absolute().parent.is_dir():
        raise Stop(USAGE, f"--plot {path}: there is no such folder")
    if find_spec("matplotlib") is None:
        raise Stop(USAGE, "--plot needs matplotlib", hint="pip install guidedsl[plots]")


def write_plot(fit: Fit, path: str) -> None:
    """Draws the fit. Stops with 1 where the file cannot be written."""
    from guidedsl.runtime.plots import save

    try:
        save(fit, path)
    except OSError as problem:
        raise Stop(FOUND, f"{path} cannot be written: {problem.strerror or problem}") from None
