"""From a model to a ``.tflite``: what is refused leaves nothing on the disk."""

import re

import keras
import numpy as np
import pytest

from mixnet_tf import exporting as export_module
from mixnet_tf.data.batches import load_data
from mixnet_tf.deploy.deploy import deploy_model
from mixnet_tf.errors import DeployError, MixNetError
from mixnet_tf.exporting import export
from mixnet_tf.litert.convert import convert
from mixnet_tf.litert.flatgraph import FlatGraph, Outputs
from mixnet_tf.model import create_model
from mixnet_tf.quantization import quantize as quantize_module
from mixnet_tf.quantization.backends import to_int8
from mixnet_tf.quantization.quantize import quantize
from mixnet_tf.quantization.recipe import BACKENDS


@pytest.fixture(scope="module")
def data():
    return load_data("digits")


@pytest.fixture(scope="module")
def nano():
    return create_model("mixnet_nano", classes=10)


def wrong_by_one_weight(model, **arguments):
    deployed = deploy_model(model, **arguments)
    layer = deployed.get_layer("stage2_block1_output")
    kernel, bias = layer.get_weights()
    bias[0] += 10
    layer.set_weights([kernel, bias])
    return deployed


@pytest.mark.parametrize("module", [export_module, quantize_module], ids=["export", "quantize"])
@pytest.mark.parametrize("recipe", ["float32", "int8"])
def test_a_deploy_graph_that_differs_is_never_written(module, recipe, nano, data, tmp_path, monkeypatch):
    for own in (export_module, quantize_module):  # the one may leave it to the other
        monkeypatch.setattr(own, "deploy_model", wrong_by_one_weight, raising=False)
    path = tmp_path / "made" / "f.tflite"
    with pytest.raises(DeployError, match="differs from it: it begins at layer 'stage2_block1'"):
        if module is export_module:
            export(nano, recipe, path, image_size=32, calibration=data, images=4)
        else:
            quantize(nano, recipe, data, path, image_size=32, images=4)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_tensor_without_a_range_is_named(backend, nano):
    content = convert(nano, "float32", image_size=32)
    graph = FlatGraph(content)
    ranges = {graph.name(index): (-1.0, 1.0) for index in graph.float_tensors()}
    name = graph.name(graph.outputs[0])
    del ranges[name]
    with pytest.raises(DeployError, match=f"^tensor '{re.escape(name)}' has no range; expected one of every"):
        to_int8(content, ranges, backend)


@pytest.mark.parametrize("graph", ["deploy", "plain"])
def test_a_sequential_model_around_ours(graph, tmp_path):
    backbone = create_model("mixnet_nano", include_top=False, pooling="avg")
    model = keras.Sequential([keras.Input((None, None, 3)), backbone, keras.layers.Dense(3)])
    path = tmp_path / "f.tflite"
    assert export(model, "float32", path, image_size=40, graph=graph) == ()
    image = np.random.default_rng(0).standard_normal((1, 40, 40, 3)).astype(np.float32)
    (found,) = Outputs(path.read_bytes())(image)
    np.testing.assert_allclose(found, np.asarray(model(image, training=False)), rtol=1e-3, atol=1e-5)


def test_a_model_without_a_bias_has_nothing_to_correct(data, tmp_path):
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, keras.layers.Dense(10, use_bias=False)(keras.layers.Flatten()(image)))
    path = tmp_path / "f.tflite"
    export(model, "int8", path, image_size=8, calibration=data, images=40)
    image = np.random.default_rng(0).uniform(-1, 1, (1, 8, 8, 3)).astype(np.float32)
    (found,), wanted = Outputs(path.read_bytes())(image), np.asarray(model(image))
    np.testing.assert_allclose(found, wanted, atol=0.05 * np.abs(wanted).max())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"graph": "depoly"}, r"graph 'depoly', expected one of deploy, plain \(did you mean 'deploy'\?\)"),
        ({"graph": None}, "graph None, expected one of deploy, plain"),
        ({"recipe": "flaot32"}, "recipe 'flaot32', expected one of float32"),
        ({"image_size": "32"}, "image_size: found '32', expected pixels as an integer or"),
        ({"image_size": (32, "32")}, r"image_size: found \(32, '32'\), expected"),
        ({"image_size": 32.5}, r"image_size: found 32\.5, expected"),
        ({"image_size": None}, "image_size: found None, expected"),
    ],
)
@pytest.mark.parametrize("recipe", ["float32", "int8"])
def test_wrong_arguments_are_one_line(recipe, arguments, message, nano, data, tmp_path):
    arguments = {"recipe": recipe, "image_size": 32, "calibration": data} | arguments
    with pytest.raises(MixNetError, match=message) as caught:
        export(nano, path=tmp_path / "f.tflite", **arguments)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
