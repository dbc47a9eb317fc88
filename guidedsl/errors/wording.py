"""Words that several findings share."""

from __future__ import annotations

from collections.abc import Iterable

STEP_BEFORE = "a value of the step before is handed on by a carry"


def closest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate that `name` is most likely a slip of."""
    import difflib  # not needed where nothing is wrong

    by_lower = {candidate.lower(): candidate for candidate in candidates}
    close = difflib.get_close_matches(name.lower(), list(by_lower), n=1, cutoff=0.65)
    return by_lower[close[0]] if close else None


def did_you_mean(name: str, candidates: Iterable[str], otherwise: str | None = None) -> str | None:
    """A hint with the closest candidate, or another where none is close."""
    close = closest(name, candidates)
    return f"did you mean `{close}`?" if close else otherwise


def be(support: str) -> str:
    """A support behind `is` or `must be`: positive, in interval(0, 1), a simplex."""
    kind = support.partition("(")[0]
    if kind in ("real", "positive", "nonnegative", "ordered", "positive_ordered", "bool"):
        return support
    ranges = ("unit", "interval", "greater_than", "less_than", "int")
    return f"in {support}" if kind in ranges else with_article(support)


def with_article(noun: str) -> str:
    """`an index(K)`, `a unit_vector`."""
    return f"{'an' if noun[0] in 'aeio' else 'a'} {noun}"


def batched(mode: str) -> str:
    """What a plate of this mode is."""
    return "subsampled" if mode == "subsample" else "minibatched"
