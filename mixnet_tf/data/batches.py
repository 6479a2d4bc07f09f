"""Batches of images: for evaluation in their order, and deterministic ones for training, through tf.data.

What varies a training image depends on (seed, epoch, index of the image) alone, never on threads or on what ran
before, so a resumed run sees exactly what an uninterrupted one sees. Importing this module does not import TensorFlow.
"""

import contextlib
import functools
import math
import os
import re
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mixnet_tf import checks
from mixnet_tf.data import known_good
from mixnet_tf.data.augmentation import Augmentation
from mixnet_tf.data.choices import SPLITS
from mixnet_tf.data.dataset import ImageData, Split
from mixnet_tf.data.making import Maker, Plan, make_batch
from mixnet_tf.data.mixing import mixed
from mixnet_tf.data.pixels import DRAWS, evaluation_pixels
from mixnet_tf.distribution.processes import own_part_of_batches, processes
from mixnet_tf.errors import DataError, MixNetError


def fingerprint(data: ImageData) -> dict[str, list[int]]:
    """Return the number of readable images of every split, and a CRC-32 of their names (or pixels) and labels.

    >>> from mixnet_tf.data.sources import load_data
    >>> fingerprint(load_data("digits"))["test"][0]
    359
    """
    prints = {}
    for name, split in data.checked(*SPLITS).splits.items():
        if isinstance(split.images, np.ndarray):
            content = split.images.tobytes()
        else:
            content = os.fsencode("\n".join(Path(path).name for path in split.images))
        prints[name] = [len(split), zlib.crc32(split.labels.tobytes(), zlib.crc32(content))]
    return prints


def steps_per_epoch(data: ImageData, *, batch_size: int) -> int:
    """Return the number of batches in every epoch of `training_dataset`; images that fill no batch are left out.

    >>> from mixnet_tf.data.sources import load_data
    >>> steps_per_epoch(load_data("digits"), batch_size=64)
    20
    """
    checks.integer("batch_size", batch_size, 1)
    count = len(data.checked("train").splits["train"])
    return count // min(batch_size, count)


@contextlib.contextmanager
def lost_images(advice: str) -> Iterator[None]:
    r"""Name an image that could be read when it was checked, but not while the batches of a dataset were made.

    Args:
        advice: what to do then.

    Raises:
        DataError: in place of TensorFlow's error around it, which has it in its text alone.

    Example:
        >>> with lost_images("; put it back"):
        ...     raise RuntimeError("{{node map}} DataError: a.jpg: no such file\nTraceback ...")
        Traceback (most recent call last):
        mixnet_tf.errors.DataError: a.jpg: no such file; put it back
    """
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        line = re.search(r"\b(?:DataError|(BrokenProcessPool)): (.+)", str(error))
        if line is None:
            raise
        if line[1]:
            problem = "a process that reads images was ended from outside, for its memory perhaps"
            raise MixNetError(f"workers: {problem}; take fewer, and continue with --resume") from error
        known_good.forget()
        raise DataError(line[2] + advice) from error


SizeOfEpoch = Callable[[int], tuple[int, int]]
"""(height, width) of the images that an epoch, counted from 0, trains on."""


def training_dataset(
    data: ImageData,
    *,
    image_size: checks.ImageSize | SizeOfEpoch,
    batch_size: int,
    seed: int,
    first_epoch: int,
    epochs: int,
    augmentation: Augmentation | None = None,
    make: Maker | None = None,
) -> Any:
    """Return the augmented training batches of the epochs `first_epoch` to ``epochs - 1`` as one dataset.

    Where several processes train together, each gets an equal part of every batch, and reads no other image.

    Args:
        data: from `load_data`. Its training split is ``checked``, so that a bad image is known now.
        image_size: of the batches, in pixels, or what gives that of an epoch.
        batch_size: every batch has as many images, or all of them where the split has fewer.
        seed: of order and augmentation.
        first_epoch: where a resumed run continues; epoch k is the same whatever the first one.
        epochs: the epoch after the last.
        augmentation: instead of the one that suits `data`.
        make: of `maker`, for the same augmentation; default: threads of this process make the batches.

    Returns:
        tf.data.Dataset of (images, labels): uint8 pixels (batch, height, width, 3), height and width None where they
        change; int32 (batch,), or where images are mixed the float32 shares of their classes (batch, classes). It has
        ``steps_per_epoch(...) * (epochs - first_epoch)`` batches.

    Raises:
        DataError: a bad image (see ``ImageData.checked``).
        ArgumentError: an argument out of range.
    """
    import tensorflow as tf

    size_of, sides = _sizes(image_size)
    checks.integer("batch_size", batch_size, 1)  # before any image is read
    for name, value in (("seed", seed), ("first_epoch", first_epoch), ("epochs", epochs)):
        checks.integer(name, value, 0)
    data = data.checked("train")
    split = data.splits["train"]
    augmentation = augmentation or data.augmentation
    steps = steps_per_epoch(data, batch_size=batch_size)
    batch_size = min(batch_size, len(split))
    part = batch_size // processes().count
    labels = tf.constant(split.labels)
    make = make or functools.partial(make_batch, augmentation=augmentation)

    def read(indices: np.ndarray, draws: np.ndarray, seeds: np.ndarray, epochs: np.ndarray) -> np.ndarray:
        return make(Plan(split.take(indices).images, draws, seeds, size_of(int(epochs[0]))))

    def plan(epoch: Any) -> Any:
        drawn = functools.partial(_plan_epoch, len(split), steps, batch_size, seed)
        planned = tf.numpy_function(drawn, [epoch], [tf.int64, tf.float32, tf.int64])
        shapes = ([steps * part], [steps * part, DRAWS], [steps * part])
        planned = map(tf.ensure_shape, planned, shapes)
        return tf.data.Dataset.from_tensor_slices((*planned, tf.repeat(epoch, steps * part)))

    def load(indices: Any, draws: Any, seeds: Any, epochs: Any) -> Any:
        images = tf.numpy_function(read, [indices, draws, seeds, epochs], tf.uint8)
        images = tf.ensure_shape(images, [part, *sides, 3])
        classes = tf.gather(labels, indices)
        shares = tf.one_hot(classes, len(data.class_names))
        return mixed(images, shares, seeds[0], augmentation) if augmentation.mixes else (images, classes)

    dataset = tf.data.Dataset.range(first_epoch, epochs).flat_map(plan).batch(part, drop_remainder=True)
    dataset = dataset.map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(steps * max(0, epochs - first_epoch)))
    return dataset.prefetch(tf.data.AUTOTUNE)


