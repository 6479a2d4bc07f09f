"""One rule per built-in layer of Keras that the deploy graph has something faster for.

In the graphs below, shapes are (batch, height, width, channels), and names of layers are those of the deploy graph for
a layer called ``b``; what it reads is called ``a``. A layer that no rule fits is copied as it is.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras.src.applications.convnext import LayerScale

from mixnet_tf.batch_norm import builtin_class
from mixnet_tf.deploy.chunks import FLOAT32
from mixnet_tf.deploy.emitter import Emitter, Pads
from mixnet_tf.deploy.kernels import same_padding
from mixnet_tf.sublayers import Tensor

_NOTHING = np.ones(1), np.zeros(1)  # the scale and the shift that change nothing


# -- layers with a kernel -------------------------------------------------------------------------------------------


def _weighted(emit: Emitter, layer: Any, x: Tensor, name: str) -> Tensor:
    """Emit a layer with a kernel, so that what follows may be folded into it, and its activation as a layer of its own.

    Given, with 4 filters and an activation::

        x (1, 8, 8, 3) ─> conv 3x3, ReLU (1, 8, 8, 4)

    Result; without an activation, b_linear is called b::

        x (1, 8, 8, 3) ─> b_linear: conv 3x3, bias (1, 8, 8, 4) ─> b: ReLU (1, 8, 8, 4)
    """
    maker = functools.partial(_maker(layer, x), emit, layer, x)
    if layer.activation is keras.activations.linear:
        return emit.made(maker, *_NOTHING, name)
    return _activate(emit, layer, emit.made(maker, *_NOTHING, f"{name}_linear"), name)


def _activate(emit: Emitter, layer: Any, x: Tensor, name: str) -> Tensor:
    """Call the function of an activation: it need not be one that Keras can save.

    Given::

        x (1, 8, 8, 4) ─> any layer with a function of one tensor, say x * 2 (1, 8, 8, 4)

    Result::

        x (1, 8, 8, 4) ─> b: activation (1, 8, 8, 4)
    """
    return keras.layers.Activation(layer.activation, name=name, **FLOAT32)(x)


def _dense(emit: Emitter, layer: Any, x: Tensor, scale: np.ndarray, shift: np.ndarray, name: str) -> Tensor:
    """Emit a matrix product, with what scales its output, and with what scaled its input.

    Given::

        a (1, 8, 8, 3) ─> times s, plus t (1, 8, 8, 3) ─> dense, W (3, 4), bias (1, 8, 8, 4)

    Result, where each row of W is multiplied by its s::

        a (1, 8, 8, 3) ─> b: dense, s * W, bias + t @ W (1, 8, 8, 4)
    """
    source, kernel, bias = _reading(emit, x, *_weights(layer))
    return emit.twin(layer, source, kernel * scale, bias * scale + shift, name)


def _conv(emit: Emitter, layer: Any, x: Tensor, scale: np.ndarray, shift: np.ndarray, name: str) -> Tensor:
    """Emit a 2D convolution of any strides, dilation and groups, which pads by itself.

    Given, with a 3x3 kernel at stride 2::

        x (1, 8, 8, 3) ─> zero padding ((0, 1), (0, 1)) (1, 9, 9, 3) ─> conv 3x3, stride 2, "valid" (1, 4, 4, 16)

    Result, where the pads are those of "same"; other pads keep their layer, called b_pad::

        x (1, 8, 8, 3) ─> b: conv 3x3, stride 2, "same", bias (1, 4, 4, 16)

    What scaled its input goes into the kernel where nothing is padded (``_dense`` has the graph).
    """
    kernel, bias = _weights(layer)
    source, pads, extent = _window(emit, layer, x)
    if not np.any(pads) and layer.groups == 1:
        source, kernel, bias = _reading(emit, source, kernel, bias)
    padded, mode = emit.padded(source, extent, layer.strides, pads, name)
    return emit.twin(layer, padded, kernel * scale, bias * scale + shift, name, padding=mode)


def _depthwise(emit: Emitter, layer: Any, x: Tensor, scale: np.ndarray, shift: np.ndarray, name: str) -> Tensor:
    """Emit a depthwise convolution in pieces that have a microkernel (``Emitter.depthwise``).

    Given, as ConvNeXt has it: a convolution of as many groups as channels::

        x (1, 28, 28, 96) ─> conv 7x7, 96 groups (1, 28, 28, 96)

    Result::

        x ─> b_piece0: depthwise 3x7 (1, 28, 28, 96) ─┐
        x ─> b_piece1: depthwise 3x7 (1, 28, 28, 96) ─┴> b_sum1 (1, 28, 28, 96) ─┐
        x ─> b_piece2: depthwise 1x7 (1, 28, 28, 96) ────────────────────────────┴> b_sum2 (1, 28, 28, 96)
    """
    kernel, bias = _weights(layer)
    source, pads, _ = _window(emit, layer, x)
    kernel = kernel.reshape(*kernel.shape[:2], -1) * scale
    return emit.depthwise(source, kernel, bias * scale + shift, name, layer.strides[0], pads, layer.dilation_rate)


def _separable(emit: Emitter, layer: Any, x: Tensor, scale: np.ndarray, shift: np.ndarray, name: str) -> Tensor:
    """Emit a separable convolution as the two that it is.

    Given, with 8 filters::

        x (1, 8, 8, 4) ─> separable conv 3x3 (1, 8, 8, 8)

    Result::

        x (1, 8, 8, 4) ─> b_depthwise: 3x3 (1, 8, 8, 4) ─> b: conv 1x1, bias (1, 8, 8, 8)
    """
    depthwise, pointwise = (
        np.asarray(kernel, np.float64) for kernel in (layer.depthwise_kernel, layer.pointwise_kernel)
    )
    bias = np.zeros(layer.filters) if layer.bias is None else np.asarray(layer.bias, np.float64)
    source, pads, _ = _window(emit, layer, x)
    named = f"{name}_depthwise"
    hidden = emit.depthwise(
        source, depthwise[..., 0], np.zeros(x.shape[-1]), named, layer.strides[0], pads, layer.dilation_rate
    )
    return emit.conv(hidden, pointwise * scale, bias * scale + shift, name)


def _weights(layer: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the kernel and the bias, of zeros where there is none."""
    kernel = np.asarray(layer.kernel, np.float64)
    outputs = getattr(layer, "filters", None) or getattr(layer, "units", None) or int(np.prod(kernel.shape[2:]))
    return kernel, np.zeros(outputs) if layer.bias is None else np.asarray(layer.bias, np.float64)


