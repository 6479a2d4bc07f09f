"""Bias correction: what the mean of every channel must come out as, by numpy."""

import numpy as np
import pytest

from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.litert.neighbours import convolutions
from mixnet_tf.litert.runtime import LiteModel
from mixnet_tf.quantization.backends import to_int8, weights_to_int8
from mixnet_tf.quantization.bias_correction import _by_depth, correct_biases
from mixnet_tf.quantization.ranges import measure_extremes, measure_ranges


def quantized(graph: FlatGraph, images: list) -> FlatGraph:
    ranges = measure_ranges(graph, measure_extremes(graph, images), images, "minmax")[0]
    return to_int8(graph, ranges, "litert-quantizer")


def channel_means(graph: FlatGraph, name: str, images: list) -> np.ndarray:
    """Return the means (images, channels) of the tensor of this name, off LiteRT's own kernels."""
    model = LiteModel(graph.content(), kernels="builtin", keep_tensors=True)
    index = next(i for i in range(len(graph.tensors)) if graph.name(i) == name)
    info, rows = graph.tensor(index), []
    for image in images:
        model.run(image)
        value = model.value(index).astype(np.float64)
        value = value if info.scale is None else (value - info.zero_point) * info.scale
        rows.append(value.reshape(-1, value.shape[-1]).mean(axis=0))
    return np.array(rows)


def bias(graph: FlatGraph, position: int) -> np.ndarray:
    return graph.constant(list(convolutions(graph))[position].inputs[2])


@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_bias_that_is_wrong_is_put_right(tiny, patches, position):
    graph = tiny("concat")
    right, wrong = quantized(graph, patches), quantized(graph, patches)
    op = list(convolutions(wrong))[position]
    step = np.asarray(wrong.tensors[op.inputs[2]].quantization.scale)
    coarse = graph_step(wrong, op.outputs[0])  # its output is seen in such steps only
    moved = np.round(5 * coarse / step).astype(np.int32)
    wrong.set_constant(op, 2, wrong.constant(op.inputs[2]) + moved)
    for made in (right, wrong):
        correct_biases(made, graph, patches)
    assert (np.abs(bias(wrong, position) - bias(right, position)) * step < coarse).all()


def graph_step(graph: FlatGraph, index: int) -> float:
    scale = graph.tensor(index).scale
    assert scale is not None
    return scale


def test_the_shift_is_the_mean_error_weighted_by_inverse_power(tiny, patches):
    """Of the first convolution, whose input no other correction changes."""
    graph, int8 = tiny("concat"), quantized(tiny("concat"), patches)
    op = next(convolutions(int8))
    name, step = int8.name(op.outputs[0]), np.asarray(int8.tensors[op.inputs[2]].quantization.scale)
    model = LiteModel(graph.content(), kernels="builtin", keep_tensors=True)
    power = []
    for image in patches:
        model.run(image)
        index = next(i for i in range(len(graph.tensors)) if graph.name(i) == name)
        power.append(np.square(model.value(index).astype(np.float64)).mean())
    weights = (1 / np.array(power)) / sum(1 / p for p in power)
    assert weights.max() > 5 * weights.min()  # the last image is four times as large
    error = weights @ (channel_means(graph, name, patches) - channel_means(int8, name, patches))
    before = bias(int8, 0).copy()
    correct_biases(int8, graph, patches)
    # LiteRT's own kernels and the delegate may round a value differently: a step of the output over 128 values
    slack = graph_step(int8, op.outputs[0]) / 16
    np.testing.assert_allclose((bias(int8, 0) - before) * step, error, atol=slack + step.max())


def test_deeper_biases_see_what_the_corrections_before_them_left(tiny, patches):
    graph = tiny("residual")
    int8 = quantized(graph, patches)
    op = next(convolutions(int8))
    int8.set_constant(op, 2, int8.constant(op.inputs[2]) + 500)  # wrong at the very first one
    correct_biases(int8, graph, patches)
    name = int8.name(int8.outputs[0])
    weights = 1 / np.square(channel_means(graph, name, patches)).mean(axis=1)
    error = (weights / weights.sum()) @ (channel_means(graph, name, patches) - channel_means(int8, name, patches))
    assert np.abs(error).max() < 2 * graph_step(int8, int8.outputs[0])


def test_depths_count_convolutions_on_the_longest_way(tiny):
    graph = tiny("residual")  # stem; expand, project; expand, project; last: one after the other
    depths = _by_depth(graph, list(convolutions(graph)))
    assert [len(ops) for ops in depths] == [1] * 6
    joined = _by_depth(tiny("concat"), list(convolutions(tiny("concat"))))
    assert [len(ops) for ops in joined] == [2, 1]


def test_nothing_to_correct_stays_as_it_is(tiny, patches):
    graph = tiny("classifier")
    small = weights_to_int8(graph)  # its biases are float
    before = small.content()
    correct_biases(small, graph, patches)
    assert small.content() == before
