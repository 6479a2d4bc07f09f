"""What varies a training image once it has its size: RandAugment, and random erasing (arXiv:1708.04896)."""

import math

import numpy as np
from PIL import Image

from mixnet_tf.data.augmentation import Augmentation
from mixnet_tf.data.pixels import IMAGENET_MEAN, IMAGENET_STD
from mixnet_tf.data.rand_augment import rand_augmented

_AREA, _RATIO, _TRIES = (0.02, 1 / 3), math.log(10 / 3), 10
"""timm's: share of the image's area; logarithm of height to width, either way; boxes that are tried, until one fits."""

_MEAN, _STD = 255 * np.array(IMAGENET_MEAN), 255 * np.array(IMAGENET_STD)  # of the noise, which is normal


def varied(pixels: np.ndarray, augmentation: Augmentation, seed: int) -> np.ndarray:
    """Return uint8 pixels (height, width, 3), varied as the augmentation says; every choice follows from `seed`."""
    random = np.random.default_rng([seed, 0])
    if augmentation.rand_level:
        image = Image.fromarray(pixels)
        pixels = np.asarray(rand_augmented(image, augmentation.rand_level, augmentation.rand_deviation, random))
    return erased(pixels, random) if augmentation.erase and random.random() < augmentation.erase else pixels


def erased(pixels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return uint8 pixels (height, width, 3) with noise in a random rectangle of 2 % to a third of their area.

    >>> pixels = erased(np.zeros((20, 20, 3), np.uint8), np.random.default_rng(0))
    >>> round(float((pixels.max(axis=-1) > 0).mean()), 2)
    0.21
    """
    height, width = pixels.shape[:2]
    for _ in range(_TRIES):
        area = random.uniform(*_AREA) * height * width
        ratio = math.exp(random.uniform(-_RATIO, _RATIO))
        rows, columns = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if rows < height and columns < width:
            top, left = random.integers(height - rows + 1), random.integers(width - columns + 1)
            noise = _MEAN + _STD * random.standard_normal((rows, columns, 3))
            pixels = pixels.copy()
            pixels[top : top + rows, left : left + columns] = noise.round().clip(0, 255)
            break
    return pixels