def _reading(emit: Emitter, x: Tensor, kernel: np.ndarray, bias: np.ndarray) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """Return what `x` scales and shifts, with a kernel (..., in, out) and a bias that do the same to it."""
    source, scale, shift = emit.unscaled(x)
    moved = (shift[:, None] * kernel).reshape(-1, kernel.shape[-1]).sum(axis=0)
    return source, scale[:, None] * kernel, bias + moved


def _window(emit: Emitter, layer: Any, x: Tensor) -> tuple[Tensor, Pads, list[int]]:
    """Return what a 2D convolution reads once it pads by itself, its pads, and the extent of its kernel."""
    extent = [(size - 1) * step + 1 for size, step in zip(layer.kernel_size, layer.dilation_rate, strict=True)]
    same = [same_padding(*axis) for axis in zip(extent, layer.strides, x.shape[1:3], strict=True)]
    source, pads = emit.unpadded(x)
    if layer.padding == "same":
        pads = [(a + c, b + d) for (a, b), (c, d) in zip(pads, same, strict=True)]
    return source, pads, extent


def _is_depthwise(layer: Any, x: Tensor) -> bool:
    """Say whether every channel has one kernel of its own."""
    if isinstance(layer, keras.layers.Conv2D):
        return 1 < layer.groups == layer.filters == x.shape[-1] and len(set(layer.strides)) == 1
    return layer.depth_multiplier == 1 and len(set(layer.strides)) == 1


def _maker(layer: Any, x: Tensor) -> Callable[..., Tensor]:
    if isinstance(layer, keras.layers.Conv2D) and _is_depthwise(layer, x):
        return _depthwise
    return _MAKERS[type(layer)]


_MAKERS: Mapping[type[keras.layers.Layer], Callable[..., Tensor]] = {
    keras.layers.Conv2D: _conv,
    keras.layers.DepthwiseConv2D: _depthwise,
    keras.layers.SeparableConv2D: _separable,
    keras.layers.Dense: _dense,
}
"""What emits a layer from (emitter, layer, input, scale, shift, name), its output scaled and shifted."""


# -- layers that scale channels, or pad them ------------------------------------------------------------------------


