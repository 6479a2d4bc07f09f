"""A data set whose images can be told by their gray, and its batches; the tests of data share it."""

import numpy as np

from mixnet_tf.data.augmentation import Augmentation
from mixnet_tf.data.batches import training_dataset
from mixnet_tf.data.dataset import ImageData, Split

PLAIN = Augmentation(min_area=1.0, flip=False, jitter=0.0)


def flat_data(count: int, classes: int = 2, side: int = 8) -> ImageData:
    """Image i of the training split has the gray value i and the label i % classes."""
    values = np.arange(count, dtype=np.uint8)[:, None, None, None]
    split = Split(np.tile(values, (1, side, side, 3)), (np.arange(count) % classes).astype(np.int32))
    return ImageData("flat", tuple("ab"[:classes]), {"train": split, "val": split, "test": split}, image_size=side)


def gray_values(images) -> np.ndarray:
    """Return the mean pixel of each image."""
    return np.round(np.asarray(images, np.float64).mean((1, 2, 3)), 2)


def train_batches(data: ImageData, **changes) -> list[tuple[np.ndarray, np.ndarray]]:
    arguments = {"image_size": 8, "batch_size": 4, "seed": 0, "first_epoch": 0, "epochs": 2} | changes
    return [(x.numpy(), y.numpy()) for x, y in training_dataset(data, **arguments)]


def assert_same(first: list, second: list) -> None:
    assert len(first) == len(second)
    for (x1, y1), (x2, y2) in zip(first, second, strict=True):
        np.testing.assert_array_equal(x1, x2)
        np.testing.assert_array_equal(y1, y2)
