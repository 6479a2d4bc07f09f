"""A graph that is run a layer at a time: what no later change reaches is computed once, and kept."""

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.litert.parts import ops_before, part, sources
from mixnet_tf.litert.runtime import LiteModel
from mixnet_tf.quantization.types import Images

MOST_KEPT = 2**29
"""Bytes of tensors to keep. Where a layer's are more, the next one starts from where this one did."""


class LayerwiseRun:
    """Runs a graph up to one layer after the other, in the order of its operators.

    Args:
        graph: between two layers, the operators that write the last one's tensors may change, in place.
        images: read until tensors are kept.
    """

    def __init__(self, graph: FlatGraph, images: Images):
        self._graph, self._images = graph, images
        self._settled: set[int] = set()  # positions of the operators that need not run again
        self._kept: list[int] = []
        self._states: list[dict[int, np.ndarray]] = []  # the kept tensors of every image

    def values(self, tensors: Sequence[int]) -> Iterator[list[np.ndarray]]:
        """Yield the tensors of a layer in float, image by image; to be read to the end.

        Args:
            tensors: computed by operators that do not read each other, and that no layer so far has reached.
        """
        graph = self._graph
        positions = ops_before(graph, tensors, self._kept)
        settled = self._settled | {i for i in positions if not set(graph.ops[i].outputs) & set(tensors)}
        kept = self._to_keep(positions, settled)
        if self._size(kept) > MOST_KEPT:
            settled, kept = self._settled, self._kept
        computed = [index for index in kept if index not in (*self._kept, *graph.inputs)]
        model = LiteModel(part(graph, positions, [*tensors, *computed]), num_threads=2)
        inputs, states = sources(graph, positions), []
        for state in self._states if self._kept else self._first_states(model):
            outputs = model.run_arrays([state[index] for index in inputs])
            known = {**state, **dict(zip(computed, outputs[len(tensors) :], strict=True))}
            states.append({index: known[index] for index in kept})
            yield model.decoded(outputs[: len(tensors)])
        self._settled, self._kept, self._states = settled, kept, states

    def _first_states(self, model: LiteModel) -> Iterable[dict[int, np.ndarray]]:
        (index,) = self._graph.inputs
        return ({index: model.encoded(image)} for image in self._images)

    def _to_keep(self, positions: Sequence[int], settled: set[int]) -> list[int]:
        """Return the tensors, known once the operators at `positions` ran, that one that is not settled reads."""
        ops = self._graph.ops
        known = {
            *self._graph.inputs,
            *self._kept,
            *(index for i in positions if i in settled for index in ops[i].outputs),
        }
        later = {index for i, op in enumerate(ops) if i not in settled for index in op.inputs}
        return sorted(known & later)

    def _size(self, tensors: Sequence[int]) -> int:
        """Return the bytes of tensors for all images."""
        kinds = [(self._graph.shape(index), np.dtype(self._graph.tensor(index).dtype)) for index in tensors]
        return len(self._images) * sum(math.prod(shape) * kind.itemsize for shape, kind in kinds)
