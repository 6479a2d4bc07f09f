"""The deploy graph: the same function as a MixNet, written with built-in Keras layers that LiteRT runs fast.

What changes, and why (measurements: tflite/README.md):

- batch norm is folded into the convolution before it, branch by branch: after a concatenation no converter does it;
- channels are cut at every border of a branch or group, and each chunk runs from expansion to projection by itself: no
  split, no wide concatenation, and in int8 a scale of its own;
- a block's output stays in the chunks its projection groups produce, until something reads across them;
- depthwise kernels above 25 taps become sums of pieces with a microkernel (``mixnet_tf.deploy.kernels``);
- dropout is gone, shapes are static, everything is float32.
"""

import itertools
import re
from collections.abc import Callable, Sequence

import keras
import numpy as np

from mixnet_tf import layers as mixnet_layers
from mixnet_tf.deploy.kernels import padding, plan, reachable, same_padding
from mixnet_tf.errors import DeployError

MAX_CONCATENATED = 5
"""XNNPACK takes a concatenation of two to five inputs."""

_DROPPED = (
    keras.layers.Dropout,
    keras.layers.SpatialDropout2D,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.ActivityRegularization,
)
_FLOAT32 = {"dtype": "float32"}
_NHWC = {"data_format": "channels_last"} | _FLOAT32


def deploy_model(model: keras.Model, *, image_size: int | tuple[int, int], batch_size: int = 1) -> keras.Model:
    """Return a functional model of built-in layers that computes exactly what `model` computes at inference.

    Args:
        model: a functional model of MixNet's layers and built-in Keras ones: anything that ``create_model`` and
            ``create_feature_extractor`` build, and transfer-learning models around them.
        image_size: height and width in pixels, or one number for both. LiteRT's delegate needs a static shape.
        batch_size: images an inference.

    Returns:
        A float32 ``keras.Model`` with the input and outputs of `model`. Layers are named after the layer they come
        from; the last ones of ``stage1_block2`` are ``stage1_block2_output`` or, in chunks of channels,
        ``stage1_block2_output0``, ``stage1_block2_output1``...

    Raises:
        DeployError: not a functional model, a custom layer, an image size it does not take, or weights that are not
            finite.

    Example:
        >>> from mixnet_tf.model import create_model
        >>> deploy_model(create_model("mixnet_nano", classes=10), image_size=32).input_shape
        (1, 32, 32, 3)
    """
    shape = _input_shape(model, image_size, batch_size)
    _check_finite(model)
    return _rebuild(model, shape)


def _rebuild(model: keras.Model, shape: tuple[int, ...]) -> keras.Model:
    image = keras.Input(batch_shape=shape, name=model.inputs[0].name.split(":")[0], **_FLOAT32)
    return keras.models.clone_model(
        _functional(model),
        input_tensors=image,
        clone_function=lambda layer: layer,
        call_function=_Graph().emit,
    )


def _functional(model: keras.Model) -> keras.Model:
    """A functional view of the model, which may be Sequential, with one input that is no list."""
    outputs = model.outputs[0] if isinstance(model, keras.Sequential) else model.output
    return keras.Model(model.inputs[0], outputs, name=model.name)


def _input_shape(model: keras.Model, image_size, batch_size) -> tuple[int, ...]:
    _check_functional(model)
    shape = model.inputs[0].shape
    if len(shape) != 4 or shape[-1] is None:
        raise DeployError(f"{model.name}: expected an input (batch, height, width, channels), found {tuple(shape)}")
    sizes = tuple(image_size) if isinstance(image_size, Sequence) else (image_size, image_size)
    if len(sizes) != 2 or not all(_positive_integer(size) for size in sizes):
        raise DeployError(f"image_size={image_size!r}, expected a positive number of pixels or (height, width)")
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


