"""The graphs in the docstrings of rules.py and emitter.py, layer by layer, and what they compute in plain numpy."""

import keras
import numpy as np
import pytest
from small import with_random_weights

from mixnet_tf.deploy.chunks import MAX_CONCATENATED, fill, spread
from mixnet_tf.deploy.deploy import deploy_model
from mixnet_tf.deploy.emitter import Emitter
from mixnet_tf.deploy.rules import RULES, cut, fold
from mixnet_tf.layers import ConvBatchNorm, GroupedPointwiseConv2D, MixConv2D, MixDepthBlock, SqueezeExcite


def deployed(layer, height, width, channels, target="int8"):
    image = keras.Input((height, width, channels), name="image")
    model = with_random_weights(keras.Model(image, layer(image)))
    return deploy_model(model, image_size=(height, width), target=target)


def shapes(model) -> dict[str, tuple]:
    """The output of every layer but the input and the activations, which have none of their own."""
    return {
        layer.name: layer.output.shape[1:]
        for layer in model.layers
        if layer.name != "image" and not layer.name.endswith("act")
    }


def reads(model, name: str) -> list[str]:
    """Names of the layers that a layer reads; an operation of keras.ops is called by its name."""
    inputs = keras.tree.flatten(model.get_layer(name).input)
    return [tensor._keras_history.operation.name.rstrip("_0123456789") for tensor in inputs]


def test_every_layer_of_ours_has_a_rule():
    assert set(RULES) == {GroupedPointwiseConv2D, MixConv2D, SqueezeExcite, ConvBatchNorm, MixDepthBlock}


PIXELS = np.random.default_rng(0).uniform(0, 255, (1, 4, 4, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("layers", "scale", "offset"),
    [
        ([keras.layers.Rescaling(1 / 255)], 1 / 255, 0),
        ([keras.layers.Rescaling([1.0, 2.0, 3.0], [0.5, 0.0, -1.0])], [1, 2, 3], [0.5, 0, -1]),
        (
            [keras.layers.Normalization(mean=[1.0, 2, 3], variance=[4.0, 9, 16])],
            [1 / 2, 1 / 3, 1 / 4],
            [-0.5, -2 / 3, -0.75],
        ),
        ([keras.layers.Normalization(axis=None, mean=100.0, variance=400.0)], 1 / 20, -5),
        (
            [keras.layers.Rescaling(1 / 255), keras.layers.Normalization(mean=[0.5] * 3, variance=[0.25] * 3)],
            2 / 255,
            -1,
        ),
    ],
)
def test_what_scales_an_image_becomes_one_depthwise_convolution(layers, scale, offset):
    """Given by the documentation of both layers: x * scale + offset, and (x - mean) / sqrt(variance)."""
    model = deploy_model(keras.Sequential([keras.Input((4, 4, 3)), *layers]), image_size=4)
    others = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer | keras.layers.Reshape)]
    (layer,) = others
    assert isinstance(layer, keras.layers.DepthwiseConv2D) and layer.kernel_size == (1, 1)
    np.testing.assert_allclose(model(PIXELS), PIXELS * scale + offset, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.Normalization(axis=(1, 3), mean=0.5, variance=0.25),
        keras.layers.Normalization(mean=0.5, variance=4.0, invert=True),
    ],
)
def test_other_normalizations_stay(layer):
    image = keras.Input((4, 4, 3))
    model = keras.Model(image, layer(image))
    rewritten = deploy_model(model, image_size=4)
    np.testing.assert_allclose(rewritten(PIXELS), model(PIXELS), rtol=1e-5)
    assert not any(isinstance(layer, keras.layers.DepthwiseConv2D) for layer in rewritten.layers)


def test_grouped_pointwise():
    model = deployed(GroupedPointwiseConv2D(8, groups=2, name="b"), 4, 4, 6)
    assert shapes(model) == {"b0": (4, 4, 4), "b1": (4, 4, 4), "b_2": (4, 4, 8)}
    assert [operation.output.shape for operation in model.operations if "slice" in operation.name] == [(1, 4, 4, 3)] * 2


def test_mix_conv():
    model = deployed(MixConv2D([3, 7], name="b"), 9, 9, 8)
    kernels = {layer.name: layer.kernel_size for layer in model.layers if hasattr(layer, "kernel_size")}
    assert kernels == {"b0": (3, 3), "b1_piece0": (3, 7), "b1_piece1": (3, 7), "b1_piece2": (1, 7)}
    assert {"b1_sum1": (9, 9, 4), "b1_sum2": (9, 9, 4), "b_2": (9, 9, 8)}.items() <= shapes(model).items()


