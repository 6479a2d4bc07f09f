"""What must hold of a ``.tflite`` before LiteRT reads it: its kernels trust indices, sizes and options as they are."""

import math
import re
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from mixnet_tf.errors import DeployError

LARGEST = 2**30
"""Bytes of a tensor, and of all that one operator reads and writes."""

_MAX_RANK = 8
_NEEDY = (
    "CONV_2D",
    "DEPTHWISE_CONV_2D",
    "TRANSPOSE_CONV",
    "CONV_3D",
    "AVERAGE_POOL_2D",
    "MAX_POOL_2D",
    "SPLIT",
    "WHILE",
)
"""Operators that divide by what their options say, or call it."""

_ALIKE = {
    "Pool2D": ("AVERAGE_POOL_2D", "MAX_POOL_2D", "L2_POOL_2D"),
    "Reducer": ("MEAN", "SUM", "REDUCE_PROD", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_ANY", "REDUCE_ALL"),
    "MaximumMinimum": ("MAXIMUM", "MINIMUM"),
    "L2Norm": ("L2_NORMALIZATION",),
}
"""Options that are not called as their operators are."""

_POSITIVE = dict.fromkeys(
    (
        *("strideW", "strideH", "strideD", "dilationWFactor", "dilationHFactor", "dilationDFactor"),
        *("filterWidth", "filterHeight", "blockSize", "numSplits"),
    ),
    range(1, 2**16),
)
_CHOICES = _POSITIVE | {"padding": range(2), "fusedActivationFunction": range(6)}
_CALLS = (
    *("subgraph", "thenSubgraphIndex", "elseSubgraphIndex", "condSubgraphIndex", "bodySubgraphIndex"),
    *("initSubgraphIndex", "comparatorSubgraphIndex", "updateComputationSubgraphIndex", "decompositionSubgraphIndex"),
)
_OPTIONAL = {"CONV_2D": 2, "DEPTHWISE_CONV_2D": 2, "FULLY_CONNECTED": 2, "TRANSPOSE_CONV": 3, "CONV_3D": 2}
"""The first input that an operator can do without."""

_FEWEST = {
    4: "ONE_HOT SPARSE_TO_DENSE STRIDED_SLICE",
    3: (
        "BATCH_TO_SPACE_ND DYNAMIC_UPDATE_SLICE PADV2 RANGE SCATTER_ND SELECT SELECT_V2 SLICE SPACE_TO_BATCH_ND "
        "SPLIT_V TRANSPOSE_CONV"
    ),
    2: (
        "ADD ARG_MAX ARG_MIN ATAN2 BATCH_MATMUL BITWISE_XOR BROADCAST_TO CONV_2D CONV_3D CUMSUM DEPTHWISE_CONV_2D DIV "
        "EMBEDDING_LOOKUP EQUAL EXPAND_DIMS FILL FLOOR_DIV FLOOR_MOD FULLY_CONNECTED GATHER GATHER_ND GREATER "
        "GREATER_EQUAL LESS LESS_EQUAL LOGICAL_AND LOGICAL_OR MAXIMUM MEAN MINIMUM MIRROR_PAD MUL NOT_EQUAL PAD POW "
        "PRELU REDUCE_ALL REDUCE_ANY REDUCE_MAX REDUCE_MIN REDUCE_PROD RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR "
        "REVERSE_SEQUENCE REVERSE_V2 RIGHT_SHIFT SPLIT SQUARED_DIFFERENCE SUB SUM TILE TOPK_V2 TRANSPOSE"
    ),
}
_FEWEST_INPUTS = {name: count for count, names in _FEWEST.items() for name in names.split()}
"""How many inputs an operator has at least: XNNPACK looks at them before LiteRT counts them."""

_MANY_OPTIONAL = re.compile("LSTM|RNN|SVDF|CUSTOM|STABLEHLO|CALL")


def _codes(enum: type) -> dict[str, int]:
    return {name: code for name, code in vars(enum).items() if isinstance(code, int)}


def _bits(name: str) -> int:
    """Return the bits of a value of a type, 0 where the type does not say."""
    size = re.search(r"\d+", name)
    return int(size[0]) if size else 8 * (name == "BOOL")


def _option_types() -> dict[int, int]:
    """Return the code of the options that an operator has, where its name says so."""
    types = {name.removesuffix("Options").lower(): code for name, code in _codes(schema.BuiltinOptions).items()}
    alike = {name: options.lower() for options, names in _ALIKE.items() for name in names}
    names = {code: alike.get(name, name.replace("_", "").lower()) for code, name in OP_NAMES.items()}
    return {code: types[name] for code, name in names.items() if name in types}


OP_NAMES = {code: name for name, code in _codes(schema.BuiltinOperator).items()}
TYPE_NAMES = {code: name for name, code in _codes(schema.TensorType).items()}
_TYPE_BITS = {code: _bits(name) for code, name in TYPE_NAMES.items()}
_POINTS = {
    code: range(-(2 ** (_bits(name) - 1)), 2 ** (_bits(name) - 1)) if name[0] == "I" else range(2 ** _bits(name))
    for code, name in TYPE_NAMES.items()
    if re.fullmatch("U?INT(2|4|8|16|32)", name)
}
"""Zero points that a type can hold."""

_OPTION_TYPES = _option_types()
_OPTION_NAMES = {code: name for name, code in _codes(schema.BuiltinOptions).items()}


def builtin_code(listed: Any) -> int:
    """Return the code of an operator's kind as a file lists it: old files have the smaller field alone."""
    return max(listed.builtinCode, listed.deprecatedBuiltinCode)


def default_options(code: int) -> Any:
    """Return the options, in LiteRT's schema, of an operator for which a file gives none, or None."""
    return getattr(schema, f"{_OPTION_NAMES[_OPTION_TYPES[code]]}T")() if code in _OPTION_TYPES else None


def verify(model: Any, where: str) -> None:
    """Refuse a file whose tables contradict one another, or ask for more than there is.

    Args:
        model: in LiteRT's schema; its buffers hold bytes or None.
        where: the file's name, for messages.

    Raises:
        DeployError: says what is wrong first.
    """
    for problem in _problems(model):
        raise DeployError(f"{where}: damaged .tflite: {problem}")


def _problems(model: Any) -> Iterator[str]:
    yield from _code_problems(model)
    if model.buffers and model.buffers[0].data:
        yield "buffer 0 has content, expected none"
    for number, graph in enumerate(model.subgraphs):
        prefix = f"subgraph {number}: " if number else ""
        for problem in _Graph(model, graph).problems():
            yield prefix + problem
    for entry in model.metadata or []:
        yield from _text_problems("metadata", entry.name)
        if not 0 <= entry.buffer < len(model.buffers):
            yield f"metadata lies in buffer {entry.buffer}, expected one of {len(model.buffers)}"
    yield from _signature_problems(model)


def _code_problems(model: Any) -> Iterator[str]:
    for i, code in enumerate(model.operatorCodes or []):
        if builtin_code(code) not in OP_NAMES:
            yield f"operator code {i} is {code.builtinCode}, which LiteRT does not have"
        yield from _text_problems(f"operator code {i}", code.customCode)


def _signature_problems(model: Any) -> Iterator[str]:
    for signature in model.signatureDefs or []:
        yield from _text_problems("a signature", signature.signatureKey)
        if not 0 <= signature.subgraphIndex < len(model.subgraphs):
            yield f"a signature of subgraph {signature.subgraphIndex}, expected one of {len(model.subgraphs)}"
            return
        count = len(model.subgraphs[signature.subgraphIndex].tensors or [])
        for entry in [*(signature.inputs or []), *(signature.outputs or [])]:
            yield from _text_problems("a signature", entry.name)
            if not 0 <= entry.tensorIndex < count:
                yield f"a signature names tensor {entry.tensorIndex}, expected one of {count}"


def _text_problems(place: str, text: bytes | None) -> Iterator[str]:
    try:
        _ = (text or b"").decode()
    except UnicodeDecodeError:
        yield f"{place}: a name that is not UTF-8"


class _Graph:
    """One subgraph of a model."""

    def __init__(self, model: Any, graph: Any):
        self._model, self._graph, self._tensors = model, graph, graph.tensors or []
        self._bytes: list[int] = []

    def problems(self) -> Iterator[str]:
        """Yield what is wrong; what comes later is not looked at where something is."""
        for i, tensor in enumerate(self._tensors):
            for problem in self._tensor_problems(tensor):
                yield f"tensor {i}: {problem}"
            yield from _text_problems(f"tensor {i}", tensor.name)
        for side in ("inputs", "outputs"):
            for index in _list(getattr(self._graph, side)):
                if not 0 <= index < len(self._tensors):
                    yield f"its {side} name tensor {index}, expected one of {len(self._tensors)}"
        yield from self._flow_problems()

    def _tensor_problems(self, tensor: Any) -> Iterator[str]:
        shape, signature = _list(tensor.shape), _list(tensor.shapeSignature)
        if tensor.type not in TYPE_NAMES:
            yield f"type {tensor.type}, which LiteRT does not have"
            return
        if len(shape) > _MAX_RANK or min(shape, default=0) < 0:
            yield f"shape {shape[: _MAX_RANK + 1]}, expected at most {_MAX_RANK} sizes from 0"
        if signature and (len(signature) != len(shape) or min(signature) < -1):
            yield f"shape signature {signature[: _MAX_RANK + 1]} of shape {shape}"
        size = (math.prod(shape) * (_TYPE_BITS[tensor.type] or 8) + 7) // 8
        self._bytes.append(size)
        if size > LARGEST:
            yield f"shape {shape} of {TYPE_NAMES[tensor.type].lower()}, expected at most {LARGEST} bytes"
        yield from self._content_problems(tensor, size)
        if tensor.quantization is not None:
            yield from _quantization_problems(tensor.quantization, tensor.type, shape)

    def _content_problems(self, tensor: Any, size: int) -> Iterator[str]:
        if not 0 <= tensor.buffer < len(self._model.buffers):
            yield f"buffer {tensor.buffer}, expected one of {len(self._model.buffers)}"
            return
        content = self._model.buffers[tensor.buffer].data
        if content and tensor.isVariable:
            yield "a variable with content"
        elif content and tensor.sparsity is None:
            if TYPE_NAMES[tensor.type] == "STRING":
                yield from _string_problems(content, math.prod(_list(tensor.shape)))
            elif _TYPE_BITS[tensor.type] and len(content) != size:
                yield f"{len(content)} bytes of content, expected {size}"

    def _flow_problems(self) -> Iterator[str]:
        """Follow the operators: each reads what is there already, and writes what nothing else has written."""
        filled = {i for i, tensor in enumerate(self._tensors) if self._model.buffers[tensor.buffer].data}
        filled |= set(_list(self._graph.inputs))
        empty = {i for i, size in enumerate(self._bytes) if not size or self._tensors[i].isVariable}
        for i, op in enumerate(self._graph.operators or []):
            problem = self._op_problem(op, filled, empty)
            if problem:
                yield f"operator {i}{problem}"
                return
            filled |= set(_list(op.outputs))
        for index in _list(self._graph.outputs):
            if index not in filled | empty:
                yield f"output {index} is written by no operator"

    def _op_problem(self, op: Any, filled: set[int], empty: set[int]) -> str | None:
        codes = self._model.operatorCodes or []
        if not 0 <= op.opcodeIndex < len(codes):
            return f" has code {op.opcodeIndex}, expected one of {len(codes)}"
        code = builtin_code(codes[op.opcodeIndex])
        name, inputs, outputs = OP_NAMES[code], _list(op.inputs), _list(op.outputs)
        problem = (
            self._input_problem(name, inputs, filled | empty)
            or self._output_problem([*outputs, *_list(op.intermediates)], outputs, filled)
            or self._options_problem(op, code, name)
        )
        if problem is None and sum(self._bytes[index] for index in {*inputs, *outputs} - {-1}) > LARGEST:
            problem = f"reads and writes more than {LARGEST} bytes"
        return f" ({name}) {problem}" if problem else None

    def _input_problem(self, name: str, inputs: list[int], there: set[int]) -> str | None:
        count = len(self._tensors)
        if len(inputs) < (fewest := _FEWEST_INPUTS.get(name, 0)):
            return f"has {len(inputs)} inputs, expected {fewest}"
        optional = 0 if _MANY_OPTIONAL.search(name) else _OPTIONAL.get(name, len(inputs))
        for position, index in enumerate(inputs):
            if index == -1 and position >= optional:
                continue
            if not 0 <= index < count:
                return f"reads tensor {index}, expected one of {count}"
            if index not in there:
                return f"reads tensor {index}, which nothing has written"
        return None

    def _output_problem(self, written: list[int], outputs: list[int], filled: set[int]) -> str | None:
        count = len(self._tensors)
        for index in written:
            if not 0 <= index < count:
                return f"writes tensor {index}, expected one of {count}"
        if filled.intersection(outputs) or len(set(outputs)) < len(outputs):
            return f"writes tensor {min(filled.intersection(outputs), default=outputs[0])} once more"
        return None

    def _options_problem(self, op: Any, code: int, name: str) -> str | None:
        wanted = _OPTION_TYPES.get(code)
        if wanted is not None and op.builtinOptionsType not in ((wanted,) if name in _NEEDY else (0, wanted)):
            return f"has options of kind {op.builtinOptionsType}, expected {wanted}"
        for options in (op.builtinOptions, op.builtinOptions2):
            for field, value in vars(options).items() if options is not None else ():
                if isinstance(value, int) and value not in _CHOICES.get(field, (value,)):
                    return f"has {field} {value}"
                if field in _CALLS and not 0 <= value < len(self._model.subgraphs):
                    return f"calls subgraph {value}, expected one of {len(self._model.subgraphs)}"
        return None


def _quantization_problems(quantization: Any, kind: int, shape: list[int]) -> Iterator[str]:
    scales, points = _list(quantization.scale), _list(quantization.zeroPoint)
    if not scales:
        return
    if not all(0 < scale < math.inf for scale in scales):
        yield "a scale that is not positive and finite"
    if len(points) not in (1, len(scales)):
        yield f"{len(scales)} scales and {len(points)} zero points"
    limits = _POINTS.get(kind)
    if limits and points and not limits[0] <= min(points) <= max(points) <= limits[-1]:
        yield f"a zero point outside {TYPE_NAMES[kind].lower()}"
    axis = quantization.quantizedDimension
    if len(scales) > 1 and not (0 <= axis < len(shape) and shape[axis] == len(scales)):
        yield f"{len(scales)} scales along axis {axis} of shape {shape}"


def _string_problems(content: bytes, count: int) -> Iterator[str]:
    """Check a tensor of texts: their number, where each begins and the last ends, in int32, and the texts."""
    head = np.frombuffer(content[: len(content) // 4 * 4], np.int32)
    starts = head[1 : count + 2]
    if not head.size or head[0] != count or starts.size != count + 1:
        yield f"not the content of {count} texts"
    elif starts[0] != 4 * (count + 2) or (np.diff(starts) < 0).any() or starts[-1] > len(content):
        yield "texts that do not follow one another"


def _list(values: Iterable[Any] | None) -> list[Any]:
    """Return a vector of the schema as Python's numbers."""
    if values is None:
        return []
    return values.tolist() if isinstance(values, np.ndarray) else list(values)


def check_counts(content: bytes) -> None:
    """Refuse a file that names its tables so often that reading them all would take for ever."""
    model = schema.Model.GetRootAs(content, 0)
    graphs = [model.Subgraphs(i) for i in range(model.SubgraphsLength())]
    counts = [model.BuffersLength(), *(graph.TensorsLength() + graph.OperatorsLength() for graph in graphs)]
    if 8 * sum(counts) > len(content):  # a table and its place in a vector have 4 bytes each, or more
        raise ValueError("tables are shared")
