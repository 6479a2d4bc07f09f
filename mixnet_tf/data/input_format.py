"""What a model takes for an image. Inside this package images are pixels; a model's format is applied at its door."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from mixnet_tf.checks import one_of
from mixnet_tf.data.choices import INPUT_FORMATS
from mixnet_tf.data.pixels import IMAGENET_MEAN, IMAGENET_STD, normalized
from mixnet_tf.errors import MixNetError

_MEAN_AND_STD: Mapping[str, tuple[np.ndarray, np.ndarray]] = {
    "pixels": (np.zeros(3), np.full(3, 1 / 255)),
    "fractions": (np.zeros(3), np.ones(3)),
    "signed": (np.full(3, 0.5), np.full(3, 0.5)),
    "normalized": (np.array(IMAGENET_MEAN), np.array(IMAGENET_STD)),
}
"""A model takes (x - mean) / std of a picture x in 0..1."""

_CLOSE = 0.02
"""Two maps of pixels are the same where black and white come out this near, as a share of what is between them."""

_SPREAD = (0.3, 20.0)
"""What a network may see between black and white: 1 for 0..1, 4.5 for ImageNet's standard deviation."""


@dataclasses.dataclass(frozen=True)
class Front:
    """What the beginning of a model says.

    Attributes:
        input_format: one of INPUT_FORMATS; None where nothing tells.
        certain: it follows from the model or its file; else it is what this package's networks take unless told
            otherwise.
    """

    input_format: str | None
    certain: bool


def settle(front: Front, asked: str | None, where: str) -> str | None:
    """Return the format of a model that the user may have named.

    Args:
        front: what the model says.
        asked: what the user says; None for nothing.
        where: the model, for messages.

    Raises:
        MixNetError: they contradict each other.

    Example:
        >>> settle(Front(None, certain=False), "fractions", "model.keras")
        'fractions'
        >>> settle(Front("pixels", certain=True), "fractions", "model.keras")
        Traceback (most recent call last):
        mixnet_tf.errors.MixNetError: model.keras: takes pixels, as it says itself; found --input fractions
    """
    if asked is None:
        return front.input_format
    one_of("input_format", asked, INPUT_FORMATS)
    if front.certain and asked != front.input_format:
        raise MixNetError(f"{where}: takes {front.input_format}, as it says itself; found --input {asked}")
    return asked


def prepare(pixels: np.ndarray, input_format: str | None, where: str = "the model") -> np.ndarray:
    """Turn pixels into what a model takes.

    Args:
        pixels: uint8 (..., 3), RGB. Floats are returned as they are: they have been prepared already.
        input_format: one of INPUT_FORMATS; None where it is not known.
        where: the model, for messages.

    Returns:
        float32, the same shape.

    Raises:
        MixNetError: the format is not known.

    Example:
        >>> prepare(np.array([[0, 51, 255]], np.uint8), "fractions").tolist()
        [[0.0, 0.20000000298023224, 1.0]]
    """
    if pixels.dtype != np.uint8:
        return pixels
    taken, floats = known(input_format, where), pixels.astype(np.float32)
    return floats if taken == "pixels" else normalized(floats, *_MEAN_AND_STD[taken])


def known(input_format: str | None, where: str) -> str:
    """Return the format, or raise MixNetError with what the user can do where it is None."""
    if input_format is None:
        *others, last = INPUT_FORMATS
        raise MixNetError(
            f"{where}: does not say what it takes for an image; give --input {', '.join(others)} or {last} "
            "(0 to 255, 0 to 1, -1 to 1, or ImageNet's mean 0 and deviation 1)"
        )
    return input_format


def limits(input_format: str) -> tuple[np.ndarray, np.ndarray]:
    """Return black and white, each float64 (3,), as a model of this format takes them.

    >>> [colour.tolist() for colour in limits("signed")]
    [[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]]
    """
    mean, std = _MEAN_AND_STD[input_format]
    return -mean / std, (1 - mean) / std


def is_known_map(black: np.ndarray, white: np.ndarray, input_format: str) -> bool:
    """Say whether pixels that come out as `black` and `white` are in this format."""
    wanted = np.stack(limits(input_format))
    return bool(np.abs(np.stack([black, white]) - wanted).max() <= _CLOSE * np.ptp(wanted, axis=0).min())


def format_before(scale: np.ndarray, offset: np.ndarray) -> str | None:
    """Return the format of images x that a model turns into ``x * scale + offset`` before its first layer.

    That is pixels where 0..255 become what networks are trained on, whatever mean and deviation were used; else the
    format that becomes another known one. None where the model changes nothing, or nothing can be said.

    Args:
        scale: (3,), of every channel.
        offset: (3,).

    Example:
        >>> format_before(np.full(3, 1 / 127.5), np.full(3, -1.0))
        'pixels'
        >>> format_before(np.full(3, 2.0), np.full(3, -1.0))
        'fractions'
        >>> format_before(np.ones(3), np.zeros(3)) is None
        True
    """
    if np.allclose(scale, 1, atol=1e-6) and np.allclose(offset, 0, atol=1e-6):
        return None
    for taken in INPUT_FORMATS:
        black, white = (colour * scale + offset for colour in limits(taken))
        if any(is_known_map(black, white, seen) for seen in INPUT_FORMATS if seen != taken):
            return taken
    spread = np.abs(scale) * 255
    return "pixels" if (spread >= _SPREAD[0]).all() and (spread <= _SPREAD[1]).all() else None
