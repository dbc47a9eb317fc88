"""Source texts and places in them."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path

MAX_BYTES = 4_000_000


class UnreadableSource(Exception):
    """A file that cannot be taken as `.guide` text; the message says why, for a person."""


@dataclass(frozen=True)
class Span:
    """A half-open range of characters, with the 1-based line and column where it starts."""

    start: int
    end: int
    line: int
    column: int

    def to(self, other: Span) -> Span:
        """The span from the start of this one to the end of `other`."""
        return Span(self.start, max(self.end, other.end), self.line, self.column)


@dataclass(frozen=True)
class Source:
    """A named text. `name` is what messages show; it need not be a file."""

    name: str
    text: str

    @cached_property
    def lines(self) -> tuple[str, ...]:
        return tuple(self.text.split("\n"))

    @cached_property
    def _line_starts(self) -> list[int]:
        return [0, *accumulate(len(line) + 1 for line in self.lines[:-1])]

    @cached_property
    def sha256(self) -> str:
        import hashlib  # slow to import, and not needed to check a file

        return hashlib.sha256(self.text.encode()).hexdigest()

    def span(self, start: int, end: int) -> Span:
        """The span of characters `start:end`, clamped to the text."""
        start = max(0, min(start, len(self.text)))
        end = max(start, min(end, len(self.text)))
        line = bisect_right(self._line_starts, start)
        return Span(start, end, line, start - self._line_starts[line - 1] + 1)

    def excerpt(self, span: Span) -> str:
        return self.text[span.start : span.end]


def read_source(path: Path, name: str | None = None) -> Source:
    """Read a `.guide` file.

    Raises:
        UnreadableSource: missing, a directory, too large, not UTF-8, or with NUL bytes.
    """
    shown = name or str(path)
    if "\n" in shown:
        raise UnreadableSource("this is the text of a program; what is read is a .guide file, by its path")
    try:
        if path.is_dir():
            raise UnreadableSource(f"{shown} is a directory; name a .guide file in it")
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise UnreadableSource(f"{shown}: there is no such file") from None
    except OSError as error:
        raise UnreadableSource(f"{shown} cannot be read: {error.strerror}") from None
    return decode_source(raw, shown)


def decode_source(raw: bytes, name: str) -> Source:
    """Decode UTF-8 text, with or without a byte order mark and with any line ends.

    Raises:
        UnreadableSource: too large, not UTF-8, or with NUL bytes.
    """
    if len(raw) > MAX_BYTES:
        raise UnreadableSource(f"{name} is larger than {MAX_BYTES // 10**6} MB, which is more than any program needs")
    if b"\0" in raw:
        raise UnreadableSource(f"{name} holds a NUL byte at offset {raw.index(0)}: it is not a text file")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UnreadableSource(
            f"{name} is not UTF-8 (byte 0x{raw[error.start]:02x} on line {line}); save it as UTF-8"
        ) from None
    return Source(name, text.replace("\r\n", "\n").replace("\r", "\n"))
