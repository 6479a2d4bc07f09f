"""Keras models as graphs of layers and operations: looked at, copied, and called again on another input."""

import re
from collections.abc import Callable
from typing import Any

import keras

from mixnet_tf.batch_norm import builtin_class
from mixnet_tf.errors import DeployError
from mixnet_tf.sublayers import Tensor

IDLE = ("_initializer", "_regularizer", "_constraint")
"""Ends of the fields of a layer's configuration that decide nothing at inference, and may hold custom code."""


def functional(model: keras.Model, name: str | None = None) -> keras.Model:
    """Return a functional view of the model, which may be Sequential, not compiled; one input is no list in it."""
    sequential, one = isinstance(model, keras.Sequential), len(model.inputs) == 1
    inputs, outputs = model.inputs[0] if one else model.input, model.outputs[0] if sequential else model.output
    return keras.Model(inputs, outputs, name=name or model.name)


def nodes(model: keras.Model) -> list[Any]:
    """Return the calls that a functional model consists of; a layer's own are those of all models."""
    return [node for level in model._nodes_by_depth.values() for node in level]


def rewired(model: keras.Model, image: Tensor, name: str | None = None, **calls: Callable) -> keras.Model:
    """Return the model, functional or Sequential, with its layers called again on another input.

    Args:
        model: whose layers the new one shares.
        image: the new input.
        name: of the new model; default: the old one's.
        **calls: ``call_function`` of ``keras.models.clone_model``, to call something else than the layers.

    Raises:
        DeployError: a layer does not take what the new input makes of its own.
    """
    try:
        return keras.models.clone_model(
            functional(model, name), input_tensors=image, clone_function=lambda layer: layer, **calls
        )
    except DeployError:
        raise
    except ValueError as error:  # Keras', of a size that does not fit; it paints some of them
        reason = " ".join(re.sub(r"\x1b\[\d+m", "", str(error)).split())
        takes, given = (tuple(tensor.shape[1:]) for tensor in (model.inputs[0], image))
        raise DeployError(f"{model.name} takes {takes} and cannot be built for {given}: {reason[:200]}") from error


def check_float(model: object, action: str = "deploy") -> None:
    """Refuse what is no functional float model, nested models included, whatever is to be made of it.

    Raises:
        DeployError: no Keras model, one whose layers are not known, or one that ``quantize`` has changed already.
    """
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        name = f"{model.name!r}, " if isinstance(model, keras.Model) else ""
        raise DeployError(f"cannot {action} {name}a {type(model).__name__}: expected a built functional keras.Model")
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            check_float(layer, action)
        elif isinstance(getattr(layer, "dtype_policy", None), keras.dtype_policies.QuantizedDTypePolicy):
            raise DeployError(
                f"layer {layer.name!r} of {model.name} is quantized by Keras already ({layer.dtype_policy.name}); "
                "expected the float model: an int8 recipe quantizes it"
            )


def check_builtin(layer: keras.layers.Layer, hint: str = "") -> None:
    """Refuse a layer with code of its own.

    Raises:
        DeployError: it is not one of Keras', or a Lambda.
    """
    if not builtin_class(layer).__module__.startswith("keras.") or isinstance(layer, keras.layers.Lambda):
        raise DeployError(
            f"layer {layer.name!r} is a {type(layer).__name__}; expected MixNet's layers and Keras' built-in ones{hint}"
        )


def copied(layer: keras.layers.Layer, hint: str = "", **changes: object) -> Callable[..., Any]:
    """Return a function that calls a copy of a built-in layer, weights included; every call is of the same copy.

    Args:
        layer: built.
        hint: ends the message.
        **changes: of its configuration.

    Raises:
        DeployError: the layer holds something that Keras cannot copy.
    """
    try:
        twin = builtin_class(layer).from_config(layer.get_config() | changes)
    except (TypeError, ValueError) as error:  # Keras', of a function that is not registered
        what = f"layer {layer.name!r} ({type(layer).__name__})"
        raise DeployError(f"{what} holds custom code; expected Keras' own functions{hint}") from error

    def call(*args: Any, **kwargs: Any) -> Any:
        outputs = twin(*args, **kwargs)
        twin.set_weights(layer.get_weights())
        if isinstance(twin, keras.layers.Normalization):
            twin.finalize_state()  # it computes with what it makes of its weights
        return outputs

    return call
