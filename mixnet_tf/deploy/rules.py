"""One rule per layer of MixNet: what the deploy graph has in its place.

In the graphs below, shapes are (batch, height, width, channels), ``x[0:2]`` are channels, and names of layers are those
of the deploy graph for a layer called ``b``. A slice is only there where `x` is not known in chunks that fit; a last
concatenation only where someone reads across the chunks (see ``Emitter``).
"""

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from mixnet_tf.batch_norm import builtin_class
from mixnet_tf.deploy import builtin
from mixnet_tf.deploy.chunks import FLOAT32, fill, output_name, spread
from mixnet_tf.deploy.emitter import Emitter, Pads
from mixnet_tf.deploy.kernels import same_padding
from mixnet_tf.layers import ConvBatchNorm, GroupedPointwiseConv2D, MixConv2D, MixDepthBlock, SqueezeExcite
from mixnet_tf.sublayers import Tensor

Cut = tuple[int, int]
"""The first channel of a chunk, and the one after its last."""


def fold(kernels: Sequence[np.ndarray], norm: keras.layers.BatchNormalization) -> tuple[list[np.ndarray], np.ndarray]:
    """Fold a batch norm into the kernels before it, in float64.

    Given, with kernels W0 (1, 1, 3, 4) and W1 (1, 1, 3, 2), whose outputs are concatenated::

        x0 (1, 8, 8, 3) ─> W0 ─┐
        x1 (1, 8, 8, 3) ─> W1 ─┴> concatenate (1, 8, 8, 6) ─> batch norm of 6 channels: (y - mean) * s + beta
                                                              where s = gamma / sqrt(variance + epsilon)

    Result: no batch norm, and no concatenation that it needs::

        x0 (1, 8, 8, 3) ─> W0 * s[0:4], bias (beta - mean * s)[0:4]
        x1 (1, 8, 8, 3) ─> W1 * s[4:6], bias (beta - mean * s)[4:6]

    Args:
        kernels: their last axis holds the output channels, which the batch norm sees in order.
        norm: built.

    Returns:
        The kernels, and the bias of all channels.
    """
    scale, shift = builtin.scale_and_shift(norm)
    borders = np.cumsum([kernel.shape[-1] for kernel in kernels])[:-1]
    scales = np.split(scale, borders)
    folded = [np.asarray(kernel, np.float64) * part for kernel, part in zip(kernels, scales, strict=True)]
    return folded, shift