def test_pieces_crop_and_pad_what_they_need():
    model = deployed(MixConv2D([7], name="b"), 28, 28, 8)
    whole = dict.fromkeys(("b_piece0", "b_piece1", "b_piece2", "b_sum1", "b_sum2"), (28, 28, 8))
    assert shapes(model) == whole | {
        "b_piece0_crop": (27, 28, 8), "b_piece0_pad": (30, 34, 8),
        "b_piece1_pad": (30, 34, 8),
        "b_piece2_crop": (25, 28, 8), "b_piece2_pad": (28, 34, 8),
    }  # fmt: skip
    assert reads(model, "b_sum2") == ["b_sum", "b_piece"]


def test_squeeze_and_excite():
    emit = Emitter(lanes=1)
    chunks = [keras.Input(batch_shape=(1, 8, 8, channels)) for channels in (5, 3)]
    se = SqueezeExcite(2, "relu")
    se.build((1, 8, 8, 8))
    model = keras.Model(chunks, emit.gates(chunks, [5, 3], se, "b"))
    expected = {
        "b_mean0": (1, 1, 5), "b_mean1": (1, 1, 3), "b_means": (1, 1, 8), "b_reduce": (1, 1, 2),
        "b_expand0": (1, 1, 5), "b_gate0": (1, 1, 5), "b_scale0": (8, 8, 5),
        "b_expand1": (1, 1, 3), "b_gate1": (1, 1, 3), "b_scale1": (8, 8, 3),
    }  # fmt: skip
    assert expected.items() <= shapes(model).items()
    assert reads(model, "b_means") == ["b_mean", "b_mean"] and reads(model, "b_reduce") == ["b_means"]


def test_conv_batch_norm():
    model = deployed(ConvBatchNorm(16, 3, strides=2, name="b"), 8, 8, 3)
    assert shapes(model) == {"b_conv_pad": (9, 9, 3), "b_conv": (4, 4, 16), "b_output": (4, 4, 16)}


def test_block():
    block = MixDepthBlock(
        4, [3, 5, 7], expansion_ratio=6, num_exp_groups=2, num_poi_groups=2, se_reduction_ratio=2, name="b"
    )
    model = deployed(block, 8, 8, 4)
    sizes = shapes(model)
    widths = (8, 4, 4, 8)
    for i, width in enumerate(widths):
        assert sizes[f"b_expand{i}"] == sizes[f"b_se_scale{i}"] == (8, 8, width)
        assert sizes[f"b_se_gate{i}"] == (1, 1, width)
    kernels = [model.get_layer(f"b_depthwise{i}").kernel_size for i in range(3)]
    assert kernels == [(3, 3), (5, 5), (5, 5)] and model.get_layer("b_depthwise3_piece0").kernel_size == (3, 7)
    assert sizes["b_hidden_join"] == sizes["b_hidden_join_2"] == (8, 8, 12)
    assert sizes["b_project0"] == sizes["b_project1"] == sizes["b_output0"] == sizes["b_output1"] == (8, 8, 2)
    assert sizes["b_join"] == (8, 8, 4)
    assert reads(model, "b_output1") == ["slice", "b_project"]


def test_expansion_fills_chunks_for_float_alone():
    arguments = {"expansion_ratio": 5, "num_exp_groups": 2}
    for kernel_sizes, target, expected in [
        ([3, 3, 3, 3], "int8", [5, 5, 5, 5]),
        ([3, 3, 3, 3], "float", [5, 5, 5, 5]),  # 8 would be more than a third wider
        ([3, 3], "int8", [10, 10]),
        ([3, 3], "float", [10, 10]),  # and so would 16
    ]:
        model = deployed(MixDepthBlock(6, kernel_sizes, **arguments, name="b"), 4, 4, 4, target)
        assert [model.get_layer(f"b_expand{i}").filters for i in range(len(expected))] == expected
    arguments = {"expansion_ratio": 6, "num_exp_groups": 2}
    model = deployed(MixDepthBlock(6, [3, 3, 3, 3], **arguments, name="b"), 4, 4, 4, "float")
    assert [model.get_layer(f"b_expand{i}").filters for i in range(4)] == [8, 8, 8, 8]  # of 6


