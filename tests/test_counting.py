"""Parameters and MACs: the published table, and Keras' own count."""

import math

import numpy as np
import pytest

from mixnet_tf.config import load_config, to_dict
from mixnet_tf.counting import count_stages
from mixnet_tf.schema import shipped_files

# 1000 classes, 224 px: trainable parameters, those of the backbone alone, MACs (rounded to 0.1 M).
# S, M, L: NetsPresso's and the paper's (4.1 M, 5.0 M, 7.3 M); XL: timm's. nano (10 classes, 32 px) is our own.
COUNTS = {
    "mixnet_s": (4_134_606, 2_597_606, 239.2),
    "mixnet_m": (5_014_382, 3_477_382, 339.2),
    "mixnet_l": (7_329_252, 5_792_252, 555.3),
    "mixnet_xl": (11_896_768, 10_359_768, 904.0),
    "mixnet_nano": (53_578, 38_208, 0.8),
}


def test_every_config_is_in_the_table():
    assert set(COUNTS) == set(shipped_files("configs"))


@pytest.mark.parametrize("name", COUNTS)
def test_counts(name):
    classes, size = (10, 32) if name == "mixnet_nano" else (1000, 224)
    rows = count_stages(load_config(name), image_size=(size, size), classes=classes)
    parameters, backbone, macs = COUNTS[name]
    assert sum(row.parameters for row in rows) == parameters
    assert sum(row.parameters for row in rows if row.name != "head") == backbone
    assert round(sum(row.macs for row in rows) / 1e6, 1) == macs


def test_nano_is_tiny():
    assert COUNTS["mixnet_nano"][0] <= 60_000


def macs_of_keras_layers(model, image_size):
    """Count by running the model: each convolution's kernel times its output pixels, as Keras sees them."""
    import keras

    total = 0
    convs = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)
    found = [layer for layer in model._flatten_layers() if isinstance(layer, convs)]

    def counted(layer, call):
        def count(inputs, *args, **kwargs):
            nonlocal total
            outputs = call(inputs, *args, **kwargs)
            pixels = math.prod(outputs.shape[1:3]) if len(outputs.shape) == 4 else 1
            total += math.prod(layer.kernel.shape) * pixels
            return outputs

        return count

    for layer in found:
        layer.call = counted(layer, layer.call)
    model(np.zeros((1, *image_size, 3), "float32"))
    return total


@pytest.mark.parametrize("image_size", [(32, 32), (33, 50)])
def test_counts_are_those_of_keras(image_size):
    import keras

    from mixnet_tf.model import create_model

    data = to_dict(load_config("mixnet_nano"))
    data["model"]["architecture"]["head"]["params"] = {
        "num_layers": 2,
        "intermediate_channels": 24,
        "act_type": "prelu",
    }
    for stage in data["model"]["architecture"]["backbone"]["stage_params"]:
        stage["act_type"] = ["prelu"] * len(stage["act_type"])
    config = load_config(data)
    rows = count_stages(config, image_size=image_size, classes=7)
    model = create_model(config, classes=7, input_shape=(*image_size, 3))
    assert sum(row.parameters for row in rows) == sum(math.prod(v.shape) for v in model.trainable_variables)
    assert sum(row.macs for row in rows) == macs_of_keras_layers(model, image_size)
    features = keras.Model(
        model.input, [model.get_layer(f"stage{s}_block{b}").output for s, b in [(1, 1), (2, 2), (3, 2)]]
    )
    shapes = [(row.height, row.width, row.channels) for row in rows if row.name.startswith("stage")]
    assert shapes == [tuple(output.shape[1:]) for output in features.outputs]
