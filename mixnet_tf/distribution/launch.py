"""What a launcher has written into the environment of a process that it started. Imports nothing heavy."""

import os
from typing import NamedTuple

from mixnet_tf.errors import MixNetError

_RESTARTS = "TORCHELASTIC_RESTART_COUNT"


class Launcher(NamedTuple):
    """Who starts several processes.

    Attributes:
        backend: of Keras, that they train on.
        size: the environment variable with the number of processes.
        rank: the one with the number of this process among them.
        advice: where the variables cannot be.
    """

    backend: str
    size: str
    rank: str
    advice: str


_TORCHRUN = Launcher("torch", "WORLD_SIZE", "RANK", "use torchrun")
_BY_HAND = Launcher("jax", "KERAS_DISTRIBUTION_NUM_PROCESSES", "KERAS_DISTRIBUTION_PROCESS_ID", "see README.md")


def launcher() -> Launcher:
    """Return who has started this process.

    >>> launcher().backend
    'torch'
    """
    return _BY_HAND if _BY_HAND.size in os.environ else _TORCHRUN


def count_started() -> int:
    """Return how many processes a launcher has started together with this one; 1 without a launcher.

    >>> count_started()
    1
    """
    return _number(launcher().size, 1, lowest=1)


def started_rank() -> int:
    """Return the number of this process among them, from 0."""
    started = launcher()
    rank, count = _number(started.rank, -1, lowest=0), count_started()
    if rank >= count:
        raise MixNetError(
            f"{started.rank}: found {rank}, expected less than {started.size} ({count}); {started.advice}"
        )
    return rank


def device_number() -> int:
    """Return the number of the device of this process among those of its host."""
    return _number("LOCAL_RANK", 0, lowest=0)


def restarts() -> int:
    """Return how often the launcher has started all processes of this host anew after one of them had ended."""
    return _number(_RESTARTS, 0, lowest=0)


def attempt() -> str:
    """Return a name for this start of the processes, under which none finds what those before it have left.

    Hosts count their restarts differently: there, the launcher must give each attempt a store of its own.
    """
    alone = _number("GROUP_WORLD_SIZE", 1, lowest=1) == 1
    return f"mixnet_tf/{restarts() if alone else 0}"


def _number(name: str, default: int, *, lowest: int) -> int:
    text = os.environ.get(name, str(default))
    if not text.isdecimal() or int(text) < lowest:
        raise MixNetError(
            f"{name}: found {text!r} in the environment, expected a number from {lowest}; {launcher().advice}"
        )
    return int(text)


def check_single(command: str) -> None:
    """Raise MixNetError where a launcher has started several processes of what works in one only."""
    if (count := count_started()) > 1:
        raise MixNetError(
            f"{command}: found {count} processes ({launcher().size}), expected one: only train works in several"
        )
