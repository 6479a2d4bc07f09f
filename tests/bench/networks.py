"""The networks that the bench scripts measure, with random weights, and their files.

Speed does not depend on the weights, as long as no two convolutions are equal: the converter would merge them, and the
graph would look cheaper than it is.
"""

from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
from keras.src.applications.convnext import LayerScale

from mixnet_tf.data.dataset import ImageData
from mixnet_tf.data.sources import load_data
from mixnet_tf.exporting import export
from mixnet_tf.model import create_model

SIZE, CALIBRATION = 224, 16  # pixels; images
PLAIN_RECIPES = {"float32": "float32", "int8": "int8_baseline"}
"""How the plain files of each type are made: as TensorFlow alone would."""

FOREIGN = {
    "EfficientNet-B0": keras.applications.EfficientNetB0,
    "EfficientNetV2-B0": keras.applications.EfficientNetV2B0,
    "MobileNetV2": keras.applications.MobileNetV2,
    "MobileNetV3-Large": keras.applications.MobileNetV3Large,
    "ConvNeXt-Tiny": keras.applications.ConvNeXtTiny,
}
PEERS = ("EfficientNet-B0", "MobileNetV2")
"""What a MixNet-S is compared with."""


def images(count: int = 8) -> Iterator[np.ndarray]:
    """Give random images, pixels as floats, of shape (1, SIZE, SIZE, 3)."""
    rng = np.random.default_rng(1)
    return (rng.integers(0, 256, (1, SIZE, SIZE, 3), np.uint8).astype(np.float32) for _ in range(count))


def noise(folder: Path) -> ImageData:
    """Return a data set of random images: on others, a network with their statistics would magnify rounding."""
    rng, path = np.random.default_rng(3), folder / "noise.npz"
    pixels = rng.integers(0, 256, (3 * CALIBRATION, SIZE, SIZE, 3), dtype=np.uint8)
    labels = np.arange(len(pixels)) % 2
    np.savez(path, x_train=pixels, y_train=labels, x_test=pixels[:2], y_test=labels[:2])
    return load_data(path)


def mixnet(size: str) -> keras.Model:
    """Return MixNet-`size` (S, M, L or XL), giving logits."""
    keras.utils.set_random_seed(0)
    return _randomized(create_model(f"mixnet_{size.lower()}", input_shape=(SIZE, SIZE, 3), classifier_activation=None))


def foreign(name: str) -> keras.Model:
    """Return a network of FOREIGN, from pixels to logits."""
    keras.utils.set_random_seed(0)
    image = keras.Input((SIZE, SIZE, 3), name="image")
    source = keras.layers.Rescaling(1 / 127.5, offset=-1)(image) if name == "MobileNetV2" else image
    return _randomized(FOREIGN[name](weights=None, classifier_activation=None, input_tensor=source))


def _randomized(model: keras.Model) -> keras.Model:
    """Give a model random scales and biases, and the batch-norm statistics of random images.

    Untouched ones could be folded away; statistics that do not fit make a network which magnifies rounding.
    """
    rng = np.random.default_rng(0)
    for variable in model.variables:
        if variable.name == "gamma":
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        elif variable.name in ("beta", "bias"):
            variable.assign(rng.normal(0, 0.1, variable.shape))
    for layer in model._flatten_layers():
        if isinstance(layer, LayerScale):  # a ConvNeXt's blocks add a millionth before training
            layer.gamma.assign(rng.uniform(0.1, 0.5, layer.gamma.shape))
    norms = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    for norm in norms:
        norm.momentum = 0.0
    model(np.concatenate(list(images(16))), training=True)
    return model


def write(model: keras.Model, recipe: str, path: Path, graph: str = "deploy") -> Path:
    """Export a model, with the ranges of random images; return `path`."""
    export(model, path, recipe=recipe, data=noise(path.parent), graph=graph, images=CALIBRATION)
    return path


def write_plain(model: keras.Model, name: str, folder: Path) -> dict[str, Path]:
    """Export the plain graph of a model; return its files by type."""
    return {
        dtype: write(model, recipe, folder / f"{name}_plain_{dtype}.tflite", graph="plain")
        for dtype, recipe in PLAIN_RECIPES.items()
    }
