"""What to say of a token that cannot stand where it stands."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from lark import Token

from guidedsl import errors
from guidedsl.diagnostics import Diagnostic
from guidedsl.source import Span
from guidedsl.syntax.build import token_span
from guidedsl.syntax.missing import missing_hint
from guidedsl.syntax.words import (
    FILE_KEYWORDS,
    GUIDE_KEYWORDS,
    MODEL_KEYWORDS,
    RESERVED,
    STATEMENT_KEYWORDS,
    STEP_KEYWORDS,
)

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
    "IN": "`in`",
    "CARRY": "`carry`",
    "_ARROW": "`->`",
    "STRING": "a string",
    "NAME": "a name",
}
_OPERATORS = frozenset(("COMPARE", "PLUS", "MINUS", "STAR", "SLASH", "AT", "CIRCUMFLEX", "LSQB"))
_BLOCK_WORDS = frozenset(word.upper() for word in STATEMENT_KEYWORDS) | {"RBRACE"}
_DECLARING = frozenset(
    (
        *("DIM", "DATA", "LATENT", "OBSERVED", "LET", "PARAM", "PLATE", "AUX", "JOINT", "MODEL", "GUIDE", "FOR"),
        *("NET", "EXTERN", "SCAN", "NEXT", "EMIT"),
    )
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


_FOREIGN_WORDS = {
    "and": "conditions are combined with `*`",
    "or": "conditions are combined with `maximum(a, b)`",
    "not": "the opposite of a condition is `1 - c`",
    "if": "a choice is written `where(c, a, b)`; a site that is there only for some rows has a `when`",
    "else": "a choice is written `where(c, a, b)`",
    "for": "what is repeated stands in a plate: `plate p[N] { … }`",
    "while": "there are no loops: what is repeated stands in a plate",
}

MISPLACED_IN_SCANS = frozenset(("DIM", "PLATE", "PARAM", "NET", "SCAN", "DATA", "JOINT", "AUTO"))
"""Statements that stand outside of scans."""


def is_misplaced_keyword(tokens: Sequence[Token], position: int) -> bool:
    """Whether the keyword at `position` was meant as a name, to go by its neighbours."""
    token = tokens[position]
    if str(token) not in RESERVED or position == 0 or position + 1 >= len(tokens):
        return False
    before, after = tokens[position - 1].type, tokens[position + 1].type
    if before in _DECLARING:
        if token.type == "FOR" and before == "GUIDE" and after == "NAME":
            return False
        return after != "NAME" or str(token) not in STATEMENT_KEYWORDS
    return before in _BEFORE_VALUE and after in _AFTER_NAME


def unknown(text: str, span: Span) -> Diagnostic:
    """The diagnostic for characters that begin no token."""
    if text.startswith('"""'):
        return errors.unknown_character(span, "a string that does not end", 'close it with """')
    if text.startswith('"'):
        return errors.unknown_character(
            span, "a string that does not end", 'close it with "; a string of several lines stands between """ and """'
        )
    return errors.unknown_character(
        span, f"`{text}`", _FOREIGN.get(text[0], "it has no meaning in a .guide file: remove it")
    )


def describe(
    tokens: Sequence[Token], position: int, accepted: frozenset[str], unclosed: Token | None, start: Token
) -> Diagnostic:
    """The diagnostic for `tokens[position]`, of which none of `accepted` holds; `start` begins the statement."""
    token = tokens[position]
    before = tokens[position - 1] if position else None
    span = token_span(token)
    missing = not accepted & {"LET", "MODEL"} and (token.line or 1) > ((before and before.end_line) or 1)
    if before is not None and (token.type == "$END" or missing):
        end = before.end_pos or 0
        span = Span(end, end, before.end_line or 1, before.end_column or 1)
    hint = _hint(tokens, position, accepted, start)
    if unclosed is not None:
        in_brackets = str(unclosed) != "{" and token.type != "EQUAL"
        hint = None if in_brackets or token.type in MISPLACED_IN_SCANS else hint
    if hint is None and unclosed is None:
        hint = _usage(start, token, accepted)
    return errors.unexpected(
        span,
        expected=_expected(accepted if missing or before is None else _on_new_line(accepted, token, before), before),
        found=_found(tokens, position),
        opened=token_span(unclosed) if unclosed is not None else None,
        opened_text=str(unclosed) if unclosed is not None else "",
        hint=hint,
    )


