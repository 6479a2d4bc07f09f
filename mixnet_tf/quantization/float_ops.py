"""Operators that an int8 file computes in float32, between a DEQUANTIZE and a QUANTIZE.

``HARD_SWISH`` is in float because that is faster: LiteRT's delegate has no int8 kernel for it. MobileNetV3-Small at
64 px needs 1.62 in place of 2.21 million instructions on a Cortex-A76 so, and half the time on x86.

What leads to a ``RSQRT``, and what it multiplies, is the inside of a layer norm. The delegate has no int8 kernel for it
either, and a variance that differs by orders of magnitude from position to position does not fit 8 bits.
"""

from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.litert.neighbours import readers

_FASTER = ("HARD_SWISH",)
_BETWEEN = ("MEAN", "ADD", "SUB", "MUL", "SQUARED_DIFFERENCE")
"""What joins float operators behind it: a value that only they read is not rounded in between."""


def float_outputs(graph: FlatGraph) -> list[str]:
    """Return the names of what these operators compute, in graph order.

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
    return [graph.name(op.outputs[0]) for op in graph.ops if op.outputs and op.outputs[0] in chosen]
