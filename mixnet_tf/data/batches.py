"""Image classification data through tf.data: deterministic training batches, evaluation and calibration.

What varies a training image depends on (seed, epoch, index of the image) alone, never on threads or on what ran
before, so a resumed run sees exactly what an uninterrupted one sees. Importing this module does not import TensorFlow.
"""

import os
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from mixnet_tf.data.pixels import (
    DRAWS,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Augmentation,
    ImageSize,
    decode,
    evaluation_pixels,
    height_and_width,
    pixels_to_decode,
    preprocess_input,
    read_image,
    require_integer,
    training_pixels,
)
from mixnet_tf.data.sources import SPLITS, ImageData, Split, load_data
from mixnet_tf.errors import DataError, did_you_mean

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "Augmentation",
    "ImageData",
    "Split",
    "calibration_images",
    "evaluation_dataset",
    "fingerprint",
    "load_data",
    "preprocess_input",
    "read_image",
    "steps_per_epoch",
    "training_dataset",
]

_ON_BAD_IMAGE = ("error", "skip")


def fingerprint(data: ImageData, on_bad_image: str = "error") -> dict[str, list[int]]:
    """Return the number of readable images of every split, and a CRC-32 of their names (or pixels) and labels.

    Every image file is decoded once; a bad one is a DataError (or, with ``"skip"``, left out).

    >>> fingerprint(load_data("digits"))["test"][0]
    359
    """
    found = {}
    for name in SPLITS:
        split = _readable_split(data, name, on_bad_image)
        is_array = isinstance(split.images, np.ndarray)
        content = split.images.tobytes() if is_array else os.fsencode("\n".join(Path(p).name for p in split.images))
        found[name] = [len(split), zlib.crc32(split.labels.tobytes(), zlib.crc32(content))]
    return found


def steps_per_epoch(data: ImageData, *, batch_size: int, on_bad_image: str = "error") -> int:
    """Return the number of batches in every epoch of `training_dataset`; images that fill no batch are left out.

    >>> steps_per_epoch(load_data("digits"), batch_size=64)
    20
    """
    require_integer("batch_size", batch_size, 1)
    count = len(_readable_split(data, "train", on_bad_image))
    return count // min(batch_size, count)


def training_dataset(
    data: ImageData,
    *,
    image_size: ImageSize,
    batch_size: int,
    seed: int,
    first_epoch: int,
    epochs: int,
    augmentation: Augmentation | None = None,
    on_bad_image: str = "error",
) -> Any:
    """Return the augmented training batches of the epochs `first_epoch` to ``epochs - 1`` as one dataset.

    Args:
        data: from `load_data`. Its files are all decoded once beforehand, so that a bad one is known now.
        image_size: of the batches.
        batch_size: every batch has as many images, or all of them where the split has fewer.
        seed: of order and augmentation.
        first_epoch: where a resumed run continues; epoch k is the same whatever the first one.
        epochs: the epoch after the last.
        augmentation: instead of the one that suits `data`.
        on_bad_image: ``"error"``, or ``"skip"`` to leave bad images out and record them in ``data.bad_images``.

    Returns:
        tf.data.Dataset of (images, labels): float32 (batch, height, width, 3) normalized, int32 (batch,). It has
        ``steps_per_epoch(...) * (epochs - first_epoch)`` batches.

    Raises:
        DataError: a bad image (with ``"error"``), or an argument out of range.
    """
    import tensorflow as tf

    height, width = height_and_width(image_size)
    for name, value in (("batch_size", batch_size), ("seed", seed), ("first_epoch", first_epoch), ("epochs", epochs)):
        require_integer(name, value, 1 if name == "batch_size" else 0)
    split = _readable_split(data, "train", on_bad_image)
    augmentation = augmentation or data.augmentation
    batch_size = min(batch_size, len(split))
    steps = len(split) // batch_size
    labels, at_least = tf.constant(split.labels), pixels_to_decode(image_size, augmentation)

    def plan_epoch(epoch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        random = np.random.default_rng([seed, int(epoch)])
        order = random.permutation(len(split))
        return order, random.random((len(split), DRAWS), np.float32)[order]

    def read(index: np.ndarray, draws: np.ndarray) -> np.ndarray:
        return training_pixels(split.open(index, at_least=at_least), (height, width), augmentation, draws)

    def plan(epoch: Any) -> Any:
        order, draws = tf.numpy_function(plan_epoch, [epoch], [tf.int64, tf.float32])
        order, draws = tf.ensure_shape(order, [len(split)]), tf.ensure_shape(draws, [len(split), DRAWS])
        return tf.data.Dataset.from_tensor_slices((order, draws)).take(steps * batch_size)

    def load(index: Any, draws: Any) -> Any:
        image = tf.ensure_shape(tf.numpy_function(read, [index, draws], tf.uint8), [height, width, 3])
        return image, tf.gather(labels, index)

    dataset = tf.data.Dataset.range(first_epoch, epochs).flat_map(plan)
    dataset = dataset.map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    dataset = dataset.batch(batch_size, drop_remainder=True).map(_normalize)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(steps * max(0, epochs - first_epoch)))
    return dataset.prefetch(tf.data.AUTOTUNE)


def _normalize(images: Any, labels: Any) -> tuple[Any, Any]:
    return preprocess_input(images), labels


