"""A MixNet in Keras' own layers: it loads without this package, computes and trains the same, and deploys the same."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from marks import slow
from small import SMALL, backbone, block, with_random_weights

from mixnet_tf.config import ACTIVATIONS
from mixnet_tf.deploy.deploy import deploy_model
from mixnet_tf.deploy.front import front_of
from mixnet_tf.deploy.unfolding import to_blocks, to_builtin
from mixnet_tf.errors import DeployError
from mixnet_tf.exporting import export
from mixnet_tf.layers import MixConv2D, MixDepthBlock
from mixnet_tf.model import create_feature_extractor, create_model
from mixnet_tf.schema import shipped_files
from mixnet_tf.training.freezing import unfreeze

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype(np.float32)
LABELS = np.array([3, 1, 4, 1])

BLOCKER = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "mixnet_tf":
            raise ImportError(name)
sys.meta_path.insert(0, Blocker())
"""
"""As where this package is not installed."""

ELSEWHERE = """
import keras, numpy as np
folder = sys.argv[1]
given = np.load(folder + "/given.npz")
model = keras.models.load_model(folder + "/builtin.keras")
results = {"before": model.predict(given["pixels"], verbose=0)}
model.compile(keras.optimizers.SGD(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
history = model.fit(given["pixels"], given["labels"], batch_size=2, epochs=1, shuffle=False, verbose=0)
results |= {"loss": history.history["loss"], "after": model.predict(given["pixels"], verbose=0)}
more = keras.Model(model.input, model.output + 1)  # another operation: its name must be free
assert more.output_shape == model.output_shape
np.savez(folder + "/results.npz", **results)
"""


