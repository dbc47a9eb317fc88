"""What is likely missing before a token that cannot stand where it stands."""

from __future__ import annotations

from collections.abc import Sequence

from lark import Token

_BEFORE_VALUES = ("LPAR", "LSQB", "COMMA", "EQUAL")
_BEHIND_VALUES = ("COMMA", "RPAR", "RSQB")
_OPERANDS = ("NAME", "NUMBER", "STRING")


def missing_hint(tokens: Sequence[Token], position: int, accepted: frozenset[str]) -> str | None:
    """The edit that puts in what `tokens[position]` lacks in front of it; None where nothing is known to be missing."""
    token, text = tokens[position], str(tokens[position])
    before, after = tokens[position - 1], tokens[position + 1] if position + 1 < len(tokens) else token
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
