"""Which operators of a graph read and write a tensor, which of them are convolutions, and what outputs are called."""

import collections
from collections.abc import Iterator

from mixnet_tf.litert.flatgraph import FlatGraph, Op


def readers(graph: FlatGraph) -> dict[int, list[Op]]:
    """Return the operators that read each tensor."""
    readers_of: dict[int, list[Op]] = collections.defaultdict(list)
    for op in graph.ops:
        for index in op.inputs:
            readers_of[index].append(op)
    return readers_of


def writers(graph: FlatGraph) -> dict[int, Op]:
    """Return the operator that writes each computed tensor."""
    return {index: op for op in graph.ops for index in op.outputs}


def convolutions(graph: FlatGraph) -> Iterator[Op]:
    """Yield the operators with a constant kernel and a constant bias, in graph order."""
    for op in graph.ops:
        named = op.name in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
        if named and len(op.inputs) == 3 and op.inputs[2] >= 0 and graph.is_constant(op.inputs[1]):
            yield op


def output_names(graph: FlatGraph) -> tuple[str, ...]:
    """Return what the outputs are called in the signature, else the names of their tensors, in the graph's order."""
    entries = [entry for signature in graph.model.signatureDefs or [] for entry in signature.outputs or []]
    named = {entry.tensorIndex: entry.name.decode() for entry in entries if entry.name}
    return tuple(named.get(index, graph.name(index)) for index in graph.outputs)
