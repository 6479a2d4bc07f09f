"""Every layer against plain numpy and scipy, written from the definition and not from the code."""

import math

import keras
import numpy as np
import pytest
import scipy.signal
import scipy.special

from mixnet_tf import layers
from mixnet_tf.config import ACTIVATIONS
from mixnet_tf.sublayers import PADDINGS, activation_layer

RNG = np.random.default_rng(0)


def padded(size: int, kernel: int, stride: int, padding: str) -> tuple[int, int]:
    """Padding before and after: PyTorch's k // 2, or TensorFlow's SAME from its documentation."""
    if padding == "symmetric":
        return kernel // 2, kernel // 2
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def depthwise(x, kernels, stride, padding):
    """x (h, w, c), kernels (k, k, c): correlate each channel by itself."""
    size = kernels.shape[0]
    x = np.pad(x, [padded(n, size, stride, padding) for n in x.shape[:2]] + [(0, 0)])
    planes = [scipy.signal.correlate2d(x[..., c], kernels[..., c], mode="valid") for c in range(x.shape[-1])]
    return np.stack(planes, axis=-1)[::stride, ::stride]


def convolution(x, kernel, stride, padding):
    """x (h, w, c), kernel (k, k, c, f)."""
    size = kernel.shape[0]
    x = np.pad(x, [padded(n, size, stride, padding) for n in x.shape[:2]] + [(0, 0)])
    planes = [
        sum(scipy.signal.correlate2d(x[..., c], kernel[..., c, f], mode="valid") for c in range(x.shape[-1]))
        for f in range(kernel.shape[-1])
    ]
    return np.stack(planes, axis=-1)[::stride, ::stride]


def grouped_pointwise(x, kernels):
    """x (h, w, c), one (c / g, f / g) matrix a group."""
    chunks = np.split(x, len(kernels), axis=-1)
    return np.concatenate([chunk @ kernel for chunk, kernel in zip(chunks, kernels, strict=True)], axis=-1)


def batch_norm(x, layer, epsilon):
    gamma, beta, mean, variance = (np.asarray(value, np.float64) for value in layer.get_weights())
    return (x - mean) / np.sqrt(variance + epsilon) * gamma + beta


FORMULAS = {
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "prelu": lambda x: np.where(x > 0, x, 0.25 * x),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "gelu": lambda x: x * 0.5 * (1 + scipy.special.erf(x / math.sqrt(2))),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "swish": lambda x: x / (1 + np.exp(-x)),
    "hard_swish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
}


def randomize(layer):
    """Random weights, with variances kept positive."""
    for variable in layer.variables:
        value = RNG.normal(0, 0.5, variable.shape)
        variable.assign(np.abs(value) + 0.1 if "variance" in variable.name else value)


def run(layer, x):
    return np.asarray(layer(x[None].astype("float32")))[0]


def image(height, width, channels):
    return RNG.standard_normal((height, width, channels))


def test_every_activation_has_a_formula():
    assert set(FORMULAS) == set(ACTIVATIONS)


@pytest.mark.parametrize("act_type", ACTIVATIONS)
def test_activations(act_type):
    x = np.linspace(-8, 8, 97).reshape(1, 97, 1)
    layer = activation_layer(act_type)
    np.testing.assert_allclose(run(layer, x), FORMULAS[act_type](x), atol=2e-6)
    vector = activation_layer(act_type, rank=2)
    np.testing.assert_allclose(
        np.asarray(vector(x[..., 0].astype("float32"))), FORMULAS[act_type](x[..., 0]), atol=2e-6
    )
    assert sum(math.prod(v.shape) for v in layer.variables) == (1 if act_type == "prelu" else 0)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("size", [(12, 9), (7, 8), (3, 2)])
def test_mixconv(padding, strides, size):
    x = image(*size, 8)
    layer = layers.MixConv2D([3, 5, 7, 11], strides, padding)
    layer.build((None, None, None, 8))
    randomize(layer)
    expected = [
        depthwise(x[..., 2 * i : 2 * i + 2], np.asarray(conv.kernel, np.float64)[..., 0], strides, padding)
        for i, conv in enumerate(layer.convs)
    ]
    outputs = run(layer, x)
    np.testing.assert_allclose(outputs, np.concatenate(expected, axis=-1), atol=2e-5)
    assert outputs.shape == layer.compute_output_shape((1, *x.shape))[1:]


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_grouped_pointwise(groups):
    x = image(4, 5, 6)
    layer = layers.GroupedPointwiseConv2D(12, groups)
    layer.build((None, None, None, 6))
    randomize(layer)
    kernels = [np.asarray(conv.kernel, np.float64)[0, 0] for conv in layer.convs]
    assert len(kernels) == groups
    np.testing.assert_allclose(run(layer, x), grouped_pointwise(x, kernels), atol=1e-5)