def _scale_channels(emit: Emitter, layer: Any, x: Tensor, name: str) -> Tensor:
    """Fold batch norm, Rescaling and their like into what is linear before them, if nothing else reads that.

    Given::

        x (1, 8, 8, 3) ─> a: conv (1, 8, 8, 4) ─> batch norm (1, 8, 8, 4): times s, plus t

    Result (``Emitter.affine``)::

        x (1, 8, 8, 3) ─> b: conv, kernel * s, bias * s + t (1, 8, 8, 4)

    Where `a` is not linear, or has another reader (``Emitter.rescale``); a vector keeps its layer::

        a (1, 8, 8, 4) ─> b: depthwise 1x1, kernel s, bias t (1, 8, 8, 4)
    """
    scale, shift = (np.broadcast_to(values, x.shape[-1:]) for values in scale_and_shift(layer))
    folded = emit.affine(x, scale, shift, name) if id(layer) in emit.sole else None
    if folded is not None:
        return folded
    return emit.rescale(x, scale, shift, name) if len(x.shape) == 4 else emit.copy(layer, name)(x)


def scale_and_shift(layer: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return by what a layer multiplies its channels, and what it adds: two numbers of every channel, or one for all.

    >>> [values.tolist() for values in scale_and_shift(keras.layers.Rescaling(1 / 4, offset=-1))]
    [0.25, -1.0]
    """
    scale, shift = _SCALES[builtin_class(layer)](layer)
    return np.asarray(scale, np.float64), np.asarray(shift, np.float64)


def _of_normalization(layer: Any) -> tuple[np.ndarray, np.ndarray]:
    mean, variance = (np.asarray(values, np.float64).reshape(-1) for values in (layer.mean, layer.variance))
    scale = 1 / np.maximum(np.sqrt(variance), keras.backend.epsilon())
    return scale, -mean * scale


def _of_batch_norm(layer: Any) -> tuple[np.ndarray, np.ndarray]:
    mean, variance = (np.asarray(values, np.float64) for values in (layer.moving_mean, layer.moving_variance))
    scale = (1 if layer.gamma is None else np.asarray(layer.gamma, np.float64)) / np.sqrt(variance + layer.epsilon)
    return scale, (0 if layer.beta is None else np.asarray(layer.beta, np.float64)) - mean * scale


_SCALES: Mapping[type[keras.layers.Layer], Callable[[Any], tuple[Any, Any]]] = {
    keras.layers.Rescaling: lambda layer: (layer.scale, layer.offset),
    keras.layers.Normalization: _of_normalization,
    keras.layers.BatchNormalization: _of_batch_norm,
    LayerScale: lambda layer: (np.asarray(layer.gamma), 0.0),
}


def _layer_norm(emit: Emitter, layer: Any, x: Tensor, name: str) -> Tensor:
    """Centre the channels of every position once, and leave gamma and beta to what reads the result.

    Given: Keras makes maps of gamma / deviation and of beta - mean * gamma / deviation::

        x (1, 8, 8, 4) ─> layer norm (1, 8, 8, 4)

    Result; a convolution without padding, or a matrix product, reads the product and takes the 1x1 into its kernel::

        x ─> mean (1, 8, 8, 1) ─┐
        x ──────────────────────┴> subtract (1, 8, 8, 4) ─┬─> square ─> mean, + epsilon, 1 / root (1, 8, 8, 1) ─┐
                                                          └─────────────────────────────────────────────────────┴> times
        times (1, 8, 8, 4) ─> b: depthwise 1x1, gamma, beta (1, 8, 8, 4)
    """
    centred = keras.ops.subtract(x, keras.ops.mean(x, axis=-1, keepdims=True))
    power = keras.ops.mean(keras.ops.multiply(centred, centred), axis=-1, keepdims=True)
    normalized = keras.ops.multiply(centred, keras.ops.rsqrt(keras.ops.add(power, layer.epsilon)))
    gamma = np.ones(x.shape[-1]) if layer.gamma is None else np.asarray(layer.gamma, np.float64)
    beta = np.zeros(x.shape[-1]) if layer.beta is None else np.asarray(layer.beta, np.float64)
    return emit.rescale(normalized, gamma, beta, name)


def _normalizes_positions(layer: Any, x: Tensor) -> bool:
    return len(x.shape) == 4 and list(np.atleast_1d(layer.axis)) in ([-1], [3]) and not layer.rms_scaling


def _pad(emit: Emitter, layer: Any, x: Tensor, name: str) -> Tensor:
    """Keep a padding for who cannot pad by itself (``_conv`` has the graph)."""
    return emit.pad(layer, x, name)


# -- arithmetic with constants --------------------------------------------------------------------------------------


def arithmetic(emit: Emitter, operation: Any, arguments: Sequence[Any]) -> Tensor | None:
    """Fold arithmetic with a constant into what is linear before it, or make it one operator on an image.

    Given, as users normalize::

        image (1, 8, 8, 3) ─> divided by 127.5 ─> less 1 (1, 8, 8, 3)

    Result::

        image (1, 8, 8, 3) ─> b: depthwise 1x1 (1, 8, 8, 3)

    Args:
        emit: the emitter.
        operation: of keras.ops.
        arguments: what it is called with.

    Returns:
        The result; None where the operation is better called as it is.
    """
    symbolic = [keras.backend.is_keras_tensor(argument) for argument in arguments]
    if len(arguments) != 2 or sum(symbolic) != 1:
        return None
    position = symbolic.index(True)
    x, constant = arguments[position], np.asarray(arguments[1 - position], np.float64)
    channels = x.shape[-1] if x.shape else None
    meaning = _ARITHMETIC.get((type(operation).__name__, position))
    if meaning is None or channels is None or constant.size not in (1, channels) or not constant.all():
        return None
    if constant.size > 1 and constant.shape[-1] != channels:
        return None
    scale, shift = (np.broadcast_to(np.ravel(values), channels) for values in meaning(constant))
    folded = emit.affine(x, scale, shift, emit.unique(operation.name)) if id(operation) in emit.sole else None
    is_image = len(x.shape) == 4 and isinstance(x._keras_history.operation, keras.layers.InputLayer)
    return emit.rescale(x, scale, shift, emit.unique(operation.name)) if folded is None and is_image else folded


_ARITHMETIC: Mapping[tuple[str, int], Callable[[np.ndarray], tuple[Any, Any]]] = {
    ("Add", 0): lambda constant: (1.0, constant),
    ("Add", 1): lambda constant: (1.0, constant),
    ("Subtract", 0): lambda constant: (1.0, -constant),
    ("Subtract", 1): lambda constant: (-1.0, constant),
    ("Multiply", 0): lambda constant: (constant, 0.0),
    ("Multiply", 1): lambda constant: (constant, 0.0),
    ("Divide", 0): lambda constant: (1 / constant, 0.0),
    ("TrueDivide", 0): lambda constant: (1 / constant, 0.0),
}
"""Scale and shift of an operation that has its tensor at this place and a constant at the other."""


# -- the table ------------------------------------------------------------------------------------------------------


def _slides(layer: Any, x: Tensor) -> bool:
    return layer.data_format == "channels_last" and len(x.shape) == 4 and None not in x.shape[1:]


def _slides_by_channel(layer: Any, x: Tensor) -> bool:
    return _slides(layer, x) and _is_depthwise(layer, x)


def _has_channel_scales(layer: Any, x: Tensor) -> bool:
    """Say whether a layer has a number, or one per channel, on the last axis."""
    rank = len(x.shape)
    axes = np.atleast_1d(getattr(layer, "axis", -1))
    if getattr(layer, "invert", False) or not np.isin(axes, (-1, rank - 1)).all():
        return False
    return all(values.shape in ((), (1,), (x.shape[-1],)) for values in scale_and_shift(layer))


RULES: Mapping[type[keras.layers.Layer], tuple[Callable[..., Tensor], Callable[[Any, Tensor], bool]]] = {
    keras.layers.Conv2D: (_weighted, _slides),
    keras.layers.DepthwiseConv2D: (_weighted, _slides_by_channel),
    keras.layers.SeparableConv2D: (_weighted, _slides_by_channel),
    keras.layers.Dense: (_weighted, lambda layer, x: True),
    keras.layers.ZeroPadding2D: (_pad, _slides),
    keras.layers.LayerNormalization: (_layer_norm, _normalizes_positions),
    keras.layers.Activation: (_activate, lambda layer, x: True),
    **dict.fromkeys(_SCALES, (_scale_channels, _has_channel_scales)),
}
"""What emits a layer from (emitter, layer, input, name), and whether it does so for this input."""
