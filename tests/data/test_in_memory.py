"""Pairs of arrays and tf.data.Datasets as data sets."""

import numpy as np
import pytest
import tensorflow as tf

from mixnet_tf.data.in_memory import to_split
from mixnet_tf.data.sources import as_data, load_data
from mixnet_tf.errors import DataError

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 6, 8, 3), np.uint8)
LABELS = np.arange(12) % 3
ONE_HOT = np.eye(3)[LABELS]
PAIRS = {
    "bytes": (IMAGES, LABELS),
    "lists": [IMAGES.tolist(), LABELS.tolist()],
    "fractions": (IMAGES / 255, LABELS),
    "floats": (IMAGES.astype(np.float32), LABELS.astype(np.float32)),
    "one-hot": (IMAGES, ONE_HOT),
    "columns": (IMAGES, LABELS[:, None]),
    "dataset": tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)),
    "batches": tf.data.Dataset.from_tensor_slices((IMAGES, ONE_HOT)).batch(5),
}


@pytest.mark.parametrize("source", PAIRS.values(), ids=PAIRS)
def test_what_a_program_holds(source):
    split = to_split(source)
    np.testing.assert_array_equal(split.images, IMAGES)
    np.testing.assert_array_equal(split.labels, LABELS)
    assert split.images.dtype == np.uint8 and split.labels.dtype == np.int32


def test_gray_images_become_rgb():
    split = to_split((IMAGES[..., 0], LABELS))
    np.testing.assert_array_equal(split.images, np.stack([IMAGES[..., 0]] * 3, axis=-1))


def test_to_train_on_some_are_held_out_and_to_measure_on_none():
    data = load_data((np.repeat(IMAGES, 10, axis=0), np.repeat(LABELS, 10)))
    assert [len(data.splits[name]) for name in ("train", "val", "test")] == [96, 12, 12]
    assert data.held_out == ("val", "test") and data.image_size == (6, 8) and data.class_names == ("0", "1", "2")
    every = as_data((IMAGES, LABELS), split="val", classes=5)
    assert len(every.splits["val"]) == 12 and every.class_names == ("0", "1", "2", "3", "4") and every.held_out == ()
    assert as_data(data) is data
    assert as_data("digits", split="test").name == "digits"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ((IMAGES,), r"data: found 1 things, expected a pair \(images, labels\)"),
        ((IMAGES, LABELS, LABELS), "data: found 3 things, expected a pair"),
        ((IMAGES[0], LABELS), "data: labels: found int64 of shape"),
        ((IMAGES[0, 0], LABELS), r"data: images: found shape \(8, 3\), expected \(n, height, width\), and 1 or 3"),
        ((IMAGES[..., :2], LABELS), r"images: found shape \(12, 6, 8, 2\)"),
        ((IMAGES[:0], LABELS[:0]), r"images: found shape \(0, 6, 8, 3\)"),
        ((IMAGES, LABELS[:5]), r"labels: found int64 of shape \(5,\), expected 12 whole numbers, one for each image"),
        ((IMAGES, LABELS + 0.5), "labels: found float64"),
        ((IMAGES, LABELS - 1), "labels: found the label -1, expected numbers from 0 to"),
        ((IMAGES, LABELS.astype(np.int64) << 32), f"labels: found the label {2**33}, expected numbers from 0 to"),
        ((IMAGES, ONE_HOT * 0.5), "labels: found float64 of shape"),
        ((IMAGES, ["cat"] * 12), "labels: found <U3"),
        ((IMAGES * np.nan, LABELS), "has the pixel nan, expected finite numbers"),
        ((IMAGES.astype(float) * 2, LABELS), "expected 0..255 or fractions 0..1"),
        (tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).repeat(), r"never ends; expected one that does \(take"),
        (tf.data.Dataset.from_tensor_slices(IMAGES), "the dataset gives TensorSpec, expected a pair"),
        (tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).take(0), "the dataset is empty"),
    ],
)  # fmt: skip
def test_what_is_none(source, message):
    with pytest.raises(DataError, match=message) as raised:
        load_data(source)
    assert "\n" not in str(raised.value)


def test_labels_in_half_precision_are_taken_without_a_warning():
    data = as_data((IMAGES, LABELS.astype(np.float16)), split="test", classes=3)
    np.testing.assert_array_equal(data.splits["test"].labels, LABELS)


def test_a_label_that_the_model_does_not_have():
    with pytest.raises(DataError, match="found the label 2, expected 0 to 1: the classes of the model"):
        as_data((IMAGES, LABELS), split="test", classes=2)