def test_at_most_five_are_concatenated():
    emit = Emitter(lanes=1)
    chunks = [keras.Input(batch_shape=(1, 8, 8, 4)) for _ in range(7)]
    joined = emit.join(chunks, "b")
    model = keras.Model(chunks, joined)
    joins = {layer.name: layer for layer in model.layers if isinstance(layer, keras.layers.Concatenate)}
    assert {name: layer.output.shape[-1] for name, layer in joins.items()} == {"b": 20, "b_2": 8, "b_3": 28}
    assert len(joins["b"].input) == MAX_CONCATENATED and reads(model, "b_3") == ["b", "b"]


def test_reading_takes_chunks_as_they_are_and_joins_no_more_than_it_needs():
    emit = Emitter(lanes=1)
    first, second, third = chunks = [keras.Input(batch_shape=(1, 8, 8, 4)) for _ in range(3)]
    joined = emit.join(chunks, "b")
    assert emit.read(joined, 4, 8, "read") is second and emit.read(joined, 8, 12, "read") is third
    across = emit.read(joined, 2, 8, "read")
    assert across.shape == (1, 8, 8, 6) and emit.read(joined, 2, 8, "again") is across
    model = keras.Model([first, second], across)  # the third is not read
    values = np.arange(1 * 8 * 8 * 8, dtype=np.float32).reshape(1, 8, 8, 8)
    np.testing.assert_array_equal(model([values[..., :4], values[..., 4:]]), values[..., 2:])


def test_zero_channels_are_read_only_where_they_are_asked_for():
    emit = Emitter(lanes=8)
    chunks = [keras.Input(batch_shape=(1, 2, 2, 8)) for _ in range(2)]  # of 6 channels and 2 of zeros each
    joined = emit.join(chunks, "b", [6, 6])
    assert joined.shape[-1] == 12
    assert emit.read(joined, 6, 12, "read", filled=True) is chunks[1]
    assert emit.read(joined, 6, 12, "read").shape[-1] == 6
    values = np.random.default_rng(0).normal(size=(2, 1, 2, 2, 8)).astype(np.float32)
    outputs = keras.Model(chunks, [joined, emit.read(joined, 6, 12, "read")])(list(values))
    np.testing.assert_array_equal(outputs[0], np.concatenate([values[0, ..., :6], values[1, ..., :6]], axis=-1))
    np.testing.assert_array_equal(outputs[1], values[1, ..., :6])


def test_a_kernel_for_filled_chunks_has_zero_rows():
    kernel = np.arange(1.0, 49).reshape(12, 4)
    chunks = [keras.Input(batch_shape=(1, 8, 8, 8)) for _ in range(2)]
    wide = spread(kernel, [6, 6], chunks)
    assert wide.shape == (16, 4) and not wide[[6, 7, 14, 15]].any()
    np.testing.assert_array_equal(np.delete(wide, [6, 7, 14, 15], axis=0), kernel)
    np.testing.assert_array_equal(fill(np.ones((2, 3)), 0, 4), [[1, 1, 1], [1, 1, 1], [0, 0, 0], [0, 0, 0]])


def test_folding_is_the_batch_norm_after_the_kernels():
    rng = np.random.default_rng(0)
    norm = keras.layers.BatchNormalization(epsilon=0.01)
    norm.build((1, 8, 8, 6))
    gamma, beta, mean, variance = rng.uniform(0.5, 2, (4, 6))
    norm.set_weights([gamma, beta, mean, variance])
    kernels, x = [rng.normal(size=(3, width)) for width in (4, 2)], rng.normal(size=(2, 3))
    folded, bias = fold(kernels, norm)
    plain = np.concatenate([x[i] @ kernel for i, kernel in enumerate(kernels)])
    expected = (plain - mean) / np.sqrt(variance + 0.01) * gamma + beta
    assert [kernel.shape for kernel in folded] == [(3, 4), (3, 2)] and folded[0].dtype == np.float64
    actual = np.concatenate([x[i] @ kernel for i, kernel in enumerate(folded)]) + bias
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("channels", "parts", "chunks"),
    [
        (24, (3, 2), [(0, 8), (8, 12), (12, 16), (16, 24)]),
        (24, (2, 2, 2), [(0, 12), (12, 24)]),
        (8, (1, 1, 1), [(0, 8)]),
        (6, (6, 3), [(i, i + 1) for i in range(6)]),
    ],
)
def test_chunks_end_where_a_branch_or_a_group_does(channels, parts, chunks):
    assert cut(channels, *parts) == chunks
