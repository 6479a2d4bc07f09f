"""Equalization: write the same function so that int8 serves every channel of a tensor as it deserves.

A channel T may be written T / s, at no cost: see ``channel_classes``. int8 has one scale a tensor, so a channel with a
twentieth of the values of the largest has four bits less; how trained weights spread a function over channels is an
accident. Here

    s = norm / importance ^ e

norm is the 4-norm of a channel over real images (of the tensor where it is largest, if several share the scale): the
fourth root of the mean fourth power lies between the root mean square, with which the peaks of a sparse channel take
the whole range of its tensor (2.5 dB worse on a MixNet-S), and the largest value, which a single image decides.
importance is how much the channel moves what the kernels that read it write. T / s has the norm importance ^ e: with
the emphasis e = 0 all channels get equal bits, with more the important ones get more. Whatever e is, the result does
not depend on the scales that the network came with. Which e is best differs from network to network: see ``emphasis``.

After "Data-Free Quantization Through Weight Equalization and Bias Correction" (Nagel et al. 2019, arXiv:1906.04721),
with measured activations instead of weight ranges, and whole residual streams instead of pairs of layers.
"""

import collections
from collections.abc import Mapping

import numpy as np

from mixnet_tf.litert.flatgraph import FlatGraph, Op
from mixnet_tf.quantization.channel_classes import channel_classes
from mixnet_tf.quantization.types import Extremes

_KERNELS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")

_FLOOR = 1e-3
"""Smallest norm and influence of a channel, as a share of the median of its tensor: a channel that never moved, or that
nobody reads, keeps finite weights."""


def scales(
    graph: FlatGraph,
    extremes: Mapping[int, Extremes],
    *,
    streams: bool = True,
    relu: bool = True,
    emphasis: float = 0.0,
) -> dict[int, np.ndarray]:
    """Return the scale (channels,) by which every computed tensor may be divided to equalize its channels.

    Args:
        graph: float.
        extremes: of every computed tensor, by index.
        streams: scale the channels that no rectifier touches: residual streams and other linear maps.
        relu: scale the channels that go through a rectifier.
        emphasis: 0 for equal norms; up to 1 for norms in proportion to what a channel matters to its readers.

    Returns:
        Positive scales; 1 where another would change the function.
    """
    classes, roots = channel_classes(graph)
    norms = _largest(roots, {index: channels.norm for index, channels in extremes.items()})
    squares = _influences(graph, extremes, roots)
    matters = {i: np.array([norms[root] * squares[root] ** 0.5 for root in roots[i]]) for i in extremes}
    importance = _largest(roots, matters)
    fixed = {classes.root(i) for i in classes.fixed}
    positive = {classes.root(i) for i in classes.positive}

    def scale(root: int) -> float:
        if root in fixed or norms[root] == 0 or not (relu if root in positive else streams):
            return 1.0
        return float(norms[root] / (importance[root] or 1.0) ** emphasis)

    return {index: np.array([scale(root) for root in roots[index]]) for index in extremes}


def _largest(roots: Mapping[int, np.ndarray], values: Mapping[int, np.ndarray]) -> dict[int, float]:
    """Return the largest value of every class, given those of every tensor; none is far below the tensor's median."""
    largest: dict[int, float] = collections.defaultdict(float)
    for index, channels in values.items():
        for root, value in zip(roots[index], np.maximum(channels, _FLOOR * np.median(channels)), strict=True):
            largest[root] = max(largest[root], float(value))
    return largest


def _influences(
    graph: FlatGraph, extremes: Mapping[int, Extremes], roots: Mapping[int, np.ndarray]
) -> dict[int, float]:
    """Return, of every class, the square of how far a unit of it moves what the kernels that read it write.

    A move is relative to the norm of the value that it moves. Squares are averaged over the values that an operator
    writes, and summed over the operators.
    """
    squares: dict[int, float] = collections.defaultdict(float)
    for op in graph.ops:
        if op.name in _KERNELS and op.inputs[0] in extremes and graph.is_constant(op.inputs[1]):
            for root, square in zip(roots[op.inputs[0]], _moves(graph, op, extremes[op.outputs[0]].norm), strict=True):
                squares[root] += float(square)
    return squares


def _moves(graph: FlatGraph, op: Op, norms: np.ndarray) -> np.ndarray:
    """Return the mean squares of the relative moves of what an operator writes, for every channel that it reads.

    Args:
        graph: float.
        op: with a constant kernel.
        norms: of the channels that it writes.
    """
    kernel = graph.constant(op.inputs[1]).astype(np.float64)
    squares = np.square(kernel.reshape(len(kernel), -1, kernel.shape[-1])).sum(axis=1)
    channels, still = graph.shape(op.inputs[0])[-1], norms <= _FLOOR * np.median(norms)
    inverse = np.where(still, 0, 1 / np.square(np.where(still, 1, norms)))  # what never moves cannot be moved far
    if op.name == "DEPTHWISE_CONV_2D":  # (1, written)
        return (squares[0] * inverse).reshape(channels, -1).mean(axis=1)
    groups = channels // kernel.shape[-1]  # (written, read in a group)
    return (squares * inverse[:, None]).reshape(groups, -1, kernel.shape[-1]).sum(axis=1).ravel() / len(kernel)


def equalize(graph: FlatGraph, scale: Mapping[int, np.ndarray]) -> FlatGraph:
    """Return an equalized copy of a graph, which computes the same up to rounding; its tensors are divided by `scale`.

    Given (two channels, of which the second has a hundredth of the first's values):
        x (1, h, w, 3) → conv, kernel (2, 1, 1, 3) → t (1, h, w, 2) → conv, kernel (4, 1, 1, 2) → y (1, h, w, 4)

    Result (s holds the channels' scales):
        x (1, h, w, 3) → conv, kernel / s → t / s (1, h, w, 2) → conv, kernel * s → y (1, h, w, 4)

    Args:
        graph: float; not changed.
        scale: of every computed tensor, by index, from ``scales``.
    """
    graph = graph.copy()
    for op in graph.ops:
        if op.name in _KERNELS:
            _rescale(graph, op, scale)
    return graph


def _rescale(graph: FlatGraph, op: Op, scale: Mapping[int, np.ndarray]) -> None:
    before, after = scale[op.inputs[0]], scale[op.outputs[0]]
    if (before == 1).all() and (after == 1).all():
        return
    kernel = graph.constant(op.inputs[1]).astype(np.float64)
    if op.name == "DEPTHWISE_CONV_2D":
        kernel = kernel * np.repeat(before, len(after) // len(before)) / after
    else:
        groups = len(before) // kernel.shape[-1]
        read = np.repeat(before.reshape(groups, -1), len(after) // groups, axis=0)
        kernel = kernel * read.reshape(len(after), *[1] * (kernel.ndim - 2), -1)
        kernel = kernel / after.reshape(-1, *[1] * (kernel.ndim - 1))
    graph.set_constant(op, 1, kernel)
    if len(op.inputs) > 2 and op.inputs[2] >= 0:
        graph.set_constant(op, 2, graph.constant(op.inputs[2]) / after)
