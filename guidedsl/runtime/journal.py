"""What a fit has done so far, so that one that was cut off can go on without doing it again.

The fit runs from its beginning each time. Work that the journal holds is not done but handed back, and the random
generator put where that work had left it; the first work that the journal lacks is where the fit goes on. So the code
of a fit reads as if nothing ever stopped it, and what it does between two entries must follow from them alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

Tree = dict[str, Any]
"""What a checkpoint holds: dicts, lists and tuples of tensors, text and numbers."""


class Journal:
    """Results of named pieces of work, in the order in which they were done.

    A piece may be made of others: once it is done, theirs are dropped, and a checkpoint holds no more than the next
    piece needs. `changed` is called after each entry.
    """

    def __init__(self, generator: torch.Generator, changed: Callable[[], None]) -> None:
        self._generator, self._changed = generator, changed
        self._done: dict[str, Tree] = {}
        self._path: tuple[str, ...] = ()

    def do(self, name: str, work: Callable[[], Tree]) -> Tree:
        """What `work` gives, or gave."""
        with self._inside(name) as key:
            found = self._recall(key)
            return self._note(key, work()) if found is None else found

    def fold(self, name: str, begin: Callable[[], Tree], step: Callable[[Tree], Tree | None]) -> Tree:
        """The last of the results that `step` makes of one another, from what `begin` gives until it gives None."""
        with self._inside(name) as key:
            latest = self._recall(key)
            if latest is None:
                latest = self._note(key, begin())
            while (following := step(latest)) is not None:
                latest = self._note(key, following)
            return latest

    def get_state(self) -> Tree:
        """The entries."""
        return dict(self._done)

    def set_state(self, state: Mapping[str, Tree]) -> None:
        """Takes what `get_state` gave."""
        self._done = dict(state)

    @contextmanager
    def _inside(self, name: str) -> Iterator[str]:
        outer, self._path = self._path, (*self._path, name)
        try:
            yield "/".join(self._path)
        finally:
            self._path = outer

    def _recall(self, key: str) -> Tree | None:
        entry = self._done.get(key)
        if entry is None:
            return None
        self._generator.set_state(entry["generator"])
        result: Tree = entry["result"]
        return result

    def _note(self, key: str, result: Tree) -> Tree:
        for inner in [known for known in self._done if known.startswith(f"{key}/")]:
            del self._done[inner]
        self._done[key] = {"result": result, "generator": self._generator.get_state()}
        self._changed()
        return result


def on_device(tree: Any, device: torch.device) -> Any:
    """A tree with its numbers on `device`. States of generators, which are bytes, stay on the CPU."""
    if isinstance(tree, Tensor):
        return tree.to(device) if tree.is_floating_point() else tree
    if isinstance(tree, dict):
        return {key: on_device(value, device) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(on_device(value, device) for value in tree)
    return tree
