"""A part of a graph as a file of its own: some of its operators, with what they read and nothing else."""

import copy
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.litert.packing import Buffer, pack


def ops_before(graph: FlatGraph, tensors: Collection[int], given: Collection[int] = ()) -> list[int]:
    """Return the positions of the operators that computing `tensors` takes, in the order in which they run.

    Args:
        graph: not changed.
        tensors: indices of computed ones.
        given: indices of tensors that need not be computed.
    """
    wanted, positions = set(tensors) - set(given), []
    for position in reversed(range(len(graph.ops))):
        op = graph.ops[position]
        if wanted & set(op.outputs):
            positions.append(position)
            wanted |= set(op.inputs) - set(given)
    return positions[::-1]


def sources(graph: FlatGraph, positions: Sequence[int]) -> list[int]:
    """Return the tensors that operators read and none of them writes, but for constants: the inputs of their part."""
    ops = [graph.ops[position] for position in positions]
    written = {index for op in ops for index in op.outputs}
    read = dict.fromkeys(index for op in ops for index in op.inputs if index >= 0 and index not in written)
    return [index for index in read if not graph.is_constant(index)]


def part(graph: FlatGraph, positions: Sequence[int], outputs: Sequence[int]) -> bytes:
    """Return a file without a signature: some operators, from their ``sources`` to `outputs`.

    Args:
        graph: not changed.
        positions: of the operators, in their order.
        outputs: indices of tensors that they write.
    """
    ops = [graph.ops[position] for position in positions]
    used = list(dict.fromkeys(index for op in ops for index in (*op.inputs, *op.outputs) if index >= 0))
    place = {index: i for i, index in enumerate(used)} | {-1: -1}
    buffers = [Buffer(data=None)]

    def places(indices: Sequence[int]) -> np.ndarray:
        return np.array([place[index] for index in indices], np.int32)

    def moved(owner: Any) -> Any:
        """Return a tensor, or an entry of the metadata, whose content is among the buffers of the part."""
        owner, buffer = copy.copy(owner), graph.model.buffers[owner.buffer]
        owner.buffer = 0 if buffer.data is None else len(buffers)
        buffers.extend([] if buffer.data is None else [buffer])
        return owner

    operators = [copy.copy(graph.model.subgraphs[0].operators[position]) for position in positions]
    for operator, op in zip(operators, ops, strict=True):
        operator.inputs, operator.outputs = places(op.inputs), places(op.outputs)
    subgraph = schema.SubGraphT(
        tensors=[moved(graph.tensors[index]) for index in used],
        operators=operators,
        inputs=places(sources(graph, positions)),
        outputs=places(outputs),
    )
    return pack(
        schema.ModelT(
            version=graph.model.version,
            operatorCodes=graph.model.operatorCodes,
            subgraphs=[subgraph],
            metadata=[moved(entry) for entry in graph.model.metadata or []],
            buffers=buffers,
        )
    )


def up_to(graph: FlatGraph, tensors: Sequence[int]) -> bytes:
    """Return a file without a signature whose outputs are `tensors`, with the operators that computing them takes."""
    return part(graph, ops_before(graph, tensors), tensors)
