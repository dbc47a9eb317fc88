"""What to say of a token that cannot stand where it stands."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from lark import Token

from guidedsl import errors
from guidedsl.diagnostics import Diagnostic
from guidedsl.source import Span
from guidedsl.syntax.build import token_span
from guidedsl.syntax.words import FILE_KEYWORDS, GUIDE_KEYWORDS, MODEL_KEYWORDS, PLANNED, RESERVED

_SYMBOLS = {
    "COMMA": "`,`",
    "COLON": "`:`",
    "EQUAL": "`=`",
    "TILDE": "`~`",
    "LPAR": "`(`",
    "RPAR": "`)`",
    "LSQB": "`[`",
    "RSQB": "`]`",
    "LBRACE": "`{`",
    "RBRACE": "`}`",
    "FOR": "`for`",
    "FROM": "`from`",
    "STRING": "a string",
}
_OPERATORS = frozenset(("COMPARE", "PLUS", "MINUS", "STAR", "SLASH", "AT", "CIRCUMFLEX", "LSQB"))
_DECLARING = frozenset(
    ("DIM", "DATA", "LATENT", "OBSERVED", "LET", "PARAM", "PLATE", "AUX", "JOINT", "MODEL", "GUIDE", "FOR")
)
_BEFORE_VALUE = frozenset(("TILDE", "LPAR", "EQUAL", "COMMA", "LSQB", *_OPERATORS))
_AFTER_NAME = frozenset(("COMMA", "RPAR", "RSQB", "COLON", "EQUAL", *_OPERATORS))
_FOREIGN = {
    ";": "statements need no `;`: remove it",
    "'": 'strings stand in double quotes: "…"',
    "$": "`$` has no meaning here: remove it",
    "%": "there is no `%` operator",
    "|": "there is no `|` operator",
    "&": "combine conditions with `*`, or use two `where`",
    "!": "`not` is written `1 - c`; for unequal write `!=`",
}


def is_misplaced_keyword(tokens: Sequence[Token], position: int) -> bool:
    """Whether the keyword at `position` was meant as a name, to go by its neighbours."""
    token = tokens[position]
    if str(token) not in RESERVED or position == 0 or position + 1 >= len(tokens):
        return False
    before, after = tokens[position - 1].type, tokens[position + 1].type
    if before in _DECLARING:
        return after != "NAME" or str(token) not in (*FILE_KEYWORDS, *MODEL_KEYWORDS, *GUIDE_KEYWORDS)
    return before in _BEFORE_VALUE and after in _AFTER_NAME


def unknown(text: str, span: Span) -> Diagnostic:
    """The diagnostic for characters that begin no token."""
    if text.startswith('"'):
        return errors.unknown_character(
            span, "a string that does not end", 'a longer string stands between """ and """'
        )
    return errors.unknown_character(
        span, f"`{text}`", _FOREIGN.get(text[0], "it has no meaning in a .guide file: remove it")
    )


def describe(
    tokens: Sequence[Token], position: int, accepted: frozenset[str], unclosed: Token | None, in_block: bool
) -> Diagnostic:
    """The diagnostic for `tokens[position]`, of which none of `accepted` holds."""
    token = tokens[position]
    before = tokens[position - 1] if position else None
    span = token_span(token)
    if before is not None and (token.type == "$END" or (token.line or 1) > (before.line or 1)):
        end = token_span(before)
        span = Span(end.end, end.end, end.line, end.column + end.end - end.start)
    return errors.unexpected(
        span,
        expected=_expected(accepted, before, in_block),
        found=_found(tokens, position),
        opened=token_span(unclosed) if unclosed is not None else None,
        opened_text=str(unclosed) if unclosed is not None else "",
        hint=_hint(tokens, position, accepted, before),
    )


def _found(tokens: Sequence[Token], position: int) -> str:
    token = tokens[position]
    if token.type == "$END":
        return "the end of the file"
    if token.type == "STRING":
        return "a string"
    return f"`{token}`"


def _expected(accepted: frozenset[str], before: Token | None, in_block: bool) -> str:
    if "MODEL" in accepted:
        return "`model`, `guide` or `dim`"
    if "LET" in accepted and "LBRACE" not in accepted and (before is None or before.type not in _OPERATORS):
        operators = accepted & {"COMMA", "VIA", "WHEN", "EQUAL", "TILDE"}
        if not operators:
            return "a statement or `}`"
        return _join((*sorted(_SYMBOLS.get(name, f"`{name.lower()}`") for name in operators), "a statement", "`}`"))
    if "NUMBER" in accepted:
        return _join(("an expression", *(_SYMBOLS[name] for name in ("RPAR", "RSQB") if name in accepted)))
    if accepted == {"NAME"} and before is not None:
        return {
            "TILDE": "a distribution",
            "COLON": "a type",
            "VIA": "a type or a transform",
            "MODEL": "the model's name",
            "GUIDE": "the guide's name",
            "FOR": "a name",
            "DIM": "a dim's name",
        }.get(before.type, "a name")
    names = [name for name in accepted if name not in _OPERATORS or (name == "LSQB" and len(accepted) <= 4)]
    shown = [_SYMBOLS.get(name, f"`{name.lower()}`") for name in sorted(names, key=_order)]
    return _join(tuple(shown)) if shown else "an operator"


def _order(name: str) -> int:
    order = list(_SYMBOLS)
    return order.index(name) if name in order else len(order)


def _join(parts: tuple[str, ...]) -> str:
    if len(parts) == 1:
        return parts[0]
    return ", ".join(parts[:-1]) + " or " + parts[-1]


def _hint(tokens: Sequence[Token], position: int, accepted: frozenset[str], before: Token | None) -> str | None:
    token, text = tokens[position], str(tokens[position])
    after = tokens[position + 1] if position + 1 < len(tokens) else None
    if text in PLANNED:
        return f"`{text}` is reserved for a statement that this version does not have"
    if text == "/" and before is not None and before.type == "SLASH":
        return "comments begin with `#`"
    if text == "*" and before is not None and before.type == "STAR":
        return "a power is written `x ^ 2`"
    if token.type == "EQUAL" and "TILDE" in accepted and before is not None and before.type == "NAME":
        return f"to sample write `{before} ~ …`; a value is declared with `let {before} = …`"
    if text == "=" and before is not None and before.type == "EQUAL":
        return "one `=` declares a value; `==` stands only inside an expression"
    if token.type == "TILDE" and before is not None and before.type == "NAME":
        return f"to declare it write `latent {before} : real ~ …`"
    for word in (before, token):
        close = _keyword_like(word, accepted if word is token else frozenset())
        if close is not None:
            return f"did you mean `{close}`?"
    if token.type == "LATENT" and "GUIDE" not in accepted:
        return "latents are declared in the model; in a guide write `z ~ …` or `aux z : real ~ …`"
    if after is not None and token.type == "RBRACE" and "MODEL" in accepted:
        return "there is a `}` too many"
    return None


def _keyword_like(word: Token | None, accepted: frozenset[str]) -> str | None:
    """A statement keyword that `word` is a slip of."""
    if word is None or word.type != "NAME":
        return None
    words = sorted({*FILE_KEYWORDS, *MODEL_KEYWORDS, *GUIDE_KEYWORDS})
    if accepted:
        words = [keyword for keyword in words if keyword.upper() in accepted]
    close = difflib.get_close_matches(str(word), words, n=1, cutoff=0.75)
    return close[0] if close else None
