"""The prepared parser tables."""

from __future__ import annotations

import json

import lark

from guidedsl.assets import asset_text
from guidedsl.syntax.tables import GRAMMAR, TABLES, load_parser, prepare


def test_the_tables_are_those_of_the_grammar() -> None:
    prepared, now = json.loads(asset_text(TABLES)), json.loads(prepare())
    assert prepared["made_from"] == now["made_from"], "the grammar changed: run `python -m guidedsl.syntax.tables`"


def test_the_prepared_parser_reads_what_the_grammar_describes() -> None:
    text = 'model M { dim N latent a : real[2] ~ Normal(0, -x[1:, new] ^ 2) } guide G for M { a ~ F("s") via type }'
    built = lark.Lark(asset_text(GRAMMAR), parser="lalr", lexer="basic", maybe_placeholders=True)
    assert load_parser().parse(text) == built.parse(text)


def test_the_grammar_is_free_of_conflicts() -> None:
    lark.Lark(asset_text(GRAMMAR), parser="lalr", lexer="basic", maybe_placeholders=True, strict=True)