def _found(tokens: Sequence[Token], position: int) -> str:
    token = tokens[position]
    if token.type == "$END":
        return "the end of the file"
    if token.type == "STRING":
        return "a string"
    return f"`{token}`"


def _on_new_line(accepted: frozenset[str], token: Token, before: Token) -> frozenset[str]:
    """A statement that may end is taken to end with its line: nothing is said of how it could go on."""
    return accepted & _BLOCK_WORDS if (token.line or 1) > (before.end_line or 1) and "LET" in accepted else accepted


def _expected(accepted: frozenset[str], before: Token | None) -> str:
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


def _hint(tokens: Sequence[Token], position: int, accepted: frozenset[str], start: Token) -> str | None:
    """What is likely meant, where these words say it."""
    token, text = tokens[position], str(tokens[position])
    before = tokens[position - 1] if position else None
    after = tokens[position + 1] if position + 1 < len(tokens) else None
    last = before.type if before is not None else ""
    foreign = next((_FOREIGN_WORDS[word] for word in (str(before), text) if word in _FOREIGN_WORDS), None)
    if foreign is not None and "FOR" not in accepted and start.type not in ("AUTO", "GUIDE"):
        return foreign
    if text == "<" and position >= 2 and tokens[position - 2].type == "COLON":
        return "bounds are part of a type: `positive`, `interval(0, 10)`, `int(0, 5)`; brackets are dims"
    if token.type in MISPLACED_IN_SCANS and "NEXT" in accepted:
        return _outside_scan(text)
    if token.type in ("NEXT", "EMIT") and "LET" in accepted:
        return f"`{text}` stands in a scan: `scan t in T carry (h: real = 0) {{ next h = … }}`"
    if token.type == "NAME" and after is not None and after.type == "EQUAL" and "LET" in accepted:
        if "NEXT" in accepted:
            return f"`next {text} = …` hands a value on to the next step; `let {text} = …` names one of this step"
        return f"a value is declared by `let {text} = …`"
    if token.type == "EXTERN" and "LET" in accepted:
        return "`extern` stands at the top of the file, outside of models and guides"
    for word in (before, token):
        close = _keyword_like(word, accepted if word is token else frozenset())
        if close is not None:
            return f"did you mean `{close}`?"
    hint = _elsewhere(token, after, last, accepted)
    if hint is None and position:
        hint = missing_hint(tokens, position, accepted, start)
    return hint or _operator_hint(token, last, str(before), accepted, start)


def _elsewhere(token: Token, after: Token | None, last: str, accepted: frozenset[str]) -> str | None:
    """Where a statement that may not stand here does."""
    text = str(token)
    if token.type == "LATENT" and "AUX" in accepted:
        return "latents are declared in the model; in a guide write `z ~ …` or `aux z : real ~ …`"
    if token.type == "OBSERVED" and "AUX" in accepted:
        return "observed sites are declared in the model; the guide reads them as data"
    if token.type in ("DATA", "FACTOR") and "AUX" in accepted:
        return f"`{text}` stands in the model; a guide sees the model's data"
    if token.type in ("AUTO", "JOINT", "AUX") and "LATENT" in accepted:
        return f"`{text}` stands in a guide: `guide G for M {{ {text} … }}`"
    if token.type == "NAME" and "LATENT" in accepted and after is not None and after.type == "TILDE" and last != "NAME":
        return f"samples stand in a guide; in a model write `latent {text} : real ~ …`"
    if token.type == "VIA" and "LATENT" in accepted:
        return "`via` stands in guides: in a model the type of a site restricts its distribution"
    if "MODEL" in accepted and text in (*MODEL_KEYWORDS, *GUIDE_KEYWORDS):
        block = "model M" if text in MODEL_KEYWORDS else "guide G for M"
        return f"`{text}` stands inside a block: `{block} {{ {text} … }}`"
    if token.type == "NAME" and "MODEL" in accepted and after is not None and after.type == "TILDE":
        return f"samples stand in a guide: `guide G for M {{ {text} ~ … }}`"
    if token.type == "RBRACE" and "MODEL" in accepted:
        return "there is a `}` too many"
    return None


def _outside_scan(word: str) -> str:
    """Where a statement that may not stand in a scan does."""
    if word == "plate":
        return "a plate may stand around a scan, not in one: write `plate p[N] { scan t in T { … } }`"
    if word in ("joint", "auto"):
        return f"write `{word}` outside of the scan: there its sites are whole events"
    return f"write `{word}` above the scan; in it, `{word}` would come again at every step"


