"""Emits the layers of the deploy graph: chunks of channels, convolutions with folded weights, sums of pieces.

In the graphs below, shapes are (batch, height, width, channels), and names of layers are those of the deploy graph for
what is called ``b``.
"""

import re
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import keras
import numpy as np

from mixnet_tf.deploy.kernels import padding, plan, reachable, same_padding
from mixnet_tf.layers import SqueezeExcite
from mixnet_tf.sublayers import Tensor

MAX_CONCATENATED = 5
"""XNNPACK takes a concatenation of two to five inputs."""

MAX_FILL = 4 / 3
"""Chunks are filled up with zero channels where that makes them at most this many times as wide."""

FLOAT32 = {"dtype": "float32"}
_NHWC = {"data_format": "channels_last"} | FLOAT32

Pads = Sequence[tuple[int, int]]
"""(before, after) of the height and of the width; negative numbers crop."""


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


class Emitter:
    """Emits the layers of the deploy graph.

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
        self._scaled: dict[int, tuple[Tensor, np.ndarray, np.ndarray]] = {}
        self._kept: list[Tensor] = []  # tensors whose ids are keys above
        self._uses: dict[str, int] = {}

    def filled_width(self, channels: int) -> int:
        """Return the width of a chunk with its zero channels: a multiple of `lanes`, unless that is much wider.

        >>> [Emitter(lanes=8).filled_width(channels) for channels in (5, 6, 30, 32)]
        [5, 8, 32, 32]
        """
        width = -(-channels // self.lanes) * self.lanes
        return width if width <= MAX_FILL * channels else channels

    def unique(self, name: str) -> str:
        """Return the name, with a number from its second use on."""
        count = self._uses[name] = self._uses.get(name, 0) + 1
        return name if count == 1 else f"{name}_{count}"

    def copy(self, layer: keras.layers.Layer, name: str) -> Callable[..., Any]:
        """Return a function that calls a float32 copy of a built-in layer, weights included."""
        twin = type(layer).from_config(layer.get_config() | {"name": name, "dtype": "float32", "trainable": True})

        def call(*args: Any, **kwargs: Any) -> Any:
            outputs = twin(*args, **kwargs)
            twin.set_weights(layer.get_weights())
            if isinstance(twin, keras.layers.Normalization):
                twin.finalize_state()  # it computes with what it makes of its weights
            return outputs

        return call

    # -- channels ---------------------------------------------------------------------------------------------------

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

    def rescale(self, x: Tensor, scale: np.ndarray, offset: np.ndarray, name: str) -> Tensor:
        """Scale and shift every channel of `x` by one operator, together with what scaled `x` before.

        Given: x (1, 8, 8, 3) ─> a: times 1 / 255 ─> b: less the mean, by the deviation (1, 8, 8, 3).
        Result: x ─> b: depthwise 1x1, bias. It cannot be folded into a convolution that pads with zeros.
        """
        source, *first = self._scaled.get(id(x), (x, np.ones(x.shape[-1]), np.zeros(x.shape[-1])))
        scale, offset = first[0] * scale, first[1] * scale + offset
        result = self.conv(source, np.diag(scale), offset, name)
        self._remember(self._scaled, id(result), (source, scale, offset), result)
        return result

    # -- convolutions -----------------------------------------------------------------------------------------------

    def conv(
        self, x: Tensor, kernel: np.ndarray, bias: np.ndarray, name: str, strides: int = 1, pads: Pads | None = None
    ) -> Tensor:
        """2D convolution with a (height, width, in, out) kernel; a matrix is a 1x1 kernel.

        Zero channels of `x` behind those of the kernel meet zero weights.
        """
        kernel = fill(kernel.reshape((1,) * (4 - kernel.ndim) + kernel.shape), 2, x.shape[-1])
        x, mode = self._padded(x, kernel.shape[:2], strides, pads or [(0, 0), (0, 0)], name)
        layer = keras.layers.Conv2D(
            kernel.shape[-1], kernel.shape[:2], strides=strides, padding=mode, name=name, **_NHWC
        )
        return _call_with(layer, x, kernel, bias)

    def depthwise(
        self,
        x: Tensor,
        kernel: np.ndarray,
        bias: np.ndarray,
        name: str,
        strides: int = 1,
        before: Sequence[int] = (0, 0),
    ) -> Tensor:
        """Depthwise convolution with a (height, width, channels) kernel, in pieces that have a microkernel.

        Zero channels of `x` behind those of the kernel stay zero. `before` is the padding above and to the left; the
        output has ceil(size / strides) rows and columns.

        Given: a kernel of more than 25 taps::

            x (1, 28, 28, 8) ─> pad 3 on every side (1, 34, 34, 8) ─> depthwise 7x7 (1, 28, 28, 8)

        Result: each piece reads what its taps meet, by a crop or a pad of its own::

            x ─> b_piece0_crop (1, 27, 28, 8) ─> b_piece0_pad (1, 30, 34, 8) ─> b_piece0: rows 0 to 2, 3x7 ─┐
            x ───────────────────────────────────> b_piece1_pad (1, 30, 34, 8) ─> b_piece1: rows 3 to 5, 3x7 ─┴> b_sum1
            x ─> b_piece2_crop (1, 25, 28, 8) ─> b_piece2_pad (1, 28, 34, 8) ─> b_piece2: row 6, 1x7 ─> b_sum2: + b_sum1
        """
        kernel, bias = fill(kernel, 2, x.shape[-1]), fill(bias, 0, x.shape[-1])
        sizes = x.shape[1:3]
        outputs = [-(-size // strides) for size in sizes]
        rows, columns = (
            reachable(taps, strides, *rest)
            for taps, *rest in zip(kernel.shape[:2], before, sizes, outputs, strict=True)
        )
        kernel = kernel[rows.start : rows.stop, columns.start : columns.stop]
        before = [before[0] - rows.start, before[1] - columns.start]
        pieces = plan(*kernel.shape[:2], strides)
        results = []
        for i, piece in enumerate(pieces):
            axes = (piece.rows, piece.cols)
            pads = [padding(taps, strides, *rest) for taps, *rest in zip(axes, before, sizes, outputs, strict=True)]
            named = f"{name}_piece{i}" if len(pieces) > 1 else name
            extent = [taps.last - taps.first + 1 for taps in axes]
            padded, mode = self._padded(x, extent, strides, pads, named)
            layer = keras.layers.DepthwiseConv2D(
                (piece.rows.count, piece.cols.count),
                strides=strides,
                padding=mode,
                dilation_rate=[taps.step if taps.count > 1 else 1 for taps in axes],
                name=named,
                **_NHWC,
            )
            part = piece.of(kernel)[..., None]
            results.append(_call_with(layer, padded, part, bias if i == 0 else np.zeros_like(bias)))
        return self.add(results, name)

    def _padded(self, x: Tensor, extent: Sequence[int], strides: int, pads: Pads, name: str) -> tuple[Tensor, str]:
        """Crop and pad `x`; return it with the padding mode that is left to the convolution.

        Given, for a 3x7 window at stride 1 and pads ((3, -1), (3, 3))::

            x (1, 28, 28, 8)

        Result: no op where the pads are those of TensorFlow's "same", else the ops that are needed::

            x ─> b_crop ((0, 1), (0, 0)) (1, 27, 28, 8) ─> b_pad ((3, 0), (3, 3)) (1, 30, 34, 8), "valid"
        """
        if pads == [same_padding(taps, strides, size) for taps, size in zip(extent, x.shape[1:3], strict=True)]:
            return x, "same"
        crops = [tuple(max(-pad, 0) for pad in pair) for pair in pads]
        pads = [(max(before, 0), max(after, 0)) for before, after in pads]
        if np.any(crops):
            x = keras.layers.Cropping2D(crops, name=f"{name}_crop", **_NHWC)(x)
        if np.any(pads):
            x = keras.layers.ZeroPadding2D(pads, name=f"{name}_pad", **_NHWC)(x)
        return x, "valid"

    def add(self, terms: Sequence[Tensor], name: str) -> Tensor:
        """Sum tensors two by two, in order."""
        total = terms[0]
        for i, term in enumerate(terms[1:], start=1):
            total = keras.layers.Add(name=f"{name}_sum{i}", **FLOAT32)([total, term])
        return total

    def gates(self, chunks: Sequence[Tensor], widths: Sequence[int], se: SqueezeExcite, name: str) -> list[Tensor]:
        """Scale every chunk by squeeze-and-excitation; only the tiny vector of means is concatenated.

        Given, for 2 chunks, 8 channels in all, reduced to 2::

            (1, 8, 8, 5) and (1, 8, 8, 3) ─> concatenate (1, 8, 8, 8) ─┬─> mean (1, 1, 1, 8) ─> conv (1, 1, 1, 2) ─> act
                                                                       │   ─> conv (1, 1, 1, 8) ─> sigmoid ─┐
                                                                       └────────────────────────────────────┴> multiply

        Result: the second convolution's output channels are cut as the chunks are::

            b_mean0 (1, 1, 1, 5) and b_mean1 (1, 1, 1, 3) ─> b_means (1, 1, 1, 8) ─> b_reduce (1, 1, 1, 2) ─> b_act
            b_act ─> b_expand0 (1, 1, 1, 5) ─> b_gate0: sigmoid ─> b_scale0: times the first chunk (1, 8, 8, 5)
            b_act ─> b_expand1 (1, 1, 1, 3) ─> b_gate1: sigmoid ─> b_scale1: times the second chunk (1, 8, 8, 3)
        """
        means = [
            keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_mean{i}", **_NHWC)(chunk)
            for i, chunk in enumerate(chunks)
        ]
        reduce, expand = (
            [np.asarray(weights, np.float64) for weights in conv.get_weights()] for conv in (se.reduce, se.expand)
        )
        kernel = spread(reduce[0], widths, chunks)
        squeezed = self.conv(self.join(means, f"{name}_means"), kernel, reduce[1], f"{name}_reduce")
        squeezed = self.copy(se.act, f"{name}_act")(squeezed)
        scaled, first = [], 0
        for i, (chunk, width) in enumerate(zip(chunks, widths, strict=True)):
            kernel, bias = (fill(part[..., first : first + width], part.ndim - 1, chunk.shape[-1]) for part in expand)
            gate = self.conv(squeezed, kernel, bias, f"{name}_expand{i}")
            gate = keras.layers.Activation("sigmoid", name=f"{name}_gate{i}", **FLOAT32)(gate)
            scaled.append(keras.layers.Multiply(name=f"{name}_scale{i}", **FLOAT32)([chunk, gate]))
            first += width
        return scaled


def _call_with(layer: keras.layers.Layer, x: Tensor, kernel: np.ndarray, bias: np.ndarray) -> Tensor:
    outputs = layer(x)
    layer.set_weights([kernel.astype(np.float32), bias.astype(np.float32)])
    return outputs
