"""Training images, made a batch at a time: in the thread that asks, or in processes of their own.

Threads of one process wait for each other wherever Python itself is at work: enough for a few cores, but not for many.
"""

import math
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from mixnet_tf.data.augmentation import Augmentation
from mixnet_tf.data.dataset import open_image
from mixnet_tf.data.pixels import pixels_to_decode, training_pixels
from mixnet_tf.data.variation import varied


class Plan(NamedTuple):
    """What makes a batch: the images, and of each what is drawn for it.

    Attributes:
        images: paths of image files, or uint8 pixels (count, height, width, 3).
        draws: float32 (count, DRAWS) from 0 to 1, see ``training_pixels``.
        seeds: int64 (count,), see ``varied``.
    """

    images: Sequence[str] | np.ndarray
    draws: np.ndarray
    seeds: np.ndarray


def make_batch(plan: Plan, size: tuple[int, int], augmentation: Augmentation) -> np.ndarray:
    """Return the augmented images of a batch: uint8 (count, *size, 3); the same for the same plan, wherever it is made.

    Raises:
        DataError: an image that cannot be read.
    """
    at_least = pixels_to_decode(size, augmentation)
    batch = np.empty((len(plan.images), *size, 3), np.uint8)
    for i, (image, draws, seed) in enumerate(zip(*plan, strict=True)):
        pixels = training_pixels(open_image(image, at_least=at_least), size, augmentation, draws)
        batch[i] = varied(pixels, augmentation, int(seed))
    return batch


class Workers:
    """Processes that make batches, which come back through memory that they share with this one.

    They leave Ctrl-C to this process, and end with it, however it ends.

    Args:
        count: of the processes.
        batch_size: images of every batch.
        size: (height, width) of the images, in pixels.
        augmentation: how they vary.

    Example:
        >>> batch = Workers(4, 32, (224, 224), Augmentation()).make(plan)                        # doctest: +SKIP
    """

    def __init__(self, count: int, batch_size: int, size: tuple[int, int], augmentation: Augmentation) -> None:
        context = multiprocessing.get_context("spawn")  # a copy of a process with TensorFlow's threads would block
        self._shape, self._settings = (batch_size, *size, 3), (size, augmentation)
        self._blocks = [context.RawArray("B", math.prod(self._shape)) for _ in range(count)]
        self._free: queue.SimpleQueue[int] = queue.SimpleQueue()
        for block in range(count):
            self._free.put(block)
        self._pool = ProcessPoolExecutor(count, context, initializer=_start, initargs=(self._blocks,))

    def make(self, plan: Plan) -> np.ndarray:
        """Return the batch of a plan, as `make_batch` does; any thread may ask.

        Raises:
            DataError: an image that cannot be read.
            BrokenProcessPool: one of the processes was ended from outside.
        """
        block = self._free.get()
        try:
            self._pool.submit(_fill, block, plan, *self._settings).result()
            return np.frombuffer(self._blocks[block], np.uint8).reshape(self._shape).copy()
        finally:
            self._free.put(block)


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


def _fill(block: int, plan: Plan, size: tuple[int, int], augmentation: Augmentation) -> None:
    pixels = make_batch(plan, size, augmentation)
    np.frombuffer(_shared[block], np.uint8)[:] = pixels.reshape(-1)