def squeeze_excite(x, layer, act_type):
    reduce, reduce_bias = (np.asarray(value, np.float64) for value in layer.reduce.get_weights())
    expand, expand_bias = (np.asarray(value, np.float64) for value in layer.expand.get_weights())
    squeezed = FORMULAS[act_type](x.mean(axis=(0, 1)) @ reduce[0, 0] + reduce_bias)
    return x / (1 + np.exp(-(squeezed @ expand[0, 0] + expand_bias)))


@pytest.mark.parametrize("act_type", ["relu", "swish"])
def test_squeeze_excite(act_type):
    x = image(4, 5, 6)
    layer = layers.SqueezeExcite(3, act_type)
    layer.build((None, None, None, 6))
    randomize(layer)
    np.testing.assert_allclose(run(layer, x), squeeze_excite(x, layer, act_type), atol=1e-5)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize(("kernel_size", "strides"), [(3, 2), (1, 1)])
def test_conv_batch_norm(padding, kernel_size, strides):
    x = image(6, 7, 3)
    layer = layers.ConvBatchNorm(5, kernel_size, strides, padding)
    layer.build((None, None, None, 3))
    randomize(layer)
    y = convolution(x, np.asarray(layer.conv.kernel, np.float64), strides, padding)
    np.testing.assert_allclose(run(layer, x), np.maximum(batch_norm(y, layer.bn, 1e-5), 0), atol=2e-5)
    assert layer.bn.momentum == 0.9


BLOCKS = [
    # filters, arguments: with and without expansion, groups, SE, residual
    (8, {"kernel_sizes": [3]}),
    (12, {"kernel_sizes": [3, 5], "expansion_ratio": 3, "num_exp_groups": 2, "num_poi_groups": 2, "strides": 2}),
    (8, {"kernel_sizes": [3, 5, 7], "expansion_ratio": 6, "num_poi_groups": 2, "se_reduction_ratio": 2}),
    (8, {"kernel_sizes": [3, 9], "expansion_ratio": 2, "num_exp_groups": 4, "se_reduction_ratio": 4}),
    (6, {"kernel_sizes": [5], "num_poi_groups": 2, "se_reduction_ratio": 1, "strides": 2}),
]


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("act_type", ["relu", "swish"])
@pytest.mark.parametrize(("filters", "arguments"), BLOCKS)
def test_block(filters, arguments, act_type, padding):
    x = image(6, 7, 8)
    block = layers.MixDepthBlock(filters, act_type=act_type, padding=padding, dropout_rate=0.3, **arguments)
    block.build((None, None, None, 8))
    randomize(block)
    strides, activation, y = arguments.get("strides", 1), FORMULAS[act_type], x
    if arguments.get("expansion_ratio", 1) > 1:
        kernels = [np.asarray(conv.kernel, np.float64)[0, 0] for conv in block.expand_conv.convs]
        y = activation(batch_norm(grouped_pointwise(y, kernels), block.expand_bn, 1e-3))
    chunks = np.split(y, len(arguments["kernel_sizes"]), axis=-1)
    branches = [
        depthwise(chunk, np.asarray(conv.kernel, np.float64)[..., 0], strides, padding)
        for chunk, conv in zip(chunks, block.depthwise_conv.convs, strict=True)
    ]
    y = activation(batch_norm(np.concatenate(branches, axis=-1), block.depthwise_bn, 1e-3))
    if arguments.get("se_reduction_ratio", 0) > 1:
        assert block.se.reduced_channels == 8 // arguments["se_reduction_ratio"]
        y = squeeze_excite(y, block.se, act_type)
    kernels = [np.asarray(conv.kernel, np.float64)[0, 0] for conv in block.project_conv.convs]
    y = batch_norm(grouped_pointwise(y, kernels), block.project_bn, 1e-3)
    expected = y + x if strides == 1 and filters == 8 else y
    outputs = run(block, x)
    np.testing.assert_allclose(outputs, expected, atol=1e-4 * np.abs(expected).max())
    assert outputs.shape == block.compute_output_shape((1, *x.shape))[1:]
    assert block.expand_bn is None or block.expand_bn.momentum == 0.99


def test_dropout_drops_whole_channels_of_the_residual_branch():
    keras.utils.set_random_seed(0)  # once in 128 times, all channels are dropped or none
    x = image(4, 4, 8)[None].astype("float32")
    block = layers.MixDepthBlock(8, [3], dropout_rate=0.5)
    branch = np.asarray(block(x)) - x
    dropped = np.asarray(block(x, training=True)) - x
    zero = (np.abs(dropped) < 1e-6).all(axis=(0, 1, 2))
    assert 0 < zero.sum() < 8 and np.abs(branch).max(axis=(0, 1, 2)).min() > 0


