"""What a Keras model takes for an image, worked out from what it does before its first layer with weights."""

from typing import Any

import keras
import numpy as np

from mixnet_tf.data.choices import INPUT_FORMATS
from mixnet_tf.data.input_format import Front, format_before, is_known_map, limits
from mixnet_tf.deploy.deploy import DROPPED
from mixnet_tf.deploy.graphs import functional, nodes
from mixnet_tf.deploy.unfolding import to_blocks
from mixnet_tf.layers import ConvBatchNorm
from mixnet_tf.sublayers import Tensor

_ARITHMETIC = {"Add", "Subtract", "Multiply", "Divide", "TrueDivide", "Cast", "Convert"}
"""Operations of keras.ops that a preprocessing consists of."""


def front_of(model: keras.Model) -> Front:
    """Return what a model takes for an image.

    Rescaling, Normalization, augmentation, resizing and arithmetic with constants are computed, also in nested models,
    on colours. Whatever follows decides no more, but for a MixNet: that wants to see normalized images.

    Args:
        model: functional or Sequential.

    Example:
        >>> from mixnet_tf.model import create_model
        >>> front_of(create_model("mixnet_nano", classes=10))
        Front(input_format='pixels', certain=True)
    """
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4 or model.inputs[0].shape[-1] != 3:
        return Front(None, certain=False)
    colours = np.concatenate([np.zeros((1, 3)), np.eye(3)])  # black, then a little red, green and blue
    seen, first_layer = _computed(model, colours)
    if seen is None:
        return Front(None, certain=False)
    scale, offset = np.diag(seen[1:] - seen[0]), seen[0]
    if not np.allclose(seen[1:] - seen[0], np.diag(scale), atol=1e-6 * np.abs(scale).max()):  # it mixes channels
        return Front(None, certain=False)
    if isinstance(first_layer, ConvBatchNorm):
        for name in INPUT_FORMATS:
            black, white = (colour * scale + offset for colour in limits(name))
            if is_known_map(black, white, "normalized"):
                return Front(name, certain=name != "normalized")
    taken = format_before(scale, offset)
    return Front(taken, certain=taken is not None)


def _computed(model: keras.Model, colours: np.ndarray) -> tuple[np.ndarray | None, Any]:
    """Return what the first layer that is no preprocessing sees of colours (n, channels), and that layer."""
    model = to_blocks(functional(model), only="stem")
    tensor: Tensor = model.inputs[0]
    layer = _only_reader(model, tensor)
    while layer is not None and _is_preprocessing(layer):
        (node,) = (node for node in nodes(model) if node.operation is layer)
        tensor = node.output_tensors[0]
        layer = _only_reader(model, tensor)
    if tensor is not model.inputs[0]:
        colours = _run(keras.Model(model.inputs[0], tensor), colours)
    nested = isinstance(layer, keras.Model) and len(layer.inputs) == 1
    return _computed(layer, colours) if nested else (colours, layer)


def _only_reader(model: keras.Model, tensor: Tensor) -> Any:
    """Return the one operation that reads a tensor; None where there are several, or none."""
    readers = [node.operation for node in nodes(model) if any(x is tensor for x in node.input_tensors)]
    return readers[0] if len(readers) == 1 else None


def _is_preprocessing(layer: Any) -> bool:
    if isinstance(layer, keras.layers.Layer):
        return type(layer).__module__.startswith("keras.src.layers.preprocessing.") or isinstance(layer, DROPPED)
    return type(layer).__name__ in _ARITHMETIC


def _run(model: keras.Model, colours: np.ndarray) -> np.ndarray:
    """Return what a model makes of images of one colour: the pixel in their middle."""
    height, width = (size or 8 for size in model.inputs[0].shape[1:3])
    images = np.broadcast_to(colours[:, None, None, :], (len(colours), height, width, colours.shape[1]))
    outputs = np.asarray(model(images.astype(np.float32), training=False), np.float64)
    return outputs[:, outputs.shape[1] // 2, outputs.shape[2] // 2]