def _operator_hint(token: Token, last: str, before: str, accepted: frozenset[str], start: Token) -> str | None:
    """What is likely meant by an operator that cannot stand here; `last` is the type of the token `before` it."""
    text = str(token)
    if text == "/" and last == "SLASH":
        return "comments begin with `#`; division is one `/`"
    if text == "*" and last == "STAR":
        return "a power is written `x ^ 2`"
    if token.type == "EQUAL" and before == "lr":
        return "the options of a param are set apart by commas: `, lr = 0.01`"
    if token.type == "EQUAL" and "TILDE" in accepted and last == "NAME":
        return f"to sample write `{before} ~ …`; a value is declared with `let {before} = …`"
    if token.type == "EQUAL" and last == "COLON":
        return "a value is declared with `=` alone, or with its type: `let a : real = …`"
    if text == "==" and "EQUAL" in accepted:
        return "one `=` declares a value; `==` compares"
    if token.type == "TILDE" and "EQUAL" in accepted and start.type in ("LET", "PARAM"):
        return f"a {start} has a value, written behind `=`; what is random is a latent of the model, or an `aux`"
    if token.type == "TILDE" and "COLON" in accepted and last == "NAME":
        return f"say where it lives: `{start} {before} : real ~ …`"
    if "NUMBER" in accepted and last in _OPERATORS and last != "LSQB":
        return f"`{before}` needs a value on its right"
    return None


_USAGE = {
    "DIM": "dims are written `dim N, K = 8`",
    "MODEL": "a model is written `model M { … }`",
    "GUIDE": "a guide is written `guide G for M { … }`",
    "DATA": "data is written `data x : real`, with brackets for event dims: `data x : real[K]`",
    "LATENT": "a latent is written `latent z : real ~ Normal(0, 1)`",
    "OBSERVED": "an observed site is written `observed y : real ~ Normal(mu, sigma)`",
    "LET": "a let is written `let a = b + 1`",
    "FACTOR": "a factor is written `factor -0.5 * x ^ 2`",
    "PARAM": "a param is written `param w : positive = 1 via softplus, lr = 0.01`",
    "PLATE": "a plate is written `plate p[N] { … }`, and re-entered by `plate p { … }`",
    "JOINT": "a joint is written `joint a, b ~ MultivariateNormal(m, L)`",
    "AUX": "an aux is written `aux e : real ~ Normal(0, 1)`",
    "AUTO": "an auto is written `auto mean_field for rest`, options in brackets: `auto low_rank(rank = 2) for a, b`",
    "NET": "a net is written `net f(x: real[D]) -> real[K] = mlp(64)`",
    "EXTERN": 'an extern is written `extern f(x: real) -> real from "module:function"`',
    "SCAN": "a scan is written `scan t in T carry (h: real = 0) { … next h = … }`",
    "NEXT": "the value for the next step is written `next h = h + 1`",
    "EMIT": "what a step gives is written `emit v = h ^ 2`",
    "NAME": "a sample is written `z ~ Normal(loc, scale)`",
}


def _usage(start: Token, token: Token, accepted: frozenset[str]) -> str:
    """How the statement that `start` begins is written, or which statements may begin here."""
    if start is token or start.type not in _USAGE:
        if "NEXT" in accepted:
            words = ("latent", "observed", "factor") if "LATENT" in accepted else ("aux",)
            words = ("let", *words, *STEP_KEYWORDS)
            tail = "" if "LATENT" in accepted else ", or is `z ~ …`"
            return f"a statement of a scan begins with {_join(tuple(f'`{word}`' for word in words))}{tail}"
        in_guide = "LATENT" not in accepted and "AUX" in accepted
        keywords = MODEL_KEYWORDS if "LATENT" in accepted else GUIDE_KEYWORDS if in_guide else FILE_KEYWORDS
        tail = ", or is `z ~ …`" if in_guide else ""
        return f"a statement begins with {_join(tuple(f'`{word}`' for word in keywords))}{tail}"
    return _USAGE[start.type]


def _keyword_like(word: Token | None, accepted: frozenset[str]) -> str | None:
    """A statement keyword that `word` is a slip of."""
    if word is None or word.type != "NAME":
        return None
    words = sorted(STATEMENT_KEYWORDS)
    if accepted:
        words = [keyword for keyword in words if keyword.upper() in accepted]
    close = difflib.get_close_matches(str(word), words, n=1, cutoff=0.75)
    return close[0] if close else None
