"""Whether several processes can share a training: each takes an equal part of every batch."""

import functools
import zlib
from typing import Any

from mixnet_tf.checks import complaint
from mixnet_tf.data.augmentation import Augmentation
from mixnet_tf.data.dataset import ImageData
from mixnet_tf.distribution.processes import check_equal, processes
from mixnet_tf.errors import ArgumentError, DataError
from mixnet_tf.training.config import TrainingConfig


def check_parts(training: TrainingConfig, data: ImageData, augmentation: Augmentation) -> None:
    """Refuse what several processes would train otherwise than one does.

    Raises:
        MixNetError: batches that they cannot share equally, a loss that is no mean over images, or too few images.

    One process takes any batch.

    Example:
        >>> from mixnet_tf.data.sources import load_data
        >>> check_parts(TrainingConfig(batch_size=33), load_data("digits"), Augmentation())
    """
    count = processes().count
    if count == 1:
        return
    train, val = (len(data.splits[name]) for name in ("train", "val"))
    if (size := min(training.batch_size, train)) % count:
        limit = "" if size == training.batch_size else f", at most the {train} images to train on"
        raise ArgumentError(complaint("batch_size", training.batch_size, f"a multiple of {count} processes{limit}"))
    if training.range_penalty:
        expected = f"0 in {count} processes: it is no mean over images, which could be taken in parts"
        raise ArgumentError(complaint("range_penalty", training.range_penalty, expected))
    import keras

    if "float16" in (training.precision, keras.config.dtype_policy().compute_dtype):
        expected = f"float32 or bfloat16 in {count} processes: each would leave out other steps, by its own loss scale"
        raise ArgumentError(complaint("precision", "float16", expected))
    for name in ("mixup", "cutmix"):
        if value := getattr(augmentation, name):
            expected = f"0 in {count} processes: each has other images of a batch to mix"
            raise ArgumentError(complaint(f"augmentation.{name}", value, expected))
    if val < count:
        raise DataError(f"{data.name}: found {val} images in val, expected one for each of {count} processes at least")


def check_same_weights(model: Any) -> None:
    """Raise MixNetError where the processes do not begin with the same weights."""
    if processes().count == 1:
        return
    checksum = functools.reduce(lambda crc, weight: zlib.crc32(weight.tobytes(), crc), model.get_weights(), 0)
    check_equal("the weights", checksum)
