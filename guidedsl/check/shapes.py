"""Event shapes: unification by dim name, aligned from the right."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from guidedsl import ir
from guidedsl.library import supports as s
from guidedsl.sizes import Size

NEW = Size.of("new")
"""An axis made by `x[new]`: the only one that stands beside every size."""

Event = tuple[Size, ...]

DIM_RANGE = s.Range(1.0, s.INF, True, False, integer=True)
"""What a dim's size may be."""


def show(event: Event, plates: Iterable[str] = ()) -> str:
    """A shape as users write it: `[schools, K]`."""
    return f"[{', '.join((*plates, *(size.written for size in event)))}]"


def unify(left: Event, right: Event) -> Event | None:
    """The common shape, or None. A shorter shape is aligned with the right end of the longer one."""
    if len(left) < len(right):
        left, right = right, left
    offset = len(left) - len(right)
    result = list(left[:offset])
    for a, b in zip(left[offset:], right, strict=True):
        if a == b or b == NEW:
            result.append(a)
        elif a == NEW:
            result.append(b)
        else:
            return None
    return tuple(result)


def fits(event: Event, target: Event) -> bool:
    """Whether `event` broadcasts to `target` without making it larger."""
    return unify(event, target) == target


def carries(event: Event, target: Event) -> bool:
    """Whether `event` is `target` in full: nothing is shared along any of its dims."""
    return event == target


def match(pattern: tuple[str, ...], event: Event, letters: dict[str, Size]) -> bool:
    """Match the last dims of `event` with letters, binding those not yet bound; `K - 1` binds K to one more."""
    own = event[len(event) - len(pattern) :]
    for text, size in zip(pattern, own, strict=True):
        letter, _, less = text.partition(" - ")
        whole = size + Size.of(int(less)) if less else size
        if letters.setdefault(letter, whole) != whole:
            return False
    return True


def latest(types: Iterable[ir.Type]) -> ir.Stage:
    """The last stage among `types`."""
    return max((type.stage for type in types), default=ir.Stage.CONSTANT)


def as_size(expr: ir.Expr) -> Size | None:
    """The size that an expression of dims and whole numbers stands for."""
    if isinstance(expr, ir.DimValue):
        return expr.size
    if isinstance(expr, ir.Const) and float(expr.value).is_integer() and abs(expr.value) < 2**53:
        return Size.of(int(expr.value))
    if expr.type.value is not None and expr.type.value.is_integer() and abs(expr.type.value) < 2**53:
        return Size.of(int(expr.type.value))
    return None


def indexed_size(target: str, plates: Mapping[str, ir.Plate]) -> Size:
    """How many rows or positions an `index` of a plate, a dim or a number points into."""
    if target in plates:
        return plates[target].size
    return Size.of(int(target) if target.isdecimal() else target)


def offset(text: str, letters: dict[str, Size]) -> Size:
    """`K - 1`, for the size that K stands for."""
    words = text.split()
    size = letters.get(words[0], Size.of(words[0]))
    return size - Size.of(int(words[2])) if len(words) == 3 else size
