"""Batches whose images are mixed in pairs: MixUp (Zhang et al. 2018, arXiv:1710.09412), CutMix (arXiv:1905.04899).

As timm has them in its mode "batch": one choice for all images of a batch, each with its counterpart in the batch's
reverse order. What is drawn follows from a seed alone.
"""

import math
from typing import Any

import numpy as np

from mixnet_tf.data.augmentation import Augmentation


def kept_share(image_size: tuple[int, int], augmentation: Augmentation, seed: int) -> np.ndarray:
    """Return how much of every pixel is that of an image itself, and not of its partner: float32 (height, width, 1).

    Args:
        image_size: (height, width).
        augmentation: with `mixup` or `cutmix`; of both, each has half of the batches.
        seed: of the batch.

    Example:
        >>> kept_share((2, 2), Augmentation(mixup=0.2), seed=1)[..., 0].round(3)
        array([[0.045, 0.045],
               [0.045, 0.045]], dtype=float32)
    """
    random = np.random.default_rng([seed, 1])
    cuts = bool(augmentation.cutmix) and (not augmentation.mixup or bool(random.random() < 0.5))
    alpha = augmentation.cutmix if cuts else augmentation.mixup
    share = random.beta(alpha, alpha)
    if not cuts:
        return np.full((*image_size, 1), share, np.float32)
    box = tuple(_span(size, math.sqrt(1 - share), random) for size in image_size)
    kept = np.ones((*image_size, 1), np.float32)
    kept[box] = 0
    return kept


def _span(size: int, part: float, random: np.random.Generator) -> slice:
    """Return a part of a side around a random middle; what would stick out is cut off."""
    half, middle = int(size * part) // 2, int(random.integers(size))
    return slice(max(0, middle - half), middle + half)


def mixed(images: Any, labels: Any, seed: Any, augmentation: Augmentation) -> tuple[Any, Any]:
    """Mix the tensors of a batch: uint8 pixels, and float32 shares of the classes (batch, classes)."""
    import tensorflow as tf

    def draw(size: np.ndarray, seed: np.ndarray) -> np.ndarray:
        height, width = size.tolist()
        return kept_share((height, width), augmentation, int(seed))

    kept = tf.numpy_function(draw, [tf.shape(images)[1:3], seed], tf.float32)
    kept = tf.ensure_shape(kept, [*images.shape[1:3], 1])
    share, pixels = tf.reduce_mean(kept), tf.cast(images, tf.float32)
    pixels = kept * pixels + (1 - kept) * tf.reverse(pixels, [0])
    return tf.cast(tf.round(pixels), tf.uint8), share * labels + (1 - share) * tf.reverse(labels, [0])
