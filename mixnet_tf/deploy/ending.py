"""What a Keras model's output says of the classes, read off its last layer."""

from typing import Any

import keras

from mixnet_tf.deploy.graphs import functional

_ACTIVATIONS = {
    keras.activations.softmax: "softmax",
    keras.activations.sigmoid: "sigmoid",
    keras.activations.linear: "logits",
}
_SAME = (keras.layers.Flatten, keras.layers.Reshape, keras.layers.Identity, keras.layers.Dropout)
_LINEAR = (keras.layers.GlobalAveragePooling2D, keras.layers.Rescaling)


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
    layer, scaled = _writer(functional(model).outputs[0]), False
    while isinstance(layer, (*_SAME, *_LINEAR)) or _does_nothing(layer):
        scaled |= isinstance(layer, _LINEAR)
        layer = _writer(layer.input)
    scores = _scores_of(layer)
    return None if scaled and scores != "logits" else scores  # half a probability is none


def _scores_of(layer: Any) -> str | None:
    if isinstance(layer, keras.Model):
        return scores_of_keras(layer)
    if isinstance(layer, keras.layers.Softmax):
        return "softmax"
    told = isinstance(layer, keras.layers.Dense | keras.layers.Conv2D | keras.layers.Activation)
    return _ACTIVATIONS.get(layer.activation) if told else None


def _does_nothing(layer: Any) -> bool:
    return isinstance(layer, keras.layers.Activation) and layer.activation is keras.activations.linear


def _writer(tensor: Any) -> Any:
    return tensor._keras_history.operation
