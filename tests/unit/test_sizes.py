"""Sizes: arithmetic over dims agrees with arithmetic over numbers, and equal sizes are equal values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guidedsl.sizes import Size, product, total

_DIMS = {"J": 3, "K": 5, "N": 7}


@st.composite
def sizes(draw: st.DrawFn) -> tuple[Size, int]:
    """A size with its value under `_DIMS`."""
    leaf = draw(st.one_of(st.sampled_from(sorted(_DIMS)), st.integers(-3, 9)))
    size, value = Size.of(leaf), _DIMS[leaf] if isinstance(leaf, str) else leaf
    for operator in draw(st.lists(st.sampled_from("+-*"), max_size=3)):
        other = draw(st.one_of(st.sampled_from(sorted(_DIMS)), st.integers(-3, 9)))
        right, number = Size.of(other), _DIMS[other] if isinstance(other, str) else other
        if operator == "+":
            size, value = size + right, value + number
        elif operator == "-":
            size, value = size - right, value - number
        else:
            size, value = size * right, value * number
    return size, value


Drawn = tuple[Size, int]


@given(sizes(), sizes())
def test_arithmetic_is_that_of_numbers(a: Drawn, b: Drawn) -> None:
    assert (a[0] + b[0]).value(_DIMS) == a[1] + b[1]
    assert (a[0] - b[0]).value(_DIMS) == a[1] - b[1]
    assert (a[0] * b[0]).value(_DIMS) == a[1] * b[1]
    assert total((a[0], b[0])).value(_DIMS) == a[1] + b[1]
    assert product((a[0], b[0])).value(_DIMS) == a[1] * b[1]


@given(sizes(), sizes())
def test_equal_polynomials_are_equal_values(a: Drawn, b: Drawn) -> None:
    assert a[0] + b[0] == b[0] + a[0]
    assert a[0] * b[0] == b[0] * a[0]
    assert (a[0] + b[0]) * b[0] == a[0] * b[0] + b[0] * b[0]
    assert a[0] - a[0] == Size.of(0)
    assert hash(a[0] + b[0]) == hash(b[0] + a[0])


@given(sizes())
def test_text_is_python_with_the_same_value(a: Drawn) -> None:
    assert eval(str(a[0]), {"__builtins__": {}}, dict(_DIMS)) == a[1]
    spelled = a[0].render(lambda name: f"data.{name}")
    assert spelled.count("data.") == sum(str(a[0]).count(name) for name in _DIMS)


@given(sizes())
def test_triangles_are_halved_without_remainder(a: Drawn) -> None:
    triangle = (a[0] * (a[0] + Size.of(1))).half()
    assert triangle.value(_DIMS) == a[1] * (a[1] + 1) // 2
    assert eval(str(triangle), {"__builtins__": {}}, dict(_DIMS)) == a[1] * (a[1] + 1) // 2


@given(sizes())
def test_constants_are_known(a: Drawn) -> None:
    if a[0].constant is not None:
        assert a[0].constant == a[1]
        assert a[0].names == frozenset()
    else:
        assert a[0].names


@pytest.mark.parametrize(
    ("size", "shown", "name"),
    [
        (Size.of("K"), "K", "K"),
        (Size.of(8), "8", None),
        (Size.of("K") - Size.of(1), "K - 1", None),
        (Size.of(2) * Size.of("K"), "2 * K", None),
        (Size.of("P") + Size.of("K"), "K + P", None),
        (Size.of("K") * Size.of("J"), "J * K", None),
        (Size.of("K") - Size.of("K"), "0", None),
        (Size.of(1) - Size.of("K"), "1 - K", None),
        ((Size.of("K") * (Size.of("K") + Size.of(1))).half(), "(K * K + K) // 2", None),
    ],
)
def test_sizes_are_shown_as_written(size: Size, shown: str, name: str | None) -> None:
    assert str(size) == shown
    assert size.name == name


def test_length_grows_with_what_there_is_to_write() -> None:
    assert Size.of("K").length < (Size.of("K") + Size.of("J")).length
    assert Size.of(10**6).exact
    assert not (Size.of(10**60) * Size.of("K")).exact


def test_what_is_subtracted_stands_last() -> None:
    assert str(Size.of("T") - Size.of("K")) == "T - K"
    assert str(Size.of(1) - Size.of("K") + Size.of("T")) == "T + 1 - K"
