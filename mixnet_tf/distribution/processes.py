"""The processes that train together. On one process, all of this is the identity, and PyTorch is not imported.

Each process takes an equal part of every batch. What they compute of it is averaged, or is of the whole batch already,
so that all end each step with the same weights. The first process alone writes.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from mixnet_tf.distribution import launch
from mixnet_tf.errors import MixNetError
from mixnet_tf.quiet import errors_only

if TYPE_CHECKING:  # --help does without
    import numpy as np

Value = TypeVar("Value")


class Processes:
    """This process alone: the first of one.

    Attributes:
        rank: of this process among them, from 0.
        count: how many they are.
        whole: whether what this process computes of a batch or of a split is of all parts of it already.
        lost: why another process cannot be reached, where that ends this one.
    """

    rank = 0
    count = 1
    whole = True
    lost: MixNetError | None = None

    def gather(self, value: Value) -> list[Value]:
        """Return what every process gives, in their order."""
        return [value]

    def broadcast(self, value: Value) -> Value:
        """Return what the first process gives."""
        return value

    def mean(self, tensor: Any) -> Any:
        """Return the mean of a tensor over the processes; gradients go through it."""
        return tensor

    def means(self, gradients: Sequence[Any]) -> Sequence[Any]:
        """Return the mean of each gradient over the processes; None stays."""
        return gradients

    def connected(self) -> contextlib.AbstractContextManager:
        """Return a block, inside of which the loss of another process is told in one line."""
        return contextlib.nullcontext()

    def abandon(self) -> None:
        """Make ready to end without the others."""

    def one_has_failed(self) -> bool:
        """Say whether another process has failed, and this one need not miss it."""
        return False

    def fails_first(self) -> bool:
        """Say whether no other process has failed before; from now on, one has."""
        return True

    def missing(self, reason: str) -> MixNetError:
        """Return the error where another process cannot be reached."""
        who = f"process {self.rank} of {self.count}"
        return MixNetError(f"{who}: another one has ended or is out of reach; continue with --resume ({reason})")

    def leave(self) -> None:
        """Wait for the others, and end what connects them."""


def _by_torch() -> Processes:
    from mixnet_tf.distribution.torch_processes import TorchProcesses

    return TorchProcesses(launch.started_rank(), launch.count_started())


def _by_jax() -> Processes:
    from mixnet_tf.distribution.jax_processes import JaxProcesses

    return JaxProcesses(launch.started_rank(), launch.count_started())


_MEETINGS = {"torch": _by_torch, "jax": _by_jax}  # by the back end of Keras
_ALONE = Processes()
_joined = _ALONE


def processes() -> Processes:
    """Return the processes that train together now: inside of `joined` those that were started, else this one.

    >>> processes().rank, processes().count, processes().gather("me")
    (0, 1, ['me'])
    """
    return _joined


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Meet the other processes where a launcher has started several; inside of it, nothing happens.

    They leave together. Where one fails, it says why, and the others, which only miss it, end without a word.

    Raises:
        MixNetError: Keras does not run on what the launcher is for, or another process is missing.
        SystemExit: of all but the process that fails first.

    Example:
        >>> with joined():
        ...     processes().count
        1
    """
    global _joined
    if _joined is not _ALONE or launch.count_started() == 1:
        yield
        return
    import keras

    started, backend = launch.launcher(), keras.backend.backend()
    if backend != started.backend:
        problem = f"found {launch.count_started()} processes ({started.size}) with Keras on {backend}"
        raise MixNetError(f"{problem}, expected {started.backend}: set KERAS_BACKEND={started.backend}")
    group: Any = _MEETINGS[backend]()
    try:
        _joined = group
        # what all do is said once
        with group.connected(), errors_only("mixnet_tf") if group.rank > 0 else contextlib.nullcontext():
            yield
            group.leave()
    except (Exception, KeyboardInterrupt) as error:
        group.abandon()
        if not group.fails_first():
            raise SystemExit(2) from error
        if group.lost not in (None, error):  # Keras adds to the text of an error that passes through a layer
            raise group.lost from error
        raise
    finally:
        _joined = _ALONE


def by_first(work: Callable[[], Value]) -> Value:
    """Let the first process alone do something, while the others wait; return its result, or raise its error, in all.

    >>> by_first(lambda: 3)
    3
    """
    result: Any = None
    error: MixNetError | None = None
    if _joined.rank == 0:
        try:
            result = work()
        except MixNetError as failure:
            error = failure
    result, error = _joined.broadcast((result, error))
    if error is not None:
        raise error
    return result


def first_only(*things: Value) -> tuple[Value, ...]:
    """Return what only the first process is to have: callbacks that write, say; nothing in the others.

    >>> first_only("log", "checkpoint")
    ('log', 'checkpoint')
    """
    return things if _joined.rank == 0 else ()


def own_part(values: Sequence[Value]) -> Sequence[Value]:
    """Return the part of a sequence that this process works on: every process another, and together all.

    >>> own_part("abc")
    'abc'
    """
    return values if _joined.count == 1 else values[_joined.rank :: _joined.count]


def own_part_of_batches(order: "np.ndarray", steps: int) -> "np.ndarray":
    """Return this process' equal part of each of `steps` batches, which lie one behind the other.

    >>> import numpy as np
    >>> own_part_of_batches(np.arange(6), 3).tolist()
    [0, 1, 2, 3, 4, 5]
    """
    return order.reshape(steps, _joined.count, -1)[:, _joined.rank].reshape(-1)


def merged(part: Mapping[str, Value]) -> dict[str, Value]:
    """Return what all processes have found, each in its own part.

    >>> merged({"a.jpg": "no such file"})
    {'a.jpg': 'no such file'}
    """
    return {key: value for mapping in _joined.gather(dict(part)) for key, value in mapping.items()}


def mean_logs(logs: Mapping[str, Any], images: int) -> dict[str, float]:
    """Return losses and metrics over the images of all processes.

    Args:
        logs: those of this process, means over its images.
        images: how many these are.

    Example:
        >>> mean_logs({"loss": 0.5}, 3)
        {'loss': 0.5}
    """
    if _joined.whole:
        return dict(logs)
    parts = _joined.gather(({name: float(value) for name, value in logs.items()}, images))
    total = sum(count for _, count in parts)
    return {name: sum(part[name] * count for part, count in parts) / total for name in logs}


def check_equal(name: str, value: Any) -> None:
    """Raise MixNetError where something is not the same in all processes; of mappings, it names the first difference.

    >>> check_equal("epoch", 3)
    """
    for rank, theirs in enumerate(_joined.gather(value)):
        if theirs != value:
            place, ours = name, value
            while isinstance(ours, Mapping) and isinstance(theirs, Mapping):
                key = next(key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key))
                place, ours, theirs = f"{place}.{key}", ours.get(key), theirs.get(key)
            raise MixNetError(
                f"{place}: found {ours} in process {_joined.rank} and {theirs} in process {rank}, expected the same: "
                "the same command and the same files for all"
            )


def was_restarted() -> bool:
    """Say whether the launcher has started these processes in place of others that ended too early."""
    return any(_joined.gather(launch.restarts()))
