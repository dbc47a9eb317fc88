"""Small statements that do the same become one over an array: many scalar sites cost what one vector does."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch

from guidedsl.runtime.engine.native.index import Index, Position, variables
from guidedsl.runtime.engine.native.values import (
    Called,
    Computed,
    Element,
    Literal,
    Program,
    Read,
    Seen,
    Statement,
    Value,
    view,
)

FEWEST = 8
"""Statements from which one loop is faster than as many lines."""
SMALL = 256
"""Elements up to which a statement is taken into one; longer loops gain nothing."""


@dataclass
class Output:
    """A value and the elements of an array that it is written to: from `start` on, every `stride`-th."""

    value: Value
    pointer: str
    start: int = 0
    stride: int = 1

    @property
    def array(self) -> str:
        """Its first element's address, as C."""
        return f"({self.pointer} + {self.start})" if self.start else self.pointer


@dataclass
class Run:
    """Members whose places are evenly spaced: those of the first, and how far it is to the next."""

    first: tuple[int, ...]
    step: tuple[int, ...]
    members: list[Any]


@dataclass
class Member:
    """A statement and what it reads: a number that is written there, or in an array."""

    statement: Computed
    reads: list[tuple[Value, Position]]


@dataclass
class Chain:
    """Additions one after another: `links` that nothing else reads, and the `terms` that they add up."""

    terms: list[Value]
    links: list[Value]


def roll(program: Program, outputs: Sequence[Output]) -> list[Output]:
    """Replaces statements that are alike, by `program.moved`; gives the outputs, those beside one another as one.

    Statements are alike where they have the same text, numbers apart, and read the same arrays, evenly spaced. A chain
    of additions of many such values becomes the sum of an array.
    """
    reads = {one: program.reads_of(one) for one in program.statements}
    chains = _chains(program, reads, outputs)
    for statements in _by_level(program, reads, chains):
        _roll_alike(program, [one for one in statements if one not in chains])
        for one in statements:
            if one in chains:
                _roll_chain(program, one, chains[one].terms)
    return _joined(program, outputs)


def _chains(program: Program, reads: dict[Statement, Any], outputs: Sequence[Output]) -> dict[Statement, Chain]:
    """Long chains of additions, by the last one."""
    uses = Counter(value for found in reads.values() for value, _ in found)
    for output in outputs:
        uses.update(value for value, _ in program.reads_in(output.value))
    links = {term for one in reads for term in _terms(one) if _terms(term) and uses[term] == 1}
    found: dict[Statement, Chain] = {}
    for one in reads:
        if _terms(one) and one not in links:
            chain = Chain([], [])
            waiting = [*reversed(_terms(one))]
            while waiting:
                term = waiting.pop()
                if term in links:
                    chain.links.append(term)
                    waiting += reversed(_terms(term))
                else:
                    chain.terms.append(term)
            if len(chain.terms) >= FEWEST:
                found[one] = chain
    return found


def _terms(value: Value) -> Sequence[Value]:
    return value.terms if isinstance(value, Computed) else ()


def _by_level(program: Program, reads: dict[Statement, Any], chains: dict[Statement, Chain]) -> list[list[Computed]]:
    """Statements that may be rolled, by how many lie between them and the inputs: they read those of lists before."""
    kept: set[Value] = {link for chain in chains.values() for link in chain.links}
    kept |= {value for one in reads if isinstance(one, Called) for value in one.arrays}
    levels: dict[Value, int] = {}
    found: list[list[Computed]] = []
    for one, own in reads.items():
        values = [value for value, _ in own]
        if one in chains:
            values = [value for term in chains[one].terms for value, _ in program.reads_in(term)]
        level = levels[one] = 1 + max((levels.get(value, -1) for value in values), default=-1)
        if isinstance(one, Computed) and not one.order and prod(one.space) <= SMALL and one not in kept:
            found += [[] for _ in range(level + 1 - len(found))]
            found[level].append(one)
    return found


def _roll_alike(program: Program, statements: Sequence[Computed]) -> None:
    classes: dict[object, list[tuple[tuple[int, ...], Member]]] = {}
    for one in statements:
        text, found = program.reads(one.element, variables(one.space))
        read = tuple((_identity(value), tuple(index.terms for index in at)) for value, at in found)
        key = text, one.dtype, one.shape, one.space, one.combine, one.kept, read
        places = tuple(index.const for _, at in found for index in at)
        classes.setdefault(key, []).append((places, Member(one, found)))
    for members in classes.values():
        for run in _runs(members):
            _roll_run(program, run)


