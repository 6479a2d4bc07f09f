"""What a Keras model's output says of the classes, read off its last layer."""

from typing import Any

import keras

from mixnet_tf.deploy.graphs import functional

_ACTIVATIONS = {keras.activations.softmax: "softmax", keras.activations.sigmoid: "sigmoid"}
_SAME = (keras.layers.Flatten, keras.layers.Reshape, keras.layers.Identity, keras.layers.Dropout)
_WEIGHTED = (keras.layers.Dense, keras.layers.Conv2D, keras.layers.GlobalAveragePooling2D, keras.layers.Rescaling)


def scores_of_keras(model: keras.Model) -> str | None:
    """Return one of SCORES; None where the last layer does not tell.

    Args:
        model: functional or Sequential, of one output.

    Example:
        >>> from mixnet_tf.model import create_model
        >>> scores_of_keras(create_model("mixnet_nano", classes=10))
        'softmax'
    """
    if getattr(model, "outputs", None) is None or len(model.outputs) != 1:
        return None
    tensor = functional(model).outputs[0]
    layer = _writer(tensor)
    while isinstance(layer, _SAME):
        tensor = layer.input
        layer = _writer(tensor)
    if isinstance(layer, keras.Model):
        return scores_of_keras(layer)
    if isinstance(layer, keras.layers.Softmax):
        return "softmax"
    activation = getattr(layer, "activation", None)
    if isinstance(layer, keras.layers.Activation) and activation not in _ACTIVATIONS:
        return None
    if activation in _ACTIVATIONS:
        return _ACTIVATIONS[activation]
    return "logits" if isinstance(layer, _WEIGHTED) else None


def _writer(tensor: Any) -> Any:
    return tensor._keras_history.operation
