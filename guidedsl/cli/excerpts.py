"""Diagnostics for people: the message, the lines it is about with marks under them, and the edit that mends it."""

from __future__ import annotations

import unicodedata
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from functools import lru_cache

from guidedsl.diagnostics import Diagnostic, Label
from guidedsl.source import Source

TAB = 4
MIN_WIDTH = 24

_STYLES = {
    "error": "1;31",
    "warning": "1;33",
    "gutter": "1;34",
    "hint": "1;32",
    "bold": "1",
    "secondary": "1;36",
    "added": "32",
    "removed": "31",
}


def paint(text: str, style: str, color: bool) -> str:
    """`text` in a style of the terminal, or as it is."""
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if color and text else text


def printable(text: str) -> str:
    """`text` without what would move a terminal's cursor or turn its direction."""
    return "".join(char if char in "\n\t" else _visible(char) for char in text)


def _visible(char: str) -> str:
    category = unicodedata.category(char)
    if category in ("Cc", "Cs", "Zl", "Zp") or (category == "Cf" and char not in "\u200c\u200d\u00ad"):
        return "\ufffd"
    return char


def _width(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def display_width(text: str) -> int:
    """How many columns of a terminal `text` takes."""
    return sum(_width(char) for char in text)


@dataclass(frozen=True)
class _Mark:
    """What is underlined in one line: the columns `start:end` of the display, and what is said of them."""

    line: int
    start: int
    end: int
    text: str
    primary: bool


@dataclass(frozen=True)
class _Line:
    """One line of the text as the terminal shows it. `columns[i]` is where character i begins; one more for the end."""

    cells: tuple[str, ...]
    columns: tuple[int, ...]

    @property
    def width(self) -> int:
        return self.columns[-1]

    def window(self, low: int, high: int) -> tuple[str, int]:
        """The columns `low:high` of the line with `…` where it was cut, and the column of its first character."""
        first, end = bisect_left(self.columns, low), bisect_right(self.columns, high) - 1
        if first >= end or (first == 0 and end == len(self.cells)):
            return "".join(self.cells), 0
        before, after = first > 0, end < len(self.cells)
        text = "".join(self.cells[first:end])
        return ("…" if before else "") + text + ("…" if after else ""), self.columns[first] - before


@lru_cache(maxsize=8)
def _display(text: str) -> _Line:
    cells: list[str] = []
    columns = [0]
    for char in text:
        cell = " " * (TAB - columns[-1] % TAB) if char == "\t" else _visible(char)
        cells.append(cell)
        columns.append(columns[-1] + (len(cell) if char == "\t" else _width(cell)))
    return _Line(tuple(cells), tuple(columns))


def render_text(source: Source, diagnostic: Diagnostic, *, color: bool = False, width: int = 120) -> str:
    """One diagnostic with its excerpt, ending in a newline."""
    severity, place = diagnostic.severity, diagnostic.primary.span
    head = paint(f"{severity}[{diagnostic.code}]", severity, color)
    labels = [diagnostic.primary] if diagnostic.secondary is None else [diagnostic.primary, diagnostic.secondary]
    own = [label for label in labels if label.source is None]
    digits = len(str(max(label.span.line for label in labels)))
    arrow = paint(" " * digits + "-->", "gutter", color)
    lines = [
        head + paint(f": {printable(diagnostic.message)}", "bold", color),
        f"{arrow} {printable(source.name)}:{place.line}:{place.column}",
        *_Excerpt(source, severity, digits, color, width).lines(own, diagnostic.primary),
    ]
    for label in labels:
        if label.source is not None:
            dots = paint(" " * digits + ":::", "gutter", color)
            lines.append(f"{dots} {printable(label.source.name)}:{label.span.line}:{label.span.column}")
            lines += _Excerpt(label.source, severity, digits, color, width).lines([label], diagnostic.primary)
    if diagnostic.hint is not None:
        lines.append(paint("hint", "hint", color) + f": {printable(diagnostic.hint)}")
    return "\n".join(lines) + "\n"


class _Excerpt:
    def __init__(self, source: Source, severity: str, digits: int, color: bool, width: int) -> None:
        self.source, self.severity, self.digits, self.color = source, severity, digits, color
        self.room = max(MIN_WIDTH, width - digits - 3)

    def lines(self, labels: list[Label], primary: Label) -> list[str]:
        marks = [self._mark(label, label is primary) for label in labels]
        found = [self._gutter()]
        previous: int | None = None
        for line in sorted({mark.line for mark in marks}):
            found += self._between(previous, line)
            found += self._row(line, sorted((m for m in marks if m.line == line), key=lambda mark: mark.start))
            previous = line
        return [*found, self._gutter()]

    def _mark(self, label: Label, primary: bool) -> _Mark:
        span = label.span
        text = self._text(span.line)
        columns = _display(text).columns
        first = min(span.column - 1, len(text))
        ends_here = "\n" not in self.source.excerpt(span)
        last = min(first + span.end - span.start, len(text)) if ends_here else len(text.rstrip())
        start = columns[first]
        return _Mark(span.line, start, max(start + 1, columns[max(first, last)]), printable(label.text), primary)

    def _text(self, line: int) -> str:
        return self.source.lines[line - 1] if line <= len(self.source.lines) else ""

    def _gutter(self, number: int | None = None, text: str = "") -> str:
        shown = "" if number is None else str(number)
        bar = paint(f"{shown:>{self.digits}} |", "gutter", self.color)
        return f"{bar} {text}" if text else bar

    def _between(self, previous: int | None, line: int) -> list[str]:
        """What stands between two lines of an excerpt: nothing, the one line that there is, or dots."""
        if previous is None or line == previous + 1:
            return []
        if line == previous + 2:
            shown = _display(self._text(line - 1))
            return [self._gutter(line - 1, shown.window(0, self.room - 1)[0].rstrip())]
        return [paint("...", "gutter", self.color)]

    def _row(self, number: int, marks: list[_Mark]) -> list[str]:
        line = _display(self._text(number))
        reach = marks[-1].start - marks[0].start
        if len(marks) == 2 and line.width > self.room and reach > self.room * 2 // 3:
            first, second = marks
            dots = paint("...", "gutter", self.color)
            return [*self._row(number, [first]), dots, *self._row(number, [second])]
        text, origin = self._window(line, marks)
        rows = [self._gutter(number, text.rstrip())]
        edge = display_width(text)
        placed = [
            (mark, mark.start - origin, max(mark.start - origin + 1, min(mark.end - origin, edge))) for mark in marks
        ]
        return [*rows, *(self._gutter(text=row) for row in self._underlines(placed))]

    def _window(self, line: _Line, marks: list[_Mark]) -> tuple[str, int]:
        if line.width <= self.room:
            return "".join(line.cells), 0
        room = self.room - 2
        start = marks[0].start
        length = min(max(mark.end for mark in marks) - start, room)
        low = max(0, min(start - (room - length) // 2, line.width - room))
        return line.window(low, low + room)

    def _underlines(self, marks: list[tuple[_Mark, int, int]]) -> list[str]:
        """The row of carets and dashes, with the last label beside it and the other below."""
        owner: dict[int, _Mark] = {}
        for mark, start, end in sorted(marks, key=lambda item: item[0].primary):
            owner |= dict.fromkeys(range(start, end), mark)
        row = "".join(self._sign(owner.get(column)) for column in range(max(owner) + 1))
        *hanging, (last, last_start, last_end) = marks
        past_edge = last_end + 1 + display_width(last.text) > self.room >= last_start + display_width(last.text)
        if past_edge and not hanging:
            return [row, " " * last_start + self._style(last, last.text)]
        if hanging and hanging[0][2] > last_end:
            return [row, *self._hang(last, last_start), *self._hang(hanging[0][0], hanging[0][1])]
        rows = [f"{row} {self._style(last, last.text)}"]
        for mark, start, _ in hanging:
            rows += self._hang(mark, start)
        return rows

    def _hang(self, mark: _Mark, start: int) -> list[str]:
        return [" " * start + self._style(mark, "|"), " " * start + self._style(mark, mark.text)]

    def _sign(self, mark: _Mark | None) -> str:
        return " " if mark is None else self._style(mark, "^" if mark.primary else "-")

    def _style(self, mark: _Mark, text: str) -> str:
        return paint(text, self.severity if mark.primary else "secondary", self.color)