class _Graph:
    """Emits the layers of the deploy graph.

    A tensor may be known in chunks of channels: `_chunks` holds, for the concatenation of the chunks, the chunks. Who
    can, reads those; a concatenation nobody reads is no part of the final model.
    """

    def __init__(self) -> None:
        self._chunks: dict[int, list] = {}
        self._slices: dict[tuple[int, int, int], object] = {}
        self._kept: list = []  # tensors whose ids are keys above
        self._uses: dict[str, int] = {}

    def emit(self, layer, *args, **kwargs):
        """Call what replaces `layer`; the call function of ``keras.models.clone_model``."""
        rule = _RULES.get(type(layer))
        if rule is not None:
            return rule(self, layer, args[0], self._unique(layer.name))
        if isinstance(layer, _DROPPED):
            return args[0]
        if isinstance(layer, keras.Model):
            _check_functional(layer)
            return _rebuild(layer, args[0].shape)(args[0])
        if not isinstance(layer, keras.layers.Layer):
            return layer(*args, **kwargs)  # an operation of keras.ops: it holds no weights
        if not type(layer).__module__.startswith("keras.") or isinstance(layer, keras.layers.Lambda):
            raise DeployError(
                f"layer {layer.name!r} is a {type(layer).__name__}; expected MixNet's layers and Keras' built-in ones"
            )
        kwargs.pop("training", None)
        return self.copy(layer, self._unique(layer.name))(*args, **kwargs)

    def _unique(self, name: str) -> str:
        count = self._uses[name] = self._uses.get(name, 0) + 1
        return name if count == 1 else f"{name}_{count}"

    def copy(self, layer: keras.layers.Layer, name: str) -> Callable:
        """Return a function that calls a float32 copy of a built-in layer, weights included."""
        twin = type(layer).from_config(layer.get_config() | {"name": name, "dtype": "float32", "trainable": True})

        def call(*args, **kwargs):
            outputs = twin(*args, **kwargs)
            twin.set_weights(layer.get_weights())
            return outputs

        return call

    # -- channels ---------------------------------------------------------------------------------------------------

    def join(self, chunks: list, name: str):
        """Concatenate chunks of channels, and remember them."""
        if len(chunks) == 1:
            return chunks[0]
        joined = chunks
        while len(joined) > 1:
            groups = [joined[i : i + MAX_CONCATENATED] for i in range(0, len(joined), MAX_CONCATENATED)]
            joined = [
                keras.layers.Concatenate(name=self._unique(name), **_FLOAT32)(group) if len(group) > 1 else group[0]
                for group in groups
            ]
        self._chunks[id(joined[0])] = chunks
        self._kept.append(joined[0])
        return joined[0]

    def read(self, x, first: int, end: int, name: str):
        """Return channels first...end of `x`: chunks where they fit, otherwise a slice; the same tensor every time."""
        key = (id(x), first, end)
        if (first, end) == (0, x.shape[-1]):
            return x
        if key not in self._slices:
            self._slices[key] = self._read(x, first, end, name)
            self._kept.append(x)
        return self._slices[key]

    def _read(self, x, first: int, end: int, name: str):
        met, position = [], 0
        for chunk in self._chunks.get(id(x), [x]):
            after = position + chunk.shape[-1]
            if position < end and after > first:
                met.append((position, chunk))
            position = after
        start = met[0][0]
        joined = self.join([chunk for _, chunk in met], f"{name}_join")
        if (start, joined.shape[-1]) == (first, end - first):
            return joined
        return keras.ops.slice(joined, [0, 0, 0, first - start], [*joined.shape[:-1], end - first])

    # -- convolutions -----------------------------------------------------------------------------------------------

    def conv(self, x, kernel: np.ndarray, bias: np.ndarray, name: str, strides: int = 1, pads=None):
        """2D convolution with a (height, width, in, out) kernel; a matrix is a 1x1 kernel."""
        kernel = kernel.reshape((1,) * (4 - kernel.ndim) + kernel.shape)
        x, mode = self._padded(x, kernel.shape[:2], strides, pads or [(0, 0), (0, 0)], name)
        layer = keras.layers.Conv2D(
            kernel.shape[-1], kernel.shape[:2], strides=strides, padding=mode, name=name, **_NHWC
        )
        return _call_with(layer, x, kernel, bias)

    def depthwise(self, x, kernel: np.ndarray, bias: np.ndarray, name: str, strides: int = 1, before=(0, 0)):
        """Depthwise convolution with a (height, width, channels) kernel, in pieces that have a microkernel.

        `before` is the padding above and to the left; the output has ceil(size / strides) rows and columns.
        """
        sizes = x.shape[1:3]
        outputs = [-(-size // strides) for size in sizes]
        met = [
            reachable(taps, strides, *rest)
            for taps, *rest in zip(kernel.shape[:2], before, sizes, outputs, strict=True)
        ]
        kernel = kernel[met[0].start : met[0].stop, met[1].start : met[1].stop]
        before = [pad - taps.start for pad, taps in zip(before, met, strict=True)]
        pieces = plan(*kernel.shape[:2], strides)
        results = []
        for i, piece in enumerate(pieces):
            axes = (piece.rows, piece.cols)
            pads = [padding(taps, strides, *rest) for taps, *rest in zip(axes, before, sizes, outputs, strict=True)]
            named = f"{name}_piece{i}" if len(pieces) > 1 else name
            extent = [taps.last - taps.first + 1 for taps in axes]
            padded, mode = self._padded(x, extent, strides, pads, named)
            layer = keras.layers.DepthwiseConv2D(
                (piece.rows.count, piece.cols.count),
                strides=strides,
                padding=mode,
                dilation_rate=[taps.step if taps.count > 1 else 1 for taps in axes],
                name=named,
                **_NHWC,
            )
            part = piece.of(kernel)[..., None]
            results.append(_call_with(layer, padded, part, bias if i == 0 else np.zeros_like(bias)))
        return self.add(results, name)

    def _padded(self, x, extent: Sequence[int], strides: int, pads: list[tuple[int, int]], name: str):
        """Crop and pad `x`; return it with the padding mode that is left to the convolution."""
        if pads == [same_padding(taps, strides, size) for taps, size in zip(extent, x.shape[1:3], strict=True)]:
            return x, "same"
        crops = [tuple(max(-pad, 0) for pad in pair) for pair in pads]
        pads = [tuple(max(pad, 0) for pad in pair) for pair in pads]
        if np.any(crops):
            x = keras.layers.Cropping2D(crops, name=f"{name}_crop", **_NHWC)(x)
        if np.any(pads):
            x = keras.layers.ZeroPadding2D(pads, name=f"{name}_pad", **_NHWC)(x)
        return x, "valid"

    def add(self, terms: list, name: str):
        """Sum tensors two by two, in order."""
        total = terms[0]
        for i, term in enumerate(terms[1:], start=1):
            total = keras.layers.Add(name=f"{name}_sum{i}", **_FLOAT32)([total, term])
        return total

    def gates(self, chunks: list, se: mixnet_layers.SqueezeExcite, name: str) -> list:
        """Scale every chunk by squeeze-and-excitation; only the tiny vector of means is concatenated."""
        means = [
            keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_mean{i}", **_NHWC)(chunk)
            for i, chunk in enumerate(chunks)
        ]
        reduce, expand = ([np.asarray(w, np.float64) for w in conv.get_weights()] for conv in (se.reduce, se.expand))
        squeezed = self.conv(self.join(means, f"{name}_means"), *reduce, f"{name}_reduce")
        squeezed = self.copy(se.act, f"{name}_act")(squeezed)
        scaled, first = [], 0
        for i, chunk in enumerate(chunks):
            end = first + chunk.shape[-1]
            gate = self.conv(squeezed, expand[0][..., first:end], expand[1][first:end], f"{name}_expand{i}")
            gate = keras.layers.Activation("sigmoid", name=f"{name}_gate{i}", **_FLOAT32)(gate)
            scaled.append(keras.layers.Multiply(name=f"{name}_scale{i}", **_FLOAT32)([chunk, gate]))
            first = end
        return scaled


def _call_with(layer: keras.layers.Layer, x, kernel: np.ndarray, bias: np.ndarray):
    outputs = layer(x)
    layer.set_weights([kernel.astype(np.float32), bias.astype(np.float32)])
    return outputs


def _before(size: int, strides: int, mode: str, length: int) -> int:
    return size // 2 if mode == "symmetric" else same_padding(size, strides, length)[0]


def _grouped_pointwise(graph: _Graph, layer: mixnet_layers.GroupedPointwiseConv2D, x, name: str):
    kernels = _pointwise_kernels(layer)
    return graph.join(_groups(graph, [x], kernels, np.zeros(layer.filters), name, name), name)


def _groups(graph: _Graph, chunks: list, kernels: list[np.ndarray], bias: np.ndarray, name: str, source: str) -> list:
    """Run each group of a pointwise convolution on its channels of the concatenated chunks."""
    x = graph.join(chunks, f"{source}_join")
    width_in, width_out = (kernels[0].shape[axis] for axis in (0, 1))
    return [
        graph.conv(
            graph.read(x, g * width_in, (g + 1) * width_in, source),
            kernel,
            bias[g * width_out : (g + 1) * width_out],
            f"{name}{g}" if len(kernels) > 1 else name,
        )
        for g, kernel in enumerate(kernels)
    ]


def _mix_conv(graph: _Graph, layer: mixnet_layers.MixConv2D, x, name: str):
    kernels = _depthwise_kernels(layer)
    width, branches = kernels[0].shape[-1], []
    for i, kernel in enumerate(kernels):
        chunk = graph.read(x, i * width, (i + 1) * width, name)
        named = f"{name}{i}" if len(kernels) > 1 else name
        branches.append(_branch(graph, chunk, kernel, np.zeros(width), named, layer))
    return graph.join(branches, name)


def _branch(graph: _Graph, x, kernel, bias, name: str, layer: mixnet_layers.MixConv2D):
    """One depthwise branch (or some of its channels) of a MixConv2D."""
    before = [_before(len(kernel), layer.strides, layer.padding, length) for length in x.shape[1:3]]
    return graph.depthwise(x, kernel, bias, name, layer.strides, before)


def _squeeze_excite(graph: _Graph, layer: mixnet_layers.SqueezeExcite, x, name: str):
    return graph.gates([x], layer, name)[0]


def _conv_batch_norm(graph: _Graph, layer: mixnet_layers.ConvBatchNorm, x, name: str):
    (kernel,), bias = _fold([np.asarray(layer.conv.kernel)], layer.bn)
    size, strides = layer.kernel_size, layer.strides
    pads = []
    for length in x.shape[1:3]:
        before = _before(size, strides, layer.padding, length)
        after = strides * (-(-length // strides) - 1) + size - before - length
        pads.append((before, max(after, 0)))
    x = graph.conv(x, kernel, bias, f"{name}_conv", strides, pads)
    return graph.copy(layer.act, f"{name}_output")(x)


def _mix_depth_block(graph: _Graph, block: mixnet_layers.MixDepthBlock, x, name: str):
    hidden = x.shape[-1] * block.expansion_ratio
    expand_groups = block.num_exp_groups if block.expand_conv is not None else 1
    cuts = _cut(hidden, len(block.kernel_sizes), expand_groups, block.num_poi_groups)
    chunks = _expand(graph, block, x, cuts, name)
    kernels, bias = _fold(_depthwise_kernels(block.depthwise_conv), block.depthwise_bn)
    width = hidden // len(kernels)
    for i, (first, end) in enumerate(cuts):
        branch, start = first // width, first % width
        kernel = kernels[branch][..., start : start + end - first]
        named = f"{name}_depthwise{i}"
        chunks[i] = _branch(graph, chunks[i], kernel, bias[first:end], named, block.depthwise_conv)
        chunks[i] = graph.copy(block.depthwise_act, f"{named}_act")(chunks[i])
    if block.se is not None:
        chunks = graph.gates(chunks, block.se, f"{name}_se")
    return _project(graph, block, x, chunks, name)


def _expand(graph: _Graph, block: mixnet_layers.MixDepthBlock, x, cuts: list[tuple[int, int]], name: str) -> list:
    """Return the hidden channels, one tensor a cut: each by its own 1x1 convolution."""
    if block.expand_conv is None:
        return [graph.read(x, first, end, f"{name}_expand") for first, end in cuts]
    kernels, bias = _fold(_pointwise_kernels(block.expand_conv), block.expand_bn)
    width_in, width_out = kernels[0].shape
    chunks = []
    for i, (first, end) in enumerate(cuts):
        group, start = first // width_out, first % width_out
        source = graph.read(x, group * width_in, (group + 1) * width_in, f"{name}_input")
        kernel = kernels[group][:, start : start + end - first]
        chunk = graph.conv(source, kernel, bias[first:end], f"{name}_expand{i}")
        chunks.append(graph.copy(block.expand_act, f"{name}_expand{i}_act")(chunk))
    return chunks


def _project(graph: _Graph, block: mixnet_layers.MixDepthBlock, x, chunks: list, name: str):
    """Project every group, add the input where there is a residual, and keep the result in chunks."""
    kernels, bias = _fold(_pointwise_kernels(block.project_conv), block.project_bn)
    last = f"{name}_project" if block.has_residual else f"{name}_output"
    outputs = _groups(graph, chunks, kernels, bias, last, f"{name}_hidden")
    if block.has_residual:
        width = kernels[0].shape[1]
        for g, output in enumerate(outputs):
            shortcut = graph.read(x, g * width, (g + 1) * width, f"{name}_shortcut")
            named = f"{name}_output{g}" if len(outputs) > 1 else f"{name}_output"
            outputs[g] = keras.layers.Add(name=named, **_FLOAT32)([shortcut, output])
    return graph.join(outputs, f"{name}_join")


_RULES = {
    mixnet_layers.GroupedPointwiseConv2D: _grouped_pointwise,
    mixnet_layers.MixConv2D: _mix_conv,
    mixnet_layers.SqueezeExcite: _squeeze_excite,
    mixnet_layers.ConvBatchNorm: _conv_batch_norm,
    mixnet_layers.MixDepthBlock: _mix_depth_block,
}


def verify_deploy(
    model: keras.Model, deployed: keras.Model, images: np.ndarray | None = None, *, tolerance: float = 1e-4
) -> float:
    """Check on real and random images that the deploy graph computes what the model computes.

    Args:
        model: the model that was deployed; compared in float32 whatever its dtype policy.
        deployed: what ``deploy_model`` returned.
        images: normalized images (n, height, width, channels) to compare on, besides two of random normal noise.
        tolerance: largest difference allowed, as a share of the largest value of an output. Rounding alone is
            about 1e-6.

    Returns:
        The largest difference found, as a share of the largest value of that output.

    Raises:
        DeployError: the outputs differ by more, with the layer where it begins; or the images do not fit.

    Example:
        >>> from mixnet_tf.model import create_model
        >>> model = create_model("mixnet_nano", classes=10)
        >>> verify_deploy(model, deploy_model(model, image_size=32)) < 1e-5
        True
    """
    batch, *size = deployed.input_shape
    noise = np.random.default_rng(0).standard_normal((2, *size)).astype(np.float32)
    if images is not None and np.shape(images)[1:] != tuple(size):
        expected = ", ".join(map(str, size))
        raise DeployError(f"images of shape {np.shape(images)}, expected (n, {expected})")
    images = noise if images is None else np.concatenate([np.asarray(images, np.float32), noise])
    reference = _in_float32(model)
    worst = max(_difference(reference, deployed, image, batch) for image in images)
    if not worst <= tolerance:
        first = _first_difference(reference, deployed, images, tolerance)
        raise DeployError(
            f"the deploy graph of {model.name} differs from it by {worst:.2g} of the largest output, "
            f"expected at most {tolerance:.0e}; the difference begins at layer {first!r}"
        )
    return worst


def _in_float32(model: keras.Model) -> keras.Model:
    if all(layer.compute_dtype == "float32" for layer in model.layers):
        return model
    twin = keras.models.clone_model(
        _functional(model),
        clone_function=lambda layer: type(layer).from_config(layer.get_config() | _FLOAT32),
    )
    twin.set_weights(model.get_weights())
    return twin


def _difference(model: keras.Model, deployed: keras.Model, image: np.ndarray, batch: int) -> float:
    """Return the largest difference over all outputs; NaN where an output is not finite."""
    inputs = np.repeat(image[None], batch, axis=0)
    pairs = [keras.tree.flatten(net(inputs, training=False)) for net in (model, deployed)]
    shares = [_share(np.asarray(want), np.asarray(got)) for want, got in zip(*pairs, strict=True)]
    return float(np.max(shares))


def _share(expected: np.ndarray, found: np.ndarray) -> float:
    largest = np.abs(expected).max()
    return np.abs(found - expected).max() / (largest if largest > 0 else 1.0)


def _first_difference(model: keras.Model, deployed: keras.Model, images: np.ndarray, tolerance: float) -> str:
    """Return the first layer of `model` whose output the deploy graph does not reproduce."""
    for layer in model.layers:
        pattern = re.compile(rf"{re.escape(layer.name)}(_output(\d*))?")
        found = {int(m[2] or 0): twin.output for twin in deployed.layers if (m := pattern.fullmatch(twin.name))}
        if not found or isinstance(layer, keras.layers.InputLayer):
            continue
        outputs = [found[chunk] for chunk in sorted(found)]
        want = keras.Model(model.inputs[0], layer.output)
        got = keras.Model(deployed.inputs[0], keras.layers.Concatenate()(outputs) if len(outputs) > 1 else outputs[0])
        if not max(_difference(want, got, image, deployed.input_shape[0]) for image in images) <= tolerance:
            return layer.name
    return model.layers[-1].name
