"""A line on the terminal that says how a fit goes."""

from __future__ import annotations

import sys
import time
from typing import TextIO


class Progress:
    """One line, rewritten in place a few times a second: step, smoothed ELBO, steps a second, time left if known.

    Shown where `show` says so; None means where stderr is a terminal.
    """

    def __init__(self, name: str, total: int | None = None, show: bool | None = None, to: TextIO | None = None) -> None:
        self._out = sys.stderr if to is None else to
        self._show = self._out.isatty() if show is None else show
        self._name, self._total = name, total
        self._began = self._written = time.monotonic()
        self._smooth: float | None = None

    def __call__(self, step: int, loss: float) -> None:
        """Takes the loss at a step."""
        if not self._show:
            return
        if loss == loss and abs(loss) != float("inf"):
            self._smooth = loss if self._smooth is None else 0.9 * self._smooth + 0.1 * loss
        now = time.monotonic()
        if now - self._written < 0.2:
            return
        self._written = now
        rate = step / max(now - self._began, 1e-9)
        left = f", {(self._total - step) / rate:.0f} s left" if self._total and rate > 0 else ""
        elbo = "" if self._smooth is None else f"ELBO {-self._smooth:.2f}, "
        of = f"/{self._total}" if self._total else ""
        self._out.write(f"\r\x1b[K{self._name}: {elbo}step {step}{of}, {rate:.0f} steps/s{left}")
        self._out.flush()

    def close(self) -> None:
        """Clears the line."""
        if self._show:
            self._out.write("\r\x1b[K")
            self._out.flush()
