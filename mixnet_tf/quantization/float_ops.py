"""Operators that an int8 file computes in float32, between a DEQUANTIZE and a QUANTIZE.

Blocks that are left in float32 are found by the graph: the names of tensors say where a block ends, and the graph what
belongs to it. So nothing between two of them is rounded, whatever it is called.

``HARD_SWISH`` is in float because that is faster: LiteRT's delegate has no int8 kernel for it. MobileNetV3-Small at
64 px needs 1.62 in place of 2.21 million instructions on a Cortex-A76 so, and half the time on x86.

What leads to a ``RSQRT``, and what it multiplies, is the inside of a layer norm. The delegate has no int8 kernel for it
either, and a variance that differs by orders of magnitude from position to position does not fit 8 bits.
"""

from mixnet_tf.layers import block_of
from mixnet_tf.litert.flatgraph import FlatGraph, Op
from mixnet_tf.litert.neighbours import output_names, readers

HEAD = "head"
"""What follows the last block."""

_FASTER = ("HARD_SWISH",)
_BETWEEN = ("MEAN", "ADD", "SUB", "MUL", "SQUARED_DIFFERENCE")
"""What joins float operators behind it: a value that only they read is not rounded in between."""


def float_ops(graph: FlatGraph) -> list[Op]:
    """Return the operators that are better off in float32, in graph order.

    Given, a layer norm of the deploy graph::

        x (1, h, w, c) → MEAN (1, h, w, 1) → SUB from x (1, h, w, c) → MUL with itself → MEAN (1, h, w, 1) → ADD epsilon
        → RSQRT (1, h, w, 1) → MUL with the difference (1, h, w, c) → CONV_2D

    Result: all of them but the convolution; and the sum of pieces that x is, but not the pieces.
    """
    reading = readers(graph)
    chosen = {op.outputs[0] for op in graph.ops if op.name in (*_FASTER, "RSQRT")}
    chosen |= {reader.outputs[0] for op in graph.ops if op.name == "RSQRT" for reader in reading.get(op.outputs[0], [])}
    for op in reversed(graph.ops):
        outputs = [reader.outputs[0] for reader in reading.get(op.outputs[0], [])] if op.outputs else []
        if outputs and op.name in _BETWEEN and chosen.issuperset(outputs):
            chosen.add(op.outputs[0])
    return [op for op in graph.ops if chosen.intersection(op.outputs)]


def parts(graph: FlatGraph) -> dict[str, list[Op]]:
    """Return the operators of every block of this package's models, and of the head, in graph order.

    Every operator is of the first block that needs it; what no block needs is the head.

    Given::

        image → normalization → stem/conv → SLICE → block1/conv0 → block1/join → last_conv → MEAN → FULLY_CONNECTED
                                         ↘ SLICE → block1/conv1 ↗

    Result: ``{"stem": [normalization, stem/conv], "block1": [SLICE, block1/conv0, SLICE, block1/conv1, block1/join],
    "last_conv": [last_conv], "head": [MEAN, FULLY_CONNECTED]}``. Empty where nothing is called like a block.
    """
    outputs = dict(zip(graph.outputs, output_names(graph), strict=True))  # whose tensors the converter names anew
    named = {
        op.outputs: block_of(outputs.get(op.outputs[0], "")) or block_of(graph.name(op.outputs[0])) for op in graph.ops
    }
    names = [*dict.fromkeys(block for block in named.values() if block), HEAD]
    if names == [HEAD]:
        return {}
    reading, first = readers(graph), dict[tuple[int, ...], int]()
    for op in reversed(graph.ops):
        needed_by = [first[reader.outputs] for index in op.outputs for reader in reading.get(index, [])]
        first[op.outputs] = min([*needed_by, names.index(named[op.outputs] or HEAD)])
    blocks = {name: [op for op in graph.ops if first[op.outputs] == place] for place, name in enumerate(names)}
    return {name: ops for name, ops in blocks.items() if ops}
