"""MixUp, CutMix and random erasing: what they do to pixels and labels, and that they follow from the plan alone."""

import dataclasses
import zlib

import numpy as np
import pytest
from flat_images import PLAIN, assert_same, flat_data, gray_values, train_batches

from mixnet_tf.data.augmentation import Augmentation
from mixnet_tf.data.dataset import ImageData, Split
from mixnet_tf.data.mixing import kept_share
from mixnet_tf.data.variation import erased, varied

MIXED = {"mixup": {"mixup": 0.8}, "cutmix": {"cutmix": 1.0}, "both": {"mixup": 0.8, "cutmix": 1.0}}


def mixed_batches(data: ImageData, changes: dict, **arguments) -> list[tuple[np.ndarray, np.ndarray]]:
    return train_batches(data, augmentation=dataclasses.replace(PLAIN, **changes), **arguments)


@pytest.mark.parametrize("name", MIXED)
def test_labels_have_the_shares_of_the_pixels(name):
    """Image i is of the gray value i: what is kept of it, and of its partner, is in the mean pixel."""
    data, kinds = flat_data(8, classes=2, side=16), set()
    plain = train_batches(data, augmentation=PLAIN, batch_size=8, image_size=16, epochs=20)
    mixed = mixed_batches(data, MIXED[name], batch_size=8, image_size=16, epochs=20)
    for (own_pixels, own_labels), (pixels, labels) in zip(plain, mixed, strict=True):
        assert pixels.dtype == np.uint8 and labels.dtype == np.float32
        kept = np.abs(gray_values(own_pixels) - gray_values(own_pixels)[::-1]).argmax()
        own, partner = (gray_values(own_pixels)[order][kept] for order in (slice(None), slice(None, None, -1)))
        share = (gray_values(pixels)[kept] - partner) / (own - partner)
        hot = np.eye(2)[own_labels]
        uniform = len(np.unique(pixels[kept])) == 1
        kinds.add("mixup" if uniform else "cutmix")
        rounding = 0.5 / abs(own - partner) if uniform else 1e-2 / abs(own - partner)
        expected = labels[kept, own_labels[kept]] if own_labels[kept] != own_labels[::-1][kept] else share
        assert expected == pytest.approx(share, abs=rounding + 1e-6)
        np.testing.assert_allclose(labels.sum(axis=1), 1, rtol=1e-6)
        weight = (labels - hot[::-1])[hot[:, 0] != hot[::-1][:, 0]] / (hot - hot[::-1])[hot[:, 0] != hot[::-1][:, 0]]
        assert weight.size == 0 or np.ptp(weight) < 1e-6  # one share for the whole batch
    assert kinds >= ({"mixup", "cutmix"} if name == "both" else {name})


@pytest.mark.parametrize("name", [*MIXED, "erase", "rand_level"])
def test_an_epoch_is_the_same_in_every_build_and_after_resuming(name):
    changes = MIXED.get(name, {name: 0.5})
    data = flat_data(12)
    both = mixed_batches(data, changes, epochs=3)
    assert_same(both, mixed_batches(flat_data(12), changes, epochs=3))
    assert_same(both[6:], mixed_batches(data, changes, first_epoch=2, epochs=3))
    assert not np.array_equal(both[0][0], mixed_batches(data, changes, epochs=3, seed=1)[0][0])
    assert len({x.tobytes() for x, _ in both}) == len(both)


def test_shares_follow_the_distribution():
    """Beta(a, a) has the variance 1 / (8 a + 4)."""
    augmentation = Augmentation(mixup=0.2)
    shares = [kept_share((1, 1), augmentation, seed).item() for seed in range(2000)]
    assert np.mean(shares) == pytest.approx(0.5, abs=0.03)
    assert np.var(shares) == pytest.approx(1 / (8 * 0.2 + 4), abs=0.01)


def test_a_box_has_the_shape_of_the_image_and_lies_anywhere():
    boxes = [kept_share((40, 80), Augmentation(cutmix=1.0), seed)[..., 0] for seed in range(300)]
    assert {*np.unique(boxes)} == {0.0, 1.0}
    edges = ((0, slice(None)), (-1, slice(None)), (slice(None), 0), (slice(None), -1))
    inside = [box for box in boxes if not box.all() and all(box[edge].all() for edge in edges)]
    for box in inside:
        rows, columns = (int((box == 0).any(axis=axis).sum()) for axis in (1, 0))
        assert (box == 0).sum() == rows * columns and abs(columns - 2 * rows) <= 4
    assert len({box.tobytes() for box in inside}) > 40


def test_erasing_makes_noise_of_a_rectangle():
    pixels, areas, ratios = np.zeros((60, 60, 3), np.uint8), [], []
    for seed in range(300):
        result = erased(pixels, np.random.default_rng(seed))
        rows, columns = np.nonzero(result.any(axis=-1))
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        areas.append(height * width / 3600)
        ratios.append(height / width)
    assert not pixels.any(), "the image of the data set is not the one to change"
    assert 0.015 < min(areas) < 0.04 and 0.28 < max(areas) < 0.35
    assert 0.25 < min(ratios) < 0.5 and 2 < max(ratios) < 4
    noise = np.concatenate([erased(pixels + 255, np.random.default_rng(seed))[..., 1].ravel() for seed in range(50)])
    assert np.median(noise[noise < 255]) == pytest.approx(255 * 0.456, abs=3)


def test_as_many_images_are_erased_as_wanted():
    pixels = np.zeros((20, 20, 3), np.uint8)
    for part in (0.0, 0.3, 1.0):
        changed = [varied(pixels, Augmentation(erase=part), seed).any() for seed in range(500)]
        assert np.mean(changed) == pytest.approx(part, abs=0.07)


def test_the_batches_of_today_are_those_of_yesterday():
    """CRC-32 of two epochs, computed before there was anything to mix, to erase or to choose by RandAugment."""
    pixels = np.random.default_rng(0).integers(0, 256, (12, 20, 24, 3), np.uint8)
    split = Split(pixels, (np.arange(12) % 2).astype(np.int32))
    data = ImageData("noise", ("a", "b"), {"train": split})
    crc = 0
    for images, labels in train_batches(data, image_size=16, seed=3, first_epoch=1, epochs=3):
        crc = zlib.crc32(labels.tobytes(), zlib.crc32(images.tobytes(), crc))
    assert crc == 2528441529
