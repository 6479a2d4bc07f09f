"""The deploy graph: the same function as a MixNet, written with built-in Keras layers that LiteRT runs fast.

What changes, and why (measurements: tflite/README.md):

- batch norm is folded into the convolution before it, branch by branch: after a concatenation no converter does it;
- channels are cut at every border of a branch or group, and each chunk runs from expansion to projection by itself: no
  split, no wide concatenation, and in int8 a scale of its own;
- a block's output stays in the chunks its projection groups produce, until something reads across them;
- for float, chunks inside the graph are filled up with zero channels (`TARGETS`);
- depthwise kernels above 25 taps become sums of pieces with a microkernel (``mixnet_tf.deploy.kernels``);
- dropout is gone, shapes are static, everything is float32.
"""

import functools
import itertools
import re
from collections.abc import Sequence

import keras
import numpy as np

from mixnet_tf import layers as mixnet_layers
from mixnet_tf.checks import image_size as checked_size
from mixnet_tf.deploy.emitter import FLOAT32, Emitter, fill, spread
from mixnet_tf.deploy.kernels import same_padding
from mixnet_tf.errors import DeployError, did_you_mean

_DROPPED = (
    keras.layers.Dropout,
    keras.layers.SpatialDropout2D,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.ActivityRegularization,
)


TARGETS = {"int8": 1, "float": 8}
"""Channels of a chunk inside the graph are a multiple of this; the rest of the graph is the same for both.

On Arm, XNNPACK's float matrix product needs a third fewer instructions where the output channels are a multiple of 8.
The int8 one gains nothing, and the file would grow.
"""


def deploy_model(
    model: keras.Model, *, image_size: int | tuple[int, int], batch_size: int = 1, target: str = "int8"
) -> keras.Model:
    """Return a functional model of built-in layers that computes exactly what `model` computes at inference.

    Args:
        model: a functional model of MixNet's layers and built-in Keras ones: anything that ``create_model`` and
            ``create_feature_extractor`` build, and transfer-learning models around them.
        image_size: height and width in pixels, or one number for both. LiteRT's delegate needs a static shape.
        batch_size: images an inference.
        target: ``"int8"`` for a graph to be quantized, ``"float"`` for one to be converted to float32 or float16. Both
            compute the same; each is the faster one for its type.

    Returns:
        A float32 ``keras.Model`` with the input and outputs of `model`. Layers are named after the layer they come
        from; the last ones of ``stage1_block2`` are ``stage1_block2_output`` or, in chunks of channels,
        ``stage1_block2_output0``, ``stage1_block2_output1``...

    Raises:
        DeployError: not a functional model, a custom layer, an image size it does not take, an unknown target, or
            weights that are not finite.

    Example:
        >>> from mixnet_tf.model import create_model
        >>> deploy_model(create_model("mixnet_nano", classes=10), image_size=32).input_shape
        (1, 32, 32, 3)
    """
    shape = _input_shape(model, image_size, batch_size)
    if target not in TARGETS:
        raise DeployError(f"target={target!r}, expected one of {', '.join(TARGETS)}{did_you_mean(target, TARGETS)}")
    _check_finite(model)
    return _rebuild(model, shape, TARGETS[target])


def _rebuild(model: keras.Model, shape: tuple[int, ...], lanes: int, name: str | None = None) -> keras.Model:
    image = keras.Input(batch_shape=shape, name=model.inputs[0].name.split(":")[0], **FLOAT32)
    return rewired(model, image, name, call_function=functools.partial(_replace, Emitter(lanes)))


def rewired(model: keras.Model, image: keras.KerasTensor, name: str | None = None, **calls) -> keras.Model:
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
        takes, found = (tuple(own.shape[1:]) for own in (model.inputs[0], image))
        raise DeployError(f"{model.name} takes {takes} and cannot be built for {found}: {reason[:200]}") from error


def functional(model: keras.Model, name: str | None = None) -> keras.Model:
    """Return a functional view of the model, which may be Sequential, with one input that is no list."""
    outputs = model.outputs[0] if isinstance(model, keras.Sequential) else model.output
    return keras.Model(model.inputs[0], outputs, name=name or model.name)


def _input_shape(model: keras.Model, image_size, batch_size) -> tuple[int, ...]:
    _check_functional(model)
    shape = model.inputs[0].shape
    if len(shape) != 4 or shape[-1] is None:
        raise DeployError(f"{model.name}: expected an input (batch, height, width, channels), found {tuple(shape)}")
    sizes = checked_size(image_size)
    if not _positive_integer(batch_size):
        raise DeployError(f"batch_size={batch_size!r}, expected a positive integer")
    if any(built not in (None, size) for built, size in zip(shape[1:3], sizes, strict=True)):
        raise DeployError(f"image_size={image_size!r}, but {model.name} takes {shape[1]} x {shape[2]} pixels")
    return (batch_size, *sizes, shape[-1])


