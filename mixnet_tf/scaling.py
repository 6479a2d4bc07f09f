"""The arithmetic of channels: what `wid_mul` and the ratio of squeeze-and-excitation make of them."""


def squeeze_channels(in_channels: int, se_reduction_ratio: float | None) -> int | None:
    """Return the width of the SE bottleneck, or None where the ratio means "no SE" (null, or at most 1).

    >>> squeeze_channels(24, 2), squeeze_channels(24, None)
    (12, None)
    """
    if se_reduction_ratio is None or se_reduction_ratio <= 1:
        return None
    return max(1, int(in_channels / se_reduction_ratio))


def make_divisible(value: float, divisor: int = 8) -> int:
    """Round to the nearest multiple of `divisor`, never more than 10 % down.

    >>> make_divisible(31.2), make_divisible(10.4)
    (32, 16)
    """
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def scale_channels(channels: int, wid_mul: float) -> int:
    """Apply `wid_mul`; exactly 1.0 leaves the channels as they are, unrounded."""
    return channels if wid_mul == 1.0 else make_divisible(channels * wid_mul)
