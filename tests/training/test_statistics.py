"""Batch norm's statistics after training: the means over whole batches, kept only where they help."""

import dataclasses

import keras
import numpy as np
import pytest

from mixnet_tf.data.dataset import ImageData, Split
from mixnet_tf.training import statistics
from mixnet_tf.training.statistics import settle_statistics

BATCH = 8


def painted(count: int, seed: int) -> Split:
    """Images of 4 x 4 pixels, the second class redder than the first."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count).astype(np.int32)
    images = rng.integers(0, 100, (count, 4, 4, 3), dtype=np.uint8)
    images[..., 0] += 120 * labels[:, None, None].astype(np.uint8)
    return Split(images, labels)


@pytest.fixture
def data() -> ImageData:
    splits = {"train": painted(28, 0), "val": painted(30, 1), "test": painted(4, 2)}
    return ImageData("paints", ("dark", "red"), splits, image_size=(4, 4))


def model(mean: float = 0.0) -> keras.Model:
    """A batch norm of pixels, and the mean red of what it makes of them as the logit of the second class."""
    layers = [
        keras.Input((4, 4, 3)),
        keras.layers.BatchNormalization(epsilon=1e-3),
        keras.layers.GlobalAveragePooling2D(),
    ]
    made = keras.Sequential([*layers, keras.layers.Dense(2)])
    made.layers[-1].set_weights([np.array([[0, 1], [0, 0], [0, 0]], np.float32), np.zeros(2, np.float32)])
    made.layers[0].moving_mean.assign(np.full(3, mean))
    return made


def test_the_statistics_are_the_means_of_whole_batches(data):
    made = model(mean=-100)
    assert settle_statistics(made, data, image_size=4, batch_size=BATCH)
    order = np.random.default_rng(0).permutation(28)[:24].reshape(3, BATCH)  # the last four fill no batch
    batches = data.splits["train"].images[order].astype(np.float64)
    norm = made.layers[0]
    np.testing.assert_allclose(norm.moving_mean, batches.mean(axis=(0, 1, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(norm.moving_variance, batches.var(axis=(1, 2, 3)).mean(axis=0), rtol=1e-5)
    assert norm.momentum == 0.99


def test_they_are_kept_only_where_the_validation_loss_is_lower(data, monkeypatch):
    """Labels of the validation images are turned round: what fits the training images makes it worse."""
    val = data.splits["val"]
    turned = dataclasses.replace(data, splits={**data.splits, "val": Split(val.images, 1 - val.labels)})
    made = model()
    made.layers[0].moving_variance.assign(np.full(3, 1e9))  # all logits near 0
    before = made.get_weights()
    assert not settle_statistics(made, turned, image_size=4, batch_size=BATCH)
    for value, expected in zip(made.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, expected)
    assert settle_statistics(made, data, image_size=4, batch_size=BATCH)


def test_no_more_images_than_help(data, monkeypatch):
    monkeypatch.setattr(statistics, "IMAGES", 16)
    made = model(mean=-100)
    settle_statistics(made, data, image_size=4, batch_size=BATCH)
    images = data.splits["train"].images[np.random.default_rng(0).permutation(28)[:16]].astype(np.float64)
    np.testing.assert_allclose(made.layers[0].moving_mean, images.mean(axis=(0, 1, 2)), rtol=1e-5)


def test_frozen_batch_norms_stay_as_they_are(data):
    made = model(mean=-100)
    made.layers[0].trainable = False
    assert not settle_statistics(made, data, image_size=4, batch_size=BATCH)
    assert float(made.layers[0].moving_mean[0]) == -100


def test_nothing_is_dropped_meanwhile(data):
    """Nor at inference, and a file forgets the seed: a resumed run would have other statistics."""
    made = model(mean=-100)
    dropping = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Dropout(0.5), *made.layers])
    assert settle_statistics(dropping, data, image_size=4, batch_size=100)
    expected = data.splits["train"].images.astype(np.float64).mean(axis=(0, 1, 2))
    np.testing.assert_allclose(made.layers[0].moving_mean, expected, rtol=1e-5)
    assert dropping.layers[0].rate == 0.5


def test_fewer_images_than_a_batch(data):
    made = model(mean=-100)
    assert settle_statistics(made, data, image_size=4, batch_size=100)
    expected = data.splits["train"].images.astype(np.float64).mean(axis=(0, 1, 2))
    np.testing.assert_allclose(made.layers[0].moving_mean, expected, rtol=1e-5)
