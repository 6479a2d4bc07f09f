"""What cannot be deployed is one line that says why."""

import keras
import numpy as np
import pytest
from small import SMALL

from mixnet_tf.deploy.deploy import deploy_model
from mixnet_tf.errors import ArgumentError, DeployError, MixNetError
from mixnet_tf.exporting import export
from mixnet_tf.model import create_model


class Custom(keras.layers.Layer):
    def call(self, inputs):
        return inputs


def custom_model(layer):
    image = keras.Input((8, 8, 3))
    return keras.Model(image, layer(image))


class Subclassed(keras.Model):
    def call(self, inputs):
        return inputs


def two_inputs():
    images = [keras.Input((8, 8, 3)) for _ in range(2)]
    return keras.Model(images, images[0] + images[1])


def nested_two_inputs():
    image, inner = keras.Input((8, 8, 3)), two_inputs()
    inner.name = "two"
    return keras.Model(image, inner([image, image]))


def quantized(mode):
    members = [keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(8, name="head")]
    model = keras.Sequential(members, name="net")
    model.quantize(mode, filters="head")
    return model


def small_pool():
    image = keras.Input((None, None, 3))
    return keras.Model(image, keras.layers.MaxPooling2D(4)(keras.layers.Conv2D(3, 3)(image)), name="pool")


@pytest.mark.parametrize(
    ("model", "image_size", "message"),
    [
        (lambda: "mixnet_s", 32, r"cannot deploy a str: expected a built functional keras\.Model"),
        (Subclassed, 32, "cannot deploy 'subclassed.*', a Subclassed: expected"),
        (keras.Sequential, 32, "cannot deploy 'sequential.*', a Sequential: expected"),
        (two_inputs, 8, "with one input"),
        (
            lambda: custom_model(Custom(name="mine")),
            8,
            "layer 'mine' is a Custom; expected MixNet's layers.*graph plain",
        ),
        (
            lambda: custom_model(Subclassed(name="sub")),
            8,
            "cannot deploy 'sub', a Subclassed: expected a built functional",
        ),
        (nested_two_inputs, 8, "cannot deploy 'two': it has 2 inputs, expected a model with one"),
        (
            lambda: quantized("int8"),
            8,
            r"layer 'head' of net is quantized by Keras already \(int8_from_float32\); expected",
        ),
        (lambda: quantized("float8"), 8, "layer 'head' of net is quantized by Keras already"),
        (lambda: custom_model(quantized("int4")), 8, "layer 'head' of net is quantized by Keras already"),
        (lambda: custom_model(keras.layers.Lambda(lambda x: x, name="l")), 8, "layer 'l' is a Lambda; expected"),
        (
            lambda: create_model(SMALL, input_shape=(32, 32, 3)),
            48,
            "image_size=48, but mixnet takes 32 x 32",
        ),
        (lambda: create_model(SMALL), 0, "image_size: found 0, expected pixels"),
        (lambda: create_model(SMALL), "32", "image_size: found '32', expected"),
        (lambda: create_model(SMALL), (32, 32, 3), "expected pixels as an integer or"),
        (lambda: create_model(SMALL), True, "image_size: found True, expected"),
        (lambda: create_model(SMALL), (32, None), "expected pixels as an integer or"),
        (small_pool, 2, r"pool takes \(None, None, 3\) and cannot be built for \(2, 2, 3\): .*size would be zero"),
    ],
)
def test_what_cannot_be_deployed_is_one_line(model, image_size, message):
    with pytest.raises(MixNetError, match=message) as caught:
        deploy_model(model(), image_size=image_size)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("graph", ["deploy", "plain"])
@pytest.mark.parametrize("model", [Subclassed, lambda: quantized("int8"), lambda: custom_model(quantized("int8"))])
def test_neither_graph_is_exported_of_what_is_no_float_model(model, graph, tmp_path):
    with pytest.raises(DeployError, match=r"expected (a built functional|the float model)"):
        export(model(), tmp_path / "x.tflite", recipe="float32", graph=graph)
    assert not list(tmp_path.iterdir())


def test_nan_weights_are_named():
    model = create_model(SMALL, classes=3)
    model.get_layer("stage2_block1").depthwise_bn.gamma.assign(np.full(24, np.nan))
    with pytest.raises(DeployError, match=r"stage2_block1/depthwise_bn/gamma holds NaN or infinity"):
        deploy_model(model, image_size=32)


def test_unknown_target():
    message = r"target: found 'flaot', expected one of int8, float \(did you mean 'float'\?\)"
    with pytest.raises(ArgumentError, match=message):
        deploy_model(create_model(SMALL), image_size=32, target="flaot")


@pytest.mark.parametrize("batch_size", [0, 1.5, True])
def test_impossible_batches(batch_size):
    with pytest.raises(ArgumentError, match=f"batch_size: found {batch_size}, expected an integer from 1"):
        deploy_model(create_model(SMALL), image_size=32, batch_size=batch_size)