def _sizes(image_size: checks.ImageSize | SizeOfEpoch) -> tuple[SizeOfEpoch, tuple[int | None, int | None]]:
    """Return what gives the size of an epoch, and the (height, width) of all epochs, None where they change."""
    if callable(image_size):
        return image_size, (None, None)
    size = checks.image_size(image_size)
    return lambda epoch: size, size


def _plan_epoch(
    count: int, steps: int, batch_size: int, seed: int, epoch: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the order of an epoch's images, and of each its draws and a seed: this process' part of every batch."""
    random = np.random.default_rng([seed, int(epoch)])
    order = random.permutation(count)
    draws = random.random((count, DRAWS), np.float32)
    seeds = random.integers(2**62, size=count)
    order = own_part_of_batches(order[: steps * batch_size], steps)
    return order, draws[order], seeds[order]


def evaluation_batches(
    data: ImageData, split: str, *, image_size: checks.ImageSize, batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Return every image of a split once, in a fixed order, preprocessed as timm does for evaluation.

    While one batch is in use, the images of the next are read.

    Args:
        data: from `load_data`. The split is ``checked``, so that a bad image is known now.
        split: ``"train"``, ``"val"`` or ``"test"``.
        image_size: of the batches, in pixels.
        batch_size: of all batches but a smaller last one.

    Returns:
        An iterator of (images, labels): uint8 pixels (batch, height, width, 3), int32 (batch,).

    Raises:
        DataError: a bad image (see ``ImageData.checked``).
        ArgumentError: an unknown split, or an argument out of range.

    Example:
        >>> from mixnet_tf.data.sources import load_data
        >>> batches = evaluation_batches(load_data("digits"), "test", image_size=32, batch_size=100)
        >>> [len(labels) for _, labels in batches]
        [100, 100, 100, 59]
    """
    size = checks.image_size(image_size)
    checks.integer("batch_size", batch_size, 1)
    chosen = data.checked(split).splits[split]
    return _read_in_order(chosen, lambda image: evaluation_pixels(image, size, data.crop_fraction), batch_size)


def _read_in_order(
    split: Split, prepare: Callable[[Image.Image], np.ndarray], batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:

        def start(first: int) -> Iterator[np.ndarray]:
            indices = range(first, min(first + batch_size, len(split)))
            return pool.map(lambda index: prepare(split.open(index)), indices)

        coming = start(0)
        for first in range(0, len(split), batch_size):
            images = np.stack(list(coming))
            coming = start(first + batch_size)
            yield images, split.labels[first : first + batch_size]


def evaluation_dataset(data: ImageData, split: str, *, image_size: checks.ImageSize, batch_size: int) -> Any:
    """Return `evaluation_batches` as a ``tf.data.Dataset``, which begins anew each time it is iterated.

    Example:
        >>> from mixnet_tf.data.sources import load_data
        >>> int(evaluation_dataset(load_data("digits"), "test", image_size=32, batch_size=100).cardinality())
        4
    """
    import tensorflow as tf

    height, width = checks.image_size(image_size)
    checks.integer("batch_size", batch_size, 1)
    data = data.checked(split)
    dataset = tf.data.Dataset.from_generator(
        lambda: evaluation_batches(data, split, image_size=image_size, batch_size=batch_size),
        output_signature=(tf.TensorSpec((None, height, width, 3), tf.uint8), tf.TensorSpec((None,), tf.int32)),
    )
    count = math.ceil(len(data.splits[split]) / batch_size)
    return dataset.apply(tf.data.experimental.assert_cardinality(count)).prefetch(tf.data.AUTOTUNE)
