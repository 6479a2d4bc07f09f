"""Cuts one operator out of a .tflite: a file of its own, which can be counted."""

import copy

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from mixnet_tf.costs.fusion import fused_pads
from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.litert.packing import Buffer, pack


def cut(graph: FlatGraph, index: int) -> bytes:
    """Return a file of one operator, with the PAD that XNNPACK makes part of it."""
    operators, subgraph = graph.model.subgraphs[0].operators, graph.model.subgraphs[0]
    writers = {graph.ops[i].outputs[0]: i for i in fused_pads(graph)}
    chosen = [*(writers[t] for t in graph.ops[index].inputs[:1] if t in writers), index]
    ops = [graph.ops[i] for i in chosen]
    used = list(dict.fromkeys(t for op in ops for t in (*op.inputs, *op.outputs) if t >= 0))
    place = {t: i for i, t in enumerate(used)} | {-1: -1}
    tensors, buffers = [], [Buffer(data=None)]
    for t in used:
        tensor = copy.copy(subgraph.tensors[t])
        data = graph.model.buffers[tensor.buffer].data
        tensor.buffer = 0
        if data is not None:
            tensor.buffer = len(buffers)
            buffers.append(Buffer(data=data))
        tensors.append(tensor)
    cut_ops = []
    for i in chosen:
        operator = copy.copy(operators[i])
        operator.inputs = np.array([place[t] for t in graph.ops[i].inputs], np.int32)
        operator.outputs = np.array([place[t] for t in graph.ops[i].outputs], np.int32)
        cut_ops.append(operator)
    written = {t for op in ops for t in op.outputs}
    part = schema.SubGraphT(tensors=tensors, operators=cut_ops)
    sources = dict.fromkeys(
        t for op in ops for t in op.inputs if t >= 0 and not graph.is_constant(t) and t not in written
    )
    part.inputs = np.array([place[t] for t in sources], np.int32)
    part.outputs = np.array([place[t] for t in ops[-1].outputs], np.int32)
    codes = graph.model.operatorCodes
    return pack(schema.ModelT(version=3, subgraphs=[part], operatorCodes=codes, buffers=buffers))


def alike(graph: FlatGraph, index: int) -> tuple:
    """Return what two operators of equal cost have in common."""
    op = graph.ops[index]
    tensors = [t for t in (*op.inputs, *op.outputs) if t >= 0]
    options = sorted((key, str(value)) for key, value in vars(op.options).items()) if op.options is not None else []
    return op.name, *((graph.shape(t), graph.tensor(t).dtype, graph.is_constant(t)) for t in tensors), *options
