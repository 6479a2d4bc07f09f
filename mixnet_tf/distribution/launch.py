"""What ``torchrun`` has written into the environment of a process that it started. Imports nothing heavy."""

import os

from mixnet_tf.errors import MixNetError

_RESTARTS = "TORCHELASTIC_RESTART_COUNT"


def count_started() -> int:
    """Return how many processes a launcher has started together with this one; 1 without a launcher.

    >>> count_started()
    1
    """
    return _number("WORLD_SIZE", 1, lowest=1)


def started_rank() -> int:
    """Return the number of this process among them, from 0."""
    rank, count = _number("RANK", -1, lowest=0), count_started()
    if rank >= count:
        raise MixNetError(f"RANK: found {rank}, expected less than WORLD_SIZE ({count}); start it with torchrun")
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
        raise MixNetError(f"{name}: found {text!r} in the environment, expected a number from {lowest}; use torchrun")
    return int(text)


def check_single(command: str) -> None:
    """Raise MixNetError where a launcher has started several processes of what works in one only."""
    if (count := count_started()) > 1:
        raise MixNetError(f"{command}: found {count} processes (WORLD_SIZE), expected one: only train works in several")
