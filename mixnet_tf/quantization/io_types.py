"""The input and output types of an int8 file: normalized int8 or float images, or pixels as a camera delivers them."""

from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from mixnet_tf.data.input_format import known, limits
from mixnet_tf.errors import DeployError
from mixnet_tf.litert.flatgraph import FlatGraph


def set_types(graph: FlatGraph, input_type: str, output_type: str) -> None:
    """Give a graph with int8 input and output other types, by operators in front of it and behind it.

    Given: x (1, h, w, 3) int8 → graph → y (1, c) int8.
    Result, float32 in and out: x float32 → QUANTIZE → graph → DEQUANTIZE → y float32. Result, uint8 in and out:
    pixels uint8 → QUANTIZE → graph → QUANTIZE → y uint8, with a normalization (below) where the graph takes no pixels.

    Args:
        graph: changed in place.
        input_type: ``"int8"`` or ``"float32"``, for images in the graph's own format, or ``"uint8"`` for pixels.
        output_type: ``"int8"``, ``"uint8"`` or ``"float32"``.

    Raises:
        MixNetError: uint8 pixels for a model of other than RGB images, or one of which nobody says what it takes.
    """
    if input_type == "uint8":
        if graph.input_format != "pixels":
            _normalize_first(graph)
        graph.prepend("QUANTIZE", "image", type=schema.TensorType.UINT8, quantization=_shifted(graph, graph.inputs[0]))
    elif input_type == "float32":
        graph.prepend("QUANTIZE", "image", type=schema.TensorType.FLOAT32)
    if output_type == "uint8":
        unsigned = [_shifted(graph, index) for index in graph.outputs]
        graph.append("QUANTIZE", "scores", type=schema.TensorType.UINT8, quantizations=unsigned)
    elif output_type == "float32":
        graph.append("DEQUANTIZE", "scores", type=schema.TensorType.FLOAT32)


def take_pixels(graph: FlatGraph) -> None:
    """Make a float graph take pixels from 0 to 255, if it does not.

    Given: x (1, h, w, 3), in any format → graph.
    Result: pixels (1, h, w, 3) → DEPTHWISE_CONV_2D, kernel (1, 1, 1, 3) → x → graph.

    Raises:
        MixNetError: no model of RGB images, or one of which nobody says what it takes.
    """
    if graph.input_format == "pixels":
        return
    channels = _rgb(graph)
    black, white = (colour.astype(np.float32) for colour in limits(known(graph.input_format, graph.where)))
    kernel = graph.add_constant("normalize_kernel", ((white - black) / 255).reshape(1, 1, 1, channels), None)
    bias = graph.add_constant("normalize_bias", black, None)
    options = schema.DepthwiseConv2DOptionsT(strideW=1, strideH=1, depthMultiplier=1)
    graph.prepend("DEPTHWISE_CONV_2D", "pixels", (kernel, bias), options, type=schema.TensorType.FLOAT32)
    graph.input_format = "pixels"


def _rgb(graph: FlatGraph) -> int:
    channels = graph.shape(graph.inputs[0])[-1]
    if channels != 3:
        raise DeployError(f"input: pixels need a model of RGB images, found {channels} channels")
    return channels


def _normalize_first(graph: FlatGraph) -> None:
    """Put the graph's format of images first, as a 1x1 depthwise convolution in int8: padding still pads with zeros.

    Given: x (1, h, w, 3) int8, in any format → graph.
    Result: pixels (1, h, w, 3) int8, less 128 → DEPTHWISE_CONV_2D, kernel (1, 1, 1, 3) → x → graph.
    """
    channels = _rgb(graph)
    black, white = limits(known(graph.input_format, graph.where))
    step = (white - black) / 255
    # The kernel, the step from pixel to pixel, is any whole number at a scale of its own: take the one whose bias
    # rounds least, so that pixels become the very int8 values that floats in the graph's format become.
    numbers = np.arange(64, 128)[:, None]
    exact = black / step * numbers
    values = numbers[np.abs(exact - np.round(exact)).argmin(axis=0), 0]
    zeros, scale = np.zeros(channels, np.int64), step / values
    per_channel = _quantization(scale, zeros, quantizedDimension=3)
    kernel = graph.add_constant("normalize_kernel", values.astype(np.int8).reshape(1, 1, 1, -1), per_channel)
    offsets = np.round(black / step * values).astype(np.int32)
    bias = graph.add_constant("normalize_bias", offsets, _quantization(scale, zeros))
    options = schema.DepthwiseConv2DOptionsT(strideW=1, strideH=1, depthMultiplier=1)
    pixels = _quantization([1.0], [-128])
    graph.prepend(
        "DEPTHWISE_CONV_2D", "pixels", (kernel, bias), options, type=schema.TensorType.INT8, quantization=pixels
    )
    graph.input_format = "pixels"


def _quantization(scale: npt.ArrayLike, zero_point: npt.ArrayLike, **fields: int) -> Any:
    scales, zero_points = np.asarray(scale, np.float32), np.asarray(zero_point, np.int64)
    return schema.QuantizationParametersT(scale=scales, zeroPoint=zero_points, **fields)


def _shifted(graph: FlatGraph, index: int) -> Any:
    """Return the uint8 quantization of the same values."""
    signed = graph.tensors[index].quantization
    return _quantization(signed.scale, np.asarray(signed.zeroPoint) + 128)
