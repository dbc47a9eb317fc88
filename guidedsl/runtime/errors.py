"""Exceptions of the runtime. Each message is for a person: what is wrong, where, why, and what mends it."""

from __future__ import annotations


class GuidedslError(Exception):
    """Base of all errors that a user of the runtime may meet."""


class ParamError(GuidedslError):
    """A parameter was registered, read, set or loaded in a way that cannot be right."""


class DataError(GuidedslError):
    """Data does not fit the model's declarations. `problems` has one message each."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class InferenceError(GuidedslError):
    """A density or gradient is not finite, or an optimisation cannot go on."""
