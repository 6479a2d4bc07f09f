"""Keras → ``.tflite``: built-in ops only, batch 1, one named signature."""

import tempfile
from collections.abc import Callable, Iterable

import keras
import numpy as np

from mixnet_tf.data.pixels import height_and_width
from mixnet_tf.deploy.deploy import functional, rewired
from mixnet_tf.errors import DeployError
from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.quiet import quiet

RepresentativeDataset = Callable[[], Iterable[np.ndarray]]
"""Gives, each time it is called, float32 images of shape (1, height, width, 3), preprocessed as for training."""

SIGNATURE = "serving_default"


def convert(
    model: keras.Model,
    recipe: str,
    *,
    image_size: int | tuple[int, int],
    representative_dataset: RepresentativeDataset | None = None,
) -> bytes:
    """Convert a Keras model to a ``.tflite`` with a static batch of 1.

    Args:
        model: float NHWC images to any outputs.
        recipe: ``"float32"``, ``"float16"`` (float16 weights, float32 input and output) or ``"int8"`` (weights,
            activations, input and output).
        image_size: pixels: a side, or (height, width).
        representative_dataset: real images for the activation ranges of ``"int8"``.

    Returns:
        The file's content. Its signature ``serving_default`` has the input ``image`` and one output a model output,
        called as Keras calls it.

    Raises:
        DeployError: unknown recipe, no representative images, a size the model does not take, or a model that LiteRT's
            built-in ops cannot express.

    Example:
        >>> from mixnet_tf import create_model
        >>> content = convert(create_model("mixnet_nano", classes=10), "float32", image_size=32)
        >>> content[4:8]
        b'TFL3'
    """
    if recipe not in _CONFIGURE:
        raise DeployError(f"recipe {recipe!r}, expected one of {', '.join(_CONFIGURE)}")
    if recipe == "int8" and representative_dataset is None:
        raise DeployError("int8 needs representative images to find the range of every activation; give some")
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        _save(at_image_size(model, image_size), folder)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[SIGNATURE])
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        _CONFIGURE[recipe](converter, representative_dataset)
        try:
            with quiet():
                content = converter.convert()
        except Exception as error:  # the converter raises its own, undocumented kinds
            raise DeployError(f"{model.name}: the converter refused it: {_first_line(error)}") from error
    return FlatGraph(content).content()  # a tenth smaller in int8


def _save(model: keras.Model, folder: str) -> None:
    import tensorflow as tf

    model = functional(model)  # a Sequential one has no names of its outputs
    spec = tf.TensorSpec((1, *model.input_shape[1:]), "float32", name="image")

    def serve(image):
        outputs = model(image, training=False)
        return dict(zip(model.output_names, outputs if isinstance(outputs, list) else [outputs], strict=True))

    archive = keras.export.ExportArchive()
    archive.track(model)  # without it, the variables that `serve` closes over would not be saved
    archive.add_endpoint(SIGNATURE, serve, input_signature=[spec])
    with quiet():
        archive.write_out(folder, verbose=False)


def _float16(converter, representative_dataset) -> None:
    import tensorflow as tf

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]


def _int8(converter, representative_dataset) -> None:
    import tensorflow as tf

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image] for image in representative_dataset())
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8


_CONFIGURE = {"float32": lambda converter, images: None, "float16": _float16, "int8": _int8}


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__


def at_image_size(model: keras.Model, image_size: int | tuple[int, int]) -> keras.Model:
    """Return the model with another input size, sharing its layers: it is fully convolutional up to the pooling.

    Args:
        model: of one image.
        image_size: pixels: a side, or (height, width).

    Raises:
        DeployError: another kind of input, or a size that the model does not take.
    """
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
        shapes = ", ".join(str(tuple(own.shape)) for own in model.inputs)
        raise DeployError(f"{model.name}: takes {shapes}, expected one image: (batch, height, width, channels)")
    size, shape = height_and_width(image_size), model.inputs[0].shape
    if tuple(shape[1:3]) == size:
        return model
    return rewired(model, keras.Input((*size, shape[-1]), name=model.inputs[0].name))
