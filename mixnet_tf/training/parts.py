"""Whether several processes, or devices, can share a training: each takes an equal part of every batch."""

import dataclasses
import functools
import zlib
from typing import Any

import numpy as np

from mixnet_tf.checks import complaint
from mixnet_tf.data.augmentation import Augmentation
from mixnet_tf.data.dataset import ImageData
from mixnet_tf.distribution.devices import cuts_batches, parts_of_a_batch
from mixnet_tf.distribution.processes import check_equal, processes
from mixnet_tf.errors import ArgumentError, DataError
from mixnet_tf.training.config import TrainingConfig


def check_parts(training: TrainingConfig, data: ImageData, augmentation: Augmentation) -> None:
    """Refuse what several processes or devices would train otherwise than one does.

    Raises:
        MixNetError: batches that they cannot share equally, a loss that is no mean over images, or too few images.

    One process with one device takes any batch.

    Example:
        >>> from mixnet_tf.data.sources import load_data
        >>> check_parts(TrainingConfig(batch_size=33), load_data("digits"), Augmentation())
    """
    import keras

    half = "float16" in (training.precision, keras.config.dtype_policy().compute_dtype)
    if half and keras.backend.backend() == "jax":
        expected = "float32 or bfloat16 on JAX: there, Keras' loss scale keeps no count that a run could be resumed by"
        raise ArgumentError(complaint("precision", "float16", expected))
    count, parts = processes().count, parts_of_a_batch()
    if parts == 1:
        return
    train, val = (len(data.splits[name]) for name in ("train", "val"))
    size = min(training.batch_size, train)
    if size % parts or (cuts_batches() and training.batch_size % parts):  # a larger batch may validate
        limit = "" if size == training.batch_size else f", at most the {train} images to train on"
        who = f"{parts} {'devices' if cuts_batches() else 'processes'}"
        raise ArgumentError(complaint("batch_size", training.batch_size, f"a multiple of {who}{limit}"))
    if count == 1:
        return
    if not processes().whole:
        _check_means(training, half)
    for name in ("mixup", "cutmix"):
        if value := getattr(augmentation, name):
            expected = f"0 in {count} processes: each has other images of a batch to mix"
            raise ArgumentError(complaint(f"augmentation.{name}", value, expected))
    if val < count:
        raise DataError(f"{data.name}: found {val} images in val, expected one for each of {count} processes at least")


def _check_means(training: TrainingConfig, half: bool) -> None:
    """Refuse what is not the mean of what each process computes of its part."""
    count = processes().count
    if training.range_penalty:
        expected = f"0 in {count} processes: it is no mean over images, which could be taken in parts"
        raise ArgumentError(complaint("range_penalty", training.range_penalty, expected))
    if half:
        expected = f"float32 or bfloat16 in {count} processes: each would leave out other steps, by its own loss scale"
        raise ArgumentError(complaint("precision", "float16", expected))


def validation_part(data: ImageData) -> ImageData:
    """Return the data set with this process' part of val; padded where Keras cuts batches, so that all parts are equal.

    The padding repeats images, under a class of -1.

    Example:
        >>> from mixnet_tf.data.sources import load_data
        >>> data = load_data("digits")
        >>> validation_part(data) is data
        True
    """
    if not cuts_batches():
        return data.own_part("val")
    split = data.splits["val"]
    indices = np.arange(padded(len(split)))
    repeated = split.take(indices % len(split))
    labels = np.where(indices < len(split), repeated.labels, -1).astype(np.int32)
    val = dataclasses.replace(repeated, labels=labels)
    return dataclasses.replace(data, splits={**data.splits, "val": val}).own_part("val")


def padded(images: int) -> int:
    """Return the next number that can be cut into parts of a batch.

    >>> padded(7)
    7
    """
    parts = parts_of_a_batch()
    return -(-images // parts) * parts


def without_padding(validation: Any, images: int) -> Any:
    """Return a validation's batches of images and one-hot labels; where they are padded, with the weights of images.

    Keras divides the sum of a batch's losses by the size of the batch, so a real image weighs a little more than 1.
    """
    if not cuts_batches():
        return validation
    import tensorflow as tf

    weight = padded(images) / images
    return validation.map(lambda x, y: (x, y, tf.reduce_sum(y, -1) * weight))


def check_same_weights(model: Any) -> None:
    """Raise MixNetError where the processes do not begin with the same weights."""
    if processes().count == 1:
        return
    checksum = functools.reduce(lambda crc, weight: zlib.crc32(weight.tobytes(), crc), model.get_weights(), 0)
    check_equal("the weights", checksum)