def evaluation_dataset(
    data: ImageData, split: str, *, image_size: ImageSize, batch_size: int, on_bad_image: str = "error"
) -> Any:
    """Return every image of a split once, in a fixed order, preprocessed as timm does for evaluation.

    Args:
        data: from `load_data`.
        split: ``"train"``, ``"val"`` or ``"test"``.
        image_size: of the batches.
        batch_size: of all batches but a smaller last one.
        on_bad_image: ``"error"``, or ``"skip"`` to leave bad images out and record them in ``data.bad_images``.

    Returns:
        tf.data.Dataset of (images, labels): float32 (batch, height, width, 3) normalized, int32 (batch,).

    Raises:
        DataError: a bad image (with ``"error"``), an unknown split, or an argument out of range.

    Example:
        >>> batches = evaluation_dataset(load_data("digits"), "test", image_size=32, batch_size=100)
        >>> [len(labels) for _, labels in batches]
        [100, 100, 100, 59]
    """
    import tensorflow as tf

    height, width = height_and_width(image_size)
    require_integer("batch_size", batch_size, 1)
    chosen = _readable_split(data, split, on_bad_image)
    labels = tf.constant(chosen.labels)

    def read(index: np.ndarray) -> np.ndarray:
        return evaluation_pixels(chosen.open(index), (height, width), data.crop_fraction)

    def load(index: Any) -> Any:
        image = tf.numpy_function(read, [index], tf.uint8)
        return tf.ensure_shape(image, [height, width, 3]), tf.gather(labels, index)

    dataset = tf.data.Dataset.range(len(chosen)).map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    dataset = dataset.batch(batch_size).map(_normalize)
    return dataset.prefetch(tf.data.AUTOTUNE)


def calibration_images(
    data: ImageData,
    *,
    image_size: ImageSize,
    count: int,
    seed: int = 0,
    split: str = "train",
    on_bad_image: str = "error",
) -> Iterator[np.ndarray]:
    """Yield single images, preprocessed as for evaluation, to calibrate a quantizer with; the classes take turns.

    Args:
        data: from `load_data`.
        image_size: of the images.
        count: how many; fewer come where the split has fewer.
        seed: which ones.
        split: ``"train"``, ``"val"`` or ``"test"``.
        on_bad_image: ``"error"``, or ``"skip"`` to take another image and record the bad one in ``data.bad_images``.

    Yields:
        float32 arrays (1, height, width, 3), normalized.

    Raises:
        DataError: a bad image (with ``"error"``), no readable one, or an argument out of range.

    Example:
        >>> next(calibration_images(load_data("digits"), image_size=32, count=10)).shape
        (1, 32, 32, 3)
    """
    require_integer("count", count, 1)
    require_integer("seed", seed, 0)
    _check_on_bad_image(on_bad_image)
    size, chosen, taken = height_and_width(image_size), data.splits[split], 0
    for index in take_turns(chosen.labels, seed):
        try:
            pixels = evaluation_pixels(chosen.open(index), size, data.crop_fraction)
        except DataError as error:
            if on_bad_image == "error":
                raise
            data.bad_images[chosen.images[index]] = str(error)
            continue
        yield preprocess_input(pixels[None])
        taken += 1
        if taken == count:
            return
    if taken == 0:
        raise DataError(f"{data.name}: no readable image in {split}")


def take_turns(labels: np.ndarray, seed: int) -> np.ndarray:
    """Return all indices in an order in which any first ones are spread evenly over the labels."""
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    turns = np.zeros(len(labels), int)
    for label in np.unique(labels):
        members = np.flatnonzero(labels[shuffled] == label)
        turns[members] = np.arange(len(members))
    return shuffled[np.argsort(turns, kind="stable")]


def _readable_split(data: ImageData, name: str, on_bad_image: str) -> Split:
    """Return a split whose files have all been decoded once; a bad one is an error or is left out and recorded."""
    _check_on_bad_image(on_bad_image)
    if name not in SPLITS:
        raise DataError(f"split {name!r}: expected {', '.join(SPLITS)}{did_you_mean(name, SPLITS)}")
    split = data.splits[name]
    if isinstance(split.images, np.ndarray):
        return split
    if name not in data._checked:
        data.bad_images.update(_find_bad_images(split.images, name))
        data._checked.add(name)
    bad = [path for path in split.images if path in data.bad_images]
    if bad and on_bad_image == "error":
        others = f", and {len(bad) - 1} more" if len(bad) > 1 else ""
        raise DataError(f"{data.bad_images[bad[0]]}{others}; remove bad images, or skip them (on_bad_image)")
    return _leave_out(split, set(bad), f"{data.name}: {name}", data.class_names) if bad else split


def _leave_out(split: Split, bad: set[str], where: str, class_names: Sequence[str]) -> Split:
    kept = split.take(np.array([i for i, path in enumerate(split.images) if path not in bad], int))
    if lost := np.setdiff1d(split.labels, kept.labels).tolist():
        raise DataError(f"{where} has no readable image of class {class_names[lost[0]]!r}; expected at least one")
    return kept


def _check_on_bad_image(on_bad_image: str) -> None:
    if on_bad_image not in _ON_BAD_IMAGE:
        nearest = did_you_mean(on_bad_image, _ON_BAD_IMAGE)
        raise DataError(f"on_bad_image: found {on_bad_image!r}, expected error or skip{nearest}")


def _find_bad_images(paths: Sequence[str], split: str) -> dict[str, str]:
    def problem(path: str) -> str | None:
        try:
            decode(path)
        except DataError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        checked = tqdm(
            pool.map(problem, paths), f"checking {split}", len(paths), unit="image", leave=False, disable=None
        )
        return {path: found for path, found in zip(paths, checked, strict=True) if found}