def cut(channels: int, *parts: int) -> list[Cut]:
    """Return the chunks between all borders of `channels` in each number of equal parts.

    >>> cut(12, 3, 2)  # 3 branches of 4 channels, 2 groups of 6
    [(0, 4), (4, 6), (6, 8), (8, 12)]
    """
    borders = sorted({channels * i // count for count in parts for i in range(count + 1)})
    return list(itertools.pairwise(borders))


def _pointwise_kernels(layer: GroupedPointwiseConv2D) -> list[np.ndarray]:
    """Return the (channels in, channels out) matrix of every group."""
    return [np.asarray(conv.kernel)[0, 0] for conv in layer.convs]


def _depthwise_kernels(layer: MixConv2D) -> list[np.ndarray]:
    """Return the (height, width, channels) kernel of every branch."""
    return [np.asarray(conv.kernel)[..., 0] for conv in layer.convs]


def _pads(x: Tensor, size: int, strides: int, mode: str) -> Pads:
    """Return the padding that the windows of a square kernel read."""
    pads = []
    for length in x.shape[1:3]:
        before = size // 2 if mode == "symmetric" else same_padding(size, strides, length)[0]
        after = strides * (-(-length // strides) - 1) + size - before - length
        pads.append((before, max(after, 0)))
    return pads


def _numbered(name: str, index: int, of: Sequence[object]) -> str:
    return f"{name}{index}" if len(of) > 1 else name


def _linear(maker: Callable[..., Tensor], emit: Emitter, layer: keras.layers.Layer, x: Tensor, name: str) -> Tensor:
    """Emit a layer into which a batch norm behind it may be folded."""
    channels = getattr(layer, "filters", None) or x.shape[-1]
    return emit.made(functools.partial(maker, emit, layer, x), np.ones(channels), np.zeros(channels), name)


def _grouped_pointwise(
    emit: Emitter, layer: GroupedPointwiseConv2D, x: Tensor, scale: np.ndarray, shift: np.ndarray, name: str
) -> Tensor:
    """Give every group a convolution of its own.

    Given, with 8 filters in 2 groups::

        x (1, 4, 4, 6) ─> split into 2 x (1, 4, 4, 3) ─> conv 1x1 each: 2 x (1, 4, 4, 4) ─> concatenate (1, 4, 4, 8)

    Result::

        x[0:3] (1, 4, 4, 3) ─> b0: conv 1x1 (1, 4, 4, 4) ─┐
        x[3:6] (1, 4, 4, 3) ─> b1: conv 1x1 (1, 4, 4, 4) ─┴> b_2: concatenate (1, 4, 4, 8)
    """
    kernels, groups = _pointwise_kernels(layer), []
    for g, kernel in enumerate(kernels):
        rows, columns = kernel.shape
        chunk = emit.read(x, g * rows, (g + 1) * rows, name)
        part = slice(g * columns, (g + 1) * columns)
        groups.append(emit.conv(chunk, kernel * scale[part], shift[part], _numbered(name, g, kernels)))
    return emit.join(groups, name)


def _mix_conv(emit: Emitter, layer: MixConv2D, x: Tensor, scale: np.ndarray, shift: np.ndarray, name: str) -> Tensor:
    """Give every branch its convolution, in pieces that have a microkernel (``Emitter.depthwise``).

    Given, with kernels 3 and 7::

        x (1, 9, 9, 8) ─> split into 2 x (1, 9, 9, 4) ─> depthwise 3x3 and 7x7 ─> concatenate (1, 9, 9, 8)

    Result::

        x[0:4] (1, 9, 9, 4) ─> b0: depthwise 3x3 ─────────────────────────────────────────── (1, 9, 9, 4) ─┐
        x[4:8] (1, 9, 9, 4) ─> b1_piece0, 1, 2: depthwise 3x7, 3x7, 1x7 ─> b1_sum1, b1_sum2 (1, 9, 9, 4) ─┤
                                                                     b_2: concatenate (1, 9, 9, 8) <──────┘
    """
    kernels = _depthwise_kernels(layer)
    width, branches = kernels[0].shape[-1], []
    for i, kernel in enumerate(kernels):
        chunk = emit.read(x, i * width, (i + 1) * width, name)
        part = slice(i * width, (i + 1) * width)
        branches.append(_branch(emit, chunk, kernel * scale[part], shift[part], _numbered(name, i, kernels), layer))
    return emit.join(branches, name)


def _branch(emit: Emitter, x: Tensor, kernel: np.ndarray, bias: np.ndarray, name: str, layer: MixConv2D) -> Tensor:
    """Emit a depthwise branch of a MixConv2D, or some of its channels."""
    pads = _pads(x, len(kernel), layer.strides, layer.padding)
    return emit.depthwise(x, kernel, bias, name, layer.strides, pads)


def _squeeze_excite(emit: Emitter, layer: SqueezeExcite, x: Tensor, name: str) -> Tensor:
    """Write squeeze-and-excitation as built-in layers, with one chunk (``Emitter.gates`` has the graph)."""
    return emit.gates([x], x.shape[-1:], layer, name)[0]


def _conv_batch_norm(emit: Emitter, layer: ConvBatchNorm, x: Tensor, name: str) -> Tensor:
    """Fold the batch norm into the convolution (``fold``), and pad no more than the windows read.

    Given, with a 3x3 kernel, 16 filters, stride 2 and symmetric padding::

        x (1, 8, 8, 3) ─> pad (1, 10, 10, 3) ─> conv 3x3, stride 2 (1, 4, 4, 16) ─> batch norm ─> ReLU

    Result::

        x (1, 8, 8, 3) ─> b_conv_pad (1, 9, 9, 3) ─> b_conv: 3x3, stride 2, bias (1, 4, 4, 16) ─> b_output: ReLU
    """
    (kernel,), bias = fold([np.asarray(layer.conv.kernel)], layer.bn)
    pads = _pads(x, layer.kernel_size, layer.strides, layer.padding)
    x = emit.conv(x, kernel, bias, f"{name}_conv", layer.strides, pads)
    return emit.copy(layer.act, output_name(name))(x)


def _mix_depth_block(emit: Emitter, block: MixDepthBlock, x: Tensor, name: str) -> Tensor:
    """Run every chunk of the hidden channels from expansion to projection by itself.

    Given, with expansion ratio 6 in 2 groups, kernels 3, 5 and 7, squeeze-and-excitation, 4 filters in 2 groups::

        x (1, 8, 8, 4) ─> expand (1, 8, 8, 24) ─> BN ─> act ─> MixConv 3, 5, 7 (1, 8, 8, 24) ─> BN ─> act
                       ─> SE ─> project (1, 8, 8, 4) ─> BN ─> + x

    Result: cut at 8 and 16, where branches meet, and at 12, where groups meet; every batch norm is folded::

        x[0:2] ─> b_expand0 (1, 8, 8, 8) ─> act ─> b_depthwise0: 3x3 ─> act ─┐
        x[0:2] ─> b_expand1 (1, 8, 8, 4) ─> act ─> b_depthwise1: 5x5 ─> act ─┤ each times its gate b_se_gate0 ... 3
        x[2:4] ─> b_expand2 (1, 8, 8, 4) ─> act ─> b_depthwise2: 5x5 ─> act ─┤ ─> _project
        x[2:4] ─> b_expand3 (1, 8, 8, 8) ─> act ─> b_depthwise3: 7x7 ─> act ─┘
    """
    hidden = x.shape[-1] * block.expansion_ratio
    expand_groups = block.num_exp_groups if block.expand_conv is not None else 1
    cuts = cut(hidden, len(block.kernel_sizes), expand_groups, block.num_poi_groups)
    chunks = _expand(emit, block, x, cuts, name)
    kernels, bias = fold(_depthwise_kernels(block.depthwise_conv), block.depthwise_bn)
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


def _expand(emit: Emitter, block: MixDepthBlock, x: Tensor, cuts: Sequence[Cut], name: str) -> list[Tensor]:
    """Return the hidden channels, one tensor per cut: each by its own 1x1 convolution.

    Given, with cuts (0, 5), (5, 10), (10, 20) and 2 groups::

        x (1, 8, 8, 4) ─> 2 x conv 1x1 (1, 8, 8, 10) ─> concatenate (1, 8, 8, 20) ─> BN ─> act

    Result for int8::

        x[0:2] ─> b_expand0 (1, 8, 8, 5) ─> act
        x[0:2] ─> b_expand1 (1, 8, 8, 5) ─> act
        x[2:4] ─> b_expand2 (1, 8, 8, 10) ─> act

    Result for float: zero channels fill up to a multiple of 8, unless that is more than a third wider: 5 stay 5, and
    6 would be 8.
    """
    if block.expand_conv is None:
        return [emit.read(x, first, end, f"{name}_expand") for first, end in cuts]
    kernels, bias = fold(_pointwise_kernels(block.expand_conv), block.expand_bn)
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


def _project(
    emit: Emitter, block: MixDepthBlock, x: Tensor, chunks: Sequence[Tensor], cuts: Sequence[Cut], name: str
) -> Tensor:
    """Project every group, add the input where there is a residual, and keep the result in chunks.

    Given, with 4 filters in 2 groups and a residual::

        4 chunks (1, 8, 8, 8), (.., 4), (.., 4), (.., 8) ─> concatenate (1, 8, 8, 24) ─> split into 2 x (1, 8, 8, 12)
          ─> conv 1x1 each: 2 x (1, 8, 8, 2) ─> concatenate (1, 8, 8, 4) ─> BN ─> + x (1, 8, 8, 4)

    Result: a group's borders are cuts, so it reads whole chunks; without a residual, b_output0 and b_output1 are the
    convolutions::

        chunks 0, 1 ─> b_hidden_join   (1, 8, 8, 12) ─> b_project0 (1, 8, 8, 2) ─> b_output0: + x[0:2] ─┐
        chunks 2, 3 ─> b_hidden_join_2 (1, 8, 8, 12) ─> b_project1 (1, 8, 8, 2) ─> b_output1: + x[2:4] ─┴> b_join
    """
    kernels, bias = fold(_pointwise_kernels(block.project_conv), block.project_bn)
    rows, columns = kernels[0].shape
    last = f"{name}_project" if block.has_residual else output_name(name)
    width = emit.filled_width(columns) if len(kernels) > 1 else columns
    outputs = []
    for g, kernel in enumerate(kernels):
        inside = [i for i, (first, end) in enumerate(cuts) if g * rows <= first and end <= (g + 1) * rows]
        members = [chunks[i] for i in inside]
        kernel = fill(spread(kernel, [cuts[i][1] - cuts[i][0] for i in inside], members), 1, width)
        group_bias = fill(bias[g * columns : (g + 1) * columns], 0, width)
        source = emit.join(members, f"{name}_hidden_join")
        output = emit.conv(source, kernel, group_bias, _numbered(last, g, kernels))
        if block.has_residual:
            shortcut = emit.read(x, g * columns, (g + 1) * columns, f"{name}_shortcut", filled=True)
            if shortcut.shape != output.shape:
                shortcut, output = emit.narrow(shortcut, columns), emit.narrow(output, columns)
            output = keras.layers.Add(name=_numbered(output_name(name), g, kernels), **FLOAT32)([shortcut, output])
        outputs.append(output)
    return emit.join(outputs, f"{name}_join", [columns] * len(outputs))


RULES: Mapping[type[keras.layers.Layer], Callable[..., Tensor]] = {
    GroupedPointwiseConv2D: functools.partial(_linear, _grouped_pointwise),
    MixConv2D: functools.partial(_linear, _mix_conv),
    SqueezeExcite: _squeeze_excite,
    ConvBatchNorm: _conv_batch_norm,
    MixDepthBlock: _mix_depth_block,
}


def rule_of(layer: Any, x: Any) -> Callable[..., Tensor] | None:
    """Return the function of (emitter, layer, input, name) that emits what a layer becomes; None where it may stay."""
    if type(layer) in RULES:
        return RULES[type(layer)]
    rule, fits = builtin.RULES.get(builtin_class(layer), (None, None))
    return rule if rule is not None and fits is not None and fits(layer, x) else None
