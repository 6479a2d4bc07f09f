"""The deploy graph computes the same function, out of ops that have a fast kernel."""

import keras
import numpy as np
import pytest
from marks import slow
from small import SMALL, backbone, block, with_random_weights

from mixnet_tf.config import ACTIVATIONS
from mixnet_tf.deploy.deploy import TARGETS, deploy_model
from mixnet_tf.deploy.kernels import MAX_TAPS
from mixnet_tf.deploy.verify import verify_deploy
from mixnet_tf.layers import GroupedPointwiseConv2D, MixConv2D, MixDepthBlock, SqueezeExcite
from mixnet_tf.model import create_feature_extractor, create_model
from mixnet_tf.schema import shipped_files
from mixnet_tf.sublayers import PADDINGS

ONE_BLOCK = backbone(block(expansion_ratio=2, out_channels=8, kernel_sizes=[3, 5], num_poi_groups=2))


def largest_difference(model, deployed, seed=0):
    images = np.random.default_rng(seed).standard_normal(deployed.input_shape).astype(np.float32)
    if any(layer.name == "preprocessing" for layer in model.layers):
        images = 128 + 64 * images  # pixels
    outputs = [keras.tree.flatten(net(images, training=False)) for net in (model, deployed)]
    return max(
        np.abs(a - b).max() / np.abs(a).max()
        for a, b in zip(*([np.asarray(tensor) for tensor in output] for output in outputs), strict=True)
    )


def random_backbone(rng, stages: int, kernels: tuple[int, ...], branches: tuple[int, ...], repeats: int = 1):
    stage_params, channels = [], 12
    for _ in range(stages):
        ratio, count = int(rng.choice([1, 2, 6])), int(rng.choice(branches))
        groups = [g for g in (1, 2, 3, 4) if channels % g == 0 and (ratio * channels) % count == 0]
        count = count if groups else 1
        out = int(rng.choice([12, 24]))
        stage_params.append(
            block(
                expansion_ratio=ratio,
                out_channels=out,
                num_blocks=int(rng.integers(1, repeats + 1)),
                kernel_sizes=[int(k) for k in rng.choice(kernels, count)],
                num_exp_groups=int(rng.choice(groups or [1])),
                num_poi_groups=int(rng.choice([1, 2, 3])),
                stride=int(rng.integers(1, 3)),
                act_type=str(rng.choice(ACTIVATIONS)),
                se_reduction_ratio=[None, 2, 4][rng.integers(3)],
            )
        )
        channels = out
    return backbone(*stage_params, stem=12)


def check_logits(config, padding, *cases):
    model = with_random_weights(create_model(config, classes=10, classifier_activation=None, padding=padding))
    for target, sizes in cases:
        assert largest_difference(model, deploy_model(model, image_size=sizes, target=target)) < 1e-5


@pytest.mark.parametrize(
    ("config", "padding"),
    [
        pytest.param("mixnet_s", "symmetric", marks=pytest.mark.slow),
        *(
            pytest.param(*case, marks=pytest.mark.exhaustive)
            for case in (*((config, "symmetric") for config in shipped_files("configs")), ("mixnet_m", "same"))
        ),
    ],
)
def test_shipped_configs_keep_their_logits(config, padding):
    check_logits(config, padding, ("int8", (64, 64)), ("int8", (65, 97)), ("float", (65, 97)))


@pytest.mark.parametrize(("target", "sizes"), [("int8", (64, 64)), *slow(("float", (65, 97)))])
def test_the_smallest_shipped_config_keeps_its_logits(target, sizes):
    check_logits("mixnet_nano", "symmetric", (target, sizes))


def check_random_config(config, rng, padding, targets):
    sizes = tuple(int(n) for n in rng.integers(5, 50, 2))
    model = with_random_weights(create_feature_extractor(config, padding=padding))
    for target in targets:
        assert largest_difference(model, deploy_model(model, image_size=sizes, target=target)) < 1e-5


@pytest.mark.parametrize("seed", [0, *slow(1)])
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("target", TARGETS)
def test_random_configs_keep_their_outputs(seed, padding, target):
    rng = np.random.default_rng([seed, *target.encode(), *padding.encode()])
    config = random_backbone(rng, stages=2, kernels=(1, 3, 5, 7, 9), branches=(1, 2, 3, 4))
    check_random_config(config, rng, padding, [target])


@pytest.mark.parametrize(
    "seed", [pytest.param(seed, marks=pytest.mark.slow if seed < 1 else pytest.mark.exhaustive) for seed in range(16)]
)
def test_large_random_configs_keep_their_outputs(seed):
    rng = np.random.default_rng(seed)
    config = random_backbone(
        rng, int(rng.integers(1, 4)), kernels=(1, 3, 5, 7, 9, 11, 13), branches=(1, 2, 3, 4, 6), repeats=2
    )
    check_random_config(config, rng, PADDINGS[seed % 2], TARGETS)


