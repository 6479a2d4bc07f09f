"""Which numbers of an ``.npz`` file are black and white: 0 and 1, or 0 and 255. What cannot be known is asked for."""

import dataclasses
import math
from collections.abc import Iterator, Mapping

import numpy as np

from mixnet_tf.data.choices import PIXEL_RANGES
from mixnet_tf.errors import DataError

OVERSHOOT = 0.25
"""How far pixels may lie outside their range, as a fraction of it: a bicubic resize takes corners 0.24 too far."""

_WHITE = {"0..1": 1, "0..255": 255}
_PART = 2**24  # values that are converted at once
_HINT = "; name the range (--pixel-range): "


@dataclasses.dataclass(frozen=True)
class _Extent:
    """What decides about the range of an array: its extreme values, and whether any lies between 0 and 1."""

    dtype: np.dtype
    low: float
    high: float
    has_fractions: bool


def to_uint8_rgb(where: str, images: Mapping[str, np.ndarray], asked: str | None = None) -> dict[str, np.ndarray]:
    """Turn images of 0..255 or of fractions 0..1 into RGB bytes, all by the same range.

    Without `asked` the range must be certain. Numbers from 0 to 255 of which any is above 2 are 0..255. Numbers from 0
    to 1 of which some are neither, and any is above a half, are fractions. An array of zeros follows the others.

    Args:
        where: the file, for messages.
        images: arrays (count, height, width, 1 or 3) by name; each has at least one pixel.
        asked: ``"0..1"`` or ``"0..255"``: taken for certain. Numbers outside are clipped, where they are within
            `OVERSHOOT` of the range, as resized images are.

    Returns:
        uint8 arrays (count, height, width, 3).

    Raises:
        DataError: no numbers, NaN or infinity, numbers that are outside of both ranges, or that could be of both.

    Example:
        >>> to_uint8_rgb("x.npz", {"x_train": np.array([0.0, 0.6, 1.0]).reshape(3, 1, 1, 1)})["x_train"][:, 0, 0, 0]
        array([  0, 153, 255], dtype=uint8)
    """
    extents = {name: _measure(f"{where}: {name}", array) for name, array in images.items()}
    white = _WHITE[asked or _certain(where, extents)]
    for name, extent in extents.items():
        if not _fits(extent, white):
            raise DataError(f"{where}: {name}: {_text(extent)}, expected {asked}, or a quarter beyond at most")
    return {name: _convert(array, white) for name, array in images.items()}


def _parts(images: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    step = max(1, _PART // math.prod(images.shape[1:]))
    return ((start, images[start : start + step]) for start in range(0, len(images), step))


def _measure(where: str, images: np.ndarray) -> _Extent:
    if images.dtype.kind not in "iuf":
        raise DataError(f"{where}: found {images.dtype}, expected numbers 0..255 or fractions 0..1")
    low, high, has_fractions = math.inf, -math.inf, False
    for start, part in _parts(images):
        least, most = part.min(), part.max()
        if not (np.isfinite(least) and np.isfinite(most)):
            flaws = ~np.isfinite(part)
            index = int(flaws.any(axis=(1, 2, 3)).argmax())
            raise DataError(f"{where}: image {start + index} has the pixel {part[flaws][0]}, expected finite numbers")
        low, high = min(low, float(least)), max(high, float(most))
        has_fractions |= images.dtype.kind == "f" and bool(((part > 0) & (part < 1)).any())
    return _Extent(images.dtype, low, high, has_fractions)


def _certain(where: str, extents: Mapping[str, _Extent]) -> str:
    """Return the range that all arrays have."""
    telling = {name: extent for name, extent in extents.items() if extent.low or extent.high} or extents
    guesses = {name: _guess(extent) for name, extent in telling.items()}
    for name, guess in guesses.items():
        if guess is None:
            raise DataError(
                f"{where}: {name}: {_text(extents[name])}, expected 0..255 or fractions 0..1{_hint(extents)}"
            )
    if len(set(guesses.values())) > 1:
        raise DataError(f"{where}: {' and '.join(extents)} differ: one holds fractions 0..1, the other numbers 0..255")
    return str(next(iter(guesses.values())))


def _guess(extent: _Extent) -> str | None:
    if extent.low >= 0 and 2 < extent.high <= 255:
        return "0..255"
    return "0..1" if extent.low >= 0 and 0.5 < extent.high <= 1 and extent.has_fractions else None


def _hint(extents: Mapping[str, _Extent]) -> str:
    """Return which ranges would be possible, where any is."""
    possible = [name for name in PIXEL_RANGES if all(_fits(extent, _WHITE[name]) for extent in extents.values())]
    return f", for certain{_HINT}{' or '.join(possible)}" if possible else ""


def _fits(extent: _Extent, white: int) -> bool:
    """Say whether the numbers can be of a range; what a resize takes below it, it takes near its upper end, too."""
    slack = OVERSHOOT * white
    return -slack <= extent.low and extent.high <= white + slack and (extent.low >= 0 or extent.high > white / 100)


def _text(extent: _Extent) -> str:
    return f"found {extent.dtype} from {extent.low:.6g} to {extent.high:.6g}"


def _convert(images: np.ndarray, white: int) -> np.ndarray:
    pixels = images
    if images.dtype != np.uint8 or white != 255:
        pixels = np.empty(images.shape, np.uint8)
        for start, part in _parts(images):
            pixels[start : start + len(part)] = np.rint(np.clip(part.astype(np.float64) * (255 / white), 0, 255))
    return np.repeat(pixels, 3, axis=-1) if pixels.shape[-1] == 1 else pixels
