"""Keras → ``.tflite``: built-in ops only, batch 1, one named signature."""

import gc
import tempfile
from collections.abc import Sequence
from typing import Any

import keras

from mixnet_tf.checks import ImageSize, one_of
from mixnet_tf.checks import image_size as checked_size
from mixnet_tf.deploy.graphs import functional, rewired
from mixnet_tf.errors import DeployError
from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.progress.steps import step
from mixnet_tf.quiet import errors_only, quiet

SIGNATURE = "serving_default"
WEIGHTS = ("float32", "float16")


@step("convert to .tflite")
def convert(
    model: keras.Model, *, image_size: ImageSize, weights: str = "float32", output_names: Sequence[str] | None = None
) -> FlatGraph:
    """Convert a Keras model as it is to a float ``.tflite`` with a static batch of 1.

    ``export`` rewrites a MixNet first, which makes it fast, and quantizes it.

    Args:
        model: float NHWC images to any outputs.
        image_size: pixels: a side, or (height, width).
        weights: ``"float32"``, or ``"float16"``, which leaves input, output and arithmetic in float32.
        output_names: what the outputs are called; default: as Keras calls them.

    Returns:
        The graph; its ``content()`` is the file. Its signature ``serving_default`` has the input ``image`` and one
        output a model output, in the model's order.

    Raises:
        MixNetError: a size that the model does not take, or a model that LiteRT's built-in ops cannot express.

    Example:
        >>> from mixnet_tf import create_model
        >>> convert(create_model("mixnet_nano", classes=10), image_size=32).content()[4:8]
        b'TFL3'
    """
    one_of("weights", weights, WEIGHTS)
    import tensorflow as tf

    model = functional(at_image_size(model, image_size))  # a Sequential one has no names of its outputs
    names = _unique(model.output_names if output_names is None else output_names)
    with tempfile.TemporaryDirectory() as folder:
        _save(model, names, folder)
        with errors_only("absl"):  # it warns that there are no gradients; saving sets its level anew
            converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[SIGNATURE])
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
            if weights == "float16":
                converter.optimizations = [tf.lite.Optimize.DEFAULT]
                converter.target_spec.supported_types = [tf.float16]
            try:
                with quiet():
                    content = converter.convert()
            except Exception as error:  # the converter raises its own, undocumented kinds
                raise DeployError(f"{model.name}: the converter refused it: {_first_line(error)}") from error
    del converter
    gc.collect()  # the traced functions are circles of references: 14 MiB for MixNet-S, beside all that follows
    graph = FlatGraph(content)
    graph.order_outputs(names)  # the converter sorts them by its own names
    return graph


def _unique(names: Sequence[str]) -> list[str]:
    """Number the names that come twice: a layer may be called twice, or give two outputs."""
    return [name if names.count(name) == 1 else f"{name}_{i}" for i, name in enumerate(names)]


def _save(model: keras.Model, names: Sequence[str], folder: str) -> None:
    import tensorflow as tf

    spec = tf.TensorSpec((1, *model.input_shape[1:]), "float32", name="image")

    def serve(image: Any) -> dict[str, Any]:
        outputs = model(image, training=False)
        return dict(zip(names, outputs if isinstance(outputs, list | tuple) else [outputs], strict=True))

    module = tf.Module()  # the model itself would be traced once more for each of its own signatures
    module.variables_of_the_model = [variable.value for variable in model.variables]
    function = tf.function(serve, input_signature=[spec], autograph=False).get_concrete_function()
    without_gradients = tf.saved_model.SaveOptions(experimental_custom_gradients=False)  # a third of the time
    with quiet():
        tf.saved_model.save(module, folder, signatures={SIGNATURE: function}, options=without_gradients)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__


def at_image_size(model: keras.Model, image_size: ImageSize) -> keras.Model:
    """Return the model with another input size, sharing its layers: it is fully convolutional up to the pooling.

    Args:
        model: of one image.
        image_size: pixels: a side, or (height, width).

    Raises:
        DeployError: another kind of input, or a size that the model does not take.
    """
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in model.inputs)
        raise DeployError(f"{model.name}: takes {shapes}, expected one image: (batch, height, width, channels)")
    size, shape = checked_size(image_size), model.inputs[0].shape
    if tuple(shape[1:3]) == size:
        return model
    return rewired(model, keras.Input((*size, shape[-1]), name=model.inputs[0].name))
