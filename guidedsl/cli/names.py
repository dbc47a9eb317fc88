"""Finding what a name on the command line means."""

from __future__ import annotations

from collections.abc import Iterable

from guidedsl.cli.session import USAGE, Stop
from guidedsl.errors import closest


def pick(name: str | None, known: Iterable[str], what: str, owner: str) -> str:
    """`name` if `owner` has it, or the only one there is for None. Stops with 2, saying what there is."""
    names = list(known)
    if not names:
        raise Stop(USAGE, f"{owner} has no {what}", hint=f"add one: `{what} Name …`")
    if name is None:
        if len(names) == 1:
            return names[0]
        raise Stop(USAGE, f"{owner} has {len(names)} {what}s: say which", hint=f"--{what} {'|'.join(names)}")
    if name in names:
        return name
    close = closest(name, names)
    listed = f"its {what}s are {', '.join(names)}"
    hint = f"did you mean `{close}`? {listed}" if close and len(names) > 1 else listed
    raise Stop(USAGE, f"{owner} has no {what} `{name}`", hint=hint)
