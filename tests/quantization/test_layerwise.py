"""A layer at a time: the tensors are those of the whole graph, whatever changed on the way to them."""

import numpy as np
import pytest

from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.litert.neighbours import convolutions
from mixnet_tf.litert.packing import pack
from mixnet_tf.litert.runtime import LiteModel
from mixnet_tf.quantization import layerwise
from mixnet_tf.quantization.backends import to_int8
from mixnet_tf.quantization.layerwise import LayerwiseRun
from mixnet_tf.quantization.ranges import measure_extremes, measure_ranges


class Counted(list):
    """Images that count how often they are read."""

    passes = 0

    def __iter__(self):
        self.passes += 1
        return super().__iter__()


def whole(graph: FlatGraph, image: np.ndarray, index: int) -> np.ndarray:
    """Return a tensor in float, given out by a graph that is otherwise whole."""
    twin = FlatGraph(graph.content())
    twin.model.subgraphs[0].outputs, twin.model.signatureDefs = np.array([index], np.int32), None
    (value,) = LiteModel(pack(twin.model)).run(image)
    return value


@pytest.fixture
def int8(tiny, patches) -> FlatGraph:
    """Stem; expand, project, add; expand, project, add; last: eight operators."""
    graph = tiny("residual")
    ranges = measure_ranges(graph, measure_extremes(graph, patches), patches, "minmax")[0]
    return to_int8(graph, ranges, "litert-quantizer")


@pytest.mark.parametrize("most_kept", [2**29, 0, 400])
def test_every_layer_sees_the_constants_as_they_are_then(int8, patches, monkeypatch, most_kept):
    monkeypatch.setattr(layerwise, "MOST_KEPT", most_kept)
    images = Counted(patches)
    run = LayerwiseRun(int8, images)
    for op in list(convolutions(int8)):
        (index,) = op.outputs
        values = [value for (value,) in run.values([index])]
        for image, value in zip(patches, values, strict=True):
            np.testing.assert_array_equal(value, whole(int8, image, index))
        # by dozens of the steps in which the output is seen, which no later layer may miss
        bias = int8.constant(op.inputs[2])
        int8.set_constant(op, 2, bias + np.arange(1, len(bias) + 1, dtype=np.int32) * 2000)
    assert images.passes == {2**29: 1, 0: 6}.get(most_kept, images.passes)


def test_what_is_kept_is_not_computed_again(int8, patches, monkeypatch):
    """The first layer is the stem; each later one begins with the convolution before it."""
    lengths = []
    original = layerwise.part
    monkeypatch.setattr(
        layerwise, "part", lambda graph, ops, outputs: lengths.append(len(ops)) or original(graph, ops, outputs)
    )
    run = LayerwiseRun(int8, patches)
    for op in convolutions(int8):
        list(run.values(op.outputs))
    assert len(lengths) == 6 and max(lengths) <= 4
    assert sum(lengths) <= 2 * len(int8.ops)