def _check_functional(model: object) -> None:
    if not isinstance(model, keras.Model) or len(getattr(model, "inputs", None) or []) != 1:
        name = f"{model.name!r}, " if isinstance(model, keras.Model) else ""
        raise DeployError(
            f"cannot deploy {name}a {type(model).__name__}: expected a built functional keras.Model with one input"
        )


def _positive_integer(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and value > 0


def _check_finite(model: keras.Model) -> None:
    for weight in model.weights:
        if not np.isfinite(np.asarray(weight, np.float64)).all():
            raise DeployError(f"{weight.path} holds NaN or infinity; expected a model with finite weights")


def _fold(kernels: Sequence[np.ndarray], norm: keras.layers.BatchNormalization) -> tuple[list[np.ndarray], np.ndarray]:
    """Fold a batch norm into the kernels before it, in float64.

    The last axis of each kernel holds its output channels; the batch norm sees those of all kernels in order.
    """
    mean, variance = (np.asarray(w, np.float64) for w in (norm.moving_mean, norm.moving_variance))
    scale = np.asarray(norm.gamma, np.float64) / np.sqrt(variance + norm.epsilon)
    borders = np.cumsum([kernel.shape[-1] for kernel in kernels])[:-1]
    scales = np.split(scale, borders)
    folded = [np.asarray(k, np.float64) * s for k, s in zip(kernels, scales, strict=True)]
    return folded, np.asarray(norm.beta, np.float64) - mean * scale


def _pointwise_kernels(layer: mixnet_layers.GroupedPointwiseConv2D) -> list[np.ndarray]:
    """The (channels in, channels out) matrix of every group."""
    return [np.asarray(conv.kernel)[0, 0] for conv in layer.convs]


def _depthwise_kernels(layer: mixnet_layers.MixConv2D) -> list[np.ndarray]:
    """The (height, width, channels) kernel of every branch."""
    return [np.asarray(conv.kernel)[..., 0] for conv in layer.convs]


def _cut(channels: int, *parts: int) -> list[tuple[int, int]]:
    """Return the chunks (first, end) between all borders of `channels` in each number of equal parts.

    With 12 channels in 3 branches and 2 groups: (0, 4), (4, 6), (6, 8), (8, 12).
    """
    borders = sorted({channels * i // n for n in parts for i in range(n + 1)})
    return list(itertools.pairwise(borders))


def _replace(emit: Emitter, layer, *args, **kwargs):
    """Call what replaces `layer`; the call function of ``keras.models.clone_model``."""
    rule = _RULES.get(type(layer))
    if rule is not None:
        return rule(emit, layer, args[0], emit.unique(layer.name))
    if isinstance(layer, _DROPPED):
        return args[0]
    if isinstance(layer, keras.Model):
        _check_functional(layer)
        return _rebuild(layer, args[0].shape, emit.lanes, emit.unique(layer.name))(args[0])
    if not isinstance(layer, keras.layers.Layer):
        return layer(*args, **kwargs)  # an operation of keras.ops: it holds no weights
    if not type(layer).__module__.startswith("keras.") or isinstance(layer, keras.layers.Lambda):
        raise DeployError(
            f"layer {layer.name!r} is a {type(layer).__name__}; expected MixNet's layers and Keras' built-in ones"
        )
    kwargs.pop("training", None)
    return emit.copy(layer, emit.unique(layer.name))(*args, **kwargs)


def _before(size: int, strides: int, mode: str, length: int) -> int:
    return size // 2 if mode == "symmetric" else same_padding(size, strides, length)[0]


def _grouped_pointwise(emit: Emitter, layer: mixnet_layers.GroupedPointwiseConv2D, x, name: str):
    kernels, groups = _pointwise_kernels(layer), []
    for g, kernel in enumerate(kernels):
        rows, columns = kernel.shape
        chunk = emit.read(x, g * rows, (g + 1) * rows, name)
        groups.append(emit.conv(chunk, kernel, np.zeros(columns), _numbered(name, g, kernels)))
    return emit.join(groups, name)


def _numbered(name: str, index: int, of: Sequence) -> str:
    return f"{name}{index}" if len(of) > 1 else name


def _mix_conv(emit: Emitter, layer: mixnet_layers.MixConv2D, x, name: str):
    kernels = _depthwise_kernels(layer)
    width, branches = kernels[0].shape[-1], []
    for i, kernel in enumerate(kernels):
        chunk = emit.read(x, i * width, (i + 1) * width, name)
        branches.append(_branch(emit, chunk, kernel, np.zeros(width), _numbered(name, i, kernels), layer))
    return emit.join(branches, name)


def _branch(emit: Emitter, x, kernel, bias, name: str, layer: mixnet_layers.MixConv2D):
    """One depthwise branch (or some of its channels) of a MixConv2D."""
    before = [_before(len(kernel), layer.strides, layer.padding, length) for length in x.shape[1:3]]
    return emit.depthwise(x, kernel, bias, name, layer.strides, before)


def _squeeze_excite(emit: Emitter, layer: mixnet_layers.SqueezeExcite, x, name: str):
    return emit.gates([x], x.shape[-1:], layer, name)[0]


def _conv_batch_norm(emit: Emitter, layer: mixnet_layers.ConvBatchNorm, x, name: str):
    (kernel,), bias = _fold([np.asarray(layer.conv.kernel)], layer.bn)
    size, strides = layer.kernel_size, layer.strides
    pads = []
    for length in x.shape[1:3]:
        before = _before(size, strides, layer.padding, length)
        after = strides * (-(-length // strides) - 1) + size - before - length
        pads.append((before, max(after, 0)))
    x = emit.conv(x, kernel, bias, f"{name}_conv", strides, pads)
    return emit.copy(layer.act, f"{name}_output")(x)


def _mix_depth_block(emit: Emitter, block: mixnet_layers.MixDepthBlock, x, name: str):
    hidden = x.shape[-1] * block.expansion_ratio
    expand_groups = block.num_exp_groups if block.expand_conv is not None else 1
    cuts = _cut(hidden, len(block.kernel_sizes), expand_groups, block.num_poi_groups)
    chunks = _expand(emit, block, x, cuts, name)
    kernels, bias = _fold(_depthwise_kernels(block.depthwise_conv), block.depthwise_bn)
    width = hidden // len(kernels)
    for i, (first, end) in enumerate(cuts):
        branch, start = first // width, first % width
        kernel = kernels[branch][..., start : start + end - first]
        named = f"{name}_depthwise{i}"
        chunks[i] = _branch(emit, chunks[i], kernel, bias[first:end], named, block.depthwise_conv)
        chunks[i] = emit.copy(block.depthwise_act, f"{named}_act")(chunks[i])
    if block.se is not None:
        chunks = emit.gates(chunks, [end - first for first, end in cuts], block.se, f"{name}_se")
    return _project(emit, block, x, chunks, cuts, name)


def _expand(emit: Emitter, block: mixnet_layers.MixDepthBlock, x, cuts: list[tuple[int, int]], name: str) -> list:
    """Return the hidden channels, one tensor a cut: each by its own 1x1 convolution."""
    if block.expand_conv is None:
        return [emit.read(x, first, end, f"{name}_expand") for first, end in cuts]
    kernels, bias = _fold(_pointwise_kernels(block.expand_conv), block.expand_bn)
    rows, columns = kernels[0].shape
    chunks = []
    for i, (first, end) in enumerate(cuts):
        group, start = first // columns, first % columns
        source = emit.read(x, group * rows, (group + 1) * rows, f"{name}_input", filled=True)
        width = emit.filled_width(end - first)
        kernel = fill(kernels[group][:, start : start + end - first], 1, width)
        chunk = emit.conv(source, kernel, fill(bias[first:end], 0, width), f"{name}_expand{i}")
        chunks.append(emit.copy(block.expand_act, f"{name}_expand{i}_act")(chunk))
    return chunks


def _project(emit: Emitter, block: mixnet_layers.MixDepthBlock, x, chunks: list, cuts: list, name: str):
    """Project every group, add the input where there is a residual, and keep the result in chunks."""
    kernels, bias = _fold(_pointwise_kernels(block.project_conv), block.project_bn)
    rows, columns = kernels[0].shape
    last = f"{name}_project" if block.has_residual else f"{name}_output"
    width = emit.filled_width(columns) if len(kernels) > 1 else columns
    outputs = []
    for g, kernel in enumerate(kernels):
        # a group's borders are cuts: it reads whole chunks
        own = [i for i, (first, end) in enumerate(cuts) if g * rows <= first and end <= (g + 1) * rows]
        members = [chunks[i] for i in own]
        kernel = fill(spread(kernel, [cuts[i][1] - cuts[i][0] for i in own], members), 1, width)
        own_bias = fill(bias[g * columns : (g + 1) * columns], 0, width)
        source = emit.join(members, f"{name}_hidden_join")
        output = emit.conv(source, kernel, own_bias, _numbered(last, g, kernels))
        if block.has_residual:
            shortcut = emit.read(x, g * columns, (g + 1) * columns, f"{name}_shortcut", filled=True)
            if shortcut.shape != output.shape:
                shortcut, output = emit.narrow(shortcut, columns), emit.narrow(output, columns)
            output = keras.layers.Add(name=_numbered(f"{name}_output", g, kernels), **FLOAT32)([shortcut, output])
        outputs.append(output)
    return emit.join(outputs, f"{name}_join", [columns] * len(outputs))


_RULES = {
    mixnet_layers.GroupedPointwiseConv2D: _grouped_pointwise,
    mixnet_layers.MixConv2D: _mix_conv,
    mixnet_layers.SqueezeExcite: _squeeze_excite,
    mixnet_layers.ConvBatchNorm: _conv_batch_norm,
    mixnet_layers.MixDepthBlock: _mix_depth_block,
}