def same(a, b, share=1e-6):
    """Say whether arrays are equal up to a share of the largest value."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return a.shape == b.shape and np.abs(a - b).max() <= share * np.abs(a).max()


def outputs(model, images=PIXELS, **arguments):
    return [np.asarray(output) for output in keras.tree.flatten(model(images, **arguments))]


def is_builtin(model):
    return all(
        is_builtin(layer) if isinstance(layer, keras.Model) else type(layer).__module__.startswith("keras.src.layers.")
        for layer in model.layers
    )


def check_equal(model, images=PIXELS, share=1e-6):
    model = with_random_weights(model)
    builtin = to_builtin(model)
    assert is_builtin(builtin) and builtin.name == model.name
    assert all(map(same, outputs(model, images), outputs(builtin, images), [share] * len(model.outputs)))
    return model, builtin


@pytest.mark.slow
def test_it_is_loaded_and_trained_without_this_package(tmp_path):
    model = with_random_weights(create_model(SMALL, classes=5, classifier_activation=None))
    to_builtin(model).save(tmp_path / "builtin.keras")
    np.savez(tmp_path / "given.npz", pixels=PIXELS, labels=LABELS)
    subprocess.run([sys.executable, "-W", "ignore", "-c", BLOCKER + ELSEWHERE, str(tmp_path)], check=True)
    results = np.load(tmp_path / "results.npz")
    before = model.predict(PIXELS, verbose=0)
    assert same(before, results["before"])
    model.compile(keras.optimizers.SGD(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    history = model.fit(PIXELS, LABELS, batch_size=2, epochs=1, shuffle=False, verbose=0)  # two steps
    assert same(history.history["loss"], results["loss"], 1e-4)
    after = model.predict(PIXELS, verbose=0)
    assert same(after, results["after"], 1e-4) and not same(before, after, 0.01)


@pytest.mark.slow
def test_without_the_package_a_mixnet_does_not_load(trained_nano):
    """Else the test above would show nothing."""
    code = f"{BLOCKER}import keras\nkeras.models.load_model({str(trained_nano)!r})"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert process.returncode and "Could not locate class 'ConvBatchNorm'" in process.stderr


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"classes": 4}, "predictions"),
        ({"classes": 4, "padding": "same", "classifier_activation": None}, "predictions"),
        ({"include_top": False, "include_preprocessing": False, "input_shape": (32, 32, 3)}, "last_conv"),
    ],
)
def test_small_networks(arguments, name):
    model, builtin = check_equal(create_model(SMALL, **arguments))
    assert builtin.layers[-1].name == name
    assert [builtin.get_layer(layer.name).output.shape for layer in model.layers] == [
        layer.output.shape for layer in model.layers
    ]


MARKS = {"mixnet_nano": (), "mixnet_s": pytest.mark.slow}


@pytest.mark.parametrize(
    "config",
    [pytest.param(name, marks=MARKS.get(name, pytest.mark.exhaustive)) for name in shipped_files("configs")],
)
def test_shipped_networks(config):
    check_equal(create_model(config, classes=10))


@pytest.mark.parametrize("act_type", ["swish", *slow(*sorted({*ACTIVATIONS} - {"swish"}))])
def test_every_activation(act_type):
    config = backbone(block(kernel_sizes=[3, 5], stride=2, act_type=act_type), stem=4)
    head = {
        "name": "fc",
        "params": {"num_layers": 2, "intermediate_channels": 6, "act_type": act_type, "dropout_prob": 0.1},
    }
    _, builtin = check_equal(create_model({"backbone": config, "head": head}, classes=5))
    assert isinstance(to_blocks(builtin).get_layer("stage1_block1"), MixDepthBlock)


@pytest.mark.slow
def test_maps_of_features_and_half_precision():
    check_equal(create_feature_extractor(SMALL), PIXELS[:3, :17])
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = create_model(SMALL, classes=4, classifier_activation=None)
    finally:
        keras.config.set_dtype_policy("float32")
    _, builtin = check_equal(model, share=1e-2)  # bfloat16 has 8 bits
    assert builtin.get_layer("stage2_block1").output.dtype == builtin.get_layer("stem_conv").output.dtype == "bfloat16"


def test_a_mixnet_in_other_models():
    """A block that is called twice, a layer of a block by itself, and models in models."""
    image, another = keras.Input((32, 32, 3), name="left"), keras.Input((32, 32, 3), name="right")
    twice, mix = MixDepthBlock(3, [3, 5, 3], expansion_ratio=2, name="twice"), MixConv2D([3, 5, 7], 2, name="mix")
    nested = keras.Sequential([keras.Input((16, 16, 3)), create_model(SMALL, include_top=False, pooling="avg")])
    outcome = keras.layers.Dense(2)(nested(mix(twice(twice(image)) + another)))
    model = with_random_weights(keras.Model([image, another], outcome))
    builtin = to_builtin(model)
    pair = [PIXELS / 255, PIXELS[::-1] / 255]
    assert is_builtin(builtin) and same(model(pair), builtin(pair))
    assert len(builtin.trainable_variables) == len(model.trainable_variables)
    assert len({operation.name for operation in builtin.operations}) == len(builtin.operations)


def test_training_mode_moves_the_same_statistics():
    model, builtin = check_equal(create_model(SMALL, classes=4))
    before, trained = outputs(model), outputs(model, training=True)
    assert same(*trained, *outputs(builtin, training=True)) and not same(*trained, *before, 0.01)
    after = outputs(model)  # by the statistics that have moved
    assert same(*after, *outputs(builtin)) and not same(*after, *before, 0.001)


def test_dropout_drops_channels_of_residual_branches():
    config = backbone(block(out_channels=8, num_blocks=2), dropout_rate=0.5)
    _, builtin = check_equal(create_model(config, classes=3))
    assert builtin.get_layer("stage1_block2_dropout").rate == 0.5
    assert not same(*outputs(builtin, training=True), *outputs(builtin, training=True), 1e-3)


@pytest.mark.slow
def test_drop_path_is_a_layer_and_comes_back():
    config = backbone(block(out_channels=8, num_blocks=4))
    model, builtin = check_equal(create_model(config, classes=3, drop_path=0.4))
    rates = [model.get_layer(f"stage1_block{i}").drop_path for i in (1, 2, 3, 4)]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3])  # timm: rate * index / blocks
    assert builtin.get_layer("stage1_block3_drop_path").rate == pytest.approx(0.2)
    assert not same(*outputs(builtin, training=True), *outputs(builtin, training=True), 1e-3)


def test_what_is_frozen_stays_frozen():
    model = create_model(SMALL, classes=4)
    unfreeze(model, "stage2")
    builtin = to_builtin(model)
    shapes = [variable.shape for variable in builtin.trainable_variables]
    assert shapes == [variable.shape for variable in model.trainable_variables]
    norms = [layer for layer in builtin.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert norms and not any(norm.trainable for norm in norms)


# -- and back -------------------------------------------------------------------------------------------------------


def graph(model, **arguments):
    """Return the layers of the deploy graph, and their weights."""
    deployed = deploy_model(model, image_size=32, **arguments)
    return [(type(layer), layer.name) for layer in deployed.layers], deployed.get_weights()


@pytest.mark.slow
@pytest.mark.parametrize("target", ["int8", "float"])
def test_its_deploy_graph_is_that_of_the_original(target, tmp_path):
    model, builtin = check_equal(create_model(SMALL, classes=4, padding="same" if target == "int8" else "symmetric"))
    builtin.save(tmp_path / "builtin.keras")
    layers, weights = graph(model, target=target)
    for twin in (
        builtin,
        keras.models.load_model(tmp_path / "builtin.keras"),
        keras.Sequential([keras.Input((32, 32, 3)), builtin]),
    ):
        twin_layers, twin_weights = graph(twin, target=target)
        if not isinstance(twin, keras.Sequential):
            assert twin_layers == layers
            assert all(map(np.array_equal, twin_weights, weights))
        assert len(twin_weights) == len(weights)


@pytest.mark.exhaustive
def test_export_makes_the_same_file_of_both(tmp_path):
    model = with_random_weights(create_model(SMALL, classes=10, classifier_activation=None))
    files = [tmp_path / "model.tflite", tmp_path / "builtin.tflite"]
    for twin, path in zip((model, to_builtin(model)), files, strict=True):
        export(twin, path, data="digits", image_size=32, images=50)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_it_takes_what_the_original_takes():
    arguments = {"include_preprocessing": False, "input_shape": (32, 32, 3)}
    for model in (create_model(SMALL, **arguments), create_model(SMALL)):
        assert front_of(to_builtin(model)) == front_of(model)


def changed(model, name, change):
    """Return the model with another layer in place of one."""

    def copy(layer):
        if not isinstance(layer, keras.layers.Layer):
            return layer
        twin = type(layer).from_config(layer.get_config())
        return change(twin) if layer.name == name else twin

    return with_random_weights(keras.models.clone_model(model, clone_function=copy))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("expand_act", lambda layer: keras.layers.Activation("softplus", name=layer.name)),
        *slow(
            ("depthwise_bn", lambda layer: keras.layers.LayerNormalization(name=layer.name)),
            ("depthwise_act", lambda layer: keras.layers.Activation("tanh", name=layer.name)),
            ("se_expand", lambda layer: keras.Sequential([layer, keras.layers.ReLU()], name=layer.name)),
            ("project_bn", lambda layer: keras.layers.BatchNormalization(epsilon=0.1, name=layer.name)),
        ),
    ],
)
def test_a_changed_block_is_no_block_and_deploys_as_it_is(name, change):
    builtin = to_builtin(create_model(SMALL, classes=4, classifier_activation=None))
    model = changed(builtin, f"stage2_block1_{name}", change)
    kinds = {layer.name: type(layer) for layer in to_blocks(model).layers}
    assert kinds["stage2_block1"] is keras.layers.Identity and kinds["stage3_block1"] is MixDepthBlock
    assert same(*outputs(model), *outputs(deploy_model(model, image_size=32, batch_size=4)), 1e-5)


class Custom(keras.layers.Layer):
    def call(self, inputs):
        return inputs


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: "model.keras", "cannot take apart a str: expected a built functional"),
        (keras.Sequential, "a Sequential: expected a built functional"),
        (lambda: keras.Sequential([keras.Input((8, 8, 3)), Custom(name="mine")]), "layer 'mine' is a Custom; expected"),
        (
            lambda: keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Lambda(lambda x: x, name="l")]),
            "layer 'l' is a Lambda; expected MixNet's layers and Keras' built-in ones",
        ),
    ],
)
def test_what_cannot_be_taken_apart(model, message):
    with pytest.raises(DeployError, match=message) as raised:
        to_builtin(model())
    assert "\n" not in str(raised.value)
