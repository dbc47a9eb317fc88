"""Random well-formed programs with data, of a seed or drawn by hypothesis."""

from __future__ import annotations

from dataclasses import dataclass

from fuzz.writing.choices import Choices
from fuzz.writing.guides import GuideWriter
from fuzz.writing.models import ModelWriter
from fuzz.writing.scope import Scope
from hypothesis import strategies as st


@dataclass(frozen=True)
class Program:
    """The text of a program, and the data that binds it."""

    text: str
    data: dict[str, object]


def write(choices: Choices, kept: bool = False, pyro: bool = False) -> Program:
    """A model `M` with a guide `A` of autos and a guide `H` by hand.

    `kept`: whether there may be autos that stand for no statements of the language. `pyro`: whether families and types
    are those that Pyro has.
    """
    scope = Scope(choices, pyro=pyro)
    model = ModelWriter(scope).write()
    guides = GuideWriter(scope, "A", kept).write(by_hand=False) + GuideWriter(scope, "H").write(by_hand=True)
    return Program(model + guides, scope.data)


def seeded(seed: int, kept: bool = False, pyro: bool = False) -> Program:
    """The program of a number."""
    return write(Choices.seeded(seed), kept, pyro)


@st.composite
def programs(draw: st.DrawFn, kept: bool = False, pyro: bool = False) -> Program:
    return write(Choices.drawn(draw), kept, pyro)