def _roll_run(program: Program, run: Run) -> None:
    first: Member = run.members[0]
    statement, count = first.statement, len(run.members)
    numbers = {
        n: program.constant(torch.tensor([one.reads[n][0].number for one in run.members], dtype=value.dtype))
        for n, (value, _) in enumerate(first.reads)
        if isinstance(value, Literal)
    }

    def element(at: Position, read: Read) -> str:
        steps, reads = iter(run.step), itertools.count()

        def further(value: Value, own: Position) -> str:
            value = program.moved.get(value, value)
            if isinstance(value, Seen):
                return value.element(own, further)
            n = next(reads)
            there = tuple(index + at[0] * next(steps) for index in own)
            return read(numbers[n], at[:1]) if n in numbers else read(value, there)

        return statement.element(at[1:], further)

    rolled = program.compute(
        (count, *statement.shape),
        statement.dtype,
        element,
        (count, *statement.space),
        combine=statement.combine,
        kept=(0, *(axis + 1 for axis in statement.kept)),
    )
    for n, one in enumerate(run.members):
        program.moved[one.statement] = _row(rolled, n)


def _row(array: Value, n: int) -> Value:
    return view(array, array.shape[1:], lambda at: (Index() + n, *at))


def _roll_chain(program: Program, last: Statement, terms: Sequence[Value]) -> None:
    runs, others = _runs_of(program, [(term, ()) for term in terms])
    if runs:
        parts = [*(_sum(program, array, run) for array, run in runs), *(terms[n] for n in others)]
        program.moved[last] = program.compute(
            last.shape, last.dtype, lambda at, read: f"({' + '.join(read(part, ()) for part in parts)})"
        )


def _sum(program: Program, array: Value, run: Run) -> Computed:
    return program.compute((), array.dtype, _along(array, run), (len(run.members),), combine="sum")


def _joined(program: Program, outputs: Sequence[Output]) -> list[Output]:
    """The outputs, as few as there can be."""
    numbers = [n for n, output in enumerate(outputs) if output.value.numel == 1]
    found = [output for output in outputs if output.value.numel != 1]
    for pointer in dict.fromkeys(outputs[n].pointer for n in numbers):
        own = [outputs[n] for n in numbers if outputs[n].pointer == pointer]
        runs, others = _runs_of(program, [(output.value, (output.start,)) for output in own])
        found += [own[n] for n in others]
        for array, run in runs:
            *_, start = run.first
            *_, stride = run.step
            value = program.compute((len(run.members),), array.dtype, _along(array, run))
            found.append(Output(value, pointer, start, stride))
    return found


def _along(array: Value, run: Run) -> Element:
    """The elements of an array at which a run is; it may have places beside them."""
    places = [*zip(run.first, run.step, strict=True)][: len(array.shape)]
    return lambda at, read: read(array, tuple(at[0] * step + first for first, step in places))


def _runs_of(
    program: Program, values: Sequence[tuple[Value, tuple[int, ...]]]
) -> tuple[list[tuple[Value, Run]], list[int]]:
    """Numbers that lie evenly spaced in an array, each with more places of its own; and the others, by their number."""
    by_array: dict[Value, list[tuple[tuple[int, ...], int]]] = {}
    for n, (value, more) in enumerate(values):
        there = program.looked_at(value, tuple(Index() for _ in value.shape))
        if there is not None and not isinstance(there[0], Literal) and not any(index.terms for index in there[1]):
            place = tuple(index.const for index in there[1])
            by_array.setdefault(there[0], []).append(((*place, *more), n))
    found = [(array, run) for array, members in by_array.items() for run in _runs(members)]
    taken = {n for _, run in found for n in run.members}
    return found, [n for n in range(len(values)) if n not in taken]


def _runs(members: Sequence[tuple[tuple[int, ...], Any]]) -> list[Run]:
    """Members by their places, as far as enough of them follow one another evenly."""
    runs: list[Run] = []
    last: tuple[int, ...] = ()
    for place, member in sorted(members, key=lambda one: one[0]):
        step = tuple(there - here for here, there in zip(last, place, strict=False))
        if runs and (len(runs[-1].members) == 1 or step == runs[-1].step):
            runs[-1].step = step
            runs[-1].members.append(member)
        else:
            runs.append(Run(place, (), [member]))
        last = place
    return [run for run in runs if len(run.members) >= FEWEST]


def _identity(value: Value) -> object:
    return value.dtype if isinstance(value, Literal) else value
