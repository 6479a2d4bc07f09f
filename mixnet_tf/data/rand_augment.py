"""RandAugment (Cubuk et al. 2019, arXiv:1909.13719) with the operations and strengths of timm's ``rand-m9-mstd0.5``.

From ``timm/data/auto_augment.py`` (timm 1.0.31): two operations by chance, each applied to half of the images. A level
is from 0 to 10; here it is a fraction of 10. Posterize and Solarize grow weaker with it, as there.
"""

from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

_FILL = (124, 116, 104)  # ImageNet's mean, where an image moves away
_OPERATIONS, _APPLIED, _HIGHEST = 2, 0.5, 10.0

Apply = Callable[[Image.Image, float], Image.Image]


def _moved(image: Image.Image, *matrix: float) -> Image.Image:
    """Return an image, each pixel of which is read at a place that follows from its own by a 2 x 3 matrix."""
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=_FILL)


def _solarize_add(image: Image.Image, added: int) -> Image.Image:
    """Make the dark half of all values brighter."""
    return image.point([min(255, value + added) if value < 128 else value for value in range(256)] * 3)


def _enhanced(enhance: Callable[[Image.Image], ImageEnhance._Enhance]) -> Apply:
    return lambda image, level: enhance(image).enhance(1.8 * abs(level) + 0.1)


OPERATIONS: Mapping[str, Apply] = {
    "AutoContrast": lambda image, level: ImageOps.autocontrast(image),
    "Equalize": lambda image, level: ImageOps.equalize(image),
    "Invert": lambda image, level: ImageOps.invert(image),
    "Rotate": lambda image, level: image.rotate(30 * level, Image.Resampling.BILINEAR, fillcolor=_FILL),
    "Posterize": lambda image, level: ImageOps.posterize(image, max(1, int(4 * abs(level)))),
    "Solarize": lambda image, level: ImageOps.solarize(image, min(256, int(256 * abs(level)))),
    "SolarizeAdd": lambda image, level: _solarize_add(image, int(110 * abs(level))),
    "Color": _enhanced(ImageEnhance.Color),
    "Contrast": _enhanced(ImageEnhance.Contrast),
    "Brightness": _enhanced(ImageEnhance.Brightness),
    "Sharpness": _enhanced(ImageEnhance.Sharpness),
    "ShearX": lambda image, level: _moved(image, 1, 0.3 * level, 0, 0, 1, 0),
    "ShearY": lambda image, level: _moved(image, 1, 0, 0, 0.3 * level, 1, 0),
    "TranslateXRel": lambda image, level: _moved(image, 1, 0, 0.45 * level * image.width, 0, 1, 0),
    "TranslateYRel": lambda image, level: _moved(image, 1, 0, 0, 0, 1, 0.45 * level * image.height),
}
"""By name, what is done to an RGB image at a level from -1 to 1; the sign is a direction, where there is one."""


def rand_augmented(image: Image.Image, level: float, deviation: float, random: np.random.Generator) -> Image.Image:
    """Return an RGB image after two random operations, each by chance.

    Args:
        image: RGB.
        level: mean strength, from 0 to 10.
        deviation: of the strength.
        random: where every choice comes from.

    Example:
        >>> image = Image.new("RGB", (8, 8), (10, 20, 30))
        >>> rand_augmented(image, 9, 0.5, np.random.default_rng(1)).size
        (8, 8)
    """
    names = tuple(OPERATIONS)
    for _ in range(_OPERATIONS):
        name, applied, sign = names[random.integers(len(names))], random.random() < _APPLIED, random.choice((-1, 1))
        strength = min(max(random.normal(level, deviation), 0.0), _HIGHEST) / _HIGHEST
        image = OPERATIONS[name](image, float(sign * strength)) if applied else image
    return image
