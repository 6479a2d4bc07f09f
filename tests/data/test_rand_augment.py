"""RandAugment's operations against timm's, and how they are chosen."""

import numpy as np
import pytest
from PIL import Image

from mixnet_tf.data import rand_augment
from mixnet_tf.data.rand_augment import OPERATIONS, rand_augmented

TIMM = {
    "AutoContrast": {
        1: (127.021, 127.0, 109.584, 75.19, 75.876, 75.614),
        5: (127.021, 127.0, 109.584, 75.19, 75.876, 75.614),
        9: (127.021, 127.0, 109.584, 75.19, 75.876, 75.614),
    },
    "Equalize": {
        1: (146.5, 145.156, 126.638, 83.096, 83.379, 74.7),
        5: (146.5, 145.156, 126.638, 83.096, 83.379, 74.7),
        9: (146.5, 145.156, 126.638, 83.096, 83.379, 74.7),
    },
    "Invert": {
        1: (141.0, 152.0, 139.135, 55.414, 55.399, 59.032),
        5: (141.0, 152.0, 139.135, 55.414, 55.399, 59.032),
        9: (141.0, 152.0, 139.135, 55.414, 55.399, 59.032),
    },
    "Rotate": {
        1: (113.779, 102.861, 116.234, 53.964, 53.527, 50.203),
        5: (114.68, 104.019, 116.126, 49.337, 48.333, 47.501),
        9: (115.227, 104.724, 115.636, 46.239, 46.038, 46.351),
    },
    "Posterize": {
        1: (56.0, 48.0, 53.583, 63.498, 61.968, 63.147),
        5: (84.0, 72.0, 83.708, 60.089, 54.845, 63.568),
        9: (100.0, 88.0, 99.583, 56.804, 56.0, 60.281),
    },
    "Solarize": {
        1: (132.208, 131.094, 139.135, 56.84, 60.468, 59.032),
        5: (78.562, 76.375, 75.145, 29.292, 32.488, 29.65),
        9: (114.0, 103.0, 115.865, 55.414, 55.399, 59.032),
    },
    "SolarizeAdd": {
        1: (120.188, 109.875, 122.26, 50.801, 51.013, 54.398),
        5: (144.938, 137.375, 147.84, 34.876, 36.097, 38.021),
        9: (169.688, 164.875, 173.421, 28.37, 30.185, 29.571),
    },
    "Color": {
        1: (109.021, 105.948, 109.561, 37.836, 42.288, 38.45),
        5: (114.0, 103.0, 115.865, 55.414, 55.399, 59.032),
        9: (119.184, 100.416, 120.514, 81.426, 70.099, 85.342),
    },
    "Contrast": {
        1: (109.188, 106.094, 109.73, 15.529, 15.479, 16.506),
        5: (114.0, 103.0, 115.865, 55.414, 55.399, 59.032),
        9: (120.021, 105.406, 119.53, 88.479, 86.05, 91.655),
    },
    "Brightness": {
        1: (31.438, 28.344, 31.98, 15.556, 15.539, 16.533),
        5: (114.0, 103.0, 115.865, 55.414, 55.399, 59.032),
        9: (178.688, 165.312, 177.174, 74.8, 80.653, 73.784),
    },
    "Sharpness": {
        1: (114.0, 103.0, 115.549, 55.414, 55.399, 49.286),
        5: (114.0, 103.0, 115.865, 55.414, 55.399, 59.032),
        9: (114.0, 103.0, 115.838, 55.414, 55.399, 69.654),
    },
    "ShearX": {
        1: (114.587, 102.629, 116.124, 54.613, 55.123, 54.535),
        5: (118.486, 102.033, 117.68, 51.452, 54.055, 53.463),
        9: (122.033, 101.238, 117.389, 48.582, 52.968, 52.556),
    },
    "ShearY": {
        1: (113.516, 105.09, 117.013, 54.984, 53.759, 52.721),
        5: (111.508, 113.186, 117.289, 52.242, 47.033, 50.383),
        9: (109.497, 119.418, 116.219, 49.502, 41.905, 48.149),
    },
    "TranslateXRel": {
        1: (118.25, 103.542, 118.384, 51.999, 54.294, 53.868),
        5: (132.479, 105.979, 118.661, 37.781, 48.944, 48.551),
        9: (141.5, 108.146, 115.919, 29.58, 43.527, 42.024),
    },
    "TranslateYRel": {
        1: (114.312, 108.188, 118.703, 54.569, 52.734, 49.107),
        5: (116.188, 123.0, 119.186, 49.153, 38.363, 47.239),
        9: (118.062, 130.844, 116.083, 42.981, 28.143, 45.039),
    },
}
"""Means and deviations of red, green and blue of `picture`, by operation and level: timm 1.0.31 on Pillow, bilinear, in
the direction of positive arguments. At level 1 Posterize is that of level 3: Pillow refuses to keep no bit."""


def picture() -> Image.Image:
    y, x = np.mgrid[0:32, 0:48]
    return Image.fromarray(np.stack([4 * x + 20, 6 * y + 10, (x * y) % 200 + 30], axis=-1).astype(np.uint8))


@pytest.mark.parametrize("name", TIMM)
def test_operations_are_those_of_timm(name):
    assert list(OPERATIONS) == list(TIMM)
    for level, expected in TIMM[name].items():
        pixels = np.asarray(OPERATIONS[name](picture(), level / 10)).astype(float)
        np.testing.assert_allclose([*pixels.mean((0, 1)), *pixels.std((0, 1))], expected, atol=0.05)


@pytest.mark.parametrize("name", TIMM)
@pytest.mark.parametrize("level", [-1.0, 0.0, 1.0])
def test_every_level_gives_an_image_of_the_same_size(name, level):
    result = OPERATIONS[name](picture(), level)
    assert result.size == (48, 32) and result.mode == "RGB"


def test_two_operations_each_by_half_a_chance_at_levels_around_the_mean(monkeypatch):
    seen = []
    spies = {name: lambda image, level, name=name: seen.append((name, level)) or image for name in OPERATIONS}
    monkeypatch.setattr(rand_augment, "OPERATIONS", spies)
    random = np.random.default_rng(0)
    for _ in range(3000):
        rand_augmented(picture(), 9, 0.5, random)
    names, levels = zip(*seen, strict=True)
    assert len(seen) / 6000 == pytest.approx(0.5, abs=0.03)
    counts = np.unique(names, return_counts=True)[1]
    assert len(counts) == 15 and counts.min() > 0.7 * counts.mean()
    strengths = np.abs(levels)
    assert np.mean(np.array(levels) > 0) == pytest.approx(0.5, abs=0.05) and strengths.max() <= 1
    assert np.median(strengths) == pytest.approx(0.9, abs=0.01) and np.quantile(strengths, 0.16) == pytest.approx(
        0.85, abs=0.01
    )
