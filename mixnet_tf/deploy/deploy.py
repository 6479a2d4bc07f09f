"""The deploy graph: the same function as a model, written with built-in Keras layers that LiteRT runs fast.

What changes, and why (measurements: tflite/README.md; graphs: ``mixnet_tf.deploy.rules`` and ``builtin``):

- batch norm is folded into the convolution before it, branch by branch: after a concatenation no converter does it;
- channels are cut at every border of a branch or group, and each chunk runs from expansion to projection by itself: no
  split, no wide concatenation, and in int8 a scale of its own;
- a block's output stays in the chunks its projection groups produce, until something reads across them;
- for float, chunks inside the graph are filled up with zero channels (`TARGETS`);
- depthwise kernels above 25 taps become sums of pieces with a microkernel (``mixnet_tf.deploy.kernels``);
- dropout is gone, shapes are static, everything is float32.
"""

import collections
import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from mixnet_tf.checks import ImageSize, integer, one_of
from mixnet_tf.checks import image_size as checked_size
from mixnet_tf.deploy.builtin import arithmetic
from mixnet_tf.deploy.chunks import FLOAT32
from mixnet_tf.deploy.emitter import PLAIN, Emitter
from mixnet_tf.deploy.graphs import check_builtin, check_float, functional, nodes, rewired
from mixnet_tf.deploy.rules import rule_of
from mixnet_tf.deploy.unfolding import to_blocks
from mixnet_tf.errors import DeployError
from mixnet_tf.progress.steps import step

DROPPED = (
    keras.layers.Identity,
    keras.layers.Dropout,
    keras.layers.SpatialDropout2D,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.ActivityRegularization,
)
"""Layers that return at inference what they are given."""

TARGETS = {"int8": 1, "float": 8}
"""Channels of a chunk inside the graph are a multiple of this; the rest of the graph is the same for both.

On Arm, XNNPACK's float matrix product needs a third fewer instructions where the output channels are a multiple of 8.
The int8 one gains nothing, and the file would grow.
"""


@step("rewrite the graph")
def deploy_model(
    model: keras.Model, *, image_size: ImageSize, batch_size: int = 1, target: str = "int8"
) -> keras.Model:
    """Return a functional model of built-in layers that computes exactly what `model` computes at inference.

    Args:
        model: a functional model of MixNet's layers and built-in Keras ones: anything that ``create_model`` and
            ``create_feature_extractor`` build, and transfer-learning models around them.
        image_size: height and width in pixels, or one number for both. LiteRT's delegate needs a static shape.
        batch_size: images per inference.
        target: ``"int8"`` for a graph to be quantized, ``"float"`` for one to be converted to float32 or float16. Both
            compute the same; each is the faster one for its type.

    Returns:
        A float32 ``keras.Model`` with the input and outputs of `model`. Layers are named after the layer they come
        from; the last ones of ``stage1_block2`` are ``stage1_block2_output`` or, in chunks of channels,
        ``stage1_block2_output0``, ``stage1_block2_output1``...

    Raises:
        DeployError: not a functional model, a custom layer, an image size it does not take, or weights that are not
            finite.
        ArgumentError: an unknown target, or sizes that are none.

    Example:
        >>> from mixnet_tf.model import create_model
        >>> deploy_model(create_model("mixnet_nano", classes=10), image_size=32).input_shape
        (1, 32, 32, 3)
    """
    shape = _input_shape(model, image_size, batch_size)
    lanes = TARGETS[one_of("target", target, TARGETS)]
    _check_finite(model)
    with float32_policy():
        return _rebuild(model, shape, lanes)


@contextlib.contextmanager
def float32_policy() -> Iterator[None]:
    """Build models in float32, whatever the global dtype policy is: a nested one would cast its input."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)


def _rebuild(model: keras.Model, shape: tuple[int, ...], lanes: int, name: str | None = None) -> keras.Model:
    image = keras.Input(batch_shape=shape, name=model.inputs[0].name.split(":")[0], **FLOAT32)
    model = to_blocks(model)
    emit = Emitter(lanes, _sole_readers(model))
    return rewired(model, image, name, call_function=functools.partial(_replace, emit))


def _sole_readers(model: keras.Model) -> frozenset[int]:
    """Return the ids of the layers and operations that read, wherever they are called, what nothing else reads.

    Given: x is read by a and b, y by c, and z by d and the user of the model. Result: c.
    """
    model = functional(model)
    reads = [(node.operation, node.input_tensors) for node in nodes(model)]
    counts = collections.Counter(id(tensor) for _, tensors in reads for tensor in tensors)
    counts.update(id(tensor) for tensor in model.outputs)
    shared = {id(operation) for operation, tensors in reads if any(counts[id(tensor)] > 1 for tensor in tensors)}
    return frozenset(id(operation) for operation, _ in reads) - shared


def _input_shape(model: keras.Model, image_size: ImageSize, batch_size: int) -> tuple[int, ...]:
    _check_functional(model)
    shape = model.inputs[0].shape
    if len(shape) != 4 or shape[-1] is None:
        raise DeployError(f"{model.name}: expected an input (batch, height, width, channels), found {tuple(shape)}")
    sizes = checked_size(image_size)
    batch_size = integer("batch_size", batch_size, 1)
    if any(built not in (None, size) for built, size in zip(shape[1:3], sizes, strict=True)):
        raise DeployError(f"image_size={image_size!r}, but {model.name} takes {shape[1]} x {shape[2]} pixels")
    return (batch_size, *sizes, shape[-1])


def _check_functional(model: keras.Model) -> None:
    check_float(model)
    if len(model.inputs) != 1:
        raise DeployError(
            f"cannot deploy {model.name!r}: it has {len(model.inputs)} inputs, expected a model with one input"
        )


def _check_finite(model: keras.Model) -> None:
    for weight in model.weights:
        if not np.isfinite(np.asarray(weight, np.float64)).all():
            raise DeployError(f"{weight.path} holds NaN or infinity; expected a model with finite weights")


def _replace(emit: Emitter, layer: Any, *args: Any, **kwargs: Any) -> Any:
    """Call what replaces `layer`; the call function of ``keras.models.clone_model``."""
    rule = rule_of(layer, args[0] if args else None)
    if rule is not None:
        return rule(emit, layer, args[0], emit.unique(layer.name))
    if isinstance(layer, DROPPED):
        return args[0]
    if isinstance(layer, keras.Model):
        _check_functional(layer)
        return _rebuild(layer, args[0].shape, emit.lanes, emit.unique(layer.name))(args[0])
    if not isinstance(layer, keras.layers.Layer):
        folded = arithmetic(emit, layer, args) if not kwargs else None
        return layer(*args, **kwargs) if folded is None else folded  # an operation of keras.ops: it holds no weights
    check_builtin(layer, PLAIN)
    kwargs.pop("training", None)
    return emit.copy(layer, emit.unique(layer.name))(*args, **kwargs)
