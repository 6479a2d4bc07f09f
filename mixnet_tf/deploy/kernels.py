"""How a large depthwise kernel is written as an exact sum of pieces of at most 25 taps (arithmetic and numpy only).

XNNPACK, LiteRT's CPU path, has depthwise microkernels for 3, 4, 9 and 25 taps. Above 25 taps an op falls to a grouped
matrix product that is one to two orders of magnitude slower. A k x k convolution is the sum of convolutions with any
partition of its taps, so it is written with pieces that have a microkernel. A piece is a grid of taps, and runs as one
depthwise convolution with its own padding; the dilation of a piece costs nothing, because microkernels read their input
through a table of pointers.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterator

import numpy as np

MAX_TAPS = 25
"""The largest depthwise microkernel."""

TAP_COST = {9: 7.4, 25: 17.5}
"""Instructions per output value of an int8 piece of up to 9 or 25 taps: Cortex-A76, 64 channels (float32: 8.6, 20.2).
"""

ADD_COST = 4.0
"""Instructions per value of one addition of two pieces (3), and one more because in int8 each rounds once more."""

CROP_COST = (0.5, 1.0)
"""Instructions per value of a piece that reads only some of the input's rows (one block of memory) or columns: a copy.
"""


@dataclasses.dataclass(frozen=True)
class Taps:
    """The taps ``first, first + step, ...`` along one axis of a kernel."""

    first: int
    count: int
    step: int = 1

    @property
    def last(self) -> int:
        """The last tap."""
        return self.first + self.step * (self.count - 1)

    @property
    def index(self) -> slice:
        """The taps as a slice of the kernel's axis."""
        return slice(self.first, self.last + 1, self.step)


@dataclasses.dataclass(frozen=True)
class Piece:
    """A grid of taps of a kernel: it has a microkernel if it has at most 25."""

    rows: Taps
    cols: Taps

    @property
    def taps(self) -> int:
        """Number of taps."""
        return self.rows.count * self.cols.count

    def of(self, kernel: np.ndarray) -> np.ndarray:
        """Return this piece's part of a kernel of shape (height, width, ...)."""
        return kernel[self.rows.index, self.cols.index]


def _splits(size: int, stride: int) -> Iterator[tuple[Taps, ...]]:
    """Yield ways to split an axis: runs of neighbours and, at stride 1, every n-th tap (dilation needs stride 1)."""
    yield (Taps(0, size),)
    for parts in range(2, size + 1):
        longest = -(-size // parts)
        if -(-size // longest) == parts:
            yield tuple(Taps(first, min(longest, size - first)) for first in range(0, size, longest))
        if stride == 1:
            yield tuple(Taps(first, -(-(size - first) // parts), parts) for first in range(parts))


def _tap_cost(taps: int) -> float:
    return next(cost for limit, cost in TAP_COST.items() if taps <= limit)


def _cost(pieces: list[Piece], size: tuple[int, int]) -> float:
    centre = (size[0] // 2, size[1] // 2)
    crops = sum(
        cost
        for piece in pieces
        for taps, middle, cost in zip((piece.rows, piece.cols), centre, CROP_COST, strict=True)
        if not taps.first <= middle <= taps.last
    )
    return sum(_tap_cost(piece.taps) for piece in pieces) + ADD_COST * (len(pieces) - 1) + crops


@functools.cache
def plan(height: int, width: int, stride: int = 1) -> tuple[Piece, ...]:
    """Return the cheapest known set of pieces that covers every tap of a height x width kernel exactly once.

    Args:
        height: rows of the kernel.
        width: columns of the kernel.
        stride: 1 or 2; with stride 2 the taps of a piece are neighbours, because stride and dilation do not combine.

    Returns:
        One piece (the kernel itself) up to 25 taps, else several of at most 25 taps each.

    Given: a kernel of 7 x 7 taps, which has no microkernel::

        rows 0 ... 6, columns 0 ... 6

    Result: pieces whose sum it is::

        rows 0 1 2, columns 0 ... 6  (21 taps)
        rows 3 4 5, columns 0 ... 6  (21 taps)
        row  6,     columns 0 ... 6  (7 taps)

    Example:
        >>> [(piece.rows.count, piece.cols.count) for piece in plan(7, 7)]
        [(3, 7), (3, 7), (1, 7)]
        >>> plan(5, 5)
        (Piece(rows=Taps(first=0, count=5, step=1), cols=Taps(first=0, count=5, step=1)),)
    """
    if height * width <= MAX_TAPS:
        return (Piece(Taps(0, height), Taps(0, width)),)
    best: tuple[Piece, ...] = ()
    best_cost = float("inf")
    for rows, cols in itertools.product(_splits(height, stride), _splits(width, stride)):
        too_large = max(taps.count for taps in rows) * max(taps.count for taps in cols) > MAX_TAPS
        if too_large or len(rows) * len(cols) * min(TAP_COST.values()) > best_cost:
            continue
        pieces = [Piece(row, col) for row in rows for col in cols]
        cost = _cost(pieces, (height, width))
        if cost < best_cost:
            best, best_cost = tuple(pieces), cost
    return best


def reachable(kernel: int, stride: int, before: int, size: int, outputs: int) -> range:
    """Return the taps along one axis that meet at least one input value; the others only ever see padding.

    Args:
        kernel: taps along the axis.
        stride: stride of the convolution.
        before: padding before the first value.
        size: input values along the axis.
        outputs: output values along the axis.

    Example:
        >>> reachable(9, 1, 4, 3, 3)  # a 9-tap kernel on 3 values: two taps at either end see only padding
        range(2, 7)
    """
    first = max(0, before - stride * (outputs - 1))
    return range(first, min(kernel, before + size))


def padding(taps: Taps, stride: int, before: int, size: int, outputs: int) -> tuple[int, int]:
    """Return the padding (before, after) with which `taps` alone compute their share; negative means crop.

    Args:
        taps: the taps along one axis.
        stride: stride of the convolution.
        before: padding of the whole kernel before the first value.
        size: input values along the axis.
        outputs: output values along the axis.

    Example:
        >>> padding(Taps(0, 3), 1, 3, 28, 28), padding(Taps(4, 3), 1, 3, 28, 28)  # first and last third of 7 taps
        ((3, -1), (-1, 3))
    """
    ahead = before - taps.first
    after = stride * (outputs - 1) + taps.last - before - (size - 1)
    # A convolution ignores up to stride - 1 values after the last window.
    return ahead, 0 if -stride < after < 0 else after


def same_padding(kernel: int, stride: int, size: int) -> tuple[int, int]:
    """Return TensorFlow's "same" padding (before, after) of an axis.

    Example:
        >>> same_padding(3, 2, 224), same_padding(3, 2, 225)
        ((0, 1), (1, 1))
    """
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2
