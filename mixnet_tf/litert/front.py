"""What a ``.tflite`` takes for an image: recorded, or worked out from its input's scale or its first operators."""

import operator
from collections.abc import Callable, Mapping

import numpy as np

from mixnet_tf.data.choices import INPUT_FORMATS
from mixnet_tf.data.input_format import Front, format_before, is_known_map, limits
from mixnet_tf.litert.description import normalization_of
from mixnet_tf.litert.flatgraph import FlatGraph, Op
from mixnet_tf.litert.neighbours import readers

_ARITHMETIC: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "ADD": operator.add,
    "SUB": operator.sub,
    "MUL": operator.mul,
    "DIV": operator.truediv,
}

_CLOSE = 0.02  # of the range: calibration images seldom have every colour


def lite_front(graph: FlatGraph) -> Front:
    """Return what a graph takes for an image.

    Example:
        >>> lite_front(FlatGraph.read("model_int8.tflite"))                                      # doctest: +SKIP
        Front(input_format='pixels', certain=True)
    """
    name = graph.input_format or _by_metadata(graph) or _by_scale(graph) or _by_operators(graph)
    return Front(name, certain=name is not None)


def _by_metadata(graph: FlatGraph) -> str | None:
    """Return the format that the file's metadata asks for: (pixel - mean) / std, which is that of a float input."""
    asked = normalization_of(graph)
    if asked is None or graph.tensor(graph.inputs[0]).dtype != "float32":
        return None
    mean, std = asked
    black, white = -mean / std, (255 - mean) / std
    return next((name for name in INPUT_FORMATS if is_known_map(black, white, name)), None)


def _by_scale(graph: FlatGraph) -> str | None:
    """Return the format whose black and white are the limits of a quantized input, or of a float one's int8 values."""
    index = graph.inputs[0]
    reading = readers(graph).get(index, [])
    if [op.name for op in reading] == ["QUANTIZE"] and graph.tensor(index).dtype == "float32":
        index = reading[0].outputs[0]
    tensor = graph.tensor(index)
    if tensor.scale is None or tensor.zero_point is None or tensor.dtype not in ("int8", "uint8"):
        return None
    first = np.iinfo(tensor.dtype).min - tensor.zero_point
    darkest, brightest = first * tensor.scale, (first + 255) * tensor.scale
    for name in INPUT_FORMATS:
        black, white = limits(name)
        if max(abs(darkest - black.min()), abs(brightest - white.max())) <= _CLOSE * (white.max() - black.min()):
            return name
    return None


def _by_operators(graph: FlatGraph) -> str | None:
    """Return the format that follows from the arithmetic with constants in front of a float graph's first layer.

    Given: x → MUL 1/127.5 → SUB 1 → CONV_2D. Result: "pixels".
    """
    index, reading = graph.inputs[0], readers(graph)
    if graph.tensor(index).dtype != "float32" or graph.shape(index)[-1:] != (3,):
        return None
    colours = np.stack([np.zeros(3), np.ones(3)])
    while len(reading.get(index, [])) == 1:
        (op,) = reading[index]
        changed = _computed(graph, op, index, colours)
        if changed is None:
            break
        colours, index = changed, op.outputs[0]
    return format_before(colours[1] - colours[0], colours[0])


def _computed(graph: FlatGraph, op: Op, index: int, colours: np.ndarray) -> np.ndarray | None:
    """Return what an operator makes of colours (2, 3); None where it is no arithmetic with a constant for a channel."""
    if op.name not in _ARITHMETIC or len(op.inputs) != 2 or op.options.fusedActivationFunction:
        return None
    values = []
    for i in op.inputs:
        if i != index and (not graph.is_constant(i) or graph.constant(i).size not in (1, 3)):
            return None
        values.append(colours if i == index else graph.constant(i).astype(np.float64).reshape(-1))
    return _ARITHMETIC[op.name](*values)