@pytest.mark.parametrize("act_type", ["swish", "gelu", *slow(*sorted({*ACTIVATIONS} - {"swish", "gelu"}))])
def test_every_activation(act_type):
    """In chunks of 6 channels, filled up to 8: what an activation makes of zero must stay out of the result."""
    config = backbone(
        block(expansion_ratio=3, out_channels=8, kernel_sizes=[3, 3], num_exp_groups=2, stride=2, act_type=act_type),
        stem=4,
    )
    head = {
        "name": "fc",
        "params": {"num_layers": 2, "intermediate_channels": 6, "act_type": act_type, "dropout_prob": 0.1},
    }
    model = with_random_weights(create_model({"backbone": config, "head": head}, classes=5))
    deployed = deploy_model(model, image_size=(10, 9), target="float")
    assert deployed.get_layer("stage1_block1_expand1").filters == 8
    assert largest_difference(model, deployed) < 1e-5


@pytest.mark.parametrize(
    "arguments",
    [
        {"include_top": False},
        {"include_top": False, "pooling": "avg"},
        {"include_top": False, "pooling": "max"},
        {"classifier_activation": "sigmoid"},
        {"input_shape": (32, 32, 1), "include_preprocessing": False},
        {"include_preprocessing": False},
    ],
)
def test_every_kind_of_model(arguments):
    model = with_random_weights(create_model(ONE_BLOCK, classes=4, **arguments))
    deployed = deploy_model(model, image_size=32, batch_size=2)
    assert largest_difference(model, deployed) < 1e-5
    assert deployed.input_shape[0] == deployed.output_shape[0] == 2


def test_feature_outputs():
    model = with_random_weights(create_feature_extractor(SMALL))
    deployed = deploy_model(model, image_size=32)
    assert [shape[1:] for shape in deployed.output_shape] == [(16, 16, 8), (8, 8, 12), (8, 8, 1536)]
    assert largest_difference(model, deployed) < 1e-5


def test_dropout_is_gone_and_does_not_change_the_output():
    config = backbone(block(out_channels=8, num_blocks=2), dropout_rate=0.5)
    model = with_random_weights(create_model(config, classes=3))
    deployed = deploy_model(model, image_size=16)
    assert not any("dropout" in type(layer).__name__.lower() for layer in deployed.layers)
    assert largest_difference(model, deployed) < 1e-5


def depthwise_layers(deployed):
    return [layer for layer in deployed.layers if isinstance(layer, keras.layers.DepthwiseConv2D)]


@pytest.mark.parametrize(
    "config", ["mixnet_nano", *(pytest.param(f"mixnet_{size}", marks=pytest.mark.exhaustive) for size in "sm")]
)
def test_only_ops_with_a_fast_kernel(config):
    deployed = deploy_model(create_model(config, classes=10), image_size=224)
    assert all(type(layer).__module__.startswith("keras.") for layer in deployed.layers)
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in deployed.layers)
    assert all(np.prod(layer.kernel_size) <= MAX_TAPS for layer in depthwise_layers(deployed))
    joins = [layer for layer in deployed.layers if isinstance(layer, keras.layers.Concatenate)]
    assert all(2 <= len(layer.input) <= 5 for layer in joins)
    slices = [operation.output.shape[-1] for operation in deployed.operations if "slice" in operation.name]
    assert max(slices) <= 100  # half of a narrow block output; never the wide hidden channels
    assert all(None not in layer.output.shape for layer in deployed.layers)


def test_branches_that_align_with_groups_run_apart():
    config = backbone(*2 * [block(kernel_sizes=[3, 5, 7, 9], num_exp_groups=2, num_poi_groups=2)], stem=16)
    deployed = deploy_model(create_model(config, include_top=False), image_size=32)
    # two groups of two branches: only the two branches of a group, and finally the output, are concatenated
    widths = [layer.output.shape[-1] for layer in deployed.layers if isinstance(layer, keras.layers.Concatenate)]
    assert max(width for width in widths) == 64  # the vector of squeeze-and-excitation means
    maps = [layer.output.shape for layer in deployed.layers if isinstance(layer, keras.layers.Concatenate)]
    assert sorted(shape[-1] for shape in maps if shape[1] > 1) == [16, 32, 32, 32, 32]


def test_float_chunks_are_filled_up_to_eight_channels():
    # chunks of 30 hidden and 10 output channels: 32 and 16 (10 to 16 is too much: stays 10)
    config = backbone(
        block(kernel_sizes=[3, 5], expansion_ratio=3, num_exp_groups=2, num_poi_groups=2, out_channels=20), stem=20
    )
    model = with_random_weights(create_feature_extractor(config))
    widths = {
        t: {layer.filters for layer in deploy_model(model, image_size=16, target=t).layers if hasattr(layer, "filters")}
        for t in TARGETS
    }
    assert 30 in widths["int8"] and 32 not in widths["int8"]
    assert 32 in widths["float"] and 30 not in widths["float"]
    assert 24 not in widths["float"] and 10 in widths["float"]


def test_taps_that_only_see_padding_are_dropped():
    config = backbone(block(kernel_sizes=[11], stride=1))
    model = with_random_weights(create_model(config, include_top=False, include_preprocessing=False))
    deployed = deploy_model(model, image_size=(4, 6))  # maps of 2 x 3: a 3 x 5 part of the 11 x 11 kernel
    assert [layer.kernel_size for layer in depthwise_layers(deployed)] == [(3, 5)]
    assert largest_difference(model, deployed) < 1e-5


def test_layers_of_ours_in_a_custom_model():
    image = keras.Input((None, None, 12))
    x = MixConv2D([3, 5, 7], strides=2)(image)
    x = keras.layers.BatchNormalization()(x)
    x = SqueezeExcite(3, "relu")(x)
    x = x + GroupedPointwiseConv2D(12, groups=3, name="grouped")(x)
    x = keras.layers.GlobalAveragePooling2D()(keras.ops.relu(x))
    model = with_random_weights(keras.Model(image, keras.layers.Dense(3)(x)))
    assert largest_difference(model, deploy_model(model, image_size=(17, 20))) < 1e-5


def test_transfer_learning_models_nested_and_sequential():
    backbone_model = create_model(SMALL, include_top=False)
    image = keras.Input((32, 32, 3))
    x = keras.layers.GlobalAveragePooling2D()(backbone_model(image, training=False))
    nested = with_random_weights(keras.Model(image, keras.layers.Dense(4)(x)))
    assert largest_difference(nested, deploy_model(nested, image_size=32)) < 1e-5
    block = MixDepthBlock(8, [3, 5], expansion_ratio=2)
    sequential = keras.Sequential([keras.Input((16, 16, 8)), block, keras.layers.Flatten(), keras.layers.Dense(2)])
    assert largest_difference(with_random_weights(sequential), deploy_model(sequential, image_size=16)) < 1e-5


def pooled_classes(x):
    return keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(x))


def test_a_nested_model_called_twice():
    backbone_model = create_model(ONE_BLOCK, include_top=False)
    image = keras.Input((32, 32, 3))
    x = backbone_model(image) + backbone_model(keras.layers.Rescaling(-0.5)(image))
    model = with_random_weights(keras.Model(image, pooled_classes(x)))
    deployed = deploy_model(model, image_size=32)
    assert largest_difference(model, deployed) < 1e-5
    assert verify_deploy(model, deployed) < 5e-5  # float32 rounds differently from CPU to CPU


def test_what_a_normalization_layer_has_learned_is_kept():
    image = keras.Input((16, 16, 3))
    normalization = keras.layers.Normalization()
    normalization.adapt(np.random.default_rng(0).uniform(50, 250, (4, 16, 16, 3)))
    x = keras.layers.Conv2D(4, 3)(normalization(image))
    model = keras.Model(image, x)
    assert largest_difference(model, deploy_model(model, image_size=16)) < 1e-5


@pytest.mark.parametrize("first", [keras.layers.Conv2D, GroupedPointwiseConv2D])
@pytest.mark.parametrize("between", [[], [keras.layers.Flatten]])
@pytest.mark.parametrize("name", ["head_output", "head_output0"])
def test_own_layers_may_be_called_what_a_block_becomes(first, between, name):
    layers = [first(8, 1, name="head"), *(kind() for kind in between), keras.layers.Dense(4, name=name)]
    model = with_random_weights(keras.Sequential([keras.Input((8, 8, 8)), *layers]))
    assert verify_deploy(model, deploy_model(model, image_size=8)) < 1e-5


def test_a_shared_layer_keeps_its_weights_in_both_places():
    image = keras.Input((8, 8, 8))
    block = MixDepthBlock(8, [3, 5], expansion_ratio=2)
    model = with_random_weights(keras.Model(image, block(block(image))))
    deployed = deploy_model(model, image_size=8)
    assert largest_difference(model, deployed) < 1e-5
    assert verify_deploy(model, deployed) < 5e-5  # float32 rounds differently from CPU to CPU


@pytest.fixture
def mixed_float16():
    keras.config.set_dtype_policy("mixed_float16")
    yield
    keras.config.set_dtype_policy("float32")


def policies(model) -> set[str]:
    nested = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    return {layer.dtype_policy.name for layer in (model, *layers)}.union(*map(policies, nested))


def test_mixed_precision_deploys_in_float32(mixed_float16):
    model = with_random_weights(create_model(ONE_BLOCK, classes=4))
    deployed = deploy_model(model, image_size=32)
    assert verify_deploy(model, deployed) < 5e-5  # float32 rounds differently from CPU to CPU
    assert policies(deployed) == {"float32"} and keras.config.dtype_policy().name == "mixed_float16"
    keras.config.set_dtype_policy("float32")
    exact = create_model(ONE_BLOCK, classes=4)
    exact.set_weights(model.get_weights())
    assert largest_difference(exact, deployed) < 1e-5


def test_a_nested_model_in_mixed_precision_deploys_in_float32(mixed_float16):
    image = keras.Input((32, 32, 3))
    inner = keras.Sequential([create_model(ONE_BLOCK, include_top=False), keras.layers.Activation("relu")])
    model = with_random_weights(keras.Model(image, pooled_classes(inner(image))))
    deployed = deploy_model(model, image_size=32)
    assert verify_deploy(model, deployed) < 2e-6  # half precision anywhere would be ten times that
    assert policies(deployed) == {"float32"}
