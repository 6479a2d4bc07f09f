"""Training images, made a batch at a time: in the thread that asks, or in processes of their own.

Threads of one process wait for each other wherever Python itself is at work: enough for a few cores, but not for many.
"""

import contextlib
import functools
import math
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, NamedTuple

import numpy as np

from mixnet_tf import checks
from mixnet_tf.data.augmentation import Augmentation
from mixnet_tf.data.choices import MOST_WORKERS
from mixnet_tf.data.dataset import open_image
from mixnet_tf.data.pixels import pixels_to_decode, training_pixels
from mixnet_tf.data.variation import varied
from mixnet_tf.errors import MixNetError


class Plan(NamedTuple):
    """What makes a batch: the images, and of each what is drawn for it.

    Attributes:
        images: paths of image files, or uint8 pixels (count, height, width, 3).
        draws: float32 (count, DRAWS) from 0 to 1, see ``training_pixels``.
        seeds: int64 (count,), see ``varied``.
        size: (height, width) of the batch, in pixels.
    """

    images: Sequence[str] | np.ndarray
    draws: np.ndarray
    seeds: np.ndarray
    size: tuple[int, int]


def make_batch(plan: Plan, augmentation: Augmentation) -> np.ndarray:
    """Return the augmented images of a batch: uint8 (count, *size, 3); the same for the same plan, wherever it is made.

    Raises:
        DataError: an image that cannot be read.
    """
    images, all_draws, seeds, size = plan
    at_least = pixels_to_decode(size, augmentation)
    batch = np.empty((len(images), *size, 3), np.uint8)
    for i, (image, draws, seed) in enumerate(zip(images, all_draws, seeds, strict=True)):
        pixels = training_pixels(open_image(image, at_least=at_least), size, augmentation, draws)
        batch[i] = varied(pixels, augmentation, int(seed))
    return batch


Maker = Callable[[Plan], np.ndarray]


@contextlib.contextmanager
def maker(workers: int, most: int, size: tuple[int, int], augmentation: Augmentation) -> Iterator[Maker]:
    """Yield what makes the batch of a plan, as `make_batch` does; any thread may call it.

    Args:
        workers: processes that make batches, up to 61; they leave Ctrl-C to this process, and end with the block, or
            with this process, however it ends. 0: the thread that calls.
        most: images of a batch.
        size: (height, width) of the largest, in pixels.
        augmentation: how they vary.

    Raises:
        MixNetError: the processes cannot start.

    Example:
        >>> with maker(4, 32, (224, 224), Augmentation()) as make:                               # doctest: +SKIP
        ...     batch = make(plan)
    """
    if not checks.integer("workers", workers, 0, MOST_WORKERS):
        yield functools.partial(make_batch, augmentation=augmentation)
        return
    context = multiprocessing.get_context("spawn")  # a copy of a process with TensorFlow's threads would block
    blocks = [context.RawArray("B", most * math.prod(size) * 3) for _ in range(workers)]
    free: queue.SimpleQueue[int] = queue.SimpleQueue()
    for block in range(workers):
        free.put(block)

    def make(plan: Plan) -> np.ndarray:
        block = free.get()
        try:
            count = pool.submit(_fill, block, plan, augmentation).result()
            return np.frombuffer(blocks[block], np.uint8, count).reshape(-1, *plan.size, 3).copy()
        finally:
            free.put(block)

    with ProcessPoolExecutor(workers, context, initializer=_start, initargs=(blocks,)) as pool:
        _check_start(pool)
        try:
            yield make
        finally:
            pool.shutdown(cancel_futures=True)


def _check_start(pool: ProcessPoolExecutor) -> None:
    with _without_ctrl_c():  # which the processes inherit
        answer = pool.submit(os.getpid)
    try:
        answer.result()
    except BrokenProcessPool as error:
        reason = 'a script that asks for them begins with if __name__ == "__main__":, and is a file'
        raise MixNetError(f"workers: the processes that read images cannot start; {reason}") from error


@contextlib.contextmanager
def _without_ctrl_c() -> Iterator[None]:
    if not hasattr(signal, "pthread_sigmask"):  # Windows: until they have started, Ctrl-C is theirs, too
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_shared: list[Any] = []
"""In a worker: the blocks of memory, in each of which there is place for a batch."""


def _start(blocks: list[Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _shared.extend(blocks)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(0)


def _fill(block: int, plan: Plan, augmentation: Augmentation) -> int:
    """Make a batch in a block of the shared memory; return its bytes."""
    pixels = make_batch(plan, augmentation).reshape(-1)
    np.frombuffer(_shared[block], np.uint8, pixels.size)[:] = pixels
    return pixels.size
