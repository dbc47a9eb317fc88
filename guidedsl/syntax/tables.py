"""The parser, from prepared tables where they fit the grammar: building it from the grammar takes half a second.

The tables are JSON beside the grammar. `python -m guidedsl.syntax.tables` writes them anew after the grammar changed;
until then, and under another version of lark, the grammar itself is read.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import lark
from lark.grammar import Rule
from lark.lexer import TerminalDef

from guidedsl.assets import asset_text

GRAMMAR = "grammar/guide.lark"
TABLES = "grammar/guide.tables.json"


def load_parser() -> lark.Lark:
    """The LALR(1) parser of `.guide` files."""
    grammar = asset_text(GRAMMAR)
    try:
        tables = json.loads(asset_text(TABLES))
    except FileNotFoundError:
        return _build(grammar)
    return _read(tables) if tables["made_from"] == _made_from(grammar) else _build(grammar)


def prepare() -> str:
    """The tables of the grammar as it is now, as JSON text."""
    grammar = asset_text(GRAMMAR)
    data, memo = _build(grammar).memo_serialize([TerminalDef, Rule])
    return json.dumps({"made_from": _made_from(grammar), "data": data, "memo": memo}) + "\n"


def _build(grammar: str) -> lark.Lark:
    return lark.Lark(grammar, parser="lalr", lexer="basic", propagate_positions=True, maybe_placeholders=True)


def _made_from(grammar: str) -> str:
    return f"lark {lark.__version__}, grammar {hashlib.sha256(grammar.encode()).hexdigest()}"


def _read(tables: dict[str, Any]) -> lark.Lark:
    # JSON has only strings for keys; lark numbers its memo and its states.
    memo = {int(key): value for key, value in tables["memo"].items()}
    parser = tables["data"]["parser"]["parser"]
    parser["states"] = {int(key): value for key, value in parser["states"].items()}
    loaded: lark.Lark = lark.Lark._load_from_dict(tables["data"], memo)
    return loaded


if __name__ == "__main__":
    import guidedsl

    assert guidedsl.__file__ is not None
    (Path(guidedsl.__file__).parent.parent / TABLES).write_text(prepare())
