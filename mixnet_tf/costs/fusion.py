"""Operators that XNNPACK makes part of another one: they cost nothing by themselves.

Given: PAD → CONV_2D, both read once. Result: CONV_2D with a padding.
Given: CONV_2D → RELU6 in float32. Result: CONV_2D that clamps.
Given: x → LOGISTIC → MUL with x, in int8. Result: one table of 256 values.
"""

from collections.abc import Mapping, Sequence

from mixnet_tf.litert.flatgraph import FlatGraph, Op
from mixnet_tf.litert.neighbours import readers, writers

_CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")
_CLAMPS = ("RELU", "RELU6", "RELU_N1_TO_1")
_TABLES = ("LOGISTIC", "TANH")
"""Functions of one int8 value that XNNPACK computes by a table."""


def fused_pads(graph: FlatGraph) -> set[int]:
    """Return the indices of the PADs that are part of the one convolution that reads them."""
    reading = readers(graph)
    return {i for i, op in enumerate(graph.ops) if op.name == "PAD" and _is_fused_pad(graph, op, reading)}


def fused_followers(graph: FlatGraph) -> set[int]:
    """Return the indices of the operators that are part of the one before them."""
    reading, writing = readers(graph), writers(graph)
    return {
        i
        for i, op in enumerate(graph.ops)
        if _is_fused_clamp(graph, op, reading, writing) or _is_fused_table(graph, op, reading, writing)
    }


def _is_read_once(graph: FlatGraph, index: int, reading: Mapping[int, Sequence[Op]]) -> bool:
    return len(reading.get(index, ())) == 1 and index not in graph.outputs


def _is_fused_pad(graph: FlatGraph, op: Op, reading: Mapping[int, Sequence[Op]]) -> bool:
    if not _is_read_once(graph, op.outputs[0], reading) or not graph.is_constant(op.inputs[1]):
        return False
    (reader,), pads = reading[op.outputs[0]], graph.constant(op.inputs[1])
    only_image = pads.shape == (4, 2) and not pads[[0, 3]].any()
    return only_image and reader.name in _CONVOLUTIONS and reader.options.padding == 1  # VALID


def _is_fused_clamp(graph: FlatGraph, op: Op, reading: Mapping[int, Sequence[Op]], writing: Mapping[int, Op]) -> bool:
    if op.name not in _CLAMPS or op.inputs[0] not in writing or graph.tensor(op.inputs[0]).dtype != "float32":
        return False
    maker = writing[op.inputs[0]]
    convolves = maker.name in (*_CONVOLUTIONS, "FULLY_CONNECTED") and not maker.options.fusedActivationFunction
    return convolves and _is_read_once(graph, op.inputs[0], reading)


def _is_fused_table(graph: FlatGraph, op: Op, reading: Mapping[int, Sequence[Op]], writing: Mapping[int, Op]) -> bool:
    """Say whether an operator computes a value from x and a function of x, both int8."""
    if op.name not in ("ADD", "MUL", "SUB") or {graph.tensor(index).dtype for index in op.inputs} != {"int8"}:
        return False
    for x, index in (op.inputs, op.inputs[::-1]):
        maker = writing.get(index)
        if maker and maker.name in _TABLES and maker.inputs[0] == x:
            return _is_read_once(graph, index, reading)
    return False
