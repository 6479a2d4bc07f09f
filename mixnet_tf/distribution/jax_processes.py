"""Several processes that train together, by ``keras.distribution`` on JAX: Gloo between CPUs, NCCL between GPUs.

They run one program on arrays that all of them share: what JAX computes of a batch is of the whole batch already.
"""

import atexit
import contextlib
import itertools
import os
import pickle
import re
import sys
import time
from collections.abc import Iterator
from typing import Any, NoReturn, TypeVar

import jax
import keras
from jax._src.distributed import global_state  # its client has no public name; multihost_utils gathers arrays alone

from mixnet_tf.distribution.heartbeat import BEAT, Heartbeat
from mixnet_tf.distribution.processes import Processes
from mixnet_tf.errors import MixNetError
from mixnet_tf.quiet import output_as_errors

Value = TypeVar("Value")

_PATIENCE = 7 * 24 * 3600 * 1000  # ms; it is the heartbeat that misses a process
_LOST = re.compile(r"Gloo|NCCL|[Cc]oordination ?[Ss]ervice|UNAVAILABLE|DEADLINE_EXCEEDED")
"""Words of the errors that JAX raises where another process is missing."""

_UNLIKE = re.compile(r"passed to device_put is not the same on each process")
_DIVERGED = re.compile(_UNLIKE.pattern + r".*\bnan\b", re.DOTALL)
"""JAX compares a variable's new value between the processes, and NaN equals nothing."""

_ADDRESSES = "KERAS_DISTRIBUTION_JOB_ADDRESSES"


class _Store:
    """Numbers that all processes count up."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def add(self, key: str, amount: int) -> int:
        """Add to a number, and return it."""
        return self.client.key_value_increment(f"mixnet_tf/{key}", amount)


class JaxProcesses(Processes):
    """This process and those that Keras' environment variables tell of, with all of their devices."""

    _messages = itertools.count()  # all processes gather in the same order
    _abandoned = False  # JAX meets once in the life of a process

    def __init__(self, rank: int, count: int) -> None:
        self.rank, self.count = rank, count
        if JaxProcesses._abandoned:
            raise MixNetError("train: the processes met before, and one has failed; start all of them anew")
        if not re.fullmatch(r"[^,]+:\d+(,.*)?", address := os.environ.get(_ADDRESSES, "")):
            raise MixNetError(f"{_ADDRESSES}: found {address!r} in the environment, expected host:port of the first")
        if not jax.distributed.is_initialized():
            jax.config.update("jax_enable_preemption_service", False)  # SIGTERM would no longer end a process
            try:
                keras.distribution.initialize()
            except (RuntimeError, ValueError, AssertionError) as error:  # the last without a word, for unlike devices
                reason = str(error).strip().partition("\n")[0][:200] or "each must have as many devices as the others"
                raise MixNetError(f"process {rank} of {count}: the processes cannot meet: {reason}") from error
        self._client = global_state.client
        self._store = _Store(self._client)
        self.gather(None)
        self._heartbeat = Heartbeat(self._store, self)
        self._heartbeat.start()

    @contextlib.contextmanager
    def connected(self) -> Iterator[None]:
        """Return a block, inside of which the loss of another process is told in one line."""
        try:
            with output_as_errors():  # Gloo says there that it is connected
                yield
        except Exception as error:
            causes: list[BaseException] = [error]  # Keras tidies up after the first error, and meets others
            while (context := causes[-1].__context__) and context not in causes:
                causes.append(context)
            if ours := next((cause for cause in causes if isinstance(cause, MixNetError)), None):
                raise ours from None
            if any(_DIVERGED.search(str(cause)) for cause in causes):
                raise MixNetError("training diverged: weights are no numbers; lower the learning rate") from error
            if any(_UNLIKE.search(str(cause)) for cause in causes):
                raise MixNetError("weights: not the same in all processes; give all the same files") from error
            reasons = [str(cause).strip().splitlines()[0] for cause in causes if _LOST.search(str(cause))]
            if not reasons:
                raise
            raise self.missing(reasons[-1][:200]) from error

    def gather(self, value: Value) -> list[Value]:
        """Return what every process gives, in their order."""
        number, name = next(self._messages), "mixnet_tf/message/{}/{}"
        self._client.key_value_set_bytes(name.format(number, self.rank), pickle.dumps(value))
        keys = [name.format(number, rank) for rank in range(self.count)]
        values = [pickle.loads(self._client.blocking_key_value_get_bytes(key, _PATIENCE)) for key in keys]
        if number:  # all have sent this message, so they have read the one before
            self._client.key_value_delete(name.format(number - 1, self.rank))
        return values

    def broadcast(self, value: Value) -> Value:
        """Return what the first process gives."""
        values: list[Any] = self.gather(value if self.rank == 0 else None)
        return values[0]

    def one_has_failed(self) -> bool:
        """Say whether another process has failed, and this one need not miss it."""
        return self._store.add("failed", 0) > 0

    def fails_first(self) -> bool:
        """Say whether no other process has failed before; from now on, one has."""
        try:
            return self._store.add("failed", 1) == 1
        except RuntimeError:  # the first process is gone, and with it the numbers
            return True

    def abandon(self) -> None:
        """Make ready to end without the others, for which JAX would wait five minutes."""
        JaxProcesses._abandoned = True
        self._heartbeat.end()
        atexit.register(self._end)

    def _end(self) -> NoReturn:
        if self.rank == 0:  # the others end when they have heard of it; JAX would end them with a stack trace
            time.sleep(2 * BEAT)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(2)

    def leave(self) -> None:
        """Wait for the others; what connects them ends with this process."""
        self._heartbeat.end()
        self.gather(None)
