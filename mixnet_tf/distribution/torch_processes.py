"""Several processes that train together, by ``torch.distributed``: Gloo between CPUs, NCCL between GPUs."""

import contextlib
import datetime
import re
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from mixnet_tf.distribution import launch
from mixnet_tf.distribution.heartbeat import Heartbeat
from mixnet_tf.distribution.processes import Processes

Value = TypeVar("Value")

_MEETING = datetime.timedelta(minutes=5)  # hosts start at different times
_FAILED = "failed"  # the key that counts the processes which have failed


class TorchProcesses(Processes):
    """This process and those that ``torchrun`` started with it; each has a device of its own."""

    whole = False

    def __init__(self, rank: int, count: int) -> None:
        self.rank, self.count = rank, count
        if torch.cuda.is_available():
            torch.cuda.set_device(launch.device_number())
        with self._all_are_there():
            store, *_ = next(rendezvous("env://", timeout=_MEETING))
            store = dist.PrefixStore(launch.attempt(), store)
            dist.init_process_group(store=store, rank=rank, world_size=count)
            self._words = dist.new_group(backend="gloo")  # for what is no tensor, whatever the device
            self._store = store.clone()  # the other waits in collectives
        self.gather(None)
        self._heartbeat = Heartbeat(store.clone(), self)
        self._heartbeat.start()

    @contextlib.contextmanager
    def _all_are_there(self) -> Iterator[None]:
        """Say in one line that another process is missing, in place of PyTorch's errors."""
        try:
            yield
        except (RuntimeError, ValueError) as error:
            reason = re.sub(r"^(\[[^]]*\] *)+", "", str(error).strip()).split(". ")[0].splitlines()[0][:200]
            self.lost = self.missing(reason)
            raise self.lost from error

    def gather(self, value: Value) -> list[Value]:
        """Return what every process gives, in their order."""
        values: list[Any] = [None] * self.count
        with self._all_are_there():
            dist.all_gather_object(values, value, group=self._words)
        return values

    def broadcast(self, value: Value) -> Value:
        """Return what the first process gives."""
        values = [value]
        with self._all_are_there():
            dist.broadcast_object_list(values, src=0, group=self._words)
        return values[0]

    def mean(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the mean of a tensor over the processes; gradients go through it."""
        return _Mean.apply(tensor, self)

    def means(self, gradients: Sequence[torch.Tensor | None]) -> list[torch.Tensor | None]:
        """Return the mean of each gradient over the processes; None stays. One message carries all of them."""
        tensors = [gradient for gradient in gradients if gradient is not None]
        flat = self.reduced(torch.cat([tensor.reshape(-1) for tensor in tensors]))
        parts = iter(flat.split([tensor.numel() for tensor in tensors]))
        return [None if gradient is None else next(parts).reshape(gradient.shape) for gradient in gradients]

    def reduced(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the mean of a tensor, without gradients."""
        total = tensor.detach().clone(memory_format=torch.contiguous_format)
        with self._all_are_there():
            dist.all_reduce(total)
        return total / self.count

    def fails_first(self) -> bool:
        """Say whether no other process has failed before; from now on, one has."""
        try:
            return self._store.add(_FAILED, 1) == 1
        except RuntimeError:  # the launcher is gone
            return True

    def leave(self) -> None:
        """Wait for the others, and end what connects them."""
        self._heartbeat.end()
        self.gather(None)
        dist.destroy_process_group()


class _Mean(torch.autograd.Function):
    """The mean over processes. Each process' loss depends on the mean, so its gradient is the others' mean, too.

    PyTorch's own differentiable sum does not turn a lost connection into one line.
    """

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, group: TorchProcesses) -> torch.Tensor:
        ctx.group = group
        return group.reduced(tensor)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return ctx.group.reduced(gradient), None
