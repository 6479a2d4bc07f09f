"""From an image to the pixels a MixNet sees: one definition for training, evaluation and calibration.

Pillow resizes (it antialiases and releases the GIL); TensorFlow is imported only by what works on batches.
"""

import math
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from mixnet_tf import checks
from mixnet_tf.checks import ImageSize
from mixnet_tf.data.augmentation import Augmentation
from mixnet_tf.errors import DataError, missing_packages

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of RGB in 0..1: what timm's and NetsPresso's MixNet weights were trained with."""

DRAWS = 8  # random numbers that decide about one training image, see training_pixels
_LUMA = (0.299, 0.587, 0.114)


def preprocess_input(images: Any) -> Any:
    """Normalize RGB images for a MixNet: (x / 255 - mean) / std with ImageNet's mean and standard deviation.

    Args:
        images: numpy array or tensor (..., 3), channels last, pixels 0..255, any float or integer dtype.

    Returns:
        The same shape in float32: numpy for numpy, else a tensor.

    Raises:
        DataError: the last axis does not have 3 channels.

    Example:
        >>> preprocess_input(np.zeros((1, 2, 2, 3), "uint8"))[0, 0, 0].round(3).tolist()
        [-2.118000030517578, -2.0360000133514404, -1.8040000200271606]
    """
    tensorflow = sys.modules.get("tensorflow")  # a tensor of it can only exist once it is imported
    if tensorflow is not None and tensorflow.is_tensor(images):
        pixels = tensorflow.cast(images, "float32")  # inside tf.data, whichever backend Keras runs on
    elif hasattr(images, "dtype") and not isinstance(images, np.ndarray | np.generic):
        with missing_packages():
            import keras

        pixels = keras.ops.cast(images, "float32")
    else:
        pixels = np.asarray(images, np.float32)
    if len(pixels.shape) == 0 or pixels.shape[-1] != 3:
        raise DataError(f"images: found shape {tuple(pixels.shape)}, expected (..., 3): RGB, channels last")
    return normalized(pixels, IMAGENET_MEAN, IMAGENET_STD)


def normalized(pixels: Any, mean: npt.ArrayLike, std: npt.ArrayLike) -> Any:
    """Return (pixels / 255 - mean) / std of float32 pixels 0..255; mean and deviation of every channel are of 0..1.

    >>> normalized(np.float32([0, 255]), 0.5, 0.25).tolist()
    [-2.0, 2.0]
    """
    return (pixels / 255.0 - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)


def evaluation_pixels(image: Image.Image, image_size: ImageSize, crop_fraction: float) -> np.ndarray:
    """Resize (bicubic) until `image_size / crop_fraction` is covered, and crop the centre: timm's evaluation.

    For a square size the shorter side becomes ``floor(size / crop_fraction)``, as torchvision does it; for others the
    aspect ratio is kept while both sides cover theirs (timm's ResizeKeepRatio).

    Returns:
        uint8 array (height, width, 3).
    """
    height, width = checks.image_size(image_size)
    cover_height, cover_width = covered_size((height, width), crop_fraction)
    whole = int if height == width else round
    if image.height * cover_width <= image.width * cover_height:
        size = (whole(cover_height * image.width / image.height), cover_height)
    else:
        size = (cover_width, whole(cover_width * image.height / image.width))
    resized = image if size == image.size else image.resize(size, Image.Resampling.BICUBIC)
    left, top = round((resized.width - width) / 2), round((resized.height - height) / 2)
    return np.asarray(resized.crop((left, top, left + width, top + height)))


def covered_size(image_size: tuple[int, int], crop_fraction: float) -> tuple[int, int]:
    """Return the (height, width) that a resized image covers before its centre is cut out.

    >>> covered_size((112, 224), 0.875)
    (128, 256)
    """
    height, width = image_size
    return math.floor(height / crop_fraction), math.floor(width / crop_fraction)


def training_pixels(
    image: Image.Image, image_size: ImageSize, augmentation: Augmentation, draws: np.ndarray
) -> np.ndarray:
    """Cut a random crop, resize it (bilinear), mirror it and change its colors; every choice follows from `draws`.

    Args:
        image: RGB.
        image_size: of the result; the crop's aspect ratio is 3/4 to 4/3 of this size's.
        augmentation: how far to go.
        draws: 8 numbers, uniform in 0..1: area, aspect ratio, left, top, flip, brightness, contrast, saturation.

    Returns:
        uint8 array (height, width, 3).
    """
    height, width = checks.image_size(image_size)
    area, ratio, left, top, flip, *colors = draws.tolist()
    area = image.width * image.height * (augmentation.min_area + (1 - augmentation.min_area) * area)
    ratio = width / height * (4 / 3) ** (2 * ratio - 1)
    crop_width, crop_height = min(image.width, math.sqrt(area * ratio)), min(image.height, math.sqrt(area / ratio))
    left, top = left * (image.width - crop_width), top * (image.height - crop_height)
    box = (left, top, min(image.width, left + crop_width), min(image.height, top + crop_height))
    result = image.resize((width, height), Image.Resampling.BILINEAR, box=box)
    if augmentation.flip and flip < 0.5:
        result = result.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if augmentation.jitter:
        result = _change_colors(result, *(1 + augmentation.jitter * (2 * color - 1) for color in colors))
    return np.asarray(result)


def pixels_to_decode(image_size: ImageSize, augmentation: Augmentation) -> int:
    """Return the side an image must have so that no random crop of it needs enlarging (`at_least` of ``decode``)."""
    return math.ceil(max(checks.image_size(image_size)) / math.sqrt(augmentation.min_area * 3 / 4))


def _change_colors(image: Image.Image, brightness: float, contrast: float, saturation: float) -> Image.Image:
    """Scale the pixels, their distance from the mean gray, and their distance from their own gray.

    All three are linear, so they are one 3x4 matrix, and values are rounded and clipped once.
    """
    scale = brightness * contrast
    average = np.asarray(image.resize((1, 1), Image.Resampling.BOX))[0, 0].tolist()
    mean = sum(luma * value for luma, value in zip(_LUMA, average, strict=True))
    offset = brightness * mean * (1 - contrast)
    matrix = []
    for row in range(3):
        matrix += [scale * ((1 - saturation) * _LUMA[c] + (saturation if c == row else 0)) for c in range(3)]
        matrix.append(offset)
    return image.convert("RGB", tuple(matrix))