LAYERS = [
    layers.GroupedPointwiseConv2D(6, 2, name="a"),
    layers.MixConv2D([3, 5], 2, "same"),
    layers.SqueezeExcite(2, "swish"),
    layers.ConvBatchNorm(6, 3, 2),
    layers.MixDepthBlock(6, [3, 5], expansion_ratio=2, num_exp_groups=2, act_type="prelu", se_reduction_ratio=2),
]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_config_round_trip(layer):
    x = image(6, 6, 6)
    expected = run(layer, x)
    again = keras.layers.deserialize(keras.layers.serialize(layer))
    assert again.get_config() == layer.get_config()
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(run(again, x), expected)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
@pytest.mark.parametrize("size", [1, 6, 7])
def test_the_shape_is_known_before_the_output(layer, size):
    shape = layer.compute_output_shape((None, None, size, 6))
    assert shape[:2] == (None, None) and shape[2:] == run(layer, image(6, size, 6)).shape[1:]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_parts_follow_the_policy_and_the_freezing_of_their_layer(layer):
    config = layer.get_config() | {"dtype": "mixed_bfloat16", "trainable": False}
    again = type(layer).from_config(config)
    again.build((None, None, None, 6))
    parts = [part for part in again._flatten_layers() if part is not again]
    assert parts and {part.compute_dtype for part in parts} == {"bfloat16"}
    assert not again.trainable_variables and again.variables
    convolutions = [part for part in parts if isinstance(part, keras.layers.Conv2D)]
    assert not any(part.trainable for part in convolutions)


def test_drop_path_leaves_whole_branches_out_and_scales_the_rest():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 3, 3, 4)).astype(np.float32)
    block = layers.MixDepthBlock(4, [3], drop_path=0.25)
    branch = np.asarray(block(x)) - x
    for norm in block.batch_norms:
        norm.trainable = False  # so that training changes nothing else
    trained = np.asarray(block(x, training=True)) - x
    dropped = ~trained.any(axis=(1, 2, 3))
    assert 0.19 < dropped.mean() < 0.31 and branch.any(axis=(1, 2, 3)).all()
    np.testing.assert_allclose(trained[~dropped], branch[~dropped] / 0.75, atol=1e-5)
    assert layers.MixDepthBlock(4, [3], strides=2, drop_path=0.25)(x[:1], training=True).shape == (1, 2, 2, 4)


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("stem", "stem"),
        ("stem/bn/gamma", "stem"),
        ("mixnet_s_1/stem_conv_1/Relu;mixnet_s_1/stage1_block1_project_1/add", "stem"),
        ("stem_cells/stage1_block2_output0/Add", "stage1_block2"),  # a model that is called like a block
        ("stage12_block10", "stage12_block10"),
        ("m/stage1_block10_se_mean0_1/Mean", "stage1_block10"),
        ("a/last_conv/conv/convolution", "last_conv"),
        ("last_convolution", None),
        ("system/conv", None),
        ("m/my_stem_1/Relu", None),
        ("predictions/bias", None),
        ("stage1_block", None),
        ("", None),
    ],
)
def test_names_tell_the_block(name, block):
    assert layers.block_of(name) == block


def test_names_of_blocks_are_read_as_they_are_written():
    for place in [(1, 1), (3, 12), (10, 2)]:
        name = layers.block_name(*place)
        assert layers.block_of(f"{name}/se") == name and layers.numbers_of(name) == place


def test_initialisation_counts_fan_out_per_group():
    block = layers.MixDepthBlock(64, [3, 9], expansion_ratio=4, num_exp_groups=2, num_poi_groups=2)
    block.build((None, None, None, 64))
    expected = {
        block.expand_conv.convs[0]: math.sqrt(2 / 128),  # 256 outputs in 2 groups
        block.depthwise_conv.convs[0]: math.sqrt(2 / 9),
        block.depthwise_conv.convs[1]: math.sqrt(2 / 81),
        block.project_conv.convs[1]: math.sqrt(2 / 32),
    }
    for conv, deviation in expected.items():
        assert np.std(np.asarray(conv.kernel)) == pytest.approx(deviation, rel=0.1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.GroupedPointwiseConv2D(5, 2), "filters=5 cannot be split into groups=2"),
        (lambda: layers.GroupedPointwiseConv2D(4, 2).build((1, 2, 2, 5)), "5 input channels"),
        (lambda: layers.MixConv2D([3, 4]), "odd sizes"),
        (lambda: layers.MixConv2D([3], padding="valid"), "padding: found 'valid', expected one of symmetric, same"),
        (lambda: layers.MixConv2D([3, 5]).build((1, 2, 2, 5)), "5 channels"),
        (lambda: layers.MixConv2D([]), r"kernel_sizes=\[\]"),
        (
            lambda: activation_layer("swsh"),
            r"act_type: found 'swsh', expected one of relu, .*hard_swish \(did you mean 'swish'\?\)",
        ),
    ],
)
def test_impossible_layers(make, message):
    with pytest.raises(ValueError, match=message):
        make()
