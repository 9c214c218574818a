"""The one exception that a user is meant to read, and its kinds."""

from __future__ import annotations


class StudyError(Exception):
    """Something the user can put right, told in one sentence.

    The message says what is wrong, what is allowed and what to do. The command line prints it as
    ``error: <message>`` without a traceback and exits with code 2; a notebook fails with it as the
    last line of its traceback.
    """


class Busy(StudyError):
    """Another process is making the same thing; once it has finished, there may be nothing left to do."""


class Unreachable(StudyError):
    """A sparsity that a configuration cannot reach at this length.

    Args:
        message: one sentence naming what is forced.
        lowest_density: the smallest attended density that the configuration can reach there.
    """

    def __init__(self, message: str, lowest_density: float) -> None:
        super().__init__(message)
        self.lowest_density = lowest_density
