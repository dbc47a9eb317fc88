"""What is likely missing before a token that cannot stand where it stands."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from lark import Token

_BEFORE_VALUES = ("LPAR", "LSQB", "COMMA", "EQUAL")
_BEHIND_VALUES = ("COMMA", "RPAR", "RSQB")
_OPERANDS = ("NAME", "NUMBER", "STRING")


def missing_hint(tokens: Sequence[Token], position: int, accepted: frozenset[str], start: Token) -> str | None:
    """The edit that puts in what `tokens[position]` lacks in front of it; None where nothing is known to be missing.

    `start` begins the statement.
    """
    token, text = tokens[position], str(tokens[position])
    before, after = tokens[position - 1], tokens[position + 1] if position + 1 < len(tokens) else token
    if start.type == "SCAN" and before.type in ("NAME", "RSQB", "RPAR") and accepted & {"COLON", "EQUAL"}:
        return _carry_hint(tokens, position, accepted)
    if start.type == "LET" and text == "," and "EQUAL" in accepted:
        rest = itertools.takewhile(lambda token: token.type in ("NAME", "COMMA"), tokens[position + 1 :])
        names = ", ".join((str(before), *(str(token) for token in rest if token.type == "NAME")))
        return f"names for several values stand in brackets: `let ({names}) = …`"
    if "NUMBER" in accepted and before.type in _BEFORE_VALUES and token.type in _BEHIND_VALUES:
        return f"a value is missing between `{before}` and `{text}`"
    if token.type in ("RPAR", "RSQB") and "NUMBER" not in accepted:
        opening = "(" if token.type == "RPAR" else "["
        return f"there is a `{text}` too many, or its `{opening}` is missing"
    if token.type == "LSQB" and before.type == "COLON" and "NAME" in accepted:
        return "brackets come behind a type: `real[K]`"
    if "COLON" in accepted and before.type == token.type == "NAME":
        return f"a `:` stands between a name and its type: `{before} : {text}`"
    if "COMMA" in accepted and token.type in _OPERANDS and before.type in (*_OPERANDS, "RPAR", "RSQB"):
        return f"between `{before}` and `{text}` a `,` or an operator is missing"
    if (
        token.type == "NAME"
        and after.type == "LPAR"
        and "TILDE" in accepted
        and before.type in ("NAME", "RSQB", "RPAR")
    ):
        return f"a `~` stands before a distribution: `~ {text}(…)`"
    if token.type == "NAME" and after.type == "COLON" and "LET" in accepted:
        kinds = ("latent", "observed", "data") if "LATENT" in accepted else ("param", "aux")
        return (
            f"say what `{text}` is: {' or '.join(f'`{kind} {text} : …`' for kind in kinds if kind.upper() in accepted)}"
        )
    return None


def _carry_hint(tokens: Sequence[Token], position: int, accepted: frozenset[str]) -> str:
    """What a carry lacks: its type, or what the first step reads."""
    if "COLON" in accepted:
        return f"a carry has a type and a first value: `carry ({tokens[position - 1]} : real = 0)`"
    if tokens[position].type == "TILDE":
        return "a carry starts from a value: `latent first : real ~ …` above the scan, and `carry (h : real = first)`"
    return "a carry has a first value, which the first step reads: `carry (h : real = 0)`"
