"""Graphs of one operator, written by LiteRT's schema alone: what the model of costs is fitted on."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from mixnet_tf.litert.packing import Buffer, pack

TYPES = {
    "float32": (schema.TensorType.FLOAT32, np.float32),
    "int8": (schema.TensorType.INT8, np.int8),
    "uint8": (schema.TensorType.UINT8, np.uint8),
    "int32": (schema.TensorType.INT32, np.int32),
}
SCALE, POINT = 0.02, -3
SIGMOID = (1 / 256, -128)
"""The one quantization that LOGISTIC and SOFTMAX may have."""


class Micro:
    """A graph, operator by operator.

    Example:
        >>> graph = Micro()
        >>> x = graph.tensor((1, 8, 8, 16), "float32")
        >>> y = graph.op("LOGISTIC", [x], (1, 8, 8, 16), "float32")
        >>> content = graph.content([x], [y])
    """

    def __init__(self) -> None:
        self._tensors: list[Any] = []
        self._operators: list[Any] = []
        self._codes: list[Any] = []
        self._buffers = [Buffer(data=None)]
        self._rng = np.random.default_rng(0)

    def tensor(
        self,
        shape: Sequence[int],
        dtype: str,
        content: np.ndarray | None = None,
        quantization: tuple[Any, Any] = (SCALE, POINT),
        axis: int = 0,
    ) -> int:
        """Add a tensor, constant where it has content; return its index."""
        kind, numpy_type = TYPES[dtype]
        tensor = schema.TensorT(shape=np.array(shape, np.int32), type=kind, buffer=0, isVariable=False)
        tensor.name = f"t{len(self._tensors)}".encode()
        if dtype in ("int8", "uint8") or (dtype == "int32" and content is not None and content.dtype == np.int32):
            scale, point = (np.atleast_1d(values) for values in quantization)
            if dtype == "uint8":
                point = point + 128
            tensor.quantization = schema.QuantizationParametersT(
                scale=scale.astype(np.float32), zeroPoint=point.astype(np.int64), quantizedDimension=axis
            )
        if content is not None:
            tensor.buffer = len(self._buffers)
            self._buffers.append(Buffer(data=np.ascontiguousarray(content, numpy_type).tobytes()))
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def numbers(self, values: Sequence[int] | Sequence[Sequence[int]]) -> int:
        """Add a constant of int32: axes, paddings, sizes."""
        content = np.array(values, np.int64)  # not int32: no quantization
        return self.tensor(content.shape, "int32", content)

    def weights(self, shape: Sequence[int], dtype: str, axis: int = 0) -> int:
        """Add random weights, quantized per channel in int8."""
        if dtype == "float32":
            return self.tensor(shape, dtype, self._rng.normal(0, 0.1, shape))
        count = shape[axis]
        content = self._rng.integers(-127, 128, shape)
        return self.tensor(shape, dtype, content, (self._rng.uniform(0.005, 0.01, count), np.zeros(count)), axis)

    def bias(self, count: int, dtype: str) -> int:
        """Add a random bias, as int32 in an int8 graph."""
        if dtype == "float32":
            return self.tensor((count,), dtype, self._rng.normal(0, 0.1, count))
        content = self._rng.integers(-1000, 1000, count).astype(np.int32)
        return self.tensor((count,), "int32", content, (np.full(count, 1e-4), np.zeros(count)))

    def constant(self, shape: Sequence[int], dtype: str) -> int:
        """Add a random constant as an operand."""
        content = self._rng.normal(0, 1, shape) if dtype == "float32" else self._rng.integers(-127, 128, shape)
        return self.tensor(shape, dtype, content)

    def op(
        self,
        name: str,
        inputs: Sequence[int],
        shape: Sequence[int],
        dtype: str,
        options: Any = None,
        quantization: tuple[Any, Any] = (SCALE, POINT),
    ) -> int:
        """Add an operator with one output; return the index of that."""
        return self.ops(name, inputs, [shape], dtype, options, quantization)[0]

    def ops(
        self,
        name: str,
        inputs: Sequence[int],
        shapes: Sequence[Sequence[int]],
        dtype: str,
        options: Any = None,
        quantization: tuple[Any, Any] = (SCALE, POINT),
    ) -> list[int]:
        """Add an operator with several outputs; return their indices."""
        outputs = [self.tensor(shape, dtype, quantization=quantization) for shape in shapes]
        code = getattr(schema.BuiltinOperator, name)
        listed = schema.OperatorCodeT(builtinCode=code, deprecatedBuiltinCode=min(code, 127), version=1)
        self._codes.append(listed)
        operator = schema.OperatorT(opcodeIndex=len(self._codes) - 1)
        operator.inputs, operator.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
        if options is not None:
            operator.builtinOptions = options
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        self._operators.append(operator)
        return outputs

    def content(self, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        """Return the file."""
        graph = schema.SubGraphT(tensors=self._tensors, operators=self._operators)
        graph.inputs, graph.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
        model = schema.ModelT(version=3, subgraphs=[graph], operatorCodes=self._codes, buffers=self._buffers)
        return pack(model)


@dataclasses.dataclass(frozen=True)
class Window:
    """A kernel that moves over an image."""

    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    dilation: tuple[int, int] = (1, 1)
    same: bool = True

    def outputs(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the size of the result."""
        if self.same:
            return tuple(-(-n // self.stride) for n in size)  # type: ignore[return-value]
        spans = [d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True)]
        return tuple((n - span) // self.stride + 1 for n, span in zip(size, spans, strict=True))  # type: ignore[return-value]

    def options(self, options: Any) -> Any:
        """Fill in the options of an operator."""
        options.padding = schema.Padding.SAME if self.same else schema.Padding.VALID
        options.strideW = options.strideH = self.stride
        if hasattr(options, "dilationHFactor"):
            options.dilationHFactor, options.dilationWFactor = self.dilation
        if hasattr(options, "filterHeight"):
            options.filterHeight, options.filterWidth = self.kernel
        return options


def conv(size: tuple[int, int], channels: tuple[int, int], window: Window, dtype: str, groups: int = 1) -> bytes:
    """Return a graph of one CONV_2D."""
    graph, (inputs, outputs) = Micro(), channels
    x = graph.tensor((1, *size, inputs), dtype)
    w = graph.weights((outputs, *window.kernel, inputs // groups), dtype)
    shape = (1, *window.outputs(size), outputs)
    y = graph.op("CONV_2D", [x, w, graph.bias(outputs, dtype)], shape, dtype, window.options(schema.Conv2DOptionsT()))
    return graph.content([x], [y])


def depthwise(size: tuple[int, int], channels: int, window: Window, dtype: str) -> bytes:
    """Return a graph of one DEPTHWISE_CONV_2D."""
    graph, options = Micro(), window.options(schema.DepthwiseConv2DOptionsT())
    options.depthMultiplier = 1
    x = graph.tensor((1, *size, channels), dtype)
    w = graph.weights((1, *window.kernel, channels), dtype, axis=3)
    shape = (1, *window.outputs(size), channels)
    y = graph.op("DEPTHWISE_CONV_2D", [x, w, graph.bias(channels, dtype)], shape, dtype, options)
    return graph.content([x], [y])


def dense(rows: int, channels: tuple[int, int], dtype: str) -> bytes:
    """Return a graph of one FULLY_CONNECTED."""
    graph, (inputs, outputs) = Micro(), channels
    x = graph.tensor((rows, inputs), dtype)
    w, b = graph.weights((outputs, inputs), dtype), graph.bias(outputs, dtype)
    y = graph.op("FULLY_CONNECTED", [x, w, b], (rows, outputs), dtype, schema.FullyConnectedOptionsT())
    return graph.content([x], [y])


def binary(
    name: str,
    a: Sequence[int],
    b: Sequence[int],
    dtype: str,
    constant: bool = False,
    *,
    clamped: bool = False,
) -> bytes:
    """Return a graph of one operator of two operands, the second a constant perhaps."""
    graph = Micro()
    make = getattr(schema, f"{_camel(name)}OptionsT", lambda: None)
    options = make()
    if clamped:
        options.fusedActivationFunction = schema.ActivationFunctionType.RELU
    x = graph.tensor(a, dtype)
    z = graph.constant(b, dtype) if constant else graph.tensor(b, dtype)
    y = graph.op(name, [x, z], np.broadcast_shapes(tuple(a), tuple(b)), dtype, options)
    return graph.content([x] if constant else [x, z], [y])


def chain(*names: str) -> bytes:
    """Return a graph of operators on 16 int8 values: ADD with the input, XNNPACK's, or RELU, which is not."""
    graph = Micro()
    x = y = graph.tensor((1, 1, 1, 16), "int8")
    for name in names:
        inputs, options = ([y, x], schema.AddOptionsT()) if name == "ADD" else ([y], None)
        y = graph.op(name, inputs, (1, 1, 1, 16), "int8", options)
    return graph.content([x], [y])


def unary(name: str, shape: Sequence[int], dtypes: tuple[str, str], options: Any = None) -> bytes:
    """Return a graph of one operator that keeps the shape, from and to these types."""
    graph = Micro()
    fixed = name in ("LOGISTIC", "SOFTMAX")
    quantization = SIGMOID if fixed else (1 / 128, 0) if name == "TANH" else (SCALE, POINT)
    x = graph.tensor(shape, dtypes[0])
    y = graph.op(name, [x], shape, dtypes[1], options, quantization)
    return graph.content([x], [y])


def with_numbers(
    name: str, shape: Sequence[int], result: Sequence[int], numbers: Sequence[Any], dtype: str, options: Any = None
) -> bytes:
    """Return a graph of one operator that reads constant numbers besides: MEAN, PAD, SLICE, RESHAPE, TRANSPOSE."""
    graph = Micro()
    x = graph.tensor(shape, dtype)
    y = graph.op(name, [x, *(graph.numbers(values) for values in numbers)], result, dtype, options)
    return graph.content([x], [y])


def joined(shapes: Sequence[Sequence[int]], dtype: str, axis: int = 3) -> bytes:
    """Return a graph of one CONCATENATION."""
    graph = Micro()
    parts = [graph.tensor(shape, dtype) for shape in shapes]
    result = list(shapes[0])
    result[axis] = sum(shape[axis] for shape in shapes)
    options = schema.ConcatenationOptionsT()
    options.axis = axis
    y = graph.op("CONCATENATION", parts, result, dtype, options)
    return graph.content(parts, [y])


def parted(shape: Sequence[int], parts: int, dtype: str) -> bytes:
    """Return a graph of one SPLIT of the channels."""
    graph, options = Micro(), schema.SplitOptionsT()
    options.numSplits = parts
    x, axis = graph.tensor(shape, dtype), graph.numbers([3])
    ys = graph.ops("SPLIT", [axis, x], [(*shape[:3], shape[3] // parts)] * parts, dtype, options)
    return graph.content([x], ys)


def pool(name: str, size: tuple[int, int], channels: int, window: Window, dtype: str) -> bytes:
    """Return a graph of one MAX_POOL_2D or AVERAGE_POOL_2D."""
    graph = Micro()
    x = graph.tensor((1, *size, channels), dtype)
    y = graph.op(name, [x], (1, *window.outputs(size), channels), dtype, window.options(schema.Pool2DOptionsT()))
    return graph.content([x], [y])


def _camel(name: str) -> str:
    names = {"MAXIMUM": "MaximumMinimum", "MINIMUM": "MaximumMinimum"}
    return names.get(name, "".join(part.capitalize() for part in name.split("_")))
