"""Columns of text."""

from __future__ import annotations

from collections.abc import Sequence

from guidedsl.cli.excerpts import display_width


def table(header: Sequence[str], rows: Sequence[Sequence[str]], indent: str = "  ") -> str:
    """Rows under a header, columns two spaces apart; a column that is empty in every row is left out."""
    kept = [i for i in range(len(header)) if any(row[i] for row in rows)]
    cells = [[line[i] for i in kept] for line in (header, *rows)]
    widths = [max(display_width(line[i]) for line in cells) for i in range(len(kept))]
    lines = ("  ".join(c + " " * (w - display_width(c)) for c, w in zip(line, widths, strict=True)) for line in cells)
    return "\n".join((indent + line).rstrip() for line in lines)
