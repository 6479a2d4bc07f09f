"""Emits the layers of the deploy graph: chunks of channels, convolutions with folded weights, sums of pieces."""

from collections.abc import Callable, Sequence

import keras
import numpy as np

from mixnet_tf.deploy.kernels import padding, plan, reachable, same_padding
from mixnet_tf.layers import SqueezeExcite

MAX_CONCATENATED = 5
"""XNNPACK takes a concatenation of two to five inputs."""

MAX_FILL = 4 / 3
"""Chunks are filled up with zero channels where that makes them at most this many times as wide."""

FLOAT32 = {"dtype": "float32"}
_NHWC = {"data_format": "channels_last"} | FLOAT32


def fill(array: np.ndarray, axis: int, width: int) -> np.ndarray:
    """Append zeros along an axis."""
    pads = [(0, 0)] * array.ndim
    pads[axis] = (0, width - array.shape[axis])
    return np.pad(array, pads)


class Emitter:
    """Emits the layers of the deploy graph.

    A tensor may be known in chunks of channels: `_chunks` holds, for the concatenation of the chunks, each chunk and
    its number of channels; what a chunk has beyond them is zeros. Who can, reads the chunks; a concatenation nobody
    reads is no part of the final model.
    """

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        self._chunks: dict[int, list[tuple]] = {}
        self._slices: dict[tuple[int, int, int], object] = {}
        self._kept: list = []  # tensors whose ids are keys above
        self._uses: dict[str, int] = {}

    def filled_width(self, channels: int) -> int:
        """Return the width of a chunk with its zero channels: a multiple of `lanes`, unless that is much wider."""
        width = -(-channels // self.lanes) * self.lanes
        return width if width <= MAX_FILL * channels else channels

    def unique(self, name: str) -> str:
        """Return the name, with a number from its second use on."""
        count = self._uses[name] = self._uses.get(name, 0) + 1
        return name if count == 1 else f"{name}_{count}"

    def copy(self, layer: keras.layers.Layer, name: str) -> Callable:
        """Return a function that calls a float32 copy of a built-in layer, weights included."""
        twin = type(layer).from_config(layer.get_config() | {"name": name, "dtype": "float32", "trainable": True})

        def call(*args, **kwargs):
            outputs = twin(*args, **kwargs)
            twin.set_weights(layer.get_weights())
            if isinstance(twin, keras.layers.Normalization):
                twin.finalize_state()  # it computes with what it makes of its weights
            return outputs

        return call

    # -- channels ---------------------------------------------------------------------------------------------------

    def join(self, chunks: list, name: str, widths: Sequence[int] | None = None):
        """Concatenate the first channels of every chunk (all, without `widths`), and remember the chunks."""
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

    def narrow(self, x, width: int):
        """Return `x` without its zero channels."""
        return self.read(x, 0, width, "narrow")

    def read(self, x, first: int, end: int, name: str, filled: bool = False):
        """Return channels first...end of `x`, from its chunks where they fit; the same tensor every time.

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

    def _remember(self, table: dict, key, value, tensor) -> None:
        table[key] = value
        self._kept.append(tensor)  # its id is in the key: it must not be given to another tensor

    def _read(self, x, first: int, end: int, name: str):
        met, position = [], 0
        for chunk, width in self._chunks.get(id(x), [(x, x.shape[-1])]):
            if position < end and position + width > first:
                met.append((position, chunk, width))
            position += width
        if len(met) > 1:
            joined = self.join([chunk for _, chunk, _ in met], f"{name}_join", [width for _, _, width in met])
        else:
            joined = met[0][1]
        start = first - met[0][0]
        if (start, joined.shape[-1]) == (0, end - first):
            return joined
        return keras.ops.slice(joined, [0, 0, 0, start], [*joined.shape[:-1], end - first])

    # -- convolutions -----------------------------------------------------------------------------------------------

    def conv(self, x, kernel: np.ndarray, bias: np.ndarray, name: str, strides: int = 1, pads=None):
        """2D convolution with a (height, width, in, out) kernel; a matrix is a 1x1 kernel.

        Zero channels of `x` behind those of the kernel meet zero weights.
        """
        kernel = fill(kernel.reshape((1,) * (4 - kernel.ndim) + kernel.shape), 2, x.shape[-1])
        x, mode = self._padded(x, kernel.shape[:2], strides, pads or [(0, 0), (0, 0)], name)
        layer = keras.layers.Conv2D(
            kernel.shape[-1], kernel.shape[:2], strides=strides, padding=mode, name=name, **_NHWC
        )
        return _call_with(layer, x, kernel, bias)

    def depthwise(self, x, kernel: np.ndarray, bias: np.ndarray, name: str, strides: int = 1, before=(0, 0)):
        """Depthwise convolution with a (height, width, channels) kernel, in pieces that have a microkernel.

        Zero channels of `x` behind those of the kernel stay zero. `before` is the padding above and to the left; the
        output has ceil(size / strides) rows and columns.
        """
        kernel, bias = fill(kernel, 2, x.shape[-1]), fill(bias, 0, x.shape[-1])
        sizes = x.shape[1:3]
        outputs = [-(-size // strides) for size in sizes]
        met = [
            reachable(taps, strides, *rest)
            for taps, *rest in zip(kernel.shape[:2], before, sizes, outputs, strict=True)
        ]
        kernel = kernel[met[0].start : met[0].stop, met[1].start : met[1].stop]
        before = [pad - taps.start for pad, taps in zip(before, met, strict=True)]
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

    def _padded(self, x, extent: Sequence[int], strides: int, pads: list[tuple[int, int]], name: str):
        """Crop and pad `x`; return it with the padding mode that is left to the convolution."""
        if pads == [same_padding(taps, strides, size) for taps, size in zip(extent, x.shape[1:3], strict=True)]:
            return x, "same"
        crops = [tuple(max(-pad, 0) for pad in pair) for pair in pads]
        pads = [tuple(max(pad, 0) for pad in pair) for pair in pads]
        if np.any(crops):
            x = keras.layers.Cropping2D(crops, name=f"{name}_crop", **_NHWC)(x)
        if np.any(pads):
            x = keras.layers.ZeroPadding2D(pads, name=f"{name}_pad", **_NHWC)(x)
        return x, "valid"

    def add(self, terms: list, name: str):
        """Sum tensors two by two, in order."""
        total = terms[0]
        for i, term in enumerate(terms[1:], start=1):
            total = keras.layers.Add(name=f"{name}_sum{i}", **FLOAT32)([total, term])
        return total

    def gates(self, chunks: list, widths: Sequence[int], se: SqueezeExcite, name: str) -> list:
        """Scale every chunk by squeeze-and-excitation; only the tiny vector of means is concatenated."""
        means = [
            keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_mean{i}", **_NHWC)(chunk)
            for i, chunk in enumerate(chunks)
        ]
        reduce, expand = ([np.asarray(w, np.float64) for w in conv.get_weights()] for conv in (se.reduce, se.expand))
        kernel = spread(reduce[0], widths, chunks)
        squeezed = self.conv(self.join(means, f"{name}_means"), kernel, reduce[1], f"{name}_reduce")
        squeezed = self.copy(se.act, f"{name}_act")(squeezed)
        scaled, first = [], 0
        for i, (chunk, width) in enumerate(zip(chunks, widths, strict=True)):
            weights = [fill(w[..., first : first + width], w.ndim - 1, chunk.shape[-1]) for w in expand]
            gate = self.conv(squeezed, *weights, f"{name}_expand{i}")
            gate = keras.layers.Activation("sigmoid", name=f"{name}_gate{i}", **FLOAT32)(gate)
            scaled.append(keras.layers.Multiply(name=f"{name}_scale{i}", **FLOAT32)([chunk, gate]))
            first += width
        return scaled


def spread(kernel: np.ndarray, widths: Sequence[int], chunks: list) -> np.ndarray:
    """Insert zero rows into the input channels of a kernel, where the chunks have zero channels."""
    parts = np.split(kernel, np.cumsum(widths)[:-1], axis=-2)
    filled = [fill(part, kernel.ndim - 2, chunk.shape[-1]) for part, chunk in zip(parts, chunks, strict=True)]
    return np.concatenate(filled, axis=-2)


def _call_with(layer: keras.layers.Layer, x, kernel: np.ndarray, bias: np.ndarray):
    outputs = layer(x)
    layer.set_weights([kernel.astype(np.float32), bias.astype(np.float32)])
    return outputs
