"""What a reader tries: a command line around a damaged file, and what its output must be if it is taken."""

import dataclasses
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Case:
    """One command to run.

    Attributes:
        arguments: of ``mixnet-tf``.
        wrong: says what is wrong with the standard output of a command that succeeded, or None.
    """

    arguments: list[str]
    wrong: Callable[[str], str | None] = lambda output: None
