"""What Pyro cannot say: raised where it is met, reported with the statement that it stands in."""

from __future__ import annotations


class Inexpressible(Exception):
    """`what` cannot be expressed in Pyro; `hint` is the edit, or what to do instead."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint
