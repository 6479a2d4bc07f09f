"""What trains after ``unfreeze``: counted from the configuration, and seen in a fit on real images."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from marks import slow
from small import SMALL, with_random_weights

import mixnet_tf
from mixnet_tf.config import expand_blocks, load_config
from mixnet_tf.errors import MixNetError
from mixnet_tf.model import create_model
from mixnet_tf.training.freezing import block_names, first_block, unfreeze

STAGES = ["stem", "stage1", "stage2", "stage3", "last_conv"]
BLOCKS = ["stem", "stage1_block1", "stage2_block1", "stage3_block1", "last_conv"]


def without_batch_norm(block) -> int:
    """Count the weights of a block's convolutions from its configuration."""
    hidden, squeezed = block.in_channels * block.expansion_ratio, block.se_channels or 0
    expansion = block.in_channels * hidden // block.num_exp_groups if block.expansion_ratio > 1 else 0
    depthwise = hidden // len(block.kernel_sizes) * sum(size**2 for size in block.kernel_sizes)
    excitation = 2 * hidden * squeezed + (hidden + squeezed) * bool(squeezed)
    return expansion + depthwise + excitation + hidden * block.out_channels // block.num_poi_groups


def expected_counts(classes: int) -> list[int]:
    """Count what trains in every block of SMALL, and in a head of one layer."""
    blocks = [block for stage in expand_blocks(load_config(SMALL).architecture.backbone) for block in stage]
    stem, last = 3 * 3 * 3 * 8, blocks[-1].out_channels * 1536
    return [stem, *map(without_batch_norm, blocks), last, (1536 + 1) * classes]


def count(model: keras.Model) -> int:
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


def batch_norms(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    return [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]


def flat() -> keras.Model:
    return create_model(SMALL, classes=2, input_shape=(16, 16, 3))


def nested() -> keras.Model:
    backbone = create_model(SMALL, include_top=False, pooling="avg", input_shape=(16, 16, 3))
    backbone.trainable = False  # as in Keras' guide
    inputs = keras.Input((16, 16, 3))
    return keras.Model(inputs, keras.layers.Dense(2, name="predictions")(backbone(inputs, training=False)))


def sequential() -> keras.Model:
    backbone = create_model(SMALL, include_top=False, pooling="avg", input_shape=(16, 16, 3))
    return keras.Sequential([keras.Input((16, 16, 3)), backbone, keras.layers.Dense(2, name="predictions")])


def wrapped() -> keras.Model:
    """Frames of a film, each through the same network."""
    backbone = create_model(SMALL, include_top=False, pooling="avg", input_shape=(16, 16, 3))
    frames = keras.Input((4, 16, 16, 3))
    x = keras.layers.GlobalAveragePooling1D()(keras.layers.TimeDistributed(backbone)(frames))
    return keras.Model(frames, keras.layers.Dense(2, name="predictions")(x))


@pytest.mark.parametrize("build", [flat, nested, sequential, wrapped])
def test_what_trains_is_counted_from_the_configuration(build):
    model, counts = build(), expected_counts(classes=2)
    for i, (stage, block) in enumerate(zip(STAGES, BLOCKS, strict=True)):
        for from_ in (stage, block, len(BLOCKS) - i, np.int64(len(BLOCKS) - i)):
            assert unfreeze(model, from_) == [*BLOCKS[i:], "predictions"]
            assert count(model) == sum(counts[i:])
    assert unfreeze(model, 0) == ["predictions"] and count(model) == counts[-1]
    assert not any(norm.trainable for norm in batch_norms(model))


def test_what_was_frozen_before_trains():
    model = nested()
    backbone = model.layers[1]
    assert not backbone.trainable_variables
    backbone.get_layer("stage3_block1").se.trainable = False
    unfreeze(model, "stage3")
    assert sum(int(np.prod(v.shape)) for v in backbone.trainable_variables) == sum(expected_counts(2)[3:-1])


def test_a_stage_begins_with_its_first_block():
    names = block_names(load_config("mixnet_s"))
    assert len(names) == 16 + 2 and names[0] == "stem" and names[-1] == "last_conv"  # 16 blocks: the paper's figure 5
    model = mixnet_tf.MixNetS(classes=3, input_shape=(32, 32, 3))
    assert [layer.name for layer in model.layers if layer.name in names] == names
    assert unfreeze(model, "stage4") == ["stage4_block1", "stage4_block2", "stage4_block3", "last_conv", "predictions"]
    assert unfreeze(model, "stage4_block3") == unfreeze(model, 2) == ["stage4_block3", "last_conv", "predictions"]


def with_layers_around() -> keras.Model:
    """An adapter for gray images before the network, and a head with batch norm and a second input."""
    backbone = with_random_weights(create_model(SMALL, include_top=False, pooling="avg", name="net"))
    gray, place = keras.Input((32, 32, 1)), keras.Input((3,))
    rgb = keras.layers.Conv2D(3, 1, name="adapter")(gray)
    x = keras.layers.BatchNormalization(name="head_norm")(backbone(rgb))
    x = keras.layers.Concatenate()([x, keras.layers.Dense(4, name="place")(place)])
    return keras.Model([gray, place], keras.layers.Dense(10, name="mine")(x))


def test_a_fit_changes_what_trains_and_nothing_else(digits):
    """On scans of digits: frozen weights and all statistics inside the network stay bit-equal, the others change."""
    model, split = with_layers_around(), digits.splits["train"]
    assert unfreeze(model, "stage3") == ["stage3_block1", "last_conv", "head_norm", "place", "mine"]
    model.compile(keras.optimizers.SGD(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.run_eagerly = True
    before = {variable.path: np.array(variable) for variable in model.variables}
    images = np.stack(split.images[:16])[..., :1].astype("float32")
    images = tf.image.resize(images, (32, 32)).numpy()
    places = np.eye(3, dtype="float32")[np.arange(16) % 3]
    model.fit([images, places], split.labels[:16], batch_size=8, verbose=0)
    for path, value in before.items():
        (after,) = (np.array(variable) for variable in model.variables if variable.path == path)
        kernels = ("kernel", "bias") if path.startswith(("stage3", "last_conv")) else ("",)
        trains = path.startswith(("stage3", "last_conv", "head_norm", "place", "mine")) and path.endswith(kernels)
        assert np.array_equal(value, after) == (not trains), path


def test_gradients_reach_what_trains():
    model = with_random_weights(flat())
    unfreeze(model, "stage3")
    with tf.GradientTape() as tape:
        outputs = model(np.random.default_rng(0).uniform(0, 255, (4, 16, 16, 3)).astype("float32"), training=True)
        loss = tf.reduce_sum(outputs[:, 0])
    gradients = tape.gradient(loss, model.trainable_variables)
    assert {variable.path.split("/")[0] for variable in model.trainable_variables} == {
        "stage3_block1", "last_conv", "predictions",
    }  # fmt: skip
    assert all(float(tf.reduce_max(tf.abs(gradient))) > 0 for gradient in gradients)


@pytest.mark.parametrize("load", [mixnet_tf.load_model, *slow(keras.saving.load_model)])
@pytest.mark.parametrize("build", [nested, *slow(flat)])
def test_a_saved_model_comes_back_as_it_was(build, load, tmp_path):
    model = build()
    unfreeze(model, "stage2")
    model.save(tmp_path / "model.keras")
    again = load(tmp_path / "model.keras")
    assert [v.path for v in again.trainable_variables] == [v.path for v in model.trainable_variables]
    assert len(batch_norms(again)) == 2 + 2 + 3 + 3 and not any(norm.trainable for norm in batch_norms(again))
    for value in (False, True):  # it is Keras' to change
        again.trainable = value
    assert all(norm.trainable for norm in batch_norms(again))
    again.save(tmp_path / "again.keras")
    assert all(norm.trainable for norm in batch_norms(load(tmp_path / "again.keras")))


def test_a_block_says_only_what_is_not_usual():
    model = flat()
    assert not any("frozen_batch_norm" in layer.get_config() for layer in model.layers)
    unfreeze(model, 2)
    said = [layer.name for layer in model.layers if layer.get_config().get("frozen_batch_norm")]
    assert said == BLOCKS[-2:]  # the others are frozen as a whole


@pytest.mark.parametrize("from_", ["stage9", "stage1_block2", "stage", "", "head", 6, -1, True, None, ..., 1.5, [1]])
def test_places_that_are_not_there(from_):
    with pytest.raises(MixNetError) as raised:
        unfreeze(flat(), from_)
    expected = (
        f"expected one of {', '.join(STAGES)}, a block of them (stage1_block1), or a number of blocks from 0 to 5"
    )
    assert str(raised.value).startswith("from_: found ") and expected in str(raised.value)


def test_a_wrong_place_leaves_the_model_as_it_is():
    model = flat()
    unfreeze(model, 2)
    before = count(model)
    with pytest.raises(MixNetError, match="did you mean 'stage3'"):
        unfreeze(model, "stag3")
    assert count(model) == before


def two() -> keras.Model:
    image = keras.Input((16, 16, 3))
    networks = [create_model(SMALL, include_top=False, pooling="avg", name=name)(image) for name in "ab"]
    return keras.Model(image, keras.layers.Concatenate()(networks), name="two")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: None, "model: found None, expected a keras.Model"),
        (lambda: ..., "model: found Ellipsis, expected a keras.Model"),
        (lambda: keras.layers.Dense(2), "model: found <Dense.*, expected a keras.Model"),
        (
            lambda: keras.Sequential([keras.layers.Dense(2)], name="d"),
            "model 'd': holds no block of a MixNet, expected",
        ),
        (two, "model 'two': holds several MixNets, expected one, as create_model builds it"),
    ],
)
def test_models_that_hold_no_mixnet_or_two(build, message):
    with pytest.raises(MixNetError, match=f"^{message}"):
        unfreeze(build(), 1)


def test_a_run_trains_one_block_at_least():
    assert first_block(["stem", "last_conv"], 1, "unfreeze", fewest=1) == 1
    with pytest.raises(MixNetError, match=r"^unfreeze: found 0, .* a number of blocks from 1 to 2$"):
        first_block(["stem", "last_conv"], 0, "unfreeze", fewest=1)
