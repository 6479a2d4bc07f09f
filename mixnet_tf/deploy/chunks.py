"""Tensors that are known in chunks of channels.

In the graphs below, shapes are (batch, height, width, channels), and names of layers are those of the deploy graph for
what is called ``b``.
"""

import re
from collections.abc import Hashable, Sequence
from typing import Any

import keras
import numpy as np

from mixnet_tf.sublayers import Tensor

MAX_CONCATENATED = 5
"""XNNPACK takes a concatenation of two to five inputs."""

MAX_FILL = 4 / 3
"""Chunks are filled up with zero channels where that makes them at most this many times as wide."""

FLOAT32 = {"dtype": "float32"}


def output_name(layer: str) -> str:
    """Return the name of what gives the output of a block; a number behind it is that of a chunk.

    >>> output_name("stage1_block2")
    'stage1_block2_output'
    """
    return f"{layer}_output"


def output_chunk(name: str, layer: str) -> int | None:
    """Return which chunk of a layer's output something of this name gives; None for no part of the output.

    >>> output_chunk("stem_output", "stem"), output_chunk("stem_output3", "stem"), output_chunk("stem_conv", "stem")
    (0, 3, None)
    """
    match = re.fullmatch(rf"{re.escape(output_name(layer))}(\d*)", name)
    return int(match[1] or 0) if match else None


def fill(array: np.ndarray, axis: int, width: int) -> np.ndarray:
    """Append zeros along an axis.

    >>> fill(np.ones((1, 2)), 1, 4)
    array([[1., 1., 0., 0.]])
    """
    pads = [(0, 0)] * array.ndim
    pads[axis] = (0, width - array.shape[axis])
    return np.pad(array, pads)


def spread(kernel: np.ndarray, widths: Sequence[int], chunks: Sequence[Tensor]) -> np.ndarray:
    """Insert zero rows into the input channels of a kernel, where the chunks have zero channels.

    Given, for a concatenation of 2 chunks of 6 channels::

        (1, 8, 8, 6) and (1, 8, 8, 6) ─> concatenate (1, 8, 8, 12) ─> kernel (12, 4) ─> (1, 8, 8, 4)

    Result, where the chunks are filled up to 8 channels::

        (1, 8, 8, 8) and (1, 8, 8, 8) ─> concatenate (1, 8, 8, 16) ─> kernel (16, 4) ─> (1, 8, 8, 4)
                                                                      rows 6, 7, 14 and 15 are zero
    """
    parts = np.split(kernel, np.cumsum(widths)[:-1], axis=-2)
    filled = [fill(part, kernel.ndim - 2, chunk.shape[-1]) for part, chunk in zip(parts, chunks, strict=True)]
    return np.concatenate(filled, axis=-2)


class Chunks:
    """Joins and reads tensors in chunks of channels.

    A tensor may be known in chunks of channels: `_chunks` holds, for the concatenation of the chunks, each chunk and
    its number of channels; what a chunk has beyond them is zeros. Who can, reads the chunks; a concatenation nobody
    reads is no part of the final model.

    Attributes:
        lanes: chunks inside the graph are filled up to a multiple of this many channels.
    """

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        self._chunks: dict[int, list[tuple[Tensor, int]]] = {}
        self._slices: dict[tuple[int, int, int], Tensor] = {}
        self._kept: list[Tensor] = []  # tensors whose ids are keys above
        self._uses: dict[str, int] = {}

    def filled_width(self, channels: int) -> int:
        """Return the width of a chunk with its zero channels: a multiple of `lanes`, unless that is much wider.

        >>> [Chunks(lanes=8).filled_width(channels) for channels in (5, 6, 30, 32)]
        [5, 8, 32, 32]
        """
        width = -(-channels // self.lanes) * self.lanes
        return width if width <= MAX_FILL * channels else channels

    def unique(self, name: str) -> str:
        """Return the name, with a number from its second use on."""
        count = self._uses[name] = self._uses.get(name, 0) + 1
        return name if count == 1 else f"{name}_{count}"

    def join(self, chunks: Sequence[Tensor], name: str, widths: Sequence[int] | None = None) -> Tensor:
        """Concatenate the first channels of every chunk (all, without `widths`), and remember the chunks.

        Given: 7 chunks::

            7 x (1, 8, 8, 4) ─> concatenate (1, 8, 8, 28)

        Result: no concatenation of more than 5::

            5 x (1, 8, 8, 4) ─> b   (1, 8, 8, 20) ─┐
            2 x (1, 8, 8, 4) ─> b_2 (1, 8, 8, 8) ──┴> b_3 (1, 8, 8, 28)
        """
        widths = widths or [chunk.shape[-1] for chunk in chunks]
        pieces = [self.narrow(chunk, width) for chunk, width in zip(chunks, widths, strict=True)]
        if len(pieces) == 1:
            return pieces[0]
        while len(pieces) > 1:
            groups = [pieces[i : i + MAX_CONCATENATED] for i in range(0, len(pieces), MAX_CONCATENATED)]
            pieces = [
                keras.layers.Concatenate(name=self.unique(name), **FLOAT32)(group) if len(group) > 1 else group[0]
                for group in groups
            ]
        self._remember(self._chunks, id(pieces[0]), list(zip(chunks, widths, strict=True)), pieces[0])
        return pieces[0]

    def narrow(self, x: Tensor, width: int) -> Tensor:
        """Return `x` without its zero channels."""
        return self.read(x, 0, width, "narrow")

    def read(self, x: Tensor, first: int, end: int, name: str, filled: bool = False) -> Tensor:
        """Return channels first...end of `x`, from its chunks where they fit; the same tensor every time.

        Given, where `x` is the concatenation of the chunks a, b and c (1, 8, 8, 4)::

            x (1, 8, 8, 12) ─> slice 4...8 (1, 8, 8, 4)
            x (1, 8, 8, 12) ─> slice 2...8 (1, 8, 8, 6)

        Result: what is a chunk is not sliced, and what is not in the range is not concatenated::

            b (1, 8, 8, 4)
            a, b ─> concatenate (1, 8, 8, 8) ─> slice 2...8 (1, 8, 8, 6)

        With `filled`, a chunk that fits is returned with the zero channels behind it.
        """
        if filled:
            position = 0
            for chunk, width in self._chunks.get(id(x), []):
                if (position, position + width) == (first, end):
                    return chunk
                position += width
        if (first, end) == (0, x.shape[-1]):
            return x
        key = (id(x), first, end)
        if key not in self._slices:
            self._remember(self._slices, key, self._read(x, first, end, name), x)
        return self._slices[key]

    def _remember(self, table: dict[Any, Any], key: Hashable, value: object, tensor: Tensor) -> None:
        table[key] = value
        self._kept.append(tensor)  # its id is in the key: it must not be given to another tensor

    def _read(self, x: Tensor, first: int, end: int, name: str) -> Tensor:
        within, position = [], 0
        for chunk, width in self._chunks.get(id(x), [(x, x.shape[-1])]):
            if position < end and position + width > first:
                within.append((position, chunk, width))
            position += width
        if len(within) > 1:
            joined = self.join([chunk for _, chunk, _ in within], f"{name}_join", [width for _, _, width in within])
        else:
            joined = within[0][1]
        start = first - within[0][0]
        if (start, joined.shape[-1]) == (0, end - first):
            return joined
        return keras.ops.slice(joined, [0, 0, 0, start], [*joined.shape[:-1], end - first])
