"""Emits the layers of the deploy graph: convolutions with folded weights, sums of pieces, gates.

What is linear is remembered with the way it was made (``Emitter.made``), and made again where a scale and a shift
follow.

In the graphs below, shapes are (batch, height, width, channels), and names of layers are those of the deploy graph for
what is called ``b``.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from mixnet_tf.deploy.chunks import FLOAT32, Chunks, fill, spread
from mixnet_tf.deploy.graphs import IDLE, copied
from mixnet_tf.deploy.kernels import Taps, padding, plan, reachable, same_padding
from mixnet_tf.layers import SqueezeExcite
from mixnet_tf.sublayers import Tensor

_NHWC = {"data_format": "channels_last"} | FLOAT32

Pads = Sequence[tuple[int, int]]
"""(before, after) of the height and of the width; negative numbers crop."""


WIDE = 48
"""Channels up to which neighbours are scaled together: three vectors of 16 bytes, and a multiple of RGB."""

Maker = Callable[[np.ndarray, np.ndarray, str], Tensor]
"""Emits something linear, given a scale and a shift for every channel of its output, and a name."""

PLAIN = ", or graph plain, which converts a model as it is"
"""How a message goes on that refuses custom code."""


class Emitter(Chunks):
    """Emits the layers of the deploy graph.

    Args:
        lanes: see ``Chunks``.
        sole: ids of the layers and operations that read what nothing else reads.
    """

    def __init__(self, lanes: int, sole: frozenset[int] = frozenset()) -> None:
        super().__init__(lanes)
        self.sole = sole
        self._makers: dict[int, tuple[Maker, np.ndarray, np.ndarray]] = {}
        self._pads: dict[int, tuple[Tensor, Pads]] = {}
        self._scaled: dict[int, tuple[Tensor, np.ndarray, np.ndarray]] = {}

    def copy(self, layer: keras.layers.Layer, name: str) -> Callable[..., Any]:
        """Return a function that calls a float32 copy of a built-in layer, weights included.

        Raises:
            DeployError: the layer holds something that Keras cannot copy.
        """
        return copied(layer, PLAIN, name=name, trainable=True, **FLOAT32)

    def twin(self, layer: Any, x: Tensor, kernel: np.ndarray, bias: np.ndarray, name: str, **changes: object) -> Tensor:
        """Call a layer of the same configuration with another kernel and a bias, and without an activation."""
        config = layer.get_config()
        idle = [key for key in config if key.endswith(IDLE) or key in ("activation", "lora_rank")]
        config |= dict.fromkeys(idle) | {"name": name, "trainable": True, "use_bias": True} | FLOAT32 | changes
        return _call_with(type(layer).from_config(config), x, kernel, bias)

    # -- what is linear ---------------------------------------------------------------------------------------------

    def made(self, maker: Maker, scale: np.ndarray, shift: np.ndarray, name: str) -> Tensor:
        """Emit something linear, and remember how, for a scale and a shift that may follow (``affine``)."""
        result = maker(scale, shift, name)
        self._remember(self._makers, id(result), (maker, scale, shift), result)
        return result

    def affine(self, x: Tensor, scale: np.ndarray, shift: np.ndarray, name: str) -> Tensor | None:
        """Make `x` again with a scale and a shift of its channels; None where it is nothing linear.

        Given, where `x` is made by a kernel W and a bias b::

            (1, 8, 8, 3) ─> a: conv, W (1, 1, 3, 4), b ─> x (1, 8, 8, 4) ─> times s, plus t (1, 8, 8, 4)

        Result; if nothing else reads `x`, it is no part of the final model::

            (1, 8, 8, 3) ─> b: conv, W * s, b * s + t (1, 8, 8, 4)
        """
        if id(x) not in self._makers:
            return None
        maker, first_scale, first_shift = self._makers[id(x)]
        return self.made(maker, first_scale * scale, first_shift * scale + shift, name)

    def rescale(self, x: Tensor, scale: np.ndarray, shift: np.ndarray, name: str) -> Tensor:
        """Scale and shift every channel of `x` by one operator.

        Given, as EfficientNet begins::

            x (1, 224, 224, 3) ─> a: times 1 / 255 ─> b: less the mean, by the deviation (1, 224, 224, 3)

        Result: a padding of what follows still pads with zeros, so it cannot be folded into the next convolution. Few
        channels come in groups of neighbours, which fill the vectors of the CPU: a sixth of the instructions in int8::

            x (1, 224, 224, 3) ─> b_wide (1, 224, 14, 48) ─> b_scaled: depthwise 1x1, bias ─> b (1, 224, 224, 3)

        Args:
            x: (batch, height, width, channels).
            scale: (channels,).
            shift: (channels,).
            name: of the layer.
        """

        def maker(scale: np.ndarray, shift: np.ndarray, name: str) -> Tensor:
            result = self._scaled_wide(x, np.broadcast_to(scale, x.shape[-1:]), shift, name)
            self._remember(self._scaled, id(result), (x, scale, shift), result)
            return result

        return self.made(maker, scale, shift, name)

    def _scaled_wide(self, x: Tensor, scale: np.ndarray, shift: np.ndarray, name: str) -> Tensor:
        height, width, channels = x.shape[1:]
        count = max(n for n in range(1, max(WIDE // channels, 1) + 1) if width % n == 0)
        if count == 1:
            return self.depthwise(x, scale[None, None], shift, name)
        wide = keras.layers.Reshape((height, width // count, count * channels), name=f"{name}_wide", **FLOAT32)(x)
        scale, shift = np.tile(scale, count), np.tile(shift, count)
        scaled = self.depthwise(wide, scale[None, None], shift, f"{name}_scaled")
        return keras.layers.Reshape((height, width, channels), name=name, **FLOAT32)(scaled)

    def unscaled(self, x: Tensor) -> tuple[Tensor, np.ndarray, np.ndarray]:
        """Return what `x` scales and shifts, the scale and the shift."""
        return self._scaled.get(id(x), (x, np.ones(x.shape[-1]), np.zeros(x.shape[-1])))

    # -- convolutions -----------------------------------------------------------------------------------------------

    def pad(self, layer: keras.layers.ZeroPadding2D, x: Tensor, name: str) -> Tensor:
        """Pad with zeros, and remember it: a convolution that reads the result may pad by itself."""
        result = self.copy(layer, name)(x)
        source, before = self.unpadded(x)
        pads = [(a + c, b + d) for (a, b), (c, d) in zip(before, layer.padding, strict=True)]
        self._remember(self._pads, id(result), (source, pads), result)
        return result

    def unpadded(self, x: Tensor) -> tuple[Tensor, Pads]:
        """Return what `x` is a padding of, and its pads."""
        return self._pads.get(id(x), (x, [(0, 0), (0, 0)]))

    def conv(
        self, x: Tensor, kernel: np.ndarray, bias: np.ndarray, name: str, strides: int = 1, pads: Pads | None = None
    ) -> Tensor:
        """2D convolution with a (height, width, in, out) kernel; a matrix is a 1x1 kernel.

        Zero channels of `x` behind those of the kernel meet zero weights.
        """
        kernel = fill(kernel.reshape((1,) * (4 - kernel.ndim) + kernel.shape), 2, x.shape[-1])
        x, mode = self.padded(x, kernel.shape[:2], (strides, strides), pads or [(0, 0), (0, 0)], name)
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
        pads: Pads = ((0, 0), (0, 0)),
        dilation: Sequence[int] = (1, 1),
    ) -> Tensor:
        """Depthwise convolution with a (height, width, channels) kernel, in pieces that have a microkernel.

        Zero channels of `x` behind those of the kernel stay zero. At stride 2, there is no dilation.

        Given: a kernel of more than 25 taps::

            x (1, 28, 28, 8) ─> pad 3 on every side (1, 34, 34, 8) ─> depthwise 7x7 (1, 28, 28, 8)

        Result: each piece reads what its taps meet, by a crop or a pad of its own::

            x ─> b_piece0_crop (1, 27, 28, 8) ─> b_piece0_pad (1, 30, 34, 8) ─> b_piece0: rows 0 to 2, 3x7 ─┐
            x ───────────────────────────────────> b_piece1_pad (1, 30, 34, 8) ─> b_piece1: rows 3 to 5, 3x7 ─┴> b_sum1
            x ─> b_piece2_crop (1, 25, 28, 8) ─> b_piece2_pad (1, 28, 34, 8) ─> b_piece2: row 6, 1x7 ─> b_sum2: + b_sum1
        """
        kernel, bias = fill(kernel, 2, x.shape[-1]), fill(bias, 0, x.shape[-1])
        axes = [_Axis(*axis) for axis in zip(kernel.shape[:2], x.shape[1:3], pads, dilation, strict=True)]
        rows, columns = (axis.reachable(strides) for axis in axes)
        kernel = kernel[rows.start : rows.stop, columns.start : columns.stop]
        pieces = plan(*kernel.shape[:2], strides)
        results = []
        for i, piece in enumerate(pieces):
            taps = [axis.taps(of, strides) for axis, of in zip(axes, (piece.rows, piece.cols), strict=True)]
            extent = [of.last - of.first + 1 for of in taps]
            shares = [axis.padding(of, strides) for axis, of in zip(axes, taps, strict=True)]
            named = f"{name}_piece{i}" if len(pieces) > 1 else name
            padded, mode = self.padded(x, extent, (strides, strides), shares, named)
            layer = keras.layers.DepthwiseConv2D(
                (piece.rows.count, piece.cols.count),
                strides=strides,
                padding=mode,
                dilation_rate=[of.step if of.count > 1 else 1 for of in taps],
                name=named,
                **_NHWC,
            )
            part = piece.of(kernel)[..., None]
            results.append(_call_with(layer, padded, part, bias if i == 0 else np.zeros_like(bias)))
        return self.add(results, name)

    def padded(
        self, x: Tensor, extent: Sequence[int], strides: Sequence[int], pads: Pads, name: str
    ) -> tuple[Tensor, str]:
        """Crop and pad `x`; return it with the padding mode that is left to the convolution.

        Given, for a 3x7 window at stride 1 and pads ((3, -1), (3, 3))::

            x (1, 28, 28, 8)

        Result: no op where the pads are those of TensorFlow's "same", else the ops that are needed::

            x ─> b_crop ((0, 1), (0, 0)) (1, 27, 28, 8) ─> b_pad ((3, 0), (3, 3)) (1, 30, 34, 8), "valid"
        """
        if list(pads) == [same_padding(*axis) for axis in zip(extent, strides, x.shape[1:3], strict=True)]:
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


@dataclasses.dataclass(frozen=True)
class _Axis:
    """One axis of a depthwise convolution: taps of the kernel, values of the input, padding, dilation."""

    kernel: int
    size: int
    pads: tuple[int, int]
    dilation: int

    def outputs(self, strides: int) -> int:
        return (self.size + sum(self.pads) - self.dilation * (self.kernel - 1) - 1) // strides + 1

    def reachable(self, strides: int) -> range:
        """Return the taps that meet a value of the input."""
        if self.dilation > 1:
            return range(self.kernel)
        return reachable(self.kernel, strides, self.pads[0], self.size, self.outputs(strides))

    def taps(self, of: Taps, strides: int) -> Taps:
        """Return where taps of the reachable part of the kernel lie, counted in values of the input."""
        return Taps(self.dilation * (of.first + self.reachable(strides).start), of.count, self.dilation * of.step)

    def padding(self, of: Taps, strides: int) -> tuple[int, int]:
        """Return the padding with which taps, counted in values of the input, compute their share."""
        return padding(of, strides, self.pads[0], self.size, self.outputs(strides))


def _call_with(layer: keras.layers.Layer, x: Tensor, kernel: np.ndarray, bias: np.ndarray) -> Tensor:
    outputs = layer(x)
    layer.set_weights([kernel.astype(np.float32), bias.astype(np.float32)])
    return outputs
