"""What arrays must be to be images and labels, in a file or in a program."""

import numpy as np

from mixnet_tf.errors import DataError

_LARGEST = np.iinfo(np.int32).max


def with_channels(where: str, images: np.ndarray) -> np.ndarray:
    """Return images (n, height, width, 1 or 3); those of one channel may come without it.

    Args:
        where: the array, for messages.
        images: of any type.

    Raises:
        DataError: other shapes, or no pixel.

    Example:
        >>> with_channels("x", np.zeros((4, 8, 8))).shape
        (4, 8, 8, 1)
    """
    shaped = images[..., None] if images.ndim == 3 else images
    if shaped.ndim != 4 or shaped.shape[-1] not in (1, 3) or 0 in shaped.shape:
        raise DataError(f"{where}: found shape {images.shape}, expected (n, height, width), and 1 or 3 channels")
    return shaped


def as_labels(where: str, labels: np.ndarray, count: int) -> np.ndarray:
    """Return the class of each image, int32 (n,).

    Args:
        where: the array, for messages.
        labels: whole numbers (n,) or (n, 1), or one-hot (n, classes).
        count: of the images.

    Raises:
        DataError: other shapes or numbers, or not one for each image.

    Example:
        >>> as_labels("y", np.array([[0.0, 1.0], [1.0, 0.0]]), 2)
        array([1, 0], dtype=int32)
    """
    kind = f"{labels.dtype} of shape {labels.shape}"
    labels = labels.reshape(-1) if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if labels.ndim == 2 and ((labels == 0) | (labels == 1)).all() and (labels.sum(axis=1) == 1).all():
        labels = labels.argmax(axis=1)  # one-hot
    if labels.shape != (count,) or labels.dtype.kind not in "iuf" or (labels != np.floor(labels)).any():
        raise DataError(f"{where}: found {kind}, expected {count} whole numbers, one for each image")
    for label in (labels.min(), labels.max()):
        if not 0 <= float(label) <= _LARGEST:  # in float16, the comparison itself would warn
            raise DataError(f"{where}: found the label {label}, expected numbers from 0 to {_LARGEST}")
    return labels.astype(np.int32)
