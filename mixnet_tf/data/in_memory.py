"""Images that a Python program holds: a pair of arrays, or a ``tf.data.Dataset``."""

import sys
from typing import Any

import numpy as np

from mixnet_tf.data.arrays import as_labels, with_channels
from mixnet_tf.data.dataset import Split, locked
from mixnet_tf.data.pixel_range import to_uint8_rgb
from mixnet_tf.errors import DataError

EXPECTED = "a pair (images, labels), or a tf.data.Dataset of such pairs"


def is_in_memory(source: object) -> bool:
    """Say whether a source of data is a pair of arrays or a dataset, and no name."""
    return isinstance(source, tuple | list) or _is_dataset(source)


def _is_dataset(source: object) -> bool:
    tensorflow = sys.modules.get("tensorflow")  # a dataset of it can only exist once it is imported
    return tensorflow is not None and isinstance(source, tensorflow.data.Dataset)


def to_split(source: Any, pixel_range: str | None = None) -> Split:
    """Turn a pair or a dataset into images and labels.

    Args:
        source: images (n, height, width), (n, height, width, 1) or (n, height, width, 3), of 0..255 or of 0..1, and
            labels (n,), or one-hot (n, classes); a dataset of them may be in batches.
        pixel_range: ``"0..1"`` or ``"0..255"``, where the numbers do not say for certain.

    Raises:
        DataError: other shapes, labels that are no whole numbers from 0, or a dataset without end.

    Example:
        >>> to_split((np.full((4, 8, 8, 3), 255, np.uint8), [0, 1, 1, 0]))
        <Split of 4 images>
    """
    images, labels = _collected(source) if _is_dataset(source) else _pair(source)
    images = with_channels("data: images", images)
    pixels = to_uint8_rgb("data", {"images": images}, pixel_range)["images"]
    return Split(locked(pixels), locked(as_labels("data: labels", labels, len(images))))


def _pair(source: Any) -> tuple[np.ndarray, np.ndarray]:
    if len(source) != 2:
        raise DataError(f"data: found {len(source)} things, expected {EXPECTED}")
    images, labels = (np.asarray(part) for part in source)
    return images, labels


def _collected(dataset: Any) -> tuple[np.ndarray, np.ndarray]:
    if int(dataset.cardinality()) == -1:  # tf.data.INFINITE_CARDINALITY
        raise DataError("data: the dataset never ends; expected one that does (take(n))")
    shapes = dataset.element_spec
    if not isinstance(shapes, tuple) or len(shapes) != 2:
        raise DataError(f"data: the dataset gives {type(shapes).__name__}, expected {EXPECTED}")
    join = np.concatenate if shapes[0].shape.rank == 4 else np.stack
    pairs = list(dataset.as_numpy_iterator())
    if not pairs:
        raise DataError(f"data: the dataset is empty, expected {EXPECTED}")
    return join([image for image, _ in pairs]), join([label for _, label in pairs])
