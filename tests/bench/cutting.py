"""Cuts one operator out of a .tflite: a file of its own, which can be counted."""

from mixnet_tf.costs.fusion import fused_pads
from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.litert.parts import part


def cut(graph: FlatGraph, index: int) -> bytes:
    """Return a file of one operator, with the PAD that XNNPACK makes part of it."""
    writers = {graph.ops[i].outputs[0]: i for i in fused_pads(graph)}
    chosen = [*(writers[t] for t in graph.ops[index].inputs[:1] if t in writers), index]
    return part(graph, chosen, graph.ops[index].outputs)


def alike(graph: FlatGraph, index: int) -> tuple:
    """Return what two operators of equal cost have in common."""
    op = graph.ops[index]
    tensors = [t for t in (*op.inputs, *op.outputs) if t >= 0]
    options = sorted((key, str(value)) for key, value in vars(op.options).items()) if op.options is not None else []
    return op.name, *((graph.shape(t), graph.tensor(t).dtype, graph.is_constant(t)) for t in tensors), *options
