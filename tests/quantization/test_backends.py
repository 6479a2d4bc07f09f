"""The two quantizers: what they do to weights and ranges, worked out with numpy."""

import logging
import re

import numpy as np
import pytest
from ai_edge_litert.schema_py_generated import TensorType

from mixnet_tf.errors import DeployError
from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.litert.neighbours import convolutions
from mixnet_tf.litert.runtime import LiteModel
from mixnet_tf.quantization.backends import choose_backend, to_int8, weights_to_int8
from mixnet_tf.quantization.recipe import BACKENDS
from mixnet_tf.quantization.types import Ranges


def wide(graph: FlatGraph) -> Ranges:
    """Return a range that holds every value of a tiny graph, another one for each tensor."""
    return {index: (-3.0 - i, 5.0 + 2 * i) for i, index in enumerate(graph.float_tensors())}


@pytest.mark.parametrize("backend", BACKENDS)
def test_scale_and_zero_point_follow_from_the_range(tiny, backend):
    graph = tiny("conv_relu_conv")
    index, output = graph.inputs[0], graph.outputs[0]
    ranges = dict(wide(graph)) | {index: (-2.0, 6.0), output: (-1.0, 3.0)}
    int8 = to_int8(graph, ranges, backend)
    for made, (low, high) in ((int8.inputs[0], (-2.0, 6.0)), (int8.outputs[0], (-1.0, 3.0))):
        info = int8.tensor(made)
        assert info.dtype == "int8"
        assert info.scale == pytest.approx((high - low) / 255, rel=1e-6)
        assert info.zero_point == round(-128 - low * 255 / (high - low))
    assert not int8.float_tensors()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_channel_of_a_kernel_has_127_steps_up_to_its_largest_weight(tiny, backend):
    graph = tiny("conv_relu_conv")
    int8 = to_int8(graph, wide(graph), backend)
    for before, after in zip(convolutions(graph), convolutions(int8), strict=True):
        kernel, scales = graph.constant(before.inputs[1]), int8.tensors[after.inputs[1]].quantization.scale
        largest = np.abs(kernel).reshape(len(kernel), -1).max(axis=1)
        np.testing.assert_allclose(scales, largest / 127, rtol=1e-6)
        steps = np.round(kernel / (largest / 127)[:, None, None, None])
        np.testing.assert_array_equal(int8.constant(after.inputs[1]), steps)


def test_named_blocks_stay_float(tiny):
    graph = tiny("residual")
    int8 = to_int8(graph, wide(graph), "litert-quantizer", ["stage1_block1"])
    floats = {int8.name(op.outputs[0]) for op in convolutions(int8) if int8.constant(op.inputs[1]).dtype == np.float32}
    assert len(floats) == 2 and all("/stage1_block1_" in name for name in floats)


def test_a_graph_that_is_quantized_stays_as_it_was(tiny):
    for make in (lambda graph: to_int8(graph, wide(graph), "tf.lite"), weights_to_int8):
        graph = tiny("concat")
        before = graph.content()
        make(graph)
        assert graph.content() == before and FlatGraph(before).content() == before


def test_weights_alone_leave_the_arithmetic_in_float(nano_float32):
    graph = FlatGraph(nano_float32.read_bytes())
    small = weights_to_int8(graph)
    kernels = {graph.name(op.outputs[0]): graph.constant(op.inputs[1]) for op in convolutions(graph)}
    scaled = [i for i, tensor in enumerate(small.tensors) if tensor.type == TensorType.INT8]
    assert len(small.content()) < 0.6 * len(graph.content()) and len(scaled) > 20
    assert {small.tensor(i).dtype for i in (*small.inputs, *small.outputs)} == {"float32"}
    for index in scaled:  # rounded to whole steps of the largest weight of its channel
        steps, quantization = small.constant(index).astype(np.float64), small.tensors[index].quantization
        axis = quantization.quantizedDimension if len(quantization.scale) > 1 else None
        others = tuple(i for i in range(steps.ndim) if i != axis)
        assert np.abs(steps).max(axis=others).min() == 127 or (steps == 0).all(axis=others).any()
        shape = [-1 if i == axis else 1 for i in range(steps.ndim)]
        values = steps * np.reshape(quantization.scale, shape)
        assert any(k.shape == values.shape and np.abs(k - values).max() <= max(quantization.scale) * 0.501
                   for k in kernels.values())  # fmt: skip
    image = np.random.default_rng(0).standard_normal((1, 32, 32, 3)).astype(np.float32)
    outputs = [LiteModel(made.content())(image)[0] for made in (graph, small)]
    assert 0 < np.abs(outputs[0] - outputs[1]).max() < 0.1 * np.abs(outputs[0]).max()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_tensor_without_a_range_is_named(tiny, backend):
    graph = tiny("classifier")
    ranges = dict(wide(graph))
    del ranges[graph.outputs[0]]
    name = re.escape(graph.name(graph.outputs[0]))
    with pytest.raises(DeployError, match=f"^tensor '{name}' has no range; expected one of every computed"):
        to_int8(graph, ranges, backend)


def test_a_graph_that_a_quantizer_refuses_is_one_line(fixtures):
    graph = FlatGraph((fixtures / "odd" / "three_subgraphs.tflite").read_bytes())
    with pytest.raises(DeployError, match=r"^the quantizer refused the model: ") as caught:
        to_int8(graph, dict.fromkeys(graph.float_tensors(), (-1.0, 1.0)), "litert-quantizer")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_a_backend_that_is_not_installed_is_named(monkeypatch):
    assert choose_backend(None) == "litert-quantizer" and choose_backend("tf.lite") == "tf.lite"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert choose_backend(None) == "tf.lite"
    with pytest.raises(DeployError, match="backend litert-quantizer: not installed"):
        choose_backend("litert-quantizer")


def test_the_level_of_a_librarys_logger_stays(tiny):
    weights_to_int8(tiny("conv_relu_conv"))  # what it imports sets the level, too
    absl = logging.getLogger("absl")
    before = absl.level
    try:
        absl.setLevel(logging.INFO)
        weights_to_int8(tiny("conv_relu_conv"))
        assert absl.level == logging.INFO
    finally:
        absl.setLevel(before)
